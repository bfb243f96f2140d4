"""Floors of denoising losses against brute force: draw, corrupt, predict with the posterior mean over a grid,
score."""

import numpy as np
import pytest

from ch3_jax.probability.floors_denoising import Levels, atoms_denoising_floor, denoising_floor

FLOW = np.linspace(0.005, 0.995, 100)


def level(a, n, gain=1.0):
    return Levels(*(np.array([x], float) for x in (a, n, gain, 1.0)))


def brute(a, n, grid, weight, draws=40_000, seed=0):
    """E (eps - E[eps | x])^2 where the action takes the values of a grid: no formula, only Bayes."""
    random = np.random.default_rng(seed)
    x0 = random.choice(grid, draws, p=weight / weight.sum())
    eps = random.normal(size=draws)
    x = a * x0 + n * eps
    posterior = weight * np.exp(-0.5 * ((x[:, None] - a * grid) / n) ** 2)
    guess = (x - a * (posterior @ grid) / posterior.sum(1)) / n
    return np.mean((eps - guess) ** 2)


@pytest.mark.parametrize(("a", "n"), [(0.3, 0.95), (1.0, 0.5), (0.9, 0.15)])
@pytest.mark.parametrize("offsets", [(0.0,), (-1.0, 1.0), (-1.0, -1.0, 1.0)])
def test_the_noise_that_no_network_can_know(a, n, offsets):
    grid = np.linspace(-2.5, 2.5, 301)
    weight = sum(np.exp(-0.5 * ((grid - o) / 0.3) ** 2) for o in offsets)
    # gain a^2 for eps: (a c_e - n c_x)^2 with (c_x, c_e) = (0, 1); standard error under 1 %
    expected = brute(a, n, grid, weight)
    assert denoising_floor(level(a, n, a**2), 0.3, offsets) == pytest.approx(expected, rel=0.03)


def test_flow_matching_by_hand():
    r"""\int s^2 / ((1-t)^2 + s^2 t^2) dt = s pi / 2, by u = t / (1 - t)."""
    levels = Levels(FLOW, 1 - FLOW, np.ones(100), np.full(100, 0.01))
    assert denoising_floor(levels, 0.3) == pytest.approx(0.3 * np.pi / 2, rel=1e-4)


def test_where_no_signal_is_left_the_target_keeps_its_variance():
    assert denoising_floor(level(0.0, 1.0), 0.3, (-1.0, 1.0)) == pytest.approx(0.09 + 1.0)
    values = np.array([-1.0, 0.0, 1.0])
    np.testing.assert_allclose(
        atoms_denoising_floor(
            Levels(*map(np.array, ([0.0, 1.0], [1.0, 0.5], [1.0, 0.0], [1.0, 0.0]))),
            values,
            np.array([1.0, 3.0]),
        ),
        [2 / 3, 6.0],
    )


@pytest.mark.parametrize(("a", "n"), [(0.5, 0.8), (0.99, 0.05), (1.0, 0.004)])
def test_values_that_the_observation_says_nothing_about(a, n):
    values = (2 * np.arange(64) + 1) / 64 - 1
    two = Levels(*(np.array(x, float) for x in ([a, 0.7], [n, 0.7], [a**2, 1.0], [1.0, 0.0])))
    expected = brute(a, n, 1.7 * values, np.ones(64))
    assert atoms_denoising_floor(two, values, np.array([1.7]))[0] == pytest.approx(
        expected, rel=0.03, abs=1e-6
    )
