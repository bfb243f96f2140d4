"""Averages that still hold their start, and averages that have caught up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.doctor.averages import findings
from ch3_jax.doctor.history import from_arrays
from ch3_jax.doctor.patient import Declared, Patient


def batches(step):
    x = np.random.default_rng(step).normal(size=(64, 3)).astype(np.float32)
    return {"observation": x, "action": x @ np.eye(3, 2, dtype=np.float32)}


def loss(params, batch, key):
    return jnp.mean((batch["observation"] @ params - batch["action"]) ** 2)


def averaged(share: float) -> Patient:
    """A linear map that has learnt all but a little, and an average with `share` of the start in it."""
    start, end = 2 * jnp.ones((3, 2)), jnp.eye(3, 2) + 0.05
    return Patient(
        "x",
        init=lambda key: start,
        loss=loss,
        batches=batches,
        params=end,
        ema=share * start + (1 - share) * end,
        declared=Declared(ema_decay=0.999),
    )


@pytest.mark.parametrize("share", [0.1, 0.37, 0.9])
def test_what_is_left_of_the_start_is_read_off_the_parameters(share):
    (finding,) = findings(averaged(share))
    assert (finding.cause, finding.check) == ("untrained_average", 6)
    assert finding.value == pytest.approx(share, abs=1e-5)


def test_an_average_that_has_caught_up_is_left_alone():
    assert findings(averaged(0.0)) == findings(averaged(0.04)) == []


def test_without_parameters_decay_and_steps_decide():
    """0.999 ** 2000 = 13.5 %, 0.99 ** 2000 = 2e-9."""

    def curve(decay):
        history = from_arrays(np.arange(0, 2001, 100), loss=np.linspace(1, 0.1, 21))
        return findings(Patient("x", history=history, declared=Declared(ema_decay=decay)))

    assert curve(0.999)[0].value == pytest.approx(0.1352, abs=1e-4)
    assert curve(0.99) == curve(None) == []


def test_jax_arrays_and_numpy_are_the_same():
    patient = averaged(0.5)
    assert findings(patient)[0].value == pytest.approx(
        findings(Patient(**{**vars(patient), "ema": jax.tree.map(np.asarray, patient.ema)}))[0].value
    )
