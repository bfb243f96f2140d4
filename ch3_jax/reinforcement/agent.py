r"""A policy that can act, say how likely its action was, and be told to think again.

An agent is what every algorithm here is written against, whatever its head: a Gaussian, bins, or a chain of
denoising steps. What it drew is kept as a *record*, and `score` gives the log-probability of a record under
other parameters. A record has P parts, each with a log-probability of its own (one for a Gaussian, one per
action token, one per denoising step), so that a ratio can be clipped part by part or as a whole.

  u = \mu(o) + \sigma n,    a = mid + half clip(u, -1, 1)        the Gaussian that starts from nothing

The log-probability is that of u, before the clip, as in most implementations of PPO.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array, Key, Params, PyTree
from ch3_jax.environments.environment import Environment, sizes
from ch3_jax.numerics import in_front
from ch3_jax.policies.actor_critic import layers_policy
from ch3_jax.probability import categorical, gaussian


class Acted(NamedTuple):
    """What was drawn for N observations.

    Attributes:
      action: (N, A) in the environment's units and bounds.
      record: leading axis N, what `score` needs.
      log_prob: (N, P) nats, each part of the record.
    """

    action: Array
    record: PyTree
    log_prob: Array


class Agent(NamedTuple):
    """An actor and a critic.

    Attributes:
      init: key -> {"actor": ..., "critic": ...}.
      draw: (key, T, N) -> randomness of T steps of N environments, leading axis T, drawn at once.
      act: (params, seen (N, S), randomness of one step) -> `Acted`.
      score: (params, seen (N, S), record) -> (log_prob (N, P), entropy (N,) nats).
      best: (params, seen (N, S)) -> (N, A), the action without chance.
      value: (params, seen (N, S)) -> (N,).
      largest_entropy: () -> nats of the first policy or of the uniform one, what entropies are compared with.
      see: None where observations are standardised by running moments; a clone brings its own way of seeing,
        raw (N, S) -> seen.
      q: (params, seen (N, S), action (N, A) in [-1, 1]) -> (N, 2), where critics value actions.
      part_weights: (P,) of the advantage in each part of a record (DPPO discounts early denoising steps).
    """

    init: Callable[[Key], Params]
    draw: Callable[[Key, int, int], PyTree]
    act: Callable[[Params, Array, PyTree], Acted]
    score: Callable[[Params, Array, PyTree], tuple[Array, Array]]
    best: Callable[[Params, Array], Array]
    value: Callable[[Params, Array], Array]
    largest_entropy: float
    see: Callable[[Array], Array] | None = None
    q: Callable[[Params, Array, Array], Array] | None = None
    part_weights: np.ndarray | None = None


def scratch(environment: Environment, *, width: int = 64, log_std: float = -0.5) -> Agent:
    """An agent that knows nothing: a Gaussian where actions are continuous, a softmax where they are choices.

    Args:
      environment: whose observations and actions it must fit.
      width: of the actor's hidden layers; the critic's are half as wide.
      log_std: of the Gaussian's start, in units of half the action's range.
    """
    state, action = sizes(environment)
    critic = layers_policy(state, 1, max(width // 2, 8), gain=1.0)
    outputs = environment.choices or action
    actor = layers_policy(state, outputs, width)

    def init(key: Key) -> Params:
        of_actor, of_critic = jax.random.split(key)
        head = {} if environment.choices else {"log_std": jnp.full((action,), log_std, jnp.float32)}
        return {"actor": {"layers": actor.init(of_actor), **head}, "critic": critic.init(of_critic)}

    def output(params: Params, seen: Array) -> Array:
        return actor.apply(params["actor"]["layers"], seen)

    def value(params: Params, seen: Array) -> Array:
        return critic.apply(params["critic"], seen)[..., 0]

    if environment.choices:
        return Agent(
            init, value=value, **_softmax(output), largest_entropy=float(np.log(environment.choices))
        )
    uniform = action * (log_std + gaussian.HALF_LOG_2PI + 0.5)
    return Agent(init, value=value, **_gaussian(output, environment), largest_entropy=float(uniform))


def to_bounds(environment: Environment, unit: Array) -> Array:
    """[-1, 1] of each dimension to its bounds; what lies outside is clipped."""
    low, high = (in_front(jnp.asarray(x), unit.ndim) for x in (environment.low, environment.high))
    return 0.5 * (low + high) + 0.5 * (high - low) * jnp.clip(unit, -1, 1)


def _gaussian(mean: Callable, environment: Environment) -> dict:
    action = len(environment.low)

    def draw(key: Key, steps: int, count: int) -> Array:
        return jax.random.normal(key, (steps, count, action))

    def act(params: Params, seen: Array, noise: Array) -> Acted:
        log_std = in_front(params["actor"]["log_std"], noise.ndim)
        u = mean(params, seen) + jnp.exp(log_std) * noise
        log_prob = -jnp.sum(0.5 * jnp.square(noise) + log_std + gaussian.HALF_LOG_2PI, -1)
        return Acted(to_bounds(environment, u), u, log_prob[:, None])

    def score(params: Params, seen: Array, record: Array) -> tuple[Array, Array]:
        mu = mean(params, seen)
        log_std = jnp.broadcast_to(in_front(params["actor"]["log_std"], mu.ndim), mu.shape)
        return gaussian.log_prob(mu, log_std, record)[:, None], gaussian.entropy(log_std)

    def best(params: Params, seen: Array) -> Array:
        return to_bounds(environment, mean(params, seen))

    return {"draw": draw, "act": act, "score": score, "best": best}


def _softmax(logits: Callable) -> dict:
    def act(params: Params, seen: Array, key: Key) -> Acted:
        table = logits(params, seen)
        chosen = categorical.sample(key, table)
        log_prob = categorical.log_prob(table, chosen)
        return Acted(chosen[:, None].astype(jnp.float32), chosen, log_prob[:, None])

    def score(params: Params, seen: Array, record: Array) -> tuple[Array, Array]:
        table = logits(params, seen)
        return categorical.log_prob(table, record)[:, None], categorical.entropy(table)

    def best(params: Params, seen: Array) -> Array:
        return jnp.argmax(logits(params, seen), -1)[:, None].astype(jnp.float32)

    return {
        "draw": lambda key, steps, count: jax.random.split(key, steps),
        "act": act,
        "score": score,
        "best": best,
    }
