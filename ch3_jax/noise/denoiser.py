"""A trained network as a sampler sees it: a function, and what it was trained to say.

A sampler that takes a velocity for a noise, or runs time backwards, produces actions of a plausible size and
no meaning. So the network carries what it was trained with, and every sampler compares before it starts.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from ch3_jax import checks
from ch3_jax.base import Array
from ch3_jax.errors import InputError
from ch3_jax.noise.processes import Process


class Denoiser(NamedTuple):
    """A network, conditioned on its observation already.

    Attributes:
      apply: (x (B, ...), t (B,)) -> prediction of the shape of x. t is int32 for a diffusion, else of x's
        dtype.
      prediction: what it predicts: "eps", "x0", "v" or "velocity".
      process: the process that it was trained on.
    """

    apply: Callable[[Array, Array], Array]
    prediction: str
    process: Process

    def at(self, x: Array, t: Array) -> Array:
        """The prediction at one time for the whole batch; refuses an output that is not of the shape of x."""
        dtype = x.dtype if self.process.continuous else jnp.int32
        predicted = self.apply(x, jnp.broadcast_to(jnp.asarray(t, dtype), x.shape[:1]))
        checks.shapes(
            "the network must return one number for each of the action's",
            x=(x, "..."),
            prediction=(predicted, "..."),
        )
        return predicted


def require_same(denoiser: Denoiser, process: Process, prediction: str) -> None:
    """Refuses a sampler made for another direction of time, process or prediction than the network.

    Raises:
      InputError: they differ.
    """
    trained = denoiser.process
    if trained.direction != process.direction:
        raise InputError(
            "`sampler` walks time in another direction than the network was trained in",
            got=f"{process.direction} ({process.name})",
            expected=f"{trained.direction} ({trained.name})",
            cause="openpi's convention on one side, the paper's on the other",
            fix=f'make the sampler for the training\'s process, direction "{trained.direction}"',
        )
    if trained.name != process.name:
        raise InputError(
            "`sampler` belongs to another noise process than the network",
            got=process.name,
            expected=trained.name,
            cause="a schedule or a number of training steps that changed between training and sampling",
            fix="make the sampler for the process of the training",
        )
    if denoiser.prediction != prediction:
        raise InputError(
            "`sampler` reads another prediction than the network makes",
            got=prediction,
            expected=denoiser.prediction,
            cause="an option of training that sampling was not told",
            fix=f'make_sampler(..., prediction="{denoiser.prediction}")',
        )
