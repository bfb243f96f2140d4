"""InfoNCE by hand, against an analytic bound, masked, and with a temperature that learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.losses.contrastive import cosine_scores, info_nce, learned_temperature

SCORES = jnp.array([[2.0, 0.0], [1.0, 3.0]])


def test_by_hand():
    # rows: log(e^2 + e^0) - 2 = log(1 + e^-2) = .126928, log(e^1 + e^3) - 3 = log(1 + e^-2) = .126928
    np.testing.assert_allclose(info_nce(SCORES, temperature=1.0), [0.126928, 0.126928], atol=1e-6)
    # columns: log(e^2 + e^1) - 2 = log(1 + e^-1) = .313262, log(e^0 + e^3) - 3 = log(1 + e^-3) = .048587
    expected = [(0.126928 + 0.313262) / 2, (0.126928 + 0.048587) / 2]
    np.testing.assert_allclose(info_nce(SCORES, temperature=1.0, symmetric=True), expected, atol=1e-6)
    # tau = 1/2 doubles the scores: log(1 + e^-4) = .018150
    np.testing.assert_allclose(info_nce(SCORES, temperature=0.5), [0.018150, 0.018150], atol=1e-6)


def test_padding_is_nobodys_negative():
    padded = jnp.pad(SCORES, ((0, 1), (0, 1)), constant_values=50.0)
    mask = jnp.array([True, True, False])
    for symmetric in (False, True):
        expected = info_nce(SCORES, symmetric=symmetric)
        found = info_nce(padded, symmetric=symmetric, mask=mask)
        np.testing.assert_array_equal(found[:2], expected)
        assert jnp.isfinite(found).all()


def test_the_temperature_has_a_gradient_and_a_bound():
    def loss(log_scale):
        return info_nce(SCORES, temperature=learned_temperature(log_scale)).mean()

    # d/dtau of log(1 + e^{-2/tau}) over log_scale = -log tau: -2/tau s(-2/tau), at tau = 1: -2 x .119203
    assert jax.grad(loss)(jnp.array(0.0)) == pytest.approx(-0.238406, abs=1e-5)
    # exp(200) is inf in float32, and so would be its gradient
    assert learned_temperature(jnp.array(200.0)) == pytest.approx(0.01)
    assert jax.grad(learned_temperature)(jnp.array(200.0)) == 0


def test_a_row_of_zeros_has_cosine_zero_and_a_finite_gradient():
    left = jnp.array([[0.0, 0.0], [3.0, 4.0]])
    right = jnp.array([[1.0, 0.0], [0.0, 2.0]])
    np.testing.assert_allclose(cosine_scores(left, right), [[0.0, 0.0], [0.6, 0.8]], rtol=1e-6)
    assert jnp.isfinite(jax.grad(lambda x: cosine_scores(x, right).sum())(left)).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scores": jnp.zeros((2, 3))}, r"`scores` has shape \(2, 3\)"),
        ({"temperature": 0.0}, "`temperature` must be one number above 0"),
        ({"temperature": jnp.ones(2)}, "`temperature` must be one number above 0"),
        ({"mask": jnp.array([True])}, "`mask` has shape"),
        ({"mask": jnp.array([False, False])}, "`mask` is empty"),
    ],
)
def test_refusals(change, words):
    with pytest.raises(ValueError, match=words):
        info_nce(**{"scores": SCORES} | change)
