"""What the training loop needs of a loss, and what a loss needs to know of the data."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array, Batch, Key, Metrics, Params
from ch3_jax.data.normalize import Normalizer, normalize
from ch3_jax.data.statistics import Statistics
from ch3_jax.noise.denoiser import Denoiser
from ch3_jax.noise.samplers import Sampler


class Objective(NamedTuple):
    """A policy and its loss.

    Attributes:
      init: key -> params.
      loss: (params, batch, key) -> (scalar loss, metrics); `loss_per_dimension` (A,) is always there, `l1`
        (A,) in normalised units where there is a point prediction, and scalars of the loss's own, such as
        `accuracy`.
      act: (params, observation (B, W, S), key or None) -> action (B, H, A), normalised. With a key a sample
        where the model has a distribution; without one the most likely action, or for models that can only
        sample always the same sample.
      likeliest: whether there is a most likely action to be had.
      samples: whether a key makes a difference.
      unit: of the loss.
      asked: what the smallest possible loss depends on beside the data, for `ch3_jax.floors`.
      denoiser: (params, observation (B, W, S)) -> the network as samplers see it, for losses that denoise.
      sampler: how `act` goes from noise to action, for losses that denoise.
      logits: (params, observation (B, W, S)) -> (B, H, A, K) of the bins, for losses that classify.
    """

    init: Callable[[Key], Params]
    loss: Callable[[Params, Batch, Key], tuple[Array, Metrics]]
    act: Callable[[Params, Array, Key | None], Array]
    likeliest: bool = True
    samples: bool = False
    unit: str = "normalised units"
    asked: Mapping[str, Any] = {}
    denoiser: Callable[[Params, Array], Denoiser] | None = None
    sampler: Sampler | None = None
    logits: Callable[[Params, Array], Array] | None = None


class Shapes(NamedTuple):
    """What a network must fit.

    Attributes:
      window: W observations of `state` numbers each.
      horizon: H actions of `action` numbers each.
    """

    window: int
    state: int
    horizon: int
    action: int


class Spread(NamedTuple):
    """Where the normalised actions of the training data lie.

    Attributes:
      low, high: (A,) float32, their ends.
      std: () their standard deviation, root mean square over the dimensions that move.
    """

    low: np.ndarray
    high: np.ndarray
    std: float


def spread(action: Statistics, normalizer: Normalizer) -> Spread:
    """Where normalised actions lie, from the statistics of raw ones.

    Args:
      action: statistics of the training split.
      normalizer: of the actions.
    """
    ends = normalize(normalizer, jnp.asarray(np.stack([action.min, action.max]), jnp.float32))
    std = np.abs(np.asarray(normalizer.gain, np.float64)) * action.std
    moving = std[std > 0]
    ends = np.asarray(ends)
    return Spread(ends.min(0), ends.max(0), float(np.sqrt(np.mean(moving**2))) if moving.size else 1.0)
