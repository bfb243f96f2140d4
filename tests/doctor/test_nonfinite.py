"""Check 5: the earliest place that is not finite, by name; sentinels and skipped steps left alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.data.episodes import Dataset, Facts, Steps
from ch3_jax.doctor import history
from ch3_jax.doctor.examine import examine
from ch3_jax.doctor.nonfinite import check
from ch3_jax.doctor.operations import walk
from ch3_jax.doctor.patient import Patient
from ch3_jax.doctor.verdict import diagnose
from tests.doctor import patients
from tests.doctor.patients import HEALTHY, alarms, batches, mse, patient


def dataset(bad_row=None):
    rng = np.random.default_rng(0)
    seen, done = rng.normal(size=(40, 5)).astype("f"), rng.normal(size=(40, 2)).astype("f")
    if bad_row is not None:
        done[bad_row, 1] = np.nan
    return Dataset(
        Facts("d", "generated", tuple("abcde"), ("x", "y")),
        {"train": Steps(seen, done, np.arange(0, 41, 10))},
    )


def bad_batches(step):
    batch = batches(step)
    if step == 7:
        batch.action[3, 1, 0] = np.inf
    return batch


def sentinel(step):
    """NaN behind the mask, where it is allowed to be."""
    batch = batches(step)
    batch.action[~batch.mask] = np.nan
    return batch


def guarded(params, batch, key):
    return mse(params, batch._replace(action=jnp.where(batch.mask[..., None], batch.action, 0)), key)


def log_of_zero(params, batch, key):
    return mse(params, batch, key) + jnp.mean(jnp.log(jnp.maximum(batch.action, 0)))


def root_at_zero(params, batch, key):
    """Finite, with a gradient of 0 / 0."""
    return mse(params, batch, key) + jnp.sqrt(jnp.sum(jnp.square(params["head"]["bias"])))


def overflow(params, batch, key):
    logits = (batch.observation[:, 0] @ params["encoder"]["kernel"]).astype(jnp.float16) * jnp.float16(3e4)
    return mse(params, batch, key) + jnp.mean(jax.nn.logsumexp(logits * 4, axis=-1).astype(jnp.float32))


def test_healthy_is_silent():
    assert check(HEALTHY) == []


def test_a_nan_of_the_recording_has_episode_and_dimension():
    (finding,) = check(Patient("data", dataset=dataset(bad_row=23)))[:1]
    assert (finding.cause, finding.severity) == ("non_finite_data", "fault")
    assert finding.where == "action y, episode 2"
    assert alarms(check(Patient("data", dataset=dataset()))) == []


def test_a_sentinel_behind_the_mask_is_left_alone():
    assert check(patient(batches=sentinel, loss=guarded)) == []
    assert alarms(check(patient(batches=sentinel, loss=guarded, dataset=dataset(5)))) == [
        ("non_finite_data", "warning")
    ]


@pytest.mark.slow
def test_a_sentinel_masked_too_late_spoils_the_gradient():
    """where(mask, f(NaN), 0) is finite and its derivative is 0 * NaN: the loss is at fault, not the data."""
    (finding,) = check(patient(batches=sentinel))
    assert (finding.cause, finding.severity) == ("non_finite_gradient", "fault")


def test_a_batch_that_reaches_the_loss():
    (finding,) = check(patient(batches=bad_batches))
    assert finding.cause == "non_finite_data"
    assert finding.where == "action, sample 3, dimension 0"
    assert "step 7" in finding.sentence


@pytest.mark.parametrize(
    ("loss", "cause", "operation"),
    [
        (log_of_zero, "non_finite_loss", "log"),
        pytest.param(root_at_zero, "non_finite_gradient", "", marks=pytest.mark.slow),
        pytest.param(overflow, "precision_overflow", "float16", marks=pytest.mark.slow),
    ],
)
def test_the_operation_is_named(loss, cause, operation):
    (finding,) = check(patient(loss=loss))
    assert (finding.cause, finding.severity) == (cause, "fault")
    assert operation in finding.sentence
    assert "test_nonfinite.py" in finding.sentence


def test_parameters_that_are_lost():
    params = patients.init(jax.random.key(0))
    params["head"]["bias"] = params["head"]["bias"] * jnp.nan
    found = check(patient(params=params))
    assert alarms(found) == [("non_finite_gradient", "fault")]
    assert "head/bias" in found[0].sentence


@pytest.mark.parametrize(
    ("values", "severity", "words"),
    [
        ([np.nan] * 5, "fault", "the first that was logged"),
        ([1, 0.9, 0.8, 0.7, 0.6, 0.5, np.nan, np.nan], "fault", "no sign"),
        ([1, 0.5, 1, 8, 60, 900, np.inf, np.nan], "fault", "it grew"),
        ([1.0] * 150 + [np.inf] + [0.5] * 150, "note", "1 of 301"),
    ],
)
def test_curves(values, severity, words):
    found = [r for r in check(Patient("c", history=history.from_arrays(loss=values))) if hasattr(r, "cause")]
    # What grew before it overflowed is told twice, by its beginning and by its end.
    grew = [("divergence", "fault")] if words == "it grew" else []
    assert [(r.cause, r.severity) for r in found] == [*grew, ("non_finite_loss", severity)]
    assert words in found[-1].sentence


def test_the_nearest_to_overflow():
    found = walk(
        lambda x: (x.astype(jnp.float16) * jnp.float16(2)).sum(), jnp.full(3, 1e4), measure="float16"
    )
    # 3 * 2e4 in the sum, of 65,504
    assert found.largest == pytest.approx(6e4 / 65504, rel=1e-3)


def test_a_loss_that_runs_away_before_it_overflows_diverged():
    """Times 1e4 a row, then infinite; and a sudden NaN after a steady fall, which did not diverge."""
    grown = Patient("x", history=history.from_arrays(loss=[80.0, 1e6, 7e18, np.inf, np.nan, np.nan]))
    found = diagnose(examine(grown))
    assert [b.cause for b in found.causes] == ["divergence", "non_finite_loss"]
    assert found.causes[1].explained_by == "divergence"
    sudden = Patient("x", history=history.from_arrays(loss=[*np.linspace(5, 3, 20), np.nan, np.nan]))
    assert [b.cause for b in diagnose(examine(sudden)).causes] == ["non_finite_loss"]
