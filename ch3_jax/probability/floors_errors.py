r"""Floors of the losses that answer with one number or with a density.

Given an observation an action dimension is m + o + s n, n ~ N(0, 1), with `o` one of equally likely offsets
that nothing observed reveals. m is known to the best policy and drops out:

  absolute error   min_c E |o + s n - c|          the median's
  Huber's error    min_c E huber(o + s n - c)
  -log density     h = -E log p(o + s n)          the differential entropy, 1/2 ln(2 pi e s^2) for one offset

Both errors are convex in c, and their expectation over a Gaussian has a closed form, so c is found by ternary
search.

References: Cover and Thomas, 2006, theorem 8.6.1 and section 8.1. Huber, 1964.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import special

_ROUNDS = 200  # of the ternary search: (2/3)^200 of the range is below any rounding
_REACH, _NODES_PER_STD = 9.0, 16.0


def absolute_error_floor(std: float, offsets: Sequence[float] = (0.0,)) -> float:
    """Smallest expected absolute error, in the action's units.

    Args:
      std: s, 0 or more.
      offsets: equally likely.

    >>> round(absolute_error_floor(1.0), 4)  # sqrt(2 / pi)
    0.7979
    """
    return _smallest(lambda c: _absolute(np.asarray(offsets, float) - c, std), offsets)


def huber_floor(std: float, offsets: Sequence[float] = (0.0,), delta: float = 1.0) -> float:
    """Smallest expected Huber error, half of the squared units near 0.

    Args:
      std: s, 0 or more.
      offsets: equally likely.
      delta: from where on the error is linear.

    >>> round(huber_floor(0.1), 4)  # far within delta: s^2 / 2
    0.005
    """
    return _smallest(lambda c: _huber(np.asarray(offsets, float) - c, std, delta), offsets)


def density_floor(std: float, offsets: Sequence[float] = (0.0,)) -> float:
    """Differential entropy of equally likely Gaussians, nats: what no density can score below.

    Args:
      std: s, above 0.
      offsets: equally likely.

    >>> round(density_floor(1.0), 4)  # 1/2 ln(2 pi e)
    1.4189
    """
    x, density = mixture_on_grid(std, offsets, _NODES_PER_STD)
    return float(special.entr(density).sum() * (x[1] - x[0]))


def mixture_on_grid(
    std: float, offsets: Sequence[float], nodes_per_std: float
) -> tuple[np.ndarray, np.ndarray]:
    """Equally spaced points over all of a mixture's mass, and its density there."""
    centres = np.unique(np.asarray(offsets, float))
    share = np.array([np.mean(np.asarray(offsets, float) == c) for c in centres])
    low, high = centres.min() - _REACH * std, centres.max() + _REACH * std
    x = np.linspace(low, high, math.ceil((high - low) / std * nodes_per_std) + 1)
    z = (x[:, None] - centres) / std
    return x, np.exp(-0.5 * z**2) @ share / (std * math.sqrt(2 * math.pi))


def atoms_floor(values: np.ndarray, error: Callable[[np.ndarray], np.ndarray]) -> float:
    """Smallest mean error of one number against equally likely values, for a convex error.

    >>> round(atoms_floor(np.array([0.0, 1.0, 5.0]), np.abs), 4)  # the median is 1: (1 + 0 + 4) / 3
    1.6667
    """
    return _smallest(lambda c: error(np.asarray(values) - c), values)


def huber(x: np.ndarray, delta: float) -> np.ndarray:
    """Huber's error of x, elementwise."""
    within = np.minimum(np.abs(x), delta)
    return within**2 / 2 + delta * (np.abs(x) - within)


def _smallest(errors: Callable[[float], np.ndarray], offsets: Sequence[float]) -> float:
    """min over c between the ends of the mean of `errors(c)`, convex in c."""
    low, high = float(np.min(offsets)), float(np.max(offsets))
    for _ in range(_ROUNDS if high > low else 0):
        third = (high - low) / 3
        if errors(low + third).mean() <= errors(high - third).mean():
            high -= third
        else:
            low += third
    return float(errors((low + high) / 2).mean())


def _absolute(mean: np.ndarray, std: float) -> np.ndarray:
    """E |mean + s n|, the folded Gaussian."""
    if std == 0:
        return np.abs(mean)
    z = mean / std
    return std * 2 * _density(z) + mean * (1 - 2 * special.ndtr(-z))


def _huber(mean: np.ndarray, std: float, delta: float) -> np.ndarray:
    """E huber(mean + s n): a truncated second moment between -delta and delta, two first moments beyond."""
    if std == 0:
        return huber(mean, delta)
    low, high = (-delta - mean) / std, (delta - mean) / std
    below, above, inside = special.ndtr(low), special.ndtr(-high), special.ndtr(high) - special.ndtr(low)
    square = (mean**2 + std**2) * inside + 2 * mean * std * (_density(low) - _density(high))
    square += std**2 * (low * _density(low) - high * _density(high))
    right = (mean - delta / 2) * above + std * _density(high)
    left = (-mean - delta / 2) * below + std * _density(low)
    return square / 2 + delta * (right + left)


def _density(z: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
