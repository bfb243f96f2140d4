r"""A Gaussian pressed into (-1, 1) by tanh: the actor of soft actor-critic.

  y = \tanh u,    u ~ N(\mu, \sigma),
  \log p(y) = \log N(u; \mu, \sigma) - \sum_a \log(1 - \tanh^2 u_a)

The correction is computed from u as 2 (\log 2 - u - softplus(-2u)), which is exact for every u; taken from y
it is \log(1 - y^2), and in float32 y is exactly 1 from u = 9.1 on. So a sample and its log-probability are
best had together (`sample_and_log_prob`), before u is forgotten.

tanh is invertible, so it changes no KL: that of the two Gaussians is the answer, in closed form. The
entropy has none and is estimated.

Reference: Haarnoja et al. 2018, arXiv:1801.01290, appendix C.
"""

import math

import jax
import jax.numpy as jnp

from ch3_jax import checks
from ch3_jax.base import Array, Key
from ch3_jax.errors import InputError
from ch3_jax.probability import gaussian
from ch3_jax.probability.monte_carlo import Estimate, estimate
from ch3_jax.probability.values import known


def sample(key: Key, mean: Array, log_std: Array, *, shape: tuple[int, ...] = ()) -> Array:
    """Draws tanh(mean + sigma n), differentiable in both parameters.

    Args:
      key: consumed.
      mean: (..., A), of the Gaussian before tanh.
      log_std: shape of `mean`, likewise.
      shape: of independent draws in front.

    Returns:
      (*shape, ..., A) in [-1, 1]: the ends are reached by rounding alone.

    Raises:
      ValueError: shapes that would broadcast. TypeError: integers.

    >>> bool(jnp.abs(sample(jax.random.key(0), jnp.zeros(3), jnp.zeros(3))).max() < 1)
    True
    """
    return jnp.tanh(gaussian.sample(key, mean, log_std, shape=shape))


def sample_and_log_prob(
    key: Key, mean: Array, log_std: Array, *, shape: tuple[int, ...] = ()
) -> tuple[Array, Array]:
    """Draws, with the log-density of what was drawn: finite at any distance, differentiable through both.

    Args:
      key, mean, log_std, shape: as in `sample`.

    Returns:
      ((*shape, ..., A) values, (*shape, ...) nats).

    Raises:
      ValueError: shapes that would broadcast. TypeError: integers.

    >>> value, log_p = sample_and_log_prob(jax.random.key(0), jnp.full((2,), 50.0), jnp.zeros(2))
    >>> value.tolist(), bool(jnp.isfinite(log_p))
    ([1.0, 1.0], True)
    """
    latent = gaussian.sample(key, mean, log_std, shape=shape)
    means, stds = (jnp.broadcast_to(x[(None,) * len(shape)], latent.shape) for x in (mean, log_std))
    return jnp.tanh(latent), gaussian.log_prob(means, stds, latent) - _log_slope(latent)


def log_prob(mean: Array, log_std: Array, value: Array) -> Array:
    """Log-density of given values, summed over the action.

    Args:
      mean: (..., A), of the Gaussian before tanh.
      log_std: shape of `mean`, likewise.
      value: shape of `mean`, inside (-1, 1).

    Returns:
      (...) nats. Inside a compiled step -inf at the ends and NaN outside.

    Raises:
      ValueError: shapes that would broadcast; a value at or beyond the ends, outside `jit`. TypeError:
        integers.

    >>> round(float(log_prob(jnp.zeros(1), jnp.zeros(1), jnp.zeros(1))), 6)  # that of N(0, 1) at 0
    -0.918939
    """
    checks.floating(mean=mean, log_std=log_std, value=value)
    checks.shapes(value=(value, "... A"), mean=(mean, "... A"), log_std=(log_std, "... A"))
    size = jnp.abs(value)
    inside = size < 1
    if known(value) and not bool(inside.all()):
        raise InputError(
            "`value` is not inside (-1, 1), where a tanh Gaussian has its density",
            got=f"{float(value.min()):.7g} to {float(value.max()):.7g}",
            expected="numbers above -1 and under 1",
            cause="actions that were clipped to [-1, 1], or are not normalised to it",
            fix="keep the latent (`sample_and_log_prob`), or clip data to +-(1 - 1e-6)",
        )
    latent = jnp.arctanh(jnp.where(inside, value, 0))
    found = gaussian.log_prob(mean, log_std, latent) - _log_slope(latent)
    outside = jnp.where((size == 1).any(-1) & ~(size > 1).any(-1), -jnp.inf, jnp.nan)
    return jnp.where(inside.all(-1), found, outside)


def median(mean: Array) -> Array:
    """tanh(mean), the median of every dimension: what an actor does when it does not explore.

    It is not the mode: from a std of about 0.7 on there are two of those, towards the ends.

    Args:
      mean: (..., A), of the Gaussian before tanh.

    Returns:
      (..., A).

    >>> float(median(jnp.zeros(1))[0])
    0.0
    """
    checks.floating(mean=mean)
    return jnp.tanh(mean)


def entropy_estimate(key: Key, mean: Array, log_std: Array, *, count: int = 1024) -> Estimate:
    """Monte Carlo estimate of -E[log p(y)], with its standard error.

    The Gaussian's entropy is known, so only the correction E[sum log(1 - tanh^2 u)] is sampled.

    Args:
      key: consumed.
      mean, log_std: (..., A), of the Gaussian before tanh.
      count: draws, at least 2.

    Returns:
      `Estimate` of shape (...), nats.
    """
    found = estimate(_log_slope(gaussian.sample(key, mean, log_std, shape=(count,))))
    return found._replace(mean=gaussian.entropy(log_std) + found.mean)


def kl(mean_p: Array, log_std_p: Array, mean_q: Array, log_std_q: Array) -> Array:
    """KL(p || q) of two of them, exact: that of the Gaussians before tanh.

    Args:
      mean_p, log_std_p, mean_q, log_std_q: (..., A), all of one shape.

    Returns:
      (...) nats, at least 0.

    >>> float(kl(jnp.zeros(1), jnp.zeros(1), jnp.ones(1), jnp.zeros(1)))
    0.5
    """
    return gaussian.kl(mean_p, log_std_p, mean_q, log_std_q)


def _log_slope(latent: Array) -> Array:
    """sum_a log(1 - tanh^2 u_a) over the last axis."""
    return jnp.sum(2 * (math.log(2) - latent - jax.nn.softplus(-2 * latent)), axis=-1)
