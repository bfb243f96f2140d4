"""Floors of point predictions and densities against brute force over many draws and over many answers."""

import numpy as np
import pytest
from scipy import stats

from ch3_jax.probability.floors_errors import (
    absolute_error_floor,
    atoms_floor,
    density_floor,
    huber,
    huber_floor,
)

OFFSETS = [(0.0,), (-1.0, 1.0), (-1.0, 0.0, 2.0)]


def answers(std, offsets, error, count=2_000_000):
    """The best of 81 constant answers, scored by the mean over a fine grid of quantiles."""
    z = stats.norm.ppf((np.arange(count // 100) + 0.5) / (count // 100))
    draws = np.concatenate([o + std * z for o in offsets])
    return min(error(draws - c).mean() for c in np.linspace(min(offsets), max(offsets), 81))


@pytest.mark.parametrize("offsets", OFFSETS)
@pytest.mark.parametrize("std", [0.05, 0.3])
def test_no_constant_answer_does_better(std, offsets):
    assert absolute_error_floor(std, offsets) == pytest.approx(answers(std, offsets, np.abs), rel=2e-3)
    for delta in (0.2, 1.0):
        brute = answers(std, offsets, lambda x, delta=delta: huber(x, delta))
        assert huber_floor(std, offsets, delta) == pytest.approx(brute, rel=3e-3)


def test_by_hand():
    assert absolute_error_floor(2.0) == pytest.approx(2 * np.sqrt(2 / np.pi))
    # far beyond delta Huber is delta |x| - delta^2 / 2: 0.01 x 0.797885 - 0.00005, and a little for the
    # middle
    assert huber_floor(1.0, (0.0,), 0.01) == pytest.approx(0.01 * 0.797885 - 0.00005, rel=1e-3)
    # without noise: between two values the absolute error is half their distance, whatever the answer
    assert absolute_error_floor(0.0, (-1.0, 1.0)) == pytest.approx(1.0)
    # modes far apart: one's entropy plus ln 2 for the choice
    assert density_floor(0.1, (-1.0, 1.0)) == pytest.approx(0.5 * np.log(2 * np.pi * np.e * 0.01) + np.log(2))
    assert density_floor(0.5, (3.0, 3.0)) == pytest.approx(density_floor(0.5))


def test_entropy_of_modes_that_overlap():
    draws = np.random.default_rng(0).normal(size=(2, 200_000)) * 0.8 + np.array([[-1.0], [1.0]])
    p = 0.5 * (stats.norm.pdf(draws, -1, 0.8) + stats.norm.pdf(draws, 1, 0.8))
    assert density_floor(0.8, (-1.0, 1.0)) == pytest.approx(-np.log(p).mean(), abs=0.005)


def test_atoms():
    values = np.random.default_rng(1).normal(size=31)
    assert atoms_floor(values, np.abs) == pytest.approx(np.abs(values - np.median(values)).mean())
    assert atoms_floor(values, np.square) == pytest.approx(values.var())
