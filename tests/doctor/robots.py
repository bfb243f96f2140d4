"""Healthy robots of other kinds: each has something that a careless check takes for a fault."""

import numpy as np

from ch3_jax.data.episodes import Dataset, Facts, Steps

JOINTS = 7


def pack(
    parts, *, names=None, rate: float = 10.0, meaning: str | None = None, held_out: float = 0.2
) -> Dataset:
    """(observation, action) of episodes as a data set, the last fifth held out."""
    cut = int(len(parts) * (1 - held_out))
    width = parts[0][0].shape[1]
    names = names or tuple(f"joint_{i}" for i in range(width))

    def split(chosen) -> Steps:
        sizes = [len(o) for o, _ in chosen]
        offset = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        seen, done = (np.concatenate([p[i] for p in chosen]).astype(np.float32) for i in (0, 1))
        return Steps(seen, done, offset, np.concatenate([np.arange(n) / rate for n in sizes]))

    facts = Facts(
        "robot", "generated", names, names[: parts[0][1].shape[1]], action_meaning=meaning, rate_hz=rate
    )
    return Dataset(facts, {"train": split(parts[:cut]), "val": split(parts[cut:])})


def regulator(rng, n, goal):
    """Feedback to a goal: the change is minus the state, and clipped only at first."""
    x, rows = rng.normal(0, 0.5, JOINTS), []
    for _ in range(n):
        a = np.clip(0.1 * (goal - x) + rng.normal(0, 0.01, JOINTS), -0.3, 0.3)
        rows.append((x, a))
        x = x + 0.9 * a
    return rows


def waypoints(rng, n, goal):
    """Targets that jump every 20 steps, a robot of limited speed."""
    x, target, rows = rng.normal(0, 0.5, JOINTS), rng.normal(0, 1, (n // 20 + 1, JOINTS)), []
    for t in range(n):
        rows.append((x, target[t // 20]))
        x = x + np.clip(0.3 * (target[t // 20] - x), -0.1, 0.1)
    return rows


def inertia(rng, n, goal):
    """A mass on a spring: the motion answers late and swings."""
    path = np.cumsum(rng.normal(0, 0.06, (n, JOINTS)), 0)
    x, v, rows = path[0], np.zeros(JOINTS), []
    for t in range(n):
        rows.append((x, path[t]))
        v = 0.8 * v + 0.2 * (path[t] - x)
        x = x + v
    return rows


def velocity(rng, n, goal):
    """Commands per second, ten steps a second."""
    x, phase, rows = rng.normal(0, 0.5, JOINTS), rng.uniform(0, 6), []
    for t in range(n):
        a = np.sin(t / 10 + phase + np.arange(JOINTS)) * goal
        rows.append((x, a))
        x = x + a / 10 + rng.normal(0, 0.002, JOINTS)
    return rows


def exploring(rng, n, goal):
    """White noise executed: nothing is smooth but the sum."""
    a = rng.normal(0, 0.1, (n, JOINTS))
    return list(zip(np.cumsum(a, 0) - a, a, strict=True))


def keyboard(rng, n, goal):
    """Three values of every command."""
    a = rng.choice([-0.05, 0, 0.05], (n, JOINTS), p=[0.2, 0.6, 0.2])
    return list(zip(np.cumsum(a, 0) - a, a, strict=True))


def torque(rng, n, goal):
    """The second derivative, neither a target nor a change."""
    wander = np.cumsum(rng.normal(0, 0.02, (n, JOINTS)), 0)
    x, v, rows = rng.normal(0, 0.5, JOINTS), np.zeros(JOINTS), []
    for t in range(n):
        a = 5 * wander[t] - 2 * x
        rows.append((x, a))
        v = 0.9 * v + 0.1 * a
        x = x + 0.1 * v
    return rows


def _recorded(ahead: int, noise: float = 0.0):
    def make(rng, n, goal):
        s = rng.normal(0, 0.5, JOINTS) + np.cumsum(rng.normal(0, 0.04, (n, JOINTS)), 0)
        a = np.concatenate([s[ahead:], np.repeat(s[-1:], ahead, 0)]) + rng.normal(0, noise, s.shape)
        return list(zip(s, a, strict=True))

    return make


def independent(rng, n, goal):
    """Rows without an order."""
    s = rng.normal(0, 1, (n, JOINTS))
    return list(zip(s, 0.5 * s[:, ::-1] + rng.normal(0, 0.1, s.shape), strict=True))


def wheels(rng, n, goal):
    """Angles that only grow, by turns and turns."""
    s = np.cumsum(np.abs(np.cumsum(rng.normal(0, 0.02, (n, JOINTS)), 0)), 0)
    return list(zip(s, np.concatenate([s[1:], s[-1:]]), strict=True))


def slow_sensor(rng, n, goal):
    """The state is read at a third of the rate."""
    s = np.cumsum(rng.normal(0, 0.04, (n + 2, JOINTS)), 0)
    return list(zip(np.repeat(s[::3], 3, 0)[:n], s[2:], strict=True))


def blocked(rng, n, goal):
    """Joints that stop at their limits while the command goes on."""
    a = np.cumsum(rng.normal(0, 0.06, (n, JOINTS)), 0)
    return list(zip(np.clip(np.concatenate([a[:1], a[:-1]]), -0.5, 0.5), a, strict=True))


def spiky(rng, n, goal):
    """Heavy tails that the robot executes: changes from a t distribution of 3 degrees of freedom."""
    a = 0.02 * rng.standard_t(3, (n, JOINTS))
    return list(zip(np.cumsum(a, 0) - a, a, strict=True))


KINDS = {
    "regulator": regulator,
    "waypoints": waypoints,
    "inertia": inertia,
    "velocity": velocity,
    "exploring": exploring,
    "keyboard": keyboard,
    "torque": torque,
    "next state": _recorded(1),
    "two states on": _recorded(2),
    "copy": _recorded(0),
    "copy with noise": _recorded(0, 0.003),
    "independent": independent,
    "wheels": wheels,
    "slow sensor": slow_sensor,
    "blocked": blocked,
    "spiky": spiky,
}


def other(kind: str, seed: int, episodes: int = 40) -> Dataset:
    """A healthy data set of a kind of `KINDS`, episodes of 50 to 150 steps."""
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(episodes):
        rows = KINDS[kind](rng, int(rng.integers(50, 150)), rng.normal(0, 1, JOINTS))
        parts.append(tuple(np.array(column) for column in zip(*rows, strict=True)))
    return pack(parts)
