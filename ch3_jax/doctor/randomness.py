"""Whether randomness is random: draws of two keys, two traces, and a curve that only its own draws explain.

A noise that repeats at every step is learnt by heart: the training loss goes below what any noise allows, and
samples are bad. A loss that ignores its key shows it at once; one that takes numbers from numpy draws them
when it is traced, and never again; a loop that hands out the same key at every step shows in a training loss
that fresh keys do not reproduce on the same batches.
"""

import math

import jax
import numpy as np

from ch3_jax.doctor import trials
from ch3_jax.doctor.bench import Bench
from ch3_jax.doctor.finding import Finding, Result
from ch3_jax.doctor.patient import Patient

NOISY = ("denoising", "ddpm", "ddim", "diffusion", "flow", "score", "vae", "cvae")


def findings(patient: Patient, b: Bench) -> list[Result]:
    """The three tests."""
    loss = trials.value_and_grad(b.loss)
    one, two = (float(loss(b.fresh, b.pool[0], jax.random.key(i))[0]) for i in (0, 1))
    results = [*traced(b), *handed_out(patient)]
    noisy = (
        patient.declared.family in ("diffusion", "flow")
        or (patient.declared.loss_name or "").lower() in NOISY
    )
    if one == two and noisy:
        sentence = f"Two keys give the same loss, {one:.6g}: the noise does not come from the key."
        results.append(
            _finding("fault", "difference of the loss between two keys", 0.0, 0.0, "the loss", sentence)
        )
    elif one != two and not results:
        results += unexplained(patient, b)
    return results


def traced(b: Bench) -> list[Result]:
    """Numbers that numpy or Python drew while the loss was traced."""

    def constants() -> list[np.ndarray]:
        program = jax.make_jaxpr(lambda *args: b.loss(*args))(b.fresh, b.four, jax.random.key(0))
        return [
            np.asarray(x) for x in program.consts if not jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key)
        ]

    one, two = constants(), constants()
    if len(one) == len(two) and all(
        x.shape == y.shape and np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
        for x, y in zip(one, two, strict=True)
    ):
        return []
    sentence = (
        "Two traces of the loss hold other numbers: numpy or Python draws them, once, when it is compiled."
    )
    return [_finding("fault", "constants that differ between two traces", 1.0, 0.0, "the loss", sentence)]


def handed_out(patient: Patient) -> list[Result]:
    """Keys of the first steps, from `extra["keys"]`: step -> key."""
    keys = patient.extra.get("keys")
    if keys is None:
        return []
    data = [np.asarray(jax.random.key_data(keys(step))).tobytes() for step in range(4)]
    if len(set(data)) == len(data):
        return []
    sentence = f"The keys of the first {len(data)} steps are {len(set(data))} different ones."
    return [_finding("fault", "different keys in four steps", len(set(data)), 4, "the loop", sentence)]


def unexplained(patient: Patient, b: Bench) -> list[Result]:
    """The end of the logged curve against the same network, batches of training and fresh keys."""
    curve = None if patient.history is None else patient.history.role("loss")
    if (
        curve is None
        or patient.params is None
        or len(curve.values) < 10
        or patient.declared.family == "reinforcement"
    ):
        return []
    logged = curve.values[-max(3, len(curve.values) // 10) :]
    loss = trials.value_and_grad(b.loss)
    fresh = np.array(
        [float(loss(patient.params, batch, jax.random.key(1000 + i))[0]) for i, batch in enumerate(b.pool)]
    )
    start = float(loss(b.fresh, b.pool[0], jax.random.key(0))[0])
    if not (np.isfinite(logged).all() and np.isfinite(fresh).all()):
        return []
    error = math.sqrt(fresh.var() / len(fresh) + logged.var() / len(logged))
    gap = float(fresh.mean() - logged.mean())
    if gap < 6 * error or gap < 0.5 * abs(logged.mean()) or gap < 0.05 * abs(start):
        return []
    sentence = (
        f"The logged training loss ends at {logged.mean():.4g}; the same network with fresh keys "
        f"has {fresh.mean():.4g}: it knows the noise that it was trained with."
    )
    return [
        _finding(
            "warning",
            "loss with fresh keys over the logged loss",
            fresh.mean() / logged.mean(),
            1.5,
            "the loop",
            sentence,
        )
    ]


def _finding(severity, statistic, value, bound, where, sentence) -> Finding:
    return Finding(4, "key_reuse", severity, statistic, float(value), bound, where, sentence)
