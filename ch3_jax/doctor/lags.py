r"""Whether actions are stamped late, by the dynamics of the robot and not by the shape of the curves.

A robot follows its commands late, so the curves of action and state are always shifted against each other
and "the lag is not 0" says nothing. What cannot be is that a motion comes before its command. For an absolute
target the state's next change is explained by how far away the target is, for a change by the change itself:

    ds_t = s_{t+1} - s_t,    x_k = a_{t+k} - s_t   (absolute)   or   a_{t+k}   (delta),

    R^2_k = 1 - min_b sum (ds - b x_k)^2 / sum ds^2,    around the mean of each episode, b >= 0 shared.

A healthy robot has its maximum at k = 0, or at k < 0 with a transport delay. At k > 0 the motion at t belongs
to the action recorded k steps later: actions are stamped late. k <= 0 clears nobody, for a delay hides a lag.

Two things would move the maximum and are taken out. Noise of the recorded action that the robot never heard
weakens x_k most where it is small, near k = 0: its variance, at most a sixth of that of the second
differences of a, is subtracted from sum x^2. And steps around an action that sits exactly on an end of its
range are left out, for a clipped record is not what moved the robot.

The test is paired over blocks of 60 steps: the R^2 of the best k > 0 less that of the best k <= 0, against 0,
by a one-sided t, times the number of positive lags.
"""

import dataclasses
import functools

import numpy as np

from ch3_jax.doctor.chance import p_positive
from ch3_jax.doctor.relation import Relation, core, dot

MOST_LAG = 4
_BLOCK = 60


@dataclasses.dataclass(frozen=True, eq=False)
class Lags:
    """Explained share of the motion over lags.

    Attributes:
      lag: (L,) k, from negative to positive.
      r2: (L,) over all blocks.
      block_r2: (Q, L) in each block: an episode, or a part of a long one.
      block_episode: (Q,) index in the relation's episodes.
      block_rows: (Q,) steps in each.
      lead: steps by which the action runs ahead of the state, the median over the pairs; NaN for deltas.
      lead_interval: 95 % of it over blocks.
      rows: number of steps behind it.
      unheard: share of sum x_0^2 that was subtracted as noise, on average over the pairs.
    """

    lag: np.ndarray
    r2: np.ndarray
    block_r2: np.ndarray
    block_episode: np.ndarray
    block_rows: np.ndarray
    lead: float
    lead_interval: tuple[float, float]
    rows: int
    unheard: float

    @property
    def best(self) -> int:
        """The k of the largest R^2."""
        return int(self.lag[self.r2.argmax()])

    @functools.cached_property
    def excess(self) -> tuple[int, float, float]:
        """The best positive lag against the best lag that can be: (k, mean excess of R^2, p)."""
        ahead = np.flatnonzero(self.lag > 0)
        k = ahead[self.r2[ahead].argmax()]
        usual = np.flatnonzero(self.lag <= 0)
        base = usual[self.r2[usual].argmax()]
        excess = self.block_r2[:, k] - self.block_r2[:, base]
        return int(self.lag[k]), float(self.r2[k] - self.r2[base]), p_positive(excess) * len(ahead)


def explain_motion(relation: Relation, kind: str) -> Lags | None:
    """R^2 over lags for the pairs of one kind.

    Args:
      relation: pairs of a data set.
      kind: "absolute" or "delta".

    Returns:
      `Lags`, or None where fewer than 100 steps lie far enough inside their episodes.
    """
    steps = relation.steps
    length = np.diff(steps.offset)
    most = int(min(MOST_LAG, max((np.median(length) - 3) // 2, 0))) if len(length) else 0
    pairs = np.flatnonzero(relation.kind == kind)
    if most < 1 or not len(pairs):
        return None
    t = core(steps, most, max(most, 1))
    if len(t) < 100:
        return None
    episode = np.searchsorted(steps.offset, t, side="right") - 1
    block = episode * 1_000_000 + (t - steps.offset[episode]) // _BLOCK
    _, first, block = np.unique(block, return_index=True, return_inverse=True)
    lag = np.arange(-most, most + 1)
    explained, total = np.zeros((len(first), len(lag))), np.zeros(len(first))
    leads, noise = [], []
    for p in pairs:
        a, s = relation.action[p], relation.state[p]
        free = _unclipped(a, t, most)
        if free.sum() < 100:
            continue
        place = t[free], episode[free], block[free]
        gain, there, unheard = _explained(a, s, lag, kind, place, len(first))
        noise.append(unheard)
        size = there.sum()
        if size > 0:
            explained, total = explained + gain / size, total + there / size
        if kind == "absolute":
            leads.append(_block_lead(a, s, *place, len(first)))
    if not total.sum() > 0:
        return None
    lead, interval = _lead(leads)
    # A block in which next to nothing moves says nothing about lags.
    told = total > 0.05 * total.mean()
    return Lags(
        lag,
        explained.sum(axis=0) / total.sum(),
        explained[told] / total[told, None],
        episode[first][told],
        np.bincount(block)[told],
        lead,
        interval,
        len(t),
        float(np.mean(noise)),
    )


def _explained(a, s, lag, kind: str, place, blocks: int) -> tuple[np.ndarray, np.ndarray, float]:
    """(Q, L) squares that each lag explains in each block of a pair, (Q,) what there is, share of noise."""
    t, episode, block = place
    y = _around(s[t + 1] - s[t], episode)
    unheard = np.mean((a[t + 1] - 2 * a[t] + a[t - 1]) ** 2) / 6 if kind == "absolute" else 0.0
    gain, share = np.empty((blocks, len(lag))), 0.0
    for i, k in enumerate(lag):
        x = _around(a[t + k] - s[t] if kind == "absolute" else a[t + k], episode)
        size = dot(x, x)
        # What is left of x is at least a tenth of it: noise alone explains nothing.
        kept = max(size - unheard * len(t), 0.1 * size)
        slope = max(dot(x, y) / max(kept, 1e-300), 0.0)
        share = 1 - kept / max(size, 1e-300) if k == 0 else share
        gain[:, i] = np.bincount(
            block, slope * (2 * x * y - slope * x * x * (kept / max(size, 1e-300))), blocks
        )
    return gain, np.bincount(block, y * y, blocks), share


def _unclipped(a: np.ndarray, t: np.ndarray, most: int) -> np.ndarray:
    """(n,) bool, steps around which the action is not at an end of its range; all where it rarely is."""
    at_end = (a <= a.min()) | (a >= a.max())
    if at_end.mean() < 0.02:
        return np.ones(len(t), bool)
    seen = np.concatenate([[0], np.cumsum(at_end)])
    return seen[t + most + 1] == seen[t - most]


def _around(x: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """A series around its mean in each episode."""
    return x - (np.bincount(episode, x) / np.maximum(np.bincount(episode), 1))[episode]


def _block_lead(a, s, t, episode, block, blocks: int) -> np.ndarray:
    """(2, Q) sums of velocity * (a - s) and velocity^2 over the blocks of one pair."""
    velocity, ahead = _around((s[t + 1] - s[t - 1]) / 2, episode), _around(a[t] - s[t], episode)
    return np.stack([np.bincount(block, velocity * ahead, blocks), np.bincount(block, velocity**2, blocks)])


def _lead(sums: list[np.ndarray]) -> tuple[float, tuple[float, float]]:
    """The median over pairs of the lead, with its 95 % interval from resampled blocks."""
    if not sums:
        return np.nan, (np.nan, np.nan)
    stacked = np.stack(sums)  # (P, 2, Q)
    rng = np.random.default_rng(0)
    blocks = stacked.shape[2]
    weights = rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=200).T.astype(float)
    drawn = stacked @ np.concatenate([np.ones((blocks, 1)), weights], axis=1)  # (P, 2, 201)
    with np.errstate(divide="ignore", invalid="ignore"):
        leads = np.nanmedian(drawn[:, 0] / drawn[:, 1], axis=0)
    low, high = np.quantile(leads[1:], (0.025, 0.975))
    return float(leads[0]), (float(low), float(high))
