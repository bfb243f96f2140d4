"""Training of a `Run`: the own update, changes of code that do what they say, harm that can be measured."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ch3_jax.base import Batch
from ch3_jax.data.synthetic import inverse_dynamics
from ch3_jax.errors import InputError
from ch3_jax.faults import changes, drill
from ch3_jax.faults import train as training
from ch3_jax.faults.run import Run


@pytest.fixture(scope="module")
def healthy():
    data = inverse_dynamics(0, pairs=400, validation_pairs=100)
    return Run(data, width=16, batch_size=16, steps=60, every=20, learning_rate=3e-3)


@pytest.fixture(scope="module")
def trained(healthy):
    return training.train(training.ready(healthy))


BATCH = Batch(jnp.ones((4, 1, 3)), jnp.arange(8.0).reshape(4, 1, 2), jnp.ones((4, 1), bool).at[3].set(False))


def loss(params, batch, key):
    """Mean over valid rows of (w . o - a_0)^2, plus a draw."""
    error = (jnp.einsum("bws,s->b", batch.observation, params) - batch.action[:, 0, 0]) ** 2
    return jnp.sum(error * batch.mask[:, 0]) / jnp.sum(batch.mask) + 0 * jax.random.normal(key), {}


def test_changes_of_the_loss_by_hand():
    params, key = jnp.array([0.5, 0.25, 0.25]), jax.random.key(3)
    value, slope = jax.value_and_grad(lambda p: loss(p, BATCH, key)[0])(params)
    # errors (1 - 0)^2, (1 - 2)^2, (1 - 4)^2 of the three valid rows: 11 / 3
    assert float(value) == pytest.approx(11 / 3)

    def changed(name, number):
        return changes.changed_loss(loss, ((name, number),))(params, BATCH, key)

    flip = changes.changed_loss(loss, (("flip_gradient", 0.5),))
    flipped, against = jax.value_and_grad(lambda p: flip(p, BATCH, key)[0])(params)
    assert float(flipped) == pytest.approx(11 / 3)
    np.testing.assert_allclose(against, -0.5 * slope, rtol=1e-5)
    assert float(changed("sum_over_batch", 1.0)[0]) == pytest.approx(4 * 11 / 3)
    # with inputs at zero the prediction is 0: (0 + 4 + 16) / 3
    assert float(changed("zero_inputs", 1.0)[0]) == pytest.approx(20 / 3)
    # the padded row counts, and stands at zero: (1 + 1 + 9 + 1) / 4
    assert float(changed("count_padding", 1.0)[0]) == pytest.approx(3.0)
    # targets 6, 0, 2 instead of 0, 2, 4: (25 + 1 + 1) / 3
    assert float(changed("roll_targets", 1.0)[0]) == pytest.approx(9.0)
    assert float(changed("half_precision", 1.0)[0]) == pytest.approx(11 / 3, rel=1e-3)
    assert np.isinf(float(changed("half_precision", 1e5)[0]))


def test_changes_of_the_optimizer_by_hand():
    params = {"heads": jnp.ones(2), "hidden_1": jnp.ones(2), "hidden_2": jnp.ones(2)}
    gradients = jax.tree.map(lambda p: jnp.array([1.0, 2.0]), params)

    def updates(name, number, times=1):
        made = changes.changed_optimizer(optax.sgd(0.1), ((name, number),))
        state = made.init(params)
        for _ in range(times):
            found, state = made.update(gradients, state, params)
        return found

    frozen = updates("freeze", 1)
    assert not frozen["hidden_1"].any() and frozen["hidden_2"].all() and frozen["heads"].all()
    assert not any(u.any() for u in jax.tree.leaves(updates("drop_updates", 1.0)))
    assert sum(u.any() for u in jax.tree.leaves(updates("drop_updates", 0.5))) == 1  # leaves 0 and 1 of three
    assert not any(u.any() for u in jax.tree.leaves(updates("accumulate", 4.0, times=3)))
    np.testing.assert_allclose(updates("accumulate", 4.0, times=4)["heads"], [-0.1, -0.2], rtol=1e-6)
    # 1 - 0.001 rounds to 1 in bfloat16, whose neighbours below 1 are 2^-8 = 0.0039 apart
    small = changes.changed_optimizer(optax.sgd(0.001), (("bfloat16", 1.0),))
    assert not small.update(gradients, small.init(params), params)[0]["heads"][0]


def test_served_changes_by_hand():
    seen = np.arange(6.0).reshape(2, 3)
    added = changes.serve(lambda x: x[:, :2], (("add_state", 0.5),), seen)
    np.testing.assert_array_equal(added, 1.5 * seen[:, :2])
    swapped = changes.serve(lambda x: x, (("swap_inputs", 2.0),), seen)
    np.testing.assert_array_equal(swapped, seen[:, [1, 0, 2]])


def test_a_run_learns_and_repeats_itself(healthy, trained):
    assert trained.status == "finished"
    values = trained.history["val_loss"].values
    assert values[-1] < 0.7 * values[0]
    assert trained.history["loss"].steps.tolist() == [20, 40, 60]
    again = training.train(training.ready(healthy))
    np.testing.assert_array_equal(values, again.history["val_loss"].values)


def test_runs_that_differ_in_numbers_share_a_program(healthy, trained):
    fast = training.ready(drill.big_lr(healthy, 1.0))
    assert fast.program is trained.ready.program
    exploded = training.train(fast)
    assert exploded.history["loss"].values.max() > 10 * trained.history["loss"].values.max()
    still = training.train(training.ready(drill.tiny_lr(healthy)))
    np.testing.assert_allclose(
        still.history["val_loss"].values, still.history["val_loss"].values[0], rtol=1e-3
    )
    outlier = training.train(training.ready(drill.action_outlier(healthy)))
    assert outlier.history["loss"].values.max() > 100


def test_a_run_stops_where_its_numbers_end(healthy, trained):
    steps = healthy.dataset.splits["train"]
    steps.observation.setflags(write=False)
    seen = steps.observation.copy()
    seen[:, 0] = np.nan
    import dataclasses

    broken = dataclasses.replace(
        healthy.dataset,
        splits={**healthy.dataset.splits, "train": dataclasses.replace(steps, observation=seen)},
    )
    made = training.train(training.ready(healthy._replace(dataset=broken, measured=healthy.dataset)))
    assert made.status == "non_finite" and made.history["loss"].steps.tolist() == [20]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(made.params))


def test_errors_of_the_served_policy(healthy, trained):
    clean = healthy.dataset
    steps = clean.splits["val"]
    errors = training.held_out_errors(trained, clean)
    assert errors.shape == (100,)
    made = trained.ready.program.acting.act(trained.params, jnp.asarray(steps.observation)[:, None], None)[
        :, 0
    ]
    by_hand = np.mean(((np.asarray(made) - steps.action) / steps.action.std(0)) ** 2, axis=1)
    np.testing.assert_allclose(errors, by_hand, rtol=1e-4)


def test_steps_that_are_no_multiple_are_refused(healthy):
    with pytest.raises(InputError, match="multiple"):
        training.ready(healthy._replace(steps=61))


def test_the_drills_floor():
    # d = 2 in one of seven dimensions: 4 / 4 / 7 = 0.142857, and 0.3^2 = 0.09
    assert drill.bimodal_floor() == pytest.approx(0.142857 + 0.09, abs=1e-6)


def test_the_drills_data():
    run = drill.baseline(inverse_dynamics(0, pairs=1_000, validation_pairs=100))
    two = drill.bimodal_labels(run).dataset.splits["train"].action - run.dataset.splits["train"].action
    assert set(np.unique(two[:, 0].round(5))) == {-1.0, 1.0} and not two[:, 1:].any()
    assert abs(two[:, 0].mean()) < 0.1
    bad = drill.action_outlier(run).dataset.splits
    assert (bad["train"].action == 1e3).sum() == 10 and (bad["train"].action[:, 3] == 1e3).sum() == 10
    assert not (bad["val"].action == 1e3).any()
    assert drill.unnormalized_inputs(run).dataset.splits["val"].observation.std() == pytest.approx(
        50, rel=0.05
    )


def test_what_stands_between_policy_and_robot_by_hand():
    """Serving changes on a policy that answers with its first two inputs."""
    seen = np.array([[0.1, 0.2, 0.3], [0.4, -0.5, 0.6]])
    policy = lambda x: x[:, :2].copy()  # noqa: E731
    served = lambda *change: changes.serve(policy, (change,), seen)  # noqa: E731
    np.testing.assert_allclose(served("scale_action", 0.5), 0.5 * seen[:, :2])
    np.testing.assert_allclose(served("mirror_last", 1.0), seen[:, :2] * [1, -1])
    np.testing.assert_allclose(served("degrees_in", 1.0), seen[:, :2] * [180 / np.pi, 1])
    shaken = served("shake", 0.5) - seen[:, :2]
    assert 0 < np.abs(shaken).max() < 4 * 0.5
    assert not np.array_equal(shaken[0], shaken[1])
    # Noise belongs to the observation: alone or in a batch, the same.
    alone = changes.serve(policy, (("shake", 0.5),), seen[1:]) - seen[1:, :2]
    np.testing.assert_array_equal(alone[0], shaken[1])


def test_layers_behind_a_stop_gradient_have_no_gradient(healthy):
    ready = training.ready(healthy)
    made = ready.program
    batch = made.batch(ready.data, 0)
    params = made.objective.init(jax.random.key(0))
    loss = changes.changed_loss(made.objective.loss, (("cut_layers", 1.0),))
    gradients = jax.grad(lambda p: loss(p, batch, jax.random.key(0))[0])(params)
    assert not any(np.asarray(x).any() for x in jax.tree.leaves(gradients["hidden_1"]))
    assert all(np.asarray(x).any() for x in jax.tree.leaves(gradients["hidden_2"]))
