r"""Rigid transforms and their twists.

A pose T = (R, p) maps coordinates in the moving frame to the fixed one, x_a = R_ab x_b + p_ab. A twist is
six numbers, LINEAR FIRST, then angular (Pinocchio's order; Modern Robotics puts the angular part first, see
`conventions.swap_twist`), and

  exp(v, w) = (exp(w), J_l(w) v),     log(R, p) = (J_l(w)^{-1} p, w) with w = log(R),
  Ad(R, p)  = [[R, [p] R], [0, R]]    maps a twist seen in the moving frame to the fixed one.

References: Barfoot, State Estimation for Robotics (2017), equations 7.86-7.95; Murray, Li and Sastry (1994).
"""

from typing import NamedTuple

import jax.numpy as jnp

from ch3_jax.base import Array
from ch3_jax.kinematics import rotations
from ch3_jax.kinematics.rotations import apply as rotate
from ch3_jax.kinematics.rotations import hat
from ch3_jax.kinematics.shapes import tails
from ch3_jax.kinematics.stumpff import stumpff

_TWIST = ((6,), "a twist, linear part first")


class Pose(NamedTuple):
    """A rigid transform.

    Attributes:
      rotation: (..., 3, 3), R_ab.
      position: (..., 3), the origin of frame b in frame a, m.
    """

    rotation: Array
    position: Array


def identity(dtype=jnp.float32) -> Pose:
    """The pose that moves nothing."""
    return Pose(jnp.eye(3, dtype=dtype), jnp.zeros(3, dtype))


def compose(a: Pose, b: Pose) -> Pose:
    """T_ac = T_ab T_bc = (R_ab R_bc, R_ab p_bc + p_ab).

    Args:
      a: T_ab.
      b: T_bc, same leading axes.

    Returns:
      T_ac.
    """
    _check(a, "a")
    _check(b, "b")
    return Pose(rotations.compose(a.rotation, b.rotation), rotate(a.rotation, b.position) + a.position)


def inverse(pose: Pose) -> Pose:
    """T_ba from T_ab: (R^T, -R^T p)."""
    _check(pose, "pose")
    back = rotations.inverse(pose.rotation)
    return Pose(back, -rotate(back, pose.position))


def apply(pose: Pose, point: Array) -> Array:
    """The point in the fixed frame, x_a = R_ab x_b + p_ab.

    Args:
      pose: T_ab.
      point: (..., 3), m, in frame b.

    Returns:
      (..., 3), m, in frame a.
    """
    _check(pose, "pose")
    return rotate(pose.rotation, point) + pose.position


def exp(twist: Array) -> Pose:
    """The pose reached by a constant twist in unit time.

    Args:
      twist: (..., 6), linear part (m) first, then the rotation vector (rad).

    Returns:
      Pose.

    >>> pose = exp(jnp.array([0.0, 0.0, 0.0, 0.0, 0.0, jnp.pi / 2]))
    >>> (apply(pose, jnp.array([1.0, 0.0, 0.0])).round(6) + 0.0).tolist()
    [0.0, 1.0, 0.0]
    """
    tails(twist=(twist, *_TWIST))
    v, w = twist[..., :3], twist[..., 3:]
    return Pose(rotations.exp(w), rotate(rotations.left_jacobian(w), v))


def log(pose: Pose) -> Array:
    """The twist whose exponential is the pose, angle at most pi; the inverse of `exp`.

    Args:
      pose: T_ab.

    Returns:
      (..., 6), linear part first.
    """
    _check(pose, "pose")
    w = rotations.log(pose.rotation)
    return jnp.concatenate([rotate(rotations.left_jacobian_inverse(w), pose.position), w], -1)


def adjoint(pose: Pose) -> Array:
    """Ad(T_ab): maps a twist expressed in frame b to frame a, linear part first.

      Ad = [[R, [p] R], [0, R]]

    Args:
      pose: T_ab.

    Returns:
      (..., 6, 6).
    """
    _check(pose, "pose")
    r = pose.rotation
    return _blocks(r, rotations.compose(hat(pose.position), r), jnp.zeros_like(r), r)


def left_jacobian(twist: Array) -> Array:
    """J_l of the exponential: maps the rate of the twist coordinates to the spatial twist, linear first.

      J_l = [[J, Q], [0, J]],  J = rotations.left_jacobian(w)
      Q   = V/2 + c_3 (W V + V W + W V W) + c_4 (W W V + V W W - 3 W V W)
            + (c_4 - 3 c_5)/2 (W V W W + W W V W),      V = [v], W = [w]

    Args:
      twist: (..., 6), linear part first.

    Returns:
      (..., 6, 6).

    References: Barfoot (2017), equation 7.86b.
    """
    tails(twist=(twist, *_TWIST))
    v, w = hat(twist[..., :3]), hat(twist[..., 3:])
    x = jnp.sum(jnp.square(twist[..., 3:]), -1)[..., None, None]
    mul = rotations.compose
    wv, vw = mul(w, v), mul(v, w)
    wvw = mul(wv, w)
    q = v / 2 + stumpff(3, x) * (wv + vw + wvw) + stumpff(4, x) * (mul(w, wv) + mul(vw, w) - 3 * wvw)
    q = q + (stumpff(4, x) - 3 * stumpff(5, x)) / 2 * (mul(wvw, w) + mul(w, wvw))
    j = rotations.left_jacobian(twist[..., 3:])
    return _blocks(j, q, jnp.zeros_like(j), j)


def to_matrix(pose: Pose) -> Array:
    """The homogeneous (..., 4, 4) matrix of a pose."""
    _check(pose, "pose")
    top = jnp.concatenate([pose.rotation, pose.position[..., None]], -1)
    last = jnp.broadcast_to(jnp.array([0, 0, 0, 1], top.dtype), (*top.shape[:-2], 1, 4))
    return jnp.concatenate([top, last], -2)


def from_matrix(matrix: Array) -> Pose:
    """The pose of a homogeneous (..., 4, 4) matrix."""
    tails(matrix=(matrix, (4, 4), "a homogeneous transform"))
    return Pose(matrix[..., :3, :3], matrix[..., :3, 3])


def _check(pose: Pose, name: str) -> None:
    tails(
        **{
            f"{name}.rotation": (pose.rotation, (3, 3), "a rotation matrix"),
            f"{name}.position": (pose.position, (3,), "a position, m"),
        }
    )


def _blocks(a: Array, b: Array, c: Array, d: Array) -> Array:
    return jnp.concatenate([jnp.concatenate([a, b], -1), jnp.concatenate([c, d], -1)], -2)
