"""Denoising in all its forms: by hand, each against the others, and the floors of a known law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.losses import consistency_model
from ch3_jax.losses.self_supervised import (
    consistency,
    ddpm,
    denoising_score_matching,
    draw_hidden,
    flow_matching,
    masked_prediction,
    min_snr_weight,
)
from ch3_jax.losses.supervised import cross_entropy
from ch3_jax.noise.corruption import Mix, corrupt, target
from ch3_jax.noise.flow import linear_path

# The arrays of the cases E6 and E7.
X0 = jnp.array([[0.5, -0.25], [1.0, 0.0]])
EPS = jnp.array([[1.0, -1.0], [0.5, 2.0]])
MIX = Mix(jnp.array([0.6, 0.8]), jnp.array([0.8, 0.6]))
rng = np.random.default_rng(0)


def test_e6_the_noise_loss():
    # ((.9 - 1)^2 + (-.5 + 1)^2 + (0 - .5)^2 + (1 - 2)^2) / 4 = (.01 + .25 + .25 + 1) / 4 = .3775
    losses = ddpm(jnp.array([[0.9, -0.5], [0.0, 1.0]]), X0, EPS, MIX)
    assert losses.mean() == pytest.approx(0.3775)


def test_e7_the_flow_loss_of_a_still_network():
    # u = eps - x0 = (.5, -.75), (-.5, 2): means of squares .40625 and 2.125, in all 1.265625
    for direction in ("noise_at_0", "noise_at_1"):
        mix = linear_path(direction).mix(jnp.array([0.25, 0.6004]))
        losses = flow_matching(jnp.zeros_like(X0), X0, EPS, mix)
        np.testing.assert_allclose(losses.mean(1), [0.40625, 2.125], rtol=1e-6)
    # ... and the sign of the target is the direction's: x0 - eps where noise is at 0
    forward = linear_path("noise_at_0").mix(jnp.array([0.25, 0.6]))
    assert not flow_matching(X0 - EPS, X0, EPS, forward).any()
    assert flow_matching(EPS - X0, X0, EPS, forward).min() > 0.9


def test_min_snr_makes_the_three_predictions_one():
    """One answer said in three ways costs the same, whatever the noise: what the weights are made for."""
    x = corrupt(X0, EPS, MIX)
    guess = jnp.array([[0.3, 0.1], [0.7, -0.4]])  # of the clean action
    noise = (x - MIX.signal[:, None] * guess) / MIX.noise[:, None]
    losses = [
        ddpm(target(kind, guess, noise, MIX), X0, EPS, MIX, prediction=kind, gamma=1.0)
        for kind in ("x0", "eps", "v")
    ]
    # snr .5625 and 1.7778, the second cut at 1
    np.testing.assert_allclose(losses[0], jnp.array([[0.5625], [1.0]]) * jnp.square(guess - X0), rtol=1e-5)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    np.testing.assert_allclose(losses[2], losses[0], rtol=1e-4)


def test_min_snr_by_hand_and_at_the_ends():
    # snr 10, gamma 5: 5, 5/10, 5/11; snr 2: 2, 1, 2/3; no signal at all: 0, 1, 0; no noise: 5, 0, 0
    snr = jnp.array([10.0, 2.0, 0.0, jnp.inf])
    expected = {"x0": [5, 2, 0, 5], "eps": [0.5, 1, 1, 0], "v": [5 / 11, 2 / 3, 0, 0]}
    for prediction, weights in expected.items():
        np.testing.assert_allclose(min_snr_weight(snr, 5.0, prediction), weights, rtol=1e-6)


def test_the_score_of_a_gaussian_is_the_minimum_of_score_matching():
    """x0 ~ N(0, 1), x = x0 + s n has the score -x / (1 + s^2); its loss is 1 - s^2 / (1 + s^2), weighted."""
    x0, eps = rng.normal(size=(2, 200_000, 1)).astype(np.float32)
    s = 0.8
    x = x0 + s * eps
    mix = Mix(np.float32(1.0), np.float32(s))
    losses = [
        float(np.mean(denoising_score_matching(-x * slope, eps, mix))) for slope in (0.55, 1 / 1.64, 0.67)
    ]
    assert losses[1] == pytest.approx(1 / 1.64, rel=0.01)
    assert losses[1] < min(losses[0], losses[2])
    # unweighted, the same divided by s^2
    raw = np.mean(denoising_score_matching(-x / 1.64, eps, mix, weighted=False))
    assert raw == pytest.approx(losses[1] / s**2, rel=1e-4)


def test_consistency_by_hand():
    online, other = jnp.array([[3.0, 0.0]]), jnp.array([[0.0, 4.0]])
    np.testing.assert_allclose(consistency(online, other, metric="squared"), [25.0])
    # c = .00054 sqrt 2 = .000763675: sqrt(25 + c^2) - c
    np.testing.assert_allclose(consistency(online, other), [4.99923638], rtol=1e-6)
    # where they agree the gradient is 0, not NaN
    assert not jax.grad(lambda x: consistency(x, online).sum())(online).any()


def test_the_wrapping_changes_nothing_at_the_smallest_noise():
    output, x = jnp.array([[7.0, -3.0]]), jnp.array([[0.3, 0.2]])
    found = consistency_model.clean(output, x, Mix(jnp.array(1.0), jnp.array(0.002)), sigma_min=0.002)
    np.testing.assert_allclose(found, x, rtol=1e-6)
    # with signal .8 the smallest noise is .8 x .002, and what comes back is x / .8
    found = consistency_model.clean(output, x, Mix(jnp.array(0.8), jnp.array(0.0016)), sigma_min=0.002)
    np.testing.assert_allclose(found, x / 0.8, rtol=1e-5)
    # the paper's at sigma = 1, d = .5, sigma_min = 0: c_skip .25 / 1.25 = .2, c_out .5 / sqrt 1.25 = .447214
    found = consistency_model.clean(output, x, Mix(jnp.array(1.0), jnp.array(1.0)), data_std=0.5)
    np.testing.assert_allclose(found, 0.2 * x + 0.447214 * output, rtol=1e-5)
    # a flow's start has no signal: the network speaks alone, at the scale of the data
    found = consistency_model.clean(output, x, Mix(jnp.array(0.0), jnp.array(1.0)), data_std=0.5)
    np.testing.assert_allclose(found, 0.5 * output, rtol=1e-6)


def test_a_teacher_that_knows_stays_on_the_path():
    now, cleaner = MIX, Mix(jnp.array([0.8, 0.9]), jnp.array([0.6, 0.1]))
    x = corrupt(X0, EPS, now)
    for prediction in ("eps", "x0", "v"):
        found = consistency_model.teacher_step(prediction, target(prediction, X0, EPS, now), x, now, cleaner)
        np.testing.assert_allclose(found, corrupt(X0, EPS, cleaner), atol=1e-6)


def test_masked_prediction_counts_hidden_positions_alone():
    hidden = jnp.array([[True, False, True], [False, True, False]])
    prediction = jnp.array([[1.0, 99.0, 3.0], [99.0, 2.0, 99.0]])
    np.testing.assert_allclose(
        masked_prediction(prediction, jnp.zeros((2, 3)), hidden), [5.0, 4.0]
    )  # (1 + 9) / 2
    logits, token = jnp.zeros((2, 3, 4)), jnp.array([[0, 1, 2], [3, 0, 1]])
    np.testing.assert_allclose(
        masked_prediction(logits, token, hidden, error=cross_entropy), np.log([4.0, 4.0]), rtol=1e-6
    )


def test_hidden_positions_are_drawn_evenly():
    hidden = np.asarray(draw_hidden(jax.random.key(0), 4000, 10, share=0.3))
    assert (hidden.sum(1) == 3).all()
    # each position in 30 % of 4,000 rows, give or take 5 standard deviations of .0072
    np.testing.assert_allclose(hidden.mean(0), 0.3, atol=0.036)
    assert (np.asarray(draw_hidden(jax.random.key(0), 4000, 10, share=0.01)).sum(1) == 1).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ddpm(X0, X0, EPS, MIX, prediction="epsilon"), "unknown `prediction`"),
        (lambda: ddpm(X0, X0, EPS, MIX, prediction="velocity"), "path in continuous time"),
        (lambda: ddpm(X0, X0, EPS, MIX, gamma=0.0), "`gamma` must be above 0"),
        (lambda: min_snr_weight(jnp.ones(1), 5.0, "velocity"), "knows no `prediction`"),
        (lambda: ddpm(X0, X0, EPS, Mix(jnp.ones(3), jnp.ones(3))), r"coefficient of `mix` has shape \(3,\)"),
        (lambda: flow_matching(X0, X0, EPS, MIX), "path in continuous time"),
        (lambda: consistency(X0, X0, metric="lpips"), "unknown `metric`"),
        (lambda: consistency_model.clean(X0, X0, MIX, data_std=0.0), "`data_std` must be above 0"),
        (lambda: masked_prediction(X0, X0, jnp.array([[True, True], [False, False]])), "`hidden` is empty"),
        (lambda: masked_prediction(X0, X0, jnp.ones((2, 2))), r"expected \(B, T\) of bool"),
        (lambda: draw_hidden(jax.random.key(0), 1, 4, share=15.0), "`share` of hidden positions"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_nothing_hidden_is_nan_in_a_compiled_step():
    assert jnp.isnan(jax.jit(masked_prediction)(X0, X0, jnp.zeros((2, 2), bool))).all()
