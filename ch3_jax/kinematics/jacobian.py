r"""The manipulator Jacobian: how fast the tip moves for each joint, (v, w) = J(q) dq.

Three Jacobians share the name. Rows are linear then angular; what differs is the axes and the point:

| frame | axes of | velocity of | elsewhere |
| --- | --- | --- | --- |
| "aligned" | base | the tip | Pinocchio LOCAL_WORLD_ALIGNED, MuJoCo mj_jacSite, what most papers call J |
| "spatial" | base | the point of the arm passing the base's origin | Pinocchio WORLD, Modern Robotics J_s |
| "body" | tip | the tip | Pinocchio LOCAL, Modern Robotics J_b (which puts the angular rows first) |

  J_body = [R^T v, R^T w],     J_spatial = Ad(T_base_tip) J_body = [v + p x w, w].

The difference is not small: for a random Panda pose the first two differ by a median of 0.7.

References: Murray, Li and Sastry (1994), chapter 3; Yoshikawa (1985) for the manipulability.
"""

import jax
import jax.numpy as jnp

from ch3_jax.base import Array
from ch3_jax.kinematics import operators
from ch3_jax.kinematics.arm import Arm, check_q
from ch3_jax.kinematics.canonical import canonical
from ch3_jax.kinematics.forward import _general, general_jacobian, moving
from ch3_jax.kinematics.shapes import concrete
from ch3_jax.kinematics.transforms import Pose

FRAMES = ("aligned", "spatial", "body")
PARTS = {"all": slice(0, 6), "position": slice(0, 3), "orientation": slice(3, 6)}


def jacobian(arm: Arm, q: Array, frame: str = "aligned") -> Array:
    """The geometric Jacobian of the tip.

    Args:
      arm: J coordinates.
      q: (..., J), rad or m.
      frame: one of `FRAMES`.

    Returns:
      (..., 6, J): m/s and rad/s (of the tip) per rad/s or m/s (of the joint), linear rows first.

    Raises:
      InputError: wrong length or, outside jit, NaN.
      ValueError: unknown frame.

    >>> from ch3_jax.kinematics.arm import load_arm
    >>> j = jacobian(load_arm("planar2"), jnp.array([0.0, jnp.pi / 2]))  # the tip is at (1, 1, 0)
    >>> (j[:2].round(5) + 0.0).tolist()
    [[-1.0, -1.0], [1.0, 0.0]]
    """
    return pose_and_jacobian(arm, q, frame)[1] if frame != "aligned" else _aligned(arm, q)


def pose_and_jacobian(arm: Arm, q: Array, frame: str = "aligned") -> tuple[Pose, Array]:
    """The pose of the tip and the Jacobian in one pass; arguments as in `jacobian`."""
    check_q(arm, q)
    if frame not in FRAMES:
        raise ValueError(
            f"`frame` is {frame!r}, expected one of {', '.join(FRAMES)}; see the table of this file."
        )
    if concrete(arm):
        rotation, position, full = operators.pose_and_jacobian(canonical(arm), moving(arm, q))
        pose, j = Pose(rotation, position), _coordinates(arm, full)
    else:
        pose, j = _general(arm, jnp.asarray(q)), general_jacobian(arm, jnp.asarray(q))
    v, w = j[..., :3, :], j[..., 3:, :]
    if frame == "spatial":
        p = jnp.broadcast_to(pose.position[..., None], w.shape)
        v = v + operators._cross(p, w)
    elif frame == "body":
        v, w = (sum(pose.rotation[..., k, :, None] * x[..., None, k, :] for k in range(3)) for x in (v, w))
    return pose, jnp.concatenate([v, w], -2)


def jacobian_last(arm: Arm, q: Array, out: Array | None = None) -> Array:
    """The Jacobian of many samples with the samples last, the layout that a processor computes in.

    Given a donated `out` no memory is allocated, which above a few megabytes costs more than the Jacobians:

      step = jax.jit(lambda out, q: jacobian_last(arm, q, out), donate_argnums=0)
      out = step(out, q)

    Args:
      arm: without mimic joints, J coordinates.
      q: (J, B), rad or m.
      out: (6, J, B), overwritten; None allocates.

    Returns:
      (6, J, B), base-aligned at the tip, linear rows first.
    """
    shape = jnp.shape(q)
    if len(shape) != 2 or shape[0] != arm.dof or not concrete(arm) or arm.mimics:
        raise ValueError(
            f"`q` has shape {shape}, expected ({arm.dof}, B), of a constant arm without mimic joints."
        )
    check_q(arm, q.T if hasattr(q, "dtype") else q)
    shape = (6, *q.shape)
    if out is not None and (out.shape != shape or out.dtype != q.dtype):
        raise ValueError(f"`out` is {out.dtype}{out.shape}, expected {q.dtype}{shape}.")
    if q.shape[1] == 0:
        return jnp.zeros(shape, q.dtype)
    return operators.jacobian_into(canonical(arm), q, jax.lax.empty(shape, q.dtype) if out is None else out)


def singular_values(arm: Arm, q: Array, part: str = "all") -> Array:
    """Singular values of J, largest first; "all" mixes metres and radians, so name the part that you mean.

    Args:
      arm: J coordinates.
      q: (..., J).
      part: one of `PARTS`.

    Returns:
      (..., min(rows, J)), m or rad per rad; differentiable, also at a singularity.
    """
    return jnp.linalg.svd(_aligned(arm, q)[..., _rows(part), :], compute_uv=False)


def manipulability(arm: Arm, q: Array, part: str = "all") -> Array:
    """Yoshikawa's measure, the product of the singular values: sqrt(det(J J^T)), zero at a singularity.

    Args:
      arm: J coordinates.
      q: (..., J).
      part: one of `PARTS`.

    Returns:
      (...).
    """
    return jnp.prod(singular_values(arm, q, part), -1)


def _rows(part: str) -> slice:
    if part not in PARTS:
        raise ValueError(f"`part` is {part!r}, expected one of {', '.join(PARTS)}.")
    return PARTS[part]


def _aligned(arm: Arm, q: Array) -> Array:
    check_q(arm, q)
    if not concrete(arm):
        return general_jacobian(arm, jnp.asarray(q))
    return _coordinates(arm, operators.jacobian(canonical(arm), moving(arm, q)))


def _coordinates(arm: Arm, full: Array) -> Array:
    """Columns of the N moving joints summed into those of the J coordinates."""
    if not arm.mimics:
        return full
    columns = [jnp.zeros_like(full[..., 0])] * arm.dof
    for i, k in enumerate(arm.source):
        columns[k] = columns[k] + arm.ratio[i].astype(full.dtype) * full[..., i]
    return jnp.stack(columns, -1)
