"""Samples, densities, entropies and divergences, each against another way to the same number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from ch3_jax.probability import categorical, gaussian, mixture, tanh_gaussian

RNG = np.random.default_rng(0)
MEAN, OTHER, VALUE = RNG.normal(size=(3, 4, 2))
LOG_STD, OTHER_STD = 0.4 * RNG.normal(size=(2, 4, 2))
LOGITS, OTHER_LOGITS = RNG.normal(size=(2, 4, 6))
CLASS = RNG.integers(0, 6, 4).astype(np.int32)
WEIGHTS = np.log([1.4, 0.6])  # unnormalised: .7 and .3
MODES, SPREADS = np.array([[-1.0, 0.5], [1.0, -0.5]]), np.log([[0.5, 0.3], [0.4, 0.8]])
COUNT = 4096


@pytest.fixture(scope="module")
def found():
    """Everything deterministic in float64, everything drawn in float32: one compilation each."""

    def exact(mean, other, value, log_std, other_std, logits, other_logits):
        inside = jnp.tanh(value)
        return {
            "gaussian": gaussian.log_prob(mean, log_std, value),
            "gaussian_entropy": gaussian.entropy(log_std),
            "gaussian_kl": gaussian.kl(mean, log_std, other, other_std),
            "tanh": tanh_gaussian.log_prob(mean, log_std, inside),
            "tanh_kl": tanh_gaussian.kl(mean, log_std, other, other_std),
            "class": categorical.log_prob(logits, CLASS),
            "class_entropy": categorical.entropy(logits),
            "class_kl": categorical.kl(logits, other_logits),
            "mode": categorical.mode(logits),
            "mixture": mixture.log_prob(*(jnp.asarray(x) for x in (WEIGHTS, MODES, SPREADS)), value[0]),
            "mixture_slope": jax.grad(mixture.log_prob, 3)(
                *(jnp.asarray(x) for x in (WEIGHTS, MODES, SPREADS)), value[0]
            ),
        }

    def drawn(key):
        keys = jax.random.split(key, 7)
        mean, log_std, logits = (jnp.asarray(x[0], jnp.float32) for x in (MEAN, LOG_STD, LOGITS))
        law = tuple(jnp.asarray(x, jnp.float32) for x in (WEIGHTS, MODES, SPREADS))
        other = (law[0][::-1], law[1] + 0.3, law[2])
        return {
            "gaussian": gaussian.sample(keys[0], mean, log_std, shape=(COUNT,)),
            "class": categorical.sample(keys[1], logits, shape=(COUNT,)),
            "mixture": mixture.sample(keys[2], *law, shape=(COUNT,)),
            "tanh": tanh_gaussian.sample_and_log_prob(keys[3], mean, log_std, shape=(COUNT,)),
            "tanh_entropy": tanh_gaussian.entropy_estimate(keys[4], mean, log_std, count=COUNT),
            "mixture_entropy": mixture.entropy_estimate(keys[5], *law, count=COUNT),
            "mixture_kl": mixture.kl_estimate(keys[6], law, other, count=COUNT),
        }

    cheap = {"xla_backend_optimization_level": 0}
    inputs = MEAN, OTHER, VALUE, LOG_STD, OTHER_STD, LOGITS, OTHER_LOGITS
    samples = jax.tree.map(np.asarray, jax.jit(drawn, compiler_options=cheap)(jax.random.key(0)))
    with jax.enable_x64(True):
        numbers = jax.tree.map(np.asarray, jax.jit(exact, compiler_options=cheap)(*inputs))
    return numbers, samples


def test_gaussian_against_scipy(found):
    std, other_std = np.exp(LOG_STD), np.exp(OTHER_STD)
    expected = scipy.stats.norm.logpdf(VALUE, MEAN, std).sum(1)
    np.testing.assert_allclose(found[0]["gaussian"], expected, rtol=1e-12)
    np.testing.assert_allclose(
        found[0]["gaussian_entropy"], scipy.stats.norm.entropy(MEAN, std).sum(1), rtol=1e-12
    )
    # E_p[log p - log q] by Gauss-Hermite quadrature, exact for squares
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    x = MEAN[..., None] + std[..., None] * nodes
    ratio = scipy.stats.norm.logpdf(x, MEAN[..., None], std[..., None])
    ratio -= scipy.stats.norm.logpdf(x, OTHER[..., None], other_std[..., None])
    kl = (ratio @ weights / weights.sum()).sum(1)
    np.testing.assert_allclose(found[0]["gaussian_kl"], kl, rtol=1e-10)
    np.testing.assert_array_equal(found[0]["tanh_kl"], found[0]["gaussian_kl"])


def test_gaussian_by_hand():
    # E12: a = (.3, -.2), mean 0, log std (0, -.5): -1/2 (.09 + .04 e) + .5 - log 2 pi
    log_p = gaussian.log_prob(jnp.zeros(2), jnp.array([0.0, -0.5]), jnp.array([0.3, -0.2]))
    assert log_p == pytest.approx(-1.4372427, abs=1e-6)
    assert gaussian.entropy(jnp.array([0.0, -0.5])) == pytest.approx(2.3378770, abs=1e-6)


def test_gaussian_samples(found):
    x = found[1]["gaussian"]
    std = np.exp(LOG_STD[0])
    np.testing.assert_allclose(x.mean(0), MEAN[0], atol=5 * std.max() / COUNT**0.5)
    np.testing.assert_allclose(x.std(0), std, rtol=5 / (2 * COUNT) ** 0.5)
    assert abs(np.corrcoef(x.T)[0, 1]) < 5 / COUNT**0.5


def test_categorical(found):
    log_q = LOGITS - scipy.special.logsumexp(LOGITS, axis=1, keepdims=True)
    log_r = OTHER_LOGITS - scipy.special.logsumexp(OTHER_LOGITS, axis=1, keepdims=True)
    np.testing.assert_allclose(found[0]["class"], log_q[np.arange(4), CLASS], rtol=1e-12)
    np.testing.assert_allclose(found[0]["class_entropy"], -(np.exp(log_q) * log_q).sum(1), rtol=1e-12)
    np.testing.assert_allclose(found[0]["class_kl"], (np.exp(log_q) * (log_q - log_r)).sum(1), rtol=1e-10)
    np.testing.assert_array_equal(found[0]["mode"], LOGITS.argmax(1))
    counts = np.bincount(found[1]["class"], minlength=6)
    assert scipy.stats.chisquare(counts, COUNT * np.exp(log_q[0])).pvalue > 1e-4


def test_tanh_gaussian_density_is_the_gaussians_over_the_slope(found):
    expected = scipy.stats.norm.logpdf(VALUE, MEAN, np.exp(LOG_STD)) - np.log(1 - np.tanh(VALUE) ** 2)
    np.testing.assert_allclose(found[0]["tanh"], expected.sum(1), rtol=1e-9)


def test_tanh_gaussian_samples_carry_their_log_density(found):
    value, log_p = found[1]["tanh"]
    u = np.arctanh(value.astype(np.float64))
    near = (np.abs(u) < 3).all(1)  # beyond, float32 values no longer say where they came from
    expected = scipy.stats.norm.logpdf(u, MEAN[0], np.exp(LOG_STD[0])) - np.log(1 - value.astype(float) ** 2)
    np.testing.assert_allclose(log_p[near], expected.sum(1)[near], atol=2e-3)
    # E[1 / p] over the samples is the volume of (-1, 1)^2, whatever the law; its tails make it noisy, so
    # compare the entropy instead: quadrature over each dimension
    entropy = 0.0
    for m, s in zip(MEAN[0], np.exp(LOG_STD[0]), strict=True):
        entropy += scipy.stats.norm.entropy(m, s)
        entropy += scipy.integrate.quad(
            lambda x, m=m, s=s: scipy.stats.norm.pdf(x, m, s) * np.log1p(-(np.tanh(x) ** 2)),
            m - 9 * s,
            m + 9 * s,
        )[0]
    estimate = found[1]["tanh_entropy"]
    assert abs(estimate.mean - entropy) < 4 * estimate.standard_error
    assert estimate.standard_error < 0.05
    assert abs(-log_p.mean() - entropy) < 4 * log_p.std() / COUNT**0.5


def test_tanh_gaussian_far_out_and_at_the_ends():
    mean, log_std = jnp.array([30.0]), jnp.zeros(1)
    value, log_p = tanh_gaussian.sample_and_log_prob(jax.random.key(0), mean, log_std)
    # tanh is 1 to every digit; the density is the Gaussian's over 4 e^{-2u}, with u within 5 of 30
    assert value == 1.0
    assert 2 * 25 - np.log(4) - 14 < log_p < 2 * 35
    with pytest.raises(ValueError, match=r"`value` is not inside \(-1, 1\)"):
        tanh_gaussian.log_prob(mean, log_std, jnp.array([1.0]))
    inside = jax.jit(tanh_gaussian.log_prob)
    assert inside(mean, log_std, jnp.array([1.0])) == -jnp.inf
    assert jnp.isnan(inside(mean, log_std, jnp.array([1.5])))
    assert tanh_gaussian.median(jnp.array(0.5)) == pytest.approx(np.tanh(0.5))


def _mixture_pdf(x, logits=WEIGHTS, modes=MODES, spreads=SPREADS):
    w = np.exp(logits) / np.exp(logits).sum()
    each = scipy.stats.norm.pdf(x[..., None, :], modes, np.exp(spreads)).prod(-1)
    return (each * w).sum(-1)


def test_mixture_density_and_slope_against_scipy(found):
    assert found[0]["mixture"] == pytest.approx(np.log(_mixture_pdf(VALUE[0])), rel=1e-12)
    h = 1e-6 * np.eye(2)
    slope = (np.log(_mixture_pdf(VALUE[0] + h)) - np.log(_mixture_pdf(VALUE[0] - h))) / 2e-6
    np.testing.assert_allclose(found[0]["mixture_slope"], slope, rtol=1e-6)


def test_mixture_samples_choose_one_mode_for_all_dimensions(found):
    x = found[1]["mixture"]
    w = np.array([0.7, 0.3])
    mean = w @ MODES
    variance = w @ (np.exp(2 * SPREADS) + MODES**2) - mean**2
    np.testing.assert_allclose(x.mean(0), mean, atol=5 * (variance.max() / COUNT) ** 0.5)
    np.testing.assert_allclose(x.var(0), variance, rtol=0.1)
    # cov = sum w m_0 m_1 - mean_0 mean_1 = -.42: independent choices per dimension would give 0
    covariance = w @ (MODES[:, 0] * MODES[:, 1]) - mean[0] * mean[1]
    assert np.cov(x.T)[0, 1] == pytest.approx(covariance, abs=0.06)


def test_mixture_estimates_against_quadrature(found):
    axis = np.linspace(-6, 6, 401)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    p = _mixture_pdf(grid)
    q = _mixture_pdf(grid, WEIGHTS[::-1], MODES + 0.3)
    cell = (axis[1] - axis[0]) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.nansum(np.where(p > 0, p * np.log(p), 0)) * cell
        kl = np.nansum(np.where(p > 1e-200, p * (np.log(p) - np.log(q)), 0)) * cell
    for name, expected in [("mixture_entropy", entropy), ("mixture_kl", kl)]:
        estimate = found[1][name]
        assert abs(estimate.mean - expected) < 4 * estimate.standard_error, name
        assert estimate.standard_error < 0.05


def test_the_mode_is_where_the_density_is_greatest_and_the_mean_between():
    # the heavier component is ten times wider: its peak is .6 / 1 against .4 / .1
    logits, mean = jnp.log(jnp.array([0.6, 0.4])), jnp.array([[-1.0], [1.0]])
    log_std = jnp.log(jnp.array([[1.0], [0.1]]))
    assert mixture.mode(logits, mean, log_std).tolist() == [1.0]
    assert mixture.mode(logits, mean, jnp.zeros((2, 1))).tolist() == [-1.0]
    assert mixture.mean(logits, mean)[0] == pytest.approx(-0.2)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: gaussian.log_prob(MEAN, LOG_STD, VALUE[:1]), ValueError, "`value` has shape"),
        (lambda: gaussian.kl(MEAN, LOG_STD, OTHER, OTHER_STD[0]), ValueError, "`log_std_q` has shape"),
        (
            lambda: gaussian.sample(jax.random.key(0), MEAN.astype(int), LOG_STD),
            TypeError,
            "`mean` has dtype",
        ),
        (lambda: categorical.log_prob(LOGITS, CLASS[:1]), ValueError, "`logits` has shape"),
        (lambda: categorical.log_prob(LOGITS, CLASS + 6), ValueError, "`value` lies outside the bins"),
        (lambda: categorical.log_prob(LOGITS, CLASS.astype(float)), TypeError, "`value` has dtype"),
        (lambda: mixture.log_prob(WEIGHTS, MODES, SPREADS, VALUE), ValueError, "`value` has shape"),
        (
            lambda: mixture.sample(jax.random.key(0), WEIGHTS, MODES[0], SPREADS),
            ValueError,
            "`mean` has shape",
        ),
    ],
)
def test_refusals(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_parity_with_distrax(found):
    distrax = pytest.importorskip("distrax", reason="the peer distrax is not installed")
    std, other_std = np.exp(LOG_STD), np.exp(OTHER_STD)
    theirs = distrax.MultivariateNormalDiag(MEAN, std)
    np.testing.assert_allclose(theirs.log_prob(VALUE), found[0]["gaussian"], rtol=1e-4, atol=1e-5)
    other = distrax.MultivariateNormalDiag(OTHER, other_std)
    np.testing.assert_allclose(theirs.kl_divergence(other), found[0]["gaussian_kl"], rtol=1e-4, atol=1e-5)
    squashed = distrax.Independent(distrax.Transformed(distrax.Normal(MEAN, std), distrax.Tanh()), 1)
    np.testing.assert_allclose(squashed.log_prob(np.tanh(VALUE)), found[0]["tanh"], rtol=1e-3, atol=1e-4)
    classes = distrax.Categorical(LOGITS)
    np.testing.assert_allclose(classes.log_prob(CLASS), found[0]["class"], rtol=1e-5)
    np.testing.assert_allclose(classes.entropy(), found[0]["class_entropy"], rtol=1e-5)
    several = distrax.MixtureSameFamily(
        distrax.Categorical(WEIGHTS), distrax.MultivariateNormalDiag(MODES, np.exp(SPREADS))
    )
    np.testing.assert_allclose(several.log_prob(VALUE[0]), found[0]["mixture"], rtol=1e-5)
