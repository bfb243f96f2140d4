"""A gripper whose sign differs between episodes.

Command and finger are compared episode by episode, at the lag that suits all of them best: their
correlation is near 1 where the finger follows, near -1 where the command was inverted, and unknown where
the gripper is not used. Among the episodes that tell (|r| > 0.6), the smaller group is held against the
1 % that a slip would give (binomial test). A gripper that is inverted everywhere is a convention, not a
fault.
"""

from collections.abc import Iterator

import numpy as np

from ch3_jax.doctor.chance import binomial_tail
from ch3_jax.doctor.finding import Finding, NotExamined, Result
from ch3_jax.doctor.relation import by_name, core
from ch3_jax.doctor.view import View

WORDS = ("grip", "finger", "claw", "jaw")
_LEVEL = 1e-3
_STRAY = 0.01


def inverted(view: View) -> Iterator[Result]:
    """Findings for every gripper that has a finger state."""
    pairs = grippers(view)
    if not pairs:
        named = [n for n in view.action_names if any(w in n.lower() for w in WORDS)]
        if named or view.discrete[view.moving].any():
            yield NotExamined(
                1, "the gripper's sign in each episode", "the finger's state, under a like name"
            )
        return
    if view.steps.episodes < 8:
        yield NotExamined(1, "the gripper's sign in each episode", "8 episodes")
        return
    for j, i in pairs:
        r, lag = _correlations(view, j, i)
        told = np.abs(r) > 0.6
        plus, minus = told & (r > 0), told & (r < 0)
        few = plus if plus.sum() < minus.sum() else minus
        if few.sum() < 3 or few.sum() < 0.05 * told.sum() or told.sum() < 0.5 * (np.abs(r) > 0).sum():
            continue
        p = binomial_tail(int(few.sum()), int(told.sum()), _STRAY)
        p *= len(pairs)
        if p > _LEVEL:
            continue
        name = view.action_names[j]
        yield Finding(
            1,
            "inverted_gripper",
            "fault",
            "share of episodes with the other sign",
            float(few.sum() / told.sum()),
            _STRAY,
            f"action dimension {name}, {view.episodes(few)}",
            f"{name} and {view.observation_names[i]} go together in {int(plus.sum())} episodes (median "
            f"correlation {np.median(r[plus]):+.2f}) and against each other in {int(minus.sum())} "
            f"({np.median(r[minus]):+.2f}): {view.episodes(few)}.",
            p=p,
            numbers={"plus": int(plus.sum()), "minus": int(minus.sum()), "lag": lag},
        )


def grippers(view: View) -> list[tuple[int, int]]:
    """(action, state) dimensions of grippers: two-valued or so named, with a state of like name."""
    pairs = dict(by_name(view))
    fingers = [i for i, n in enumerate(view.observation_names) if any(w in n.lower() for w in WORDS)]
    out = []
    for j, name in enumerate(view.action_names):
        called = any(word in name.lower() for word in WORDS)
        if not view.moving[j] or not (called or (view.discrete[j] and j in pairs)):
            continue
        i = pairs.get(j, fingers[0] if called and len(fingers) == 1 else -1)
        if i >= 0 and np.ptp(view.observation[i]) > 0:
            out.append((j, i))
    return out[:16]


def _correlations(view: View, j: int, i: int) -> tuple[np.ndarray, int]:
    """(E,) correlation of command and finger in each episode, 0 where one stands still; and the lag used."""
    steps = view.steps
    a, s = (x.astype(np.float64) for x in (view.action[j], view.observation[i]))
    still = 1e-3 * np.array([np.ptp(a), np.ptp(s)])
    best: tuple[float, np.ndarray, int] = (-1.0, np.zeros(steps.episodes), 0)
    for lag in (0, 1, 2, 3, 5, 8):
        t = core(steps, 0, lag)
        if len(t) < 20:
            break
        r = _by_episode(
            a[t], s[t + lag], np.searchsorted(steps.offset, t, "right") - 1, steps.episodes, still
        )
        strength = float(np.abs(r[r != 0]).mean()) if (r != 0).any() else 0.0
        if strength > best[0]:
            best = strength, r, lag
    return best[1], best[2]


def _by_episode(x, y, episode, count: int, still) -> np.ndarray:
    present = np.maximum(np.bincount(episode, minlength=count), 1)
    x, y = (v - (np.bincount(episode, v, count) / present)[episode] for v in (x, y))
    xx, yy, xy = (np.bincount(episode, v, count) for v in (x * x, y * y, x * y))
    moves = (np.sqrt(xx / present) > still[0]) & (np.sqrt(yy / present) > 10 * still[1])
    return np.divide(xy, np.sqrt(xx * yy), out=np.zeros(count), where=moves & (xx * yy > 0))
