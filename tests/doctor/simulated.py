"""Healthy robots for the doctor's tests: minimum-jerk targets, a servo, noise, delays, grippers, pauses.

Every recording is a pure function of its arguments. `robot` is healthy whatever its arguments are; faults are
planted by the tests, on copies.
"""

import dataclasses

import numpy as np

from ch3_jax.data.episodes import Dataset, Facts, Steps


def robot(
    seed: int = 0,
    *,
    episodes: int = 30,
    length: int = 80,
    joints: int = 6,
    alpha: float = 0.35,
    noise: float = 0.001,
    delay: int = 0,
    delta: bool = False,
    gripper: bool = True,
    idle: float = 0.0,
    idle_start: int = 0,
    amplitude: float = 0.6,
    second_task: float = 0.0,
    scales: tuple[float, ...] | None = None,
    held_out: int = 6,
    meaning: str | None = None,
    names: tuple[str, ...] | None = None,
) -> Dataset:
    """Teleoperation of an arm: targets from one waypoint to the next, followed late.

    Args:
      seed: of everything random.
      episodes, held_out: in "train" and "val".
      length: steps of an episode, on average.
      joints: J.
      alpha: share of the way to its target that a joint goes in one step.
      noise: of the measured state, rad.
      delay: steps before a command is heard.
      delta: actions are the change of the target in place of the target.
      gripper: a last dimension that is 0 or 1, its state following.
      idle: share of the waypoints at which the operator pauses.
      idle_start: steps of standstill at the start.
      amplitude: of the waypoints, rad.
      second_task: share of the episodes in which the motion is a tenth as wide.
      scales: J factors on amplitude, for slides and wrists.
      meaning: of the action, as the files say it.
      names: of the joints.
    """
    rng = np.random.default_rng(seed)
    scale = np.ones(joints) if scales is None else np.asarray(scales)
    home = rng.uniform(-1, 1, joints) * scale

    def split(count: int) -> Steps:
        seen, done, sizes = [], [], []
        for _ in range(count):
            steps = int(length * rng.uniform(0.8, 1.2))
            width = amplitude * (0.1 if rng.random() < second_task else 1.0) * scale
            target = path(rng, steps, home, width, idle, idle_start)
            state, action = follow(rng, target, alpha, delay, delta)
            state = state + rng.normal(0, noise, state.shape)
            if gripper:
                state, action = with_gripper(rng, state, action)
            seen.append(state)
            done.append(action)
            sizes.append(steps)
        offset = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        time = np.concatenate([np.arange(n) / 20 for n in sizes])
        seen, done = np.concatenate(seen), np.concatenate(done)
        return Steps(seen.astype(np.float32), done.astype(np.float32), offset, time)

    named = names or tuple(f"joint_{j}" for j in range(joints))
    named += ("gripper",) * gripper
    facts = Facts("simulated", "generated", named, named, action_meaning=meaning, rate_hz=20.0)
    return Dataset(facts, {"train": split(episodes), "val": split(held_out)})


def path(rng, steps: int, home, width, idle: float, idle_start: int) -> np.ndarray:
    """(T, J) minimum-jerk segments of 8 to 25 steps between random waypoints, with pauses."""
    here, rows = home + rng.normal(0, 0.2, len(home)) * width, []
    rows += [here] * idle_start
    while len(rows) < steps:
        n = int(rng.integers(8, 25))
        if rng.random() < idle:
            rows += [here] * n
            continue
        there = home + rng.normal(0, 1, len(home)) * width
        s = (np.arange(1, n + 1) / n)[:, None]
        rows += list(here + (there - here) * (10 * s**3 - 15 * s**4 + 6 * s**5))
        here = there
    return np.array(rows[:steps])


def follow(rng, target, alpha: float, delay: int, delta: bool):
    """State and action (T, J): s_{t+1} = s_t + alpha (a_{t - delay} - s_t)."""
    heard = np.concatenate([np.repeat(target[:1], delay, axis=0), target])[: len(target)]
    state = np.empty_like(target)
    state[0] = target[0]
    for t in range(len(target) - 1):
        state[t + 1] = state[t] + alpha * (heard[t] - state[t])
    if not delta:
        return state, target
    change = np.diff(target, axis=0, append=target[-1:])
    # A robot that executes changes: it moves by what it hears, with a little slip.
    heard = np.concatenate([np.zeros((delay, target.shape[1])), change])[: len(target)]
    moved = heard * rng.normal(1, 0.05, heard.shape)
    return target[:1] + np.concatenate([np.zeros_like(moved[:1]), np.cumsum(moved[:-1], axis=0)]), change


def with_gripper(rng, state, action):
    """A gripper that closes and opens again once or twice an episode, or stays open."""
    steps = len(state)
    command = np.zeros(steps)
    if rng.random() < 0.9:
        cuts = np.sort(rng.choice(np.arange(5, steps - 5), 2, replace=False))
        command[cuts[0] : cuts[1]] = 1
    finger = np.zeros(steps)
    for t in range(steps - 1):
        finger[t + 1] = finger[t] + np.clip(command[t] - finger[t], -0.2, 0.2)
    finger += rng.normal(0, 0.005, steps)
    return np.column_stack([state, finger]), np.column_stack([action, command])


def changed(dataset: Dataset, edit, splits=("train", "val")) -> Dataset:
    """A copy in which `edit(episode number, observation, action)` has returned new rows of each episode."""
    made = dict(dataset.splits)
    for name in splits:
        steps = made[name]
        parts = [
            edit(e, steps.observation[a:b].copy(), steps.action[a:b].copy())
            for e, (a, b) in enumerate(zip(steps.offset[:-1], steps.offset[1:], strict=True))
        ]
        seen, done = (np.concatenate([p[i] for p in parts]).astype(np.float32) for i in (0, 1))
        made[name] = dataclasses.replace(steps, observation=seen, action=done)
    return dataclasses.replace(dataset, splits=made)
