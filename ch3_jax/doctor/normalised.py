"""The numbers as the run sees them: are they normalised, and with the statistics of these data.

*Stored statistics* against the data: the mean may differ by the error of a sample of episodes, and a
tenth of a standard deviation; the spread by a factor of 1.25. Episodes, not steps, are the independent
numbers.

*What reaches the network*: inputs whose middle is tens wide saturate the first layer at any usual rate.
The bulk is judged, between its 10th and 90th percentile, so that an outlier is not taken for a missing
normaliser.

*The normaliser on the data*: a value of hundreds after normalising comes from a width that is far too
small.
"""

from collections.abc import Iterator

import numpy as np

from ch3_jax.doctor.finding import Finding, NotExamined, Result
from ch3_jax.doctor.patient import Patient
from ch3_jax.doctor.ranges import bulk, gap
from ch3_jax.doctor.units import DEGREES
from ch3_jax.doctor.view import View, extremes, listing, plain

_WIDE = 10.0
_REACH = 100.0
_SHIFT, _SPREAD = 0.1, 1.25
_BATCHES = 16
_FAR = 20.0


def stale(patient: Patient, view: View) -> Iterator[Finding]:
    """Stored statistics that are not those of the data."""
    for kind, stored in (patient.statistics or {}).items():
        values = getattr(view.steps, kind, None)
        if values is None or values.shape[1] != len(stored.mean) or view.steps.episodes < 3:
            continue
        mean, std, error = _measured(values, view.steps.offset)
        scale = np.maximum(std, 1e-12)
        moved = std > 1e-6 * np.maximum(np.abs(mean), 1e-6)
        shift = np.abs(np.asarray(stored.mean) - mean) / scale
        spread = np.asarray(stored.std) / scale
        # Few episodes know the spread badly, too: one part in sqrt(2 E).
        slack = _SPREAD * (1 + 4 / np.sqrt(2 * view.steps.episodes))
        off = moved & ((shift > _SHIFT + 5 * error / scale) | (spread > slack) | (spread < 1 / slack))
        if not off.any():
            continue
        names = view.action_names if kind == "action" else view.observation_names
        j = int(np.argmax(np.where(off, np.maximum(shift, np.abs(np.log(np.maximum(spread, 1e-12)))), -1)))
        yield Finding(
            1,
            "stale_statistics",
            "fault",
            "stored mean away from that of the data, in standard deviations",
            float(shift[j]),
            _SHIFT,
            f"{kind} dimension {names[j]}",
            f"The stored statistics are not those of the data in {int(off.sum())} of {len(off)} {kind} "
            f"dimensions ({listing([names[i] for i in np.flatnonzero(off)])}): {names[j]} has mean "
            f"{mean[j]:.4g} and standard deviation {std[j]:.4g}, stored are {float(stored.mean[j]):.4g} "
            f"and {float(stored.std[j]):.4g}.",
            numbers={"dimensions": int(off.sum()), "shift": float(shift[j]), "spread": float(spread[j])},
        )


def amplified(patient: Patient, view: View, known: set[str]) -> Iterator[Finding]:
    """Dimensions that the run's normaliser multiplies into the hundreds.

    Args:
      patient: with `normalizers`.
      view: of its data.
      known: names of dimensions that have outliers: theirs is another story.
    """
    for kind, normalizer in (patient.normalizers or {}).items():
        values = getattr(view.whole, kind, None)
        if values is None or values.shape[1] != np.asarray(normalizer.offset).shape[-1]:
            continue
        low, high = extremes(values)
        gain, offset = np.asarray(normalizer.gain, float), np.asarray(normalizer.offset, float)
        with np.errstate(invalid="ignore"):
            reach = np.maximum(np.abs((low - offset) * gain), np.abs((high - offset) * gain))
        # An identity has no width that could be too small.
        reach = np.where(np.isfinite(reach) & ~((gain == 1) & (offset == 0)), reach, 0)
        names = view.action_names if kind == "action" else view.observation_names
        off = [j for j in np.flatnonzero(reach > _REACH) if names[j] not in known]
        if off:
            j = max(off, key=lambda d: reach[d])
            yield Finding(
                1,
                "tiny_range",
                "fault",
                "largest magnitude after normalising",
                float(reach[j]),
                _REACH,
                f"{kind} dimension {names[j]}",
                f"Normalised, {kind} {listing([names[d] for d in off])} reach{'es' * (len(off) == 1)} "
                f"{reach[j]:.3g}: {names[j]} spans {low[j]:.4g} to {high[j]:.4g} and is divided by a width "
                f"of {1 / max(abs(gain[j]), 1e-300):.3g}.",
                numbers={"dimensions": len(off), "reach": float(reach[j])},
            )


def as_seen(patient: Patient, known: set[str]) -> Iterator[Result]:
    """What reaches the network in the first batches.

    Args:
      patient: with `batches`.
      known: causes that the data have shown already, which are not told twice.
    """
    if patient.batches is None:
        yield NotExamined(1, "inputs and targets as the run sees them", "`batches`: step -> batch")
        return
    batches = [patient.batches(step) for step in range(_BATCHES)]
    if not all(hasattr(b, "observation") and hasattr(b, "action") for b in batches):
        yield NotExamined(
            1, "inputs and targets as the run sees them", "batches with `observation` and `action`"
        )
        return
    seen = _flat([b.observation for b in batches])
    done = _flat([b.action for b in batches])
    names = {"observation": _names(patient, "observation", seen), "action": _names(patient, "action", done)}
    for kind, rows in (("observation", seen), ("action", done)):
        if rows.size and "unnormalized_inputs" not in known and "unit_mix" not in known:
            yield from _wide(kind, rows, names[kind])
    if not known & {"action_outliers", "outlier_stretched_bins"}:
        yield from _wild(done, names["action"])


def _wide(kind: str, rows: np.ndarray, names: list[str]) -> Iterator[Finding]:
    middle = np.median(rows, axis=0)
    low, high = np.quantile(rows, (0.1, 0.9), axis=0)
    # For a Gaussian the middle 80 % are 2.563 standard deviations wide.
    width = np.maximum((high - low) / 2.563, np.abs(middle) / 3)
    off = np.flatnonzero(width > _WIDE)
    if not len(off):
        return
    j = int(off[width[off].argmax()])
    rest = np.median(np.delete(width, j)) if len(width) > 2 else 0.0
    degrees = len(off) == 1 and rest > 0 and abs(np.log(width[j] / rest / DEGREES)) < np.log(1.6)
    yield Finding(
        1,
        "unit_mix" if degrees else "unnormalized_inputs",
        "fault",
        f"spread of the {kind}s that reach the loss",
        float(width[j]),
        _WIDE,
        f"{kind} dimension {names[j]}",
        f"{len(off)} of {len(names)} {kind} dimensions reach the loss with a spread over {_WIDE:g} "
        f"({listing([names[d] for d in off])}): {names[j]} around {middle[j]:.3g} with {width[j]:.3g}"
        + (f", the others with {rest:.3g}: 180 / pi is 57.3." if degrees else "."),
        numbers={"dimensions": len(off), "spread": float(width[j])},
    )


def _wild(rows: np.ndarray, names: list[str]) -> Iterator[Finding]:
    for j, row in enumerate(rows.T):
        if len(np.unique(row)) <= 12 or len(row) < 100:
            continue
        middle, bound, gamma = bulk(row)
        far = np.sort(np.abs(row - middle))[::-1]
        far = far[far > bound]
        found = gap(far, bound, gamma, len(names))
        if found is None:
            continue
        count, p = found
        rest = far[count] if count < len(far) else bound
        if far[0] < _FAR * rest:
            continue
        yield Finding(
            1,
            "action_outliers",
            "fault",
            "largest target over the largest ordinary one",
            float(far[0] / rest),
            _FAR,
            f"action dimension {names[j]}",
            f"{count} of {len(row)} targets of {names[j]} in the first batches lie up to {far[0]:.3g} from "
            f"the median, all others within {rest:.3g}.",
            p=p,
            numbers={"count": count, "largest": float(far[0])},
        )


def _measured(values: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, standard deviation and the standard error of the mean over episodes, (D,) each."""
    values = values.astype(np.float64)
    length = np.diff(offset)[:, None]
    means = np.add.reduceat(values, offset[:-1], axis=0) / length
    mean = values.mean(axis=0)
    weight = length / length.sum()
    error = np.sqrt((weight**2 * (means - mean) ** 2).sum(axis=0))
    return mean, values.std(axis=0), error


def _flat(parts: list) -> np.ndarray:
    rows = np.concatenate([np.asarray(p, np.float64).reshape(-1, np.shape(p)[-1]) for p in parts])
    return rows[np.isfinite(rows).all(axis=1)]


def _names(patient: Patient, kind: str, rows: np.ndarray) -> list[str]:
    facts = patient.dataset.facts if patient.dataset else None
    given = getattr(facts, f"{kind}_names", ())
    return [plain(given[i]) if len(given) == rows.shape[1] else f"{kind} {i}" for i in range(rows.shape[1])]
