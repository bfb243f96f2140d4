r"""Gaussians whose dimensions are independent, the head of most continuous policies.

  \log N(x; \mu, \sigma) = -\sum_a [ \tfrac12 z_a^2 + \log \sigma_a + \tfrac12 \log 2\pi ],
  z_a = (x_a - \mu_a) / \sigma_a

The scale is always log sigma: a network may return any number, and the log-probability needs the logarithm
anyway. The last axis is one joint event of A dimensions, the axes before it are a batch.

Reference: Bishop 2006, Pattern Recognition and Machine Learning, section 2.3.
"""

import math

import jax
import jax.numpy as jnp

from ch3_jax import checks
from ch3_jax.base import Array, Key

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def sample(key: Key, mean: Array, log_std: Array, *, shape: tuple[int, ...] = ()) -> Array:
    """Draws mean + sigma n with n ~ N(0, I): differentiable in both parameters.

    Args:
      key: consumed.
      mean: (..., A).
      log_std: shape of `mean`.
      shape: of independent draws in front.

    Returns:
      (*shape, ..., A).

    Raises:
      ValueError: shapes that would broadcast. TypeError: integers.

    >>> sample(jax.random.key(0), jnp.zeros((5, 2)), jnp.zeros((5, 2)), shape=(3,)).shape
    (3, 5, 2)
    """
    _check(mean=mean, log_std=log_std)
    noise = jax.random.normal(key, (*shape, *mean.shape), mean.dtype)
    ahead = (None,) * len(shape)
    return mean[ahead] + jnp.exp(log_std)[ahead] * noise


def log_prob(mean: Array, log_std: Array, value: Array) -> Array:
    """Log-density of whole events.

    Args:
      mean: (..., A).
      log_std: shape of `mean`.
      value: shape of `mean`.

    Returns:
      (...) nats, summed over A.

    Raises:
      ValueError: shapes that would broadcast. TypeError: integers.

    >>> round(float(log_prob(jnp.zeros(2), jnp.array([0.0, -0.5]), jnp.array([0.3, -0.2]))), 6)
    -1.437243
    """
    _check(mean=mean, log_std=log_std, value=value)
    z = (value - mean) * jnp.exp(-log_std)
    return -jnp.sum(0.5 * jnp.square(z) + log_std + HALF_LOG_2PI, axis=-1)


def entropy(log_std: Array) -> Array:
    r"""Differential entropy, \sum_a \log \sigma_a + \tfrac12 \log 2 \pi e; it may be negative.

    Args:
      log_std: (..., A).

    Returns:
      (...) nats.

    >>> round(float(entropy(jnp.array([0.0, -0.5]))), 6)
    2.337877
    """
    checks.floating(log_std=log_std)
    return jnp.sum(log_std + (HALF_LOG_2PI + 0.5), axis=-1)


def kl(mean_p: Array, log_std_p: Array, mean_q: Array, log_std_q: Array) -> Array:
    r"""KL(p || q) of two of them.

    \tfrac12 \sum_a [ r_a^2 - 1 - 2 \log r_a + ((\mu_p - \mu_q)_a / \sigma_{q,a})^2 ],
    r = \sigma_p / \sigma_q

    Args:
      mean_p, log_std_p, mean_q, log_std_q: (..., A), all of one shape.

    Returns:
      (...) nats, at least 0; 0 where they are equal.

    Raises:
      ValueError: shapes that would broadcast. TypeError: integers.

    >>> float(kl(jnp.zeros(1), jnp.zeros(1), jnp.ones(1), jnp.zeros(1)))
    0.5
    """
    _check(mean_p=mean_p, log_std_p=log_std_p, mean_q=mean_q, log_std_q=log_std_q)
    log_ratio = log_std_p - log_std_q
    z = (mean_p - mean_q) * jnp.exp(-log_std_q)
    # expm1(2r) - 2r and not exp(2r) - 1 - 2r: near equality the difference of the two is all there is.
    return 0.5 * jnp.sum(jnp.expm1(2 * log_ratio) - 2 * log_ratio + jnp.square(z), axis=-1)


def _check(**arrays: Array) -> None:
    checks.floating(**arrays)
    checks.shapes(**{name: (array, "... A") for name, array in arrays.items()})
