"""Shares of environments on several devices: what is averaged is what one device would have had."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ch3_jax.errors import InputError
from ch3_jax.numerics import mean_over
from ch3_jax.reinforcement import moments, reports
from ch3_jax.reinforcement.settings import Settings
from ch3_jax.reinforcement.spread import Spread, most_devices
from ch3_jax.training.update import init_state, make_update

ROOT = Path(__file__).resolve().parents[2]


def test_moments_of_shares_are_those_of_the_whole():
    x = np.random.default_rng(0).normal(2, 3, (4, 5, 8, 2)).astype(np.float32)
    x[1] += 7  # shares with different means
    before = moments.join(moments.start((2,)), jnp.ones((3, 2)))
    shares = jax.vmap(lambda part: moments.join(before, part, "d"), axis_name="d")(jnp.asarray(x))
    whole = moments.join(before, jnp.asarray(x.reshape(-1, 2)))
    for share, expected in zip(shares, whole, strict=True):
        for device in range(4):
            np.testing.assert_allclose(share[device], expected, rtol=2e-5)


def test_an_update_by_shares_is_that_of_the_whole_batch():
    def loss(params, batch, key):
        del key
        error = params["w"] * batch[:, 0] - batch[:, 1]
        return jnp.mean(jnp.square(error)), {"worst": jnp.max(jnp.abs(error))}

    batch = jnp.asarray(np.random.default_rng(1).normal(size=(8, 2)), jnp.float32)
    optimizer = optax.sgd(0.1)
    state = init_state({"w": jnp.float32(3)}, optimizer, jax.random.key(0))
    whole, said = make_update(loss, optimizer)(state, batch)
    divided = make_update(loss, optimizer, axis="d")
    shares, told = jax.vmap(lambda b: divided(state, b), axis_name="d")(batch.reshape(2, 4, 2))
    np.testing.assert_allclose(shares.params["w"], whole.params["w"], rtol=1e-6)
    np.testing.assert_allclose(told["gradient_norm"], said["gradient_norm"], rtol=1e-6)
    assert told["worst"][0] == told["worst"][1]


def test_sums_are_summed_and_means_leave_out_what_is_not_there():
    parts = {"episodes": jnp.array([1, 2]), "terminated_error": jnp.array([jnp.nan, 0.5])}
    found = jax.vmap(lambda m: reports.of_all(m, "d"), axis_name="d")(parts)
    assert found["episodes"].tolist() == [3, 3]
    assert found["terminated_error"].tolist() == [0.5, 0.5]
    unknown = jax.vmap(lambda m: reports.of_all(m, "d"), axis_name="d")(
        {"success_sum": jnp.array([jnp.nan, jnp.nan])}
    )
    assert np.isnan(unknown["success_sum"]).all()
    tree = {"a": jnp.array([[1.0, 3.0], [5.0, 7.0]]), "b": jnp.array([0.0, 2.0])}
    mean = jax.vmap(lambda t: mean_over(t, "d"), axis_name="d")(tree)
    assert mean["a"].tolist() == [[3.0, 5.0]] * 2
    assert mean["b"].tolist() == [1.0, 1.0]


def test_environments_that_do_not_divide_are_refused():
    assert most_devices(Settings(envs=1024, minibatches=8), 3) == 2
    assert most_devices(Settings(envs=10, minibatches=10), 8) == 1
    assert most_devices(Settings(algorithm="grpo", envs=48, minibatches=2, group=8), 4) == 3
    with pytest.raises(InputError, match="devices"):
        Spread(Settings(envs=64), lambda key: None, 64)


def test_two_devices_learn_and_resume_where_they_stopped(tmp_path):
    """In a process of its own: the number of devices is fixed when the first array is made."""
    code = """
import jax, json
jax.config.update("jax_num_cpu_devices", 2)
from ch3_jax.environments import probes
from ch3_jax.reinforcement.build import build
from ch3_jax.reinforcement.settings import Settings
from ch3_jax.training.digests import tree_sha256
from ch3_jax.training.optimizers import clipped_adamw
settings = Settings(envs=16, rollout=4, update_epochs=2, minibatches=2)
made = build(probes.probe("policy"), settings, clipped_adamw(1e-2), devices=2, width=8)
iteration = jax.jit(made.iteration)
def through(state, n):
    for _ in range(n):
        state, metrics = jax.block_until_ready(iteration(state))
    return state, metrics
straight, metrics = through(made.start(jax.random.key(0)), 4)
half, _ = through(made.start(jax.random.key(0)), 2)
host = jax.tree.map(lambda x: jax.device_put(x, jax.devices()[0]), half)
resumed, _ = through(made.place(host), 2)
shards = straight.params["actor"]["log_std"].addressable_shards
alike = {tuple(jax.device_get(s.data).ravel().tolist()) for s in shards}
print(json.dumps({
    "same": tree_sha256(straight.params) == tree_sha256(resumed.params),
    "alike": len(alike), "lanes": str(straight.lanes.total.sharding.spec),
    "episodes": float(metrics["episodes"]), "step": int(straight.train.step),
}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["same"]
    assert found["alike"] == 1
    assert "environments" in found["lanes"]
    assert found["episodes"] == 64  # one step each, of 16 environments in 4 steps
    assert found["step"] == 16
