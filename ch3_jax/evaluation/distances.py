r"""How far predicted actions are from the law that they should follow.

A loss says how well a model predicts in the sense of that loss; five losses give five numbers that cannot be
compared. What a robot executes can be: draw predictions for one observation, and compare the cloud with the
demonstrators' actions there.

  energy        D(P, Q) = 2 E|X - Y| - E|X - X'| - E|Y - Y'|    |.| Euclidean, over whole actions; 0 iff P = Q
  Wasserstein   W(P, Q) = \int |F_P(x) - F_Q(x)| dx             how far mass must move, one dimension
  modes         share of the predictions around each way to do the task
  valley        share of the predictions between two ways, where nobody ever went

The first two see any difference; the last two name the one that hurts: an average of two good actions is
often a bad one.

References: Szekely and Rizzo 2013, Energy statistics, Journal of Statistical Planning and Inference 143(8).
Villani 2009, Optimal Transport, theorem 2.18 and remark 2.19.
"""

import jax.numpy as jnp

from ch3_jax import checks
from ch3_jax.base import Array
from ch3_jax.errors import InputError


def energy_distance(x: Array, y: Array, *, unbiased: bool = False) -> Array:
    """Energy distance between two clouds of actions.

    2 mean |x_i - y_j| - mean |x_i - x_k| - mean |y_j - y_l|

    Args:
      x: (n, A) floating point, n of 2 or more where `unbiased`.
      y: (m, A), m likewise.
      unbiased: means over i != k and j != l, whose expectation is the distance of the laws (and which may
        come out a little below 0); False takes i = k along, which is the distance of the two clouds
        themselves, never negative, and between two clouds of one law of the order of 1/n.

    Returns:
      () in the unit of the actions.

    Raises:
      ValueError: shapes that do not fit. TypeError: integers. InputError: too few actions.

    >>> float(energy_distance(jnp.array([[0.0], [0.0]]), jnp.array([[1.0], [1.0]])))
    2.0
    """
    checks.floating(x=x, y=y)
    checks.shapes(x=(x, "N A"), y=(y, "M A"))
    least = 2 if unbiased else 1
    for name, cloud in (("x", x), ("y", y)):
        _require_samples(name, cloud, least)
    return 2 * jnp.mean(_distances(x, y)) - _inner(x, unbiased) - _inner(y, unbiased)


def wasserstein_1(x: Array, y: Array) -> Array:
    """1-Wasserstein distance between two samples of numbers.

    Args:
      x: (n,) floating point, n at least 1.
      y: (m,), m at least 1.

    Returns:
      () in the unit of the samples: the mean way that mass has to go.

    Raises:
      ValueError: not one axis. TypeError: integers. InputError: an empty sample.

    >>> float(wasserstein_1(jnp.array([0.0, 1.0]), jnp.array([5.0, 6.0])))
    5.0
    """
    checks.floating(x=x, y=y)
    checks.shapes(x=(x, "N"), y=(y, "M"))
    for name, sample in (("x", x), ("y", y)):
        _require_samples(name, sample, 1)
    both = jnp.sort(jnp.concatenate([x, y]))
    # Counts become floats of the samples' own precision before they are divided.
    below = [
        jnp.searchsorted(jnp.sort(s), both[:-1], side="right").astype(both.dtype) / s.shape[0] for s in (x, y)
    ]
    return jnp.sum(jnp.abs(below[0] - below[1]) * jnp.diff(both))


def mode_shares(x: Array, centres: Array, radius: float) -> Array:
    """Share of the numbers within a radius of each centre.

    Args:
      x: (n,) floating point.
      centres: (M,) the modes.
      radius: above 0, in the same unit.

    Returns:
      (M,) in [0, 1].

    Raises:
      ValueError: not one axis. TypeError: integers. InputError: an empty sample, a radius of 0 or less.

    >>> mode_shares(jnp.array([-1.0, -0.9, 1.0, 0.0]), jnp.array([-1.0, 1.0]), 0.3).tolist()
    [0.5, 0.25]
    """
    checks.floating(x=x, centres=centres)
    checks.shapes(x=(x, "N"), centres=(centres, "M"))
    _require_samples("x", x, 1)
    if not radius > 0:
        raise InputError(
            "`radius` of a mode must be above 0",
            got=radius,
            expected="a number above 0, three standard deviations of the noise",
            cause="data without noise",
            fix="radius=3 * noise",
        )
    return jnp.mean(jnp.abs(x[:, None] - centres[None]) <= radius, axis=0, dtype=x.dtype)


def valley_share(x: Array, low: float | Array, high: float | Array) -> Array:
    """Share of the numbers inside (low, high), the stretch between two modes.

    Args:
      x: (n,) floating point.
      low, high: ends, low below high; both outside.

    Returns:
      () in [0, 1].

    Raises:
      ValueError: not one axis. TypeError: integers. InputError: an empty sample.

    >>> float(valley_share(jnp.array([-1.0, -0.1, 0.1, 1.0]), -0.25, 0.25))
    0.5
    """
    checks.floating(x=x)
    checks.shapes(x=(x, "N"))
    _require_samples("x", x, 1)
    return jnp.mean((x > low) & (x < high), dtype=x.dtype)


def _distances(x: Array, y: Array) -> Array:
    """|x_i - y_j| from differences: the square of a sum would cancel where the clouds are close."""
    return jnp.sqrt(jnp.sum(jnp.square(x[:, None] - y[None]), axis=-1))


def _inner(x: Array, unbiased: bool) -> Array:
    """Mean distance between two members of one cloud."""
    n = x.shape[0]
    return jnp.sum(_distances(x, x)) / (n * (n - 1) if unbiased else n * n)


def _require_samples(name: str, x: Array, least: int) -> None:
    if x.shape[0] < least:
        raise InputError(
            f"`{name}` has too few samples for a distance",
            got=x.shape[0],
            expected=f"{least} or more",
            cause="an empty selection",
            fix="draw more predictions",
        )
