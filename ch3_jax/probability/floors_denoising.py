r"""Floors of the losses that ask for noise, action or velocity behind x = a x_0 + n \epsilon.

All targets are mixtures p = c_x x_0 + c_e \epsilon, and given x they are one unknown: \epsilon = (x - a x_0)
/ n. What no network can know is therefore the posterior variance of x_0, scaled,

  E (p - E[p | x, o])^2 = \frac{(a c_e - n c_x)^2}{n^2} E Var(x_0 | x, o),

averaged over the law of the levels. For x_0 = m + o + s z with equally likely offsets o,

  Var(x_0 | x) / n^2 = \frac{s^2}{D} + \frac{n^2}{D^2} Var(o | x),    D = a^2 s^2 + n^2,

and the second term, how far x leaves open which demonstrator it was, is an integral over x. For one offset
the chapter's three cases follow: the noise a^2 s^2 / D, the action n^2 s^2 / D, the velocity s^2 / D.

References: Efron, 2011, Tweedie's formula; Guo, Shamai and Verdu, 2005 (the variance as a function of the
signal-to-noise ratio alone).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import interpolate

_REACH = 9.0
_NODES_PER_STD = 8.0
_FAR = 12.0  # standard deviations of the noise between values, beyond which they are told apart
_TABLE = 80  # ratios at which the variance of values is tabulated


class Levels(NamedTuple):
    """The levels of noise that a loss asks about, as a quadrature rule.

    Attributes:
      signal, noise: (T,) a and n, float64.
      gain: (T,) (a c_e - n c_x)^2, times the weight that the loss gives to a level.
      share: (T,) how often a level is drawn, sum 1.
    """

    signal: np.ndarray
    noise: np.ndarray
    gain: np.ndarray
    share: np.ndarray


def denoising_floor(levels: Levels, std: float, offsets: Sequence[float] = (0.0,)) -> float:
    """Smallest expected squared error where the action is a mixture of Gaussians given the observation.

    Args:
      levels: of the loss.
      std: s, above 0.
      offsets: equally likely.

    Returns:
      The floor, in squared units of the target.

    One level, a = n = 1, s = 1: half of the noise's variance stays unknown.

    >>> one = np.ones(1)
    >>> denoising_floor(Levels(one, one, one, one), 1.0)
    0.5
    """
    a, n = levels.signal, levels.noise
    spread = a**2 * std**2 + n**2
    scaled = std**2 / spread
    centres, count = np.unique(np.asarray(offsets, float), return_counts=True)
    if len(centres) > 1:
        # In units of the standard deviation of x around its mode only a / sqrt(D) matters.
        ratio = a / np.sqrt(spread)
        scaled = scaled + n**2 / spread**2 * _undecided(ratio, centres, count / count.sum())
    return float(np.sum(levels.share * levels.gain * scaled))


def atoms_denoising_floor(levels: Levels, values: np.ndarray, scale: np.ndarray) -> np.ndarray:
    r"""The same where the action is one of equally likely values that the observation says nothing about.

    With x_0 = g c only the ratio \rho = a g / n matters: Var(x_0 | x) / n^2 = h(\rho) / a^2,
    h = \rho^2 Var(c | \rho c + z), which is tabulated once for all dimensions and levels.

    Args:
      levels: of the loss, with signal above 0 where noise is.
      values: (K,) c.
      scale: (A,) g of each dimension.

    Returns:
      (A,) floors.
    """
    values = np.sort(np.asarray(values, float))
    asked = (levels.noise > 0) & (levels.signal > 0)
    a, n = levels.signal[asked], levels.noise[asked]
    ratio = np.abs(np.asarray(scale, float))[:, None] * a / n
    table = np.geomspace(ratio.min() * 0.999, ratio.max() * 1.001, _TABLE)
    spline = interpolate.CubicSpline(np.log(table), [_resolved(values, r) for r in table])
    scaled = np.maximum(spline(np.log(ratio)), 0) / a**2
    floors = scaled @ (levels.share * levels.gain)[asked]
    # Where no signal is left nothing is known; where no noise is, nothing is asked that cannot be answered.
    blind = levels.signal == 0
    blank = np.sum((levels.share * levels.gain)[blind] / levels.noise[blind] ** 2)
    return floors + values.var() * np.asarray(scale, float) ** 2 * blank


def _undecided(ratio: np.ndarray, centres: np.ndarray, share: np.ndarray) -> np.ndarray:
    """E Var(o | y) of y = ratio o + N(0, 1), for (T,) ratios and centres o with probabilities (M,): (T,)."""
    reach = ratio.max() * np.abs(centres).max() + _REACH
    # One grid for all levels: far from a level's centres its density is 0.
    y, step = np.linspace(-reach, reach, int(np.ceil(2 * reach * _NODES_PER_STD)) + 1, retstep=True)
    distance = y[None, :, None] - ratio[:, None, None] * centres
    density = share * np.exp(-0.5 * distance**2) / np.sqrt(2 * np.pi)
    total = np.maximum(density.sum(-1), np.finfo(float).tiny)
    mean = density @ centres / total
    variance = (density * (centres - mean[..., None]) ** 2).sum(-1)
    return variance.sum(-1) * step


def _resolved(values: np.ndarray, ratio: float) -> float:
    """ratio^2 E Var(c | ratio c + z) for equally likely sorted values."""
    if ratio * np.diff(values).min() > _FAR:
        return 0.0  # the values are told apart
    centres = ratio * values
    count = int(np.ceil((np.ptp(centres) + 2 * _REACH) * _NODES_PER_STD / 2)) + 1
    y, step = np.linspace(centres[0] - _REACH, centres[-1] + _REACH, count, retstep=True)
    density = np.exp(-0.5 * (y[:, None] - centres) ** 2)
    total = np.maximum(density.sum(-1), np.finfo(float).tiny)
    mean, square = density @ centres, density @ centres**2
    return float((square - mean**2 / total).sum() * step / (len(values) * np.sqrt(2 * np.pi)))
