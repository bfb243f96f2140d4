"""What a curve did, in words that its numbers decide.

The plateau is where the training loss lies once it has stopped falling and before the network begins to know
the pairs by heart: the mean of the ten rows after the first row i that is within 5 % of the median of those,

    | loss_i - median(loss_{i+1} ... loss_{i+10}) | <= 0.05 median.

A later mean would count memorising, an earlier one the fall.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ch3_jax.metrics import Series

_ROWS, _NEAR = 10, 0.05


class Shape(NamedTuple):
    """A run's curves in a few numbers.

    Attributes:
      start: validation loss before the first step.
      first, worst, end: training loss of the first row, the highest, and the mean of the last tenth.
      plateau, since: level after the fall, and the step where it begins.
      spikes: share of the rows above ten times the median loss.
      held_out: last validation loss.
      norm_start, norm_peak, norm_end: gradient norm of the first row, the worst step, the last tenth.
      stopped: step of the first number that is not finite, None where all are.
    """

    start: float
    first: float
    worst: float
    end: float
    plateau: float
    since: int
    spikes: float
    held_out: float
    norm_start: float
    norm_peak: float
    norm_end: float
    stopped: int | None


def shape(history: Mapping[str, Series]) -> Shape:
    """The shape of a history.

    Args:
      history: with loss, val_loss, gradient_norm and gradient_norm_max.
    """
    loss, norm = history["loss"], history["gradient_norm"]
    good = np.isfinite(loss.values) & np.isfinite(norm.values)
    stopped = None if good.all() else int(loss.steps[np.argmin(good)])
    values, norms = loss.values[good], norm.values[good]
    if not len(values):
        return Shape(
            float(history["val_loss"].values[0]), *[float("nan")] * 4, 0, 0.0, *[float("nan")] * 4, stopped
        )
    tenth = max(len(values) // 10, 1)
    level, at = plateau(values)
    return Shape(
        float(history["val_loss"].values[0]),
        float(values[0]),
        float(values.max()),
        float(values[-tenth:].mean()),
        level,
        int(loss.steps[good][at]),
        float(np.mean(values > 10 * np.median(values))),
        float(history["val_loss"].values[-1]),
        float(norms[0]),
        float(np.nanmax(history["gradient_norm_max"].values[good])),
        float(norms[-tenth:].mean()),
        stopped,
    )


def plateau(values: np.ndarray) -> tuple[float, int]:
    """(level, first row) of the plateau.

    Args:
      values: (n,) finite losses, one per row.

    >>> plateau(np.array([8.0, 4.0, 2.0, 1.0] + [1.0] * 10))
    (1.0, 3)
    """
    for i in range(max(len(values) - _ROWS, 0)):
        after = values[i + 1 : i + 1 + _ROWS]
        middle = np.median(after)
        if abs(values[i] - middle) <= _NEAR * abs(middle):
            return float(after.mean()), i
    return float(values[-_ROWS:].mean()), max(len(values) - _ROWS, 0)


def loss_words(s: Shape, floor: float) -> str:
    """What the loss did."""
    if s.stopped is not None:
        return f"was not finite at step {s.stopped:,}"
    if abs(s.end / s.start - 1) < _NEAR and s.worst < 1.5 * s.start:
        return f"stayed at {s.end:.3g} where it began, {s.end / floor:.3g} times its floor"
    ending = f"{s.end:.3g}, {s.end / floor:.3g} times its floor {floor:.3g}"
    if s.worst > 10 * s.start and s.end > 10 * s.start:
        return f"never came down from the {s.worst:.3g} that it jumped to, and ended at {ending}"
    if s.worst > 10 * s.start:
        came = "came back no lower than it began" if s.end > (1 - _NEAR) * s.start else "came down again"
        return f"jumped from {s.start:.3g} to {s.worst:.3g}, {came}, and ended at {ending}"
    fall = f"fell from {s.start:.3g} to a plateau of {s.plateau:.4g} from step {s.since:,} on"
    ending = f"ended at {s.end:.3g} (held out {s.held_out:.3g})"
    return f"{fall}, {s.plateau / floor:.3f} times its floor {floor:.4g}, and {ending}"


def norm_words(s: Shape, usual: Shape) -> str:
    """What the gradient norm did, beside that of the healthy run."""
    if s.stopped is not None:
        return f"was {s.norm_end:.3g} before that"
    ratio = s.norm_end / usual.norm_end
    beside = f"{ratio:.3g} times the baseline's" if s is not usual else "as the others are measured by"
    if s.norm_peak > 20 * max(s.norm_end, usual.norm_peak):
        return f"peaked at {s.norm_peak:.3g} and ended at {s.norm_end:.3g}, {beside}"
    if abs(s.norm_end / s.norm_start - 1) < 0.1:
        return f"stayed at {s.norm_end:.3g}, {beside}"
    went = "fell" if s.norm_end < s.norm_start else "rose"
    return f"{went} from {s.norm_start:.3g} to {s.norm_end:.3g}, {beside}"


def sentence(name: str, s: Shape, usual: Shape, floor: float, diagnosis: str) -> str:
    """The one sentence of a drill."""
    did = f"loss {loss_words(s, floor)}; gradient norm {norm_words(s, usual)}"
    return f"{name}: {did}; the diagnosis is {diagnosis}."
