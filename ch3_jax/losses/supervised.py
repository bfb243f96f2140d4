r"""Losses where a person chose the target.

  cross-entropy   -\log q(a^* | o)          over bins of each action dimension
  squared error   (f(o) - a^*)^2            Gaussian maximum likelihood: averages modes
  absolute error  |f(o) - a^*|              Laplace maximum likelihood: the median

Nothing here reduces: a loss has one number per sample and dimension, and the objective says how
they are averaged (`ch3_jax.numerics.masked_mean`). Published systems differ in exactly that step.
"""

import jax
import jax.numpy as jnp

from ch3_jax import checks
from ch3_jax.base import Array


def cross_entropy(logits: Array, target: Array) -> Array:
    """Cross-entropy of integer targets against logits.

    Args:
      logits: (..., K) float, unnormalised log-probabilities; the softmax is in here and nowhere else.
      target: (...) integer in [0, K). A target outside gives NaN rather than a clamped class.

    Returns:
      (...) nats: log K where the logits are equal.

    Raises:
      ValueError: shapes that would broadcast. TypeError: float targets or integer logits.

    >>> round(float(cross_entropy(jnp.array([2.0, 1.0, 0.0]), jnp.array(0))), 6)
    0.407606
    """
    checks.floating(logits=logits)
    checks.integer(target=target)
    checks.shapes(target=(target, "..."), logits=(logits, "... K"))
    # A comparison instead of an index: the gradient of indexing is a scatter, which is slow on every device.
    classes = jax.lax.broadcasted_iota(target.dtype, logits.shape, logits.ndim - 1)
    chosen = jnp.sum(jnp.where(target[..., None] == classes, logits, 0), axis=-1)
    inside = (target >= 0) & (target < logits.shape[-1])
    return jnp.where(inside, jax.nn.logsumexp(logits, axis=-1) - chosen, jnp.nan)


def masked_vocabulary_cross_entropy(logits: Array, token: Array, allowed: Array) -> Array:
    """Cross-entropy over the action tokens of a language model's vocabulary, all others masked.

    Equal in value and gradient to `cross_entropy` on the K allowed columns alone: a masked logit
    has no probability and receives no gradient.

    Args:
      logits: (..., V) float over the whole vocabulary (32,000 in OpenVLA).
      token: (...) integer ids; an id that is not allowed gives NaN.
      allowed: (V,) bool, True for the action tokens.

    Returns:
      (...) nats.

    Reference: Kim et al. 2024, OpenVLA, arXiv:2406.09246, section 3.2.
    """
    checks.floating(logits=logits)
    checks.integer(token=token)
    checks.shapes(token=(token, "..."), logits=(logits, "... V"), allowed=(allowed, "V"))
    allowed = jnp.broadcast_to(allowed, logits.shape)
    # The most negative float, not -inf: exp gives exact zeros all the same, and no inf - inf can arise.
    masked = jnp.where(allowed, logits, jnp.finfo(logits.dtype).min)
    valid = jnp.take_along_axis(allowed, token[..., None], axis=-1, mode="fill", fill_value=False)[..., 0]
    return jnp.where(valid, cross_entropy(masked, token), jnp.nan)


def squared_error(prediction: Array, target: Array) -> Array:
    """(prediction - target)^2, elementwise.

    >>> squared_error(jnp.array([1.0, 2.0]), jnp.array([0.0, 4.0])).tolist()
    [1.0, 4.0]
    """
    checks.floating(prediction=prediction, target=target)
    checks.shapes(target=(target, "..."), prediction=(prediction, "..."))
    return jnp.square(prediction - target)


def absolute_error(prediction: Array, target: Array) -> Array:
    """|prediction - target|, elementwise.

    >>> absolute_error(jnp.array([1.0, 2.0]), jnp.array([0.0, 4.0])).tolist()
    [1.0, 2.0]
    """
    checks.floating(prediction=prediction, target=target)
    checks.shapes(target=(target, "..."), prediction=(prediction, "..."))
    return jnp.abs(prediction - target)
