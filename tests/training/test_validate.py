"""Validation is the mean over the samples, whatever the block."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.base import Batch
from ch3_jax.numerics import masked_mean
from ch3_jax.training.validate import make_validate


def loss_fn(params, batch, key):
    del key
    squares = jnp.square(batch.observation - params)
    return masked_mean(squares, batch.mask), {"per_dimension": masked_mean(squares, batch.mask, (0, 1))}


@pytest.mark.parametrize("block", [1, 4, 7, 10, 64])
def test_every_sample_counts_once(block):
    data = jnp.array(np.random.default_rng(0).normal(size=(10, 1, 2)), jnp.float32)

    def fetch(data, i):
        return Batch(data[i], data[i], jnp.ones((len(i), 1), bool))

    out = make_validate(loss_fn, fetch, 10, block)(jnp.float32(0.5), data, jax.random.key(0))
    expected = np.square(np.asarray(data) - 0.5)
    np.testing.assert_allclose(out["loss"], expected.mean(), rtol=1e-6)
    np.testing.assert_allclose(out["per_dimension"], expected.mean((0, 1)), rtol=1e-6)


def test_blocks_with_masks_are_weighted_by_what_is_valid():
    data, mask = jnp.arange(8.0).reshape(8, 1, 1), jnp.arange(8) % 3 != 0

    def fetch(data, i):
        return Batch(data[i], data[i], mask[i][:, None])

    out = make_validate(loss_fn, fetch, 8, 3)(jnp.float32(0), data, jax.random.key(0))
    # valid: 1, 2, 4, 5, 7 -> (1 + 4 + 16 + 25 + 49) / 5 = 19
    assert out["loss"] == pytest.approx(19)
