r"""Unit quaternions in the order w, x, y, z: the half angle, and hence the way through pi.

  q = (w, v) = (cos(t/2), sin(t/2) axis),      q and -q are the same rotation.

Every function takes and returns `wxyz`, the order of MuJoCo, Eigen's constructor and jaxlie; ROS,
scipy and Pinocchio's vectors are `xyzw`, see `conventions`. The logarithm flips the sign to w >= 0 first:
without that 2 arccos(w) turns 0.2 rad into 6.083.

A quaternion whose length is off by more than 1e-3 is an error of the caller (wrong order, a mean of
two rotations, a scaled network output): outside jit it raises, inside jit, where nothing can
raise, it gives NaN. `normalize` is the explicit repair.

References: Shepperd (1978), "Quaternion from rotation matrix"; Sola (2017), arXiv 1711.02508.
"""

import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array
from ch3_jax.errors import InputError
from ch3_jax.kinematics.shapes import concrete, tails
from ch3_jax.kinematics.stumpff import stumpff

_WXYZ = ((4,), "a unit quaternion, w x y z")
TOLERANCE = 1e-3


def normalize(wxyz: Array) -> Array:
    """The unit quaternion in the direction of one of any length.

    Args:
      wxyz: (..., 4), not zero.

    Returns:
      (..., 4); NaN for the zero quaternion, which is no rotation.
    """
    tails(wxyz=(wxyz, *_WXYZ))
    largest = jnp.max(jnp.abs(wxyz), -1, keepdims=True)
    scaled = wxyz / jnp.where(largest > 0, largest, jnp.nan)
    return scaled / jnp.sqrt(jnp.sum(scaled * scaled, -1, keepdims=True))


def multiply(a: Array, b: Array) -> Array:
    """The Hamilton product: q_ac = q_ab q_bc.

    Args:
      a: (..., 4) wxyz.
      b: (..., 4) wxyz, same leading axes.

    Returns:
      (..., 4) wxyz.

    >>> i, j = jnp.array([0.0, 1.0, 0.0, 0.0]), jnp.array([0.0, 0.0, 1.0, 0.0])
    >>> multiply(i, j).tolist()
    [0.0, 0.0, 0.0, 1.0]
    """
    tails(a=(a, *_WXYZ), b=(b, *_WXYZ))
    aw, ax, ay, az = (a[..., k] for k in range(4))
    bw, bx, by, bz = (b[..., k] for k in range(4))
    return jnp.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )


def inverse(wxyz: Array) -> Array:
    """q_ba from q_ab, the conjugate.

    Args:
      wxyz: (..., 4).
    """
    tails(wxyz=(wxyz, *_WXYZ))
    return jnp.concatenate([wxyz[..., :1], -wxyz[..., 1:]], -1)


def exp(w: Array) -> Array:
    """The quaternion of a rotation vector: (c_0(x/4), c_1(x/4) w / 2), x = |w|^2.

    Args:
      w: (..., 3), rotation vector, rad.

    Returns:
      (..., 4) wxyz.
    """
    tails(w=(w, (3,), "a rotation vector, rad"))
    quarter = jnp.sum(w * w, -1, keepdims=True) / 4
    return jnp.concatenate([stumpff(0, quarter), stumpff(1, quarter) * w / 2], -1)


def log(wxyz: Array) -> Array:
    """The rotation vector of length at most pi; the inverse of `exp`, up to the sign of the quaternion.

      log(q) = 2 atan(|v| / w) v / |v|

    Args:
      wxyz: (..., 4), unit.

    Returns:
      (..., 3), rad.

    Raises:
      InputError: not unit length (NaN inside jit).
    """
    tails(wxyz=(wxyz, *_WXYZ))
    q = _upper(require_unit(wxyz))
    w, v = q[..., :1], q[..., 1:]
    squares = jnp.sum(v * v, -1, keepdims=True)
    return _two_atan_over(squares, w) * v


def angle(wxyz: Array) -> Array:
    """The angle of a rotation, in [0, pi]: 2 atan2(|v|, |w|).

    Args:
      wxyz: (..., 4), unit.

    Returns:
      (...) rad; the gradient at angle 0 does not exist and is given as zero.
    """
    tails(wxyz=(wxyz, *_WXYZ))
    q = _upper(require_unit(wxyz))
    squares = jnp.sum(q[..., 1:] ** 2, -1)
    positive = squares > 0
    length = jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1)), 0)
    return 2 * jnp.arctan2(length, q[..., 0])


def from_matrix(rotation: Array) -> Array:
    """The quaternion with w >= 0 of a rotation matrix, by the largest of the four components.

    Args:
      rotation: (..., 3, 3), a rotation matrix (orthonormal, determinant one).

    Returns:
      (..., 4) wxyz.
    """
    tails(rotation=(rotation, (3, 3), "a rotation matrix"))
    m = [[rotation[..., i, j] for j in range(3)] for i in range(3)]
    # Row k is 4 q_k q: with the largest q_k the divisor is at least 1, so no branch has a singular gradient.
    t = [
        1 + m[0][0] + m[1][1] + m[2][2],
        1 + m[0][0] - m[1][1] - m[2][2],
        1 - m[0][0] + m[1][1] - m[2][2],
        1 - m[0][0] - m[1][1] + m[2][2],
    ]
    a, b, c = m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1]
    d, e, f = m[1][0] + m[0][1], m[0][2] + m[2][0], m[2][1] + m[1][2]
    rows = [(t[0], a, b, c), (a, t[1], d, e), (b, d, t[2], f), (c, e, f, t[3])]
    best = jnp.argmax(jnp.stack(t), 0)[..., None]
    row = jnp.stack(rows[0], -1)
    for k in (1, 2, 3):
        row = jnp.where(best == k, jnp.stack(rows[k], -1), row)
    return _upper(row / jnp.sqrt(jnp.sum(row * row, -1, keepdims=True)))


def to_matrix(wxyz: Array) -> Array:
    """The rotation matrix of a unit quaternion.

    Args:
      wxyz: (..., 4), unit.

    Returns:
      (..., 3, 3).

    Raises:
      InputError: not unit length (NaN inside jit).
    """
    tails(wxyz=(wxyz, *_WXYZ))
    w, x, y, z = (require_unit(wxyz)[..., k] for k in range(4))
    # Divided by the squared length: a rounding error of the length then costs nothing.
    s = 2 / (w * w + x * x + y * y + z * z)
    rows = (
        (1 - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y)),
        (s * (x * y + w * z), 1 - s * (x * x + z * z), s * (y * z - w * x)),
        (s * (x * z - w * y), s * (y * z + w * x), 1 - s * (x * x + y * y)),
    )
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)


def require_unit(wxyz: Array) -> Array:
    """The quaternion itself when its length is 1 within 1e-3; otherwise an error, or NaN inside jit.

    Args:
      wxyz: (..., 4).

    Raises:
      InputError: names the worst length.
    """
    if concrete(wxyz):
        lengths = np.linalg.norm(np.asarray(wxyz, np.float64), axis=-1)
        wrong = ~(np.abs(lengths - 1) <= TOLERANCE)
        if wrong.any():
            raise InputError(
                f"{int(wrong.sum())} of {lengths.size} quaternions are not of unit length.",
                got=f"length {np.ravel(lengths)[np.argmax(np.ravel(wrong))]:.6g}",
                expected=f"length 1 within {TOLERANCE}",
                cause="a mean of rotations, a network output, or other numbers in this place",
                fix="ch3_jax.kinematics.quaternions.normalize, if the direction is what you mean",
            )
    squares = jnp.sum(wxyz * wxyz, -1, keepdims=True)
    return jnp.where(jnp.abs(squares - 1) < 2.1 * TOLERANCE, wxyz, jnp.nan)


def _upper(wxyz: Array) -> Array:
    return jnp.where(wxyz[..., :1] < 0, -wxyz, wxyz)


def _two_atan_over(squares: Array, w: Array) -> Array:
    """2 atan(|v| / w) / |v| with |v|^2 = squares and w >= 0, smooth in both at |v| = 0."""
    near = squares < 0.04 * w * w
    ratio = jnp.where(near, squares, 0) / jnp.where(near, w * w, 1)
    series = jnp.zeros_like(ratio)
    for k in reversed(range(12)):  # 0.04^12 / 25 < 1e-18
        series = 1 / (2 * k + 1) - ratio * series
    length = jnp.sqrt(jnp.where(near, 1, squares))
    far = 2 * jnp.arctan2(length, jnp.where(near, 1, w)) / length
    return jnp.where(near, 2 * series / jnp.where(near, w, 1), far)
