"""Six drills on one page: loss, its floor, and the gradient norm, with what the doctor says above each."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ch3_jax.metrics import Series

_BLUE, _ORANGE, _GREEN, _INK = "#0072B2", "#D55E00", "#009E73", "#222222"


def draw(
    histories: Mapping[str, Mapping[str, Series]],
    floors: Mapping[str, float],
    words: Mapping[str, str],
    out: Path,
) -> Path:
    """Writes the page as a PNG of 1500 x 900 pixels.

    Args:
      histories: name -> columns loss, val_loss and gradient_norm.
      floors: name -> smallest possible loss.
      words: name -> the diagnosis.
      out: the picture.

    Returns:
      `out`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 9), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, 3)
    for axes, (name, history) in zip(grid.ravel(), histories.items(), strict=False):
        _panel(axes, history, floors[name])
        said = "\n".join(textwrap.wrap(words[name], 52))
        axes.set_title(f"{name}\n{said}", fontsize=12, color=_INK, loc="left")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False, fontsize=12)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(out, format="png")
    return out


def _panel(axes: Any, history: Mapping[str, Series], floor: float) -> None:
    held_out, loss, norm = (history[name] for name in ("val_loss", "loss", "gradient_norm"))
    axes.plot(norm.steps, norm.values, color=_GREEN, linewidth=1.2, alpha=0.7, label="gradient norm")
    axes.plot(held_out.steps, held_out.values, color=_ORANGE, linewidth=1.4, label="validation loss")
    axes.plot(loss.steps, loss.values, color=_BLUE, linewidth=2.2, label="training loss")
    axes.axhline(floor, color=_INK, linestyle=(0, (6, 4)), linewidth=1.4, label="smallest possible loss")
    axes.set_yscale("log")
    finite = np.concatenate([s.values[np.isfinite(s.values)] for s in (held_out, loss, norm)])
    axes.set_ylim(0.5 * min(finite.min(), floor), 2 * finite.max())
    axes.set_xlabel("step", color="#555555")
    axes.grid(color="#EEEEEE")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
