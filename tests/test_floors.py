"""Floors of the embedded sets against brute force: the best possible predictor, scored on fresh data."""

import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.data.normalize import normalize
from ch3_jax.data.prepare import prepare
from ch3_jax.data.synthetic import embedded
from ch3_jax.floors import floor
from ch3_jax.probability.floors import bin_probabilities
from ch3_jax.tokens import bins as tokens


def setup(name="inverse_dynamics", bins=64, **settings):
    data = embedded(name, 0, pairs=20_000, **settings)
    prepared = prepare(data)
    normalizer, action = prepared.normalizers["action"], prepared.action
    ends = (normalize(normalizer, jnp.asarray(x, jnp.float32)) for x in (action.min, action.max))
    return data, normalizer, tokens.uniform(*(np.asarray(e) for e in ends), bins)


@pytest.mark.parametrize("bimodal", [False, True])
def test_cross_entropy_is_what_the_bayes_predictor_scores(bimodal):
    data, normalizer, bins = setup(bimodal=bimodal)
    clean = data.splits["train"].observation @ np.asarray(data.extra["map"], np.float32).T
    target = np.asarray(tokens.encode(bins, normalize(normalizer, data.splits["train"].action)))
    scores = []
    for d in range(7):
        edges = np.asarray(bins.edge[d], np.float64) * normalizer.scale[d] + normalizer.offset[d]
        edges[[0, -1]] = edges[1] - 1, edges[-2] + 1
        offsets = np.asarray(data.extra["floor"]["offsets"][d])
        p = bin_probabilities(edges, clean[:, d], 0.3, offsets)
        scores.append(-np.log(np.take_along_axis(p, target[:, d, None], 1)))
    # 140,000 scores of standard deviation about 0.7: a standard error of 0.002
    assert floor("ce", data.extra, normalizer, bins) == pytest.approx(np.mean(scores), abs=0.008)


@pytest.mark.parametrize(("bimodal", "expected"), [(False, 0.09), (True, 0.09 + 1 / 7)])
def test_squared_error_is_the_conditional_variance(bimodal, expected):
    """s^2 = 0.09; two modes d = 2 apart add d^2/4 = 1 in one of seven dimensions (chapter 3.x, corrected)."""
    data, normalizer, bins = setup(bimodal=bimodal)
    gain = np.asarray(normalizer.gain)
    noise = 0.09 * gain**2
    noise[0] += (1.0 if bimodal else 0.0) * gain[0] ** 2
    assert floor("mse", data.extra, normalizer, bins) == pytest.approx(noise.mean(), rel=1e-5)
    raw = np.mean(noise / gain**2)
    assert raw == pytest.approx(expected, rel=1e-5)


def test_absolute_error_is_that_of_the_conditional_median():
    data, normalizer, bins = setup()
    clean = data.splits["train"].observation @ np.asarray(data.extra["map"], np.float32).T
    error = np.abs(data.splits["train"].action - clean) * normalizer.gain
    assert floor("l1", data.extra, normalizer, bins) == pytest.approx(error.mean(), rel=0.01)


def test_random_bins_cannot_be_beaten():
    data, normalizer, bins = setup("random_bins", bins=256)
    assert floor("ce", data.extra, normalizer, bins) == pytest.approx(np.log(256), abs=1e-9)
    action = normalize(normalizer, data.splits["train"].action)
    assert floor("mse", data.extra, normalizer, bins) == pytest.approx(float(jnp.var(action)), rel=0.02)
    assert floor("l1", data.extra, normalizer, bins) == pytest.approx(float(jnp.abs(action).mean()), rel=0.02)


def test_unknown_laws_have_no_floor():
    _, normalizer, bins = setup()
    assert floor("ce", {}, normalizer, bins) is None
