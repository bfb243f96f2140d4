r"""Check 6: the loss curve, by itself and against the numbers that it should know.

A curve is noise around a level. The noise is measured first (the median absolute deviation from a running
median), so that everything else is asked in units of it and of what was learnt, start less lowest:

  starting height   the first loss against theory (`theory`)
  flat, plateau     and at which known number: equal bins, a model that sees nothing, the floor
  straight and slow a rate that is too low
  running away      the level leaves its minimum, by a third of what was learnt and more
  held-out loss     that rises while training falls; that never changes; rows known by heart
  average           that still holds its start (`averages`)
  single events     spikes, jumps at a resume, what repeats with the epoch (`incidents`)

What reinforcement learning calls a loss need not fall, and its tails are heavy: those questions are not asked
of it.

References: section 3.5 of the chapter; Godbole et al. 2023, Deep Learning Tuning Playbook.
"""

import numpy as np

from ch3_jax.doctor import averages, incidents, levels
from ch3_jax.doctor.finding import Finding, NotExamined, Result
from ch3_jax.doctor.held_out import held_out
from ch3_jax.doctor.parts import part
from ch3_jax.doctor.patient import Patient
from ch3_jax.doctor.shape import Curve, curve_of
from ch3_jax.doctor.theory import Expected, expected

FEWEST = 8


def check(patient: Patient) -> list[Result]:
    """Everything above, as far as the history goes."""
    history, average = patient.history, averages.findings(patient)
    if history is None:
        return [*average, NotExamined(6, "the loss curve", "`history`")]
    series = history.role("loss")
    if series is None:
        columns = ", ".join(list(history.series)[:8]) or "no column"
        return [
            *average,
            NotExamined(6, "the loss curve", f"a column that is a training loss; there is {columns}"),
        ]
    curve, known = curve_of(series), expected(patient)
    results = [*average, *held_out(patient, curve)]
    if len(curve.values):
        results += height(patient, curve, known)
    if len(curve.values) < FEWEST:
        needs = f"{FEWEST} finite points; it has {len(curve.values)}"
        return [*results, NotExamined(6, "the shape of the loss curve", needs)]
    if reinforcement(patient):
        return [
            *results,
            NotExamined(6, "whether the loss falls", "a loss that is meant to fall (not reinforcement)"),
        ]
    shape = levels.running_away(patient, curve) or levels.flat(patient, curve, known)
    shape = shape or levels.slow(patient, curve)
    results += shape or levels.plateau(patient, curve, known)
    results += incidents.findings(patient, series, curve)
    return results or [_summary(curve)]


def reinforcement(patient: Patient) -> bool:
    """Declared so, or undeclared with a column of rewards."""
    family = patient.declared.family
    return family == "reinforcement" or (family is None and patient.history.role("reward") is not None)


def _summary(curve: Curve) -> Finding:
    sentence = f"The loss goes from {curve.start:.4g} to {curve.end:.4g} in {len(curve.values):,} points."
    return Finding(
        6,
        "normal",
        "note",
        "last over first loss",
        curve.end / curve.start if curve.start else 0.0,
        None,
        "the loss curve",
        sentence,
    )


def height(patient: Patient, curve: Curve, known: Expected) -> list[Result]:
    """The first loss, where it was logged before the first steps."""
    if known.first is None or curve.steps[0] > 1:
        return []
    ratio = float(curve.values[0] / known.first)
    name = patient.declared.loss_name or ""
    bound = 1.5 if name in ("ce", "cross_entropy") else 5.0
    if ratio < bound:
        return []
    sentence = f"The first loss is {curve.values[0]:.4g}; a head that says nothing yet has {known.first:.4g}."
    large = _input_scale(patient)
    cause, severity = ("unnormalized_inputs", "warning") if large > 5 else ("normal", "note")
    if large > 5:
        sentence += f" Its inputs have a standard deviation of up to {large:.3g}."
    return [
        _finding(
            cause,
            severity,
            "first loss over that of an empty head",
            ratio,
            bound,
            f"step {curve.steps[0]}",
            sentence,
        )
    ]


def _input_scale(patient: Patient) -> float:
    if patient.batches is None:
        return 0.0
    x = part(patient.batches(0), "input")
    return 0.0 if x is None else float(np.nanmax(x.std(axis=0)))


def _finding(cause, severity, statistic, value, bound, where, sentence) -> Finding:
    return Finding(6, cause, severity, statistic, float(value), bound, where, sentence)
