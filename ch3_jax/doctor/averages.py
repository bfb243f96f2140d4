r"""Whether averaged parameters have left their start behind.

An exponential average with decay d still holds d^n of the first parameters after n updates: 37 % after
1 / (1 - d). Where the parameters are at hand, how much of the start is left is read off them,

  alpha = <ema - theta, theta_0 - theta> / ||theta_0 - theta||^2,

and whether it hurts off the loss of both on the same batches. Otherwise decay and steps are all there is.
"""

import jax
import numpy as np

from ch3_jax.doctor import trials
from ch3_jax.doctor.bench import bench, missing
from ch3_jax.doctor.finding import Finding, Result
from ch3_jax.doctor.patient import Patient

LEFT, WORSE = 0.05, 1.1


def findings(patient: Patient) -> list[Result]:
    """What is left of the start in the average, and what it costs."""
    if patient.ema is not None and patient.params is not None and patient.init is not None:
        if missing(patient, 6, "the average"):
            return []
        return _measured(patient)
    decay, steps = patient.declared.ema_decay, _made(patient)
    if decay is None or not steps or decay**steps <= LEFT:
        return []
    sentence = (
        f"After {steps:,} updates an average of decay {decay:g} still holds {decay**steps:.0%} of its start."
    )
    return [_finding(decay**steps, sentence)]


def _measured(patient: Patient) -> list[Result]:
    b = bench(patient)
    start, end, average = (
        np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in jax.tree.leaves(tree)])
        for tree in (b.fresh, patient.params, patient.ema)
    )
    way = start - end
    length = float(way @ way)
    if not (np.isfinite(length) and length > 0):
        return []
    left = float((average - end) @ way) / length
    loss = trials.value_and_grad(b.loss)
    now, averaged = (
        float(np.mean([float(loss(p, x, jax.random.key(i))[0]) for i, x in enumerate(b.held)]))
        for p in (patient.params, patient.ema)
    )
    if not (left > LEFT and averaged > WORSE * now > 0):
        return []
    sentence = (
        f"The averaged parameters still hold {left:.0%} of their start: their loss is {averaged:.3g}, that "
        f"of the parameters themselves {now:.3g}."
    )
    return [_finding(left, sentence)]


def _made(patient: Patient) -> int | None:
    curve = None if patient.history is None else patient.history.role("loss")
    return int(curve.steps[-1]) if curve is not None and len(curve.steps) else patient.declared.steps


def _finding(left: float, sentence: str) -> Finding:
    where = "averaged parameters"
    return Finding(
        6, "untrained_average", "fault", "share of the start in the average", left, LEFT, where, sentence
    )
