"""ALOHA's cube transfer in gym-aloha, by state: the right arm picks a cube up and hands it to the left.

    observation (21) = [6 joints, gripper] left, the same right, pose of the cube
    action (14)      = [6 joint angles, gripper] left, the same right; gripper 0 closed .. 1 open; at 50 Hz

gym-aloha renders three cameras at every step, also for those who do not look, and gives no state; here
its own physics, task and reward are driven without pictures. Its action space says [-1, 1], its actions are
absolute angles beyond that: nothing is clipped. Reward 4 - the left finger touches the cube, the cube does
not touch the table - is success. 400 steps, as ACT has it (gym-aloha registers 300).
"""

import numpy as np

from ch3_jax.data.episodes import Dataset
from ch3_jax.evaluation.simulators.eye import open_eye
from ch3_jax.evaluation.simulators.task import Seen, Task, World

RATE_HZ, STEPS, SUCCESS = 50.0, 400, 4
_JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")
ARMS = tuple(f"{side}_{joint}" for side in ("left", "right") for joint in _JOINTS)
_CUBE = tuple(f"cube_{part}" for part in ("x", "y", "z", "qw", "qx", "qy", "qz"))
_UNITS = (*("rad",) * 6, "1") * 2


def make(ends: bool = True) -> World:
    """One environment.

    Args:
      ends: whether an episode ends with its success; demonstrations go on to their last step.
    """
    from dm_control import mujoco
    from dm_control.rl import control
    from gym_aloha.constants import ASSETS_DIR, DT
    from gym_aloha.tasks import sim
    from gym_aloha.utils import sample_box_pose

    class Blind(sim.TransferCubeTask):
        def get_observation(self, physics):
            return {"state": np.concatenate([self.get_qpos(physics), self.get_env_state(physics)])}

    physics = mujoco.Physics.from_xml_path(str(ASSETS_DIR / "bimanual_viperx_transfer_cube.xml"))
    env = control.Environment(physics, Blind(), float("inf"), control_timestep=DT)
    look, shut = open_eye(physics.model.ptr, physics.data.ptr, "angle")
    left = [0]

    def reset(seed: int) -> tuple[np.ndarray, dict]:
        sim.BOX_POSE[0] = sample_box_pose(seed)  # a global of gym-aloha, read by the reset that follows
        left[0] = STEPS
        return np.array(env.reset().observation["state"]), {}

    def step(action: np.ndarray) -> Seen:
        if left[0] <= 0:
            raise RuntimeError("the episode has ended; reset first")
        left[0] -= 1
        told = env.step(np.asarray(action, np.float64))
        reward = float(told.reward)
        success = reward == SUCCESS
        return Seen(
            np.array(told.observation["state"]), reward, reward / SUCCESS, success,
            success and ends, left[0] == 0, {},
        )  # fmt: skip

    def close() -> None:
        shut()
        env.close()

    return World(reset, step, look, close)


def demonstrate(episodes: int, seed: int) -> tuple[Dataset, int]:
    """Successful episodes of the expert; as `Task.demonstrate`."""
    from ch3_jax.evaluation.simulators import aloha_expert  # compiles; a driven world has no use for it

    return aloha_expert.demonstrate(episodes, seed)


TRANSFER_CUBE = Task(
    name="aloha:transfer_cube",
    packages=("gym_aloha", "dm_control", "mujoco"),
    observation_names=(*ARMS, *_CUBE),
    action_names=ARMS,
    observation_units=(*_UNITS, "m", "m", "m", "1", "1", "1", "1"),
    action_units=_UNITS,
    action_meaning="absolute joint position, gripper 0 closed to 1 open",
    rate_hz=RATE_HZ,
    steps=STEPS,
    bounds=None,
    held=False,
    score="largest reward of the episode, in quarters",
    make=make,
    parallel=10,
    demonstrate=demonstrate,
)
