r"""Exponential moving averages of the parameters, and how fast they forget.

  ema <- d ema + (1 - d) theta

openpi keeps d constant (0.99); Diffusion Policy lets it grow with the number of updates,

  d(n) = min(0.9999, 1 - (1 + n)^{-3/4}),   0 for the first two updates,

so that the untrained start is forgotten. A constant 0.9999 evaluated after 1,000 steps still holds
90 % of the initial weights.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ch3_jax.base import Array, Params

Decay = Callable[[Array], Array]


def constant_decay(decay: float) -> Decay:
    """The same decay at every step.

    >>> float(constant_decay(0.5)(10))
    0.5
    """
    if not 0 <= decay < 1:
        raise ValueError(f"`decay` is {decay}, expected a number in [0, 1). Usual value: 0.99.")
    return lambda step: jnp.float32(decay)


def power_decay(power: float = 0.75, inverse_gamma: float = 1.0, maximum: float = 0.9999) -> Decay:
    """Diffusion Policy's warm-up of the decay.

    Args:
      power: how fast the decay approaches one.
      inverse_gamma: time scale in steps.
      maximum: bound of the decay.

    Returns:
      step -> decay, where step counts the updates made before this one.

    Reference: Chi et al. 2023, arXiv:2303.04137, their ema_model.py; equal to diffusers' `use_ema_warmup`.

    >>> [round(float(power_decay()(n)), 4) for n in (0, 1, 2, 10)]
    [0.0, 0.0, 0.4054, 0.8222]
    """

    def decay(step: Array) -> Array:
        # The peers' counter runs one behind: their step 1 still copies the weights.
        n = jnp.maximum(jnp.asarray(step, jnp.float32) - 1, 0)
        return jnp.clip(1 - (1 + n / inverse_gamma) ** -power, 0.0, maximum)

    return decay


def average(ema: Params, params: Params, decay: Array) -> Params:
    """One step of the average: decay * ema + (1 - decay) * params, leaf by leaf."""
    return jax.tree.map(lambda e, p: e + (1 - decay) * (p - e), ema, params)
