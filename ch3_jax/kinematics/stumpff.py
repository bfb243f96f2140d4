r"""Stumpff functions: every trigonometric coefficient of a rotation, without a singularity at zero.

The exponential of a rotation vector, its left Jacobian and the Jacobian of a rigid transform are
polynomials in the skew matrix with coefficients such as sin(t)/t, (1 - cos t)/t^2 and
(t - sin t)/t^3. All of them are members of one family in x = t^2,

  c_k(x) = \sum_j (-x)^j / (2j + k)!,      c_0 = cos t,  c_1 = sin(t)/t,  c_2 = (1 - cos t)/t^2, ...
  c_{k+2}(x) = (1/k! - c_k(x)) / x,        d c_k / dx = (k c_{k+2} - c_{k+1}) / 2,

which is entire: as functions of x, not of t, the value and every derivative are smooth at zero. Where x is
small the series is summed (the closed form cancels there, in float32 fatally), elsewhere the recursion is
used. The derivative is another member of the family, at every order, so no branch is ever differentiated.

References: Stumpff, Himmelsmechanik (1959); the switch is where both branches keep full precision.
"""

import functools
import math

import jax
import jax.numpy as jnp

from ch3_jax.base import Array


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def stumpff(k: int, x: Array) -> Array:
    """c_k(x) for x >= 0.

    Args:
      k: 0 or more.
      x: any shape, floating point, the squared angle, rad^2.

    Returns:
      c_k(x), shape and dtype of `x`; its gradient is finite everywhere, zero included.

    >>> value, slope = jax.value_and_grad(lambda x: stumpff(3, x))(0.0)
    >>> round(float(value) * 6, 6), round(float(slope) * -120, 6)
    (1.0, 1.0)
    """
    x = jnp.asarray(x)
    double = x.dtype == jnp.float64
    # From k = 4 on the series is well conditioned up to a whole turn, and the recursion is not.
    switch, terms = (4.0, 14 if double else 9) if k < 4 else (40.0, 22 if double else 16)
    near = x < switch
    series = _series(k, jnp.where(near, x, 0), terms)
    return jnp.where(near, series, _closed(k, jnp.where(near, switch, x)))


@stumpff.defjvp
def _stumpff_jvp(k, primals, tangents):
    (x,), (dx,) = primals, tangents
    slope = -stumpff(k + 1, x) if k == 0 else k * stumpff(k + 2, x) - stumpff(k + 1, x)
    return stumpff(k, x), slope * dx / 2


def _series(k: int, x: Array, terms: int) -> Array:
    total = jnp.full_like(x, 1 / math.factorial(2 * terms + k))
    for j in reversed(range(terms)):
        total = 1 / math.factorial(2 * j + k) - x * total
    return total


def _closed(k: int, x: Array) -> Array:
    if k == 0:
        return jnp.cos(jnp.sqrt(x))
    if k == 1:
        return jnp.sin(jnp.sqrt(x)) / jnp.sqrt(x)
    return (1 / math.factorial(k - 2) - _closed(k - 2, x)) / x
