"""How good a policy is now: whole episodes from new starts, without chance and with it.

What a rollout of training reports mixes the policy of many updates, episodes cut by a lucky length, and the
noise that the policy explores with. Here N environments begin at once and each counts for its first episode.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ch3_jax.base import Array, Key, Params
from ch3_jax.environments.environment import Environment
from ch3_jax.reinforcement.agent import Acted, Agent
from ch3_jax.reinforcement.rollout import rollout, start


class Episodes(NamedTuple):
    """N whole episodes.

    Attributes:
      total: (N,) undiscounted return, raw.
      discounted: () mean discounted value of the first observation, as far as it was seen.
      length: (N,) steps.
      success: (N,) 0 or 1, NaN where the environment cannot tell.
    """

    total: Array
    discounted: Array
    length: Array
    success: Array


def make_evaluate(
    environment: Environment, agent: Agent, episodes: int, gamma: float
) -> Callable[[Params, Callable[[Array], Array], Key, bool], Episodes]:
    """(params, see, key, by chance) -> `Episodes`; the last one is static under `jit`.

    Args:
      environment, agent: who drives what.
      episodes: N.
      gamma: of `discounted`.
    """
    certain = agent._replace(
        draw=lambda key, steps, count: jnp.zeros((steps, 0)),
        act=lambda params, seen, none: Acted(
            agent.best(params, seen), jnp.zeros((seen.shape[0], 0)), jnp.zeros((seen.shape[0], 1))
        ),
    )

    def evaluate(params: Params, see: Callable[[Array], Array], key: Key, by_chance: bool) -> Episodes:
        of_start, of_drive = jax.random.split(key)
        lanes = start(environment, of_start, episodes, spread=False)
        who = agent if by_chance else certain
        _, data = rollout(environment, who, params, see, lanes, of_drive, environment.steps, gamma)
        ended = data.ended.astype(jnp.int32)
        first = (jnp.cumsum(ended, axis=0) - ended == 0).astype(jnp.float32)
        weight = gamma ** jnp.arange(environment.steps, dtype=jnp.float32)[:, None]
        last = jnp.argmax(ended, axis=0)[None]

        def at_end(x: Array) -> Array:
            return jnp.take_along_axis(x, last, axis=0)[0]

        return Episodes(
            at_end(data.total),
            jnp.mean(jnp.sum(weight * first * data.reward, axis=0)),
            at_end(data.length),
            at_end(data.success),
        )

    return evaluate
