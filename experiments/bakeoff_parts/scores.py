"""Predictions against the demonstrators, observation by observation.

The sets are made by a known law, action = M observation + offset + s n (`ch3_jax.data.synthetic`), so the
true conditional can be drawn from at every held-out observation. A predictor's cloud of predictions is
compared with it in the raw unit, N m:

| score | what |
| --- | --- |
| spread | standard deviation over the predictions for one observation, dimension 0; 0 for one answer |
| modes | share of the observations where every mode holds a tenth of the predictions within 3 s |
| valley | share of the predictions in the middle quarter of the gap between the modes |
| energy | energy distance of whole actions, unbiased, so that 0 is the truth |
| wasserstein | 1-Wasserstein distance in dimension 0 |
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.data.episodes import Dataset
from ch3_jax.evaluation.distances import energy_distance, mode_shares, valley_share, wasserstein_1
from experiments.bakeoff_parts.plan import DRAWN, SHOWN, Settings

LEAST = 0.1  # of the predictions, for a mode to count as recovered; each of two holds half in truth
_REACH, _MIDDLE = 3.0, 0.25
_DRAWS = 200  # of the truth per observation


class Truth(NamedTuple):
    """The demonstrators' law at O held-out observations.

    Attributes:
      observation: (O, S) raw.
      mean: (O, A) action without offset and noise.
      offsets: (M,) of dimension 0.
      noise: s.
      draws: (O, n, A) fresh actions.
    """

    observation: np.ndarray
    mean: np.ndarray
    offsets: np.ndarray
    noise: float
    draws: np.ndarray


def make_truth(dataset: Dataset, observations: int, seed: int, draws: int = _DRAWS) -> Truth:
    """The law at the first held-out observations.

    Args:
      dataset: of `synthetic.inverse_dynamics`.
      observations: O, at most the held-out pairs.
      seed: of the draws.
      draws: n.
    """
    observation = np.asarray(dataset.splits["val"].observation[:observations], np.float64)
    mean = observation @ np.asarray(dataset.extra["map"]).T
    offsets = np.unique(dataset.extra["floor"]["offsets"][0])
    law = Truth(observation.astype(np.float32), mean, offsets, float(dataset.extra["noise"]), mean)
    return law._replace(draws=_drawn(law, draws, seed))


def fresh(truth: Truth, settings: Settings) -> np.ndarray:
    """(O, n, A) actions of the demonstrators that no model is compared with: what a perfect one would do."""
    return _drawn(truth, settings.predictions, settings.seed + 1)


def pictured(truth: Truth) -> dict[str, np.ndarray]:
    """What the picture needs of the law in dimension 0, at the first observations."""
    return {
        "offsets": truth.offsets,
        "noise": np.array(truth.noise),
        "mean": truth.mean[:SHOWN, 0],
        "draws": truth.draws[:SHOWN, :DRAWN, 0],
    }


def _drawn(truth: Truth, count: int, seed: int) -> np.ndarray:
    """(O, count, A) actions of the law."""
    rng = np.random.default_rng([seed, len(truth.offsets)])
    actions = truth.mean[:, None] + truth.noise * rng.standard_normal(
        (len(truth.mean), count, truth.mean.shape[1])
    )
    actions[..., 0] += rng.choice(truth.offsets, actions.shape[:2])
    return actions.astype(np.float32)


def score(truth: Truth, predictions: np.ndarray) -> dict[str, Any]:
    """The scores of one predictor.

    Args:
      truth: at O observations.
      predictions: (O, n, A) raw, n of 2 or more.

    Returns:
      Floats by name; `valley` is None where there is one mode.
    """
    first = predictions[..., 0] - truth.mean[:, None, 0]
    # Differences from the first: of equal answers the spread is 0, not rounding.
    apart = predictions[..., 0] - predictions[:, :1, 0]
    modes = jnp.asarray(truth.offsets, jnp.float32)
    radius = _REACH * truth.noise
    shares = jax.vmap(lambda x: mode_shares(x, modes, radius))(jnp.asarray(first, jnp.float32))
    valley = None
    if len(truth.offsets) > 1:
        middle, half = np.mean(truth.offsets), _MIDDLE * np.ptp(truth.offsets) / 2
        valley = float(valley_share(jnp.ravel(jnp.asarray(first)), middle - half, middle + half))
    energy, moved = _distances(jnp.asarray(predictions), jnp.asarray(truth.draws))
    return {
        "spread": float(apart.std(axis=1).mean()),
        "modes": float(np.mean(np.all(np.asarray(shares) >= LEAST, axis=1))),
        "valley": valley,
        "energy": float(energy),
        "wasserstein": float(moved),
    }


@jax.jit
def _distances(predictions: jax.Array, draws: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Means over the observations, one after another: all at once would be gigabytes of differences."""

    def one(pair):
        x, y = pair
        return energy_distance(x, y, unbiased=True), wasserstein_1(x[:, 0], y[:, 0])

    energy, moved = jax.lax.map(one, (predictions, draws))
    return jnp.mean(energy), jnp.mean(moved)
