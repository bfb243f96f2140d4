"""Splits: whole episodes, every one once, the same for the same seed; repeats are found."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ch3_jax.data import splits
from ch3_jax.data.episodes import Steps
from ch3_jax.errors import InputError


def make(lengths, seed=0):
    rng = np.random.default_rng(seed)
    rows = sum(lengths)
    return Steps(
        rng.normal(size=(rows, 3)).astype(np.float32),
        rng.normal(size=(rows, 2)).astype(np.float32),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        timestamp=np.concatenate([np.arange(n) / 10 for n in lengths] or [np.zeros(0)]),
        sources=tuple(f"episode_{e}" for e in range(len(lengths))),
        instructions=tuple(f"task {e}" for e in range(len(lengths))),
    )


def episode(steps, e):
    rows = slice(steps.offset[e], steps.offset[e + 1])
    return steps.observation[rows], steps.action[rows], steps.timestamp[rows]


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 5), min_size=2, max_size=20),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
)
def test_every_episode_once_and_whole(lengths, share, seed):
    steps = make(lengths)
    parts = splits.split_by_episode(steps, share, seed)
    assert all(part.episodes >= 1 for part in parts)
    assert sorted(parts[0].sources + parts[1].sources) == sorted(steps.sources)
    assert abs(parts[1].episodes - share * len(lengths)) <= 1
    for part in parts:
        numbers = [int(source.split("_")[1]) for source in part.sources]
        assert numbers == sorted(numbers)
        assert part.instructions == tuple(f"task {n}" for n in numbers)
        assert len(part) == part.offset[-1] == len(part.timestamp)
        for e, n in enumerate(numbers):
            for got, expected in zip(episode(part, e), episode(steps, n), strict=True):
                np.testing.assert_array_equal(got, expected)


def test_by_hand():
    # 10 episodes, .2: round(2) = 2 of the permutation that numpy draws from seed 3.
    held = sorted(np.random.default_rng(3).permutation(10)[:2])
    train, validation = splits.split_by_episode(make([1] * 10), 0.2, 3)
    assert validation.sources == tuple(f"episode_{e}" for e in held)
    assert (train.episodes, validation.episodes) == (8, 2)


def test_seeds():
    steps = make([2] * 50)
    first, again, other = (splits.split_by_episode(steps, 0.3, seed)[1].sources for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_what_is_not_there_stays_none():
    steps = Steps(np.zeros((4, 1), np.float32), np.zeros((4, 1), np.float32), np.arange(5))
    train, validation = splits.split_by_episode(steps, 0.5, 0)
    assert train.timestamp is train.sources is validation.instructions is None


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 10, float("nan")])
def test_a_share_outside_of_0_and_1_is_refused(share):
    with pytest.raises(InputError, match="validation share"):
        splits.split_by_episode(make([3, 3]), share, 0)


def test_a_single_episode_is_refused():
    with pytest.raises(InputError, match="single episode") as caught:
        splits.split_by_episode(make([30]), 0.1, 0)
    assert "1 episode of 30 steps" in str(caught.value)


def test_repeated():
    steps = make([3, 4, 5, 4])
    train, validation = splits.select(steps, [0, 1, 2]), splits.select(steps, [3])
    assert splits.repeated(train, validation) == 0
    assert splits.repeated(train, splits.select(steps, [1, 3, 1])) == 2
    assert splits.repeated(steps, steps) == 4
    assert splits.repeated(splits.select(steps, []), steps) == 0


@pytest.mark.parametrize("part", ["observation", "action"])
def test_one_changed_bit_is_another_episode(part):
    steps, other = make([5, 5]), make([5, 5])
    getattr(other, part)[7, 1] = np.nextafter(getattr(other, part)[7, 1], np.float32(9))
    assert splits.repeated(steps, other) == 1


def test_order_length_and_sign_of_zero():
    ones, x = np.zeros((4, 1), np.float32), np.array([[1], [2], [2], [1]], np.float32)
    b = Steps(ones, x, np.array([0, 2, 4]))
    a = splits.select(b, [0])
    assert splits.repeated(a, splits.select(b, [1])) == 0  # 1 2 is not 2 1
    assert splits.repeated(a, Steps(ones[:2], x[:2], np.array([0, 1, 2]))) == 0  # nor 1 and 2 apart
    assert splits.repeated(Steps(ones, x, np.array([0, 4])), Steps(-ones, x, np.array([0, 4]))) == 1


def test_hashes_do_not_collide():
    x = np.arange(200_000, dtype=np.float32)[:, None] / 8
    zero = np.zeros_like(x)
    a = splits.content_hashes(Steps(x, zero, np.arange(200_001)))
    b = splits.content_hashes(Steps(zero, x, np.arange(200_001)))
    assert len(np.unique(np.concatenate([a, b]))) == 400_000 - 1  # 0, 0 is in both


def test_select_refuses_numbers_outside():
    with pytest.raises(ValueError, match="there are 2"):
        splits.select(make([1, 1]), [2])


def test_a_million_pairs_take_a_moment():
    n = 1_000_000
    x = np.zeros((n, 7), np.float32)
    x[:, 0] = np.arange(n)
    steps = Steps(x, x, np.arange(n + 1))
    start = time.process_time()
    train, validation = splits.split_by_episode(steps, 0.1, 0)
    assert splits.repeated(train, validation) == 0
    assert time.process_time() - start < 2  # .2 s was seen
