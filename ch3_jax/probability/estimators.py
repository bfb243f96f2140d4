r"""Two gradients of one expectation, \nabla_\theta E_{x \sim p_\theta}[f(x)].

  score function     E[ (f(x) - b) \nabla_\theta \log p_\theta(x) ]        f may be anything: a reward, a step
  reparameterised    E[ \nabla_\theta f(x(\theta, n)) ],  n ~ N(0, 1)      f must be differentiable

Both are unbiased. What differs is the variance. For x ~ N(\mu, \sigma^2) and f(x) = x^2 the gradient in \mu
is 2\mu, and one sample of it has variance

  reparameterised  4 \sigma^2,
  score function   \mu^4 / \sigma^2 + 14 \mu^2 + 15 \sigma^2    with b = 0,

7.5 times as much at \mu = \sigma = 1, and without bound as \sigma goes to 0. That is why reinforcement
learning wants baselines, and why SAC differentiates through its sample.

References: Williams 1992, REINFORCE; Kingma and Welling 2014, arXiv:1312.6114, section 2.4; Mohamed et al.
  2020, Monte Carlo gradient estimation in machine learning, JMLR 21.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ch3_jax.base import Array, Key, Params
from ch3_jax.probability.monte_carlo import Estimate, estimate, require_count


def score_function(
    key: Key,
    sample: Callable[[Key, Params], Any],
    log_prob: Callable[[Params, Any], Array],
    f: Callable[[Any], Array],
    params: Params,
    *,
    count: int,
    baseline: Array | float = 0.0,
) -> Estimate:
    """The gradient of E[f(x)] from log-probabilities alone.

    Args:
      key: consumed.
      sample: (key, params) -> x; nothing is differentiated through it.
      log_prob: (params, x) -> ().
      f: x -> (), not differentiated.
      params: a tree of arrays.
      count: N, at least 2.
      baseline: b, anything that does not depend on the sample.

    Returns:
      `Estimate` of trees like `params`.

    Raises:
      InputError: a count under 2.
    """

    def one(k: Key) -> Params:
        x = jax.lax.stop_gradient(sample(k, params))
        advantage = jax.lax.stop_gradient(f(x) - baseline)
        return jax.grad(lambda p: advantage * log_prob(p, x))(params)

    return _over_draws(key, one, count)


def reparameterised(
    key: Key,
    sample: Callable[[Key, Params], Any],
    f: Callable[[Any], Array],
    params: Params,
    *,
    count: int,
) -> Estimate:
    """The gradient of E[f(x)] through the sample.

    Args:
      key: consumed.
      sample: (key, params) -> x, differentiable in params.
      f: x -> (), differentiable.
      params: a tree of arrays.
      count: N, at least 2.

    Returns:
      `Estimate` of trees like `params`.

    Raises:
      InputError: a count under 2.
    """
    return _over_draws(key, lambda k: jax.grad(lambda p: f(sample(k, p)))(params), count)


def variance_ratio(noisy: Estimate, quiet: Estimate) -> Params:
    """How many times as many samples the first estimator needs for the error of the second.

    Args:
      noisy, quiet: of the same gradient from equally many samples.

    Returns:
      A tree like the gradient: squared ratios of the standard errors.

    >>> float(variance_ratio(Estimate(0.0, jnp.array(3.0)), Estimate(0.0, jnp.array(1.0))))
    9.0
    """
    return jax.tree.map(lambda a, b: jnp.square(a / b), noisy.standard_error, quiet.standard_error)


def _over_draws(key: Key, one: Callable[[Key], Params], count: int) -> Estimate:
    require_count("count", count)
    gradients = jax.vmap(one)(jax.random.split(key, count))
    both = jax.tree.map(estimate, gradients)
    return Estimate(*(jax.tree.map(lambda g, i=i: g[i], both, is_leaf=_is_estimate) for i in range(2)))


def _is_estimate(x: Any) -> bool:
    return isinstance(x, Estimate)
