r"""Check 3: ten steps on a batch of four.

A network that cannot lower its loss on four samples has something wrong that no data repair. The loss ratio
alone decides little (ten steps at a rate that is 100 times too high look best, a run in its warm-up looks
dead), so the steps are taken at a rate found here, with the noise fixed, and the questions are asked of the
run itself:

| question | healthy | cause otherwise |
| --- | --- | --- |
| does a small step lower the loss as the gradient promises? | rho = 1 | gradient_sign |
| do the run's own updates change the parameters? | within 64 updates | params_not_updated |
| do they point downhill? | g . Delta < 0 | gradient_sign |
| does every parameter with a gradient move? | all that are not declared frozen | frozen_layer |
| does the loss see its inputs? | zeroed or exchanged inputs change it | input_ignored |
| is it a mean? | twice the same batch, the same loss | loss_summed |
| do values behind the mask count? | no | padding_counted |
| is it a sum over samples? | no interaction of two samples | batch_dependence |

References: section 3.5 of the chapter; Ben Braiek and Khomh 2022, arXiv:2204.00694 (TheDeepChecker).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.doctor import invariances, trials
from ch3_jax.doctor.bench import Bench, bench, missing
from ch3_jax.doctor.finding import Finding, NotExamined, Result
from ch3_jax.doctor.patient import Patient

RATES = (1e-2, 1e-3, 1e-4, 1e-5)
LONG = 200
MOST_UPDATES = 256


def check(patient: Patient) -> list[Result]:
    """Ten steps at a calibrated rate, and the questions above.

    Raises:
      InputError: a loss that is not a scalar or that JAX cannot trace.
    """
    if lacking := missing(patient, 3, "ten steps on a batch of four"):
        return lacking
    b = bench(patient)
    start = float(trials.value_and_grad(b.loss)(b.fresh, b.four, _fixed(0))[0])
    if not math.isfinite(start):
        return [NotExamined(3, "ten steps on a batch of four", "a finite loss before the first step")]
    found, rate = overfit(b)
    if any(result.alarm and result.cause == "params_not_updated" for result in found):
        return found
    results = [*found, *movement(patient, b)]
    # A few small steps away from the start: there a head of zeros no longer hides what lies before it.
    params = trials.walk(b.loss, trials.ADAM, b.fresh, [b.four], scale=min(rate, 1e-3), keys=_fixed).params
    results += invariances.findings(patient, b, params)
    return results


def _fixed(step: int) -> jax.Array:
    """The same key at every step: the noise of a denoising loss must not move while the steps are judged."""
    del step
    return jax.random.key(0)


def overfit(b: Bench) -> tuple[list[Result], float]:
    """Ten steps of Adam at the largest rate that keeps its promise, and that rate."""
    for rate in RATES:
        trial = trials.walk(b.loss, trials.ADAM, b.fresh, [b.four], measured=10, scale=rate, keys=_fixed)
        if trial.walked.rho() > 0.5:
            break
    walked = trial.walked
    if not walked.gradient[0].any():
        return [_no_gradient(b)], rate
    first, last = walked.loss[0], walked.loss[-1]
    promised = float(np.abs(walked.promise).sum())
    if rate == RATES[-1] and walked.rho(3) < -0.5 and promised > 1e-5 * abs(first):
        sentence = (
            f"A step of {rate:g} per parameter along the gradient should lower the loss and raises it: "
            f"{walked.rho(3):.2f} of the promised decrease."
        )
        return [
            _finding(
                "gradient_sign",
                "fault",
                "actual over promised decrease",
                walked.rho(3),
                0.5,
                "the gradient",
                sentence,
            )
        ], rate
    numbers = {"first": float(first), "last": float(last), "rate": rate, "rho": walked.rho()}
    note = _ratio_note(first, last, rate, numbers)
    if _fell(first, last) or not walked.rho() > 0.5:
        return [note], rate
    long = trials.walk(b.loss, trials.ADAM, b.fresh, [b.four], steps=LONG, scale=rate, keys=_fixed)
    if _fell(first, long.walked.loss[-1]):
        return [note], rate
    gradient = trials.walk(
        b.loss, trials.ADAM, long.params, [b.four], steps=1, measured=1, scale=0.0, keys=_fixed
    )
    left = np.linalg.norm(gradient.walked.gradient[0]) / np.linalg.norm(walked.gradient[0])
    flat = left < 0.1  # It stands at a minimum of its own: a floor by design, not a step that does not work.
    sentence = (
        f"{LONG} steps at {rate:g} on four samples take the loss from {first:.4g} to "
        f"{long.walked.loss[-1]:.4g} only; {left:.0%} of the gradient is left."
    )
    finding = _finding(
        "cannot_overfit",
        "note" if flat or not b.is_fresh else "warning",
        "loss after 200 steps over loss before",
        float(long.walked.loss[-1] / first),
        0.9,
        "four samples",
        sentence,
    )
    return [finding], rate


def _fell(first: float, last: float) -> bool:
    """Whether the loss fell by a tenth of its size, which for a negative loss is that of its magnitude."""
    return math.isfinite(last) and first - last > 0.1 * abs(first)


def _ratio_note(first: float, last: float, rate: float, numbers: dict[str, float]) -> Finding:
    sentence = f"Ten steps at {rate:g} on four samples take the loss from {first:.4g} to {last:.4g}."
    value = last / first if first else 0.0
    return Finding(
        3,
        "normal",
        "note",
        "loss after ten steps over loss before",
        float(value),
        0.9,
        "four samples",
        sentence,
        numbers=numbers,
    )


def _no_gradient(b: Bench) -> Finding:
    sentence = "The gradient of the loss is exactly 0 for every parameter: the loss does not depend on them."
    return _finding(
        "params_not_updated",
        "fault",
        "norm of the gradient",
        0.0,
        0.0,
        f"all {len(b.names)} leaves",
        sentence,
    )


def movement(patient: Patient, b: Bench) -> list[Result]:
    """Whether the run's own updates change the parameters, all of them, and downhill.

    One gradient is handed to the optimizer again and again, because a warm-up begins at a rate of 0 and
    accumulated gradients are applied every few updates only.
    """
    if patient.optimizer is None:
        return [NotExamined(3, "whether the run's own updates move the parameters", "`optimizer`")]
    loss, gradients = trials.value_and_grad(b.loss)(b.fresh, b.four, _fixed(0))
    updater, state, params = trials.updater(patient.optimizer), patient.optimizer.init(b.fresh), b.fresh
    leaves = [np.asarray(x) for x in jax.tree.leaves(b.fresh)]
    moved, asked = np.zeros(len(leaves), bool), np.zeros(len(leaves), bool)
    left = MOST_UPDATES
    while left > 0:
        params, state, updates = updater(gradients, state, params, loss, jnp.float32(1))
        moved |= [
            bool((np.asarray(x) != y).any()) for x, y in zip(jax.tree.leaves(params), leaves, strict=True)
        ]
        asked |= [bool(np.any(np.asarray(u))) for u in jax.tree.leaves(updates)]
        left -= 1
        if moved.any():
            left = min(left, 2 if (moved >= asked).all() else MOST_UPDATES // 4)
    swallowed = asked & ~moved
    if not moved.any() or swallowed.any():
        return [_unmoved(b, asked, swallowed)]
    changes = [np.asarray(x, np.float64) - y for x, y in zip(jax.tree.leaves(params), leaves, strict=True)]
    slopes = [np.asarray(g, np.float64) for g in jax.tree.leaves(gradients)]
    results = _direction(patient, changes, slopes)
    for name, m, g in zip(b.names, moved, slopes, strict=True):
        if not m and g.any() and not trials.is_frozen(patient, name):
            sentence = f"`{name}` has a gradient of norm {np.linalg.norm(g):.3g} and is never changed."
            results.append(
                _finding(
                    "frozen_layer", "fault", "change of the parameters", 0.0, 0.0, f"layer {name}", sentence
                )
            )
    return results


def _unmoved(b: Bench, asked: np.ndarray, swallowed: np.ndarray) -> Finding:
    leaves = jax.tree.leaves(b.fresh)
    if not asked.any():
        sentence = f"{MOST_UPDATES} updates of the run's optimizer leave every parameter exactly as it was."
        where = f"all {len(b.names)} leaves"
        return _finding("params_not_updated", "fault", "change of the parameters", 0.0, 0.0, where, sentence)
    names = [name for name, lost in zip(b.names, swallowed, strict=True) if lost]
    half = any(jnp.result_type(x).itemsize <= 2 for x, lost in zip(leaves, swallowed, strict=True) if lost)
    cause = "low_precision_swallow" if half else "rate_too_low"
    sentence = f"Updates of {len(names)} of {len(leaves)} leaves are not 0 and yet lost to rounding."
    return _finding(
        cause, "fault", "leaves that rounding keeps", len(names), 0, ", ".join(names[:8]), sentence
    )


def _direction(patient: Patient, changes: list[np.ndarray], slopes: list[np.ndarray]) -> list[Result]:
    inner = sum(float(np.sum(c * g)) for c, g in zip(changes, slopes, strict=True))
    size = math.sqrt(sum(float(np.sum(c * c)) for c in changes) * sum(float(np.sum(g * g)) for g in slopes))
    cosine = inner / size if size else 0.0
    if cosine < 0.02:
        return []
    ascends = patient.declared.family == "reinforcement"
    sentence = f"The run's updates point uphill: their cosine with the gradient is {cosine:+.2f}."
    if ascends:
        sentence += " A reward that is maximised looks so; a loss does not."
    return [
        _finding(
            "gradient_sign",
            "note" if ascends else "fault",
            "cosine of update and gradient",
            cosine,
            0.0,
            "the optimizer",
            sentence,
        )
    ]


def _finding(cause, severity, statistic, value, bound, where, sentence) -> Finding:
    return Finding(3, cause, severity, statistic, float(value), bound, where, sentence)
