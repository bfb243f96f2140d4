"""The loss that no policy can beat, on data whose law is known.

A curve without its floor says little: 3.5 nats may be a solved task or a failed one. For the embedded
sets the law is known, and with it the minimum of the expected loss on fresh data:

  cross-entropy   mean entropy of the binned conditional
  squared error   noise variance, plus d^2/4 of the mean between two demonstrators
  absolute error  s sqrt(2/pi) for Gaussian noise

A training loss may pass it - that is memorising - a validation loss may only by luck.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ch3_jax.data.normalize import Normalizer
from ch3_jax.probability import floors
from ch3_jax.tokens.bins import Bins, encode


def floor(loss: str, extra: Mapping[str, Any], action: Normalizer, bins: Bins | None) -> float | None:
    """The smallest expected loss of a run, as the run measures it: a mean over action dimensions.

    Args:
      loss: name of the objective.
      extra: `Dataset.extra` of the set.
      action: normaliser of the actions.
      bins: of the normalised actions, for token losses.

    Returns:
      nats, or normalised units; None where the law is not known.
    """
    if "floor" in extra:
        return _linear_gaussian(loss, extra, action, bins)
    if "bins" in extra:
        return _random_bins(loss, extra, action, bins)
    return None


def _linear_gaussian(loss, extra, action, bins) -> float | None:
    law = {name: np.asarray(value) for name, value in extra["floor"].items()}
    gain = np.abs(np.asarray(action.gain, np.float64))
    if loss == "ce":
        # The outer bins take the tails, wherever they end: only the inner edges matter.
        edges = np.pad(np.asarray(bins.edge, np.float64)[:, 1:-1], ((0, 0), (1, 1)), mode="edge")
        edges = (edges - action.shift[:, None]) * action.scale[:, None] + action.offset[:, None]
        return float(np.mean(floors.cross_entropy_floor(edges, **law)))
    if loss == "mse":
        distance = np.ptp(law["offsets"], axis=1)
        return float(np.mean(floors.mse_floor(law["noise_std"] * gain, distance * gain)))
    if loss == "l1" and law["offsets"].shape[1] == 1:
        return float(np.mean(law["noise_std"] * gain) * math.sqrt(2 / math.pi))
    return None


def _random_bins(loss, extra, action, bins) -> float | None:
    """Actions independent of observations: the marginal's entropy, variance, or mean deviation."""
    centres = extra["low"] + (np.arange(extra["bins"]) + 0.5) * (extra["high"] - extra["low"]) / extra["bins"]
    values = (centres[:, None] - action.offset) * action.gain + action.shift
    if loss == "ce":
        tokens = np.asarray(encode(bins, values.astype(np.float32)))
        share = np.stack([np.bincount(t, minlength=bins.count) for t in tokens.T]) / len(centres)
        return float(-np.sum(share * np.log(np.where(share > 0, share, 1))) / len(share))
    if loss == "mse":
        return float(np.mean(np.var(values, axis=0)))
    if loss == "l1":
        return float(np.mean(np.abs(values - np.median(values, axis=0))))
    return None
