r"""`panda_reach` as a task with a reward, and six rewards to choose from.

With d the distance of the flange from its target before a step and d' after it, in metres:

| reward | r | what it teaches |
| --- | --- | --- |
| dense | -d' | the task |
| shaped | [d' < 2 cm] + \gamma (-d') + d | the task: a potential changes no optimal policy |
| sparse | [d' < 2 cm] | the task, to whoever finds it |
| miscalibrated | -1000 d' | the task, if somebody rescales it |
| hackable | \max(0, d - d') | to come closer again and again: a retreat costs nothing |
| flipped | d' | to flee |

Every episode lasts `panda_reach.STEPS` steps and is truncated, never terminated. Success is the task's own
test and knows nothing of the reward.

References: Ng, Harada and Russell 1999, Policy invariance under reward transformations (shaping; their
bicycle that drives in circles is the hackable one); Pan et al. 2022, arXiv:2201.03544.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array, Key
from ch3_jax.environments import panda_reach as task
from ch3_jax.environments.environment import Environment, Outcome
from ch3_jax.errors import InputError

GAMMA = 0.95  # of the potential; a learner with another discount still learns the task

REWARDS: dict[str, Callable[[Array, Array], Array]] = {
    "dense": lambda before, after: -after,
    "shaped": lambda before, after: (after < task.TOLERANCE_M) + (before - GAMMA * after),
    "sparse": lambda before, after: (after < task.TOLERANCE_M).astype(jnp.float32),
    "miscalibrated": lambda before, after: -1000.0 * after,
    "hackable": lambda before, after: jnp.maximum(0.0, before - after),
    "flipped": lambda before, after: after,
}


class Clocked(NamedTuple):
    """A robot and the time.

    Attributes:
      robot: `panda_reach.State`.
      t: () int32, steps since the reset.
      distance: () metres to the target.
    """

    robot: task.State
    t: Array
    distance: Array


def reach(reward: str = "dense", *, obstacle: bool = False) -> Environment:
    """`panda_reach` or `panda_reach_obstacle`.

    Args:
      reward: one of `REWARDS`.
      obstacle: with the pillar; inside it, every reward but `hackable` and `flipped` is lower by 1 a step.

    Raises:
      InputError: an unknown reward.

    >>> reach("sparse").steps
    80
    """
    if reward not in REWARDS:
        raise InputError(
            f"panda_reach has no reward {reward!r}",
            got=reward,
            expected=", ".join(REWARDS),
            cause="a misspelt name",
            fix="--reward=dense",
        )
    score = REWARDS[reward]
    hurts = obstacle and reward not in ("hackable", "flipped")

    def reset(key: Key) -> Clocked:
        robot = task.reset(key, obstacle)
        return Clocked(robot, jnp.zeros((), jnp.int32), task.distance(robot))

    def step(state: Clocked, action: Array, key: Key) -> tuple[Clocked, Outcome]:
        del key  # The arm does what it is told.
        robot = task.step(state.robot, action)
        distance, t = task.distance(robot), state.t + 1
        value = score(state.distance, distance)
        if hurts:
            value = value - robot.touched
        outcome = Outcome(value.astype(jnp.float32), jnp.asarray(False), t >= task.STEPS)
        return Clocked(robot, t, distance), outcome

    def done(state: Clocked) -> Array:
        # `task.success`, from the distance that is known already: the arm is not computed twice a step.
        there = state.distance < task.TOLERANCE_M
        return there & ~state.robot.touched if obstacle else there

    limit = np.asarray(task.panda().velocity, np.float32)
    return Environment(
        name="panda_reach_obstacle" if obstacle else "panda_reach",
        reset=reset,
        step=step,
        observe=lambda state: task.observe(state.robot),
        low=-limit,
        high=limit,
        steps=task.STEPS,
        shortest=task.STEPS,
        success=done,
        expert=lambda state: task.expert(state.robot, obstacle),
    )
