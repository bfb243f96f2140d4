"""Check 6 on curves made by hand: every shape under its name, every look-alike left alone."""

import math

import numpy as np
import pytest

from ch3_jax.doctor import history
from ch3_jax.doctor.curve import check
from ch3_jax.doctor.finding import Finding, NotExamined
from ch3_jax.doctor.patient import Declared, Patient
from ch3_jax.doctor.theory import expected
from tests.doctor.patients import GAIN, alarms, batches, causes, patient

N = 300


def rng(seed):
    return np.random.default_rng(seed)


def falling(seed=0, start=1.0, end=0.1, noise=0.02, n=N, time=40):
    t = np.arange(n)
    return (end + (start - end) * np.exp(-t / time)) * np.exp(noise * rng(seed).normal(size=n))


def curve(values, floor=None, notes=(), steps=None, **more):
    columns = {k: v for k, v in more.items() if not k.startswith("declared_")}
    facts = {k.removeprefix("declared_"): v for k, v in more.items() if k.startswith("declared_")}
    made = history.from_arrays(steps, notes=notes, loss=values, **columns)
    return Patient("c", history=made, floor=floor, declared=Declared(**facts))


def spiked(factor):
    values = falling()
    values[200] = factor * values[100:200].max()
    return values


def reused(period, seed=0):
    """Each batch of the epoch has its own difficulty, and comes at the same place of every epoch."""
    own = rng(seed).normal(size=period) * 0.1
    return falling(seed, noise=0.03) * np.exp(own[np.arange(N) % period])


def resumed(jump):
    values = falling()
    t = np.arange(N - 200)
    values[200:] += jump * np.exp(-t / 20)
    return values


UP = np.exp(np.linspace(0, 3, 150))
FAULTS = {
    "diverges": (curve(np.concatenate([falling(n=150), 0.13 * UP])), "divergence"),
    "uphill from the start": (
        curve(1 + np.linspace(0, 5, N) + 0.01 * rng(1).normal(size=N)),
        "gradient_sign",
    ),
    "always the same number": (curve(np.full(N, 0.7)), "params_not_updated"),
    "a rate of nothing": (
        curve(1 + 0.02 * rng(0).normal(size=N), learning_rate=np.full(N, 1e-8)),
        "rate_too_low",
    ),
    "a rate of zero": (
        curve(1 + 0.02 * rng(0).normal(size=N), learning_rate=np.zeros(N)),
        "params_not_updated",
    ),
    "equal bins above a floor": (
        curve(
            math.log(256) + 0.01 * rng(0).normal(size=N),
            floor=2.0,
            declared_loss_name="ce",
            declared_bins=256,
        ),
        "plateau_at_blind_loss",
    ),
    "straight and slow": (curve(1 - 5e-2 * np.arange(N) / N + 0.002 * rng(0).normal(size=N)), "rate_too_low"),
    "one spike": (curve(spiked(12)), "spikes"),
    "optimizer reset": (curve(resumed(0.3), declared_resumed_at=(200,)), "optimizer_reset"),
    "optimizer reset, from a note": (curve(resumed(0.3), notes=("resumed at step 200",)), "optimizer_reset"),
    "not reshuffled": (curve(reused(25), declared_steps_per_epoch=25), "not_reshuffled"),
    "not reshuffled, epoch unknown": (curve(reused(40, seed=3)), "not_reshuffled"),
    "swings": (curve(falling(end=0.3) + 0.15 * np.sin(np.arange(N) / 4)), "oscillation"),
    "first steps too large": (curve(np.concatenate([[1.0, 3.0, 6.0, 5.0, 3.0], falling()])), "no_warmup"),
    "held-out loss that never moves": (
        curve(falling(), val_loss=([0, 100, 200, 299], [0.9] * 4)),
        "untrained_average",
    ),
    "average of the first parameters": (
        curve(falling(), val_loss=([0, 100, 200, 299], [1.0, 0.99, 0.985, 0.98]), declared_ema_decay=0.9999),
        "untrained_average",
    ),
    "worse than untrained": (
        curve(falling(), val_loss=([0, 75, 150, 225, 299], [1, 0.8, 1.2, 1.6, 2.1])),
        "memorising",
    ),
}

STEP = np.where(np.arange(N) < 150, 1.0, 0.5)
RESTARTS = 0.1 + 0.9 * np.exp(-np.arange(N) / 40) + 0.05 * np.cos(np.arange(N) % 75 / 75 * np.pi)
LOOK_ALIKES = {
    "healthy": lambda s: curve(falling(s), val_loss=(np.arange(0, N, 30), falling(s)[::30] * 1.1)),
    "noisy small batches": lambda s: curve(falling(s, noise=0.5)),
    "very noisy, heavy tails": lambda s: curve(falling(s, noise=1.0)),
    "step decay of the rate": lambda s: curve(falling(s) * STEP, learning_rate=STEP),
    "cosine restarts": lambda s: curve(
        RESTARTS + 0.01 * rng(s).normal(size=N),
        learning_rate=0.5 + 0.5 * np.cos(np.arange(N) % 75 / 75 * np.pi),
    ),
    "restarts, rate unknown": lambda s: curve(RESTARTS + 0.01 * rng(s).normal(size=N)),
    "held-out error rises slightly": lambda s: curve(
        falling(s), val_loss=([0, 75, 150, 225, 299], [1, 0.2, 0.21, 0.22, 0.25])
    ),
    "converged from the start": lambda s: curve(
        0.1 * np.exp(0.1 * rng(s).normal(size=N)), learning_rate=np.full(N, 1e-5)
    ),
    "nothing to learn": lambda s: curve(
        math.log(256) + 0.01 * rng(s).normal(size=N),
        floor=math.log(256),
        declared_loss_name="ce",
        declared_bins=256,
    ),
    "reinforcement": lambda s: curve(rng(s).standard_t(2, size=N), declared_family="reinforcement"),
    "reinforcement, undeclared": lambda s: curve(np.abs(rng(s).standard_cauchy(size=N)), reward=np.arange(N)),
    "warm-up": lambda s: curve(
        1 - np.linspace(0, 0.3, N) ** 2 + 0.01 * rng(s).normal(size=N), learning_rate=np.linspace(0, 1e-3, N)
    ),
    "negative log-likelihood": lambda s: curve(falling(s) - 3),
    "resumed as it should be": lambda s: curve(falling(s), declared_resumed_at=(200,)),
    "small data, shuffled": lambda s: curve(falling(s) - 0.02 * (np.arange(N) // 25) * 0.2),
    "a tenth of a spike": lambda s: curve(falling(s, noise=0.05) + 0.1 * (np.arange(N) == 200)),
    "coarse log": lambda s: curve(np.round(falling(s), 2)),
    "short": lambda s: curve(falling(s, n=12, time=3)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_shape_has_its_name(name):
    broken, cause = FAULTS[name]
    results = check(broken)
    assert causes(results) == {cause}
    assert all(r.sentence.endswith(".") and r.check == 6 for r in results if not isinstance(r, NotExamined))


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_a_look_alike_is_left_alone(name):
    found = [alarms(check(LOOK_ALIKES[name](seed))) for seed in range(20)]
    assert [f for f in found if f] == []


@pytest.mark.parametrize("values", [[], [1.0], [3.0, 2.0, 1.0], [math.nan] * 50, [math.inf, 1.0, math.nan]])
def test_next_to_nothing_is_no_reason_to_fail(values):
    results = check(curve(values))
    assert alarms(results) == []
    assert any(isinstance(r, NotExamined) and "8 finite points" in r.needs for r in results)


def test_a_history_without_a_loss_says_what_it_has():
    (result,) = check(Patient("c", history=history.from_arrays(accuracy=[1, 2, 3])))
    assert "accuracy" in result.needs
    (result,) = check(Patient("c"))
    assert result.needs == "`history`"


def test_the_blind_loss_comes_from_the_batches():
    """Var a = |column of the gain|^2 + 0.1^2 in each dimension, for inputs of variance 1."""
    blind = expected(patient()).blind
    assert blind == pytest.approx((np.square(GAIN).sum(0) + 0.01).mean(), rel=0.1)
    values = falling(start=3, end=blind, time=15)
    plateau = patient(history=history.from_arrays(loss=values))
    assert causes(check(plateau)) == {"plateau_at_blind_loss"}
    # The same plateau where the inputs tell nothing is all that can be had.
    rows = rng(0)
    unrelated = patient(
        history=history.from_arrays(loss=values),
        batches=lambda step: batches(step)._replace(observation=rows.normal(size=(16, 1, 5)).astype("f")),
    )
    assert alarms(check(unrelated)) == []


def test_a_first_loss_far_above_theory_with_inputs_that_are_large():
    large = patient(
        history=history.from_arrays(loss=falling(start=500)),
        batches=lambda step: batches(step)._replace(observation=50 * batches(step).observation),
    )
    assert causes(check(large)) == {"unnormalized_inputs"}


@pytest.mark.parametrize(
    ("name", "bins", "first"), [("ce", 256, 5.5452), ("denoising", None, 1.0), ("something", None, None)]
)
def test_first_losses(name, bins, first):
    found = expected(Patient("x", declared=Declared(loss_name=name, bins=bins))).first
    assert found == (None if first is None else pytest.approx(first, abs=1e-4))


def by_heart(train_end: float, held_end: float, lowest: int = 4) -> list[str]:
    """Training falls from 1 to `train_end`; held-out is at its lowest at point `lowest` of 20."""
    steps = np.arange(0, 2000, 100)
    train = np.geomspace(1.0, train_end, 20)
    held = np.concatenate([np.linspace(1.0, 0.2, lowest), np.linspace(0.2, held_end, 20 - lowest)])
    patient = Patient("x", history=history.from_arrays(steps, loss=train, val_loss=held))
    return [r.cause for r in check(patient) if isinstance(r, Finding) and r.alarm]


def test_rows_known_by_heart_are_told_from_a_usual_gap():
    assert by_heart(1e-4, 0.21) == ["memorising"]
    assert by_heart(0.05, 0.21) == []  # four times apart: the rule with few demonstrations
    assert by_heart(1e-4, 1e-4, 19) == []  # both fall: noiseless data, well learnt
