"""URDF and MJCF files: by hand, against Pinocchio and MuJoCo, and everything that is refused."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.kinematics.arm import load_arm
from ch3_jax.kinematics.forward import forward
from ch3_jax.kinematics.jacobian import pose_and_jacobian
from ch3_jax.kinematics.urdf import read_arm

pytestmark = pytest.mark.filterwarnings("ignore:.*outside the limits:UserWarning")

LIMIT = '<limit lower="-1" upper="2" velocity="3" effort="4"/>'
URDF = f"""<?xml version="1.0"?>
<robot name="toy">
  <link name="base"/><link name="a"/><link name="b"/><link name="c"/><link name="hand"/><link name="finger"/>
  <joint name="turn" type="revolute"><parent link="base"/><child link="a"/>
    <origin xyz="0 0 1" rpy="0 0 0"/><axis xyz="0 0 2"/>{LIMIT}</joint>
  <joint name="slide" type="prismatic"><parent link="a"/><child link="b"/>
    <origin xyz="1 0 0" rpy="0 1.5707963267948966 0"/><axis xyz="0 0 1"/>{LIMIT}</joint>
  <joint name="fix" type="fixed"><parent link="b"/><child link="c"/><origin xyz="0 0 0.5"/></joint>
  <joint name="spin" type="continuous"><parent link="c"/><child link="hand"/><axis xyz="0 0 1"/></joint>
  <joint name="grip" type="prismatic"><parent link="hand"/><child link="finger"/><axis xyz="0 0 1"/>{LIMIT}
    <mimic joint="slide" multiplier="-0.5" offset="0.25"/></joint>
</robot>"""
MJCF = """<mujoco model="toy">
  <compiler angle="degree" eulerseq="xyz"/>
  <default><joint axis="0 0 1"/><default class="slow"><joint range="-90 90"/></default></default>
  <worldbody>
    <body name="base" pos="0 0 1">
      <body name="a" childclass="slow">
        <joint name="turn"/>
        <body name="b" pos="1 0 0" euler="0 90 0">
          <joint name="slide" type="slide" range="-1 1" class="main"/>
          <joint name="swing" axis="0 1 0" pos="0 0.1 0.2" ref="10"/>
          <site name="tip" pos="0 0 0.5" quat="0.5 0.5 0.5 0.5"/>
        </body>
      </body>
    </body>
  </worldbody>
</mujoco>"""


@pytest.fixture
def write(tmp_path):
    def to(text: str, name: str = "robot.xml") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return to


def test_a_toy_by_hand(write):
    arm = read_arm(write(URDF), "finger")
    assert arm.joints == ("turn", "slide", "spin") and arm.kinds == (
        "revolute",
        "prismatic",
        "revolute",
        "prismatic",
    )
    assert (
        arm.source == (0, 1, 2, 1)
        and arm.ratio.tolist() == [1, 1, 1, -0.5]
        and arm.offset.tolist() == [0, 0, 0, 0.25]
    )
    assert arm.lower.tolist() == [-1, -1, -np.inf] and arm.velocity[0] == 3 and arm.base == "base"
    # turned by 90 degrees, the slide runs along y: 1 + (0.4 + 0.5) out, and the finger 0.25 - 0.2 more
    pose = forward(arm, jnp.array([np.pi / 2, 0.4, 0.3], jnp.float32))
    np.testing.assert_allclose(pose.position, [0, 1.95, 1], atol=3e-7)
    j = pose_and_jacobian(arm, jnp.array([np.pi / 2, 0.4, 0.3], jnp.float32))[1]
    np.testing.assert_allclose(j[:3], [[-1.95, 0, 0], [0, 0.5, 0], [0, 0, 0]], atol=5e-7)
    shorter = read_arm(write(URDF), "c", base="a")
    assert shorter.joints == ("slide",) and shorter.base == "a"


def test_an_mjcf_by_hand(write):
    arm = read_arm(write(MJCF), "tip")
    assert arm.joints == ("turn", "slide", "swing")
    np.testing.assert_allclose(arm.lower, [-np.pi / 2, -1, -np.pi / 2])
    # degrees, and `ref`: the model stands as drawn at swing = 10 degrees
    pose = forward(arm, jnp.array([0, 0.25, np.pi / 18], jnp.float32))
    np.testing.assert_allclose(pose.position, [1.75, 0, 1], atol=3e-7)


BAD = {
    "entities": ('<!DOCTYPE r [<!ENTITY a "b">]><robot name="&a;"/>', "entity"),
    "billion laughs": (
        '<!DOCTYPE r [<!ENTITY a "b"><!ENTITY c "&a;&a;">]><robot>&c;</robot>',
        "document type",
    ),
    "no xml": ("hello", "well-formed"),
    "empty": ("", "well-formed"),
    "cut short": (URDF[:400], "well-formed"),
    "another root": ("<sdf/>", "neither URDF nor MJCF"),
    "no such tip": (URDF.replace("finger", "thumb"), "no tip named 'finger'"),
    "no limits": (URDF.replace(LIMIT, "", 1), "'turn' has no limits"),
    "limits the wrong way": (URDF.replace('lower="-1"', 'lower="5"', 1), "wrong way round"),
    "two parents": (
        URDF.replace(
            "</robot>",
            '<joint name="x" type="fixed"><parent link="base"/><child link="finger"/></joint></robot>',
        ),
        "closes a loop",
    ),
    "a ring": (
        URDF.replace(
            "</robot>",
            '<joint name="x" type="fixed"><parent link="finger"/><child link="base"/></joint></robot>',
        ),
        "form a loop",
    ),
    "floating": (URDF.replace('"continuous"', '"floating"'), "'floating'"),
    "words": (URDF.replace('xyz="0 0 1" rpy', 'xyz="0 zero 1" rpy'), "3 finite numbers"),
    "NaN": (URDF.replace('xyz="0 0 1" rpy', 'xyz="0 nan 1" rpy'), "3 finite numbers"),
    "zero axis": (URDF.replace('xyz="0 0 2"', 'xyz="0 0 0"'), "length zero"),
    "mimics nobody": (URDF.replace('mimic joint="slide"', 'mimic joint="ghost"'), "mimics 'ghost'"),
    "mimics itself": (URDF.replace('mimic joint="slide"', 'mimic joint="grip"'), "mimics 'grip'"),
    "include": ('<mujoco><include file="/etc/passwd"/></mujoco>', "<include>"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused(write, case):
    text, words = BAD[case]
    with pytest.raises(ValueError, match=words):
        read_arm(write(text), "finger")


def test_refused_by_size_or_absence(write, tmp_path):
    path = write("<robot/>")
    with path.open("ab") as file:
        file.truncate(100_000_000)  # sparse: 100 MB without writing them
    with pytest.raises(ValueError, match="too large"):
        read_arm(path, "x")
    with pytest.raises(ValueError, match="not there"):
        read_arm(tmp_path / "absent.urdf", "x")
    with pytest.raises(ValueError, match="not above"):
        read_arm(write(URDF), "c", base="finger")
    with pytest.raises(ValueError, match="nothing moves"):
        read_arm(write(URDF), "base")


def installed(package: str, inside: str) -> str:
    """A file that ships in an installed package, or a skip."""
    found = importlib.util.find_spec(package)
    if found is None:
        pytest.skip(f"{package} is not installed")
    path = Path(found.submodule_search_locations[0]) / inside
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return str(path)


ROBOTS = (
    "../../../../share/example-robot-data/robots/"  # from the package pinocchio, in the prefix of its wheels
)
FILES = {
    "iiwa": ("frax", "assets/iiwa/iiwa14.urdf", "iiwa_link_7", None),
    "ur10": ("pinocchio", ROBOTS + "ur_description/urdf/ur10_robot.urdf", "tool0", None),
    "kinova": (
        "pinocchio",
        ROBOTS + "kinova_description/robots/kinova.urdf",
        "j2s6s200_end_effector",
        None,
    ),
    "xarm7": ("pinocchio", ROBOTS + "xarm_description/urdf/xarm7.urdf", "link7", "xarm7"),
    "panda": ("pinocchio", ROBOTS + "panda_description/urdf/panda.urdf", "panda_link8", "panda"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("count", (20, pytest.param(10_000, marks=pytest.mark.slow)))
def test_urdf_against_pinocchio(name, count):
    pin = pytest.importorskip("pinocchio")
    package, inside, tip, table = FILES[name]
    path = installed(package, inside)
    arm = read_arm(path, tip)
    model = pin.buildModelFromUrdf(path)
    data, frame = model.createData(), model.getFrameId(tip)
    joints = [model.joints[model.getJointId(joint)] for joint in arm.joints]
    q = np.random.default_rng(0).uniform(-3, 3, (count, arm.dof)).astype(np.float32)
    got32 = pose_and_jacobian(arm, jnp.asarray(q))
    with jax.enable_x64(True):
        got = jax.tree.map(np.asarray, pose_and_jacobian(arm, jnp.asarray(q, jnp.float64)))
        if table:
            same = forward(load_arm(table), jnp.asarray(q, jnp.float64))
            rounding = 2e-5 if name == "xarm7" else 1e-13  # that file writes a quarter turn as 1.5708
            np.testing.assert_allclose(same.position, got[0].position, atol=rounding)
            np.testing.assert_allclose(same.rotation, got[0].rotation, atol=rounding)
    for k in range(count):
        theirs = pin.neutral(model)
        for joint, value in zip(joints, q[k].astype(np.float64), strict=True):
            theirs[joint.idx_q : joint.idx_q + joint.nq] = (
                value if joint.nq == 1 else (np.cos(value), np.sin(value))
            )
        j = pin.computeFrameJacobian(model, data, theirs, frame, pin.LOCAL_WORLD_ALIGNED)[
            :, [x.idx_v for x in joints]
        ]
        pin.framesForwardKinematics(model, data, theirs)
        place = data.oMf[frame]
        assert np.abs(got[0].position[k] - place.translation).max() < 1e-13
        assert np.abs(got[0].rotation[k] - place.rotation).max() < 1e-13
        assert np.abs(got[1][k] - j).max() < 1e-13
        assert np.abs(np.asarray(got32[0].position[k]) - place.translation).max() < 1e-6
        scale = max(1.0, np.abs(j).max())
        assert np.abs(np.asarray(got32[1][k]) - j).max() < 5e-7 * scale


def against_mujoco(path: str, tip: str, count: int, prefix: str | None = None) -> None:
    mujoco = pytest.importorskip("mujoco")
    arm = read_arm(path, tip)
    try:
        model = mujoco.MjModel.from_xml_path(path)
    except ValueError as error:
        pytest.skip(f"MuJoCo does not load it: {error}")
    data = mujoco.MjData(model)
    site = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, tip)
    body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, tip)
    ids = [mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, joint) for joint in arm.joints]
    q = np.random.default_rng(0).uniform(-1, 1, (count, arm.dof))
    with jax.enable_x64(True):
        pose, j = jax.tree.map(np.asarray, pose_and_jacobian(arm, jnp.asarray(q, jnp.float64)))
    for k in range(count):
        data.qpos[:] = 0
        data.qpos[model.jnt_qposadr[ids]] = q[k]
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        linear, angular = np.zeros((3, model.nv)), np.zeros((3, model.nv))
        (mujoco.mj_jacSite if site >= 0 else mujoco.mj_jacBody)(
            model, data, linear, angular, site if site >= 0 else body
        )
        position = data.site_xpos[site] if site >= 0 else data.xpos[body]
        rotation = (data.site_xmat[site] if site >= 0 else data.xmat[body]).reshape(3, 3)
        columns = model.jnt_dofadr[ids]
        np.testing.assert_allclose(pose.position[k], position, atol=1e-13)
        np.testing.assert_allclose(pose.rotation[k], rotation, atol=1e-13)
        np.testing.assert_allclose(j[k], np.concatenate([linear, angular])[:, columns], atol=1e-13)


def test_the_toy_against_mujoco(write):
    against_mujoco(str(write(MJCF)), "tip", 20)


def test_mimic_and_orientations_against_mujoco(write):
    spelled = MJCF.replace(
        "</worldbody>",
        """<body name="p" xyaxes="0 1 0 -1 0 1"><joint name="p1" type="hinge" axis="1 2 3"/>
           <frame pos="0.1 0 0" axisangle="1 1 0 30"><body name="r" pos="0 .3 0" zaxis="1 1 1">
           <joint name="p2" type="hinge" axis="0 1 0"/><body name="s" pos="0 0 .2" euler="10 20 30"/></body>
           </frame></body></worldbody>""",
    ).replace('eulerseq="xyz"', 'eulerseq="zYx"')
    against_mujoco(str(write(spelled)), "s", 20)
    tied = spelled.replace(
        "</mujoco>", '<equality><joint joint1="p2" joint2="p1" polycoef="0.1 2 0 0 0"/></equality></mujoco>'
    )
    arm = read_arm(write(tied), "s")
    assert arm.joints == ("p1",) and arm.ratio.tolist() == [1, 2] and arm.offset.tolist() == [0, 0.1]


@pytest.mark.parametrize("robot", ("iiwa", "kinova3", "ur5e", "xarm7", "panda"))
def test_mjcf_of_robosuite_against_mujoco(robot):
    path = installed("robosuite", f"models/assets/robots/{robot}/robot.xml")
    against_mujoco(path, "right_hand", 20)
