"""The reaching task: physics by hand, an expert that does it, the same under vmap and jit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.environments import panda_reach as task
from ch3_jax.kinematics.forward import forward
from ch3_jax.kinematics.jacobian import jacobian


def start(obstacle=False, seed=0):
    return task.reset(jax.random.key(seed), obstacle)


def test_a_step_moves_by_velocity_times_time_within_limits():
    state = start()
    after = task.step(state, jnp.full(7, 0.2))
    # 0.2 rad/s for 0.05 s = 0.01 rad
    np.testing.assert_allclose(after.q - state.q, 0.01, atol=1e-6)
    np.testing.assert_allclose(after.velocity, 0.2, atol=1e-4)
    fast = task.step(state, jnp.full(7, 1e3))
    np.testing.assert_allclose(fast.velocity, task.panda().velocity, rtol=1e-3)
    for _ in range(200):
        fast = task.step(fast, jnp.full(7, 1e3))
    np.testing.assert_allclose(fast.q, task.panda().upper, atol=1e-5)
    np.testing.assert_allclose(fast.velocity, 0, atol=1e-6)


def test_observation_is_what_its_names_say():
    state = start()._replace(velocity=jnp.arange(7.0))
    seen = dict(zip(task.OBSERVATION_NAMES, np.asarray(task.observe(state)), strict=True))
    assert seen["joint_velocity_4"] == 3.0
    assert seen["joint_angle_2"] == state.q[1]
    assert seen["target_z"] == state.target[2]


def test_the_expert_moves_the_tip_straight_at_the_target():
    state = start()
    tip = forward(task.panda(), state.q).position
    velocity = jacobian(task.panda(), state.q)[:3] @ task.expert(state)
    towards = state.target - tip
    cosine = velocity @ towards / jnp.linalg.norm(velocity) / jnp.linalg.norm(towards)
    assert float(cosine) > 0.99


@pytest.mark.parametrize(("obstacle", "least"), [(False, 1.0), (True, 0.98)])
def test_the_expert_does_the_task(obstacle, least):
    states = jax.vmap(lambda k: task.reset(k, obstacle))(jax.random.split(jax.random.key(1), 300))

    def advance(states, _):
        return jax.vmap(lambda s: task.step(s, task.expert(s, obstacle)))(states), None

    states, _ = jax.lax.scan(advance, states, length=task.STEPS)
    done = jax.vmap(lambda s: task.success(s, obstacle))(states)
    assert float(done.mean()) >= least
    if obstacle:
        assert 0.4 < float((states.side > 0).mean()) < 0.6


def test_standing_still_is_no_success():
    states = jax.vmap(task.reset)(jax.random.split(jax.random.key(2), 300))
    assert float(jax.vmap(task.success)(states).mean()) < 0.02


def test_the_pillar_is_felt():
    state = start(obstacle=True)
    assert not state.touched
    tip = forward(task.panda(), state.q).position
    heading = jnp.concatenate([task.PILLAR_M, tip[2:]])
    for _ in range(60):
        j = jacobian(task.panda(), state.q)[:3]
        state = task.step(
            state, jnp.linalg.pinv(j) @ (2 * (heading - forward(task.panda(), state.q).position))
        )
    assert state.touched
    assert not task.success(state._replace(target=forward(task.panda(), state.q).position), obstacle=True)
