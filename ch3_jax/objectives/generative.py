r"""Objectives that learn to take noise away: denoising, DDPM, flow matching.

All three are one thing in the coefficients of `noise.corruption`. A time t is drawn from the law of the
process,

  x = a(t) a^* + s(t) \epsilon,    loss = w(t) \| f(o, x, t) - p \|^2,    p = c_x a^* + c_e \epsilon,

with p the noise (eps), the action (x0), v or the velocity. They differ in the process and in what is usually
predicted. To act, a sampler walks the process back from noise to action in calls of the network.

| objective | process | prediction | sampler |
| --- | --- | --- | --- |
| `denoising` | x = a* + sigma eps, sigma ~ U[0.01, 1] | eps | ddpm (ancestral), 20 steps |
| `ddpm` | sqrt(abar), sqrt(1 - abar); T = 100, squared cosine | eps | ddpm, 20 steps |
| `flow` | (1 - t) eps + t a*, t ~ U[0, 1] | velocity | euler, 10 steps |

The time is drawn per sample; the chapter's denoising draws one per batch, which has the same expectation and
a noisier gradient.

*Where data end.* Far from the data an error of the network feeds on itself: it makes actions farther out,
which it has seen even less of. Samplers that pass through an estimate of the clean action therefore keep it
inside the range of the training data, dimension by dimension.

References: Ho et al. 2020, arXiv:2006.11239; Lipman et al. 2023, arXiv:2210.02747; Chi et al. 2023,
arXiv:2303.04137 (Diffusion Policy); Hang et al. 2023, arXiv:2303.09556 (min-SNR weights).
"""

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array, Batch, Key, Metrics, Params
from ch3_jax.losses import self_supervised
from ch3_jax.noise import flow as paths
from ch3_jax.noise import processes, schedules
from ch3_jax.noise.corruption import Mix, corrupt, target
from ch3_jax.noise.denoiser import Denoiser
from ch3_jax.noise.processes import Process
from ch3_jax.noise.samplers import Sampler, make_sampler, sample
from ch3_jax.numerics import masked_mean
from ch3_jax.objectives.objective import Objective, Shapes, Spread
from ch3_jax.policies import networks
from ch3_jax.policies.policy import Conditioned
from ch3_jax.probability.floors_denoising import Levels

_LEVELS = 128  # of the quadrature over continuous time
CLIPPED = ("ddpm", "ddim", "dpmpp_2m")  # samplers that pass through an estimate of the clean action


def denoising(
    shapes: Shapes,
    bins: object,
    *,
    width: int = 256,
    dtype=jnp.float32,
    network: str = networks.MLP,
    spread: Spread | None = None,
    prediction: str = "eps",
    sigma_max: float = 1.0,
    sampler: str = "ddpm",
    sampling_steps: int | None = None,
) -> Objective:
    """The chapter's denoising: the noise that was added at a level sigma ~ U[0.01, sigma_max].

    Args:
      shapes: what the network must fit.
      bins: not looked at.
      width, dtype, network: see `policies.networks`.
      spread: where the actions lie; None neither clips nor widens the start.
      prediction: eps or x0.
      sigma_max: at the chapter's 1 the noisiest action still holds half of its variance as signal, and no
        training takes away what sampling does not know there; see `noise.processes`.
      sampler, sampling_steps: see `noise.samplers`; 20 steps, and none of them for "adaptive".
    """
    del bins
    std = 1.0 if spread is None else spread.std
    process = processes.denoising(sigma_max=sigma_max, data_std=std)
    steps = steps_of(sampler, sampling_steps, 20)
    return _bound(shapes, process, prediction, sampler, steps, spread, width, dtype, network)


def ddpm(
    shapes: Shapes,
    bins: object,
    *,
    width: int = 256,
    dtype=jnp.float32,
    network: str = networks.MLP,
    spread: Spread | None = None,
    prediction: str = "eps",
    noise_schedule: str = "squaredcos_cap_v2",
    noise_steps: int = 100,
    match_std: bool = False,
    min_snr: float | None = None,
    allow_signal: bool = False,
    sampler: str = "ddpm",
    sampling_steps: int | None = None,
) -> Objective:
    """Denoising diffusion in steps, as Diffusion Policy and Octo train it.

    Args:
      shapes: what the network must fit.
      bins: not looked at.
      width, dtype, network: see `policies.networks`.
      spread: where the actions lie; None does not clip.
      prediction: eps, x0 or v.
      noise_schedule, noise_steps: of `noise.schedules`.
      match_std: scales the schedule to the actions' standard deviation.
      min_snr: gamma of the min-SNR weights; None weighs all steps alike.
      allow_signal: sample from pure noise although the schedule leaves signal at its end.
      sampler, sampling_steps: see `noise.samplers`; 20 steps, or as many as the schedule has.
    """
    del bins
    schedule = schedules.make_schedule(noise_schedule, noise_steps)
    if match_std and spread is not None:
        schedule = schedules.scaled_to_std(schedule, spread.std)
    process = processes.diffusion(schedule, allow_signal=allow_signal)
    steps = steps_of(sampler, sampling_steps, min(20, noise_steps))
    if min_snr is not None:  # refused here, not in the first step
        self_supervised.min_snr_weight(jnp.ones(()), min_snr, prediction)
    return _bound(shapes, process, prediction, sampler, steps, spread, width, dtype, network, min_snr)


def flow(
    shapes: Shapes,
    bins: object,
    *,
    width: int = 256,
    dtype=jnp.float32,
    network: str = networks.MLP,
    spread: Spread | None = None,
    prediction: str = "velocity",
    time_law: str = "uniform",
    time_direction: str = "noise_at_0",
    sampler: str = "euler",
    sampling_steps: int | None = None,
) -> Objective:
    """Flow matching on the straight line between noise and action.

    Args:
      shapes: what the network must fit.
      bins: not looked at.
      width, dtype, network: see `policies.networks`.
      spread: where the actions lie; None does not clip.
      prediction: velocity, x0, eps or v.
      time_law: uniform, pi0_beta or logit_normal, of the share of noise.
      time_direction: "noise_at_0" (the chapter's, pi0's paper) or "noise_at_1" (openpi, SmolVLA).
      sampler, sampling_steps: see `noise.samplers`; 10 steps, and none of them for "adaptive".
    """
    del bins
    process = paths.linear_path(time_direction, time_law=time_law)
    steps = steps_of(sampler, sampling_steps, 10)
    return _bound(shapes, process, prediction, sampler, steps, spread, width, dtype, network)


def angle(mix: Mix) -> Array:
    """How noisy, as the angle of (signal, noise): 0 clean, pi/2 pure noise.

    >>> round(float(angle(Mix(jnp.array(1.0), jnp.array(1.0)))), 4)
    0.7854
    """
    return jnp.arctan2(mix.noise, mix.signal).astype(jnp.float32)


def as_denoiser(
    policy: Conditioned, params: Params, observation: Array, prediction: str, process: Process
) -> Denoiser:
    """A network with its parameters and observations inside, as samplers see it.

    Args:
      policy: (params, observation, x, angle) -> prediction.
      params: its parameters.
      observation: (B, W, S).
      prediction: what it predicts.
      process: that it was trained on.
    """

    def apply(x: Array, t: Array) -> Array:
        mix = process.mix(t)
        return policy.apply(params, observation, scaled(x, mix), angle(mix))

    return Denoiser(apply, prediction, process)


def scaled(x: Array, mix: Mix) -> Array:
    """x over sqrt(a^2 + s^2): of variance 1 at every level where actions have it, so layers start alike."""
    size = jnp.sqrt(jnp.square(mix.signal) + jnp.square(mix.noise)).astype(x.dtype)
    return x / jnp.reshape(size, size.shape + (1,) * (x.ndim - size.ndim))


def steps_of(sampler: str, given: int | None, usual: int) -> int | None:
    """The steps of a sampler: those given, else the usual number, else none where it chooses its own."""
    return usual if given is None and sampler != "adaptive" else given


def bound_sampler(
    name: str, process: Process, steps: int | None, prediction: str, spread: Spread | None
) -> Sampler:
    """The sampler of a name, kept inside the data where it passes through an estimate of the clean action."""
    options = {} if spread is None or name not in CLIPPED else {"clip": (spread.low, spread.high)}
    return make_sampler(name, process, steps=steps, prediction=prediction, **options)


def regress(
    policy: Conditioned,
    params: Params,
    batch: Batch,
    key: Key,
    process: Process,
    prediction: str,
    gamma: float | None = None,
) -> Array:
    """Squared errors of the network at times drawn from the process, (B, H, A).

    Actions behind the end of an episode are taken as 0 before the noise comes on: what stands there must not
    reach the loss through the network's input either.
    """
    time_key, noise_key = jax.random.split(key)
    action = jnp.where(batch.mask[..., None], batch.action, 0)
    mix = process.mix(process.draw_time(time_key, action.shape[0]))
    eps = jax.random.normal(noise_key, action.shape, action.dtype)
    x = corrupt(action, eps, mix)
    predicted = policy.apply(params, batch.observation, scaled(x, mix), angle(mix))
    return self_supervised.ddpm(predicted, action, eps, mix, prediction=prediction, gamma=gamma)


def levels_of(process: Process, prediction: str, gamma: float | None = None) -> Levels:
    """The levels that a loss asks about, how often and with which weight: what its floor is averaged over.

    Args:
      process: of the training.
      prediction: of the network.
      gamma: of the min-SNR weights, or None.
    """
    if process.continuous:
        nodes, weights = np.polynomial.legendre.leggauss(_LEVELS)
        share, often = (nodes + 1) / 2, weights / 2
    else:
        total = int(process.highest) + 1
        share, often = (np.arange(total) + 0.5) / total, np.full(total, 1 / total)
    time = process.quantile(share)
    mix = process.mix(jnp.asarray(time, jnp.float32 if process.continuous else jnp.int32))
    one, none = jnp.ones(len(share)), jnp.zeros(len(share))
    c_x, c_e = target(prediction, one, none, mix), target(prediction, none, one, mix)
    gain = jnp.square(mix.signal * c_e - mix.noise * c_x)
    if gamma is not None:
        gain *= self_supervised.min_snr_weight(jnp.square(mix.signal / mix.noise), gamma, prediction)
    return Levels(*(np.asarray(x, np.float64) for x in (mix.signal, mix.noise, gain)), often)


def _bound(
    shapes: Shapes,
    process: Process,
    prediction: str,
    sampler: str,
    steps: int | None,
    spread: Spread | None,
    width: int,
    dtype,
    network: str,
    gamma: float | None = None,
) -> Objective:
    """Policy, process and sampler as an objective."""
    walk = bound_sampler(sampler, process, steps, prediction, spread)
    shape = (shapes.horizon, shapes.action)
    policy = networks.denoiser(network, (shapes.window, shapes.state), shape, width, dtype)

    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        losses = regress(policy, params, batch, key, process, prediction, gamma)
        per_dimension = masked_mean(losses, batch.mask, (0, 1))
        return masked_mean(losses, batch.mask), {"loss_per_dimension": per_dimension}

    def denoiser(params: Params, observation: Array) -> Denoiser:
        return as_denoiser(policy, params, observation, prediction, process)

    def act(params: Params, observation: Array, key: Key | None = None) -> Array:
        key = jax.random.key(0) if key is None else key
        return sample(walk, denoiser(params, observation), key, (observation.shape[0], *shape))

    return Objective(
        policy.init,
        loss,
        act,
        likeliest=False,
        samples=True,
        asked={"levels": levels_of(process, prediction, gamma)},
        denoiser=denoiser,
        sampler=walk,
    )
