"""Means and norms, at the places where they usually break."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.numerics import masked_mean, safe_norm, sums_of_squares, tree_norm


def test_masked_mean_divides_by_what_is_valid():
    x = jnp.array([[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]])
    # (1 + 2 + 3 + 4) / 4 = 2.5; dividing by all six would give 1.67
    assert masked_mean(x, jnp.array([True, True, False])) == 2.5
    np.testing.assert_allclose(masked_mean(x, jnp.array([True, True, False]), 0), [2.0, 3.0])


def test_masked_mean_equals_the_mean_of_the_subset():
    rng = np.random.default_rng(0)
    x, mask = rng.normal(size=(50, 7)).astype(np.float32), rng.random(50) < 0.3
    np.testing.assert_allclose(masked_mean(jnp.array(x), jnp.array(mask)), x[mask].mean(), rtol=1e-6)


def test_an_empty_mask_is_nan_not_zero():
    assert jnp.isnan(masked_mean(jnp.ones(3), jnp.zeros(3, bool)))


def test_a_masked_nan_reaches_neither_value_nor_gradient():
    mask = jnp.array([True, False])
    value, gradient = jax.value_and_grad(lambda x: masked_mean(x, mask))(jnp.array([2.0, jnp.nan]))
    assert value == 2.0
    np.testing.assert_array_equal(gradient, [1.0, 0.0])


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="leading axes"):
        masked_mean(jnp.ones((3, 2)), jnp.ones(2, bool))


def test_safe_norm_is_the_norm_and_has_a_gradient_at_zero():
    assert safe_norm(jnp.array([3.0, 4.0])) == 5.0
    np.testing.assert_allclose(jax.grad(safe_norm)(jnp.array([3.0, 4.0])), [0.6, 0.8])
    np.testing.assert_array_equal(jax.grad(safe_norm)(jnp.zeros(2)), [0.0, 0.0])


def test_tree_norm_is_the_norm_of_the_concatenation():
    tree = {"a": jnp.array([1.0, 2.0]), "b": [jnp.array([[2.0], [4.0]])]}
    # 1 + 4 + 4 + 16 = 25
    assert tree_norm(sums_of_squares(tree)) == 5.0
    # bfloat16 leaves are summed in float32: 1000 squares of 1 would stop at 256 in bfloat16
    assert tree_norm(sums_of_squares(jnp.ones(1000, jnp.bfloat16))) == pytest.approx(1000**0.5)
