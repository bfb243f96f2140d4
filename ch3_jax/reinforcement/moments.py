r"""Running mean and variance on the device, of observations and of returns.

  \delta = \bar x_b - m,   m <- m + \delta n_b / (n + n_b),
  v <- (n v + n_b v_b + \delta^2 n n_b / (n + n_b)) / (n + n_b)

Observations are standardised by them, rewards divided by the deviation of the discounted return so far, which
keeps value targets near 1 whatever the reward's unit. They belong to the checkpoint: a policy that is served
with other moments is another policy.

Reference: Chan, Golub and LeVeque 1983, eq. 2.1, as in `data.moments`; Engstrom et al. 2020, arXiv:2005.12729
(what these two do for PPO).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ch3_jax.base import Array
from ch3_jax.numerics import in_front

FARTHEST = 10.0  # deviations from the mean, beyond which an observation is clipped
_NOTHING = 1e-4  # of a sample, so that the first block decides


class Moments(NamedTuple):
    """() count, mean and variance of any shape, float32."""

    count: Array
    mean: Array
    variance: Array


def start(shape: tuple[int, ...] = ()) -> Moments:
    """Mean 0 and variance 1 of almost no samples."""
    return Moments(jnp.float32(_NOTHING), jnp.zeros(shape, jnp.float32), jnp.ones(shape, jnp.float32))


def join(moments: Moments, x: Array, axis: str | None = None) -> Moments:
    """The moments with a block (..., *shape) of samples more, of one device or of all along `axis`.

    >>> joined = join(start(), jnp.array([1.0, 3.0]))
    >>> round(float(joined.mean), 2), round(float(joined.variance), 2)
    (2.0, 1.0)
    """
    axes = tuple(range(x.ndim - moments.mean.ndim))
    fresh = jnp.float32(x.size / max(moments.mean.size, 1))
    mean, variance = jnp.mean(x, axes), jnp.var(x, axes)
    if axis is not None:
        # Parts of one size: the whole's variance is the mean variance and the variance of the means.
        own, mean = mean, jax.lax.pmean(mean, axis)
        variance = jax.lax.pmean(variance + jnp.square(own - mean), axis)
        fresh = fresh * jax.lax.axis_size(axis)
    count = moments.count + fresh
    delta, share = mean - moments.mean, fresh / count
    between = jnp.square(delta) * share * (moments.count / count)
    return Moments(
        count,
        moments.mean + delta * share,
        moments.variance + (variance - moments.variance) * share + between,
    )


def standardise(moments: Moments, x: Array) -> Array:
    """(x - mean) / deviation, within `FARTHEST`."""
    mean, deviation = moments.mean, jnp.sqrt(moments.variance + 1e-8)
    return jnp.clip((x - in_front(mean, x.ndim)) / in_front(deviation, x.ndim), -FARTHEST, FARTHEST)
