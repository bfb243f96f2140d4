"""The picture of a run: is it learning, is it memorising, how far is it from what can be reached.

Above, the training loss (each logged number pale, its moving mean dark), the validation loss as points,
and the floor, the lowest loss that any policy can reach on these data. Below, the gradient's norm before
clipping and the update ratio ||d theta|| / ||theta||, on logarithmic axes.

  smoothed_i = mean of the finite loss_j,  |i - j| <= n / 100      for n logged numbers

With tens of thousands of rows only the extremes of each stretch of rows are drawn: the same ink, at a
cost that does not grow with the run.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ch3_jax.errors import InputError
from ch3_jax.metrics import Series, read_csv

# Okabe and Ito's colours, told apart with any colour vision, on paper also by lightness.
_BLUE, _ORANGE, _GREEN, _PURPLE, _INK = "#0072B2", "#D55E00", "#009E73", "#AA4499", "#222222"
_STRETCHES = 1000
_MANY = 20


class Names(NamedTuple):
    """Columns of the table that are drawn; one that is not there, or empty, is left out."""

    train: str = "loss"
    validation: str = "val_loss"
    gradient_norm: str = "gradient_norm"
    update_ratio: str = "update_ratio"


def draw(
    source: str | Path | Mapping[str, Any],
    out_path: str | Path,
    floor: float | None = None,
    floor_name: str = "floor",
    title: str = "",
    *,
    unit: str = "nats",
    log: bool | None = None,
    names: Names = Names(),  # noqa: B008 - immutable
) -> Path:
    """Writes the picture of a run as a PNG of 1200 x 800 pixels.

    Args:
      source: a metrics.csv, or name -> (steps, values).
      out_path: the picture; it appears whole or not at all.
      floor: the lowest loss that can be reached; None where it is not known.
      floor_name: what the floor is, for the legend: "floor (entropy of the binned conditional)".
      title: one line on what was run.
      unit: of the loss, for its axis: "nats", "squared normalised units".
      log: True for a logarithmic loss axis; None for one unless the unit is nats, and where a diverging
        run spans more than a factor of 100.
      names: which columns to draw.

    Returns:
      `out_path`.

    Raises:
      InputError: no table there, or matplotlib is not installed.
      OSError: the picture cannot be written.
    """
    columns = read_csv(source, names) if isinstance(source, str | Path) else source
    series = Names(*(_series(columns.get(name, ((), ()))) for name in names))
    figure, loss_axes, panels = _frame(title)
    if not series.train.steps.size and not series.validation.steps.size:
        loss_axes.text(0.5, 0.5, "no losses were logged", transform=loss_axes.transAxes, ha="center")
    _draw_losses(loss_axes, series, floor, floor_name, unit, log)
    _draw_panel(panels[0], series.gradient_norm, "gradient norm\n(before clipping)", _GREEN)
    _draw_panel(panels[1], series.update_ratio, "update ratio", _PURPLE)
    _finish(loss_axes, panels, series)
    out_path = Path(out_path)
    temporary = out_path.with_name(out_path.name + ".writing")
    try:
        figure.savefig(temporary, format="png")
        temporary.replace(out_path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return out_path


def smoothed(values: np.ndarray) -> np.ndarray:
    """The centred moving mean over a fiftieth of the run, over what is finite.

    Args:
      values: (n,) float.

    Returns:
      (n,) float64; NaN where a window has nothing finite.

    Example:
      >>> smoothed(np.array([1.0, 2.0, 3.0]))
      array([1., 2., 3.])
    """
    half = len(values) // 100
    good = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(good, values, 0.0), dtype=np.float64)])
    counts = np.concatenate([[0], np.cumsum(good)])
    i = np.arange(len(values))
    first, last = np.maximum(i - half, 0), np.minimum(i + half + 1, len(values))
    number = counts[last] - counts[first]
    means = (sums[last] - sums[first]) / np.maximum(number, 1)
    return np.where(number > 0, means, np.nan)


def thinned(steps: np.ndarray, values: np.ndarray, stretches: int = _STRETCHES) -> Series:
    """At most two points of each stretch of rows, its least and its greatest finite value, in order.

    Args:
      steps: (n,), rising.
      values: (n,) float.
      stretches: how many stretches of equal length the rows are cut into.

    Returns:
      A `Series`; the same one where it is short enough already.
    """
    if len(values) <= 2 * stretches:
        return Series(np.asarray(steps), np.asarray(values))
    edges = np.linspace(0, len(values), stretches + 1).astype(int)[:-1]
    kept = []
    for sign in (1.0, -1.0):
        keys = np.where(np.isfinite(values), sign * values, np.inf)
        least = np.minimum.reduceat(keys, edges)
        stretch = np.repeat(np.arange(stretches), np.diff(np.append(edges, len(values))))
        hits = np.flatnonzero(keys == least[stretch])
        kept.append(hits[np.unique(stretch[hits], return_index=True)[1]])
    rows = np.unique(np.concatenate(kept))
    return Series(np.asarray(steps)[rows], np.asarray(values)[rows])


def _series(pair: Any) -> Series:
    steps, values = pair
    return Series(np.asarray(steps, np.int64), np.asarray(values, np.float64))


def _frame(title: str) -> tuple[Any, Any, list[Any]]:
    """(figure, axes of the loss, two panels); without pyplot, which would keep every figure alive."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError(
            "curves.png needs the package matplotlib",
            got=error,
            expected="an installed matplotlib",
            cause="it is not among the packages of this environment",
            fix="pip install matplotlib",
        ) from error
    figure = Figure(figsize=(12, 8), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(3, 1, height_ratios=(4, 1, 1), hspace=0.12)
    grid.update(left=0.11, right=0.97, top=0.865, bottom=0.08)
    top = figure.add_subplot(grid[0])
    panels = [figure.add_subplot(grid[1], sharex=top), figure.add_subplot(grid[2], sharex=top)]
    # A dollar sign would start a formula.
    figure.text(0.11, 0.96, title.replace("$", r"\$"), fontsize=17, color=_INK)
    for axes in (top, *panels):
        axes.grid(color="#DDDDDD", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=12, color="#888888", labelbottom=axes is panels[-1])
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_color("#888888")
    return figure, top, panels


def _draw_losses(
    axes: Any, series: Names, floor: float | None, floor_name: str, unit: str, log: bool | None
) -> None:
    train, validation = series.train, series.validation
    floor = floor if floor is not None and math.isfinite(floor) else None
    everything = np.concatenate([train.values, validation.values, [] if floor is None else [floor]])
    finite = everything[np.isfinite(everything)]
    if _logarithmic(finite, unit, log):
        axes.set_yscale("log", nonpositive="mask")
        _plain_ticks(axes.yaxis)
        finite = finite[finite > 0]
    if finite.size:
        axes.set_ylim(*_limits(finite.min(), finite.max(), axes.get_yscale() == "log"))
    axes.set_ylabel(f"loss ({unit}{', log scale' if axes.get_yscale() == 'log' else ''})", fontsize=14)
    if train.steps.size:
        few = len(train.values) < _MANY
        label = f"train{_last(train if few else Series(train.steps, smoothed(train.values)))}"
        if few:
            axes.plot(*train, color=_BLUE, linewidth=2, marker="o", markersize=5, label=label)
        else:
            axes.plot(*thinned(*train), color=_BLUE, linewidth=0.8, alpha=0.45)
            axes.plot(*thinned(train.steps, smoothed(train.values)), color=_BLUE, linewidth=2.2, label=label)
    if validation.steps.size:
        points = thinned(*validation)
        size = 8 if len(points.steps) <= 60 else 4
        axes.plot(
            *points,
            color=_ORANGE,
            linewidth=1.2,
            marker="D",
            markersize=size,
            markeredgecolor="white",
            label=f"validation{_last(validation)}",
            zorder=4,
        )
    if floor is not None:
        label = f"{floor_name}: {_number(floor)}"
        axes.axhline(floor, color=_INK, linewidth=1.8, linestyle=(0, (6, 4)), label=label, zorder=3)
    lost = train.steps[~np.isfinite(train.values)]
    if lost.size:
        label = f"not finite: {lost.size:,} of {train.steps.size:,} rows, first at step {lost[0]:,}"
        axes.axvline(lost[0], color="#CC0000", linewidth=2, linestyle=":", label=label)


def _draw_panel(axes: Any, series: Series, name: str, colour: str) -> None:
    axes.set_ylabel(name, fontsize=11)
    positive = np.isfinite(series.values) & (series.values > 0)
    if not positive.any():
        axes.text(0.5, 0.45, "not logged", transform=axes.transAxes, ha="center", color="#888888")
        axes.set_yticks([])
        return
    axes.set_yscale("log", nonpositive="mask")
    # Rows without a number leave a gap: a line across it would be made up.
    values = np.where(positive, series.values, np.nan)
    if len(values) < _MANY:
        axes.plot(series.steps, values, color=colour, linewidth=1.5, marker="o", markersize=4)
    else:
        means = np.where(positive, np.exp(smoothed(np.log(values))), np.nan)
        axes.plot(*thinned(series.steps, values), color=colour, linewidth=0.8, alpha=0.4)
        axes.plot(*thinned(series.steps, means), color=colour, linewidth=1.8)
    low, high = np.min(values[positive]), np.max(values[positive])
    # One decade at least, so that a calm run looks calm.
    middle, wide = math.sqrt(low * high), max(high / low * 1.3, 10.0)
    axes.set_ylim(middle / math.sqrt(wide), middle * math.sqrt(wide))
    _plain_ticks(axes.yaxis, (1.0, 3.0) if wide < 100 else (1.0,), 5)


def _finish(top: Any, panels: list[Any], series: Names) -> None:
    """Limits and the legend, which stands above the axes where it can hide nothing."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    steps = np.concatenate([s.steps for s in series])
    if steps.size:
        low, high = min(int(steps.min()), 0 if steps.min() <= steps.max() / 10 else steps.min()), steps.max()
        room = max((high - low) * 0.015, 1)
        top.set_xlim(low - room, high + room)
    top.figure.align_ylabels()
    panels[-1].set_xlabel("step", fontsize=14)
    panels[-1].xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    panels[-1].xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    handles, labels = top.get_legend_handles_labels()
    if handles:
        # In two rows where one would run over the edge.
        columns = len(handles) if sum(map(len, labels)) <= 85 else 2
        top.legend(
            handles,
            [label.replace("$", r"\$") for label in labels],
            loc="lower left",
            bbox_to_anchor=(-0.01, 1.0),
            ncols=columns,
            fontsize=13,
            frameon=False,
            borderaxespad=0.2,
            columnspacing=1.6,
        )


def _logarithmic(finite: np.ndarray, unit: str, log: bool | None) -> bool:
    """A loss of squares falls by factors, a cross-entropy by differences."""
    if log is not None:
        return log and bool((finite > 0).any())
    if not finite.size or finite.min() <= 0:
        return False
    return unit != "nats" or finite.max() > 100 * finite.min()


def _limits(low: float, high: float, logarithmic: bool) -> tuple[float, float]:
    """A little more than the data, also where they are all one number."""
    if logarithmic:
        factor = max((high / low) ** 0.06, 1.1)
        return low / factor, high * factor
    room = max((high - low) * 0.06, 1e-3 * abs(high)) or 1.0
    return low - room, high + room


def _plain_ticks(axis: Any, digits: tuple[float, ...] = (1.0, 2.0, 5.0), most: int = 12) -> None:
    """0.02, 0.05, 0.1 instead of powers, and enough of them where less than a decade is shown."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=digits, numticks=most))
    axis.set_major_formatter(FuncFormatter(lambda x, _: _number(x)))
    axis.set_minor_locator(NullLocator())


def _last(series: Series) -> str:
    """The last finite number, for the legend."""
    good = np.flatnonzero(np.isfinite(series.values))
    return f": {_number(series.values[good[-1]])}" if good.size else ""


def _number(value: float) -> str:
    """Four digits.

    >>> [_number(v) for v in (2.73049, 0.0012345, 0.02, 5, 0, 1234567)]
    ['2.73', '0.001234', '0.02', '5', '0', '1.235e+06']
    """
    return f"{value:.4g}"
