"""Pictures of a patient, as SVG that takes the colour of the page around it.

Each is a function of the patient that returns a figure, or None where there is nothing to draw. Text stays
text, so that a picture is small, can be searched and read aloud, and follows a dark page: what is drawn in
`_INK` becomes the page's own colour. Names come from files of any origin and are never read as formulas.
"""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ch3_jax.doctor.examine import Report
from ch3_jax.doctor.patient import Patient
from ch3_jax.metrics import Series
from experiments.curves import smoothed, thinned

_INK = "#010203"  # never a colour of its own: replaced by currentColor
_BLUE, _ORANGE, _GREEN, _PURPLE = "#3b8ed0", "#e07b39", "#2fa37a", "#b565a7"
_MOST_PANELS, _SAMPLES = 12, 256
_STYLE = {
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    **dict.fromkeys(
        (
            "text.color",
            "axes.labelcolor",
            "axes.edgecolor",
            "xtick.color",
            "ytick.color",
            "legend.labelcolor",
        ),
        _INK,
    ),
}


class Picture(NamedTuple):
    """One picture of the page.

    Attributes:
      title: heading.
      caption: how to read it, one or two sentences.
      svg: the picture; "" where it could not be drawn.
      problem: why not, for the page.
    """

    title: str
    caption: str
    svg: str
    problem: str = ""


def pictures(patient: Patient, report: Report) -> list[Picture]:
    """Draws what the patient brings; a picture that fails takes none of the others with it."""
    drawn = []
    for title, caption, draw in _PICTURES:
        try:
            svg = _svg(lambda figures, draw=draw: draw(figures, patient, report))
        except Exception as error:  # A patient's own functions and numbers may do anything.
            drawn.append(Picture(title, caption, "", f"{type(error).__name__}: {error}"[:300]))
            continue
        if svg:
            drawn.append(Picture(title, caption, svg))
    return drawn


def _svg(draw: Callable[[Any], Any]) -> str:
    """The SVG of what `draw(new_figure)` makes; "" where it makes nothing."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = draw(lambda width, height: Figure(figsize=(width, height), layout="constrained"))
        if figure is None:
            return ""
        file = io.StringIO()
        # Without metadata and with fixed ids the same patient gives the same bytes.
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    return text.replace(_INK, "currentColor")


def _loss_curve(figures, patient: Patient, report: Report):
    history = patient.history
    train = None if history is None else history.role("loss")
    if train is None or not np.isfinite(train.values).any():
        return None
    figure = figures(7.2, 3.2)
    axes = figure.subplots()
    _line(axes, train, _BLUE, "training loss", pale=True)
    validation = history.role("val_loss")
    if validation is not None:
        kept = np.isfinite(validation.values)
        axes.plot(
            validation.steps[kept], validation.values[kept], "o-", color=_ORANGE, ms=3, label="validation"
        )
    if patient.floor is not None:
        axes.axhline(patient.floor, color=_GREEN, ls="--", label=f"floor {patient.floor:.4g}")
    bad = train.steps[~np.isfinite(train.values)]
    if len(bad):
        axes.axvline(bad[0], color=_PURPLE, ls=":", label=f"first non-finite, step {bad[0]:,}")
    for finding in report.findings:
        first, last = (finding.numbers.get(name) for name in ("first_step", "last_step"))
        if finding.check == 6 and finding.alarm and first is not None:
            axes.axvspan(first, last or first, color=_PURPLE, alpha=0.2, label=finding.cause)
    finite = np.concatenate([s.values[np.isfinite(s.values)] for s in (train, validation) if s is not None])
    if (finite > 0).all() and finite.max() > 20 * finite.min():
        axes.set_yscale("log")
    axes.set(xlabel="step", ylabel="loss")
    axes.legend()
    return figure


def _reward_and_success(figures, patient: Patient, report: Report):
    del report
    if patient.rewards is None or not len(patient.rewards):
        return None
    rewards = np.asarray(patient.rewards, float)
    returns = rewards if rewards.ndim == 1 else np.nansum(rewards.reshape(len(rewards), -1), axis=1)
    if not np.isfinite(returns).any():
        return None
    figure = figures(7.2, 3.2)
    axes = figure.subplots()
    axes.plot(returns, color=_BLUE, label="return")
    axes.set(xlabel="episodes, or rows of them, in the order of training", ylabel="return")
    lines = axes.get_lines()
    if patient.success is not None and np.isfinite(np.asarray(patient.success, float)).any():
        other = axes.twinx()
        (line,) = other.plot(patient.success, color=_ORANGE, label="success")
        other.set(ylabel="success", ylim=(-0.02, 1.02))
        lines = [*lines, line]
    axes.legend(handles=lines)
    return figure


def _layer_gradients(figures, patient: Patient, report: Report):
    del report
    if patient.history is None:
        return None
    prefix = "gradient_norm/"
    layers = {n.removeprefix(prefix): s for n, s in patient.history.series.items() if n.startswith(prefix)}
    whole = patient.history.role("gradient_norm")
    if not layers and whole is None:
        return None
    figure = figures(7.2, 3.2)
    axes = figure.subplots()
    colours = _colours(len(layers) + 1)
    if whole is not None:
        _line(axes, whole, _INK, "all parameters")
    for (name, series), colour in zip(list(layers.items())[:_MOST_PANELS], colours, strict=False):
        _line(axes, series, colour, name)
    axes.set(xlabel="step", ylabel="gradient norm", yscale="log")
    axes.legend(fontsize=7, ncols=2)
    return figure


def _action_histograms(figures, patient: Patient, report: Report):
    del report
    if patient.dataset is None:
        return None
    steps = patient.dataset.splits.get("train") or next(iter(patient.dataset.splits.values()))
    action = steps.action[:: max(1, len(steps) // 50_000)]
    names = patient.dataset.facts.action_names
    figure, panels = _panels(figures, min(action.shape[1], _MOST_PANELS))
    edges = _edges(patient)
    for a, axes in enumerate(panels):
        values = action[:, a][np.isfinite(action[:, a])]
        if edges is not None:
            for edge in edges[a][:: max(1, len(edges[a]) // 64)]:
                axes.axvline(edge, color=_INK, lw=0.4, alpha=0.18)
        if len(values):
            axes.hist(values, bins=60, color=_BLUE)
        axes.set_title(_short(names[a] if a < len(names) else f"dimension {a}"), fontsize=8)
        axes.tick_params(labelsize=7)
        axes.set_yticks([])
    return figure


def _lag_curve(figures, patient: Patient, report: Report):
    del report
    if patient.dataset is None:
        return None
    from ch3_jax.doctor.lags import explain_motion
    from ch3_jax.doctor.seen import relation_of, view_of

    if not len(view_of(patient.dataset).steps):
        return None
    relation = relation_of(patient.dataset)
    if not len(relation.kind) or relation.majority == "unknown":
        return None
    lags = explain_motion(relation, relation.majority)
    if lags is None:
        return None
    figure = figures(7.2, 2.8)
    axes = figure.subplots()
    axes.axvspan(0.5, lags.lag[-1] + 0.3, color=_PURPLE, alpha=0.12, label="cannot be: motion before command")
    axes.plot(lags.lag, lags.block_r2[:: max(1, len(lags.block_r2) // 40)].T, color=_BLUE, lw=0.5, alpha=0.25)
    axes.plot(lags.lag, lags.r2, "o-", color=_BLUE, label="all episodes")
    axes.axvline(lags.best, color=_ORANGE, ls="--", label=f"best at {lags.best:+d}")
    axes.set(xlabel="k: the motion at t against the action at t + k", ylabel="explained share of the motion")
    axes.set_ylim(min(-0.05, float(lags.r2.min()) - 0.05), 1.02)
    axes.legend()
    return figure


def _conditional_slices(figures, patient: Patient, report: Report):
    """Actions over the observation that tells most of them, for the dimensions with findings first."""
    if patient.dataset is None:
        return None
    steps = patient.dataset.splits.get("train") or next(iter(patient.dataset.splits.values()))
    rows = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), 2_000)).astype(int))
    observation, action = steps.observation[rows].astype(np.float64), steps.action[rows].astype(np.float64)
    fine = np.isfinite(observation).all(1) & np.isfinite(action).all(1)
    observation, action = observation[fine], action[fine]
    if len(action) < 50 or observation.shape[1] > 500:
        return None
    names = patient.dataset.facts
    said = " ".join(f.where for f in report.alarms)
    order = sorted(range(action.shape[1]), key=lambda a: _name(names.action_names, a) not in said)[:3]
    centred = observation - observation.mean(0)
    figure, panels = _panels(figures, len(order), height=2.6)
    for axes, a in zip(panels, order, strict=True):
        told = np.abs(centred.T @ (action[:, a] - action[:, a].mean())) / (
            np.linalg.norm(centred, axis=0) + 1e-12
        )
        s = int(told.argmax())
        axes.plot(observation[:, s], action[:, a], ".", ms=2, alpha=0.5, color=_BLUE)
        axes.set_xlabel(_short(_name(names.observation_names, s)), fontsize=8)
        axes.set_ylabel(_short(_name(names.action_names, a)), fontsize=8)
        axes.tick_params(labelsize=7)
    return figure


def _sampled_actions(figures, patient: Patient, report: Report):
    del report
    if patient.act is None or patient.params is None or patient.batches is None:
        return None
    batches = [patient.batches(step) for step in range(4)]
    batch = jax.tree.map(lambda *x: np.concatenate(x)[:_SAMPLES], *batches)
    acted = np.asarray(jax.jit(patient.act)(patient.params, batch.observation, jax.random.key(0)))
    shown = np.asarray(batch.action)
    names = patient.dataset.facts.action_names if patient.dataset is not None else ()
    figure, panels = _panels(figures, min(shown.shape[-1], _MOST_PANELS))
    for a, axes in enumerate(panels):
        mine, theirs = acted[:, 0, a], shown[:, 0, a]
        mine = mine[np.isfinite(mine)]
        bins = np.linspace(min([*mine, *theirs]), max([*mine, *theirs]) + 1e-9, 40)
        axes.hist(theirs, bins, color=_GREEN, alpha=0.55, label="demonstrated")
        axes.hist(mine, bins, color=_ORANGE, histtype="step", lw=1.4, label="policy")
        axes.set_title(_short(_name(names, a)), fontsize=8)
        axes.tick_params(labelsize=7)
        axes.set_yticks([])
    panels[0].legend(fontsize=7)
    return figure


_PICTURES: Sequence[tuple[str, str, Callable]] = (
    (
        "Loss",
        "Each logged loss pale, its moving mean dark; the floor is the lowest loss that a policy can reach. "
        "In purple: where a finding of check 6 begins and ends, and the first number that is not finite.",
        _loss_curve,
    ),
    (
        "Return and success",
        "What the run is paid for, and whether the task is done. Where the one rises and the other falls, "
        "the reward is about something else.",
        _reward_and_success,
    ),
    (
        "Gradients per layer",
        "Norms over the steps, before clipping. Healthy layers lie within a few orders of magnitude.",
        _layer_gradients,
    ),
    (
        "Actions of the data",
        "Raw numbers of each action dimension; thin lines are edges of the run's bins, at most 64 of them.",
        _action_histograms,
    ),
    (
        "Lag of the actions",
        "How much of the state's next change the action recorded k steps later explains. A maximum at k of 0 "
        "or less is a robot with or without delay; at k above 0 the action is stamped late.",
        _lag_curve,
    ),
    (
        "Actions given an observation",
        "Each action over the observation that tells most of it: two ridges are two demonstrators.",
        _conditional_slices,
    ),
    (
        "What the policy does",
        "Sampled beside demonstrated actions for the same observations: normalised, first of the horizon.",
        _sampled_actions,
    ),
)


def _panels(figures, count: int, height: float = 1.5) -> tuple[Any, list[Any]]:
    columns = min(4 if height < 2 else 3, count)
    rows = -(-count // columns)
    figure = figures(7.2, height * rows)
    grid = list(np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).flat)
    for axes in grid[count:]:
        axes.set_axis_off()
    return figure, grid[:count]


def _edges(patient: Patient) -> np.ndarray | None:
    """Edges of the run's bins in raw units, (A, K + 1)."""
    bins = patient.declared.bins
    if bins is None or isinstance(bins, int) or not patient.normalizers:
        return None
    action = patient.normalizers["action"]
    return (np.asarray(bins.edge) - action.shift[:, None]) * action.scale[:, None] + action.offset[:, None]


def _line(axes, series: Series, colour: str, label: str, pale: bool = False) -> None:
    finite = np.isfinite(series.values)
    steps, values = series.steps[finite], series.values[finite]
    if not len(values):
        return
    if pale:
        axes.plot(*thinned(steps, values), color=colour, alpha=0.3, lw=0.6)
        values = smoothed(values)
    axes.plot(*thinned(steps, values), color=colour, lw=1.3, label=_short(label))


def _colours(count: int) -> list[Any]:
    import matplotlib

    return [matplotlib.colormaps["viridis"](0.25 + 0.65 * i / max(count - 1, 1)) for i in range(count)]


def _name(names: Sequence[str], index: int) -> str:
    return str(names[index]) if index < len(names) else f"dimension {index}"


def _short(name: str, most: int = 34) -> str:
    """A name as the pictures show it: printable, no formula, no line breaks, cut in its middle."""
    text = "".join(c if c.isprintable() else "?" for c in str(name))
    text = text if len(text) <= most else f"{text[: most // 2 - 1]}...{text[-(most // 2 - 2) :]}"
    return text.replace("$", r"\$")
