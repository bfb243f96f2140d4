"""Supervised losses against hand numbers, optax, and each other."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ch3_jax.losses.supervised import (
    absolute_error,
    cross_entropy,
    masked_vocabulary_cross_entropy,
    squared_error,
)

Z = jnp.array([2.0, 1.0, 0.0])


def test_e1_one_hot():
    # -log softmax(2, 1, 0)[0] = log(e^2 + e + 1) - 2 = 0.4076059645
    assert cross_entropy(Z, jnp.array(0)) == pytest.approx(0.4076059645, abs=1e-6)


@pytest.mark.parametrize(
    ("k", "expected"), [(255, 5.541264), (256, 5.545177), (32_000, 10.373491), (257_152, 12.457423)]
)
def test_equal_logits_cost_log_k(k, expected):
    assert cross_entropy(jnp.zeros((1, k)), jnp.array([3]))[0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_value_and_gradient_against_optax(scale):
    key = jax.random.key(0)
    logits = scale * jax.random.normal(key, (5, 7, 33))
    target = jax.random.randint(key, (5, 7), 0, 33)

    def ours(z):
        return jnp.sum(cross_entropy(z, target))

    def theirs(z):
        return jnp.sum(optax.softmax_cross_entropy_with_integer_labels(z, target))

    np.testing.assert_allclose(ours(logits), theirs(logits), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(ours)(logits), jax.grad(theirs)(logits), atol=1e-6)


def test_gradient_is_q_minus_p_and_matches_differences():
    gradient = jax.grad(cross_entropy)(Z, jnp.array(1))
    np.testing.assert_allclose(gradient, jax.nn.softmax(Z) - jnp.eye(3)[1], atol=1e-7)
    jax.test_util.check_grads(
        lambda z: cross_entropy(z, jnp.array(1)), (Z,), order=2, modes=["rev", "fwd"], atol=1e-2, rtol=1e-2
    )


@pytest.mark.parametrize("target", [3, -4])
def test_a_target_outside_the_bins_is_refused_and_nan_where_it_cannot_be(target):
    with pytest.raises(ValueError, match="`target` lies outside the bins"):
        cross_entropy(Z, jnp.array(target))
    assert jnp.isnan(jax.jit(cross_entropy)(Z, jnp.array(target)))


def test_jit_and_vmap_change_nothing():
    logits, target = jax.random.normal(jax.random.key(1), (6, 4, 9)), jnp.arange(24).reshape(6, 4) % 9
    whole = cross_entropy(logits, target)
    np.testing.assert_allclose(jax.jit(cross_entropy)(logits, target), whole, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(cross_entropy)(logits, target), whole, rtol=1e-6)


def test_masked_vocabulary_equals_the_native_softmax_in_value_and_gradient():
    """OpenVLA: 256 action tokens at the end of 32,000 words; the other 31,744 are masked."""
    rng = np.random.default_rng(0)
    logits = jnp.array(rng.normal(size=(3, 7, 32_000)), jnp.float32)
    native_token = jnp.array(rng.integers(0, 256, (3, 7)))
    allowed = jnp.arange(32_000) >= 31_744

    def masked(z):
        return jnp.mean(masked_vocabulary_cross_entropy(z, native_token + 31_744, allowed))

    def native(z):
        return jnp.mean(cross_entropy(z, native_token))

    np.testing.assert_allclose(masked(logits), native(logits[..., 31_744:]), rtol=1e-6)
    gradient = jax.grad(masked)(logits)
    np.testing.assert_array_equal(gradient[..., :31_744], 0)
    np.testing.assert_allclose(gradient[..., 31_744:], jax.grad(native)(logits[..., 31_744:]), atol=1e-8)


def test_a_masked_token_as_target_is_refused_and_nan_where_it_cannot_be():
    inputs = Z, jnp.array(0), jnp.array([False, True, True])
    with pytest.raises(ValueError, match="`token` holds an id that `allowed` forbids"):
        masked_vocabulary_cross_entropy(*inputs)
    assert jnp.isnan(jax.jit(masked_vocabulary_cross_entropy)(*inputs))


def test_errors_elementwise():
    # (1 - 3)^2 = 4, |1 - 3| = 2
    assert squared_error(jnp.array([1.0]), jnp.array([3.0])) == 4
    assert absolute_error(jnp.array([1.0]), jnp.array([3.0])) == 2
    x, y = jax.random.normal(jax.random.key(0), (2, 5, 7))
    np.testing.assert_allclose(squared_error(x, y), optax.squared_error(x, y))


@pytest.mark.parametrize("loss", [squared_error, absolute_error])
def test_four_against_four_by_one_is_refused(loss):
    with pytest.raises(ValueError, match="has shape"):
        loss(jnp.zeros(4), jnp.zeros((4, 1)))
    with pytest.raises(TypeError, match="floating point"):
        loss(jnp.zeros(4, jnp.int32), jnp.zeros(4))
