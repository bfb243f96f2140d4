"""Where the level of a loss curve goes: away, nowhere, to a known number, or down too slowly."""

import math

import numpy as np

from ch3_jax.doctor.finding import Finding, Result
from ch3_jax.doctor.parts import part
from ch3_jax.doctor.patient import Patient
from ch3_jax.doctor.shape import Curve
from ch3_jax.doctor.statistics import ridge_r2, trend
from ch3_jax.doctor.theory import Expected

ENOUGH = 20


def running_away(patient: Patient, curve: Curve) -> list[Result]:
    """A level that leaves its minimum and does not come back."""
    at = int(np.argmin(curve.smooth))
    rise, noise = curve.end - curve.low, 6 * curve.sigma
    tail = slice(at, None)
    later = trend(curve.steps[tail].astype(float), curve.values[tail])
    relapse = rise / curve.learnt if curve.learnt > 0 else math.inf
    far = curve.end > 2 * curve.low if curve.low > 0 else relapse > 0.5
    if not (rise > noise and relapse > 0.3 and far and later.tau > 0.2 and later.p < 1e-2) or _rate_rose(
        patient, curve, at
    ):
        return []
    from_start = curve.learnt <= max(0.05 * abs(curve.start), 2 * curve.sigma)
    if from_start and curve.end < 1.5 * curve.start:
        return []
    uphill = from_start and later.tau > 0.9
    cause = "gradient_sign" if uphill else "divergence"
    severity = "fault" if curve.end > curve.start else "warning"
    sentence = (
        f"The loss has its minimum of {curve.low:.4g} at step {curve.steps[at]:,} and ends at {curve.end:.4g}"
        + (", rising from the first step on." if uphill else ".")
    )
    return [
        Finding(
            6,
            cause,
            severity,
            "rise over what was learnt",
            float(min(relapse, 1e9)),
            0.3,
            f"from step {curve.steps[at]}",
            sentence,
            p=later.p,
        )
    ]


def _rate_rose(patient: Patient, curve: Curve, at: int) -> bool:
    """Whether the logged rate is higher at the end than at the minimum: a restart, not an accident."""
    rate = patient.history.role("learning_rate")
    if rate is None or not len(rate.values):
        return False
    then, now = np.interp([curve.steps[at], curve.steps[-1]], rate.steps, rate.values)
    return bool(now > 1.5 * then and then < 0.5 * rate.values.max())


def flat(patient: Patient, curve: Curve, known: Expected) -> list[Result]:
    """A curve that is where it was from the first point on."""
    count = len(curve.values)
    if count < ENOUGH:
        return []
    error = curve.sigma / math.sqrt(max(1, count // 10))
    still = max(0.01 * abs(curve.start), 4 * error)
    if abs(curve.start - curve.end) > max(still, 2 * curve.sigma) or np.ptp(curve.smooth) > max(
        2 * still, 4 * curve.sigma, 0.02 * abs(curve.start)
    ):
        return []
    where = f"all {count:,} points"
    spread = f"The loss is {curve.end:.4g} from the first point to the last, give or take {curve.sigma:.2g}"
    if stopped := _stopped(patient, curve, where, spread):
        return stopped
    if blind := _at_blind(patient, curve, known, spread):
        return blind
    # It may have begun where it ends: fine-tuning, or data without anything to learn. A known floor decides.
    begun = curve.steps[0] <= 0.05 * curve.steps[-1]
    if begun and patient.floor is not None and curve.end > 1.5 * patient.floor > 0:
        return [
            _finding(
                "rate_too_low",
                "warning",
                "loss over its floor",
                curve.end / patient.floor,
                1.5,
                where,
                f"{spread}; its floor is {patient.floor:.4g}.",
            )
        ]
    return [
        _finding(
            "normal",
            "note",
            "change over the whole curve",
            curve.start - curve.end,
            still,
            where,
            spread + ".",
        )
    ]


def _stopped(patient: Patient, curve: Curve, where: str, spread: str) -> list[Result]:
    """A flat curve whose own numbers say that nothing was updated."""
    rate = patient.history.role("learning_rate")
    logged = rate is not None and len(rate.values) > 0
    largest = float(np.nanmax(rate.values)) if logged else patient.declared.learning_rate
    if np.ptp(curve.values) == 0:
        sentence = f"All {len(curve.values):,} losses are the same number, {curve.end:.6g}."
        return [_finding("params_not_updated", "fault", "range of the loss", 0.0, 0.0, where, sentence)]
    if largest == 0:
        sentence = f"{spread}; the learning rate is 0 throughout."
        return [_finding("params_not_updated", "fault", "largest learning rate", 0.0, 0.0, where, sentence)]
    if largest is not None and largest < 1e-6:
        sentence = f"{spread}; the learning rate never passes {largest:.1e}."
        return [_finding("rate_too_low", "fault", "largest learning rate", largest, 1e-6, where, sentence)]
    return []


def plateau(patient: Patient, curve: Curve, known: Expected) -> list[Result]:
    """A curve that fell and stopped at the loss of a model that sees nothing."""
    half = slice(len(curve.values) // 2, None)
    later = trend(curve.steps[half].astype(float), curve.values[half])
    still_falls = later.p < 1e-3 and later.tau < -0.3
    return [] if still_falls else _at_blind(patient, curve, known, f"The loss stands at {curve.end:.4g}")


def _at_blind(patient: Patient, curve: Curve, known: Expected, text: str) -> list[Result]:
    for name, value in (("of a model that sees no input", known.blind), ("of equal bins", known.first)):
        if value is None or abs(curve.end - value) > 0.03 * abs(value):
            continue
        if patient.floor is not None and patient.floor > 0.9 * value:
            return []  # There is nothing more to learn.
        told = _told(patient)
        if patient.floor is None and told < 0.2:
            return [
                _finding(
                    "normal",
                    "note",
                    "loss over that " + name,
                    curve.end / value,
                    1.0,
                    "the plateau",
                    f"{text}, the loss {name} ({value:.4g}).",
                )
            ]
        evidence = (
            f"its floor is {patient.floor:.4g}"
            if patient.floor is not None
            else f"a linear map of the inputs tells {told:.0%} of the targets' variance"
        )
        sentence = f"{text}, the loss {name} ({value:.4g}), though {evidence}."
        return [
            _finding(
                "plateau_at_blind_loss",
                "fault",
                "loss over that " + name,
                curve.end / value,
                1.03,
                "the plateau",
                sentence,
            )
        ]
    return []


def _told(patient: Patient) -> float:
    """Largest held-out R^2 of a linear map from inputs to targets, over the batches; 0 where unknown."""
    if patient.batches is None:
        return 0.0
    batches = [patient.batches(step) for step in range(16)]
    x, y = ([part(batch, role) for batch in batches] for role in ("input", "target"))
    if any(z is None for z in (*x, *y)) or x[0].shape[1] > 512:
        return 0.0
    return float(np.nanmax(np.append(ridge_r2(np.concatenate(x), np.concatenate(y)), 0.0)))


def slow(patient: Patient, curve: Curve) -> list[Result]:
    """A straight line down that gets nowhere."""
    count = len(curve.values)
    fall = curve.start - curve.end
    whole = trend(curve.steps.astype(float), curve.values)
    small = (
        fall < 0.1 * abs(curve.start) if patient.floor is None else fall < 0.1 * (curve.start - patient.floor)
    )
    if count < ENOUGH or not (small and whole.tau < -0.3 and whole.p < 1e-6) or curve.start < 0:
        return []
    middle = count // 2
    first, second = (
        trend(curve.steps[s].astype(float), curve.values[s]).slope
        for s in (slice(0, middle), slice(middle, None))
    )
    rate = patient.history.role("learning_rate")
    warming = (
        rate is not None
        and len(rate.values) > 1
        and rate.values[-1] >= 0.99 * rate.values.max()
        and rate.values[0] < 0.5 * rate.values.max()
    )
    if not (first < 0 and second < 0.4 * first) or warming:
        return []
    sentence = (
        f"The loss falls straight and by {fall / abs(curve.start):.1%} only, from {curve.start:.4g} "
        f"to {curve.end:.4g} in {curve.steps[-1] - curve.steps[0]:,} steps."
    )
    return [
        Finding(
            6,
            "rate_too_low",
            "warning",
            "fall of the loss",
            fall / abs(curve.start),
            0.1,
            "the loss curve",
            sentence,
            p=whole.p,
        )
    ]


def _finding(cause, severity, statistic, value, bound, where, sentence) -> Finding:
    return Finding(6, cause, severity, statistic, float(value), bound, where, sentence)
