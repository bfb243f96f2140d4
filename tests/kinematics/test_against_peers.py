"""Poses and Jacobians against Pinocchio and MuJoCo: always a few frozen numbers, ten thousand where they are
installed.

`pinocchio_reference.json` was written once by Pinocchio 4.1.0 in float64: three configurations per arm, drawn
uniformly within the limits, by `framesForwardKinematics` and `computeFrameJacobian`, LOCAL_WORLD_ALIGNED.
The Panda's model there is the URDF of example-robot-data 6.0.0 (tip panda_link8), a source of its own; the
other five were given the joint placements of `third_party/arms`, so they check the kinematics and not the
table. Files from other packages are in test_urdf.py.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ch3_jax.kinematics.arm import arm_names, load_arm
from ch3_jax.kinematics.jacobian import pose_and_jacobian

pytestmark = pytest.mark.filterwarnings("ignore:.*outside the limits:UserWarning")
REFERENCE = json.loads((Path(__file__).parent / "pinocchio_reference.json").read_text())
COUNT = 10_000


@pytest.mark.parametrize("name", REFERENCE)
def test_frozen_numbers_of_pinocchio(name):
    assert set(REFERENCE) == set(arm_names())
    arm = load_arm(name)
    q, position, rotation, jacobian = (
        np.array([row[key] for row in REFERENCE[name]]) for key in ("q", "position", "rotation", "jacobian")
    )
    with jax.enable_x64(True):
        pose, j = pose_and_jacobian(arm, jnp.asarray(q))
    np.testing.assert_allclose(pose.position, position, atol=1e-13)
    np.testing.assert_allclose(pose.rotation, rotation, atol=1e-13)
    np.testing.assert_allclose(j, jacobian, atol=1e-13)


def random_q(arm) -> np.ndarray:
    """Numbers that float32 can hold, so that both precisions are given the same configuration."""
    low, high = np.maximum(arm.lower, -np.pi), np.minimum(arm.upper, np.pi)
    return np.random.default_rng(1).uniform(low, high, (COUNT, arm.dof)).astype(np.float32)


def compare(arm, q: np.ndarray, position, rotation, jacobian) -> None:
    """Position under 1e-6 m and J under 5e-7 in float32, everything under 1e-13 in float64."""
    with jax.enable_x64(True):
        pose, j = jax.tree.map(np.asarray, pose_and_jacobian(arm, jnp.asarray(q, jnp.float64)))
    for got, exact in ((pose.position, position), (pose.rotation, rotation), (j, jacobian)):
        assert np.abs(got - exact).max() < 1e-13
    pose, j = jax.tree.map(np.asarray, pose_and_jacobian(arm, jnp.asarray(q)))
    assert np.abs(pose.position - position).max() < 1e-6
    assert np.abs(j - jacobian).max() < 5e-7 * max(1.0, np.abs(jacobian).max() / 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", arm_names())
def test_ten_thousand_against_pinocchio(name):
    pin = pytest.importorskip("pinocchio", reason="pip install -r third_party/requirements.txt")
    arm, model, parent = load_arm(name), pin.Model(), 0
    for i in range(arm.dof):
        place = pin.SE3(arm.rotation[i], arm.position[i])
        parent = model.addJoint(parent, pin.JointModelRevoluteUnaligned(arm.axis[i]), place, f"joint{i}")
    last = pin.SE3(arm.rotation[-1], arm.position[-1])
    tip = model.addFrame(pin.Frame("tip", parent, 0, last, pin.FrameType.OP_FRAME))
    data, q = model.createData(), random_q(arm)
    position, rotation = np.empty((COUNT, 3)), np.empty((COUNT, 3, 3))
    jacobian = np.empty((COUNT, 6, arm.dof))
    for k, x in enumerate(q.astype(np.float64)):
        jacobian[k] = pin.computeFrameJacobian(model, data, x, tip, pin.LOCAL_WORLD_ALIGNED)
        pin.framesForwardKinematics(model, data, x)
        position[k], rotation[k] = data.oMf[tip].translation, data.oMf[tip].rotation
    compare(arm, q, position, rotation, jacobian)


def mjcf(arm) -> str:
    """The arm as a model of MuJoCo, its tip a site."""

    def words(values):
        return " ".join(repr(float(x)) for x in values)

    def place(i):
        wxyz = np.roll(Rotation.from_matrix(arm.rotation[i]).as_quat(), 1)
        return f'pos="{words(arm.position[i])}" quat="{words(wxyz)}"'

    inner = f'<site name="tip" {place(arm.dof)}/>'
    for i in reversed(range(arm.dof)):
        inner = (
            f'<body {place(i)}><inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/>'
            f'<joint name="joint{i}" axis="{words(arm.axis[i])}"/>{inner}</body>'
        )
    return f"<mujoco><worldbody>{inner}</worldbody></mujoco>"


@pytest.mark.slow
@pytest.mark.parametrize("name", arm_names())
def test_ten_thousand_against_mujoco(name):
    mujoco = pytest.importorskip("mujoco", reason="pip install -r third_party/requirements.txt")
    arm = load_arm(name)
    model = mujoco.MjModel.from_xml_string(mjcf(arm))
    data, q = mujoco.MjData(model), random_q(arm)
    site = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, "tip")
    position, rotation = np.empty((COUNT, 3)), np.empty((COUNT, 3, 3))
    jacobian = np.empty((COUNT, 6, arm.dof))
    for k, x in enumerate(q):
        data.qpos[:] = x
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_jacSite(model, data, jacobian[k, :3], jacobian[k, 3:], site)
        position[k], rotation[k] = data.site_xpos[site], data.site_xmat[site].reshape(3, 3)
    compare(arm, q, position, rotation, jacobian)
