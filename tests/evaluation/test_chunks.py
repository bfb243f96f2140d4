"""Queues and ACT's ensemble: by hand, and against the sums written out."""

import numpy as np
import pytest

from ch3_jax.errors import InputError
from ch3_jax.evaluation.chunks import queue, temporal_ensemble

DRAW = np.random.default_rng(0)
TABLE = DRAW.normal(size=(12, 2, 4, 3))  # chunk of call n: (B, H, A)


def teller(asked):
    def decide(observation):
        asked.append(observation)
        return TABLE[len(asked) - 1]

    return decide


@pytest.mark.parametrize("execute", [1, 3, 4])
def test_a_queue_asks_every_e_steps_and_uses_the_first_e(execute):
    asked = []
    act = queue(teller(asked), execute, 4)
    for t in range(9):
        np.testing.assert_array_equal(act(np.zeros(1)), TABLE[t // execute][:, t % execute])
    assert len(asked) == -(-9 // execute)


def test_the_ensemble_against_its_formula():
    asked, rate = [], 0.3
    act = temporal_ensemble(teller(asked), rate)
    for t in range(9):
        told = [TABLE[s][:, t - s] for s in range(max(0, t - 3), t + 1)]  # oldest first
        weights = [np.exp(-rate * i) for i in range(len(told))]
        expected = sum(w * a for w, a in zip(weights, told, strict=True)) / sum(weights)
        np.testing.assert_allclose(act(np.zeros(1)), expected, rtol=1e-12)
    assert len(asked) == 9


def test_the_oldest_prediction_weighs_most():
    """Predictions 0 and 1 with m = log 3: (1 x 0 + 1/3 x 1) / (4/3) = 1/4."""
    told = iter([np.zeros((1, 2, 1)), np.ones((1, 2, 1))])
    act = temporal_ensemble(lambda _: next(told), float(np.log(3)))
    act(None)
    assert float(act(None)[0, 0]) == pytest.approx(0.25)


def test_an_unbiased_policy_is_not_moved_by_the_ensemble():
    plan = DRAW.normal(size=(20, 1))
    step = iter(range(20))

    def decide(_):
        t = next(step)
        return plan[None, t : t + 4]

    act = temporal_ensemble(decide, 0.01)
    np.testing.assert_allclose([act(None)[0] for _ in range(15)], plan[:15], rtol=1e-12)


@pytest.mark.parametrize("execute", [0, 5])
def test_more_than_there_is_cannot_be_executed(execute):
    with pytest.raises(InputError, match="horizon 4"):
        queue(lambda o: o, execute, 4)
