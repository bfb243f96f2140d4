"""Chains of Gaussian steps: the samplers' own steps, and densities by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from ch3_jax.errors import InputError
from ch3_jax.noise import flow, processes, schedules
from ch3_jax.noise.chain import log_prob, make_chain, walk
from ch3_jax.noise.denoiser import Denoiser
from ch3_jax.noise.samplers import make_sampler

SHAPE = (3, 1, 2)


def linear(process, prediction):
    """A network that is wrong, but always in the same way."""

    def apply(x, t):
        time = jnp.reshape(jnp.asarray(t, jnp.float32), (-1, 1, 1))
        return 0.3 * x - 0.1 * time / process.highest + 0.2

    return Denoiser(apply, prediction, process)


CASES = {
    "flow": (flow.linear_path("noise_at_0"), "velocity"),
    "flow, openpi": (flow.linear_path("noise_at_1"), "velocity"),
    "ddpm": (processes.diffusion(schedules.make_schedule("squaredcos_cap_v2", 50)), "eps"),
}


@pytest.mark.parametrize("case", CASES)
def test_along_its_means_a_chain_is_ddim(case):
    process, prediction = CASES[case]
    network = linear(process, prediction)
    chain = make_chain(process, 5, eta=0.0)
    x = process.start(jax.random.key(0), SHAPE)
    found = walk(chain, network, x, jnp.zeros((5, *SHAPE)))
    expected = make_sampler("ddim", process, steps=5, prediction=prediction).trace(network, x, None)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    if process.continuous:
        euler = make_sampler("euler", process, steps=5, prediction=prediction).trace(network, x, None)
        np.testing.assert_allclose(found, euler, atol=2e-5)


def test_with_all_its_noise_a_chain_has_the_deviations_of_ddpm_but_never_none():
    process, prediction = CASES["ddpm"]
    tiny = make_chain(process, 5, eta=1.0, smallest=1e-6)
    kept = make_chain(process, 5, eta=1.0, smallest=0.1)
    assert tiny.std[-1] == pytest.approx(1e-6)
    np.testing.assert_allclose(kept.std, np.maximum(tiny.std, 0.1))
    # One step from the same x and noise is the sampler's own.
    network, x = linear(process, prediction), process.start(jax.random.key(0), SHAPE)
    key = jax.random.key(7)
    states = make_sampler("ddpm", process, steps=5, prediction=prediction).trace(network, x, key)
    noise = jnp.stack([jax.random.normal(jax.random.fold_in(key, k), SHAPE) for k in range(5)])
    np.testing.assert_allclose(walk(tiny, network, x, noise)[1:-1], states[1:-1], atol=2e-4)


@pytest.mark.parametrize("case", CASES)
def test_densities_are_those_of_the_steps(case):
    process, prediction = CASES[case]
    network = linear(process, prediction)
    chain = make_chain(process, 4, smallest=0.2)
    noise = jax.random.normal(jax.random.key(1), (4, *SHAPE))
    states = walk(chain, network, process.start(jax.random.key(0), SHAPE), noise)
    found = log_prob(chain, lambda copies: network, states)
    assert found.shape == (3, 4)
    for k in range(4):
        mean = chain.mean(network, states[k], jnp.full(3, k))
        density = scipy.stats.norm.logpdf(states[k + 1], mean, chain.std[k]).sum((1, 2))
        np.testing.assert_allclose(found[:, k], density, rtol=1e-4, atol=1e-4)


def test_the_density_pulls_the_mean_towards_the_action():
    process, prediction = CASES["flow"]
    chain = make_chain(process, 2, smallest=0.5)
    x = process.start(jax.random.key(0), (1, 1, 1))
    states = jnp.stack([x, x, x + 3.0])

    def density(shift):
        network = Denoiser(lambda x, t: jnp.full(x.shape, shift), prediction, process)
        return log_prob(chain, lambda copies: network, states)[0, 1]

    assert float(jax.grad(density)(0.0)) > 0
    # mean = x + shift / 2: the pull is (3 - 0) / 0.25 * 1/2
    assert float(jax.grad(density)(0.0)) == pytest.approx(6.0, rel=1e-4)


@pytest.mark.parametrize("wrong", [{"eta": 1.1}, {"smallest": 0.0}, {"smallest": float("nan")}])
def test_a_chain_without_noise_is_refused(wrong):
    with pytest.raises(InputError):
        make_chain(CASES["flow"][0], 4, **wrong)
