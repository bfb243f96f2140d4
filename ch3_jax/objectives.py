"""Where a network meets a loss: the one file that sees both.

An objective is what the training loop needs and no more: how to make parameters, how to score a batch,
how to act. A new loss is a new function here and a name in `OBJECTIVES`; a new network is a
`Policy` handed to one of them.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ch3_jax.base import Array, Batch, Key, Metrics, Params
from ch3_jax.errors import InputError
from ch3_jax.losses import supervised
from ch3_jax.numerics import masked_mean
from ch3_jax.policies.policy import Policy
from ch3_jax.policies.small import small_policy
from ch3_jax.tokens import bins as tokens


class Objective(NamedTuple):
    """A policy and its loss.

    Attributes:
      init: key -> params.
      loss: (params, batch, key) -> (scalar loss, metrics); the metrics are `loss_per_dimension` (A,),
        `l1` (A,) in normalised units, and for tokens `accuracy`.
      act: (params, observation (B, W, S), key or None) -> action (B, H, A), normalised. Without a key the
        most likely action, with one a sample.
    """

    init: Callable[[Key], Params]
    loss: Callable[[Params, Batch, Key], tuple[Array, Metrics]]
    act: Callable[[Params, Array, Key | None], Array]


class Shapes(NamedTuple):
    """What a network must fit.

    Attributes:
      window: W observations of `state` numbers each.
      horizon: H actions of `action` numbers each.
    """

    window: int
    state: int
    horizon: int
    action: int


def cross_entropy(shapes: Shapes, bins: tokens.Bins, *, width: int = 256, dtype=jnp.float32) -> Objective:
    """Classification of every action dimension into bins: the chapter's main objective.

    Loss: mean over batch, valid steps of the horizon and action dimensions, in nats.
    """
    outputs = (shapes.horizon, shapes.action, bins.count)
    policy = small_policy((shapes.window, shapes.state), outputs, width, dtype)

    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        del key
        logits = policy.apply(params, batch.observation)
        # Without the barrier XLA encodes anew for each of the K logits that the target is compared with.
        target = jax.lax.optimization_barrier(tokens.encode(bins, batch.action))
        losses = supervised.cross_entropy(logits, target)
        chosen = jnp.argmax(logits, axis=-1)
        decoded = jnp.abs(tokens.decode(bins, chosen) - batch.action)
        return masked_mean(losses, batch.mask), {
            "loss_per_dimension": masked_mean(losses, batch.mask, (0, 1)),
            "accuracy": masked_mean((chosen == target).astype(jnp.float32), batch.mask),
            "l1": masked_mean(decoded, batch.mask, (0, 1)),
        }

    def act(params: Params, observation: Array, key: Key | None = None) -> Array:
        logits = policy.apply(params, observation)
        token = jnp.argmax(logits, -1) if key is None else jax.random.categorical(key, logits)
        return tokens.decode(bins, token)

    return Objective(policy.init, loss, act)


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


OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "ce": cross_entropy,
    "mse": lambda shapes, bins, **kw: regression(shapes, supervised.squared_error, **kw),
    "l1": lambda shapes, bins, **kw: regression(shapes, supervised.absolute_error, **kw),
}


def make_objective(
    name: str, shapes: Shapes, bins: tokens.Bins | None, *, width: int = 256, dtype=jnp.float32
) -> Objective:
    """The objective of a name.

    Args:
      name: one of `OBJECTIVES`.
      shapes: what the network must fit.
      bins: of the normalised actions; only token objectives look at them.
      width: of the hidden layers.
      dtype: of the computation; parameters stay float32.

    Raises:
      InputError: an unknown name.
    """
    if name not in OBJECTIVES:
        raise InputError(
            f"unknown loss {name!r}",
            got=name,
            expected="one of " + ", ".join(OBJECTIVES),
            cause="a misspelt name",
            fix="--loss=ce is the main job",
        )
    return OBJECTIVES[name](shapes, bins, width=width, dtype=dtype)
