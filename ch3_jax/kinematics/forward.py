r"""Forward kinematics: where the tip is, T_base_tip(q) = [ \prod_i O_i Motion(axis_i, q_i) ] O_tip.

`jax.jacfwd(forward)` is right and as cheap as the analytic Jacobian. What it returns is the derivative of a
pose, not the geometric Jacobian: with slope = jacfwd(forward)(q),

  linear part  = slope.position                      (3, J)
  angular part = vee(slope.rotation[..., j] R^T)     (3, J), column j,

which is `twist_of_slope`. The derivative of a rotation vector or of Euler angles is a third thing: it
differs from the angular velocity by the left Jacobian of the rotation (a median of 1 for the Panda).
"""

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array
from ch3_jax.kinematics import operators, rotations, transforms
from ch3_jax.kinematics.arm import Arm, check_q
from ch3_jax.kinematics.canonical import canonical
from ch3_jax.kinematics.shapes import concrete
from ch3_jax.kinematics.transforms import Pose


def forward(arm: Arm, q: Array) -> Pose:
    """The pose of the tip in the base frame.

    Args:
      arm: J coordinates.
      q: (..., J), rad or m, float32 or float64.

    Returns:
      Pose: rotation (..., 3, 3), position (..., 3), m.

    Raises:
      InputError: wrong length or, outside jit, NaN; beyond the limits warns.

    >>> from ch3_jax.kinematics.arm import load_arm
    >>> pose = forward(load_arm("planar2"), jnp.array([0.0, jnp.pi / 2]))  # one metre along x, then along y
    >>> [round(float(x), 5) + 0.0 for x in pose.position]
    [1.0, 1.0, 0.0]
    """
    check_q(arm, q)
    if not concrete(arm):
        return _general(arm, q)
    return Pose(*operators.pose(canonical(arm), moving(arm, q)))


def moving(arm: Arm, q: Array) -> Array:
    """The motion of all N joints from the J coordinates: ratio * q[source] + offset.

    Args:
      q: (..., J).

    Returns:
      (..., N).
    """
    q = jnp.asarray(q)
    if not arm.mimics:
        return q
    values = [
        arm.ratio[i].astype(q.dtype) * q[..., k] + arm.offset[i].astype(q.dtype)
        for i, k in enumerate(arm.source)
    ]
    return jnp.stack(values, -1)


def twist_of_slope(pose: Pose, slope: Pose) -> Array:
    """The geometric Jacobian from the derivative of the pose: (dp, vee(dR R^T)), base-aligned at the tip.

    Args:
      pose: forward(arm, q), rotation (..., 3, 3).
      slope: jax.jacfwd(forward)(q), rotation (..., 3, 3, J), position (..., 3, J).

    Returns:
      (..., 6, J), linear part first.
    """
    r = pose.rotation
    columns = []
    for j in range(slope.position.shape[-1]):
        columns.append(rotations.vee(rotations.compose(slope.rotation[..., j], rotations.inverse(r))))
    return jnp.concatenate([slope.position, jnp.stack(columns, -1)], -2)


def _general(arm: Arm, q: Array) -> Pose:
    """The same for an arm whose numbers are variables of the program; differentiable in all of them."""
    q = moving(arm, q)
    leading = q.shape[:-1]

    def constant(rotation, position) -> Pose:
        wide = (jnp.asarray(x, q.dtype) for x in (rotation, position))
        return Pose(*(jnp.broadcast_to(x, (*leading, *x.shape)) for x in wide))

    pose = constant(np.eye(3), np.zeros(3))
    for i, kind in enumerate(arm.kinds):
        axis = jnp.broadcast_to(jnp.asarray(arm.axis[i], q.dtype), (*leading, 3))
        pose = transforms.compose(pose, constant(arm.rotation[i], arm.position[i]))
        step = axis * q[..., i, None]
        still = constant(np.eye(3), np.zeros(3))
        motion = (
            Pose(still.rotation, step) if kind == "prismatic" else Pose(rotations.exp(step), still.position)
        )
        pose = transforms.compose(pose, motion)
    return transforms.compose(pose, constant(arm.rotation[-1], arm.position[-1]))


def general_jacobian(arm: Arm, q: Array) -> Array:
    """J (..., 6, J) of an arm whose numbers are variables, by differentiating the general chain."""

    def one(q):
        return twist_of_slope(_general(arm, q), jax.jacfwd(lambda q: _general(arm, q))(q))

    flat = jax.vmap(one)(q.reshape(-1, q.shape[-1]))
    return flat.reshape(*q.shape[:-1], *flat.shape[1:])
