"""Adaptive integration; the numbers need diffrax, the refusals do not."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.errors import InputError
from ch3_jax.noise.adaptive import integrate
from ch3_jax.noise.corruption import target
from ch3_jax.noise.denoiser import Denoiser
from ch3_jax.noise.flow import linear_path
from ch3_jax.noise.processes import denoising
from ch3_jax.noise.samplers import make_sampler


def gaussian(process, mean, std, asked=None):
    def apply(x, t):
        if asked is not None:
            jax.debug.callback(lambda t: asked.append(np.asarray(t)), t)
        mix = process.mix(t)
        a, s = mix.signal[:, None], mix.noise[:, None]
        # E[x0 | x] and E[eps | x], each without a division by what vanishes at an end.
        pull = (x - a * mean) / (a**2 * std**2 + s**2)
        return target("velocity", mean + std**2 * a * pull, s * pull, mix)

    return Denoiser(apply, "velocity", process)


@pytest.mark.parametrize(
    "process", [linear_path(), linear_path("noise_at_1"), denoising()], ids=lambda p: p.name
)
@pytest.mark.parametrize("tolerance", [1e-4, 1e-6])
def test_error_follows_the_tolerance(process, tolerance):
    pytest.importorskip("diffrax")
    with jax.enable_x64(True):
        x = jnp.linspace(-2, 2, 5, dtype=jnp.float64)[:, None]
        first = process.grid(1)
        # x -> a m + sd_end / sd_start (x - a m): quantiles stay.
        start = np.hypot(first.signal[0] * 0.5, first.noise[0])
        exact = 0.5 + 0.5 / start * (x - first.signal[0] * 0.5)
        found = jax.jit(
            lambda x: integrate(gaussian(process, 0.5, 0.5), process, x, rtol=tolerance, atol=tolerance)
        )(x)
        assert bool(found.ok)
        assert found.x.dtype == jnp.float64
        # Denoising ends with one Euler step of 0.01, whose error is about sigma^2 / 2.
        bound = 10 * tolerance + (1e-3 if "denoising" in process.name else 0)
        assert float(jnp.abs(found.x - exact).max()) < bound
        assert 8 <= int(found.calls) < 200


def test_calls_are_those_really_made():
    pytest.importorskip("diffrax")
    asked, process = [], linear_path()
    found = integrate(gaussian(process, 0.5, 0.5, asked), process, jnp.ones((2, 1)))
    jax.effects_barrier()
    assert abs(len(asked) - int(found.calls)) <= 1
    assert min(t.min() for t in asked) >= 0 and max(t.max() for t in asked) <= 1


def test_giving_up_is_not_silent():
    pytest.importorskip("diffrax")
    process = linear_path()
    found = integrate(gaussian(process, 0.5, 1e-3), process, jnp.ones((2, 1)), rtol=1e-5, max_steps=2)
    assert not bool(found.ok)
    assert jnp.isnan(found.x).all()


def test_as_a_sampler():
    pytest.importorskip("diffrax")
    process = linear_path()
    sampler = make_sampler("adaptive", process, rtol=1e-4, atol=1e-4)
    assert sampler.calls is None and not sampler.random
    x = jnp.ones((2, 1))
    fixed = make_sampler("rk4", process, steps=20).run(gaussian(process, 0.5, 0.5), x)
    np.testing.assert_allclose(sampler.run(gaussian(process, 0.5, 0.5), x), fixed, atol=2e-3)
    assert sampler.trace(gaussian(process, 0.5, 0.5), x).shape == (2, 2, 1)


def test_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffrax", None)
    with pytest.raises(InputError, match="(?s)diffrax.*pip install diffrax"):
        integrate(gaussian(linear_path(), 0.0, 1.0), linear_path(), jnp.ones((1, 1)))


def test_bad_tolerance():
    pytest.importorskip("diffrax")
    with pytest.raises(InputError, match="`rtol` and `atol`"):
        integrate(gaussian(linear_path(), 0.0, 1.0), linear_path(), jnp.ones((1, 1)), atol=0.0)
