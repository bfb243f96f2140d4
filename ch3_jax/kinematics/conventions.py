r"""The orders that people mix up, each named: quaternions, pose vectors, twists, Euler angles.

Nothing in this package guesses an order. Here are the translations:

| what | this package | elsewhere |
| --- | --- | --- |
| quaternion | wxyz (MuJoCo, jaxlie) | xyzw (ROS, scipy, Pinocchio, PyBullet) |
| pose vector | named in the call, one of `POSE_ORDERS` | |
| twist | linear, angular (Pinocchio, MuJoCo's jacp/jacr) | angular, linear (Modern Robotics) |
| Euler angles | "xyz" fixed axes (URDF's rpy), "XYZ" moving axes, as in scipy | |

Fixed-axis "xyz" angles (a, b, c) mean R = R_z(c) R_y(b) R_x(a); moving-axis "ZYX" angles (c, b, a) mean
the same rotation. Bridge's `state` and every URDF use the first.
"""

import math

import jax.numpy as jnp

from ch3_jax.base import Array
from ch3_jax.kinematics import quaternions, rotations
from ch3_jax.kinematics.shapes import tails
from ch3_jax.kinematics.transforms import Pose

POSE_ORDERS = ("position_wxyz", "position_xyzw", "wxyz_position", "xyzw_position")


def wxyz_from_xyzw(xyzw: Array) -> Array:
    """Scalar last to scalar first, (..., 4).

    >>> wxyz_from_xyzw(jnp.array([1.0, 2.0, 3.0, 4.0])).tolist()
    [4.0, 1.0, 2.0, 3.0]
    """
    tails(xyzw=(xyzw, (4,), "a quaternion, x y z w"))
    return jnp.roll(xyzw, 1, -1)


def xyzw_from_wxyz(wxyz: Array) -> Array:
    """Scalar first to scalar last, (..., 4)."""
    tails(wxyz=(wxyz, (4,), "a quaternion, w x y z"))
    return jnp.roll(wxyz, -1, -1)


def swap_twist(twist: Array) -> Array:
    """(linear, angular) to (angular, linear), or back: the same swap. (..., 6)."""
    tails(twist=(twist, (6,), "a twist"))
    return jnp.roll(twist, 3, -1)


def pose_from_vector(vector: Array, order: str) -> Pose:
    """The pose of seven numbers in a named order.

    Args:
      vector: (..., 7), position in m and a unit quaternion.
      order: one of `POSE_ORDERS`; there is no default, because there is no standard.

    Returns:
      Pose.

    Raises:
      ValueError: unknown order.
      InputError: the quaternion is not unit: often the sign that the order is another.
    """
    tails(vector=(vector, (7,), "a position and a quaternion"))
    first, second = _parts(order)
    cut = 3 if first == "position" else 4
    parts = {first: vector[..., :cut], second: vector[..., cut:]}
    position = parts.pop("position")
    ((name, quaternion),) = parts.items()
    wxyz = quaternion if name == "wxyz" else wxyz_from_xyzw(quaternion)
    return Pose(quaternions.to_matrix(wxyz), position)


def vector_from_pose(pose: Pose, order: str) -> Array:
    """Seven numbers in a named order, w >= 0; the inverse of `pose_from_vector`."""
    wxyz = quaternions.from_matrix(pose.rotation)
    parts = {"position": pose.position, "wxyz": wxyz, "xyzw": xyzw_from_wxyz(wxyz)}
    return jnp.concatenate([parts[name] for name in _parts(order)], -1)


def from_euler(angles: Array, order: str) -> Array:
    """The rotation matrix of three Euler angles.

    Args:
      angles: (..., 3), rad, in the order named.
      order: three of x, y, z; lower case about fixed axes, upper case about moving axes, as in scipy.

    Returns:
      (..., 3, 3).
    """
    tails(angles=(angles, (3,), "Euler angles, rad"))
    axes, fixed = _axes(order)
    zero = jnp.zeros_like(angles[..., 0])
    turns = []
    for k, axis in enumerate(axes):
        turns.append(rotations.exp(jnp.stack([angles[..., k] if j == axis else zero for j in range(3)], -1)))
    if fixed:
        turns.reverse()
    return rotations.compose(rotations.compose(turns[0], turns[1]), turns[2])


def to_euler(rotation: Array, order: str) -> Array:
    """Euler angles of a rotation matrix; the inverse of `from_euler`.

    Where the middle angle locks two axes together the angles are not unique and not differentiable:
    the one of the third turn is then given as zero, and the gradient there is not finite.

    Args:
      rotation: (..., 3, 3).
      order: as in `from_euler`.

    Returns:
      (..., 3) rad; the middle one in [-pi/2, pi/2], or [0, pi] when the first and last axis are the same.
    """
    tails(rotation=(rotation, (3, 3), "a rotation matrix"))
    axes, fixed = _axes(order)
    if fixed:  # fixed axes in one order are moving axes in the other
        return to_euler(rotation, order[::-1].upper())[..., ::-1]
    i, j = axes[0], axes[1]
    k = 3 - i - j
    sign = 1.0 if (j - i) % 3 == 1 else -1.0
    m = rotation
    if axes[2] == i:
        across = jnp.hypot(m[..., j, i], m[..., k, i])
        middle = jnp.arctan2(across, m[..., i, i])
        first = jnp.arctan2(m[..., j, i], -sign * m[..., k, i])
        last = jnp.arctan2(m[..., i, j], sign * m[..., i, k])
        locked = jnp.arctan2(sign * m[..., k, j], m[..., j, j])
    else:
        across = jnp.hypot(m[..., i, i], m[..., i, j])
        middle = jnp.arctan2(sign * m[..., i, k], across)
        first = jnp.arctan2(-sign * m[..., j, k], m[..., k, k])
        last = jnp.arctan2(-sign * m[..., i, j], m[..., i, i])
        locked = jnp.arctan2(sign * m[..., k, j], m[..., j, j])
    lock = across < 8 * jnp.finfo(m.dtype).eps
    return jnp.stack([jnp.where(lock, locked, first), middle, jnp.where(lock, 0, last)], -1)


def degrees(angles: Array) -> Array:
    """Radians to degrees, for people; nothing in this package takes degrees."""
    return angles * (180 / math.pi)


def _parts(order: str) -> list[str]:
    if order not in POSE_ORDERS:
        raise ValueError(f"`order` is {order!r}, expected one of {', '.join(POSE_ORDERS)}.")
    return order.split("_")


def _axes(order: str) -> tuple[list[int], bool]:
    """Axis numbers and whether they are fixed."""
    fixed = order.islower()
    axes = ["xyz".find(letter) for letter in order.lower()]
    wrong = len(axes) != 3 or -1 in axes or not (fixed or order.isupper())
    if wrong or axes[0] == axes[1] or axes[1] == axes[2]:
        raise ValueError(
            f"`order` is {order!r}, expected three axes such as 'xyz' (fixed) or 'ZYX' (moving), "
            "no axis twice in a row, one case throughout."
        )
    return axes, fixed
