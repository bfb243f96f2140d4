r"""Expectations by sampling, and how far off they may be.

  E[f(x)]  \approx  \bar f = \frac1N \sum_i f(x_i),    standard error  s / \sqrt N

with s the sample standard deviation (N - 1 in the denominator). The error falls with the square root of N
only: one more digit costs a hundred times the samples, and that is the bottleneck of policy gradients.

Reference: Owen 2013, Monte Carlo theory, methods and examples, chapter 2.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ch3_jax import checks
from ch3_jax.base import Array, Key
from ch3_jax.errors import InputError


class Estimate(NamedTuple):
    """A number known from samples.

    Attributes:
      mean: (...) the estimate.
      standard_error: (...) its standard deviation over repetitions of the experiment, estimated.
    """

    mean: Array
    standard_error: Array


def estimate(values: Array) -> Estimate:
    """Mean over the first axis with its standard error.

    Args:
      values: (N, ...) independent values of f, N at least 2.

    Returns:
      `Estimate` of shape (...).

    Raises:
      InputError: fewer than two values. TypeError: integers.

    >>> estimate(jnp.array([1.0, 3.0]))  # s = sqrt 2, over sqrt 2
    Estimate(mean=Array(2., dtype=float32), standard_error=Array(1., dtype=float32))
    """
    checks.floating(values=values)
    count = values.shape[0] if values.ndim else 0
    require_count("values", count)
    return Estimate(jnp.mean(values, axis=0), jnp.std(values, axis=0, ddof=1) / count**0.5)


def expectation(
    key: Key, sample: Callable[[Key], Array], f: Callable[[Array], Array], count: int
) -> Estimate:
    """E[f(x)] from `count` draws.

    Args:
      key: consumed.
      sample: key -> one draw x.
      f: x -> (...).
      count: N, at least 2.

    Returns:
      `Estimate` of shape (...).

    Raises:
      InputError: a count under 2.

    >>> second = expectation(jax.random.key(0), jax.random.normal, jnp.square, 10_000)  # E[n^2] = 1
    >>> bool(abs(second.mean - 1) < 4 * second.standard_error)
    True
    """
    require_count("count", count)
    return estimate(jax.vmap(lambda k: f(sample(k)))(jax.random.split(key, count)))


def require_count(name: str, count: int) -> None:
    """Refuses fewer than two draws: one value has no spread."""
    if count < 2:
        raise InputError(
            f"`{name}` gives no standard error",
            got=f"{count} draws",
            expected="2 or more along the first axis",
            cause="a single sample, or samples along another axis",
            fix="draw 1,000 or more: the error falls with the square root of the number",
        )
