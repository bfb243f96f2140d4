r"""ALOHA's scripted expert with inverse kinematics of our own: two tools' waypoints, followed by two arms.

The waypoints are those of ACT's script: the right tool goes above the cube, down, closes, and carries it to
where the arms meet; the left tool waits there, closes, and takes it away. Between waypoints positions go
straight and rotations turn about one axis. ACT follows them with a gripper welded to a moving frame; here
each step is damped least squares from the step before,

  q <- clip(q + J^T (J J^T + \lambda^2 I)^{-1} e),    e = [p* - p, log(R* R^T)],

eight times, which keeps the arm on its branch; the damping is for the wrist, which passes through its
singularity on the way to the cube, where two of its joints turn against each other. The tool is a point
0.135 m ahead of the gripper's link.

References: Zhao et al. 2023, arXiv:2304.13705, scripted_policy.py of its code (MIT); Nakamura and Hanafusa
1986 for the damped pseudo-inverse.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array
from ch3_jax.data.episodes import Dataset, Episode, Facts, Source
from ch3_jax.data.load import gather
from ch3_jax.errors import InputError
from ch3_jax.evaluation.simulators import aloha
from ch3_jax.kinematics import rotations
from ch3_jax.kinematics.arm import load_arm
from ch3_jax.kinematics.forward import forward
from ch3_jax.kinematics.jacobian import pose_and_jacobian

_MEET = np.array([0.0, 0.5, 0.25])
_BASE = {"left": np.array([-0.469, 0.5, 0.0]), "right": np.array([0.469, 0.5, 0.0])}
_AHEAD = 0.135 - 0.1072  # of the arm's own tip, which lies 0.1072 m ahead of the gripper's link
_START = np.array([0.0, -0.96, 1.16, 0.0, -0.3, 0.0])
_DAMPING, _ITERATIONS = 0.05, 8
_STILL, _PICK, _GIVE = (0.0, 0.0, 0.0), (0.0, -np.pi / 3, 0.0), (np.pi / 2, 0.0, 0.0)


class Waypoint(NamedTuple):
    """Where a tool is to be at a step.

    Attributes:
      step: of 400.
      position: (3,) m in the world; None for where it started.
      turn: (3,) rotation vector of the tool in the world, from pointing along x (left) or against it (right).
      gripper: 0 closed to 1 open.
    """

    step: int
    position: np.ndarray | None
    turn: tuple[float, float, float]
    gripper: float


def waypoints(cube: np.ndarray) -> dict[str, list[Waypoint]]:
    """Both tools' waypoints for a cube at (3,) m."""

    def right(step: int, position: np.ndarray | None, gripper: float) -> Waypoint:
        return Waypoint(step, position, _STILL if position is None else _PICK, gripper)

    low, high = cube + [0, 0, -0.015], cube + [0, 0, 0.08]
    wait, take = _MEET + [-0.1, 0, -0.02], _MEET + [0.02, 0, -0.02]
    return {
        "left": [
            Waypoint(0, None, _STILL, 0),
            Waypoint(100, wait, _GIVE, 1),
            Waypoint(260, take, _GIVE, 1),
            Waypoint(310, take, _GIVE, 0),
            Waypoint(360, wait, _STILL, 0),
            Waypoint(400, wait, _STILL, 0),
        ],
        "right": [
            right(0, None, 0),
            right(90, high, 1),
            right(130, low, 1),
            right(170, low, 0),
            right(200, _MEET + [0.05, 0, 0], 0),
            right(220, _MEET, 0),
            right(310, _MEET, 1),
            right(360, _MEET + [0.1, 0, 0], 1),
            right(400, _MEET + [0.1, 0, 0], 1),
        ],
    }


def plan(cubes: np.ndarray) -> np.ndarray:
    """Actions for many cubes at once.

    Args:
      cubes: (E, 3), positions at the start, m.

    Returns:
      (E, 400, 14), joint angles and grippers of both arms.
    """
    sides = []
    for side in ("left", "right"):
        ways = [_in_base(side, waypoints(cube)[side]) for cube in cubes]
        position, rotation, gripper = (np.stack(x) for x in zip(*ways, strict=True))
        joints = np.asarray(_follow(jnp.asarray(position), jnp.asarray(rotation)))
        sides += [joints, gripper[..., None]]
    return np.concatenate(sides, axis=-1)


def demonstrate(episodes: int, seed: int) -> tuple[Dataset, int]:
    """Successful episodes; as `Task.demonstrate`."""
    world, task = aloha.make(ends=False), aloha.TRANSFER_CUBE
    kept, tried = [], 0
    while len(kept) < episodes:
        if tried >= 2 * episodes + 10:
            raise InputError(
                "the expert of aloha:transfer_cube does not do its task",
                got=f"{len(kept)} of {tried} episodes",
                expected="more than half of them",
                cause="another version of mujoco, with other contacts",
                fix="install the versions of third_party/requirements-simulators.txt",
            )
        seeds = range(seed + tried, seed + tried + min(episodes - len(kept), 50))
        actions = plan(np.stack([world.reset(s)[0][14:17] for s in seeds]))
        done = [_episode(world, s, a) for s, a in zip(seeds, actions, strict=True)]
        kept += [episode for episode in done if episode is not None]
        tried += len(seeds)
    world.close()
    facts = Facts(
        name="aloha_transfer_cube",
        format="generated",
        observation_names=task.observation_names,
        action_names=task.action_names,
        observation_units=task.observation_units,
        action_units=task.action_units,
        action_meaning=task.action_meaning,
        frame="world of gym-aloha",
        rate_hz=task.rate_hz,
        notes=(f"scripted expert, {len(kept)} successes of {tried} starts from seed {seed}",),
    )
    return gather(Source(facts, {"train": lambda: iter(kept)})), tried


def _episode(world, seed: int, actions: np.ndarray) -> Episode | None:
    observation, _ = world.reset(seed)
    seen, success = [], False
    for action in actions:
        seen.append(observation)
        told = world.step(action)
        observation, success = told.observation, success or told.success
    if not success:
        return None
    return Episode(
        observation=np.asarray(seen, np.float32),
        action=np.asarray(actions, np.float32),
        timestamp=np.arange(len(actions)) / aloha.RATE_HZ,
        instruction="transfer the cube",
        source=f"transfer_cube seed {seed}",
    )


def _in_base(side: str, points: list[Waypoint]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tip positions (400, 3), rotations (400, 3, 3) in the arm's base, and grippers (400,)."""
    # The right arm looks against x: its base is turned by pi about z, and so is its tool.
    flip = np.diag([1.0, 1.0, 1.0] if side == "left" else [-1.0, -1.0, 1.0])
    start = flip @ _tool_at_start() + _BASE[side]
    steps = np.arange(1, aloha.STEPS + 1)
    at = [p.step for p in points]
    places = np.stack([start if p.position is None else p.position for p in points])
    position = np.stack([np.interp(steps, at, places[:, k]) for k in range(3)], axis=-1)
    # Every turn here is about one axis or none, so that rotation vectors may be interpolated.
    turns = np.stack([np.interp(steps, at, [p.turn[k] for p in points]) for k in range(3)], axis=-1)
    world = np.asarray(rotations.exp(jnp.asarray(turns, jnp.float32)), np.float64)
    rotation = flip @ world @ flip
    tip = (position - _BASE[side]) @ flip - _AHEAD * rotation[..., 0]
    return tip, rotation, np.interp(steps, at, [p.gripper for p in points])


@functools.cache
def _tool_at_start() -> np.ndarray:
    """(3,) the tool's position in the arm's base at the start posture, m."""
    pose = forward(load_arm("vx300s"), jnp.asarray(_START, jnp.float32))
    return np.asarray(pose.position) + _AHEAD * np.asarray(pose.rotation)[:, 0]


@jax.jit
def _follow(position: Array, rotation: Array) -> Array:
    """(E, T, 6) joint angles that bring the tip to (E, T, 3) and (E, T, 3, 3), step after step."""
    arm = load_arm("vx300s", "gym_aloha")
    lower, upper = jnp.asarray(arm.lower, jnp.float32), jnp.asarray(arm.upper, jnp.float32)

    def improve(_, q: Array, place: Array, turn: Array) -> Array:
        pose, j = pose_and_jacobian(arm, q)
        turned = rotations.log(turn @ jnp.swapaxes(pose.rotation, -1, -2))
        error = jnp.concatenate([place - pose.position, turned])
        inner = j @ j.T + _DAMPING**2 * jnp.eye(6)
        return jnp.clip(q + j.T @ jnp.linalg.solve(inner, error), lower, upper)

    def step(q: Array, target: tuple[Array, Array]) -> tuple[Array, Array]:
        place, turn = target
        q = jax.lax.fori_loop(0, _ITERATIONS, lambda i, q: improve(i, q, place, turn), q)
        return q, q

    def one(place: Array, turn: Array) -> Array:
        return jax.lax.scan(step, jnp.asarray(_START, jnp.float32), (place, turn))[1]

    return jax.vmap(one)(position.astype(jnp.float32), rotation.astype(jnp.float32))
