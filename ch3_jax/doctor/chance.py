"""Tail probabilities from scipy's special functions: `scipy.stats` takes a second to load, these do not."""

import numpy as np


def binomial_tail(count: int, total: int, share: float) -> float:
    """P(X >= count) for X ~ Binomial(total, share).

    >>> round(binomial_tail(2, 2, 0.5), 6), binomial_tail(0, 5, 0.1)
    (0.25, 1.0)
    """
    from scipy.special import bdtrc

    return 1.0 if count <= 0 else float(bdtrc(count - 1, total, share))


def p_positive(x: np.ndarray) -> float:
    """One-sided t-test: the p-value of "the mean is 0" against "it is positive"; 1 with fewer than 4 numbers.

    >>> p_positive(np.array([1.0, 1.0, 1.0, 1.0])), p_positive(np.zeros(3))
    (0.0, 1.0)
    """
    from scipy.special import stdtr

    if len(x) < 4:
        return 1.0
    spread = x.std(ddof=1)
    if spread == 0:
        return 1.0 if x.mean() <= 0 else 0.0
    return float(stdtr(len(x) - 1, -x.mean() / spread * np.sqrt(len(x))))


def greater(x: np.ndarray, y: np.ndarray) -> float:
    """Mann-Whitney U: the p-value of "x is like y" against "x is larger", with ties, by the normal limit.

    >>> greater(np.arange(20.0) + 100, np.arange(20.0)) < 1e-6
    True
    """
    from scipy.special import ndtr

    both = np.concatenate([x, y])
    _, place, count = np.unique(both, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    n, m = len(x), len(y)
    u = rank[:n].sum() - n * (n + 1) / 2
    ties = (count**3 - count).sum() / ((n + m) * (n + m - 1))
    variance = n * m / 12 * (n + m + 1 - ties)
    return 1.0 if variance <= 0 else float(ndtr(-(u - n * m / 2 - 0.5) / np.sqrt(variance)))
