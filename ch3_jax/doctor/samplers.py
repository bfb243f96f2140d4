r"""Check 7 for noise models: does the sampler walk the way that the network was trained?

| test | how | healthy |
| --- | --- | --- |
| signal at the start | sqrt(abar) at the sampler's first time | < 0.05 |
| one record | a(t), s(t) of the training's process against the sampler's grid | equal |
| direction | noise of the grid falls, and falls where the training says that it is clean | yes |
| prediction | what the network says and what the sampler reads | the same |
| zero SNR | noise prediction where sqrt(abar) = 0 | not together |
| oracle | a denoiser that knows x0, through the patient's own sampler | returns x0 |
| Richardson | n, 2n, 4n steps from the same start | n is within 5 % of the spread |

The oracle separates the sampler from the network: whatever it gets wrong, no training will repair.

Processes that keep the whole signal by design (the chapter's denoising ends at sigma = 1, and its sampler
starts from the mixture of both) are not asked for pure noise.

References: Lin et al. 2023, arXiv:2305.08891; Song et al. 2021, arXiv:2010.02502; Richardson 1911.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.doctor.finding import Finding, NotExamined, Result
from ch3_jax.doctor.patient import Patient
from ch3_jax.errors import InputError
from ch3_jax.noise.corruption import target
from ch3_jax.noise.denoiser import Denoiser
from ch3_jax.noise.samplers import Sampler, make_sampler
from ch3_jax.noise.schedules import TERMINAL_SIGNAL

COUNT, WIDTH = 256, 2
COARSE = 0.05


def findings(patient: Patient) -> list[Result]:
    """All tests that the patient's process, sampler and denoiser allow."""
    if patient.process is None and patient.denoiser is None:
        return [NotExamined(7, "noise schedule and sampler", "`process`, `sampler` and `denoiser`")]
    trained = patient.process if patient.denoiser is None else patient.denoiser.process
    results = prediction(patient, trained) + terminal(patient, trained)
    if patient.sampler is None:
        return [*results, NotExamined(7, "the sampler with an oracle", "`sampler`")]
    agreement = agrees(patient.sampler, trained)
    results += agreement
    if not agreement and not any(getattr(r, "alarm", False) for r in results):
        results += oracle(patient, trained)
    if not any(getattr(r, "alarm", False) for r in results):
        results += halved_step(patient)
    return results


def agrees(sampler: Sampler, trained) -> list[Result]:
    """The sampler's grid against the training's coefficients at the same times."""
    grid = _grid(sampler)
    if grid is None:
        return []
    times = grid.time[:-1]
    low, high = trained.lowest, trained.highest
    inside = (times >= low - 1e-6) & (times <= high + 1e-6)
    if not inside.all():
        sentence = (
            f"The sampler visits times {times.min():g} to {times.max():g}, training {low:g} to {high:g}."
        )
        return [
            _finding(
                "schedule_mismatch",
                "fault",
                "times outside the training's range",
                np.mean(~inside),
                0.0,
                "the sampler's times",
                sentence,
            )
        ]
    at = jnp.asarray(np.clip(times, low, high), jnp.int32 if not trained.continuous else jnp.float32)
    mix = trained.mix(at)
    signal, noise = np.asarray(mix.signal, np.float64), np.asarray(mix.noise, np.float64)
    gap = float(max(np.abs(signal - grid.signal[:-1]).max(), np.abs(noise - grid.noise[:-1]).max()))
    if gap < 1e-3:
        return []
    # Compared with the line walked backwards: a reversal is another fault than another schedule.
    back = float(np.abs(noise[::-1] - grid.noise[:-1]).max())
    if trained.direction != sampler.process.direction or (
        len(times) > 2 and back < 0.3 * gap and np.corrcoef(noise, grid.noise[:-1])[0, 1] < 0
    ):
        sentence = (
            f"At time {times[0]:g} the sampler has noise {grid.noise[0]:.2f}, the training {noise[0]:.2f}."
        )
        return [
            _finding(
                "time_reversed",
                "fault",
                "difference of the noise levels",
                gap,
                1e-3,
                "the sampler's times",
                sentence,
            )
        ]
    worst = int(np.argmax(np.abs(signal - grid.signal[:-1])))
    sentence = (
        f"At time {times[worst]:g} training mixes {signal[worst]:.3f} of the action and the sampler takes "
        f"{grid.signal[worst]:.3f} for granted."
    )
    return [
        _finding(
            "schedule_mismatch",
            "fault",
            "largest difference of sqrt(abar)",
            gap,
            1e-3,
            f"time {times[worst]:g}",
            sentence,
        )
    ]


def _grid(sampler: Sampler):
    """The grid that a sampler walks, by the steps that it makes; None for adaptive ones."""
    calls = sampler.calls
    if calls is None:
        return None
    per_step = {"midpoint": 2, "heun": 2, "rk4": 4}.get(sampler.name, 1)
    try:
        return sampler.process.grid(max(1, -(-calls // per_step)))
    except InputError:
        return None


def prediction(patient: Patient, trained) -> list[Result]:
    """What the network says against what the sampler reads."""
    if (
        patient.denoiser is None
        or patient.sampler is None
        or patient.denoiser.prediction == patient.sampler.prediction
    ):
        return []
    sentence = (
        f"The network was trained to say {patient.denoiser.prediction} and the sampler takes it for "
        f"{patient.sampler.prediction}."
    )
    return [
        _finding("prediction_mismatch", "fault", "predictions that differ", 1.0, 0.0, "the sampler", sentence)
    ]


def terminal(patient: Patient, trained) -> list[Result]:
    """Signal left at the noisiest time of the training, and division by none left at all."""
    noisiest = trained.lowest if trained.direction == "noise_at_0" else trained.highest
    mix = trained.mix(jnp.asarray(noisiest, jnp.float32 if trained.continuous else jnp.int32))
    signal = float(mix.signal)
    says = (
        patient.denoiser.prediction
        if patient.denoiser is not None
        else getattr(patient.sampler, "prediction", None)
    )
    if signal < 1e-6 and says == "eps" and not trained.continuous:
        sentence = "At the noisiest step no signal is left: the clean action is the predicted noise over 0."
        return [
            _finding(
                "zero_snr_division",
                "fault",
                "sqrt(abar) at the noisiest step",
                signal,
                1e-6,
                "the first step of sampling",
                sentence,
            )
        ]
    if signal < TERMINAL_SIGNAL or signal >= 1 - 1e-9:
        return []
    sentence = f"Training never goes beyond {signal:.3f} of signal, and sampling starts from pure noise."
    return [
        _finding(
            "terminal_signal",
            "fault",
            "sqrt(abar) at the noisiest step",
            signal,
            TERMINAL_SIGNAL,
            "the noisiest step",
            sentence,
        )
    ]


def oracle(patient: Patient, trained) -> list[Result]:
    """Known actions through the patient's sampler, by a denoiser that answers as a perfect network would."""
    sampler = patient.sampler
    x0 = _known(patient)
    keys = jax.random.split(jax.random.key(1))
    start = sampler.start(keys[0], x0.shape)
    perfect = _oracle(x0, sampler.prediction, trained, start)
    try:
        found = np.asarray(sampler.run(perfect, start, keys[1]))
    except InputError as error:
        cause = "time_reversed" if "direction" in error.problem else "schedule_mismatch"
        cause = "prediction_mismatch" if "prediction" in error.problem else cause
        return [
            _finding(
                cause,
                "fault",
                "refused by the sampler",
                1.0,
                0.0,
                "the sampler",
                f"The sampler refuses the network: {error.problem}.",
            )
        ]
    except Exception as error:  # Anybody's sampler may raise anything, and the examination goes on.
        return [
            NotExamined(
                7,
                "the sampler with an oracle",
                f"a sampler that runs ({type(error).__name__}: {_line(error)})",
            )
        ]
    error = float(np.sqrt(np.mean((found - np.asarray(x0)) ** 2))) / float(jnp.std(x0))
    if math.isfinite(error) and error < 0.1:
        return []
    sentence = (
        f"With a denoiser that knows the answer the sampler misses it by {error:.2g} of its spread: "
        "the sampler is wrong, not the network."
    )
    return [
        _finding(
            _named(sampler, trained, x0, found),
            "fault",
            "error of the sampler with an oracle",
            error,
            0.1,
            "the sampler",
            sentence,
        )
    ]


def _known(patient: Patient):
    """Actions to be found again: those of the first batches, which lie where a sampler may keep its own."""
    action = None if patient.batches is None else getattr(patient.batches(0), "action", None)
    if action is None or float(np.std(action)) == 0:
        return jax.random.normal(jax.random.key(0), (COUNT, *(_shape(patient) or (WIDTH,)))) * 0.5
    return jnp.asarray(action, jnp.float32)


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:120]


def _oracle(x0, says: str, trained, start=None) -> Denoiser:
    """A denoiser that knows x0. Where no noise is left to divide by, it remembers the noise of the start."""
    noisiest = trained.lowest if trained.direction == "noise_at_0" else trained.highest
    first = trained.mix(jnp.asarray(noisiest, jnp.float32 if trained.continuous else jnp.int32))
    known = None if start is None else (start - first.signal * x0) / first.noise

    def apply(x, t):
        mix = trained.mix(t)
        a, s = (
            jnp.reshape(c, c.shape + (1,) * (x.ndim - 1)).astype(x.dtype) for c in (mix.signal, mix.noise)
        )
        eps = (x - a * x0) / jnp.maximum(s, 1e-6)
        eps = eps if known is None else jnp.where(s < 1e-3, known, eps)
        return target(says, x0, eps, mix)

    return Denoiser(apply, says, trained)


def _named(sampler: Sampler, trained, x0, found) -> str:
    """Which mistake an oracle's error looks like."""
    if not np.isfinite(found).all():
        return "zero_snr_division"
    for says in sampler.process.predictions:
        if says != sampler.prediction:
            try:
                network = _oracle(x0, says, trained)._replace(prediction=sampler.prediction)
                again = sampler.run(network, sampler.start(jax.random.key(2), x0.shape), jax.random.key(3))
            except Exception:  # noqa: BLE001 - another prediction need not suit the process
                continue
            if float(np.sqrt(np.mean(np.square(np.asarray(again) - np.asarray(x0))))) < 0.05:
                return "prediction_mismatch"
    spread = float(np.std(found))
    return "time_reversed" if 0.7 < spread < 1.5 and trained.continuous else "schedule_mismatch"


def halved_step(patient: Patient) -> list[Result]:
    """Richardson: the patient's network sampled with n, 2n and 4n steps from the same noise."""
    sampler, denoiser = patient.sampler, patient.denoiser
    if denoiser is None or sampler.random or sampler.calls is None:
        return []
    shape = _shape(patient)
    if shape is None:
        return [
            NotExamined(7, "the sampler's step against half of it", "`batches`, for the shape of an action")
        ]
    per_step = {"midpoint": 2, "heun": 2, "rk4": 4}.get(sampler.name, 1)
    steps = max(1, sampler.calls // per_step)
    start = sampler.start(jax.random.key(0), (64, *shape))
    ends = []
    for n in (steps, 2 * steps, 4 * steps):
        try:
            finer = make_sampler(sampler.name, sampler.process, steps=n, prediction=sampler.prediction)
        except InputError:
            break
        ends.append(np.asarray(finer.run(denoiser, start, None), np.float64))
    if len(ends) < 3 or not all(np.isfinite(e).all() for e in ends):
        return []
    first, second = (float(np.sqrt(np.mean((a - b) ** 2))) for a, b in zip(ends, ends[1:], strict=False))
    scale = _action_std(patient)
    order = math.log2(first / second) if first > 0 and second > 0 else math.inf
    # A geometric tail of halvings: e_n = |x_n - x_2n| / (1 - 2^-p), with p no better than what was seen.
    estimate = first / (1 - 2 ** -min(max(order, 0.5), 4)) / scale
    numbers = {"steps": float(steps), "order": order, "first": first, "second": second}
    # A sampler of a few steps is a choice that is easily improved; ten are what everybody takes.
    bound = COARSE if steps <= 4 else 3 * COARSE
    if estimate < COARSE:
        sentence = (
            f"Two and four times the steps move the samples by {first / scale:.1%} and {second / scale:.1%}"
            " of their spread."
        )
        return [
            Finding(
                7,
                "normal",
                "note",
                "integration error over the actions' spread",
                estimate,
                COARSE,
                f"{steps} steps",
                sentence,
                numbers=numbers,
            )
        ]
    converges = second < 0.8 * first
    severity = (
        "fault" if estimate > 0.3 and converges else "warning" if estimate > bound and converges else "note"
    )
    sentence = (
        f"With {steps} steps the samples are off by {estimate:.0%} of the actions' spread: twice the steps "
        f"move them by {first / scale:.1%}, twice again by {second / scale:.1%}."
    )
    return [
        Finding(
            7,
            "too_few_sampling_steps",
            severity,
            "integration error over the actions' spread",
            estimate,
            COARSE,
            f"{steps} steps",
            sentence,
            numbers=numbers,
        )
    ]


def _shape(patient: Patient) -> tuple[int, ...] | None:
    shape = patient.extra.get("action_shape")
    if shape is not None:
        return tuple(shape)
    if patient.batches is None:
        return None
    action = getattr(patient.batches(0), "action", None)
    return None if action is None else tuple(np.shape(action)[1:])


def _action_std(patient: Patient) -> float:
    if patient.batches is None:
        return 1.0
    std = float(np.std(np.asarray(patient.batches(0).action, np.float64)))
    return std if std > 0 else 1.0


def _finding(cause, severity, statistic, value, bound, where, sentence) -> Finding:
    return Finding(7, cause, severity, statistic, float(value), bound, where, sentence)
