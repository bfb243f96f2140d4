"""Count, mean, variance and range of blocks of rows, and of blocks joined.

Blocks a and b combine without ever subtracting large squares, which loses all digits where the
mean is large against the deviation:

  delta = mean_b - mean_a,   n = n_a + n_b,
  mean = mean_a + delta n_b / n,   M2 = M2_a + M2_b + delta^2 n_a n_b / n,   std = sqrt(M2 / n).

References: Welford 1962; Chan, Golub and LeVeque 1983, "Algorithms for computing the sample
variance", eq. 2.1.
"""

from typing import NamedTuple

import numpy as np

_PIECE = 4096  # rows at a time: their float64 copy stays in the cache


class Moments(NamedTuple):
    """What is kept of `count` rows of D dimensions.

    Attributes:
      count: n.
      mean: (D,) float64.
      m2: (D,) float64, sum of squared deviations from the mean.
      min, max: (D,) float64.
    """

    count: int
    mean: np.ndarray
    m2: np.ndarray
    min: np.ndarray
    max: np.ndarray


def of_rows(x: np.ndarray) -> Moments:
    """The moments of at least one row (N, D).

    >>> m = of_rows(np.array([[1.0], [3.0]]))
    >>> m.count, m.mean.tolist(), m.m2.tolist()
    (2, [2.0], [2.0])
    """
    if not len(x):
        raise ValueError("`x` has no rows, and the mean of nothing is not a number.")
    total = None
    for i in range(0, len(x), _PIECE):
        piece = x[i : i + _PIECE]
        low, high = piece.min(0).astype(np.float64), piece.max(0).astype(np.float64)
        # Rows are taken relative to one of them, so that a constant has exactly its own mean.
        origin = piece[0].astype(np.float64)
        shifted = piece - origin
        mean = shifted.mean(0)
        shifted -= mean
        m2 = np.einsum("nd,nd->d", shifted, shifted)
        total = join(total, Moments(len(piece), origin + mean, m2, low, high))
    return total


def join(a: Moments | None, b: Moments | None) -> Moments | None:
    """The moments of the rows of both; None stands for no rows."""
    if a is None or b is None:
        return a if b is None else b
    count = a.count + b.count
    delta = b.mean - a.mean
    return Moments(
        count,
        a.mean + delta * (b.count / count),
        a.m2 + b.m2 + delta * delta * (a.count / count * b.count),
        np.minimum(a.min, b.min),
        np.maximum(a.max, b.max),
    )


def mean_and_std(moments: Moments) -> tuple[np.ndarray, np.ndarray]:
    """(D,) mean inside [min, max], and std with ddof 0; exactly 0 where all rows are equal.

    Raises:
      ValueError: values too large for their square to be a float64.
    """
    constant = moments.min == moments.max
    std = np.where(constant, 0.0, np.sqrt(moments.m2 / moments.count))
    if not np.all(np.isfinite(std)):
        d = int(np.argmin(np.isfinite(std)))
        reach = max(abs(moments.min[d]), abs(moments.max[d]))
        raise ValueError(f"dimension {d}: values up to {reach:g} are too large to be squared.")
    return np.clip(moments.mean, moments.min, moments.max), std
