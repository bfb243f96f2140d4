"""The picture of a run by reward: is the task done, is the reward about it, does the critic know."""

from pathlib import Path

import numpy as np

from ch3_jax.errors import InputError
from ch3_jax.metrics import read_csv

# Okabe and Ito's colours, as in `experiments.curves`.
_BLUE, _ORANGE, _GREEN, _PURPLE = "#0072B2", "#D55E00", "#009E73", "#AA4499"
_PANELS = (
    (
        "success",
        (
            ("success", "training episodes", _BLUE, "-"),
            ("best_success", "without chance", _ORANGE, "o-"),
            ("sampled_success", "by chance", _PURPLE, "s--"),
        ),
    ),
    (
        "return",
        (
            ("return", "training episodes", _BLUE, "-"),
            ("best_return", "without chance", _ORANGE, "o-"),
        ),
    ),
    ("entropy, nats", (("entropy", "entropy", _GREEN, "-"),)),
    (
        "share",
        (
            ("explained_variance", "explained variance", _GREEN, "-"),
            ("clip_fraction", "clip fraction", _PURPLE, "-"),
        ),
    ),
)


def draw(table: Path, out: Path, title: str, per_iteration: int) -> Path:
    """Writes the picture of 1200 x 900 pixels; it appears whole or not at all.

    Args:
      table: a metrics.csv.
      out: the picture.
      title: one line on what was run.
      per_iteration: environment steps, for the axis; 0 counts iterations.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise InputError(
            "curves.png needs the package matplotlib",
            got=error,
            expected="an installed matplotlib",
            cause="it is not among the packages of this environment",
            fix="pip install matplotlib",
        ) from error
    names = [name for _, lines in _PANELS for name, *_ in lines]
    columns = read_csv(table, names)
    figure, axes = pyplot.subplots(len(_PANELS), 1, figsize=(12, 9), dpi=100, sharex=True)
    for ax, (label, lines) in zip(axes, _PANELS, strict=True):
        for name, words, colour, style in lines:
            steps, values = (np.asarray(x, float) for x in columns.get(name, ((), ())))
            good = np.isfinite(values)
            if good.any():
                ax.plot(
                    steps[good] * max(per_iteration, 1), values[good], style, color=colour, label=words, ms=4
                )
        ax.set_ylabel(label)
        ax.grid(alpha=0.3)
        if ax.has_data():
            ax.legend(loc="best", fontsize=8)
    axes[0].set_title(title, loc="left")
    axes[0].set_ylim(-0.02, 1.02)
    if axes[3].has_data():
        axes[3].set_ylim(-0.25, 1.05)
    axes[-1].set_xlabel("steps of the environment" if per_iteration else "iterations")
    figure.tight_layout()
    temporary = out.with_name(out.name + ".writing")
    try:
        figure.savefig(temporary, format="png")
        temporary.replace(out)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        pyplot.close(figure)
    return out
