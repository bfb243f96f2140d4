"""A policy in closed loop: its own actions decide what it sees next.

The loss on held-out demonstrations says how well they are copied; only this says whether the task is done.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ch3_jax.base import Array, Key
from ch3_jax.environments import panda_reach as task

Act = Callable[[Array, Key], Array]

# Names of embedded data sets that are also tasks, and whether the pillar is there.
TASKS = {"panda_reach": False, "panda_reach_obstacle": True}


class Success(NamedTuple):
    """How often the task was done.

    Attributes:
      rate: share of the episodes.
      low, high: Wilson's 95 % interval of it.
      episodes: how many were driven.
    """

    rate: float
    low: float
    high: float
    episodes: int


def drive(
    act: Act, key: Key, *, name: str, episodes: int = 500, window: int = 1, patience: float = 1.5
) -> Success:
    """Drives a policy on starts and targets that no demonstration had.

    Args:
      act: (observation (B, W, S) raw, key) -> action (B, H, A) raw; the first of the H is executed.
      key: of starts, targets and sampling.
      name: a key of `TASKS`.
      episodes: B, all at once.
      window: W; before the first step the past is the first observation repeated.
      patience: time allowed, in lengths of a demonstration.

    Returns:
      `Success` at the end of the time.
    """
    obstacle = TASKS[name]
    start_key, run_key = jax.random.split(key)
    states = jax.vmap(lambda k: task.reset(k, obstacle))(jax.random.split(start_key, episodes))
    first = jax.vmap(task.observe)(states)
    past = jnp.repeat(first[:, None], window, axis=1)

    def advance(carry, key):
        states, past = carry
        states = jax.vmap(task.step)(states, act(past, key)[:, 0])
        seen = jax.vmap(task.observe)(states)
        return (states, jnp.concatenate([past[:, 1:], seen[:, None]], axis=1)), None

    @jax.jit
    def run(states, past):
        keys = jax.random.split(run_key, round(patience * task.STEPS))
        (states, _), _ = jax.lax.scan(advance, (states, past), keys)
        return jax.vmap(lambda s: task.success(s, obstacle))(states)

    return wilson(int(jnp.sum(run(states, past))), episodes)


def wilson(successes: int, episodes: int, z: float = 1.959964) -> Success:
    """A share with the interval that stays inside [0, 1] and honest at its ends.

    Reference: Wilson 1927. 10 of 10 is [0.722, 1], not [1, 1].

    >>> [round(x, 3) for x in wilson(10, 10)[:3]]
    [1.0, 0.722, 1.0]
    """
    if not 0 <= successes <= episodes or episodes < 1:
        raise ValueError(f"`successes` is {successes} of {episodes}, expected 0 to `episodes` of at least 1.")
    rate, n = successes / episodes, episodes
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return Success(rate, max(centre - half, 0.0), min(centre + half, 1.0), n)
