"""Splits, statistics of the training part alone, and errors in physical units."""

import numpy as np
import pytest

from ch3_jax.data.episodes import Dataset, Facts, Steps
from ch3_jax.data.prepare import held_out, physical, prepare
from ch3_jax.errors import InputError


def dataset(**splits):
    facts = Facts("toy", "generated", ("a", "b"), ("u", "v"), action_units=("m", "rad"))
    return Dataset(facts, splits)


def steps(episodes, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    n = 5 * episodes
    observation = rng.normal(size=(n, 2)).astype(np.float32) * scale
    action = np.stack([observation[:, 0] * 10, np.full(n, 3.0)], 1).astype(np.float32)
    return Steps(observation, action, np.arange(0, n + 1, 5))


def test_its_own_validation_split_is_used():
    data = held_out(dataset(train=steps(4), val=steps(2, 1)), 0.5, 0)
    assert {name: s.episodes for name, s in data.splits.items()} == {"train": 4, "val": 2}


def test_otherwise_whole_episodes_are_held_out():
    data = held_out(dataset(train=steps(10)), 0.3, 0)
    assert {name: s.episodes for name, s in data.splits.items()} == {"train": 7, "val": 3}
    train, val = (set(map(tuple, data.splits[name].observation)) for name in ("train", "val"))
    assert not train & val


def test_a_set_without_training_part_is_refused():
    with pytest.raises(InputError, match="no split called train"):
        held_out(dataset(test=steps(4)), 0.1, 0)


def test_statistics_are_those_of_training_and_normalise_both():
    data = prepare(dataset(train=steps(40), val=steps(40, 1, scale=2.0)))
    train = np.asarray(data.train.observation)
    np.testing.assert_allclose(train.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(train.std(0), 1, rtol=1e-5)
    # validation was recorded at twice the scale and must look so
    assert np.asarray(data.validation.observation).std(0) == pytest.approx(2.0, rel=0.2)


def test_a_constant_dimension_is_a_warning_that_names_the_rule():
    data = prepare(dataset(train=steps(4), val=steps(2)))
    assert [w for w in data.warnings if "(v) is constant" in w and "rule 'zero'" in w]
    np.testing.assert_array_equal(np.asarray(data.train.action)[:, 1], 0)


def test_errors_come_back_in_units():
    data = prepare(dataset(train=steps(4), val=steps(2)))
    std = data.action.std
    np.testing.assert_allclose(physical(data.normalizers["action"], np.array([2.0, 5.0])), [2 * std[0], 0])


def test_an_episode_shorter_than_the_window_is_refused():
    with pytest.raises(InputError, match="shorter than the window"):
        prepare(dataset(train=steps(4), val=steps(2)), window=6)
