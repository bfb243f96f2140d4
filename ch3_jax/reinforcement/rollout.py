"""N environments for T steps in one scan, with new starts where an episode ended.

Environments begin anew by themselves, so the observation after an end belongs to another episode: the
state that was *reached* is kept beside it, and its value is what a truncated episode is bootstrapped with.
New starts are drawn before the scan, one for each environment, where no episode can end twice in it; a
reset in every step would cost as much as the step.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ch3_jax.base import Array, Key, Params, PyTree
from ch3_jax.environments.environment import Environment
from ch3_jax.reinforcement.agent import Agent


class Lanes(NamedTuple):
    """N environments, as they stand.

    Attributes:
      state: leading axis N.
      total: (N,) reward of the episode so far.
      discounted: (N,) the same, discounted backwards: what the return normaliser looks at.
      length: (N,) int32, steps of the episode so far.
    """

    state: PyTree
    total: Array
    discounted: Array
    length: Array


class Rollout(NamedTuple):
    """T steps of N environments.

    Attributes:
      observation: (T, N, S) raw, where the steps begin.
      reached: (T, N, S) raw, where they end, before any new start.
      record, log_prob: (T, N, ...) and (T, N, P), of the agent.
      action: (T, N, A).
      reward: (T, N).
      terminated, truncated: (T, N) bool.
      discounted: (T, N) returns so far, see `Lanes`.
      total, length, success: (T, N) of the episode so far; success is judged on the state reached, NaN where
        the environment cannot tell.
    """

    observation: Array
    reached: Array
    record: PyTree
    log_prob: Array
    action: Array
    reward: Array
    terminated: Array
    truncated: Array
    discounted: Array
    total: Array
    length: Array
    success: Array

    @property
    def ended(self) -> Array:
        """(T, N) bool."""
        return self.terminated | self.truncated


def start(environment: Environment, key: Key, count: int, *, spread: bool = True) -> Lanes:
    """N environments at their starts.

    Args:
      environment: of each.
      key: consumed.
      count: N.
      spread: where all episodes are of one length, moves the clocks apart, so that not all end at once.
        Needs a state with an integer leaf named `t`; without one all start together.
    """
    of_state, of_clock = jax.random.split(key)
    state = jax.vmap(environment.reset)(jax.random.split(of_state, count))
    if spread and environment.shortest == environment.steps > 1 and hasattr(state, "t"):
        state = state._replace(t=jax.random.randint(of_clock, (count,), 0, environment.steps, state.t.dtype))
    zero = jnp.zeros(count, jnp.float32)
    return Lanes(state, zero, zero, jnp.zeros(count, jnp.int32))


def rollout(
    environment: Environment,
    agent: Agent,
    params: Params,
    see: Callable[[Array], Array],
    lanes: Lanes,
    key: Key,
    steps: int,
    gamma: float,
) -> tuple[Lanes, Rollout]:
    """Drives all lanes for T steps.

    Args:
      environment, agent, params: who drives what.
      see: raw (N, S) -> what the agent is shown.
      lanes: as the last rollout left them.
      key: consumed.
      steps: T.
      gamma: of `discounted`.

    Returns:
      The lanes afterwards, and what happened.
    """
    count = lanes.total.shape[0]
    of_agent, of_world, of_starts = jax.random.split(key, 3)
    randomness = agent.draw(of_agent, steps, count)
    one_each = environment.shortest >= steps or environment.starts_again
    pool = _starts(environment, of_starts, count) if one_each else None
    keys = jax.random.split(of_world, steps)

    def advance(lanes: Lanes, given) -> tuple[Lanes, Rollout]:
        noise, key = given
        seen = jax.vmap(environment.observe)(lanes.state)
        acted = agent.act(params, see(seen), noise)
        of_step, of_start = jax.random.split(key)
        state, outcome = jax.vmap(environment.step)(
            lanes.state, acted.action, jax.random.split(of_step, count)
        )
        total, length = lanes.total + outcome.reward, lanes.length + 1
        discounted = lanes.discounted * gamma + outcome.reward
        over = outcome.terminated | outcome.truncated
        fresh = pool if one_each else _starts(environment, of_start, count)
        record = Rollout(
            observation=seen,
            reached=jax.vmap(environment.observe)(state),
            record=acted.record,
            log_prob=acted.log_prob,
            action=acted.action,
            reward=outcome.reward,
            terminated=outcome.terminated,
            truncated=outcome.truncated & ~outcome.terminated,
            discounted=discounted,
            total=total,
            length=length,
            success=_success(environment, state, over),
        )
        return Lanes(
            jax.tree.map(lambda new, old: jnp.where(_like(over, old), new, old), fresh, state),
            jnp.where(over, 0, total),
            jnp.where(over, 0, discounted),
            jnp.where(over, 0, length),
        ), record

    return jax.lax.scan(advance, lanes, (randomness, keys))


def values(
    agent: Agent, params: Params, see: Callable[[Array], Array], data: Rollout, shortest: int
) -> tuple[Array, Array]:
    """Values where steps begin and where they end, with as few looks of the critic as it takes.

    Where the episode goes on, the value of the state reached is that of the next step's beginning.

    Args:
      agent, params, see: whose values.
      data: T steps of N environments.
      shortest: of the environment: how often an episode can end in T steps.

    Returns:
      v_tm1 and v_t, both (T, N).
    """
    steps = data.reward.shape[0]
    before = agent.value(params, see(data.observation))
    if shortest < steps:
        return before, agent.value(params, see(data.reached))
    ended = data.ended
    at = jnp.argmax(ended, axis=0)
    last = jnp.take_along_axis(data.reached, at[None, :, None], axis=0)[0]
    edges = agent.value(params, see(jnp.stack([last, data.reached[-1]])))
    after = jnp.concatenate([before[1:], edges[1:]])
    return before, jnp.where(ended, edges[:1], after)


def _starts(environment: Environment, key: Key, count: int) -> PyTree:
    return jax.vmap(environment.reset)(jax.random.split(key, count))


def _success(environment: Environment, state: PyTree, over: Array) -> Array:
    if environment.success is None:
        return jnp.full(over.shape, jnp.nan, jnp.float32)
    return jax.vmap(environment.success)(state).astype(jnp.float32)


def _like(flag: Array, x: Array) -> Array:
    return jnp.reshape(flag, flag.shape + (1,) * (x.ndim - flag.ndim))
