"""What the action is to the state: a target, a change, a copy, or nothing that the numbers show.

Every action dimension is paired with the state dimension that it commands - the same name, the same name but
for words such as "target", or else the state that follows it - and the pairs are asked, over the steps inside
episodes and around each episode's mean, for the best of a few lags k >= 0:

    level:   corr(a_t, s_{t+k})               near 1 for an absolute target
    change:  corr(a_t, s_{t+k+1} - s_{t+k})    near 1 for a change or a velocity

The lead of an absolute action is how many steps it runs ahead of the state, the least-squares l of

    a_t - s_t = l (s_{t+1} - s_{t-1}) / 2 + const.

Healthy robots lag their commands, so l > 0; l = 0 is a copy of the state or perfect tracking, and nothing can
be said about lags then.
"""

import collections
import dataclasses
import functools
import re

import numpy as np

from ch3_jax.data.episodes import Steps
from ch3_jax.data.splits import select
from ch3_jax.doctor.view import View

_WORDS = {
    *("action", "actions", "target", "cmd", "command", "commanded", "goal", "desired", "delta", "leader"),
    *("state", "states", "observation", "obs", "measured", "actual", "follower", "pos", "position", "angle"),
    *("qpos", "current", "dimension"),
}
ROWS = 30_000
MOST_PAIRS = 64


@dataclasses.dataclass(frozen=True, eq=False)
class Relation:
    """Pairs of an action and the state that it commands.

    Attributes:
      view: that it was made from.
      steps: whole episodes of it, at most about 30,000 steps.
      episode: (E,) index in the view of each of them.
      action_index, state_index: (P,) paired dimensions; continuous and moving in both.
      named: (P,) bool, whether the pair was made by name and not by the numbers.
      kind: (P,) "absolute", "delta" or "unknown".
      level, change: (P,) the two correlations, at their best lags.
    """

    view: View
    steps: Steps
    episode: np.ndarray
    action_index: np.ndarray
    state_index: np.ndarray
    named: np.ndarray
    kind: np.ndarray
    level: np.ndarray
    change: np.ndarray

    @property
    def names(self) -> list[str]:
        return [self.view.action_names[j] for j in self.action_index]

    @functools.cached_property
    def action(self) -> np.ndarray:
        """(P, n) float64."""
        return np.ascontiguousarray(self.steps.action[:, self.action_index].T).astype(np.float64)

    @functools.cached_property
    def state(self) -> np.ndarray:
        """(P, n) float64."""
        return np.ascontiguousarray(self.steps.observation[:, self.state_index].T).astype(np.float64)

    @property
    def majority(self) -> str:
        """The kind of most pairs that show one; "unknown" where none does, or half of them another."""
        known = self.kind[self.kind != "unknown"]
        if not len(known):
            return "unknown"
        names, counts = np.unique(known, return_counts=True)
        return str(names[counts.argmax()]) if counts.max() > 0.7 * len(known) else "unknown"

    def lead(self) -> np.ndarray:
        """(P,) steps by which the action runs ahead of the state; NaN where the state does not move."""
        t = core(self.steps, 1, 1)
        out = np.full(len(self.action_index), np.nan)
        for p, (a, s) in enumerate(zip(self.action, self.state, strict=True)):
            scale = _slope(centred(s, self.steps.offset), centred(a, self.steps.offset))
            a = a if 0.8 < scale < 1.25 or scale == 0 else a / scale
            velocity = (s[t + 1] - s[t - 1]) / 2
            ahead = a[t] - s[t]
            out[p] = _slope(velocity - velocity.mean(), ahead - ahead.mean(), np.nan)
        return out


def relate(view: View) -> Relation:
    """Pairs the dimensions of a view and asks the numbers what the action is.

    Args:
      view: of a data set.

    Returns:
      A `Relation`, without pairs where no action dimension has a counterpart or episodes are too short.
    """
    steps, episode = _part(view)
    pairs = [(j, i, True) for j, i in by_name(view)]
    free = ~view.discrete & view.moving
    pairs = [(j, i, named) for j, i, named in pairs if free[j] and np.ptp(view.observation[i]) > 0]
    if not pairs:
        pairs = [(j, i, False) for j, i in _by_numbers(view, steps)]
    pairs = pairs[:: -(-len(pairs) // MOST_PAIRS)] if pairs else []
    lags = range(min(6, max(int(np.median(np.diff(steps.offset))) - 2, 1))) if len(steps) else range(1)
    made = Relation(
        view,
        steps,
        episode,
        np.array([j for j, _, _ in pairs], int),
        np.array([i for _, i, _ in pairs], int),
        np.array([named for _, _, named in pairs], bool),
        np.array(["unknown"] * len(pairs)),
        np.zeros(len(pairs)),
        np.zeros(len(pairs)),
    )
    if not pairs or not len(core(steps, 0, 1)):
        return made
    level, change = _best(made, lags)
    absolute = (level >= 0.8) & (level >= change)
    delta = (change >= 0.5) & (change >= level + 0.1)
    kind = np.select([absolute, delta], ["absolute", "delta"], "unknown")
    return dataclasses.replace(made, kind=kind, level=level, change=change)


def core(steps: Steps, before: int, after: int) -> np.ndarray:
    """Rows t such that t - before and t + after lie in the same episode.

    >>> core(Steps(np.zeros((5, 1)), np.zeros((5, 1)), np.array([0, 3, 5])), 0, 1).tolist()
    [0, 1, 3]
    """
    length = np.diff(steps.offset)
    t = np.arange(len(steps))
    first, last = np.repeat(steps.offset[:-1], length), np.repeat(steps.offset[1:], length) - 1
    return t[(t - before >= first) & (t + after <= last)]


def centred(x: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """A series around the mean of each of its episodes."""
    length = np.diff(offset)
    return x - np.repeat(np.add.reduceat(x, offset[:-1]) / length, length)


def dot(x: np.ndarray, y: np.ndarray) -> float:
    """sum x y of two series, in this thread: BLAS starts several for a sum that takes microseconds."""
    return float(np.einsum("i,i->", x, y))


def _part(view: View) -> tuple[Steps, np.ndarray]:
    """Evenly spaced episodes of the view, about `ROWS` steps."""
    steps = view.steps
    width = max(steps.observation.shape[1] + steps.action.shape[1], 1)
    rows = max(min(ROWS, 2_000_000 // width), 500)
    every = max(-(-len(steps) // rows), 1)
    if every == 1:
        return steps, np.arange(steps.episodes)
    chosen = np.arange(0, steps.episodes, every)
    return select(steps, chosen), chosen


def by_name(view: View) -> list[tuple[int, int]]:
    """(action, state) dimensions of one name, apart from words such as "target"; discrete ones too."""
    seen: dict[tuple[str, ...], int] = {}
    exact = {name: i for i, name in enumerate(view.observation_names)}
    for i, name in enumerate(view.observation_names):
        key = _tokens(name)
        seen[key] = -1 if key in seen else i  # two states of one name command nothing
    keys = [_tokens(name) for name in view.action_names]
    count = collections.Counter(keys)
    pairs = []
    for j, name in enumerate(view.action_names):
        i = exact.get(name, seen.get(keys[j], -1) if keys[j] and count[keys[j]] == 1 else -1)
        if i >= 0:
            pairs.append((j, i))
    return pairs


def _tokens(name: str) -> tuple[str, ...]:
    """The telling words of a name: joint_target_1 and joint_angle_1 are both (joint, 1)."""
    return tuple(w for w in re.findall(r"[a-z]+|\d+", name.lower()) if w not in _WORDS)


def _by_numbers(view: View, steps: Steps) -> list[tuple[int, int]]:
    """Pairs in which the state follows the action itself, at corr >= 0.9 and a slope near 1."""
    t = core(steps, 0, 1)
    dims = steps.action.shape[1], steps.observation.shape[1]
    if len(t) < 50 or max(dims) > 200:
        return []
    a = np.stack([centred(x.astype(np.float64), steps.offset)[t] for x in steps.action.T])
    s = np.stack([centred(x.astype(np.float64), steps.offset)[t + 1] for x in steps.observation.T])
    norms = np.linalg.norm(a, axis=1)[:, None], np.linalg.norm(s, axis=1)[None]
    dot, free = a @ s.T, ~view.discrete & view.moving
    size = norms[0] * norms[1]
    r = np.divide(dot, size, out=np.zeros_like(dot), where=size > 0)
    slope = np.divide(dot, norms[0] ** 2, out=np.zeros_like(dot), where=norms[0] > 0)
    r = np.where((slope > 0.5) & (slope < 2), r, 0)
    best = r.argmax(axis=1)
    return [(j, int(best[j])) for j in range(dims[0]) if free[j] and r[j, best[j]] >= 0.9]


def _best(relation: Relation, lags: range) -> tuple[np.ndarray, np.ndarray]:
    steps, level, change = relation.steps, [], []
    pairs = [(k, core(steps, 0, k), core(steps, 0, k + 1)) for k in lags]
    for a, s in zip(relation.action, relation.state, strict=True):
        a, s = centred(a, steps.offset), centred(s, steps.offset)
        level.append(max(correlation(a[t], s[t + k]) for k, t, _ in pairs))
        change.append(max(correlation(a[u], s[u + k + 1] - s[u + k]) for k, _, u in pairs))
    return np.array(level), np.array(change)


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's r; 0 where one of them stands still or there are fewer than 8."""
    if len(x) < 8:
        return 0.0
    x, y = x - x.mean(), y - y.mean()
    size = np.sqrt(dot(x, x) * dot(y, y))
    return float(dot(x, y) / size) if size > 0 else 0.0


def _slope(x: np.ndarray, y: np.ndarray, otherwise: float = 0.0) -> float:
    """Least squares through the origin, y = slope x."""
    size = dot(x, x)
    return dot(x, y) / size if size > 0 else otherwise
