"""Held-out loss beside the training loss: what rises, what never changes, what does not follow."""

import numpy as np

from ch3_jax.doctor.finding import Finding, Result
from ch3_jax.doctor.patient import Patient
from ch3_jax.doctor.shape import Curve

FEWEST = 8
GAP, FEW_ROWS = 10.0, 2_000


def held_out(patient: Patient, curve: Curve) -> list[Result]:
    """Held-out loss beside the training loss."""
    series = patient.history.role("val_loss")
    if series is None:
        return []
    values = series.values[np.isfinite(series.values)]
    if len(values) < 4:
        return []
    fell = len(curve.values) >= FEWEST and curve.start - curve.end > max(
        0.2 * abs(curve.start), 3 * curve.sigma
    )
    if np.ptp(values) <= 1e-7 * abs(values[0]):
        cause = "untrained_average" if fell else "params_not_updated"
        sentence = f"All {len(values)} held-out losses are the same number, {values[-1]:.6g}"
        sentence += ", while training falls: what is evaluated is not what is trained." if fell else "."
        return [_finding(cause, "fault", "range of the held-out loss", 0.0, 0.0, "held-out loss", sentence)]
    low = float(values.min())
    gained, rise = float(values[0]) - low, float(values[-1]) - low
    train_fell = curve.start - curve.end if len(curve.values) else 0.0
    if (
        fell
        and gained < 0.1 * train_fell
        and abs(float(values[-1] - values[0])) < 0.1 * train_fell
        and _averaged(patient)
    ):
        sentence = f"Training falls by {train_fell:.3g}, the averaged parameters' loss by {gained:.2g} only."
        return [
            _finding(
                "untrained_average",
                "fault",
                "held-out over training fall",
                gained / train_fell,
                0.1,
                "held-out loss",
                sentence,
            )
        ]
    if heart := _by_heart(patient, curve, values):
        return heart
    if not fell or rise < 0.1 * abs(low) or int(np.argmin(values)) > 0.8 * len(values):
        return []
    nothing = patient.floor is not None and float(values[0]) < 1.05 * patient.floor
    worse = rise > gained and rise > 0.5 * train_fell and not nothing
    sentence = (
        f"The held-out loss rises from {low:.4g} to {values[-1]:.4g} while training falls to {curve.end:.4g}."
    )
    if not worse:
        sentence += " That alone need not hurt a policy: judge by success."
    cause, severity = ("memorising", "warning") if worse else ("normal", "note")
    return [
        _finding(
            cause,
            severity,
            "rise of the held-out loss over what it gained",
            rise / gained if gained else 1e9,
            1.0,
            "held-out loss",
            sentence,
        )
    ]


def _by_heart(patient: Patient, curve: Curve, values: np.ndarray) -> list[Result]:
    """Training that ends far under a held-out loss which stopped improving long ago: rows known by heart.

    A gap of a few times is the rule with few demonstrations and hurts nobody by itself. Where training falls
    on by a factor of ten while held-out data gain nothing, every further step goes into single rows.
    """
    if len(curve.values) < FEWEST or curve.end <= 0 or values[-1] < GAP * curve.end:
        return []
    at = int(np.argmin(values))
    when = curve.steps[0] + (curve.steps[-1] - curve.steps[0]) * at / (len(values) - 1)
    then = float(np.interp(when, curve.steps, curve.smooth))
    if at > len(values) // 2 or then < GAP * curve.end:
        return []
    rows = None if patient.dataset is None else len(patient.dataset.splits.get("train", ()))
    few = rows is not None and rows < FEW_ROWS
    sentence = (
        f"Training ends at {curve.end:.3g}, {then / curve.end:,.0f} times lower than where the held-out loss "
        f"was lowest; that one stands at {values[-1]:.3g}."
    )
    if few:
        sentence += f" There are {rows:,} training steps."
    cause = "too_few_demonstrations" if few else "memorising"
    return [
        _finding(
            cause, "warning", "held-out over training loss", values[-1] / curve.end, GAP, "losses", sentence
        )
    ]


def _averaged(patient: Patient) -> bool:
    decay = patient.declared.ema_decay
    return decay is not None and decay > 0.9 or patient.ema is not None


def _finding(cause, severity, statistic, value, bound, where, sentence) -> Finding:
    return Finding(6, cause, severity, statistic, float(value), bound, where, sentence)
