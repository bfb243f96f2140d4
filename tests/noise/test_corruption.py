"""Mixing, targets and the conversions between predictions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.noise.corruption import PREDICTIONS, Mix, convert, corrupt, ends, posterior, target
from ch3_jax.noise.processes import diffusion
from ch3_jax.noise.schedules import make_schedule

COSINE = make_schedule("squaredcos_cap_v2", 100)
X0 = jnp.array([[0.5, -0.25], [1.0, 0.0]])
EPS = jnp.array([[1.0, -1.0], [0.5, 2.0]])


def mix_at(t, dtype=jnp.float32):
    """Coefficients of a straight line as if it were any path: rates included."""
    a, s = jnp.asarray(1 - t, dtype), jnp.asarray(t, dtype)
    return Mix(a, s, -jnp.ones_like(a), jnp.ones_like(a))


@pytest.mark.parametrize(
    ("t", "expected"),
    [
        (50, [1.06809592, -0.89520425, 1.05272305, 1.44462514]),
        (10, [0.67404598, -0.42824161, 1.07443607, 0.36487451]),
        (99, [1.00024629, -1.00012302, 0.50049275, 1.99999976]),
    ],
)
def test_e6_q_sample(t, expected):
    x = corrupt(X0, EPS, diffusion(COSINE).mix(jnp.array([t, t])))
    np.testing.assert_allclose(x.reshape(-1), expected, atol=3e-7)


def test_e6_eps_loss():
    prediction = jnp.array([[0.9, -0.5], [0.0, 1.0]])
    # squares 0.01, 0.25, 0.25, 1: mean 0.3775
    loss = jnp.mean((prediction - target("eps", X0, EPS, mix_at(0.5))) ** 2)
    assert float(loss) == pytest.approx(0.3775, abs=1e-6)


def test_e6_posterior():
    a, s = COSINE.signal, COSINE.noise
    law = posterior(Mix(a[50], s[50]), Mix(a[49], s[49]))
    assert law.variance == pytest.approx(0.03060438111, rel=1e-6)
    x = corrupt(X0, EPS, diffusion(COSINE).mix(jnp.array([50, 50])))
    mean = law.x_weight * x + law.x0_weight * X0
    np.testing.assert_allclose(mean.reshape(-1), [1.04097295, -0.86528790, 1.04754150, 1.37920570], atol=3e-7)
    # The definition of a forward step: beta_t is the variance that it adds.
    assert law.forward_variance == pytest.approx(COSINE.betas[50], rel=1e-9)


def test_posterior_is_bayes():
    """Precisions of two Gaussians add: x' given x0, and x given x'."""
    now, later, x, x0 = Mix(0.3, 0.8), Mix(0.7, 0.5), 1.3, -0.4
    law = posterior(now, later)
    ratio = now.signal / later.signal
    forward = now.noise**2 - ratio**2 * later.noise**2
    precision = 1 / later.noise**2 + ratio**2 / forward
    mean = (later.signal * x0 / later.noise**2 + ratio * x / forward) / precision
    assert law.variance == pytest.approx(1 / precision)
    assert law.x_weight * x + law.x0_weight * x0 == pytest.approx(mean)


def test_hand_numbers_of_targets():
    # a = 0.6, s = 0.8, x0 = 1, eps = 2: v = 0.6 2 - 0.8 1 = 0.4; velocity with rates (-1, 1) = 1
    mix = Mix(jnp.array(0.6), jnp.array(0.8), jnp.array(-1.0), jnp.array(1.0))
    x0, eps = jnp.array([1.0]), jnp.array([2.0])
    found = {p: float(target(p, x0, eps, mix)[0]) for p in PREDICTIONS}
    assert found == pytest.approx({"eps": 2.0, "x0": 1.0, "v": 0.4, "velocity": 1.0})


@pytest.mark.parametrize(("source", "to"), list(itertools.product(PREDICTIONS, PREDICTIONS)))
@pytest.mark.parametrize("wide", [False, True])
def test_every_conversion(source, to, wide):
    with jax.enable_x64(wide):
        dtype = jnp.float64 if wide else jnp.float32
        key = jax.random.key(0)
        x0, eps = jax.random.normal(key, (2, 6, 3, 4), dtype)
        mix = mix_at(jnp.linspace(0.05, 0.95, 6, dtype=dtype))
        x = corrupt(x0, eps, mix)
        predicted = target(source, x0, eps, mix)
        found = convert(predicted, x, source=source, to=to, mix=mix)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, target(to, x0, eps, mix), atol=1e-12 if wide else 3e-5)
        if wide:
            return
        jitted = jax.jit(lambda p, x: convert(p, x, source=source, to=to, mix=mix))(predicted, x)
        np.testing.assert_allclose(jitted, found, atol=1e-5)
        one = jax.vmap(lambda p, x, *m: convert(p, x, source=source, to=to, mix=Mix(*m)))(predicted, x, *mix)
        np.testing.assert_allclose(one, found, atol=1e-5)


def test_clamping_where_one_end_is_gone():
    """eps says nothing about x0 without signal, x0 nothing about eps without noise: large, but finite."""
    x = jnp.array([1.0])
    nothing = ends("eps", jnp.array([0.5]), x, Mix(jnp.array(0.0), jnp.array(1.0)))
    assert float(nothing.x0[0]) == pytest.approx(0.5 / 1e-5, rel=1e-5)
    clean = ends("x0", jnp.array([0.5]), x, Mix(jnp.array(1.0), jnp.array(0.0)), smallest=0.1)
    assert float(clean.eps[0]) == pytest.approx(5.0)
    # The determinant of noise_at_0 is -1: a clamp must keep the sign.
    flow = ends("velocity", jnp.array([1.0]), x, Mix(jnp.array(0.5), jnp.array(0.5), 1.0, -1.0), smallest=0.9)
    assert (float(flow.x0[0]), float(flow.eps[0])) == (1.5, 0.5)
    grad = jax.grad(lambda x: convert(x, x, source="eps", to="x0", mix=Mix(0.0, 1.0)).sum())(x)
    assert np.isfinite(grad).all()


def test_linear_in_the_prediction_and_numeric_gradient():
    mix = mix_at(jnp.array([0.3, 0.7]))
    jax.test_util.check_grads(
        lambda p, x: convert(p, x, source="v", to="x0", mix=mix), (X0, EPS), order=1, atol=1e-2, rtol=1e-2
    )


def test_bad_input():
    mix = mix_at(jnp.array([0.3, 0.7]))
    with pytest.raises(ValueError, match="`eps` has shape"):
        corrupt(X0, EPS[:, :1], mix)
    with pytest.raises(TypeError, match="`x0` has dtype int32"):
        corrupt(X0.astype(jnp.int32), EPS, mix)
    with pytest.raises(ValueError, match="`mix` has shape"):
        corrupt(X0, EPS, mix_at(jnp.array([0.1, 0.2, 0.3])))
    with pytest.raises(ValueError, match="`predicted` has shape"):
        ends("eps", X0[:1], X0, mix)
    with pytest.raises(ValueError, match="(?s)unknown `prediction` 'epsilon'.*eps"):
        target("epsilon", X0, EPS, mix)
    with pytest.raises(ValueError, match="(?s)velocity needs a path in continuous time"):
        target("velocity", X0, EPS, Mix(mix.signal, mix.noise))
    with pytest.raises(ValueError, match="unknown `prediction`"):
        convert(X0, X0, source="noise", to="noise", mix=mix)
