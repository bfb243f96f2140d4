r"""Tests that several checks share: trends, robust spreads, corrections for many looks, predictability.

A trend is judged by ranks (Mann-Kendall), because losses have tails; a slope by the median of slopes
(Theil-Sen); a spread by the median absolute deviation; p-values of many looks by Holm's step-down rule; and
whether one thing can be told from another by the R^2 of a ridge regression on what it has not seen,

  R^2 = 1 - sum (y - y_hat)^2 / sum (y - mean of the rest)^2.

References: Mann 1945; Kendall 1975; Sen 1968; Holm 1979; Hoerl and Kennard 1970.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.ndimage import median_filter

_MOST = 400


class Trend(NamedTuple):
    """Of a curve.

    Attributes:
      tau: Kendall's, -1 always falling, 1 always rising.
      p: of no trend, two-sided.
      slope: per unit of x, median of the slopes between pairs.
    """

    tau: float
    p: float
    slope: float


def trend(x: np.ndarray, y: np.ndarray) -> Trend:
    """Mann-Kendall and Theil-Sen of a curve, on at most 400 means of neighbours.

    Args:
      x: (n,) increasing.
      y: (n,) finite.

    Returns:
      A `Trend`; p is 1 for fewer than 4 points or a constant.

    >>> trend(np.arange(20), -np.arange(20.0)).tau
    -1.0
    """
    if len(x) > _MOST:
        groups = np.array_split(np.arange(len(x)), _MOST)
        x = np.array([x[g].mean() for g in groups])
        y = np.array([y[g].mean() for g in groups])
    if len(x) < 4 or np.ptp(y) == 0:
        return Trend(0.0, 1.0, 0.0)
    result = stats.kendalltau(x, y)
    return Trend(float(result.statistic), float(result.pvalue), float(stats.theilslopes(y, x).slope))


def robust_sigma(x: np.ndarray) -> float:
    """Standard deviation by the median absolute deviation, which outliers do not move.

    >>> round(robust_sigma(np.array([1.0, 2.0, 3.0, 4.0, 1000.0])), 3)
    1.483
    """
    return float(1.4826 * np.median(np.abs(x - np.median(x)))) if len(x) else 0.0


def running_median(x: np.ndarray, width: int) -> np.ndarray:
    """Median over `width` neighbours, ends repeated.

    >>> running_median(np.array([1.0, 9.0, 1.0, 1.0]), 3).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    return median_filter(np.asarray(x, np.float64), size=max(1, min(width, len(x))), mode="nearest")


def holm(p: np.ndarray) -> np.ndarray:
    """p-values that hold for all the looks together (Holm's step-down).

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, np.float64)
    order = np.argsort(p)
    scaled = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    result = np.empty_like(p)
    result[order] = np.minimum(scaled, 1)
    return result


def ridge_r2(x: np.ndarray, y: np.ndarray, folds: int = 5, penalty: float = 1e-2) -> np.ndarray:
    """How much of each column of y a ridge regression on x tells, on rows that it was not fitted to.

    Args:
      x: (N, S) inputs; constant columns are left out, others standardised.
      y: (N, A).
      folds: contiguous parts, so that neighbouring steps of an episode stay together.
      penalty: per row.

    Returns:
      (A,) R^2 on held-out rows: about 0 where x tells nothing, NaN for a constant column of y.

    >>> x = np.random.default_rng(0).normal(size=(200, 3))
    >>> ridge_r2(x, x[:, :1] * 2).round(2).tolist()
    [1.0]
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    x = x[:, np.ptp(x, axis=0) > 0]
    x = np.column_stack([(x - x.mean(0)) / x.std(0), np.ones(len(x))])
    left, total = np.zeros(y.shape[1]), np.zeros(y.shape[1])
    for part in np.array_split(np.arange(len(x)), folds):
        rest = np.setdiff1d(np.arange(len(x)), part)
        gram = x[rest].T @ x[rest] + penalty * len(rest) * np.eye(x.shape[1])
        weights = np.linalg.solve(gram, x[rest].T @ y[rest])
        left += np.square(y[part] - x[part] @ weights).sum(0)
        total += np.square(y[part] - y[rest].mean(0)).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > 0, 1 - left / total, np.nan)


def correlation_p(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Spearman's rank correlation and its two-sided p; (0, 1) where one side is constant."""
    if len(x) < 4 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0, 1.0
    result = stats.spearmanr(x, y)
    return float(result.statistic), float(result.pvalue)
