r"""Reaching with a Panda: bring the flange to a point, by joint velocities, at 20 Hz.

The robot follows commanded velocities exactly, within its limits: q <- clip(q + h clip(a)). The
demonstrator is differential inverse kinematics: a straight line of the tip by the damped
pseudo-inverse, and what freedom is left for staying near a comfortable posture,

  a = J^+ v + (I - J^+ J) g (q_rest - q),    J^+ = J^T (J J^T + lambda^2 I)^{-1},    v = k (p_target - p),

which is a function of what is observed, so a deterministic policy can copy it. In the variant with an
obstacle a pillar stands between the start and the target and each demonstrator passes it on a side of
their own: half go in front of it, half behind, and at the start nothing observed tells which. The mean
of the two heads straight for the pillar.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array, Key
from ch3_jax.kinematics.arm import Arm, load_arm
from ch3_jax.kinematics.forward import forward
from ch3_jax.kinematics.jacobian import pose_and_jacobian

STEP_S = 0.05
STEPS = 80
TOLERANCE_M = 0.02
REST_RAD = np.array([0.0, -0.4, 0.0, -2.2, 0.0, 1.9, 0.8], np.float32)
PILLAR_M = np.array([0.5, 0.0], np.float32)  # x, y of its axis
PILLAR_RADIUS_M = 0.06
_DETOUR_M = 0.2
_GAIN_HZ, _REST_GAIN_HZ, _DAMPING = 2.0, 1.0, 0.05
_FASTEST = 0.6  # m/s of the tip

OBSERVATION_NAMES = (
    *(f"joint_angle_{j}" for j in range(1, 8)),
    *(f"joint_velocity_{j}" for j in range(1, 8)),
    *(f"target_{axis}" for axis in "xyz"),
)
ACTION_NAMES = tuple(f"joint_velocity_command_{j}" for j in range(1, 8))


class State(NamedTuple):
    """One robot at one moment.

    Attributes:
      q: (7,) joint angles, rad.
      velocity: (7,) velocities of the last step, rad/s.
      target: (3,) where the flange should be, m, base frame.
      side: () -1 or 1, on which side this demonstrator passes the pillar; no policy sees it.
      touched: () bool, whether the flange has been inside the pillar.
    """

    q: Array
    velocity: Array
    target: Array
    side: Array
    touched: Array


@functools.cache
def panda() -> Arm:
    """The arm, up to its flange."""
    return load_arm("panda")


def reset(key: Key, obstacle: bool = False) -> State:
    """A random start at rest and a random target that the arm can reach.

    Args:
      key: consumed here.
      obstacle: start and target on opposite sides of the pillar.
    """
    start, goal, side = jax.random.split(key, 3)
    q = REST_RAD + 0.3 * jax.random.uniform(start, (7,), minval=-1.0, maxval=1.0)
    reached = REST_RAD + 0.5 * jax.random.uniform(goal, (7,), minval=-1.0, maxval=1.0)
    target = forward(panda(), reached).position
    if obstacle:
        # The first joint turns the whole arm: the start is right of the pillar, the target left.
        q = q.at[0].set(-0.8 + 0.1 * q[0])
        wide = jax.random.uniform(goal, (3,), minval=-1.0, maxval=1.0)
        target = jnp.array([0.5, 0.3, 0.45]) + jnp.array([0.04, 0.05, 0.1]) * wide
    zero = jnp.zeros(7)
    sign = jnp.where(jax.random.bernoulli(side), 1.0, -1.0)
    return State(q.astype(jnp.float32), zero, target.astype(jnp.float32), sign, jnp.asarray(False))


def step(state: State, action: Array) -> State:
    """One twentieth of a second.

    Args:
      state: of one robot; vmap for more.
      action: (7,) rad/s, clipped to the joints' limits.
    """
    arm = panda()
    limit = jnp.asarray(arm.velocity, jnp.float32)
    lower, upper = jnp.asarray(arm.lower, jnp.float32), jnp.asarray(arm.upper, jnp.float32)
    q = jnp.clip(state.q + STEP_S * jnp.clip(action, -limit, limit), lower, upper)
    tip = forward(arm, q).position
    inside = jnp.sum(jnp.square(tip[:2] - PILLAR_M)) < PILLAR_RADIUS_M**2
    return state._replace(q=q, velocity=(q - state.q) / STEP_S, touched=state.touched | inside)


def observe(state: State) -> Array:
    """(17,): joint angles, joint velocities, target; see `OBSERVATION_NAMES`."""
    return jnp.concatenate([state.q, state.velocity, state.target])


def distance(state: State) -> Array:
    """() metres from the flange to the target."""
    return jnp.linalg.norm(forward(panda(), state.q).position - state.target)


def success(state: State, obstacle: bool = False) -> Array:
    """() bool: within 2 cm of the target, and in the variant without having touched the pillar."""
    there = distance(state) < TOLERANCE_M
    return there & ~state.touched if obstacle else there


def expert(state: State, obstacle: bool = False) -> Array:
    """The demonstrator's joint velocities, (7,) rad/s."""
    pose, j = pose_and_jacobian(panda(), state.q)
    j = j[:3]
    goal = state.target
    if obstacle:
        # Until it is level with the pillar, the tip heads for a point beside it.
        aside = jnp.stack([state.side * _DETOUR_M, 0.0])
        beside = jnp.concatenate([PILLAR_M + aside, goal[2:]])
        passed = pose.position[1] > PILLAR_M[1] - 0.05
        goal = jnp.where(passed, goal, beside)
    v = _GAIN_HZ * (goal - pose.position)
    speed = jnp.linalg.norm(v) + 1e-9
    v = v * jnp.minimum(1.0, _FASTEST / speed)
    inverse = jnp.linalg.solve(j @ j.T + _DAMPING**2 * jnp.eye(3), jnp.eye(3))
    pseudo = j.T @ inverse
    rest = _REST_GAIN_HZ * (REST_RAD - state.q)
    action = pseudo @ v + rest - pseudo @ (j @ rest)
    limit = jnp.asarray(panda().velocity, jnp.float32)
    return action * jnp.minimum(1.0, jnp.min(limit / (jnp.abs(action) + 1e-9)))
