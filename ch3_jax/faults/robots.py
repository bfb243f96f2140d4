r"""Episodes of robots that are steered to positions: healthy recordings that faults are planted in.

A hand of J joints and a gripper carries an object to a place. Per step, with goal g (over the object, then
over the place) and speed limit v,

    command   a_t = q_t + clip(kappa (g - q_t), -v, v) + n_t          n: the demonstrator's hand
    servo     q_{t+1} = q_t + alpha (a_{t-d} - q_t) + m_t             d: delay, alpha: stiffness

so the command runs ahead of the state, the state answers late, the gripper is two-valued, and there is a
standstill before and after the work: all of that is normal. An action is recorded as the command itself
("absolute") or as a_t - q_t ("delta"). All episodes advance together, one array operation per step.
"""

import numpy as np

from ch3_jax.data.episodes import Dataset, Facts, Steps
from ch3_jax.errors import InputError

_GAIN, _NEAR, _HOLD = 0.35, 0.06, 3


def robots(
    seed: int,
    *,
    episodes: int = 60,
    joints: int = 6,
    length: int = 90,
    action: str = "absolute",
    delay: int = 1,
    stiffness: float = 0.7,
    noise: float = 0.02,
    idle: tuple[int, int] = (0, 6),
    tasks: int = 2,
    amplitude: tuple[float, ...] | None = None,
    task_amplitude: float = 1.0,
    gripper: bool = True,
    unused_gripper: float = 0.0,
    open_loop: bool = False,
    camera: bool = False,
    rate_hz: float = 20.0,
    held_out: float = 0.2,
) -> Dataset:
    """A recording of pick-and-place demonstrations.

    Args:
      seed: of everything random.
      episodes: E, of both splits together.
      joints: J.
      length: most steps of an episode; it ends a few steps after the work.
      action: "absolute" or "delta".
      delay: d, steps from a command to the first motion.
      stiffness: alpha in (0, 1].
      noise: standard deviation of the demonstrator's hand, rad.
      idle: (least, most) steps of standstill at the start of an episode.
      tasks: places in a fixed order of their own, one task per episode in turn.
      amplitude: (J,) how far each joint goes, rad; None for 0.6 to 1.2.
      task_amplitude: of the second task's motion over the first's.
      gripper: whether the last action dimension is a gripper.
      unused_gripper: share of the episodes that leave the gripper open.
      open_loop: the goal is seen by the demonstrator alone.
      camera: in place of where object and place are, 2 J features of a camera at the hand, which sees where
        they are from there.
      rate_hz: of the recording.
      held_out: share of the episodes in the split "val".

    Returns:
      A `Dataset`: observation joints, gripper, and where the object and the place are (2 J numbers,
      in rad of the joints over them), or `camera_1` to `camera_2J`; action joints and gripper.

    Raises:
      InputError: an unknown kind of action, or fewer than four episodes.

    >>> data = robots(0, episodes=8)
    >>> data.splits["train"].episodes, data.splits["train"].action.shape[1]
    (6, 7)
    """
    if action not in ("absolute", "delta") or episodes < 4:
        raise InputError(
            "no such recording",
            got=f"action={action!r}, {episodes} episodes",
            expected="action absolute or delta, 4 episodes or more",
            cause="a typing error",
            fix="robots(seed, episodes=60, action='absolute')",
        )
    generator = np.random.default_rng([seed, joints, 23])
    wide = np.asarray(amplitude if amplitude is not None else np.linspace(0.6, 1.2, joints))
    task = np.arange(episodes) % tasks
    scale = np.where(task % 2 == 1, task_amplitude, 1.0)[:, None] * wide
    centre = 0.3 * np.sin(np.arange(joints))
    home, thing, place = (centre + scale * generator.uniform(-1, 1, (episodes, joints)) for _ in range(3))
    waits = generator.integers(idle[0], idle[1] + 1, episodes)
    unused = generator.random(episodes) < unused_gripper
    seen, done, ends = _simulate(
        generator, home, thing, place, waits, unused, length, delay, stiffness, noise, scale, action
    )
    if camera:
        # A fixed mixture that saturates: features of an image, and nobody's coordinates.
        sight = seen[:, :, joints + 1 :] - np.tile(seen[:, :, :joints], 2)
        mixture, _ = np.linalg.qr(np.random.default_rng(joints).normal(size=(2 * joints, 2 * joints)))
        seen = np.concatenate([seen[:, :, : joints + 1], np.tanh(sight @ mixture)], axis=2)
    if open_loop:
        seen[:, :, joints + 1 :] = 0
    if not gripper:
        seen, done = np.delete(seen, joints, axis=2), done[:, :, :joints]
    order = generator.permutation(episodes)
    cut = max(round(held_out * episodes), 2)
    parts = {"train": np.sort(order[cut:]), "val": np.sort(order[:cut])}
    return Dataset(
        _facts(joints, gripper, action, camera, rate_hz),
        {name: _pack(chosen, seen, done, ends, task, rate_hz) for name, chosen in parts.items()},
    )


def _simulate(
    generator, home, thing, place, waits, unused, length, delay, stiffness, noise, scale, action
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(E, T, S) observations, (E, T, A) actions, (E,) lengths."""
    episodes, joints = home.shape
    q, finger = home.copy(), np.ones(episodes)
    pending = [home.copy() for _ in range(delay)]
    phase, held = np.zeros(episodes, int), np.zeros(episodes, int)
    ends = np.full(episodes, length)
    seen, done = [], []
    limit = 0.12 * scale
    for t in range(length):
        moving = (t >= waits)[:, None] & (phase < 2)[:, None]
        goal = np.where((phase == 0)[:, None], thing, place)
        shake = noise * generator.normal(size=q.shape) * scale
        command = q + np.where(moving, np.clip(_GAIN * (goal - q), -limit, limit) + shake, 0.0)
        grip = np.where((phase == 1) & ~unused, -1.0, 1.0)
        seen.append(np.concatenate([q, finger[:, None], thing, place], axis=1))
        shown = command if action == "absolute" else command - q
        done.append(np.concatenate([shown, grip[:, None]], axis=1))
        pending.append(command)
        q = q + stiffness * (pending.pop(0) - q) + 0.002 * scale * generator.normal(size=q.shape)
        finger = finger + 0.5 * (grip - finger)
        near = np.abs(goal - q).max(axis=1) < _NEAR * scale.max(axis=1)
        held = np.where(near & moving[:, 0], held + 1, 0)
        arrived = held >= _HOLD
        phase, held = phase + arrived, np.where(arrived, 0, held)
        ends = np.where((phase == 2) & (ends == length), np.minimum(t + 4, length), ends)
    return np.stack(seen, 1), np.stack(done, 1), np.maximum(ends, 8)


def _facts(joints: int, gripper: bool, action: str, camera: bool, rate_hz: float) -> Facts:
    names = tuple(f"joint_{j}" for j in range(1, joints + 1)) + ("gripper",) * gripper
    goals = tuple(f"{what}_{j}" for what in ("object", "place") for j in range(1, joints + 1))
    if camera:
        goals = tuple(f"camera_{j}" for j in range(1, 2 * joints + 1))
    units = ("rad",) * joints + ("1",) * gripper
    return Facts(
        name="robots",
        format="generated",
        observation_names=names + goals,
        action_names=names,
        observation_units=units + ("1" if camera else "rad",) * len(goals),
        action_units=units,
        action_meaning=f"{action} joint position",
        rate_hz=rate_hz,
    )


def _pack(chosen, seen, done, ends, task, rate_hz) -> Steps:
    sizes = ends[chosen]
    return Steps(
        observation=np.concatenate([seen[e, :n] for e, n in zip(chosen, sizes, strict=True)]).astype(
            np.float32
        ),
        action=np.concatenate([done[e, :n] for e, n in zip(chosen, sizes, strict=True)]).astype(np.float32),
        offset=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        timestamp=np.concatenate([np.arange(n) / rate_hz for n in sizes]),
        sources=tuple(f"episode_{e:04d}" for e in chosen),
        instructions=tuple(f"carry the object to place {task[e] + 1}" for e in chosen),
    )
