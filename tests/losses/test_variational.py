"""The latent's KL, the lower bound against a marginal in closed form, and ACT's loss: case E8."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from ch3_jax.losses.padding import padded_mean
from ch3_jax.losses.variational import cvae, elbo, kl_to_standard_normal

ACT = jnp.array([[[1.0, 2.0], [3.0, 4.0], [0.0, 0.0], [0.0, 0.0]]])
HAT = jnp.array([[[0.5, 2.5], [2.0, 4.0], [9.0, 9.0], [9.0, 9.0]]])
MASK = jnp.array([[True, True, False, False]])
MEAN = jnp.array([[1.0, 0.0, -1.0]])
LOG_STD = 0.5 * jnp.log(jnp.array([[1.0, 4.0, 0.25]]))  # E8 has log variances 0, ln 4, -ln 4


def test_e8_kl():
    # 1/2 [(1 + 1 - 1 - 0) + (4 + 0 - 1 - ln 4) + (1/4 + 1 - 1 + ln 4)] = 1/2 (1 + 3 + 1/4) = 2.125
    np.testing.assert_allclose(kl_to_standard_normal(MEAN, LOG_STD), [2.125], rtol=1e-6)


@pytest.mark.parametrize(
    ("rule", "expected"),
    # |.5| + |.5| + |1| + 0 = 2 over 4 valid entries, over all 8, and with 4 x 9 = 36 of padding over 8
    [("valid", 0.5), ("all", 0.25), ("none", 4.75)],
)
def test_e8_three_rules_of_padding(rule, expected):
    terms = cvae(HAT, ACT, MEAN, LOG_STD)
    assert padded_mean(terms.error, MASK, rule=rule) == pytest.approx(expected)
    assert terms.total(MASK, padding=rule) == pytest.approx(expected + 21.25)
    assert terms.total(MASK, padding=rule, beta=0.0) == pytest.approx(expected)


def test_without_a_mask_everything_counts():
    assert cvae(HAT, ACT, MEAN, LOG_STD).total(beta=1.0) == pytest.approx(4.75 + 2.125)


def test_the_bound_touches_the_evidence_at_the_true_posterior_and_nowhere_else():
    """z ~ N(0, 1), a | z ~ N(z, s^2): evidence N(a; 0, 1 + s^2), posterior mean a / (1 + s^2)."""
    a, s = 0.8, 0.5
    evidence = scipy.stats.norm.logpdf(a, 0, np.sqrt(1 + s**2))
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)

    def bound(mean, std, beta=1.0):
        z = mean + std * nodes
        likelihood = scipy.stats.norm.logpdf(a, z, s) @ weights / weights.sum()
        inputs = (jnp.array(x, jnp.float32) for x in (likelihood, [mean], [np.log(std)]))
        return float(elbo(*inputs, beta=beta))

    posterior = a / (1 + s**2), s / np.sqrt(1 + s**2)
    assert bound(*posterior) == pytest.approx(evidence, abs=1e-5)
    for mean, std in [(0.0, 1.0), (0.3, 0.4), (0.64, 0.3)]:
        assert bound(mean, std) < evidence - 1e-3
    # A larger beta only lowers it: the KL is never negative.
    assert bound(*posterior, beta=2.0) < bound(*posterior)


def test_refusals():
    with pytest.raises(ValueError, match="`rule`"):
        padded_mean(ACT, MASK, rule="mean")
    with pytest.raises(ValueError, match="`mask` is empty"):
        padded_mean(ACT, ~MASK & MASK)
    assert jnp.isnan(jax.jit(padded_mean)(ACT, ~MASK & MASK))
    with pytest.raises(ValueError, match="leading axes of x"):
        padded_mean(ACT, MASK[0])
    with pytest.raises(ValueError, match=r"`mean` has shape \(3,\)"):
        cvae(HAT, ACT, MEAN[0], LOG_STD)
