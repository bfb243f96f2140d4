"""The two pictures of the bake-off: losses over their floors, and what the models do.

In `curves.png` every loss is divided by the smallest value that any model can reach, so that nats and squared
errors share an axis and 1 is the best there is. In `spread.png` each column of dots is one observation,
placed so that the demonstrators' own way (or ways) lie on horizontal bands: a model that acts like them puts
its dots on the bands, and in the same proportion.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.bakeoff_parts.parts import Part
from experiments.bakeoff_parts.plan import MODELS, PREDICTORS, SETS, TITLES, Item

# Okabe and Ito's colours, told apart with any colour vision.
COLOURS = {"ce": "#0072B2", "mse": "#D55E00", "denoising": "#009E73", "ddpm": "#CC79A7", "flow": "#E69F00"}
_INK, _BAND, _VALLEY = "#222222", "#DDDDDD", "#F7D9D0"
_HEADINGS = {"unimodal": "one demonstrator", "bimodal": "two demonstrators, 2 N m apart"}
_ROOM = 1.33  # of the steps, for the names at the ends of the lines


def curves(parts: Mapping[Item, Part], out: Path) -> Path:
    """Validation losses (lines) and training losses (dotted) over their floors, one panel per set."""
    figure = _figure(13, 6.2)
    panels = figure.subplots(1, 2, sharey=True)
    panels[0].set_yscale("log")
    panels[0].set_ylim(*_limits(parts))
    for axes, data in zip(panels, SETS, strict=True):
        ends = []
        for model in sorted(MODELS, key=list(COLOURS).index):
            part = parts[Item(data, model)]
            floor, steps = part.facts["floor"], part.arrays["steps"]
            validation, train = part.arrays["validation"] / floor, part.arrays["train"] / floor
            axes.plot(steps, train, color=COLOURS[model], linewidth=1.3, linestyle=(0, (1, 1.4)))
            axes.plot(np.append(0, steps), validation, color=COLOURS[model], linewidth=2.4)
            ends.append((float(validation[-1]), model))
        axes.plot([0, steps[-1]], [1, 1], color=_INK, linewidth=1.6, linestyle=(0, (6, 4)))
        axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= steps[-1]])
        _name_ends(axes, ends, float(steps[-1]))
        axes.set_title(_HEADINGS[data], fontsize=15, color=_INK, loc="left")
        axes.set_xlabel("step", fontsize=13)
        axes.set_xlim(0, steps[-1] * _ROOM)
    _plain_ticks(panels[0])
    panels[0].set_ylabel("loss / smallest possible loss", fontsize=13)
    figure.text(0.065, 0.95, "How close to the best possible?", fontsize=19, color=_INK, weight="bold")
    figure.text(
        0.065,
        0.905,
        "lines: new data     dotted: training data     dashed: the best that any model can do on new data; "
        "below it is memorising",
        fontsize=12.5,
        color="#555555",
    )
    figure.subplots_adjust(left=0.065, right=0.985, top=0.82, bottom=0.1, wspace=0.05)
    return _save(figure, out)


def spread(parts: Mapping[Item, Part], scores: Mapping[str, Any], out: Path) -> Path:
    """What each way to predict answers to 20 held-out observations, asked ten times for each."""
    figure = _figure(15, 8.2)
    grid = figure.subplots(2, len(PREDICTORS) + 1, sharex=True, sharey="row")
    for row, data in zip(grid, SETS, strict=True):
        law = parts[Item(data, "mse")].arrays
        offsets, noise, mean = law["truth/offsets"], float(law["truth/noise"]), law["truth/mean"]
        order = np.argsort(mean)
        clouds = [("demonstrators", law["truth/draws"], _INK, "what is to be learned")]
        for p in PREDICTORS:
            part = parts[Item(data, p.model)]
            said = _verdict(scores[data][p.name], data)
            clouds.append((p.name, part.arrays[f"predictions/{p.name}"], COLOURS[p.model], said))
        for axes, (name, cloud, colour, said) in zip(row, clouds, strict=True):
            _bands(axes, offsets, noise)
            shifted = (cloud - mean[:, None])[order]
            place = np.broadcast_to(np.arange(len(mean))[:, None], shifted.shape)
            axes.plot(place.ravel(), shifted.ravel(), "o", color=colour, markersize=3.6, alpha=0.75, mew=0)
            if data == SETS[0]:
                axes.set_title(name, fontsize=14, color=colour, weight="bold", pad=26)
            axes.text(0.5, 1.02, said, transform=axes.transAxes, ha="center", va="bottom", fontsize=11)
            axes.set_xlim(-1, len(mean))
        reach = float(np.max(np.abs(offsets))) + 6 * noise
        row[0].set_ylim(-reach, reach)
        row[0].set_ylabel(f"{_HEADINGS[data]}\ntorque of joint 1, N m", fontsize=12.5)
    for axes in grid[-1]:
        axes.set_xlabel("20 new\nobservations", fontsize=11)
        axes.set_xticks([])
    figure.text(0.075, 0.955, "What does the robot do?", fontsize=19, color=_INK, weight="bold")
    figure.text(
        0.075,
        0.918,
        "each column of dots: ten answers to one new observation, its middle at 0     "
        "grey: where demonstrators act     red: between their two ways",
        fontsize=12.5,
        color="#555555",
    )
    figure.subplots_adjust(left=0.075, right=0.99, top=0.815, bottom=0.075, wspace=0.06, hspace=0.2)
    return _save(figure, out)


def _verdict(score: Mapping[str, Any], data: str) -> str:
    """A panel in a few words, from its numbers."""
    if data == "unimodal":
        return "always one answer" if score["spread"] == 0 else f"spread {score['spread']:.2f} N m"
    between = f"{100 * score['valley']:.1f} % in between"
    if score["spread"] == 0:
        return f"always one answer\n{between}"
    return f"finds both: {100 * score['modes']:.0f} %\n{between}"


def _bands(axes: Any, offsets: np.ndarray, noise: float) -> None:
    for offset in offsets:
        axes.axhspan(offset - 2 * noise, offset + 2 * noise, color=_BAND, zorder=0, linewidth=0)
        axes.axhline(offset, color="#999999", linewidth=0.8, zorder=1)
    if len(offsets) > 1:
        middle, half = offsets.mean(), np.ptp(offsets) / 8
        axes.axhspan(middle - half, middle + half, color=_VALLEY, zorder=0, linewidth=0)


def _name_ends(axes: Any, ends: list[tuple[float, str]], last: float) -> None:
    """Names at the ends of the lines, moved apart where they would cover one another."""
    bottom, top = np.log10(axes.get_ylim())
    place, step = -np.inf, 0.052 * (top - bottom)
    for value, model in sorted(ends):
        place = max(min(np.log10(value), top), place + step)
        axes.text(
            last * 1.02,
            10**place,
            f"{TITLES[model]} {value:.2f}",
            color=COLOURS[model],
            fontsize=12.5,
            weight="bold",
            va="center",
        )


def _limits(parts: Mapping[Item, Part]) -> tuple[float, float]:
    """From the lowest training loss to where the highest curve is after its first stretch."""
    low = min(part.arrays["train"].min() / part.facts["floor"] for part in parts.values())
    high = max(part.arrays["validation"][1:].max() / part.facts["floor"] for part in parts.values())
    return min(0.93, 0.95 * max(low, 0.5)), max(1.1, min(4.0, 1.1 * high))


def _plain_ticks(axes: Any) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.yaxis.set_major_locator(FixedLocator([0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.5, 2, 3, 4]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _figure(width: float, height: float) -> Any:
    """A figure without pyplot, which would keep every one of them alive."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, out: Path) -> Path:
    for axes in figure.axes:
        axes.tick_params(labelsize=11, color="#888888")
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    temporary = out.with_name(out.name + ".writing")
    try:
        figure.savefig(temporary, format="png")
        temporary.replace(out)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(out)) from error
    return out
