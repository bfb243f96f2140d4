"""Supervised losses against hand numbers, optax, and each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from ch3_jax.losses.supervised import (
    absolute_error,
    binary_gripper,
    cross_entropy,
    gaussian_nll,
    huber_error,
    masked_vocabulary_cross_entropy,
    mixture_nll,
    soft_target_cross_entropy,
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


@pytest.mark.parametrize("target", [3, -4])
def test_a_target_outside_the_bins_is_refused_and_nan_where_it_cannot_be(target):
    with pytest.raises(ValueError, match="`target` lies outside the bins"):
        cross_entropy(Z, jnp.array(target))
    assert jnp.isnan(jax.jit(cross_entropy)(Z, jnp.array(target)))


def test_masked_vocabulary_equals_the_native_softmax_in_value_and_gradient():
    """OpenVLA: 256 action tokens at the end of 32,000 words; the other 31,744 are masked."""
    rng = np.random.default_rng(0)
    logits, native = rng.normal(size=(7, 32_000)).astype(np.float32), rng.integers(0, 256, 7)
    allowed = np.arange(32_000) >= 31_744
    inputs = jnp.array(logits), jnp.array(native + 31_744), jnp.array(allowed)
    gradient = jax.jit(jax.grad(lambda *x: jnp.sum(masked_vocabulary_cross_entropy(*x))))(*inputs)
    q = scipy.special.softmax(logits[:, 31_744:].astype(np.float64), axis=1)
    expected = -np.log(q[np.arange(7), native])
    np.testing.assert_allclose(masked_vocabulary_cross_entropy(*inputs), expected, rtol=1e-6)
    np.testing.assert_array_equal(gradient[:, :31_744], 0)
    np.testing.assert_allclose(gradient[:, 31_744:], q - np.eye(256)[native], atol=1e-6)


def test_a_masked_token_as_target_is_refused_and_nan_where_it_cannot_be():
    inputs = Z, jnp.array(0), jnp.array([False, True, True])
    with pytest.raises(ValueError, match="`token` holds an id that `allowed` forbids"):
        masked_vocabulary_cross_entropy(*inputs)
    assert jnp.isnan(jax.jit(masked_vocabulary_cross_entropy)(*inputs))


def test_errors_elementwise():
    # (1 - 3)^2 = 4, |1 - 3| = 2
    assert squared_error(jnp.array([1.0]), jnp.array([3.0])) == 4
    assert absolute_error(jnp.array([1.0]), jnp.array([3.0])) == 2


@pytest.mark.parametrize("loss", [squared_error, absolute_error])
def test_four_against_four_by_one_is_refused(loss):
    with pytest.raises(ValueError, match="has shape"):
        loss(jnp.zeros(4), jnp.zeros((4, 1)))
    with pytest.raises(TypeError, match="floating point"):
        loss(jnp.zeros(4, jnp.int32), jnp.zeros(4))


def test_label_smoothing_by_hand():
    # log(e^2 + e + 1) = 2.407606; target (.9 + .1/3, .1/3, .1/3): 2.407606 - .9 x 2 - .1 x (2 + 1 + 0) / 3
    assert cross_entropy(Z, jnp.array(0), label_smoothing=0.1) == pytest.approx(0.507606, abs=1e-6)


def test_soft_targets_cost_at_least_their_entropy():
    p = jnp.array([0.7, 0.2, 0.1])
    assert soft_target_cross_entropy(Z, p) == pytest.approx(0.8076059644, abs=1e-6)  # E1
    assert soft_target_cross_entropy(jnp.log(p), p) == pytest.approx(0.8018185525, abs=1e-6)
    assert not np.abs(jax.grad(soft_target_cross_entropy)(jnp.log(p), p)).max() > 1e-6


def test_huber_by_hand():
    # delta 1/2: d = .3 -> .045; d = -.5, the seam -> .125; d = 2 -> .5 x 2 - .125 = .875
    d = jnp.array([0.3, -0.5, 2.0])
    np.testing.assert_allclose(huber_error(d, jnp.zeros(3), delta=0.5), [0.045, 0.125, 0.875], rtol=1e-6)
    slope = jax.grad(lambda x: huber_error(x, jnp.zeros(3), delta=0.5).sum())(d)
    np.testing.assert_allclose(slope, [0.3, -0.5, 0.5], rtol=1e-6)


def test_gaussian_nll_is_scipys_and_the_squared_error_at_a_fixed_spread():
    mean, log_std, x = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    found = gaussian_nll(jnp.array(mean), jnp.array(log_std), jnp.array(x))
    np.testing.assert_allclose(found, -scipy.stats.norm.logpdf(x, mean, np.exp(log_std)), rtol=1e-5)
    # section 3.2: with a fixed spread the NLL is (x - mean)^2 / (2 s^2) and a constant
    fixed = gaussian_nll(jnp.array(mean), jnp.full(6, np.log(0.5)), jnp.array(x))
    constant = fixed - squared_error(jnp.array(mean), jnp.array(x)) / (2 * 0.25)
    np.testing.assert_allclose(constant, np.log(0.5) + 0.5 * np.log(2 * np.pi), rtol=1e-4)


def test_mixture_nll_of_two_modes_by_hand():
    # weights 3/4 and 1/4 at -1 and 1 with spread 1, target 1: density .75 N(2) + .25 N(0) = .1402
    logits, mean = jnp.log(jnp.array([3.0, 1.0])), jnp.array([[-1.0], [1.0]])
    expected = -np.log(0.75 * scipy.stats.norm.pdf(2) + 0.25 * scipy.stats.norm.pdf(0))
    assert mixture_nll(logits, mean, jnp.zeros((2, 1)), jnp.array([1.0])) == pytest.approx(expected, abs=1e-6)


def test_mixture_nll_far_from_every_mode_keeps_its_gradient():
    """100 deviations away every component's density is 0 in float32; its logarithm is not."""
    inputs = jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.zeros((2, 1)), jnp.array([100.0])
    value, slope = jax.value_and_grad(mixture_nll, 3)(*inputs)
    assert value == pytest.approx(0.5 * 99**2 + 0.918939 + np.log(2), rel=1e-5)
    assert slope[0] == pytest.approx(99.0)


def test_gripper_by_hand_and_far_out():
    # t log(1 + e^-z) + (1 - t) log(1 + e^z): z = 2, open: .126928; closed: 2.126928; 1000 does not overflow
    z, t = jnp.array([2.0, 2.0, 1000.0, -1000.0]), jnp.array([1.0, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(binary_gripper(z, t), [0.126928, 2.126928, 1000.0, 0.0], rtol=1e-5)
    np.testing.assert_array_equal(binary_gripper(z, t > 0), binary_gripper(z, t))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: cross_entropy(Z, jnp.array(0), label_smoothing=10),
            "`label_smoothing` is outside its range",
        ),
        (lambda: soft_target_cross_entropy(Z, jnp.array([0.7, 0.2, 0.2])), "`target` is not a distribution"),
        (lambda: soft_target_cross_entropy(Z, jnp.array([1.1, -0.2, 0.1])), "`target` is not a distribution"),
        (lambda: huber_error(Z, Z, delta=0.0), "`delta` must be above 0"),
        (
            lambda: binary_gripper(Z, jnp.array([-1.0, 1.0, 1.0])),
            r"`target` of a gripper is outside \[0, 1\]",
        ),
        (lambda: mixture_nll(Z, jnp.zeros((3, 2)), jnp.zeros((3, 2)), jnp.zeros(3)), "`mean` has shape"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_gripper_outside_is_nan_in_a_compiled_step():
    assert jnp.isnan(jax.jit(binary_gripper)(jnp.array(0.0), jnp.array(-1.0)))
