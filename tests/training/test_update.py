"""The step: equal to the six lines written out, and deaf to non-finite numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ch3_jax.base import Batch
from ch3_jax.training.dispatch import device_advance, host_advance
from ch3_jax.training.ema import constant_decay
from ch3_jax.training.optimizers import clipped_adamw
from ch3_jax.training.update import init_state, make_update

N, S, A = 40, 3, 2


def loss_fn(params, batch, key):
    del key
    prediction = jnp.tanh(batch.observation[:, 0] @ params["w"]) @ params["v"]
    squares = jnp.square(prediction - batch.action[:, 0])
    return jnp.mean(squares), {"loss_per_dimension": jnp.mean(squares, 0)}


def data():
    observation = jax.random.normal(jax.random.key(5), (N, 1, S))
    return observation, jnp.sin(observation[..., :A])


def batch_of(arrays, index):
    return Batch(arrays[0][index], arrays[1][index], jnp.ones((len(index), 1), bool))


def params():
    w, v = jax.random.split(jax.random.key(1))
    return {"w": jax.random.normal(w, (S, 8)), "v": jax.random.normal(v, (8, A))}


def order(steps):
    return (steps[:, None] * 7 + jnp.arange(4)[None, :]) % N


def fresh(optimizer, **kw):
    return init_state(params(), optimizer, jax.random.key(2), **kw)


def test_the_six_lines_written_out():
    optimizer = clipped_adamw(1e-2)
    update = make_update(loss_fn, optimizer)
    state, arrays = fresh(optimizer), data()
    theta, opt_state = params(), optimizer.init(params())
    for t in range(3):
        batch = batch_of(arrays, jnp.arange(4) + t)
        state, metrics = update(state, batch)
        (loss, _), g = jax.value_and_grad(loss_fn, has_aux=True)(theta, batch, None)
        u, opt_state = optimizer.update(g, opt_state, theta)
        before, theta = theta, optax.apply_updates(theta, u)
        np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-6)
        np.testing.assert_allclose(metrics["gradient_norm"], optax.tree.norm(g), rtol=1e-6)
        np.testing.assert_allclose(metrics["gradient_norms"]["w"], jnp.linalg.norm(g["w"]), rtol=1e-6)
        expected = optax.tree.norm(u) / optax.global_norm(before)
        np.testing.assert_allclose(metrics["update_ratio"], expected, rtol=1e-6)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), state.params, theta)
    assert int(state.step) == 3


def test_scan_equals_single_steps_and_host_equals_device():
    optimizer, arrays = clipped_adamw(1e-2), data()
    update = make_update(loss_fn, optimizer, ema_decay=constant_decay(0.9))
    one = fresh(optimizer, ema=True)
    for t in range(10):
        one, last = jax.jit(update)(one, batch_of(arrays, order(jnp.array([t]))[0]))
    many, metrics = device_advance(update, order, batch_of, 10)(fresh(optimizer, ema=True), arrays)
    stacked = jax.vmap(lambda i: batch_of(arrays, i))(order(jnp.arange(10)))
    hosted, _ = host_advance(update, 10)(fresh(optimizer, ema=True), stacked)
    assert metrics["losses"].shape == metrics["norms"].shape == (10,)
    np.testing.assert_allclose(metrics["losses"][-1], last["loss"], rtol=1e-5)
    for a, b in ((many, one), (many, hosted)):
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6),
            a._replace(key=0),
            b._replace(key=0),
        )


def test_two_dispatches_of_five_are_one_of_ten_bit_for_bit():
    optimizer, arrays = clipped_adamw(1e-2), data()
    update = make_update(loss_fn, optimizer)
    advance = device_advance(update, order, batch_of, 5)
    straight, _ = advance(advance(fresh(optimizer), arrays)[0], arrays)
    half = jax.device_get(advance(fresh(optimizer), arrays)[0]._replace(key=0))
    resumed, _ = advance(jax.tree.map(jnp.array, half)._replace(key=jax.random.key(2)), arrays)
    jax.tree.map(np.testing.assert_array_equal, straight._replace(key=0), resumed._replace(key=0))


@pytest.mark.parametrize("skip", [False, True])
def test_a_non_finite_step_never_reaches_the_state(skip):
    optimizer, (observation, action) = clipped_adamw(1e-2), data()
    # steps 0, 1, 2, 3 see samples 0-3, 7-10, 14-17, 21-24: sample 22 is new at step 3
    poisoned, bad = (observation, action.at[22].set(jnp.inf)), 3
    update = make_update(loss_fn, optimizer, skip_nonfinite=skip)
    state, metrics = device_advance(update, order, batch_of, 10)(fresh(optimizer), poisoned)
    good, _ = device_advance(update, order, batch_of, bad)(fresh(optimizer), poisoned)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((state.params, state.opt_state)))
    if skip:
        assert int(state.step) == 10
        assert int(state.skipped) == int((~np.isfinite(metrics["losses"])).sum()) > 0
    else:
        assert int(state.step) == bad
        assert int(state.skipped) == 0
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), state.params, good.params)


def test_accumulation_equals_one_large_batch():
    optimizer, arrays = clipped_adamw(1e-2), data()
    batch = batch_of(arrays, jnp.arange(12))
    whole, m1 = make_update(loss_fn, optimizer)(fresh(optimizer), batch)
    pieces, m3 = make_update(loss_fn, optimizer, accumulate=3)(fresh(optimizer), batch)
    np.testing.assert_allclose(m1["loss"], m3["loss"], rtol=1e-6)
    np.testing.assert_allclose(m1["loss_per_dimension"], m3["loss_per_dimension"], rtol=1e-6)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), whole.params, pieces.params)


def test_the_average_follows():
    optimizer = clipped_adamw(1e-2)
    update = make_update(loss_fn, optimizer, ema_decay=constant_decay(0.75))
    before = fresh(optimizer, ema=True)
    state, _ = update(before, batch_of(data(), jnp.arange(4)))
    # 0.75 * old + 0.25 * new
    expected = 0.75 * before.params["w"] + 0.25 * state.params["w"]
    np.testing.assert_allclose(state.ema["w"], expected, rtol=1e-5)


def test_every_step_has_its_own_key():
    def noisy(params, batch, key):
        return jax.random.uniform(key) + 0 * jnp.sum(params["w"]), {}

    optimizer = clipped_adamw(1e-2)
    advance = device_advance(make_update(noisy, optimizer), order, batch_of, 5)
    losses = np.asarray(advance(fresh(optimizer), data())[1]["losses"])
    expected = [float(jax.random.uniform(jax.random.fold_in(jax.random.key(2), t))) for t in range(5)]
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
