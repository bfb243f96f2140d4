r"""One of K classes: a bin of an action dimension, a token, a discrete action.

  q_k = softmax(z)_k = e^{z_k} / \sum_j e^{z_j}

Logits throughout: a constant added to all of them changes nothing, and no probability is ever rounded to 0
before its logarithm is taken.
"""

import jax
import jax.numpy as jnp

from ch3_jax import checks
from ch3_jax.base import Array, Key
from ch3_jax.probability import information
from ch3_jax.probability.values import require_inside


def sample(key: Key, logits: Array, *, shape: tuple[int, ...] = ()) -> Array:
    """Draws classes.

    Args:
      key: consumed.
      logits: (..., K).
      shape: of independent draws in front.

    Returns:
      (*shape, ...) int32 in [0, K).

    Raises:
      TypeError: integers.

    >>> sample(jax.random.key(0), jnp.array([0.0, -jnp.inf]), shape=(3,)).tolist()
    [0, 0, 0]
    """
    checks.floating(logits=logits)
    checks.shapes(logits=(logits, "... K"))
    return jax.random.categorical(key, logits, shape=(*shape, *logits.shape[:-1]))


def log_prob(logits: Array, value: Array) -> Array:
    """Log-probability of classes.

    Args:
      logits: (..., K).
      value: (...) integer in [0, K).

    Returns:
      (...) nats, NaN for a class outside inside a compiled step.

    Raises:
      ValueError: shapes that would broadcast; a class outside, outside `jit`. TypeError: integer logits.

    >>> round(float(log_prob(jnp.array([2.0, 1.0, 0.0]), jnp.array(0))), 6)
    -0.407606
    """
    checks.floating(logits=logits)
    checks.integer(value=value)
    checks.shapes(value=(value, "..."), logits=(logits, "... K"))
    require_inside("value", value, logits.shape[-1])
    inside = (value >= 0) & (value < logits.shape[-1])
    return jnp.where(inside, chosen(logits, value) - jax.nn.logsumexp(logits, axis=-1), jnp.nan)


def entropy(logits: Array) -> Array:
    """Entropy.

    Args:
      logits: (..., K).

    Returns:
      (...) nats, in [0, log K].

    >>> round(float(entropy(jnp.zeros(3))), 6)
    1.098612
    """
    return information.entropy_from_logits(logits)


def kl(p_logits: Array, q_logits: Array) -> Array:
    """KL(p || q).

    Args:
      p_logits: (..., K).
      q_logits: (..., K).

    Returns:
      (...) nats, at least 0 up to rounding.

    >>> float(kl(jnp.zeros(3), jnp.ones(3)))
    0.0
    """
    return information.forward_kl_from_logits(p_logits, q_logits)


def mode(logits: Array) -> Array:
    """The most likely class, the first of equals.

    Args:
      logits: (..., K).

    Returns:
      (...) int32.

    >>> int(mode(jnp.array([0.0, 2.0, 1.0])))
    1
    """
    checks.floating(logits=logits)
    return jnp.argmax(logits, axis=-1)


@jax.custom_jvp
def chosen(logits: Array, value: Array) -> Array:
    """One number per row, logits[..., value], with a gradient that is no scatter.

    Args:
      logits: (..., K).
      value: (...) integer; outside [0, K) the nearest class is taken, which the caller must not let pass.

    Returns:
      (...).

    >>> float(chosen(jnp.array([5.0, 7.0]), jnp.array(1)))
    7.0
    """
    return jnp.take_along_axis(logits, value[..., None], axis=-1, mode="clip")[..., 0]


@chosen.defjvp
def _chosen_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    """An index is the faster value, one element in K, but its gradient is a scatter, slow on every device.

    The gradient of a comparison with every class is a comparison, which fuses with that of the softmax.
    """
    (logits, value), (tangent, _) = primals, tangents
    classes = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    return chosen(logits, value), jnp.sum(jnp.where(value[..., None] == classes, tangent, 0), axis=-1)
