r"""Single events of a loss curve: spikes, jumps where a run was resumed, what repeats, swings.

  spike     above 10 times the largest of the last 100 values; or three times above 4 times
  resume    median of the 4 values after less that of the 8 before, over the noise
  repeats   residuals of the running median that come back sharply after exactly P points, twice: the same
            batches in the same order
  swings    a peak of the periodogram of the second half that holds most of its variance

A shuffled epoch also leaves a trace on small data, a step or a sawtooth at its boundary. That is smooth, so
its correlation at the neighbouring lags is as high as at P; a repeated order is sharp.

References: Megatron-LM's re-run state machine (the factor 10 over 100); Fisher 1929 (periodogram).
"""

import re

import numpy as np

from ch3_jax.doctor.finding import Finding, Result
from ch3_jax.doctor.patient import Patient
from ch3_jax.doctor.shape import Curve
from ch3_jax.doctor.statistics import robust_sigma, running_median
from ch3_jax.metrics import Series

WINDOW, FEWEST = 100, 40


def findings(patient: Patient, series: Series, curve: Curve) -> list[Result]:
    """All four, and the first steps."""
    results = [*early_peak(curve), *spikes(curve), *resumed(patient, series, curve)]
    again = repeats(patient, curve)
    return [*results, *(again or swings(patient, curve))]


def early_peak(curve: Curve) -> list[Result]:
    """A loss that first rises far above its start: the first steps were too large."""
    count = len(curve.values)
    if curve.steps[0] > 1 or count < 20 or not (curve.values > 0).all() or curve.end > curve.start:
        return []
    early = running_median(curve.values[: max(5, count // 10)], 3)
    # Noise of a loss is in proportion to it, and larger where the loss is: both are compared as logarithms.
    noise = robust_sigma(np.diff(np.log(curve.values))) / np.sqrt(2)
    if np.log(early.max() / curve.values[0]) < max(np.log(1.5), 6 * noise):
        return []
    peak = float(early.max())
    sentence = f"The loss rises from {curve.values[0]:.4g} to {peak:.4g} in the first steps before it falls."
    return [
        _finding(
            "no_warmup",
            "warning",
            "early peak over first loss",
            peak / float(curve.values[0]),
            1.5,
            f"step {curve.steps[int(np.argmax(early))]}",
            sentence,
        )
    ]


def spikes(curve: Curve) -> list[Result]:
    """Values far above all of the last hundred."""
    values, calm = np.abs(curve.values), np.abs(curve.values).copy()
    large, huge = [], []
    for i in range(20, len(values)):
        reference = float(calm[max(0, i - WINDOW) : i].max())
        if reference > 0 and values[i] > 4 * reference:
            large.append(i)
            huge += [i] * bool(values[i] > 10 * reference)
            calm[i] = reference
    if not huge and len(large) < 3:
        return []
    at = max(large, key=lambda i: values[i])
    reference = float(calm[max(0, at - WINDOW) : at].max())
    steps = ", ".join(f"{curve.steps[i]:,}" for i in large[:5]) + (" ..." if len(large) > 5 else "")
    sentence = f"{len(large)} losses stand far above those before (step {steps}), at most {values[at]:.4g}."
    return [
        _finding(
            "spikes",
            "warning",
            "highest spike over the largest of the last 100",
            values[at] / reference,
            10.0,
            f"step {steps}",
            sentence,
        )
    ]


def resumed(patient: Patient, series: Series, curve: Curve) -> list[Result]:
    """Jumps upward where the run was resumed."""
    places = set(patient.declared.resumed_at)
    places |= {
        int(m[1].replace(",", ""))
        for note in patient.history.notes
        if (m := re.search(r"resumed at step ([\d,]+)", note))
    }
    places |= {int(series.steps[i + 1]) for i in np.flatnonzero(np.diff(series.steps) < 0)}
    found = []
    for place in sorted(places):
        i = int(np.searchsorted(curve.steps, place))
        before, after = curve.values[max(0, i - 8) : i], curve.values[i : i + 4]
        if len(before) < 4 or len(after) < 2:
            continue
        jump = float(np.median(after) - np.median(before))
        noise = max(robust_sigma(np.diff(before)), curve.sigma)
        if jump > 4 * noise and jump > 0.05 * curve.learnt and jump > 0.02 * abs(float(np.median(before))):
            sentence = (
                f"At step {place:,}, where the run was resumed, the loss jumps from {np.median(before):.4g} "
                f"to {np.median(after):.4g}."
            )
            found.append(
                _finding(
                    "optimizer_reset",
                    "fault",
                    "jump over what was learnt",
                    jump / max(curve.learnt, 1e-12),
                    0.05,
                    f"step {place}",
                    sentence,
                )
            )
    return found


def _residual(curve: Curve) -> np.ndarray:
    """The curve without its level, short structure kept; tails cut at four sigma."""
    rest = curve.values - running_median(curve.values, 7)
    return np.clip(rest, -4 * curve.sigma, 4 * curve.sigma) if curve.sigma > 0 else rest


def _correlations(rest: np.ndarray, most: int) -> np.ndarray:
    """Autocorrelation at lags 0..most, each over the pairs that it has."""
    rest = rest - rest.mean()
    power = float(np.mean(rest**2)) or 1.0
    return np.array([1.0, *(float(np.mean(rest[:-lag] * rest[lag:])) / power for lag in range(1, most + 1))])


def repeats(patient: Patient, curve: Curve) -> list[Result]:
    """The same residuals again after P points and after 2 P."""
    count = len(curve.values)
    if count < FEWEST or not _even(curve.steps):
        return []
    rest = _residual(curve)
    r = _correlations(rest, count // 2)
    best = None
    for lag in range(6, count // 4 + 1):
        bound = 5.0 / np.sqrt(count - 2 * lag)
        near = max(r[lag - 1], r[lag + 1], r[lag - 2], r[lag + 2]) if lag + 2 < len(r) else 1.0
        if (
            r[lag] > max(0.3, bound)
            and r[2 * lag] > 0.6 * r[lag]
            and r[lag] > 2 * max(near, 0.0)
            and (best is None or r[lag] > r[best] + 0.1)
        ):
            best = lag
    if best is None:
        return []
    period = best * float(np.median(np.diff(curve.steps)))
    epoch = patient.declared.steps_per_epoch
    known = f" An epoch is {epoch:,}." if epoch else ""
    sentence = (
        f"The loss repeats itself every {period:,.0f} steps (correlation {r[best]:.2f}, at the neighbouring "
        f"lags {max(r[best - 1], r[best + 1]):.2f}).{known}"
    )
    return [
        _finding(
            "not_reshuffled",
            "warning",
            "correlation of the loss with itself one period later",
            r[best],
            0.3,
            f"period {period:,.0f} steps",
            sentence,
        )
    ]


def swings(patient: Patient, curve: Curve) -> list[Result]:
    """A second half that swings and does not fall."""
    half = slice(len(curve.values) // 2, None)
    values = curve.values[half]
    if len(values) < FEWEST or not _even(curve.steps) or curve.learnt <= 0:
        return []
    x = np.linspace(-1, 1, len(values))
    rest = values - np.polyval(np.polyfit(x, values, 1), x)
    power = np.abs(np.fft.rfft(rest))[1:] ** 2
    peak = int(np.argmax(power))
    cycles, share = (
        peak + 1,
        float(power[max(0, peak - 1) : peak + 2].sum() / power.sum()) if power.sum() else 0.0,
    )
    amplitude = float(np.sqrt(2) * rest.std())
    rate = patient.history.role("learning_rate")
    cyclic = (
        rate is not None
        and len(rate.values) > 2
        and (np.diff(rate.values) > 0).any()
        and (np.diff(rate.values[len(rate.values) // 2 :]) > 0).any()
    )
    if cycles < 4 or share < 0.6 or amplitude < 0.1 * curve.learnt or cyclic:
        return []
    period = len(values) / cycles * float(np.median(np.diff(curve.steps)))
    sentence = f"In its second half the loss swings by {amplitude:.3g} with a period of {period:,.0f} steps."
    return [
        _finding(
            "oscillation",
            "warning",
            "share of the variance in one period",
            share,
            0.6,
            f"period {period:,.0f} steps",
            sentence,
        )
    ]


def _even(steps: np.ndarray) -> bool:
    gaps = np.diff(steps)
    return len(gaps) > 0 and float(np.mean(gaps == np.median(gaps))) > 0.9


def _finding(cause, severity, statistic, value, bound, where, sentence) -> Finding:
    return Finding(6, cause, severity, statistic, float(value), bound, where, sentence)
