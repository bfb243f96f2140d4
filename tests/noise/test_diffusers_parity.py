"""Schedules and samplers against diffusers, on a network that is no oracle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.noise.denoiser import Denoiser
from ch3_jax.noise.flow import linear_path
from ch3_jax.noise.processes import Grid, diffusion, grid_at
from ch3_jax.noise.samplers import make_sampler
from ch3_jax.noise.schedules import make_schedule

diffusers = pytest.importorskip("diffusers")
torch = pytest.importorskip("torch")

# Our walk step by step, like theirs: compiling one per case would be all of the time.
EAGER = pytest.mark.usefixtures("eager")
T = 100
COSINE = make_schedule("squaredcos_cap_v2", T)
THEIRS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)


def network(process, prediction):
    return Denoiser(
        lambda x, t: jnp.tanh(1.3 * x + t[:, None].astype(x.dtype) / T - 0.3), prediction, process
    )


def walk(scheduler, steps, timesteps=None):
    """Their loop, as their documentation has it."""
    scheduler.set_timesteps(steps) if timesteps is None else scheduler.set_timesteps(timesteps=timesteps)
    x = torch.tensor(X)
    for t in scheduler.timesteps:
        x = scheduler.step(torch.tanh(1.3 * x + float(t) / T - 0.3), t, x).prev_sample
    return x.numpy(), [int(t) for t in scheduler.timesteps]


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"])
@pytest.mark.parametrize("steps", [10, 20, 50, 100, 1000])
def test_schedules(name, steps):
    theirs = diffusers.DDPMScheduler(num_train_timesteps=steps, beta_schedule=name)
    ours = make_schedule(name, steps)
    np.testing.assert_allclose(ours.betas, theirs.betas, atol=1e-6)
    np.testing.assert_allclose(ours.alpha_bar, theirs.alphas_cumprod, atol=1e-6)


@EAGER
@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize(("clip", "to_one"), [(None, False), (1.0, True)])
def test_ddim(prediction, spacing, clip, to_one):
    theirs = diffusers.DDIMScheduler(
        num_train_timesteps=T,
        beta_schedule="squaredcos_cap_v2",
        prediction_type=THEIRS[prediction],
        timestep_spacing=spacing,
        clip_sample=clip is not None,
        set_alpha_to_one=to_one,
    )
    expected, visited = walk(theirs, 10)
    process = diffusion(COSINE, spacing=spacing, set_alpha_to_one=to_one, allow_signal=True)
    assert process.grid(10).time[:-1].astype(int).tolist() == visited
    found = make_sampler("ddim", process, steps=10, prediction=prediction, clip=clip).run(
        network(process, prediction), jnp.asarray(X)
    )
    # eps without clipping from step 99 divides by sqrt(abar) = 4.9e-4: values up to 2,000.
    np.testing.assert_allclose(found, expected, atol=2e-6, rtol=1e-4 if spacing == "trailing" else 1e-6)


@EAGER
@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("steps", [100, 20])
def test_ddpm(prediction, variance, steps, monkeypatch):
    """Their noise is replaced by ours, step for step."""
    key = jax.random.key(3)
    drawn = iter(range(steps))

    def noise(shape, **_):
        draw = jax.random.normal(jax.random.fold_in(key, next(drawn)), tuple(shape))
        return torch.tensor(np.asarray(draw))

    monkeypatch.setattr(diffusers.schedulers.scheduling_ddpm, "randn_tensor", noise)
    theirs = diffusers.DDPMScheduler(
        num_train_timesteps=T,
        beta_schedule="squaredcos_cap_v2",
        prediction_type=THEIRS[prediction],
        variance_type=f"fixed_{variance}",
        clip_sample=True,
    )
    expected, _ = walk(theirs, steps)
    process = diffusion(COSINE, spacing="leading", allow_signal=True)
    found = make_sampler(
        "ddpm", process, steps=steps, prediction=prediction, variance=variance, clip=1.0
    ).run(network(process, prediction), jnp.asarray(X), key)
    np.testing.assert_allclose(found, expected, atol=1e-5 if steps == 100 else 2e-6)


@EAGER
@pytest.mark.parametrize("steps", [10, 20])
@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_dpmpp_2m(steps, prediction):
    theirs = diffusers.DPMSolverMultistepScheduler(
        num_train_timesteps=T,
        beta_schedule="squaredcos_cap_v2",
        prediction_type=THEIRS[prediction],
        algorithm_type="dpmsolver++",
        solver_order=2,
        timestep_spacing="leading",
    )
    expected, visited = walk(theirs, steps)
    process = diffusion(COSINE)
    process = process._replace(grid=lambda n: grid_at(COSINE, visited))
    found = make_sampler("dpmpp_2m", process, steps=steps, prediction=prediction).run(
        network(process, prediction), jnp.asarray(X)
    )
    np.testing.assert_allclose(found, expected, atol=5e-6, rtol=1e-5)


def flow_walk(scheduler, **times):
    """Their loop for flows; their times are a thousand times the share of noise."""
    scheduler.set_timesteps(**times)
    x = torch.tensor(X)
    for t in scheduler.timesteps:
        x = scheduler.step(torch.tanh(1.3 * x + float(t) / 1000 - 0.3), t, x).prev_sample
    return x.numpy()


def velocity(path):
    return Denoiser(lambda x, t: jnp.tanh(1.3 * x + t[:, None] - 0.3), "velocity", path)


@EAGER
@pytest.mark.parametrize("steps", [1, 4, 20])
def test_flow_euler(steps):
    levels = np.linspace(1, 1 / steps, steps).tolist()
    expected = flow_walk(diffusers.FlowMatchEulerDiscreteScheduler(), sigmas=levels)
    path = linear_path("noise_at_1")
    found = make_sampler("euler", path, steps=steps).run(velocity(path), jnp.asarray(X))
    np.testing.assert_allclose(found, expected, atol=2e-6)


@EAGER
@pytest.mark.parametrize("steps", [2, 4, 20])
def test_flow_heun(steps):
    """Their levels go from 1 to 0.001 and then to 0, and the last step is Euler's, as ours on denoising."""
    expected = flow_walk(diffusers.FlowMatchHeunDiscreteScheduler(), num_inference_steps=steps)
    levels = np.append(np.linspace(1, 1e-3, steps), 0.0)
    path = linear_path("noise_at_1")
    cut = path._replace(grid=lambda n: Grid(levels, 1 - levels, levels), lowest=1e-3)
    sampler = make_sampler("heun", cut, steps=steps)
    assert sampler.calls == 2 * steps - 1
    # They go by way of (x - x0) / 0.001 at the last level, which magnifies rounding a thousand times.
    np.testing.assert_allclose(sampler.run(velocity(path), jnp.asarray(X)), expected, atol=3e-5)
