"""Check 3: each fault of the step found under its name, and what only looks like one left alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ch3_jax.data.episodes import Dataset, Facts, Steps
from ch3_jax.doctor import trials
from ch3_jax.doctor.finding import NotExamined
from ch3_jax.doctor.patient import Patient
from ch3_jax.doctor.ten_steps import check
from ch3_jax.errors import InputError
from tests.doctor import patients
from tests.doctor.patients import ADAM, HEALTHY, alarms, apply, batches, causes, errors, mean, mse, patient


def blind(params, batch, key):
    return mse(params, batch._replace(observation=jnp.zeros_like(batch.observation)), key)


def blind_to_two(params, batch, key):
    return mse(params, batch._replace(observation=batch.observation.at[..., 2].set(0)), key)


def summed(params, batch, key):
    return jnp.sum(jnp.where(batch.mask, errors(params, batch), 0))


def unmasked(params, batch, key):
    return jnp.mean(errors(params, batch))


def mixed(params, batch, key):
    centred = batch.observation - batch.observation.mean(0, keepdims=True)
    return mse(params, batch._replace(observation=centred), key)


@jax.custom_vjp
def _uphill(x):
    return x


_uphill.defvjp(lambda x: (x, None), lambda _, g: (-g,))


def wrong_gradient(params, batch, key):
    return _uphill(mse(params, batch, key))


def no_parameters(params, batch, key):
    return jnp.mean(batch.action**2) + 0 * mse(jax.lax.stop_gradient(params), batch, key)


def nll(params, batch, key):
    """Negative, summed over dimensions, noisy: all of it healthy."""
    noisy = batch._replace(action=batch.action + 0.05 * jax.random.normal(key, batch.action.shape))
    return mean(50 * errors(params, noisy) - 3.0, batch.mask)


MASKED = optax.multi_transform(
    {"train": optax.adam(1e-2), "still": optax.set_to_zero()},
    {name: "still" if name == "encoder" else "train" for name in ("encoder", "hidden", "head")},
)

FAULTS = {
    "stale copy": (patient(optimizer=optax.set_to_zero()), {"params_not_updated"}),
    "no parameters in the loss": (patient(loss=no_parameters), {"params_not_updated"}),
    "uphill": (patient(optimizer=optax.chain(optax.adam(1e-2), optax.scale(-1))), {"gradient_sign"}),
    "wrong derivative": (patient(loss=wrong_gradient), {"gradient_sign"}),
    "encoder left out of the optimizer": (patient(optimizer=MASKED), {"frozen_layer"}),
    "blind": (patient(loss=blind), {"input_ignored"}),
    "blind to one dimension": (patient(loss=blind_to_two), {"input_ignored"}),
    "summed": (patient(loss=summed), {"loss_summed"}),
    "padding counted": (patient(loss=unmasked), {"padding_counted"}),
    "samples mixed": (patient(loss=mixed), {"batch_dependence"}),
    "rate under the precision": (patient(optimizer=optax.sgd(1e-12)), {"rate_too_low"}),
}

LOOK_ALIKES = {
    "healthy": HEALTHY,
    "adamw with a warm-up from 0": patient(optimizer=optax.adamw(optax.linear_schedule(0, 1e-3, 1000))),
    "momentum": patient(optimizer=optax.sgd(1e-2, momentum=0.9)),
    "accumulated gradients": patient(optimizer=optax.MultiSteps(optax.adam(1e-3), 8)),
    "frozen as declared": patient(optimizer=MASKED, declared_frozen=("encoder/",)),
    "summed over dimensions, negative, noisy": patient(loss=nll, declared_loss_name="gaussian_nll"),
    "a reward that is maximised": patient(
        optimizer=optax.chain(optax.adam(1e-2), optax.scale(-1)), declared_family="reinforcement"
    ),
    "statistics over the batch in a contrastive loss": patient(loss=mixed, declared_loss_name="infonce"),
    "a loss with metrics": patient(loss=lambda p, b, k: (mse(p, b, k), {"n": b.mask.sum()})),
    "one sample": patient(batches=lambda step: jax.tree.map(lambda x: x[:1], batches(step))),
}


def some_slow(names, quick):
    """Every loss is a program to compile: a few of the cases by default, all with `-m slow`."""
    return [pytest.param(n, marks=[] if n in quick else pytest.mark.slow) for n in names]


@pytest.mark.parametrize("name", some_slow(FAULTS, {"uphill", "blind", "padding counted"}))
def test_a_fault_is_found_under_its_name(name):
    broken, expected = FAULTS[name]
    results = check(broken)
    assert causes(results) == expected
    finding = next(r for r in results if getattr(r, "alarm", False))
    assert finding.check == 3
    assert finding.sentence.endswith(".")


@pytest.mark.parametrize("name", some_slow(LOOK_ALIKES, {"healthy", "adamw with a warm-up from 0"}))
def test_a_look_alike_is_left_alone(name):
    assert alarms(check(LOOK_ALIKES[name])) == []


@pytest.mark.slow
def test_a_trained_network_whose_inputs_were_exchanged():
    """A network that answers the neighbour's observation fits four samples and fails on fresh ones."""

    def crossed(params, batch, key):
        return mse(params, batch._replace(observation=jnp.roll(batch.observation, 1, axis=0)), key)

    params, state = patients.init(jax.random.key(0)), None
    step = jax.jit(lambda p, s, b: (lambda g: ADAM.update(g, s, p))(jax.grad(mse)(p, b, jax.random.key(0))))
    state = ADAM.init(params)
    for i in range(150):
        updates, state = step(params, state, batches(i))
        params = optax.apply_updates(params, updates)
    assert alarms(check(patient(params=params))) == []
    # Trained on crossed pairs it knows nothing but the mean.
    mean_only = jax.tree.map(jnp.zeros_like, params)
    start = lambda key: jax.tree.map(lambda x: 3 * x, patients.init(key))  # noqa: E731
    found = check(patient(loss=crossed, params=mean_only, init=start))
    assert "input_ignored" in causes(found)


@pytest.mark.slow
def test_a_mask_that_never_masks():
    rng = np.random.default_rng(0)
    length, count = 10, 30
    action = rng.normal(size=(length * count, patients.A)).astype(np.float32)
    seen = rng.normal(size=(length * count, patients.S)).astype(np.float32)
    offset = np.arange(0, length * count + 1, length)
    facts = Facts("d", "generated", tuple("abcde"), tuple("xy"))
    dataset = Dataset(facts, {"train": Steps(seen, action, offset)})

    def windows(step, hide=False):
        row = np.random.default_rng(step).integers(0, length * count, patients.B)
        index = row[:, None] + np.arange(patients.H)
        last = (row // length * length + length - 1)[:, None]
        inside = index <= last
        batch = batches(step)
        mask = inside if hide else np.ones_like(inside)
        return batch._replace(
            observation=seen[row][:, None], action=action[np.minimum(index, last)], mask=mask
        )

    assert "padding_counted" in causes(check(patient(batches=windows, dataset=dataset)))
    hidden = patient(batches=lambda step: windows(step, hide=True), dataset=dataset)
    assert "padding_counted" not in causes(check(hidden))


def test_what_is_missing_is_said():
    (result,) = check(Patient("curve only"))
    assert isinstance(result, NotExamined)
    assert result.needs == "`loss` and `batches` and `init` or `params`"


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda p, b, k: errors(p, b), "not a scalar"),
        (lambda p, b, k: float(mse(p, b, k)), "cannot be traced"),
        (lambda p, b, k: jnp.int32(3), "not a scalar"),
    ],
    ids=["un-reduced", "a Python float", "an integer"],
)
def test_a_loss_that_cannot_be_used_is_refused_in_words(loss, words):
    with pytest.raises(InputError, match=words):
        check(patient(loss=loss))


def test_a_loss_that_is_not_finite_is_for_check_five():
    (result,) = check(patient(loss=lambda p, b, k: mse(p, b, k) * jnp.nan))
    assert isinstance(result, NotExamined)


@pytest.mark.slow
def test_another_s_batch_of_pairs_and_names():
    def pair_loss(params, pair, key):
        x, y = pair
        return jnp.mean(jnp.square(apply(params, x) - y))

    def pairs(step):
        batch = batches(step)
        return batch.observation, batch.action[:, 0]

    healthy = patient(loss=pair_loss, batches=pairs)
    assert alarms(check(healthy)) == []
    named = dataclasses.replace(
        healthy,
        loss=lambda p, b, k: pair_loss(p, (b["obs"], b["action"]), k),
        batches=lambda step: dict(
            zip(("obs", "action"), pairs(step), strict=True), index=np.arange(patients.B)
        ),
    )
    assert alarms(check(named)) == []
    unseen = dataclasses.replace(
        named, batches=lambda step: named.batches(step) | {"obs_wrist": batches(step + 9).observation}
    )
    assert alarms(check(unseen)) == [("input_ignored", "warning")]


def test_adam_on_the_host_is_adam():
    """20 steps of optax.adam(1.0), float32 and half precision, a leaf without gradient among them."""
    reference, params = (
        optax.adam(1.0),
        {"a": jnp.ones((3, 2)), "b": jnp.zeros(4, jnp.bfloat16), "c": jnp.ones(1)},
    )
    theirs, ours = reference.init(params), trials.ADAM.init(params)
    for step in range(20):
        keys = jax.random.split(jax.random.key(step))
        gradients = {
            "a": 10.0 ** (step - 12) * jax.random.normal(keys[0], (3, 2)),
            "b": jax.random.normal(keys[1], (4,)).astype(jnp.bfloat16),
            "c": jnp.zeros(1),
        }
        expected, theirs = reference.update(gradients, theirs, params)
        got, ours = trials.ADAM.update(gradients, ours)
        for name in params:
            assert got[name].dtype == params[name].dtype
            # optax keeps the moments of half-precision parameters in half precision; ours are better.
            slack = {"rtol": 0.1, "atol": 0.02} if name == "b" else {"rtol": 1e-5, "atol": 1e-6}
            np.testing.assert_allclose(np.float32(got[name]), np.float32(expected[name]), **slack)


def zeros_counted(params, batch, key):
    """A mask under a misspelt key: padded steps stand at zero, and count."""
    filled = jnp.where(batch.mask[..., None], batch.action, 0)
    return mse(params, batch._replace(action=filled, mask=jnp.ones_like(batch.mask)), key)


def test_padding_that_is_filled_with_zeros_and_trained():
    found = [r for r in check(patient(loss=zeros_counted)) if getattr(r, "cause", "") == "padding_counted"]
    assert [r.statistic for r in found] == ["gradient with everything masked"]

    def with_decay(params, batch, key):
        return mse(params, batch, key) + 1e-4 * sum(jnp.sum(x**2) for x in jax.tree.leaves(params))

    assert "padding_counted" not in causes(check(patient(loss=with_decay)))
