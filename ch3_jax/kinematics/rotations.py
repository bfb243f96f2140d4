r"""Rotations as 3x3 matrices and rotation vectors, exact through zero and pi, without a matrix product.

A rotation vector w = angle * axis (rad) and its matrix are tied by

  exp(w) = c_0 I + c_1 [w] + c_2 w w^T,       c_k = c_k(|w|^2), the Stumpff functions,
  d exp(w) = [J_l(w) dw] exp(w),              J_l(w) = I + c_2 [w] + c_3 [w]^2.

The derivative of a rotation vector is therefore not the angular velocity: J_l maps one to the other.
Products are written as multiply-adds: a batched 3x3 matrix product runs on bfloat16 or TF32 units
by default on TPUs and GPUs (a millimetre at the tip of an arm), and is slow on a CPU.

All matrices map coordinates in the moving frame to the fixed one, R = R_fixed_moving, and act on
column vectors from the left. `log` goes through the quaternion, the one route that keeps the axis near pi.

References: Barfoot, State Estimation for Robotics (2017), section 7.1; Zhou et al. (2019), arXiv 1812.07035.
"""

import jax.numpy as jnp

from ch3_jax.base import Array
from ch3_jax.kinematics import quaternions
from ch3_jax.kinematics.shapes import tails
from ch3_jax.kinematics.stumpff import stumpff

_MATRIX = ((3, 3), "a rotation matrix")
_VECTOR = ((3,), "a rotation vector, rad")


def hat(w: Array) -> Array:
    """The skew matrix of the cross product, [w] u = w x u.

    Args:
      w: (..., 3).

    Returns:
      (..., 3, 3).

    >>> hat(jnp.array([1.0, 2.0, 3.0])).tolist()
    [[0.0, -3.0, 2.0], [3.0, 0.0, -1.0], [-2.0, 1.0, 0.0]]
    """
    tails(w=(w, (3,), "a vector"))
    x, y, z = w[..., 0], w[..., 1], w[..., 2]
    zero = jnp.zeros_like(x)
    rows = ((zero, -z, y), (z, zero, -x), (-y, x, zero))
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)


def vee(matrix: Array) -> Array:
    """The vector of the skew part of a matrix; the inverse of `hat`.

    Args:
      matrix: (..., 3, 3).

    Returns:
      (..., 3).
    """
    tails(matrix=(matrix, (3, 3), "a skew matrix"))
    m = matrix
    return (
        jnp.stack([m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]], -1)
        / 2
    )


def compose(a: Array, b: Array) -> Array:
    """The product a b by multiply-adds in the dtype of the arguments: R_ac = R_ab R_bc.

    Args:
      a: (..., 3, 3), R_ab.
      b: (..., 3, 3), R_bc, same leading axes.

    Returns:
      (..., 3, 3), R_ac.
    """
    tails(a=(a, *_MATRIX), b=(b, *_MATRIX))
    return sum(
        (a[..., :, k, None] * b[..., None, k, :] for k in (1, 2)), a[..., :, 0, None] * b[..., None, 0, :]
    )


def apply(rotation: Array, vector: Array) -> Array:
    """The vector in the fixed frame: u_a = R_ab u_b.

    Args:
      rotation: (..., 3, 3), R_ab.
      vector: (..., 3), in frame b, same leading axes.

    Returns:
      (..., 3), in frame a.
    """
    tails(rotation=(rotation, *_MATRIX), vector=(vector, (3,), "a vector"))
    return sum(
        (rotation[..., k] * vector[..., k, None] for k in (1, 2)), rotation[..., 0] * vector[..., 0, None]
    )


def inverse(rotation: Array) -> Array:
    """R_ba from R_ab, the transpose.

    Args:
      rotation: (..., 3, 3).
    """
    tails(rotation=(rotation, *_MATRIX))
    return jnp.swapaxes(rotation, -1, -2)


def exp(w: Array) -> Array:
    """The rotation by |w| about w.

      exp(w) = c_0 I + c_1 [w] + c_2 w w^T

    Args:
      w: (..., 3), rotation vector, rad, any length.

    Returns:
      (..., 3, 3), rotation matrix.

    >>> (exp(jnp.array([0.0, 0.0, jnp.pi / 2])).round(6) + 0.0).tolist()
    [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    tails(w=(w, *_VECTOR))
    x = jnp.sum(w * w, -1)[..., None, None]
    outer = w[..., :, None] * w[..., None, :]
    return stumpff(0, x) * _identity(w) + stumpff(1, x) * hat(w) + stumpff(2, x) * outer


def log(rotation: Array) -> Array:
    """The rotation vector of length at most pi; the inverse of `exp`.

    Exactly at pi both signs are right and one is returned; the gradient is that of the branch returned.

    Args:
      rotation: (..., 3, 3), a rotation matrix.

    Returns:
      (..., 3), rad.
    """
    return quaternions.log(quaternions.from_matrix(rotation))


def angle(rotation: Array) -> Array:
    """The angle of a rotation, in [0, pi], accurate at both ends (the arc cosine of the trace is not).

    Args:
      rotation: (..., 3, 3).

    Returns:
      (...) rad; the gradient at angle 0 does not exist and is given as zero.
    """
    return quaternions.angle(quaternions.from_matrix(rotation))


def left_jacobian(w: Array) -> Array:
    """J_l(w): maps the rate of the rotation vector to the angular velocity in the fixed frame.

      J_l(w) = I + c_2 [w] + c_3 [w]^2

    The right Jacobian (angular velocity in the moving frame) is J_l(-w) = J_l(w)^T.

    Args:
      w: (..., 3), rotation vector, rad.

    Returns:
      (..., 3, 3).
    """
    tails(w=(w, *_VECTOR))
    x = jnp.sum(w * w, -1)[..., None, None]
    # [w]^2 = w w^T - x I, and 1 - x c_3 = c_1: no square of a skew matrix is needed.
    outer = w[..., :, None] * w[..., None, :]
    return stumpff(1, x) * _identity(w) + stumpff(2, x) * hat(w) + stumpff(3, x) * outer


def left_jacobian_inverse(w: Array) -> Array:
    """The inverse of `left_jacobian`, finite for |w| < 2 pi.

      J_l(w)^{-1} = I - [w]/2 + d(|w|^2) [w]^2,    d(t^2) = (1 - (t/2) cot(t/2)) / t^2

    Args:
      w: (..., 3), rotation vector, rad, shorter than 2 pi.

    Returns:
      (..., 3, 3).
    """
    tails(w=(w, *_VECTOR))
    x = jnp.sum(w * w, -1)[..., None, None]
    # d written with Stumpff functions: c_1(x/4) - c_0(x/4) = (x/4) (c_2 - c_3)(x/4) has no cancellation.
    quarter = x / 4
    d = (stumpff(2, quarter) - stumpff(3, quarter)) / (4 * stumpff(1, quarter))
    outer = w[..., :, None] * w[..., None, :]
    return (1 - x * d) * _identity(w) - hat(w) / 2 + d * outer


def from_6d(columns: Array) -> Array:
    """The rotation nearest in the Gram-Schmidt sense to two vectors, its first two COLUMNS.

    Other libraries stack the first two rows instead; transpose with `inverse` there.

    Args:
      columns: (..., 6), first column then second; any length, not parallel.

    Returns:
      (..., 3, 3); NaN where the vectors are zero or parallel.

    References: Zhou et al. (2019), arXiv 1812.07035, equation 15.
    """
    tails(columns=(columns, (6,), "two columns of a rotation, one after the other"))
    x = _unit(columns[..., :3])
    y = _unit(columns[..., 3:])
    parallel = jnp.sum(jnp.square(jnp.cross(x, y)), -1, keepdims=True) < 1e-8
    # Twice: one pass of Gram-Schmidt leaves an error of one rounding over the sine of the angle.
    for _ in range(2):
        y = _unit(jnp.where(parallel, jnp.nan, y - jnp.sum(x * y, -1, keepdims=True) * x))
    return jnp.stack([x, y, jnp.cross(x, y)], -1)


def to_6d(rotation: Array) -> Array:
    """The first two columns of a rotation, one after the other; the inverse of `from_6d`.

    Args:
      rotation: (..., 3, 3).

    Returns:
      (..., 6).
    """
    tails(rotation=(rotation, *_MATRIX))
    return jnp.concatenate([rotation[..., 0], rotation[..., 1]], -1)


def _identity(w: Array) -> Array:
    return jnp.broadcast_to(jnp.eye(3, dtype=w.dtype), (*w.shape[:-1], 3, 3))


def _unit(v: Array) -> Array:
    """v / |v|, scaled first so that tiny and huge vectors neither vanish nor overflow; NaN for zero."""
    largest = jnp.max(jnp.abs(v), -1, keepdims=True)
    scaled = v / jnp.where(largest > 0, largest, jnp.nan)
    return scaled / jnp.sqrt(jnp.sum(scaled * scaled, -1, keepdims=True))
