"""Episodes that are there twice."""

import hashlib

import numpy as np
import pytest

from ch3_jax.data.duplicates import episodes_also_in, repeats_within
from ch3_jax.data.episodes import Steps


def steps(*episodes: np.ndarray) -> Steps:
    """Each (T, 3) array is an episode: two columns of state, one of action."""
    rows = np.concatenate(episodes).astype(np.float32)
    offset = np.concatenate([[0], np.cumsum([len(e) for e in episodes])])
    return Steps(observation=rows[:, :2], action=rows[:, 2:], offset=offset)


def episode(seed: int, length: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(length, 3))


def test_the_same_episode_is_found_wherever_it_stands():
    train = steps(episode(0), episode(1), episode(2, 9))
    val = steps(episode(2, 9), episode(3), episode(0))
    # Episode 0 of val is 2 of train, 1 is new, 2 is 0.
    np.testing.assert_array_equal(episodes_also_in(val, train), [2, -1, 0])
    np.testing.assert_array_equal(repeats_within(train), [-1, -1, -1])


def test_repeats_point_to_the_first():
    np.testing.assert_array_equal(
        repeats_within(steps(episode(0), episode(1), episode(0), episode(0))), [-1, -1, 0, 0]
    )


@pytest.mark.parametrize("column", [0, 1, 2])
@pytest.mark.parametrize("row", [0, 4])
def test_one_number_makes_another_episode(column, row):
    other = episode(0).astype(np.float32)
    other[row, column] = np.nextafter(other[row, column], np.float32(np.inf))
    np.testing.assert_array_equal(episodes_also_in(steps(other), steps(episode(0))), [-1])


def test_order_and_length_matter():
    e = episode(0)
    np.testing.assert_array_equal(episodes_also_in(steps(e[::-1], e[:4], e[1:]), steps(e)), [-1, -1, -1])
    swapped = e[:, [1, 0, 2]]
    np.testing.assert_array_equal(episodes_also_in(steps(swapped), steps(e)), [-1])


def test_zero_and_minus_zero_are_one_number():
    zero = np.zeros((4, 3))
    np.testing.assert_array_equal(episodes_also_in(steps(-zero), steps(zero)), [0])


def test_equal_hashes_are_only_candidates(monkeypatch):
    monkeypatch.setattr("ch3_jax.data.duplicates.content_hashes", lambda s: np.zeros(s.episodes, np.uint64))
    np.testing.assert_array_equal(episodes_also_in(steps(episode(1)), steps(episode(0))), [-1])


def test_agrees_with_sha256_on_many_small_episodes():
    rng = np.random.default_rng(0)
    # Two steps of three numbers in {0, 1, 2}: 729 possible episodes, so many repeat.
    episodes = [rng.integers(0, 3, size=(2, 3)) for _ in range(600)]
    seen: dict[bytes, int] = {}
    expected = []
    for index, e in enumerate(episodes):
        key = hashlib.sha256(e.astype(np.float32).tobytes()).digest()
        expected.append(seen.get(key, -1))
        seen.setdefault(key, index)
    np.testing.assert_array_equal(repeats_within(steps(*episodes)), expected)
