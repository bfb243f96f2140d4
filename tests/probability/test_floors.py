"""Floors against Monte Carlo, adaptive quadrature, closed forms and numbers worked by hand."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from ch3_jax.errors import InputError
from ch3_jax.probability import floors

# Twelve equal uniforms of variance 1/12 each: the classical stand-in for a unit Gaussian.
TWELVE = np.full((1, 12), 0.5)


def _oracle_probabilities(edges, mean, std, offsets=(0.0,)):
    """Bin probabilities by scipy.stats, one bin after the other."""
    open_edges = np.concatenate([[-np.inf], edges[1:-1], [np.inf]])
    return np.array(
        [
            np.mean(
                [stats.norm.cdf(high, mean + o, std) - stats.norm.cdf(low, mean + o, std) for o in offsets]
            )
            for low, high in zip(open_edges[:-1], open_edges[1:], strict=True)
        ]
    )


def test_uniform_floor_is_the_log_of_the_bins():
    # ln 256 = 8 ln 2 = 8 x 0.693147 = 5.545177
    np.testing.assert_allclose(floors.uniform_floor(256), 8 * 0.69314718056)
    assert floors.uniform_floor(1) == 0.0


def test_mse_floor_by_hand():
    # d = 2, s = 0.3: 4 / 4 + 0.09 = 1.09 in dimension 0, 0.09 elsewhere (the chapter's "half" gives 2.09)
    np.testing.assert_allclose(floors.mse_floor([0.3, 0.3, 0.3], 2.0), [1.09, 0.09, 0.09])
    np.testing.assert_allclose(floors.mse_floor([0.3, 0.3], [0.0, 4.0]), [0.09, 4.09])


def test_mse_floor_is_what_the_best_prediction_leaves():
    rng = np.random.default_rng(0)
    residual = rng.choice([-1.0, 1.0], 400_000) + 0.3 * rng.normal(size=400_000)
    errors = residual**2  # the best prediction, the conditional mean, is 0
    assert abs(errors.mean() - floors.mse_floor([0.3], 2.0)[0]) < 4 * errors.std() / math.sqrt(errors.size)


def test_bin_probabilities_by_hand():
    # Edges at 0 and one std: Phi(0) = 0.5, Phi(1) - Phi(0) = 0.341345, 1 - Phi(1) = 0.158655;
    # the outer edges, half a std away, do not cut the tails off.
    np.testing.assert_allclose(
        floors.bin_probabilities([-1.0, 0.0, 2.0, 3.0], 0.0, 2.0), [0.5, 0.341345, 0.158655], atol=1e-6
    )


@pytest.mark.parametrize("offsets", [None, (-0.4, 0.4), (-1.0, 0.0, 1.0)])
def test_bin_probabilities_match_scipy(offsets):
    edges = np.array([-1.0, -0.2, 0.1, 0.15, 2.0])
    means = np.array([[-3.0, -0.2, 0.0], [0.12, 1.0, 5.0]])
    got = floors.bin_probabilities(edges, means, 0.25, offsets)
    assert got.shape == (2, 3, 4)
    np.testing.assert_allclose(got.sum(-1), 1.0, atol=1e-14)
    expected = [[_oracle_probabilities(edges, m, 0.25, offsets or (0.0,)) for m in row] for row in means]
    np.testing.assert_allclose(got, expected, atol=1e-14)


def test_entropy_by_hand():
    # On the edge between two bins: a fair coin. One std off: h(0.841345) = 0.437347.
    # 0.841345 x 0.172753 + 0.158655 x 1.841023 = 0.145345 + 0.292087 = 0.437432
    got = floors.binned_gaussian_entropy([-1.0, 0.0, 1.0], [0.0, 0.5], 0.5)
    np.testing.assert_allclose(got, [math.log(2), 0.437432], atol=1e-5)
    # Far outside the edges everything is clipped into one bin.
    assert floors.binned_gaussian_entropy([-1.0, 0.0, 1.0], 50.0, 0.5) == 0.0
    assert floors.binned_gaussian_entropy([-1.0, 1.0], 0.3, 0.5) == 0.0


@pytest.mark.parametrize("offsets", [None, (-0.4, 0.4), (2.0, -1.0, 0.0)])
def test_entropy_is_that_of_the_probabilities(offsets):
    rng = np.random.default_rng(1)
    edges = np.sort(rng.normal(size=41))
    edges[7] = edges[8]  # an empty bin, as quantile edges of repeated numbers give
    means = rng.normal(size=(5, 4)) * 2
    for std in (0.003, 0.1, 4.0):
        p = floors.bin_probabilities(edges, means, std, offsets)
        expected = stats.entropy(p, axis=-1)
        np.testing.assert_allclose(
            floors.binned_gaussian_entropy(edges, means, std, offsets), expected, atol=1e-12
        )


def test_narrow_bins_give_the_differential_entropy_less_the_log_width():
    edges = np.linspace(-8, 8, 4097)  # width w = 1/256, s = 0.3; the next term, w^2 / (24 s^2), is 7e-6
    limit = 0.5 * math.log(2 * math.pi * math.e * 0.3**2) - math.log(16 / 4096)
    np.testing.assert_allclose(floors.binned_gaussian_entropy(edges, 0.1234, 0.3), limit, atol=1e-5)
    np.testing.assert_allclose(floors.cross_entropy_floor([edges], [1.0], [0.3]), limit, atol=1e-5)
    # Two modes far apart are one more fair coin.
    np.testing.assert_allclose(
        floors.cross_entropy_floor([edges], [0.5], [0.3], [[-3.0, 3.0]]), limit + math.log(2), atol=1e-5
    )


@pytest.mark.parametrize("law", ["gaussian", "uniform"])
@pytest.mark.parametrize("offsets", [(0.0,), (-0.5, 0.5)])
@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_floor_is_the_cross_entropy_of_the_bayes_predictor_on_samples(law, offsets, noise):
    rng = np.random.default_rng(2)
    n = 20_000
    mean = rng.normal(size=n) if law == "gaussian" else rng.uniform(-0.5, 0.5, (n, 12)).sum(-1)
    action = mean + rng.choice(offsets, n) + noise * rng.normal(size=n)
    edges = np.linspace(-2.5, 2.5, 65)
    chosen = np.clip(np.digitize(action, edges) - 1, 0, 63)
    low = np.where(chosen == 0, -np.inf, edges[chosen])
    high = np.where(chosen == 63, np.inf, edges[chosen + 1])
    mass = [
        stats.norm.cdf((high - mean - o) / noise) - stats.norm.cdf((low - mean - o) / noise) for o in offsets
    ]
    loss = -np.log(np.mean(mass, axis=0))
    weights = TWELVE if law == "uniform" else None
    floor = floors.cross_entropy_floor([edges], [1.0], [noise], [offsets], weights)[0]
    assert abs(loss.mean() - floor) < 4 * loss.std() / math.sqrt(n)


@pytest.mark.parametrize("noise", [0.05, 1.0])
def test_floor_matches_adaptive_quadrature(noise):
    edges = np.array([-1.5, -0.5, 0.2, 0.25, 1.0])

    def integrand(m):
        return stats.norm.pdf(m, 0, 0.7) * stats.entropy(_oracle_probabilities(edges, m, noise))

    cuts = [-6, *edges[1:-1], 6]
    expected = sum(
        integrate.quad(integrand, a, b, epsabs=1e-10, limit=200)[0]
        for a, b in zip(cuts, cuts[1:], strict=False)
    )
    np.testing.assert_allclose(floors.cross_entropy_floor([edges], [0.7], [noise]), expected, atol=1e-8)


@pytest.mark.parametrize("law", ["gaussian", "uniform"])
@pytest.mark.parametrize("bins", [2, 64, 256])
@pytest.mark.parametrize("noise", [0.001, 0.01, 0.1, 1.0, 5.0])
def test_quadrature_has_converged(noise, bins, law):
    edges = np.linspace(-4, 4, bins + 1)[None]
    weights = TWELVE if law == "uniform" else None
    coarse, fine = (
        floors.cross_entropy_floor(edges, [1.0], [noise], [[-0.3, 0.3]], weights, nodes_per_std=n)
        for n in (4, 8)
    )
    np.testing.assert_allclose(coarse, fine, rtol=0, atol=1e-9)


def test_floor_does_not_depend_on_units():
    edges = np.sort(np.random.default_rng(3).normal(size=(3, 33)))
    one = floors.cross_entropy_floor(edges, [1, 1, 1], [0.1, 0.2, 0.3], [[-1, 1]] * 3)
    other = floors.cross_entropy_floor(50 * edges, [50] * 3, [5, 10, 15], [[-50, 50]] * 3)
    np.testing.assert_allclose(one, other, atol=1e-12)


def test_floor_lies_below_the_marginal_entropy_and_grows_with_noise():
    edges = np.linspace(-4, 4, 65)
    noises = np.array([0.0, 0.05, 0.1, 0.3, 1.0])
    floor = floors.cross_entropy_floor(np.tile(edges, (5, 1)), np.ones(5), noises)
    assert floor[0] == 0.0
    assert (np.diff(floor) > 0).all()
    marginal = [stats.entropy(_oracle_probabilities(edges, 0.0, math.hypot(1, s))) for s in noises]
    assert (floor < marginal).all()


def test_density_of_uniforms_by_hand_and_by_irwin_and_hall():
    # Twelve uniforms on (0, 1), Irwin-Hall: f(6) = 655177 / 1663200 = 0.393926 (scaled: variance 1).
    np.testing.assert_allclose(floors.uniform_sum_density(0.0, TWELVE[0]), 655177 / 1663200, atol=1e-12)
    x = np.linspace(-6.5, 6.5, 53)
    hall = [
        sum((-1) ** k * math.comb(12, k) * max(v + 6 - k, 0.0) ** 11 for k in range(13)) / math.factorial(11)
        for v in x
    ]
    np.testing.assert_allclose(floors.uniform_sum_density(x, TWELVE[0]), hall, atol=1e-6)  # alternating sums


def test_density_of_uneven_uniforms_has_the_right_moments():
    weights = np.array([0.9, -0.5, 0.4, 0.7, 0.0, 0.8, 0.6, 0.3])
    x = np.linspace(-5, 5, 20_001)
    density = floors.uniform_sum_density(x, weights)
    step = x[1] - x[0]
    np.testing.assert_allclose(density.sum() * step, 1.0, atol=1e-9)
    np.testing.assert_allclose((density * x**2).sum() * step, (weights**2).sum() / 3, atol=1e-8)
    assert (density[np.abs(x) > np.abs(weights).sum()] == 0).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: floors.uniform_floor(0), "at least one bin"),
        (lambda: floors.mse_floor([-1.0]), "noise_std"),
        (lambda: floors.mse_floor([1.0, 1.0], [1.0]), "mode_distance"),
        (lambda: floors.bin_probabilities([0.0, 1.0], 0.0, 0.0), "noise_std"),
        (lambda: floors.bin_probabilities([1.0, 0.0], 0.0, 1.0), "edges"),
        (lambda: floors.binned_gaussian_entropy([0.0, 1.0, 2.0], np.nan, 1.0), "mean"),
        (lambda: floors.binned_gaussian_entropy([0.0, np.inf], 0.0, 1.0), "edges"),
        (lambda: floors.cross_entropy_floor([0.0, 1.0], [1.0], [1.0]), "edges"),
        (lambda: floors.cross_entropy_floor([[0.0, 1.0]], [0.0], [1.0]), "mean_std"),
        (lambda: floors.cross_entropy_floor([[0.0, 1.0]], [1.0], [1.0, 1.0]), "noise_std"),
        (lambda: floors.cross_entropy_floor([[0.0, 1.0]], [1.0], [1.0], [0.0]), "offsets"),
        (lambda: floors.cross_entropy_floor([[0.0, 1.0]], [1.0], [0.0], [[0.0, 1.0]]), "more than one mode"),
        (lambda: floors.cross_entropy_floor([[0.0, 1.0]], [2.0], [1.0], None, TWELVE), "uniform_weights"),
        (lambda: floors.uniform_sum_density(0.0, [1.0]), "weights"),
    ],
)
def test_bad_input_is_refused_with_the_right_words(call, words):
    with pytest.raises(InputError, match=words):
        call()
