"""The cube transfer: our inverse kinematics against MuJoCo's forward ones, and the task itself."""

import os

import numpy as np
import pytest

from ch3_jax.evaluation.simulators import aloha, aloha_expert
from ch3_jax.evaluation.simulators.task import INSTALL

os.environ.setdefault("MUJOCO_GL", "egl")  # dm_control looks for a display when it is imported
pytestmark = pytest.mark.slow  # compiles for eight seconds
CUBES = np.array([[0.05, 0.45, 0.05], [0.15, 0.55, 0.05]])


@pytest.fixture(scope="module")
def actions():
    return aloha_expert.plan(CUBES)


def test_the_plan_is_smooth_and_within_the_joints(actions):
    assert actions.shape == (2, 400, 14)
    joints = actions[..., [*range(6), *range(7, 13)]]
    # No branch is changed: only forearm roll and wrist turn fast, together, at the wrist's singularity.
    moved = np.abs(np.diff(joints, axis=1))
    assert moved[..., [0, 1, 2, 4, 6, 7, 8, 10]].max() < 0.08
    assert moved.max() < 0.3
    assert np.abs(joints).max() <= np.pi
    grippers = actions[..., [6, 13]]
    assert grippers.min() == 0 and grippers.max() == 1


def test_grippers_by_hand(actions):
    """Right: open at 90, still open at 130, closed at 170, open at 310; half open at 45."""
    right = actions[0, :, 13]
    np.testing.assert_allclose(right[[44, 89, 129, 169, 219, 309]], [0.5, 1, 1, 0, 0, 1])
    np.testing.assert_allclose(actions[0, [49, 99, 259, 284, 309], 6], [0.5, 1, 1, 0.5, 0])


@pytest.fixture(scope="module")
def world():
    pytest.importorskip("gym_aloha", reason=INSTALL)
    world = aloha.make()
    yield world
    world.close()


def test_the_joints_bring_mujocos_grippers_to_the_waypoints(actions, world):
    """An independent model of the arms: gripper_link and 0.135 m along its x axis."""
    from dm_control import mujoco
    from gym_aloha.constants import ASSETS_DIR

    physics = mujoco.Physics.from_xml_path(str(ASSETS_DIR / "bimanual_viperx_transfer_cube.xml"))

    def tools(action):
        physics.data.qpos[:6], physics.data.qpos[8:14] = action[:6], action[7:13]
        physics.forward()
        for side in ("left", "right"):
            turn = physics.named.data.xmat[f"vx300s_{side}/gripper_link"].reshape(3, 3)
            yield physics.named.data.xpos[f"vx300s_{side}/gripper_link"] + 0.135 * turn[:, 0], turn

    for cube, action in zip(CUBES, actions, strict=True):
        for side, points in aloha_expert.waypoints(cube).items():
            for point in points[1:]:
                found, turn = dict(zip(("left", "right"), tools(action[point.step - 1]), strict=True))[side]
                np.testing.assert_allclose(found, point.position, atol=2e-3)
                if side == "right":  # 60 degrees down, looking against x
                    np.testing.assert_allclose(turn[:, 0], [-0.5, 0, -np.sqrt(0.75)], atol=0.02)


def test_a_seed_is_a_cube_and_nothing_is_drawn_on_the_way(world):
    first = world.reset(5)[0]
    assert first.shape == (len(aloha.TRANSFER_CUBE.observation_names),)
    np.testing.assert_array_equal(first, world.reset(5)[0])
    draw = np.random.RandomState(5).uniform([0.0, 0.4, 0.05], [0.2, 0.6, 0.05])
    np.testing.assert_allclose(first[14:17], draw, atol=1e-12)
    np.testing.assert_allclose(first[:6], [0, -0.96, 1.16, 0, -0.3, 0])


def test_the_expert_hands_the_cube_over(world):
    """Two of two, and with the cube carried at the height of the meeting when the left finger touches it."""
    cubes = np.stack([world.reset(seed)[0][14:17] for seed in (0, 1)])
    for seed, action in zip((0, 1), aloha_expert.plan(cubes), strict=True):
        world.reset(seed)
        seen = []
        for a in action:
            seen.append(world.step(a))
            if seen[-1].terminated:
                break
        assert seen[-1].success and seen[-1].score == 1.0 and 200 < len(seen) < 300
        assert 0.15 < seen[-1].observation[16] < 0.3
    with pytest.raises(RuntimeError, match="ended"):
        for _ in range(aloha.STEPS + 1):
            world.step(action[-1])
