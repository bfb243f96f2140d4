"""The `Run`: all that decides a small training, as one record of plain values.

A fault is a function Run -> Run, so whatever a fault may touch is a field here: the data, the numbers that
normalise them, the loss, the optimizer, the order, the sampler, and what is done when the policy is served.
Code is named, not carried: ("flip_gradient", 1.0) is looked up in `changes`, so two runs with equal
fields share one compiled program.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ch3_jax.data.episodes import Dataset

Change = tuple[str, float]
"""(name in `changes`, its one number)."""


class Run(NamedTuple):
    """A training of SmallPolicy.

    Attributes:
      dataset: with splits "train" and "val", as the run sees it, raw.
      loss: name of an objective.
      options: (name, value) of that objective.
      acting: options of the objective that acts, where they differ from those of training.
      normalize: rule of the normalisers.
      measured: the data that the statistics come from; None for `dataset`.
      window: W, observations that the policy sees.
      horizon: H, actions that it predicts.
      width: D of the hidden layers.
      bins: K, over [-1, 1]; only token losses look at it.
      batch_size: B.
      steps: updates, a multiple of `every`.
      every: updates between two rows of the history.
      learning_rate: after the warm-up.
      warmup: steps of linear rise.
      clip: bound of the global norm; None for none.
      ema: decay of the averaged parameters, which are then the ones that act; None for none.
      seed: of parameters, order and noise.
      order: "shuffled" anew in each epoch, or "sequential".
      changes: of the loss, innermost first.
      optimizer_changes: of the optimizer, innermost first.
      reset_at: the step at which the run is resumed with a fresh optimizer; None where it is not.
      served: done to (raw observation, action in physical units) when the policy is served.
      declared: facts that the run states about itself, by the names of the doctor's `Declared`.
      floor: the smallest expected loss, where it is known.
    """

    dataset: Dataset
    loss: str = "mse"
    options: tuple[tuple[str, Any], ...] = ()
    acting: tuple[tuple[str, Any], ...] = ()
    normalize: str = "identity"
    measured: Dataset | None = None
    window: int = 1
    horizon: int = 1
    width: int = 256
    bins: int = 64
    batch_size: int = 64
    steps: int = 2_000
    every: int = 100
    learning_rate: float = 1e-3
    warmup: int = 0
    clip: float | None = None
    ema: float | None = None
    seed: int = 0
    order: str = "shuffled"
    changes: tuple[Change, ...] = ()
    optimizer_changes: tuple[Change, ...] = ()
    reset_at: int | None = None
    served: tuple[Change, ...] = ()
    declared: Mapping[str, Any] = {}
    floor: float | None = None
