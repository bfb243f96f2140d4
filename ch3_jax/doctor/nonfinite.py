"""Check 5: the first number that is not finite, in the order in which numbers are made.

  data -> normaliser -> parameters -> loss -> gradient -> optimizer state

A NaN at a later place is often the only visible end of a fault at an earlier one, so the first place that is
not finite is reported and the later ones are left out. Where a step is not finite, it is walked operation by
operation to the first whose inputs are finite and whose output is not (`walk`). On finite steps the same
walk says how near half-precision numbers come to the largest of their type.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import PyTree
from ch3_jax.doctor import trials
from ch3_jax.doctor.bench import missing
from ch3_jax.doctor.finding import Finding, NotExamined, Result
from ch3_jax.doctor.operations import walk
from ch3_jax.doctor.parts import Leaf, leaves_of, part, path_name
from ch3_jax.doctor.patient import Patient
from ch3_jax.errors import InputError

BATCHES = 24
MOST = 6


def check(patient: Patient) -> list[Result]:
    """The first place that is not finite, and what the curve says of the way there."""
    results = of_history(patient)
    data = [*of_dataset(patient), *of_normalizers(patient)]
    if patient.params is not None and not data:
        data += of_parameters(patient)
    if patient.batches is None or patient.loss is None:
        lacking = missing(patient, 5, "one step, replayed")
        return [*data, *results, *lacking] if data or patient.dataset is None else [*results, *lacking]
    step = replay(patient)
    alarmed = [r for r in step if isinstance(r, Finding) and r.alarm]
    if data and not alarmed and all(r.cause == "non_finite_data" for r in data):
        # The loss is finite on the batches that hold them: a sentinel behind a mask, as it should be.
        data = [_softened(r) for r in data]
    return [*data, *(step if not any(r.severity == "fault" for r in data) else []), *results]


def _softened(finding: Finding) -> Finding:
    sentence = finding.sentence + f" The loss is finite on {BATCHES} batches."
    severity = "note" if finding.severity == "note" else "warning"
    return Finding(
        5, finding.cause, severity, finding.statistic, finding.value, finding.bound, finding.where, sentence
    )


def of_dataset(patient: Patient) -> list[Finding]:
    """Numbers of the recording, by split, dimension and episode."""
    if patient.dataset is None:
        return []
    found = []
    for split, steps in patient.dataset.splits.items():
        for kind, values, names in (
            ("observation", steps.observation, patient.dataset.facts.observation_names),
            ("action", steps.action, patient.dataset.facts.action_names),
        ):
            # A sum is finite where all are, and costs a pass without a mask of the same size.
            if values.size and not np.isfinite(np.sum(values, dtype=np.float64)):
                found += _bad_columns(split, kind, np.asarray(values), names, steps.offset)
    return found


def _bad_columns(split, kind, values, names, offset) -> list[Finding]:
    bad = ~np.isfinite(values)
    if not bad.any():  # An overflow of the sum alone.
        return []
    columns = np.flatnonzero(bad.any(0))
    rows = np.flatnonzero(bad.any(1))
    episodes = np.unique(np.searchsorted(offset, rows, side="right") - 1)
    named = ", ".join(str(names[c]) if c < len(names) else str(c) for c in columns[:MOST])
    shown = ", ".join(map(str, episodes[:MOST])) + (" ..." if len(episodes) > MOST else "")
    sentence = (
        f"{int(bad.sum()):,} numbers of the {kind} are not finite in {split}: dimension {named}, "
        f"{len(episodes)} of {len(offset) - 1} episodes ({shown}), first at row {int(rows[0]):,}."
    )
    return [
        _finding(
            "non_finite_data",
            "fault",
            "numbers that are not finite",
            bad.sum(),
            0,
            f"{kind} {named}, episode {shown}",
            sentence,
        )
    ]


def of_normalizers(patient: Patient) -> list[Finding]:
    """Maps whose own numbers are not finite, or that take finite data to infinity."""
    found = []
    for kind, normalizer in (patient.normalizers or {}).items():
        fields = {
            name: np.asarray(getattr(normalizer, name))
            for name in ("offset", "gain", "shift", "scale")
            if hasattr(normalizer, name)
        }
        for name, values in fields.items():
            bad = np.flatnonzero(~np.isfinite(values))
            if len(bad):
                shown = ", ".join(map(str, bad[:MOST]))
                sentence = f"`{name}` of the {kind} normaliser is not finite in dimension {shown}."
                found.append(
                    _finding(
                        "non_finite_data",
                        "fault",
                        "numbers that are not finite",
                        len(bad),
                        0,
                        f"normaliser of {kind}",
                        sentence,
                    )
                )
                break
    return found


def of_parameters(patient: Patient) -> list[Finding]:
    """Parameters and optimizer state that are not finite."""
    for title, tree in (
        ("parameters", patient.params),
        ("averaged parameters", patient.ema),
        ("optimizer state", patient.opt_state),
    ):
        bad = _bad_leaves(tree)
        if bad:
            sentence = (
                f"The {title} are not finite in {', '.join(bad[:MOST])}: every step after this one is lost."
            )
            return [
                _finding(
                    "non_finite_gradient", "fault", "leaves that are not finite", len(bad), 0, title, sentence
                )
            ]
    return []


def _bad_leaves(tree: PyTree) -> list[str]:
    found = []
    for path, x in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if (
            jnp.issubdtype(jnp.result_type(x), jnp.inexact)
            and not np.isfinite(np.asarray(x, np.float64)).all()
        ):
            found.append(path_name(path))
    return found


def replay(patient: Patient) -> list[Result]:
    """Batches of the run, their loss and gradient; where the curve broke off, that step's batch first."""
    if lacking := missing(patient, 5, "one step, replayed"):
        return lacking
    params = patient.params
    if params is None or _bad_leaves(params):
        params = patient.init(jax.random.key(0)) if patient.init is not None else params
    try:
        loss = trials.scalar_loss(patient, params, patient.batches(0))
    except InputError as error:
        return [NotExamined(5, "one step, replayed", f"a usable loss ({error.problem})")]
    program = trials.value_and_grad(loss)
    for step in _steps(patient):
        batch, key = patient.batches(step), jax.random.key(step)
        value, gradients = program(params, batch, key)
        finite_gradient = all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(gradients))
        if math.isfinite(float(value)) and finite_gradient:
            continue
        return [blame(loss, params, batch, key, step, float(value))]
    return headroom(loss, params, patient.batches(0))


def _steps(patient: Patient) -> list[int]:
    steps = list(range(BATCHES))
    curve = None if patient.history is None else patient.history.role("loss")
    if curve is not None and not np.isfinite(curve.values).all():
        broke = int(curve.steps[np.argmax(~np.isfinite(curve.values))])
        steps = [s for s in (broke, broke - 1) if s >= 0] + steps
    return steps


def blame(loss, params, batch, key, step: int, value: float) -> Finding:
    """Which place of the step was the first not to be finite."""
    bad = _bad_entries(batch)
    if bad:
        leaf, wrong = bad[0]
        row, *rest = np.argwhere(wrong)[0]
        where = f"{leaf.path}, sample {row}" + (f", dimension {rest[-1]}" if rest else "")
        sentence = f"The batch of step {step:,} is not finite ({where}), and that reaches the loss."
        return _finding(
            "non_finite_data",
            "fault",
            "numbers that are not finite",
            wrong.sum(),
            0,
            where,
            sentence,
        )
    gradient = math.isfinite(value)
    function = (lambda p: jax.grad(loss)(p, batch, key)) if gradient else (lambda p: loss(p, batch, key))
    found = walk(function, params)
    largest = max(
        float(np.abs(x).max()) for role in ("input", "target") if (x := part(batch, role)) is not None
    )
    what = "gradient" if gradient else "loss"
    sentence = (
        f"The {what} of step {step:,} is not finite although its batch is (largest number {largest:.3g})"
    )
    half = found is not None and found.bits <= 16
    if found:
        sentence += f": the first operation that is not is `{found.operation}` in {found.dtype}{found.at}"
    cause = "precision_overflow" if half else f"non_finite_{what}"
    where = f"step {step}" + (f", {found.operation}{found.at}" if found else "")
    return Finding(
        5,
        cause,
        "fault",
        f"the {what}",
        math.nan,
        None,
        where,
        sentence + ".",
        numbers={"largest_input": largest},
    )


def _bad_entries(batch: PyTree) -> list[tuple[Leaf, np.ndarray]]:
    """Leaves with numbers that are not finite and not behind a mask, and where."""
    leaves = list(zip(leaves_of(batch), jax.tree.leaves(batch), strict=True))
    masks = [np.asarray(x) for leaf, x in leaves if leaf.role == "mask" and leaf.dtype == bool]
    found = []
    for leaf, x in leaves:
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            continue
        wrong = ~np.isfinite(np.asarray(x, np.float64))
        for mask in masks:
            if leaf.role == "target" and wrong.shape[: mask.ndim] == mask.shape:
                wrong &= mask.reshape(mask.shape + (1,) * (wrong.ndim - mask.ndim))
        if wrong.any():
            found.append((leaf, wrong))
    return found


def headroom(loss, params, batch) -> list[Result]:
    """How near half-precision numbers come to their largest, where there are any."""
    dtypes = {str(jnp.result_type(x)) for x in jax.tree.leaves((params, batch))}
    program = jax.make_jaxpr(loss)(params, batch, jax.random.key(0))
    if "f16" not in str(program) and "float16" not in dtypes:
        return []
    found = walk(lambda p: loss(p, batch, jax.random.key(0)), params, measure="float16")
    if found is None or found.largest < 0.1:
        return []
    severity = "warning" if found.largest > 0.5 else "note"
    sentence = (
        f"`{found.operation}`{found.at} makes numbers of {found.largest:.0%} of the largest float16, 65,504."
    )
    return [
        _finding(
            "precision_overflow",
            severity,
            "largest number over the largest float16",
            found.largest,
            0.5,
            found.operation,
            sentence,
        )
    ]


def of_history(patient: Patient) -> list[Result]:
    """Where the logged loss stops being finite, and how it got there."""
    curve = None if patient.history is None else patient.history.role("loss")
    if curve is None or not len(curve.values):
        return []
    bad = ~np.isfinite(curve.values)
    if not bad.any():
        return []
    first = int(np.argmax(bad))
    after = bad[first:].mean()
    before = curve.values[:first][np.isfinite(curve.values[:first])]
    numbers: dict[str, float] = {"step": float(curve.steps[first]), "share_after": float(after)}
    sentence = (
        f"The logged loss is not finite from step {curve.steps[first]:,} on"
        if after > 0.9
        else (f"{int(bad.sum()):,} of {len(bad):,} logged losses are not finite, from {curve.steps[first]:,}")
    )
    if len(before) >= 5:
        growth = float(before[-1] / max(np.min(np.abs(before)), 1e-30))
        numbers["growth"] = growth
        sentence += "; before, it grew" if growth > 4 else "; before, it showed no sign of it"
        sentence += f" ({before[-1]:.3g} at the last, {before.min():.3g} at the least)"
    elif first == 0:
        sentence += ", the first that was logged"
    share = float(bad.mean())
    # A loss scale that is too large now and then is skipped by design: once in hundreds of steps.
    rare = share < 1 / 200 and math.isfinite(float(curve.values[-1]))
    ran_away = _ran_away(before, int(curve.steps[first])) if not rare else []
    return [
        *ran_away,
        Finding(
            5,
            "non_finite_loss",
            "note" if rare else "fault",
            "share of losses that are not finite",
            share,
            0.0,
            f"step {curve.steps[first]}",
            sentence + ".",
            numbers=numbers,
        ),
    ]


def _ran_away(before: np.ndarray, step: int) -> list[Finding]:
    """Losses that grow a hundredfold before they overflow: the overflow is the end of a divergence."""
    if len(before) < 2:
        return []
    low = int(np.argmin(before))
    rising = before[low:]
    growth = float(rising[-1] / max(abs(rising[0]), 1e-30))
    if growth < 100 or np.mean(np.diff(rising) > 0) < 0.7:
        return []
    sentence = (
        f"The loss grows from {rising[0]:.3g} to {rising[-1]:.3g} in {len(rising) - 1} rows before it is not "
        f"finite at step {step:,}: it runs away, and the overflow is how that ends."
    )
    return [
        _finding("divergence", "fault", "growth before the overflow", growth, 100.0, f"step {step}", sentence)
    ]


def _finding(cause, severity, statistic, value, bound, where, sentence) -> Finding:
    return Finding(5, cause, severity, statistic, float(value), bound, where, sentence)
