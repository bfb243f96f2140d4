"""Objectives where a person chose the target: classes, numbers.

A table of bins is a distribution that can have several modes; one number per dimension is its mean (`mse`) or
its median (`l1`), which between two demonstrators is what neither of them did.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ch3_jax.base import Array, Batch, Key, Metrics, Params
from ch3_jax.losses import supervised
from ch3_jax.numerics import masked_mean
from ch3_jax.objectives.classified import classified
from ch3_jax.objectives.objective import Objective, Shapes
from ch3_jax.objectives.spoken import spoken
from ch3_jax.policies import networks
from ch3_jax.policies.policy import Policy
from ch3_jax.policies.small import small_policy
from ch3_jax.tokens import bins as tokens


def cross_entropy(
    shapes: Shapes, bins: tokens.Bins, *, width: int = 256, dtype=jnp.float32, network: str = networks.MLP
) -> Objective:
    """Classification of every action dimension into bins: the chapter's main objective.

    Loss: mean over batch, valid steps of the horizon and action dimensions, in nats. For `network` see
    `policies.networks`.
    """
    if networks.speaks(network):
        chunk = (shapes.horizon, shapes.action)
        speaker = networks.speaker(network, (shapes.window, shapes.state), chunk, bins.count, dtype)
        return spoken(shapes, bins, speaker)
    outputs = (shapes.horizon, shapes.action, bins.count)
    policy = networks.classifier(network, (shapes.window, shapes.state), outputs, width, dtype)

    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        del key
        logits = policy.apply(params, batch.observation)
        # Without the barrier XLA encodes anew for each of the K logits that the target is compared with.
        target = jax.lax.optimization_barrier(tokens.encode(bins, batch.action))
        return classified(logits, target, bins, batch)

    def act(params: Params, observation: Array, key: Key | None = None) -> Array:
        logits = policy.apply(params, observation)
        token = jnp.argmax(logits, -1) if key is None else jax.random.categorical(key, logits)
        return tokens.decode(bins, token)

    return Objective(policy.init, loss, act, samples=True, unit="nats", logits=policy.apply)


def regression(
    shapes: Shapes, error: Callable[[Array, Array], Array], *, width: int = 256, dtype=jnp.float32
) -> Objective:
    """One number per action dimension, scored by an elementwise error.

    Loss: mean over batch, valid steps of the horizon and action dimensions, in normalised units.
    """
    policy: Policy = small_policy(
        (shapes.window, shapes.state), (shapes.horizon, shapes.action), width, dtype
    )

    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        del key
        prediction = policy.apply(params, batch.observation)
        losses = error(prediction, batch.action)
        return masked_mean(losses, batch.mask), {
            "loss_per_dimension": masked_mean(losses, batch.mask, (0, 1)),
            "l1": masked_mean(jnp.abs(prediction - batch.action), batch.mask, (0, 1)),
        }

    def act(params: Params, observation: Array, key: Key | None = None) -> Array:
        del key
        return policy.apply(params, observation)

    return Objective(policy.init, loss, act)


def huber(
    shapes: Shapes, bins: object, *, width: int = 256, dtype=jnp.float32, huber_delta: float = 1.0
) -> Objective:
    """`regression` by Huber's error: squared near the target, absolute from `huber_delta` on.

    Args:
      shapes: what the network must fit.
      bins: not looked at.
      width, dtype: of the network.
      huber_delta: in normalised units, 1 is one standard deviation of a z-scored action.
    """
    del bins
    error = functools.partial(supervised.huber_error, delta=huber_delta)
    error(jnp.zeros(1), jnp.zeros(1))  # a delta that cannot be is refused here, not in the first step
    made = regression(shapes, error, width=width, dtype=dtype)
    return made._replace(asked={"huber_delta": huber_delta})
