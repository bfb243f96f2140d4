"""Distances between clouds of actions: by hand, against scipy, and what makes them distances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

from ch3_jax.errors import InputError
from ch3_jax.evaluation.distances import energy_distance, mode_shares, valley_share, wasserstein_1

RNG = np.random.default_rng(0)
# jitted once, used by every case of one shape
ENERGY = {u: jax.jit(lambda x, y, u=u: energy_distance(x, y, unbiased=u)) for u in (False, True)}
WASSERSTEIN = jax.jit(wasserstein_1)


def clouds(dtype=np.float32):
    return RNG.normal(size=(30, 3)).astype(dtype), RNG.normal(0.5, 2.0, size=(20, 3)).astype(dtype)


def test_energy_by_hand():
    # x = {0, 2}, y = {1}: 2 * 1 - mean{0, 2, 2, 0} - 0 = 1; without i = k the mean is 2 and D = 0.
    x, y = jnp.array([[0.0], [2.0]]), jnp.array([[1.0], [1.0]])
    assert float(energy_distance(x, y)) == pytest.approx(1.0)
    assert float(energy_distance(x, y, unbiased=True)) == pytest.approx(0.0, abs=1e-6)
    # A 3-4-5 triangle: 2 * 5.
    assert float(energy_distance(jnp.zeros((2, 2)), jnp.array([[3.0, 4.0]] * 2))) == pytest.approx(10.0)


@pytest.mark.parametrize("wide", [False, True], ids=["float32", "float64"])
def test_energy_against_scipy(wide):
    with jax.enable_x64(wide):
        x, y = clouds(np.float64 if wide else np.float32)
        between, own, other = cdist(x, y), cdist(x, x), cdist(y, y)
        expected = 2 * between.mean() - own.mean() - other.mean()
        tolerance = 1e-12 if wide else 2e-6
        assert float(ENERGY[False](x, y)) == pytest.approx(expected, abs=tolerance)
        fair = 2 * between.mean() - own.sum() / (30 * 29) - other.sum() / (20 * 19)
        assert float(ENERGY[True](x, y)) == pytest.approx(fair, abs=tolerance)
        # In one dimension scipy has its own, which is the root of ours.
        one = float(energy_distance(jnp.asarray(x[:, :1]), jnp.asarray(y[:, :1])))
        assert one == pytest.approx(stats.energy_distance(x[:, 0], y[:, 0]) ** 2, abs=tolerance)


def test_energy_is_a_distance():
    x, y = clouds()
    assert float(ENERGY[False](x, y)) > 0.1
    # Three means whose sums run in another order when compiled, and which cancel to a third of their size.
    assert float(ENERGY[False](x, y)) == pytest.approx(float(energy_distance(y, x)), rel=1e-5)
    assert float(energy_distance(x, x)) == pytest.approx(0, abs=1e-6)
    turn, _ = np.linalg.qr(RNG.normal(size=(3, 3)))
    moved = [(c @ turn + 1.0).astype(np.float32) for c in (x, y)]
    assert float(ENERGY[False](*moved)) == pytest.approx(float(ENERGY[False](x, y)), rel=1e-4)


def test_unbiased_energy_is_right_on_average():
    """Two clouds of one law: 200 pairs of 10 average to 0, the biased one to 2 E|X - X'| / 10 = 0.23."""
    draws = RNG.normal(size=(2, 200, 10, 1)).astype(np.float32)
    means = {u: float(jax.vmap(ENERGY[u])(*draws).mean()) for u in (False, True)}
    assert means[True] == pytest.approx(0, abs=0.03)
    # E|X - X'| = 2 / sqrt(pi) = 1.128
    assert means[False] == pytest.approx(0.2257, abs=0.03)


@pytest.mark.parametrize(("n", "m"), [(30, 30), (30, 7), (1, 20)])
def test_wasserstein_against_scipy(n, m):
    x, y = RNG.normal(size=n).astype(np.float32), RNG.normal(1.0, 3.0, size=m).astype(np.float32)
    assert float(WASSERSTEIN(x, y)) == pytest.approx(stats.wasserstein_distance(x, y), rel=1e-5)


def test_wasserstein_by_hand_and_as_a_distance():
    # Mass 1/2 goes from 1 to 3, mass 1/2 stays.
    assert float(wasserstein_1(jnp.array([0.0, 1.0]), jnp.array([3.0, 0.0]))) == 1.0
    # Unequal sizes: {0} against {0, 0, 3}: a third goes 3.
    assert float(wasserstein_1(jnp.array([0.0]), jnp.array([0.0, 0.0, 3.0]))) == pytest.approx(1.0)
    with jax.enable_x64(True):
        x = jnp.asarray(RNG.normal(size=30))
        assert float(WASSERSTEIN(x, x + 0.25)) == pytest.approx(0.25, abs=1e-12)
        assert float(WASSERSTEIN(x, 3 * x)) == pytest.approx(float(WASSERSTEIN(3 * x, x)), abs=1e-12)


def test_modes_and_valley_by_hand():
    x = jnp.array([-1.2, -1.0, -0.7, -0.1, 0.2, 1.3])
    # Within 0.25 of -1: two; within 0.25 of 1: none (1.3 is 0.3 away).
    np.testing.assert_allclose(mode_shares(x, jnp.array([-1.0, 1.0]), 0.25), [2 / 6, 0])
    assert float(valley_share(x, -0.25, 0.25)) == pytest.approx(2 / 6)
    # The ends are outside.
    assert float(valley_share(jnp.array([-0.25, 0.25]), -0.25, 0.25)) == 0


def test_the_truth_of_two_gaussians():
    """Modes 2 apart with noise 0.3: within 3 s lie 0.4987 each, beyond 2.5 s on the inner side 0.6 %."""
    x = np.concatenate([RNG.normal(c, 0.3, 50_000) for c in (-1.0, 1.0)]).astype(np.float32)
    np.testing.assert_allclose(mode_shares(x, jnp.array([-1.0, 1.0]), 0.9), 0.4987, atol=1e-3)
    expected = stats.norm.cdf(-2.5) - stats.norm.cdf(-1.25 / 0.3)
    assert float(valley_share(x, -0.25, 0.25)) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: energy_distance(jnp.zeros((3, 2)), jnp.zeros((3, 1))), ValueError, "`y` has shape"),
        (lambda: energy_distance(jnp.zeros(3), jnp.zeros(3)), ValueError, "`x` has shape"),
        (lambda: energy_distance(jnp.zeros((3, 2), int), jnp.zeros((3, 2))), TypeError, "`x` has dtype"),
        (lambda: energy_distance(jnp.zeros((1, 2)), jnp.zeros((3, 2)), unbiased=True), InputError, "too few"),
        (lambda: energy_distance(jnp.zeros((3, 2)), jnp.zeros((0, 2))), InputError, "`y` has too few"),
        (lambda: wasserstein_1(jnp.zeros((3, 1)), jnp.zeros(3)), ValueError, "`x` has shape"),
        (lambda: wasserstein_1(jnp.zeros(0), jnp.zeros(3)), InputError, "too few"),
        (lambda: mode_shares(jnp.zeros(3), jnp.zeros(2), 0.0), InputError, "`radius`"),
        (lambda: mode_shares(jnp.zeros((3, 1)), jnp.zeros(2), 1.0), ValueError, "`x` has shape"),
        (lambda: valley_share(jnp.zeros(0), 0.0, 1.0), InputError, "too few"),
        (lambda: valley_share(jnp.zeros(2, int), 0.0, 1.0), TypeError, "`x` has dtype"),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call()
