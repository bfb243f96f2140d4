"""Floors of the embedded sets against brute force: the best possible predictor, scored on fresh data."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.data.normalize import normalize
from ch3_jax.data.prepare import prepare
from ch3_jax.data.synthetic import embedded
from ch3_jax.floors import floor
from ch3_jax.losses import self_supervised
from ch3_jax.noise import corruption
from ch3_jax.objectives import OBJECTIVES, Shapes, Spread, make_objective
from ch3_jax.probability.floors import bin_probabilities
from ch3_jax.probability.floors_denoising import denoising_floor
from ch3_jax.tokens import bins as tokens


@functools.cache
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


LOSSES = {
    "denoising": {},
    "ddpm": {"prediction": "v", "min_snr": 5.0},
    "flow": {"time_law": "pi0_beta", "time_direction": "noise_at_1"},
    "consistency": {"time_law": "logit_normal"},
}


@pytest.mark.parametrize("name", LOSSES)
def test_denoising_losses_of_the_posterior_mean(name):
    """The loss itself, on fresh draws of its own process, given what Bayes knows of a Gaussian action."""
    options, std, count = LOSSES[name], 0.3, 200_000
    objective = make_objective(name, Shapes(1, 14, 1, 7), **options)
    process, prediction = objective.sampler.process, objective.sampler.prediction

    @jax.jit
    def score(key):
        keys = jax.random.split(key, 3)
        mix = process.mix(process.draw_time(keys[0], count))
        x0, eps = std * jax.random.normal(keys[1], (count,)), jax.random.normal(keys[2], (count,))
        x, total = mix.signal * x0 + mix.noise * eps, (mix.signal * std) ** 2 + mix.noise**2
        # jointly Gaussian: E[x0 | x] and E[eps | x] are x times covariance over variance
        known = x * mix.signal * std**2 / total, x * mix.noise / total
        said = corruption.target(prediction, *known, mix)
        gamma = options.get("min_snr")
        return jnp.mean(self_supervised.ddpm(said, x0, eps, mix, prediction=prediction, gamma=gamma))

    expected = float(score(jax.random.key(0)))
    assert denoising_floor(objective.asked["levels"], std) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("bimodal", [False, True])
def test_every_loss_has_a_floor_and_a_second_demonstrator_raises_it(name, bimodal):
    data, normalizer, bins = setup(bimodal=bimodal)
    where = Spread(np.full(7, -4.5, np.float32), np.full(7, 4.5, np.float32), 1.0)
    options = {"beta": 0.05} if name == "cvae" else {}
    asked = make_objective(name, Shapes(1, 14, 1, 7), bins, spread=where, **options).asked
    found = floor(name, data.extra, normalizer, bins, asked)
    assert 0 < found < np.log(256)
    if bimodal:
        same_noise = {**data.extra, "floor": {**data.extra["floor"], "offsets": np.zeros((7, 1))}}
        assert found > floor(name, same_noise, normalizer, bins, asked) * 1.01


@pytest.mark.parametrize("name", OBJECTIVES)
def test_random_bins_without_a_lower_end(name):
    """Single values have no density: only gmm and infonce, which ask for one, have no floor."""
    data, normalizer, bins = setup("random_bins", bins=256)
    asked = make_objective(name, Shapes(1, 64, 1, 7), bins).asked
    found = floor(name, data.extra, normalizer, bins, asked)
    assert (found is None) == (name in ("gmm", "infonce"))
    action = np.asarray(normalize(normalizer, data.splits["train"].action))
    if name in ("huber", "cvae"):
        error = np.abs(action)
        by_hand = np.where(error < 1, error**2 / 2, error - 0.5) if name == "huber" else error
        assert found == pytest.approx(by_hand.mean(), rel=0.02)
    if name == "flow":
        # the velocity of the best guess: nearly that of a uniform action, whose own variance is 1
        assert 1.4 < found < 1.6


def test_a_mixture_with_too_few_components_has_no_known_floor():
    data, normalizer, bins = setup(bimodal=True)
    for components, known in ((1, False), (2, True)):
        asked = make_objective("gmm", Shapes(1, 14, 1, 7), components=components).asked
        assert (floor("gmm", data.extra, normalizer, bins, asked) is not None) == known


def test_unknown_laws_have_no_floor():
    _, normalizer, bins = setup()
    assert floor("ce", {}, normalizer, bins) is None
