"""Distances of sampled actions to the data, per dimension."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ch3_jax.base import Batch
from ch3_jax.evaluation.marginals import marginal_distances


def test_the_first_action_of_the_horizon_dimension_by_dimension():
    draw = np.random.default_rng(0)
    shown, drawn = (jnp.asarray(draw.normal(size=(200, 2, 3)), jnp.float32) for _ in range(2))
    drawn = drawn.at[..., 1].multiply(3.0)
    batch = Batch(jnp.zeros((200, 1, 1)), shown, jnp.ones((200, 2), bool))
    width = jnp.array([4.0, 8.0, 0.0])
    found = marginal_distances(lambda observation, key: drawn, batch, width, jax.random.key(0))
    expected = [stats.wasserstein_distance(shown[:, 0, d], drawn[:, 0, d]) for d in range(3)]
    np.testing.assert_allclose(found, np.array(expected) / [4, 8, 1], rtol=1e-4)
    assert found[1] == pytest.approx(0.2, abs=0.05)  # E|3 n| - E|n| = 2 x 0.798 over a range of 8
