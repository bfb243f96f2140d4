"""Case E1, the identity H(p, q) = H(p) + KL as a property, and the two directions of KL."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ch3_jax.probability import information as info

P = jnp.array([0.7, 0.2, 0.1])
Z = jnp.array([2.0, 1.0, 0.0])
K = 5


@jax.jit
def everything(p_logits, q_logits):
    """Every function of the file on softmax(p_logits) and softmax(q_logits), by both doors."""
    p, q = jax.nn.softmax(p_logits), jax.nn.softmax(q_logits)
    return {
        "entropy": (info.entropy(p), info.entropy_from_logits(p_logits)),
        "cross_entropy": (info.cross_entropy(p, q_logits), info.cross_entropy_from_probabilities(p, q)),
        "forward": (
            info.kl_divergence(p, q_logits),
            info.forward_kl(p, q),
            info.forward_kl_from_logits(p_logits, q_logits),
        ),
        "reverse": (info.reverse_kl(p, q), info.reverse_kl_from_logits(p_logits, q_logits)),
    }


def test_e1():
    # q = softmax(2, 1, 0) = e^{2,1,0} / 11.107338 = (.665241, .244728, .090031)
    np.testing.assert_allclose(jax.nn.softmax(Z), [0.665240956, 0.244728471, 0.090030573], rtol=1e-6)
    assert info.entropy(P) == pytest.approx(0.8018185525, abs=1e-6)
    assert info.cross_entropy(P, Z) == pytest.approx(0.8076059644, abs=1e-6)
    assert info.kl_divergence(P, Z) == pytest.approx(0.0057874119, abs=1e-6)
    gradient = jax.grad(info.cross_entropy, 1)(P, Z)
    np.testing.assert_allclose(gradient, [-0.034759044, 0.044728471, -0.009969427], atol=1e-7)


logits = arrays.arrays(np.float32, (K,), elements=st.floats(-12, 12, width=32))


@given(logits, logits)
@settings(max_examples=60, deadline=None)
def test_cross_entropy_is_entropy_and_divergence(p_logits, q_logits):
    found = {name: np.array(values) for name, values in everything(p_logits, q_logits).items()}
    for values in found.values():  # probabilities and logits say the same
        np.testing.assert_allclose(values, values[0], rtol=2e-5, atol=2e-6)
    h, cross, forward, reverse = (
        found[name][0] for name in ("entropy", "cross_entropy", "forward", "reverse")
    )
    assert cross == pytest.approx(h + forward, rel=2e-5, abs=2e-6)
    assert -1e-6 <= h <= np.log(K) + 1e-5
    assert min(forward, reverse) >= -1e-6


def test_against_scipy_in_float64():
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(K), (2, 20))
    with jax.enable_x64(True):
        # logits are free up to a constant
        found = everything(np.log(p) + rng.normal(size=(20, 1)), np.log(q) + rng.normal(size=(20, 1)))
    expected = {
        "entropy": scipy.stats.entropy(p, axis=1),
        "forward": scipy.stats.entropy(p, q, axis=1),
        "reverse": scipy.stats.entropy(q, p, axis=1),
        "cross_entropy": -(p * np.log(q)).sum(1),
    }
    for name, values in found.items():
        for value in values:
            np.testing.assert_allclose(value, expected[name], rtol=1e-11, err_msg=name)


def test_near_equality_the_divergence_is_not_rounding():
    """p and q a hundredth of a percent apart: KL = 1/2 sum dp^2 / p = 1e-8 (1/.7 + 1/.2) / 2 = 3.2e-8."""
    q = P + jnp.array([1e-4, -1e-4, 0.0])
    assert info.forward_kl(P, q) == pytest.approx(3.214e-8, abs=6e-8)
    with jax.enable_x64(True):
        p = jnp.array([0.7, 0.2, 0.1], float)
        assert info.forward_kl(p, p + jnp.array([1e-4, -1e-4, 0.0])) == pytest.approx(3.2136e-8, rel=1e-3)


def test_the_ends_of_the_scale():
    one_hot, uniform = jnp.array([1.0, 0.0, 0.0]), jnp.full(3, 1 / 3)
    assert info.entropy(one_hot) == 0.0
    assert info.entropy(uniform) == pytest.approx(np.log(3), rel=1e-6)
    # a one-hot target: cross-entropy and KL are both -log q(a*)
    assert info.cross_entropy(one_hot, Z) == pytest.approx(0.4076059645)
    assert info.kl_divergence(one_hot, Z) == pytest.approx(0.4076059645)
    # what p does and q never: infinite; the other way round it is log 3
    assert info.forward_kl(uniform, one_hot) == np.inf
    assert info.reverse_kl(uniform, one_hot) == pytest.approx(np.log(3), rel=1e-6)
    # classes that cannot be, as a mask of -inf has them
    masked = jnp.array([0.0, 0.0, -jnp.inf])
    assert info.entropy_from_logits(masked) == pytest.approx(np.log(2))
    gradient = jax.grad(info.forward_kl_from_logits, (0, 1))(masked, masked)
    assert np.isfinite(gradient).all()


def test_forward_covers_and_reverse_seeks():
    """Two modes; of a q on one and a q on both, forward KL prefers the second and reverse KL the first."""
    p = jnp.array([0.4999, 0.0001, 0.0001, 0.4999])
    one, both = jnp.array([0.97, 0.01, 0.01, 0.01]), jnp.array([0.25, 0.25, 0.25, 0.25])
    assert info.forward_kl(p, both) < info.forward_kl(p, one)
    assert info.reverse_kl(p, one) < info.reverse_kl(p, both)


@pytest.mark.parametrize(
    "call",
    [
        lambda p: info.entropy(p),
        lambda p: info.cross_entropy(p, Z),
        lambda p: info.kl_divergence(p, Z),
        lambda p: info.forward_kl(p, P),
        lambda p: info.reverse_kl(P, p),
        lambda p: info.cross_entropy_from_probabilities(P, p),
    ],
)
@pytest.mark.parametrize("wrong", [[0.7, 0.2, 0.2], [1.2, -0.1, -0.1], [np.nan, 0.5, 0.5], [2.0, 1.0, 0.0]])
def test_what_is_no_distribution_is_refused(call, wrong):
    with pytest.raises(ValueError, match="is not a distribution over its last axis"):
        call(jnp.array(wrong))


def test_a_nan_is_not_lost_in_a_compiled_step():
    wrong = jnp.array([jnp.nan, 1.0, 0.0])
    assert jnp.isnan(jax.jit(info.entropy)(wrong))
    assert jnp.isnan(jax.jit(info.forward_kl)(wrong, P))


def test_shapes_that_would_broadcast_and_integers_are_refused():
    with pytest.raises(ValueError, match="`q_logits` has shape"):
        info.cross_entropy(jnp.ones((2, 3)) / 3, jnp.zeros((1, 3)))
    with pytest.raises(ValueError, match="`q` has shape"):
        info.forward_kl(P, jnp.ones((1, 3)) / 3)
    with pytest.raises(TypeError, match="`p` has dtype"):
        info.entropy(jnp.array([1, 0]))


def test_many_classes_in_float32_still_sum_to_one():
    p = jax.nn.softmax(3 * jax.random.normal(jax.random.key(0), (32_000,)))
    assert 0 < info.entropy(p) < np.log(32_000)
