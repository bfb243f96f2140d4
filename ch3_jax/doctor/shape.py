"""A training loss, ready to be asked: its noise, its level, where it starts, ends and is lowest."""

import math
from typing import NamedTuple

import numpy as np

from ch3_jax.doctor.statistics import robust_sigma, running_median
from ch3_jax.metrics import Series


class Curve(NamedTuple):
    """A training loss, ready to be asked.

    Attributes:
      steps, values: (n,) in the order of the steps, all finite.
      smooth: (n,) running median.
      sigma: of the noise.
      start, end: median of the first and last few values.
      low: the least of `smooth`.
    """

    steps: np.ndarray
    values: np.ndarray
    smooth: np.ndarray
    sigma: float
    start: float
    end: float
    low: float

    @property
    def learnt(self) -> float:
        """How far it fell from its start to its lowest level."""
        return self.start - self.low


def curve_of(series: Series) -> Curve:
    """A series as a `Curve`; a step that was written twice keeps its last value."""
    finite = np.isfinite(series.values)
    steps, values = series.steps[finite], series.values[finite]
    if len(steps) and (np.diff(steps) <= 0).any():
        last = {int(step): i for i, step in enumerate(steps)}
        order = np.array([last[step] for step in sorted(last)])
        steps, values = steps[order], values[order]
    count = len(values)
    smooth = running_median(values, max(3, min(count // 12, 101)) | 1) if count else values
    few = max(1, min(3, count // 20))
    end = float(np.median(values[-max(3, count // 10) :])) if count else math.nan
    start = float(np.median(values[:few])) if count else math.nan
    low = float(smooth.min()) if count else math.nan
    return Curve(steps, values, smooth, robust_sigma(values - smooth), start, end, low)
