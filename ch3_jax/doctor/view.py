"""A data set as the data checks look at it: one split, whole episodes, a sample of bounded size.

Statistics of shape - quantiles, lags, correlations - do not get better beyond some hundred thousand steps, so
the checks look at whole episodes drawn at random up to a budget: at most 120,000 steps and 8 million numbers.
What a single step can decide (the smallest and largest value, an episode that is there twice) is counted over
all of the data. Time is linear in the data, memory beyond it flat.

Episodes with numbers that are not finite are left out of the sample, and counted.
"""

import dataclasses
import functools
import re

import numpy as np

from ch3_jax.data.episodes import Dataset, Facts, Steps
from ch3_jax.data.splits import select

ROWS = 120_000
VALUES = 8_000_000
_BLOCK = 65_536


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """What the checks of data read.

    Attributes:
      dataset: all of it.
      split: name of the split that is looked at: "train", or else the first.
      steps: the sampled episodes of it, finite.
      episode: (E,) index in the split of each sampled episode.
      left_out: sampled episodes that hold NaN or infinity.
    """

    dataset: Dataset
    split: str
    steps: Steps
    episode: np.ndarray
    left_out: int

    @property
    def facts(self) -> Facts:
        return self.dataset.facts

    @property
    def whole(self) -> Steps:
        """The split, all of it."""
        return self.dataset.splits[self.split]

    @property
    def sampled(self) -> str:
        """How to say in a sentence that not all steps were looked at; "" where they were."""
        if len(self.steps) == len(self.whole):
            return ""
        return f" (in {len(self.steps):,} of {len(self.whole):,} steps)"

    @functools.cached_property
    def action(self) -> np.ndarray:
        """(A, n) float32, one contiguous row per dimension."""
        return np.ascontiguousarray(self.steps.action.T)

    @functools.cached_property
    def observation(self) -> np.ndarray:
        """(S, n) float32, one contiguous row per dimension."""
        return np.ascontiguousarray(self.steps.observation.T)

    @functools.cached_property
    def action_names(self) -> tuple[str, ...]:
        return _names(self.facts.action_names, self.steps.action.shape[1])

    @functools.cached_property
    def observation_names(self) -> tuple[str, ...]:
        return _names(self.facts.observation_names, self.steps.observation.shape[1])

    @functools.cached_property
    def inside(self) -> np.ndarray:
        """(n - 1,) bool, whether rows t and t + 1 belong to one episode."""
        inside = np.ones(max(len(self.steps) - 1, 0), bool)
        inside[self.steps.offset[1:-1] - 1] = False
        return inside

    @functools.cached_property
    def discrete(self) -> np.ndarray:
        """(A,) bool: an action dimension of few values, or at one of its two ends nearly always."""
        return np.array([_discrete(row) for row in self.action])

    @functools.cached_property
    def moving(self) -> np.ndarray:
        """(A,) bool: an action dimension that is not constant in the sample."""
        return np.ptp(self.action, axis=1) > 0 if self.action.size else np.zeros(len(self.action), bool)

    def episodes(self, mask: np.ndarray, most: int = 5) -> str:
        """Sampled episodes in words: "episodes 3, 8, 12 and 9 more"."""
        chosen = self.episode[np.flatnonzero(mask)]
        more = f" and {len(chosen) - most} more" if len(chosen) > most else ""
        word = "episode" if len(chosen) == 1 else "episodes"
        return f"{word} {', '.join(str(e) for e in chosen[:most])}{more}"


def make_view(dataset: Dataset, seed: int = 0) -> View:
    """Draws the sample.

    Args:
      dataset: with at least one split.
      seed: of the drawing of episodes.

    Returns:
      A `View`. Episodes are drawn at random and kept in order; of one that is longer than a fourth of the
      budget only the beginning is read.
    """
    split = "train" if "train" in dataset.splits else next(iter(dataset.splits))
    steps = dataset.splits[split]
    width = steps.observation.shape[1] + steps.action.shape[1]
    budget = max(min(ROWS, VALUES // max(width, 1)), 64)
    chosen = np.arange(steps.episodes)
    length = np.diff(steps.offset)
    most = max(budget // 4, 1)
    if len(steps) > budget:
        order = np.random.default_rng(seed).permutation(steps.episodes)
        taken = np.cumsum(np.minimum(length[order], most)) <= budget
        taken[0] = True
        chosen = np.sort(order[taken])
    sample = steps if len(chosen) == steps.episodes else select(steps, chosen)
    if len(sample) > budget and length[chosen].max() > most:
        sample = _cut(sample, most)
    good = np.isfinite(sample.action).all(axis=1) & np.isfinite(sample.observation).all(axis=1)
    left_out = 0
    if not good.all():
        fine = np.bincount(
            np.searchsorted(sample.offset, np.flatnonzero(~good), side="right") - 1,
            minlength=sample.episodes,
        )
        left_out = int((fine > 0).sum())
        sample, chosen = select(sample, np.flatnonzero(fine == 0)), chosen[fine == 0]
    return View(dataset, split, sample, chosen, left_out)


def extremes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and largest finite number of every column.

    Args:
      values: (N, D).

    Returns:
      (D,) and (D,); infinities of the other sign where a column has no finite number.
    """
    low, high = np.full(values.shape[1], np.inf), np.full(values.shape[1], -np.inf)
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK]
        if not np.isfinite(block).all():
            block = np.where(np.isfinite(block), block, np.nan)
        low = np.fmin(low, np.fmin.reduce(block, axis=0))
        high = np.fmax(high, np.fmax.reduce(block, axis=0))
    return low, high


def plain(name: object, most: int = 40) -> str:
    """A name from a file in printable characters, cut in the middle where it is long.

    >>> plain("joint\\x07 1")
    'joint? 1'
    """
    text = "".join(c if c.isprintable() else "?" for c in str(name))
    return text if len(text) <= most else f"{text[: most // 2 - 2]}...{text[-(most // 2 - 1) :]}"


def stem(name: str) -> str:
    """A name without its numbers: joint_1 and joint_2 are two of a kind.

    >>> stem("arm_joint_12.pos")
    'arm_joint_#.pos'
    """
    return re.sub(r"\d+", "#", name.lower())


def listing(names: list[str] | tuple[str, ...], most: int = 4) -> str:
    """Names in a line, the rest counted.

    >>> listing(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _names(names: tuple[str, ...], width: int) -> tuple[str, ...]:
    """One printable name for each dimension, also where the files give too few."""
    return tuple(plain(names[i]) if i < len(names) else f"dimension {i}" for i in range(width))


def _discrete(row: np.ndarray) -> bool:
    """At most 12 values, or 9 steps of 10 within a twentieth of the range from one of its ends."""
    if not row.size:
        return True
    low, high = np.quantile(row, (0.001, 0.999), method="nearest")
    edge = 0.05 * (high - low)
    if ((row <= low + edge) | (row >= high - edge)).mean() >= 0.9:
        return True
    return len(np.unique(row[:5000])) <= 12 and len(np.unique(row)) <= 12


def _cut(steps: Steps, most: int) -> Steps:
    """Episodes of at most `most` steps: their beginnings."""
    length = np.minimum(np.diff(steps.offset), most)
    offset = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    rows = np.repeat(steps.offset[:-1] - offset[:-1], length) + np.arange(offset[-1])
    return dataclasses.replace(
        steps,
        observation=steps.observation[rows],
        action=steps.action[rows],
        offset=offset,
        timestamp=None if steps.timestamp is None else steps.timestamp[rows],
    )
