"""The host pipeline gives the device pipeline's batches, ahead of time."""

import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.data.batches import host_batches
from ch3_jax.data.shuffle import indices
from ch3_jax.data.windows import DeviceSteps, gather

N = 50


def steps():
    stop = jnp.repeat(jnp.arange(10, N + 1, 10, dtype=jnp.int32), 10, total_repeat_length=N)
    observation = jax.random.normal(jax.random.key(0), (N, 3))
    return DeviceSteps(observation, jnp.cumsum(observation, 0)[:, :2], stop - 10, stop)


def order(t):
    return indices(jax.random.key(1), t, 8, N)


def test_same_batches_as_on_the_device():
    lengths = [(0, 3), (3, 3), (6, 1)]
    got = list(host_batches(steps(), order, iter(lengths), window=2, horizon=3))
    assert [b.mask.shape for b in got] == [(3, 8, 3), (3, 8, 3), (1, 8, 3)]
    for (first, length), batch in zip(lengths, got, strict=True):
        for k in range(length):
            expected = gather(steps(), order(jnp.array([first + k]))[0], window=2, horizon=3)
            jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[k], b), batch, expected)  # noqa: B023


def test_an_error_in_the_thread_reaches_the_reader():
    def broken(t):
        raise RuntimeError("the disk went away")

    with pytest.raises(RuntimeError, match="the disk went away"):
        next(host_batches(steps(), broken, iter([(0, 1)])))


def test_a_reader_that_stops_early_leaves_no_thread():
    before = threading.active_count()
    batches = host_batches(steps(), order, ((t, 1) for t in range(1000)))
    next(batches)
    batches.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before
