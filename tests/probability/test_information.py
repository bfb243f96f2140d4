"""Case E1: entropy, cross-entropy and KL of three classes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from ch3_jax.probability.information import cross_entropy, entropy, kl_divergence

P = jnp.array([0.7, 0.2, 0.1])
Z = jnp.array([2.0, 1.0, 0.0])


def test_e1():
    # q = softmax(2, 1, 0) = e^{2,1,0} / 11.107338 = (.665241, .244728, .090031)
    np.testing.assert_allclose(jax.nn.softmax(Z), [0.665240956, 0.244728471, 0.090030573], rtol=1e-6)
    assert entropy(P) == pytest.approx(0.8018185525, abs=1e-6)
    assert cross_entropy(P, Z) == pytest.approx(0.8076059644, abs=1e-6)
    assert kl_divergence(P, Z) == pytest.approx(0.0057874119, abs=1e-6)
    gradient = jax.grad(lambda z: cross_entropy(P, z))(Z)
    np.testing.assert_allclose(gradient, [-0.034759044, 0.044728471, -0.009969427], atol=1e-7)


def test_against_scipy():
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(9), 20), rng.dirichlet(np.ones(9), 20)
    z = np.log(q) + rng.normal(size=(20, 1))  # logits are free up to a constant
    np.testing.assert_allclose(entropy(jnp.array(p)), scipy.stats.entropy(p, axis=1), rtol=1e-5)
    np.testing.assert_allclose(
        kl_divergence(jnp.array(p), jnp.array(z)), scipy.stats.entropy(p, q, axis=1), rtol=1e-4, atol=1e-6
    )


def test_the_ends_of_the_scale():
    assert entropy(jnp.eye(4)[0]) == 0.0
    assert entropy(jnp.full(256, 1 / 256)) == pytest.approx(np.log(256), rel=1e-6)
    # a one-hot target: cross-entropy and KL are both -log q(a*)
    assert cross_entropy(jnp.eye(3)[0], Z) == kl_divergence(jnp.eye(3)[0], Z) == pytest.approx(0.4076059645)


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match="`q_logits` has shape"):
        cross_entropy(jnp.ones((2, 3)) / 3, jnp.zeros((1, 3)))
