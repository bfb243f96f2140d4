"""The loss that no policy can beat, on data whose law is known.

A curve without its floor says little: 3.5 nats may be a solved task or a failed one. For the embedded
sets the law is known, and with it the minimum of the expected loss on fresh data:

| loss | floor, mean over action dimensions | |
| --- | --- | --- |
| ce | entropy of the binned conditional | `probability.floors` |
| mse | noise variance, plus d^2/4 between two demonstrators | `probability.floors` |
| l1, huber | of the conditional median, of Huber's centre | `probability.floors_errors` |
| gmm | differential entropy of the conditional | `probability.floors_errors` |
| cvae | rate-distortion function at the slope beta | `probability.floors_latent` |
| denoising, ddpm, flow | posterior variance of the target over all levels | `probability.floors_denoising` |
| consistency | the flow's: a perfect student adds nothing | `probability.floors_denoising` |
| infonce | of the true density ratio against as many strangers | `probability.floors_contrastive` |

A training loss may pass it - that is memorising - a validation loss may only by luck.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ch3_jax.data.normalize import Normalizer
from ch3_jax.probability import floors, floors_contrastive, floors_denoising, floors_errors, floors_latent
from ch3_jax.tokens.bins import Bins, encode


def floor(
    loss: str,
    extra: Mapping[str, Any],
    action: Normalizer,
    bins: Bins | None,
    asked: Mapping[str, Any] | None = None,
) -> float | None:
    """The smallest expected loss of a run, as the run measures it: a mean over action dimensions.

    Args:
      loss: name of the objective.
      extra: `Dataset.extra` of the set.
      action: normaliser of the actions.
      bins: of the normalised actions, for token losses.
      asked: `Objective.asked`, for losses with settings that their floor depends on.

    Returns:
      nats, or normalised units; None where the law is not known, or where it has no lower end.
    """
    if "floor" in extra:
        return _linear_gaussian(loss, extra, action, bins, asked or {})
    if "bins" in extra:
        return _random_bins(loss, extra, action, bins, asked or {})
    return None


def _linear_gaussian(loss, extra, action, bins, asked) -> float | None:
    law = {name: np.asarray(value) for name, value in extra["floor"].items()}
    gain = np.abs(np.asarray(action.gain, np.float64))
    if loss == "ce":
        # The outer bins take the tails, wherever they end: only the inner edges matter.
        edges = np.pad(np.asarray(bins.edge, np.float64)[:, 1:-1], ((0, 0), (1, 1)), mode="edge")
        edges = (edges - action.shift[:, None]) * action.scale[:, None] + action.offset[:, None]
        return float(np.mean(floors.cross_entropy_floor(edges, **law)))
    std, offsets = law["noise_std"] * gain, law["offsets"] * gain[:, None]
    if loss == "mse":
        return float(np.mean(floors.mse_floor(std, np.ptp(offsets, axis=1))))
    one = _of_dimension(loss, asked, offsets, std)
    if one is None:
        return None
    return float(np.mean([one(s, o, d) for d, (s, o) in enumerate(zip(std, offsets, strict=True))]))


def _of_dimension(
    loss: str, asked: Mapping[str, Any], offsets: np.ndarray, std: np.ndarray
) -> Callable[[float, np.ndarray, int], float] | None:
    """(std, offsets, dimension) -> the floor of that dimension; None where there is none."""
    if loss == "l1":
        return lambda s, o, d: floors_errors.absolute_error_floor(s, o)
    if loss == "huber" and "huber_delta" in asked:
        return lambda s, o, d: floors_errors.huber_floor(s, o, asked["huber_delta"])
    if not (std > 0).all():  # the losses below ask how likely an action is, or describe it exactly
        return None
    if loss == "gmm" and asked.get("components", 0) >= max(len(np.unique(o)) for o in offsets):
        return (lambda s, o, d: floors_errors.density_floor(s, o)) if std.min() > asked["narrowest"] else None
    if loss == "cvae" and "beta" in asked:
        return lambda s, o, d: floors_latent.latent_floor(len(std) * asked["beta"], s, o)
    if loss == "infonce" and "negatives" in asked:
        width, count = np.asarray(asked["width"], np.float64), asked["negatives"]
        return lambda s, o, d: floors_contrastive.contrastive_floor(s, o, width[d], count)
    if "levels" in asked:
        return lambda s, o, d: floors_denoising.denoising_floor(asked["levels"], s, o)
    return None


def _random_bins(loss, extra, action, bins, asked) -> float | None:
    """Actions independent of observations: what the marginal alone leaves."""
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
    if loss == "huber" and "huber_delta" in asked:
        delta = asked["huber_delta"]
        return float(
            np.mean([floors_errors.atoms_floor(v, lambda x: floors_errors.huber(x, delta)) for v in values.T])
        )
    if loss == "cvae" and "beta" in asked:
        slope = values.shape[1] * asked["beta"]
        return float(np.mean([floors_latent.atoms_latent_floor(slope, v) for v in values.T]))
    if "levels" in asked:
        gain = np.asarray(action.gain, np.float64)
        return float(np.mean(floors_denoising.atoms_denoising_floor(asked["levels"], centres, gain)))
    # A density of single values, or their ratio to one, has no upper end: gmm and infonce have no floor.
    return None
