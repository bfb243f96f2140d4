r"""Mixtures of Gaussians: several answers to one observation, each with its own spread.

  p(x) = \sum_m w_m N(x; \mu_m, \sigma_m),    w = softmax(logits)

One choice of m is made for all A dimensions together: a policy that goes left or right must not go left in
one joint and right in another. Everything is done in logarithms; a component far from x underflows to -inf
in its own term and leaves the sum alone.

There is no closed form for entropy or KL, so they are Monte Carlo estimates and named so.

References:
  Bishop 1994, Mixture density networks. Mandlekar et al. 2021, arXiv:2108.03298 (BC-GMM, robomimic).
  Hershey and Olsen 2007, Approximating the Kullback Leibler divergence between Gaussian mixture models.
"""

import jax
import jax.numpy as jnp

from ch3_jax import checks
from ch3_jax.base import Array, Key
from ch3_jax.probability import gaussian
from ch3_jax.probability.monte_carlo import Estimate, estimate


def sample(key: Key, logits: Array, mean: Array, log_std: Array, *, shape: tuple[int, ...] = ()) -> Array:
    """Draws a component, then from it. Not differentiable in the weights.

    Args:
      key: consumed.
      logits: (..., M) unnormalised log-weights.
      mean: (..., M, A).
      log_std: (..., M, A).
      shape: of independent draws in front.

    Returns:
      (*shape, ..., A).

    Raises:
      ValueError: shapes that would broadcast. TypeError: integers.

    >>> sample(jax.random.key(0), jnp.zeros((4, 3)), jnp.zeros((4, 3, 2)), jnp.zeros((4, 3, 2))).shape
    (4, 2)
    """
    _check(logits, mean, log_std)
    of_component, of_noise = jax.random.split(key)
    component = jax.random.categorical(of_component, logits, shape=(*shape, *logits.shape[:-1]))
    ahead = (None,) * len(shape)
    chosen = component[..., None, None]
    mean, log_std = (jnp.take_along_axis(x[ahead], chosen, -2)[..., 0, :] for x in (mean, log_std))
    return gaussian.sample(of_noise, mean, log_std)


def log_prob(logits: Array, mean: Array, log_std: Array, value: Array) -> Array:
    """Log-density of whole events.

    Args:
      logits: (..., M) unnormalised log-weights.
      mean: (..., M, A).
      log_std: (..., M, A).
      value: (..., A).

    Returns:
      (...) nats, joint over A.

    Raises:
      ValueError: shapes that would broadcast. TypeError: integers.

    >>> one = log_prob(jnp.zeros(1), jnp.zeros((1, 2)), jnp.zeros((1, 2)), jnp.ones(2))
    >>> round(float(one), 4)  # a single component: -1 - log 2 pi
    -2.8379
    """
    _check(logits, mean, log_std, value=value)
    each = gaussian.log_prob(mean, log_std, jnp.broadcast_to(value[..., None, :], mean.shape))
    return jax.nn.logsumexp(jax.nn.log_softmax(logits) + each, axis=-1)


def mean(logits: Array, mean: Array) -> Array:
    """Expectation, sum_m w_m mu_m: what a squared error would have learned, between the modes.

    Args:
      logits: (..., M).
      mean: (..., M, A).

    Returns:
      (..., A).
    """
    checks.floating(logits=logits, mean=mean)
    checks.shapes(logits=(logits, "... M"), mean=(mean, "... M A"))
    return jnp.sum(jax.nn.softmax(logits)[..., None] * mean, axis=-2)


def mode(logits: Array, mean: Array, log_std: Array) -> Array:
    """The component mean where the mixture's density is greatest.

    Exact for components that do not overlap. Where they do, the true mode lies near it, on no component's
    mean. The heaviest component is not always it: a wide one has a low density.

    Args:
      logits: (..., M).
      mean: (..., M, A).
      log_std: (..., M, A).

    Returns:
      (..., A).

    Raises:
      ValueError: shapes that would broadcast. TypeError: integers.

    >>> mode(jnp.array([0.0, 1.0]), jnp.array([[-1.0], [1.0]]), jnp.full((2, 1), -2.0)).tolist()
    [1.0]
    """
    _check(logits, mean, log_std)
    components = logits.shape[-1]
    # Axis -1 of `density` is the component whose mean is looked at.
    density = jnp.stack([log_prob(logits, mean, log_std, mean[..., m, :]) for m in range(components)], -1)
    best = jnp.argmax(density, axis=-1)[..., None, None]
    return jnp.take_along_axis(mean, best, axis=-2)[..., 0, :]


def entropy_estimate(key: Key, logits: Array, mean: Array, log_std: Array, *, count: int = 1024) -> Estimate:
    """Monte Carlo estimate of -E[log p(x)], with its standard error.

    Args:
      key: consumed.
      logits, mean, log_std: as in `log_prob`.
      count: draws, at least 2.

    Returns:
      `Estimate` of shape (...), nats.
    """
    values = sample(key, logits, mean, log_std, shape=(count,))
    return estimate(-jax.vmap(log_prob, (None, None, None, 0))(logits, mean, log_std, values))


def kl_estimate(
    key: Key,
    p: tuple[Array, Array, Array],
    q: tuple[Array, Array, Array],
    *,
    count: int = 1024,
) -> Estimate:
    """Monte Carlo estimate of KL(p || q) = E_p[log p(x) - log q(x)], with its standard error.

    Args:
      key: consumed.
      p: (logits, mean, log_std) to draw from.
      q: (logits, mean, log_std); its number of components may differ.
      count: draws, at least 2.

    Returns:
      `Estimate` of shape (...), nats. A single estimate may be below 0; KL is not.
    """
    values = sample(key, *p, shape=(count,))
    ours, theirs = (jax.vmap(log_prob, (None, None, None, 0))(*law, values) for law in (p, q))
    return estimate(ours - theirs)


def _check(logits: Array, mean: Array, log_std: Array, **value: Array) -> None:
    checks.floating(logits=logits, mean=mean, log_std=log_std, **value)
    checks.shapes(
        logits=(logits, "... M"),
        mean=(mean, "... M A"),
        log_std=(log_std, "... M A"),
        **{name: (array, "... A") for name, array in value.items()},
    )
