"""Demonstrations of the reaching task: labels are the expert's, states are shaken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.data.demonstrations import panda_reach
from ch3_jax.data.synthetic import embedded
from ch3_jax.environments import panda_reach as task
from ch3_jax.errors import InputError


@pytest.fixture(scope="module")
def data():
    return panda_reach(0, pairs=1600)


def test_sizes_and_names(data):
    train = data.splits["train"]
    assert train.observation.shape == (1600, 17)
    assert train.action.shape == (1600, 7)
    assert train.episodes == 20
    assert train.timestamp[79] == pytest.approx(79 * 0.05)
    assert len(data.facts.action_names) == 7
    assert data.facts.rate_hz == 20


def test_actions_are_the_experts_in_that_state(data):
    train = data.splits["train"]
    for row in (0, 37, 500):
        q, velocity, target = np.split(train.observation[row], [7, 14])
        state = task.State(
            *(jnp.asarray(x) for x in (q, velocity, target)), jnp.float32(1), jnp.asarray(False)
        )
        np.testing.assert_allclose(train.action[row], task.expert(state), rtol=1e-3, atol=1e-4)


def test_what_was_executed_is_shaken(data):
    train = data.splits["train"]
    executed = np.diff(train.observation[:80, :7], axis=0) / task.STEP_S
    shake = executed - train.action[:79]
    assert 0.15 < shake.std() < 0.25
    still = panda_reach(0, pairs=1600, noise=0.0).splits["train"]
    executed = np.diff(still.observation[:80, :7], axis=0) / task.STEP_S
    np.testing.assert_allclose(executed, still.action[:79], atol=2e-3)


def test_a_seed_is_a_recording(data):
    np.testing.assert_array_equal(
        panda_reach(0, pairs=1600).splits["train"].action, data.splits["train"].action
    )
    assert not np.array_equal(panda_reach(1, pairs=1600).splits["train"].action, data.splits["train"].action)
    assert not np.array_equal(data.splits["train"].action[:160], data.splits["val"].action[:160])


def test_it_is_embedded_by_name():
    assert len(embedded("panda_reach_obstacle", 0, pairs=160).splits["train"]) == 160
    with pytest.raises(InputError, match="at least 80 pairs"):
        embedded("panda_reach", 0, pairs=3)
    jax.clear_caches()
