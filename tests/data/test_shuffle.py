"""A shuffle that is a function: a permutation every epoch, uniform, and the same wherever one starts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from ch3_jax.data.shuffle import indices


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 65, 250, 4097])
@pytest.mark.parametrize("epoch", [0, 5])
def test_every_epoch_is_a_permutation(n, epoch):
    order = indices(jax.random.key(1), jnp.arange(epoch * n, (epoch + 1) * n), 1, n)
    assert sorted(np.ravel(order).tolist()) == list(range(n))


def test_what_does_not_fill_a_batch_is_left_out_and_never_the_same():
    order = np.asarray(indices(jax.random.key(0), jnp.arange(3 * 100), 3, 10)).reshape(100, 9)
    assert all(len(set(row)) == 9 for row in order)
    left_out = [45 - row.sum() for row in order]
    assert len(set(left_out)) == 10


def test_a_step_is_the_same_wherever_one_starts():
    key = jax.random.key(3)
    whole = indices(key, jnp.arange(50), 8, 100)
    np.testing.assert_array_equal(indices(key, jnp.arange(17, 50), 8, 100), whole[17:])
    np.testing.assert_array_equal(jax.jit(lambda s: indices(key, s, 8, 100))(jnp.arange(50)), whole)


def test_epochs_and_keys_differ():
    a = indices(jax.random.key(0), jnp.arange(20), 50, 1000)
    b = indices(jax.random.key(1), jnp.arange(20), 50, 1000)
    # two independent shuffles of 1,000 agree in one place on average
    assert (np.ravel(a) == np.ravel(b)).sum() < 10
    c = indices(jax.random.key(0), jnp.arange(20, 40), 50, 1000)
    assert (np.ravel(a) == np.ravel(c)).sum() < 10


def test_positions_are_uniform_and_neighbours_independent():
    order = np.asarray(indices(jax.random.key(2), jnp.arange(20_000), 10, 10))
    counts = np.stack([np.bincount(order[:, p], minlength=10) for p in range(10)])
    # 10 x 10 table with both margins fixed: 81 degrees of freedom
    assert scipy.stats.chi2.sf(((counts - 2000) ** 2 / 2000).sum(), 81) > 1e-3
    pairs = np.bincount(order[:, 0] * 10 + order[:, 1], minlength=100)
    pairs = pairs[pairs > 0]
    assert len(pairs) == 90
    assert scipy.stats.chi2.sf(((pairs - 20_000 / 90) ** 2 / (20_000 / 90)).sum(), 89) > 1e-3


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match="`batch_size` is 11, expected 1 to n = 10"):
        indices(jax.random.key(0), jnp.arange(3), 11, 10)
