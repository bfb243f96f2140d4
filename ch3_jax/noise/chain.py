r"""Denoising as a chain of Gaussian steps, so that what was drawn has a likelihood.

  x_{k+1} ~ N(a' x_0 + \sqrt{s'^2 - \eta^2 V} \epsilon, \max(\eta \sqrt V, \sigma_{min})^2),  k = 0 .. K-1

with both ends x_0 and \epsilon from the network at x_k. \eta = 1 is DDPM, 0 is DDIM, which for a flow is
Euler's method. The action itself has no likelihood in closed form, but each step has one: a policy gradient
through them is one through a K times longer episode. Without \sigma_{min} the last step, and every one of a
flow, would be deterministic: nothing to explore with, and a ratio of densities that do not exist.

Reference: Ren et al. 2024, arXiv:2409.00588 (DPPO), section 4 and their lower bounds of the deviation.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array, Key
from ch3_jax.errors import InputError
from ch3_jax.noise.corruption import Mix, ends, per_sample, posterior
from ch3_jax.noise.denoiser import Denoiser
from ch3_jax.noise.processes import Process

HALF_LOG_2PI = 0.5 * float(np.log(2 * np.pi))


class Chain(NamedTuple):
    """K steps from noise to action.

    Attributes:
      steps: K.
      start: (key, shape) -> x_0.
      mean: (denoiser, x (B, ...), k (B,) int32) -> (B, ...) mean of x_{k+1}.
      std: (K,) float32.
    """

    steps: int
    start: Callable[[Key, tuple[int, ...]], Array]
    mean: Callable[[Denoiser, Array, Array], Array]
    std: np.ndarray


def make_chain(
    process: Process,
    steps: int,
    *,
    eta: float = 1.0,
    smallest: float = 0.1,
    clip: tuple[np.ndarray, np.ndarray] | None = None,
) -> Chain:
    """A chain over the times that a sampler of `steps` steps visits.

    Args:
      process: of the training.
      steps: K.
      eta: 0 to 1.
      smallest: sigma_min above 0, in normalised units; 0.1 in DPPO.
      clip: (A,) ends that estimates of the clean action are kept in, or None.

    Raises:
      InputError: a number outside of its range.
    """
    if not (0 <= eta <= 1 and 0 < smallest < np.inf):
        raise InputError(
            "a chain needs eta in [0, 1] and a smallest deviation above 0",
            got=f"eta={eta}, smallest={smallest}",
            expected="1 and 0.1, as DPPO",
            cause="a step without noise has no likelihood",
            fix="smallest=0.1",
        )
    grid = process.grid(steps)
    now, later = Mix(grid.signal[:-1], grid.noise[:-1]), Mix(grid.signal[1:], grid.noise[1:])
    fresh = eta * np.sqrt(np.maximum(posterior(now, later).variance, 0))
    kept = np.sqrt(np.maximum(later.noise**2 - fresh**2, 0))
    table = {
        "time": grid.time[:-1],
        "signal": now.signal,
        "noise": now.noise,
        "next_signal": later.signal,
        "kept": kept,
    }
    table = {name: jnp.asarray(row, jnp.float32) for name, row in table.items()}

    def mean(denoiser: Denoiser, x: Array, k: Array) -> Array:
        row = {name: values[k] for name, values in table.items()}
        time = row["time"].astype(x.dtype if process.continuous else jnp.int32)
        mix = Mix(row["signal"], row["noise"])
        if denoiser.prediction == "velocity":
            mix = process.mix(time)
        found = ends(denoiser.prediction, denoiser.apply(x, time), x, mix)
        x0 = found.x0
        if clip is not None:
            x0 = jnp.clip(x0, *(jnp.broadcast_to(jnp.asarray(end, x0.dtype), x0.shape) for end in clip))
        return per_sample(row["next_signal"], x) * x0 + per_sample(row["kept"], x) * found.eps

    return Chain(steps, process.start, mean, np.maximum(fresh, smallest).astype(np.float32))


def walk(chain: Chain, denoiser: Denoiser, x: Array, noise: Array) -> Array:
    """All states of a chain.

    Args:
      chain, denoiser: who walks.
      x: (B, ...) from `chain.start`.
      noise: (K, B, ...) standard normal; zeros walk along the means.

    Returns:
      (K + 1, B, ...), the last one is the action.
    """
    std = jnp.asarray(chain.std)

    def step(x, given):
        k, n = given
        x = chain.mean(denoiser, x, jnp.broadcast_to(k, x.shape[:1])) + std[k] * n
        return x, x

    _, states = jax.lax.scan(step, x, (jnp.arange(chain.steps), noise))
    return jnp.concatenate([x[None], states])


def log_prob(chain: Chain, denoise: Callable[[int], Denoiser], states: Array) -> Array:
    """Log-density of each step of walked chains, one call of the network for all of them.

    Args:
      chain: that walked.
      denoise: K -> the network for K copies of the B observations, all of the first copy first.
      states: (K + 1, B, ...) from `walk`.

    Returns:
      (B, K) nats.
    """
    steps, count = chain.steps, states.shape[1]
    before, after = states[:-1], states[1:]
    flat = jnp.reshape(before, (-1, *before.shape[2:]))
    means = chain.mean(denoise(steps), flat, jnp.repeat(jnp.arange(steps), count))
    std = jnp.reshape(jnp.asarray(chain.std), (-1,) + (1,) * (states.ndim - 1))
    z = (after - jnp.reshape(means, after.shape)) / std
    each = -0.5 * jnp.square(z) - jnp.log(std) - HALF_LOG_2PI
    return jnp.sum(jnp.reshape(each, (steps, count, -1)), -1).T
