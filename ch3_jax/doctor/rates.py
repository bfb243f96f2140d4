r"""The learning rate, judged by the run against itself at another rate.

No number on one curve says that a rate is too high: at 100 times the right one the first ten steps look best.
The experiment that people do by hand does say it, so it is done here, on the same batches with the same keys:

  too high   the same steps at a tenth of the rate end lower, by more than a tenth of what was learnt
  too low    all the travel of the planned run, packed into the trial, still learns next to nothing; or a
             trained network halves its loss, on batches that it was not tried on, at ten times its rate
  no warm-up the loss first rises far above its start, and the run at a tenth of the rate does not

A run that is inside its warm-up during the trial takes small steps in both arms, and is left alone.
"""

import math

import jax
import numpy as np
from scipy import stats

from ch3_jax.doctor import trials
from ch3_jax.doctor.bench import Bench
from ch3_jax.doctor.finding import Finding, NotExamined, Result
from ch3_jax.doctor.patient import Patient

STEPS, LAST, MEASURED = 200, 50, 20
FASTER = (10.0, 100.0)


def own(patient: Patient, b: Bench) -> trials.Trial:
    """The run's own first 200 steps, over the pool."""
    return trials.walk(b.loss, patient.optimizer, b.fresh, b.pool, steps=STEPS, measured=MEASURED)


def findings(patient: Patient, b: Bench, first: trials.Trial) -> list[Result]:
    """The rate from the start, and that of a trained network where there is one.

    Args:
      patient: with an optimizer.
      b: the patient on the bench.
      first: of `own`.
    """
    if not b.is_fresh:
        return [NotExamined(4, "the rate from the first step on", "`init`"), _ratio_note(b, first)]
    results = too_high(first, _slower(patient, b, 0.1))
    hopeless = not np.isfinite(first.walked.loss).all() or first.walked.loss[-1] > 0.9 * abs(
        first.walked.loss[0]
    )
    if not results and hopeless:  # A tenth of a rate that is a thousand times too high is too high as well.
        results = too_high(first, _slower(patient, b, 0.001))
    if not results:
        results = too_low_from_start(patient, b, first) or too_low_when_trained(patient, b)
    return [*results, _ratio_note(b, first)]


def _slower(patient: Patient, b: Bench, scale: float) -> trials.Trial:
    return trials.walk(b.loss, patient.optimizer, b.fresh, b.pool, steps=STEPS, scale=scale)


def _ratio_note(b: Bench, first: trials.Trial) -> Finding:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = first.walked.update / first.walked.size
    per_leaf = {
        name: float(np.median(r[np.isfinite(r)])) if np.isfinite(r).any() else 0.0
        for name, r in zip(b.names, ratio.T, strict=True)
    }
    middle = float(np.median(list(per_leaf.values())))
    sentence = (
        f"The median layer moves by {middle:.1e} of its size in a step ({len(first.walked.promise)} steps)."
    )
    return Finding(
        4,
        "normal",
        "note",
        "update over parameters, median layer",
        middle,
        None,
        "all layers",
        sentence,
        numbers=per_leaf,
    )


def too_high(first: trials.Trial, tenth: trials.Trial) -> list[Result]:
    """Whether a lower rate is better from the start."""
    slow = tenth.walked.loss
    if not np.isfinite(slow).all():
        return []
    fast = first.walked.loss
    if not np.isfinite(fast).all():
        sentence = (
            f"At the run's rate the loss is not finite after {len(fast) - 1} steps; at a lower one it is."
        )
        return [
            _finding(
                "rate_too_high", "fault", "steps to a non-finite loss", len(fast) - 1, STEPS, sentence, 0.0
            )
        ]
    a, c = fast[-LAST - 1 : -1], slow[-LAST - 1 : -1]
    difference, learnt = a - c, abs(float(slow[0] - c.mean()))
    # By means and by ranks: a rate that is far too high makes spikes, which inflate the error of a mean.
    both = (
        (float(difference.mean()), stats.ttest_1samp(difference, 0, alternative="greater").pvalue),
        (float(np.median(difference)), stats.wilcoxon(difference, alternative="greater").pvalue),
    )
    least = max(0.1 * learnt, 0.05 * abs(float(slow[0])))
    apart, p = min(both if np.ptp(difference) else [(0.0, 1.0)], key=lambda pair: (pair[0] <= least, pair[1]))
    if apart <= least or p >= 1e-4:
        return []
    peak = float(fast[: STEPS // 4].max())
    recovered = a.mean() < slow[0]
    jump = peak > 1.5 * abs(float(fast[0])) and peak > float(slow.max()) * 1.2
    cause = "no_warmup" if jump and recovered else "rate_too_high"
    severity = "warning" if recovered else "fault"
    sentence = (
        f"After {STEPS} steps the loss is {a.mean():.4g} at the run's rate and {c.mean():.4g} at a lower "
        f"one (from {slow[0]:.4g}), on the same batches."
    )
    if cause == "no_warmup":
        sentence += f" It first rose to {peak:.4g}."
    return [
        _finding(
            cause,
            severity,
            "loss at the run's rate less that at a lower one",
            apart,
            0.0,
            sentence,
            p,
        )
    ]


def too_low_from_start(patient: Patient, b: Bench, first: trials.Trial) -> list[Result]:
    """The planned run's whole travel, packed into the trial."""
    planned = patient.declared.steps
    loss = first.walked.loss
    start = float(loss[0])
    fell = start - float(loss[-LAST:].mean())
    if not planned or planned <= STEPS or fell > 0.1 * abs(start) or not first.walked.update.any():
        return []
    packed = trials.walk(
        b.loss, patient.optimizer, b.fresh, b.pool, steps=STEPS, scale=_travel(patient, planned)
    )
    end = float(packed.walked.loss[-LAST:].mean())
    # Above the run's own loss on the same batches, or not finite: too long a way, not too short a one.
    if not end - float(loss[-LAST:].mean()) < 0.1 * abs(start):
        return []
    whole = start - end
    faster = trials.walk(b.loss, trials.ADAM, b.fresh, b.pool, steps=STEPS, scale=1e-3)
    can = start - float(faster.walked.loss[-LAST:].mean())
    if not (math.isfinite(can) and can > 0.05 * abs(start)) or whole > 0.2 * can:
        return []
    sentence = (
        f"{STEPS} steps lower the loss by {fell:.2g} of {start:.4g}. The whole way of {planned:,} steps at "
        f"this rate, taken at once, lowers it by {whole:.2g}; {STEPS} steps of Adam at 1e-3 by {can:.2g}."
    )
    return [
        _finding(
            "rate_too_low",
            "fault",
            "what the planned run can learn over what a trial learns",
            whole / can,
            0.2,
            sentence,
        )
    ]


def _travel(patient: Patient, planned: int) -> float:
    """How much farther the planned run goes than the trial."""
    schedule = patient.declared.schedule
    if schedule is None:
        return planned / STEPS
    early = sum(float(schedule(step)) for step in range(0, STEPS, 10)) * 10
    stride = max(1, planned // 200)
    whole = sum(float(schedule(step)) for step in range(0, planned, stride)) * stride
    return whole / early if early > 0 else planned / STEPS


def too_low_when_trained(patient: Patient, b: Bench) -> list[Result]:
    """A trained network that halves its loss at once when it is allowed larger steps."""
    loss_curve = None if patient.history is None else patient.history.role("loss")
    done = (
        int(loss_curve.steps[-1])
        if loss_curve is not None and len(loss_curve.steps)
        else patient.declared.steps
    )
    if patient.params is None or not done or done < 4 * STEPS:
        return []
    floor = patient.floor or 0.0

    def held(
        params,
    ) -> float:  # on batches that no trial takes, so that a pool learnt by heart does not count
        loss = trials.value_and_grad(b.loss)
        return (
            float(np.mean([float(loss(params, x, jax.random.key(i))[0]) for i, x in enumerate(b.held)]))
            - floor
        )

    slow = trials.walk(b.loss, patient.optimizer, patient.params, b.pool, steps=STEPS)
    before, stays, initial = held(patient.params), held(slow.params), held(b.fresh)
    if before < 0.1 * initial or stays < 0.8 * before:
        return []  # It has learnt most of it, or learns well as it is.
    best, factor = before, 1.0
    for scale in FASTER:
        trial = trials.walk(b.loss, patient.optimizer, patient.params, b.pool, steps=STEPS, scale=scale)
        end = held(trial.params)
        if math.isfinite(end) and end < best:
            best, factor = end, scale
    if best > 0.5 * stays:
        return []
    sentence = (
        f"The trained network's loss is {before + floor:.4g}; {STEPS} more steps at the run's rate take it "
        f"to {stays + floor:.4g}, at {factor:g} times the rate to {best + floor:.4g}."
    )
    return [
        _finding(
            "rate_too_low",
            "warning",
            "loss at a higher rate over loss at the run's",
            best / stays,
            0.5,
            sentence,
        )
    ]


def _finding(cause, severity, statistic, value, bound, sentence, p=None) -> Finding:
    return Finding(4, cause, severity, statistic, float(value), bound, "the optimizer", sentence, p=p)
