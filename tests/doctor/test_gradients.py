"""Check 4: rates, layers and randomness; each fault found, each look-alike left alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ch3_jax.doctor import history
from ch3_jax.doctor.gradients import check, of_history
from ch3_jax.doctor.patient import Declared, Patient
from tests.doctor import patients
from tests.doctor.patients import HEALTHY, alarms, apply, batches, causes, mean, mse, patient


def cut(params, batch, key):
    """The encoder behind a stop_gradient that nobody declared."""
    return mse(params | {"encoder": jax.lax.stop_gradient(params["encoder"])}, batch, key)


def dead(key):
    """A hidden layer whose units are pushed below zero for every input."""
    params = patients.init(key)
    params["hidden"]["bias"] = params["hidden"]["bias"].at[:20].set(-100.0)
    return params


def noise_of(batch, key):
    return jnp.broadcast_to(jax.random.normal(key, batch.action[:, :1].shape), batch.action.shape)


def denoising(params, batch, key):
    noise = noise_of(batch, key)
    x = jnp.concatenate([batch.observation[..., :3], (batch.action + noise)[:, :1]], axis=-1)
    return mean(jnp.square(apply(params, x)[:, None] - noise).mean(-1), batch.mask)


def keyless(params, batch, key):
    return denoising(params, batch, jax.random.key(3))


def numpy_noise(params, batch, key):
    noisy = batch._replace(
        action=batch.action + np.random.default_rng().normal(size=batch.action.shape).astype("f")
    )
    return mse(params, noisy, key)


HALF = optax.adam(1e-5)


def half_init(key):
    return jax.tree.map(lambda x: (x + 0.5).astype(jnp.bfloat16), patients.init(key))


def history_of(**columns):
    return Patient("curve", history=history.from_arrays(**columns))


FLAT = np.ones(60)
FAULTS = {
    "rate a hundred times too high": (patient(optimizer=optax.adam(1.0)), {"rate_too_high"}),
    "rate that diverges": (patient(optimizer=optax.sgd(30.0)), {"rate_too_high"}),
    "rate of the drill": (patient(optimizer=optax.adam(1e-8)), {"rate_too_low"}),
    "encoder cut off": (patient(loss=cut), {"frozen_layer"}),
    "dead units": (patient(init=dead), {"dead_units"}),
    "noise without a key": (patient(loss=keyless, declared_family="diffusion"), {"key_reuse"}),
    "noise of numpy": (patient(loss=numpy_noise), {"key_reuse"}),
    "keys of the loop": (patient(extra={"keys": lambda step: jax.random.key(0)}), {"key_reuse"}),
    "half precision": (patient(init=half_init, optimizer=HALF), {"low_precision_swallow", "rate_too_low"}),
    "actor's loss in the critic": (
        patient(extra={"losses": {"actor": mse}, "trains": {"actor": ("head/", "hidden/")}}),
        {"gradient_leak"},
    ),
    "norms that explode": (history_of(gradient_norm=np.exp(np.linspace(0, 9, 60))), {"exploding_gradients"}),
    "updates of nothing": (history_of(update_ratio=FLAT * 1e-9), {"rate_too_low"}),
}
LOOK_ALIKES = {
    "healthy": HEALTHY,
    "a fine-tuning rate from trained parameters": patient(
        init=None, params=patients.init(jax.random.key(1)), optimizer=optax.adam(1e-5)
    ),
    "sgd with momentum": patient(optimizer=optax.sgd(1e-2, momentum=0.9)),
    "a long warm-up": patient(
        optimizer=optax.adam(optax.linear_schedule(0, 1e-2, 1000)), declared_steps=10_000
    ),
    "a slow but sufficient rate": patient(optimizer=optax.adam(1e-3), declared_steps=10_000),
    "frozen as declared": patient(loss=cut, declared_frozen=("encoder",)),
    "denoising": patient(loss=denoising, declared_family="diffusion", declared_loss_name="denoising"),
    "keys of the step": patient(extra={"keys": lambda step: jax.random.fold_in(jax.random.key(0), step)}),
    "an encoder that both train": patient(extra={"losses": {"actor": mse}, "trains": {"actor": ("",)}}),
    "norms of reinforcement learning": Patient(
        "rl",
        history=history.from_arrays(gradient_norm=np.exp(np.random.default_rng(0).normal(size=300) * 2)),
        declared=Declared(family="reinforcement"),
    ),
    "clipped all along": Patient(
        "x", history=history.from_arrays(gradient_norm=FLAT * 5), declared=Declared(clip=1.0)
    ),
}
QUICK = {
    "rate a hundred times too high",
    "rate of the drill",
    "encoder cut off",
    "norms that explode",
    "updates of nothing",
}


def marked(names):
    return [
        pytest.param(
            n,
            marks=[]
            if n in QUICK or isinstance(names[n], Patient) and names[n].loss is None
            else pytest.mark.slow,
        )
        for n in names
    ]


@pytest.mark.parametrize("name", marked(FAULTS))
def test_a_fault_is_found_under_its_name(name):
    broken, expected = FAULTS[name]
    found = causes(check(broken))
    assert found
    assert found <= expected


@pytest.mark.parametrize("name", marked(LOOK_ALIKES))
def test_a_look_alike_is_left_alone(name):
    assert alarms(check(LOOK_ALIKES[name])) == []


def test_notes_of_a_healthy_run_carry_their_numbers():
    notes = {r.statistic: r for r in check(HEALTHY) if hasattr(r, "statistic")}
    ratios = notes["update over parameters, median layer"].numbers
    assert set(ratios) == {f"{n}/{p}" for n in ("encoder", "hidden", "head") for p in ("kernel", "bias")}
    # Adam's first steps move every element by its rate: 1e-2 over weights of size about 0.2.
    assert 0.005 < ratios["hidden/kernel"] < 0.1
    assert notes["gradient noise scale"].value > 0


@pytest.mark.slow
def test_a_trained_network_that_only_its_own_noise_explains():
    """Trained with one key it beats any noise; with fresh keys it does not."""
    params = patients.init(jax.random.key(0))
    state = patients.ADAM.init(params)
    step = jax.jit(
        lambda p, s, b: (lambda v: (v[0], *patients.ADAM.update(v[1], s, p)))(
            jax.value_and_grad(denoising)(p, b, jax.random.key(3))
        )
    )
    losses = []
    for _ in range(600):
        loss, updates, state = step(params, state, batches(0))
        params = optax.apply_updates(params, updates)
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]
    run = patient(
        batches=lambda step: batches(0),
        loss=denoising,
        params=params,
        history=history.from_arrays(loss=losses),
        declared_family="diffusion",
    )
    assert ("key_reuse", "warning") in alarms(check(run))


def bursting(size: float, share: float = 0.25, clip: float | None = None) -> list[str]:
    """40 reports around norm 1 and loss 1, `share` of them `size` times as large in both."""
    generator = np.random.default_rng(0)
    factor = np.where((np.arange(40) % round(1 / share)) == 3, size, 1.0) if share else np.ones(40)
    norm, loss = (generator.lognormal(0, 0.3, 40) * factor for _ in range(2))
    made = history.from_arrays(
        np.arange(100, 4001, 100), loss=loss, gradient_norm=norm, gradient_norm_max=norm
    )
    patient = Patient("x", history=made, declared=Declared(clip=clip))
    return [r.cause for r in of_history(patient) if r.alarm]


def test_wild_batches_are_found_and_heavy_tails_are_not():
    assert bursting(1e3) == ["exploding_gradients"]
    assert bursting(5.0) == bursting(1.0, 0) == []
    assert bursting(1e3, clip=1.0) == []


def test_units_that_training_has_killed_speak_of_the_rate_and_those_born_dead_do_not():
    """The same dead units at the end; at the start alive once, dead once."""
    end = dead(jax.random.key(0))
    killed, born = (
        [r.cause for r in check(p) if getattr(r, "alarm", False)]
        for p in (patient(params=end), patient(init=dead, params=end))
    )
    assert "dead_units" in killed and "rate_too_high" in killed
    assert "dead_units" in born and "rate_too_high" not in born
