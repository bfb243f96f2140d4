"""Rate and distortion: the corners by hand, and no description does better."""

import numpy as np
import pytest
from scipy import optimize, special

from ch3_jax.probability.floors_errors import absolute_error_floor
from ch3_jax.probability.floors_latent import atoms_latent_floor, latent_floor


def test_a_dear_nat_leaves_the_median():
    assert latent_floor(70.0, 0.3) == pytest.approx(absolute_error_floor(0.3), rel=2e-3)
    assert latent_floor(70.0, 0.3, (-1.0, 1.0)) <= absolute_error_floor(0.3, (-1.0, 1.0)) * 1.001


def test_a_free_one_leaves_nothing():
    assert latent_floor(0.0, 0.3) == 0
    assert latent_floor(1e-3, 0.3) < 0.01


def test_a_coin_by_hand():
    """Two values d = 2 apart are described exactly or left open; between, h bits of mistakes: at slope 1
    the flip probability is p = 1 / (1 + e^2), and the cost 2 p + ln 2 - H(p)."""
    p = 1 / (1 + np.exp(2.0))
    cost = 2 * p + np.log(2) - special.entr([p, 1 - p]).sum()
    assert atoms_latent_floor(1.0, np.array([-1.0, 1.0])) == pytest.approx(cost, rel=1e-3)


def test_two_demonstrators_are_told_apart_where_that_pays():
    """d = 2: telling them apart saves about d / 2 and costs ln 2 nats; half telling is a little cheaper."""
    alone, both = latent_floor(0.5, 0.3), latent_floor(0.5, 0.3, (-1.0, 1.0))
    assert alone + 0.9 * 0.5 * np.log(2) < both < alone + 0.5 * np.log(2)
    assert both < 0.7 * absolute_error_floor(0.3, (-1.0, 1.0))


def test_no_channel_does_better():
    """A general minimiser over all channels q(y | x) of four values finds the same cost."""
    values, slope = np.array([-1.0, -0.2, 0.5, 2.0]), 0.6
    distance = np.abs(values[:, None] - values)

    def cost(flat):
        q = special.softmax(flat.reshape(4, 4), axis=1) / 4
        information = special.rel_entr(q, q.sum(1, keepdims=True) * q.sum(0)).sum()
        return (q * distance).sum() + slope * information

    starts = np.random.default_rng(0).normal(size=(5, 16))
    best = min(optimize.minimize(cost, start).fun for start in starts)
    assert atoms_latent_floor(slope, values) == pytest.approx(best, rel=2e-3)
