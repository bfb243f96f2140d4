"""The straight line in both directions (E7) and its time laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ch3_jax.errors import InputError
from ch3_jax.noise.corruption import convert, corrupt, target
from ch3_jax.noise.flow import DIRECTIONS, TIME_LAWS, linear_path

A = jnp.array([[0.5, -0.25], [1.0, 0.0]])
N = jnp.array([[1.0, -1.0], [0.5, 2.0]])
OPENPI, OURS = linear_path("noise_at_1"), linear_path()


def test_e7_openpi():
    mix = OPENPI.mix(jnp.array([0.25, 0.25]))
    np.testing.assert_allclose(target("velocity", A, N, mix), [[0.5, -0.75], [-0.5, 2.0]])
    np.testing.assert_allclose(corrupt(A, N, mix), [[0.625, -0.4375], [0.875, 0.5]])
    later = corrupt(A, N, OPENPI.mix(jnp.array([0.6004, 0.6004])))
    np.testing.assert_allclose(later, [[0.8002, -0.7003], [0.6998, 1.2008]], atol=1e-6)
    per_step = jnp.mean(target("velocity", A, N, mix) ** 2, -1)
    np.testing.assert_allclose(per_step, [0.40625, 2.125])


def test_ours_is_the_chapters():
    t = jnp.array([0.3, 0.9])
    expected = (1 - t)[:, None] * N + t[:, None] * A
    np.testing.assert_allclose(corrupt(A, N, OURS.mix(t)), expected, rtol=1e-6)
    np.testing.assert_allclose(target("velocity", A, N, OURS.mix(t)), A - N)


def test_the_directions_are_one_line_walked_both_ways():
    t = jnp.array([0.2, 0.7])
    np.testing.assert_allclose(corrupt(A, N, OURS.mix(t)), corrupt(A, N, OPENPI.mix(1 - t)), rtol=1e-6)
    np.testing.assert_allclose(
        target("velocity", A, N, OURS.mix(t)), -target("velocity", A, N, OPENPI.mix(1 - t)), rtol=1e-6
    )


@pytest.mark.parametrize("path", [OURS, OPENPI], ids=lambda p: p.direction)
def test_velocity_to_ends_needs_no_division(path):
    """x0 = x + (time left) v and eps = x - (time gone) v, at both ends too."""
    mix = path.mix(jnp.array([0.0, 1.0]))
    x, v = corrupt(A, N, mix), target("velocity", A, N, mix)
    np.testing.assert_allclose(convert(v, x, source="velocity", to="x0", mix=mix), A, atol=1e-6)
    np.testing.assert_allclose(convert(v, x, source="velocity", to="eps", mix=mix), N, atol=1e-6)


def test_the_velocity_is_the_derivative():
    for path in (OURS, OPENPI):
        _, slope = jax.jvp(
            lambda t, path=path: corrupt(A[0], N[0], path.mix(t)), (jnp.float32(0.4),), (jnp.float32(1),)
        )
        np.testing.assert_allclose(slope, target("velocity", A[0], N[0], path.mix(0.4)), rtol=1e-6)


def test_e7_law_of_pi0():
    share = np.asarray(TIME_LAWS["pi0_beta"](jax.random.key(0), 400_000), np.float64)
    # Standard errors: mean 0.0004, quantiles under 0.001, probability 0.0003.
    assert share.mean() == pytest.approx(0.6004, abs=2e-3)
    assert share.var() == pytest.approx(0.999**2 * 0.0685714, abs=5e-4)
    expected = [0.136585, 0.397453, 0.630331, 0.825656, 0.966416]
    np.testing.assert_allclose(np.quantile(share, [0.05, 0.25, 0.5, 0.75, 0.95]), expected, atol=3e-3)
    assert np.mean(share < 0.1) == pytest.approx(0.031196, abs=1.5e-3)
    assert share.min() >= 0.001 and share.max() <= 1


@pytest.mark.parametrize(
    ("law", "cdf"),
    [
        ("uniform", stats.uniform.cdf),
        ("pi0_beta", lambda x: stats.beta(1.5, 1).cdf((x - 0.001) / 0.999)),
        ("logit_normal", lambda x: stats.norm.cdf(np.log(x / (1 - x)))),
    ],
)
def test_time_laws(law, cdf):
    share = np.asarray(TIME_LAWS[law](jax.random.key(1), 20_000), np.float64)
    assert stats.kstest(share, cdf).pvalue > 1e-3
    quantiles = [linear_path(d, time_law=law).quantile(np.array([0.1, 0.5, 0.9])) for d in DIRECTIONS]
    np.testing.assert_allclose(cdf(1 - quantiles[0]), [0.9, 0.5, 0.1], atol=1e-9)
    np.testing.assert_allclose(cdf(quantiles[1]), [0.1, 0.5, 0.9], atol=1e-9)
    # The same key is the same noise in both directions.
    ours = linear_path(time_law=law).draw_time(jax.random.key(1), 5)
    theirs = linear_path("noise_at_1", time_law=law).draw_time(jax.random.key(1), 5)
    np.testing.assert_allclose(ours, 1 - theirs, atol=1e-6)


def test_gates_of_a_zero_prediction():
    """Loss of predicting zero: 1 for unit noise, 1 + E[a^2] for the velocity."""
    key = jax.random.key(0)
    a, n = 0.5 + jax.random.normal(key, (100_000,)), jax.random.normal(jax.random.key(1), (100_000,))
    t = OURS.draw_time(jax.random.key(2), 100_000)
    assert float(jnp.mean(target("eps", a, n, OURS.mix(t)) ** 2)) == pytest.approx(1.0, abs=0.02)
    assert float(jnp.mean(target("velocity", a, n, OURS.mix(t)) ** 2)) == pytest.approx(2.25, abs=0.04)


def test_bad_input():
    with pytest.raises(InputError, match="`direction`"):
        linear_path("backwards")
    with pytest.raises(InputError, match="`time_law`"):
        linear_path(time_law="beta")
    with pytest.raises(InputError, match="(?s)`t` is outside.*0 to 1"):
        OURS.mix(jnp.array([1.5]))
    with pytest.raises(TypeError, match="`t` has dtype int32"):
        OURS.mix(jnp.array([1]))
    assert jnp.isnan(jax.jit(lambda t: OURS.mix(t).signal)(jnp.array([-0.1]))).all()
    assert jnp.isnan(jax.jit(lambda t: OURS.mix(t).signal_rate)(jnp.array([1.1]))).all()
