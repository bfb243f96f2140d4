"""Closed loop: the expert passes, standing still does not, the interval is Wilson's."""

import jax
import jax.numpy as jnp
import pytest

from ch3_jax.environments import panda_reach as task
from ch3_jax.evaluation.rollouts import drive, wilson


def state_of(observation):
    q, velocity, target = jnp.split(observation, [7, 14])
    return task.State(q, velocity, target, jnp.float32(1), jnp.asarray(False))


def test_the_expert_behind_the_policys_interface():
    def act(observation, key):
        del key
        assert observation.shape[1:] == (2, 17)
        now = jax.vmap(lambda o: task.expert(state_of(o)))(observation[:, -1])
        return jnp.stack([now, jnp.full_like(now, 1e3)], 1)  # only the first action may be executed

    result = drive(act, jax.random.key(0), name="panda_reach", episodes=50, window=2)
    assert result.rate == 1.0
    assert 0.92 < result.low < 0.94  # Wilson for 50 of 50: 1 / (1 + 1.96^2 / 50) = 0.929


def test_standing_still_fails():
    result = drive(
        lambda o, key: jnp.zeros((len(o), 1, 7)), jax.random.key(0), name="panda_reach", episodes=50
    )
    assert result.rate < 0.1


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)
def test_wilson(successes, episodes, low, high):
    """The last row is the example of Newcombe 1998, table I."""
    result = wilson(successes, episodes)
    assert (result.low, result.high) == pytest.approx((low, high), abs=1e-4)


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="expected 0 to"):
        wilson(3, 2)
