"""The `Patient`: everything that is known of one run, every part optional but its name.

A person with a run folder knows all of it, a person with a CSV of losses one part, and the doctor examines
what there is. Functions are anybody's: the doctor only calls them, so Flax, Equinox and plain JAX look alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ch3_jax.base import Array, Batch, Key, Params
from ch3_jax.data.episodes import Dataset

if TYPE_CHECKING:
    import optax

    from ch3_jax.data.normalize import Normalizer
    from ch3_jax.data.statistics import Statistics
    from ch3_jax.doctor.history import History
    from ch3_jax.noise.denoiser import Denoiser
    from ch3_jax.noise.processes import Process
    from ch3_jax.noise.samplers import Sampler
    from ch3_jax.tokens.bins import Bins

FAMILIES = ("supervised", "reinforcement", "diffusion", "flow")


@dataclasses.dataclass(frozen=True)
class Declared:
    """What the person says about the run; None means: not said, and nothing is assumed.

    Attributes:
      family: one of `FAMILIES`.
      rate_hz: control rate.
      units: A units of the action dimensions ("rad", "deg", "m", "1").
      action_meaning: "absolute joint position", "delta end-effector pose", ... in any words.
      frozen: prefixes of parameter paths that are meant to stand still: ("encoder/",).
      delay_steps: known steps from a command to the first motion of the robot.
      camera_delay_steps: known steps by which images are late, because of exposure and transfer.
      loss_name: "ce", "mse", "l1", "gaussian_nll", "denoising", "flow", ...
      batch_size: samples of an update.
      steps: planned updates.
      steps_per_epoch: updates of one pass over the data.
      bins: of the normalised actions, or their number; None without tokens.
      learning_rate: peak rate.
      schedule: step -> learning rate.
      resumed_at: steps at which the run was resumed.
      clip: bound of the gradient's global norm.
      ema_decay: of the averaged parameters, None without.
      dtype: of the stored parameters, where the person says it: "float32", "bfloat16".
    """

    family: str | None = None
    rate_hz: float | None = None
    units: tuple[str, ...] | None = None
    action_meaning: str | None = None
    frozen: tuple[str, ...] = ()
    delay_steps: int | None = None
    camera_delay_steps: int | None = None
    loss_name: str | None = None
    batch_size: int | None = None
    steps: int | None = None
    steps_per_epoch: int | None = None
    bins: Bins | int | None = None
    learning_rate: float | None = None
    schedule: Callable[[int], float] | None = None
    resumed_at: tuple[int, ...] = ()
    clip: float | None = None
    ema_decay: float | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        if self.family is not None and self.family not in FAMILIES:
            raise ValueError(f"`family` is {self.family!r}, expected one of {FAMILIES}.")


@dataclasses.dataclass(frozen=True)
class Patient:
    """One run, or a part of one.

    Attributes:
      name: of the run or data set, as given: it may hold anything, and every report escapes it.
      dataset: episodes, raw numbers in the units of the data.
      batches: step -> the batch that the run sees at that step, normalised, as the loss takes it.
      init: key -> parameters before the first step.
      loss: (params, batch, key) -> scalar, or (scalar, metrics).
      optimizer: of the run.
      params: of the trained run, or at the step where it stands.
      ema: averaged parameters that are evaluated in place of `params`.
      opt_state: of the optimizer beside `params`; None where it was not kept.
      act: (params, observation (B, W, S) normalised, key or None) -> action (B, H, A) normalised.
      serve: observation (B, W, S) raw -> action (B, H, A) in the units of the data, as deployed.
      denoiser: of a noise model, conditioned on one observation or on none.
      process: the noise process that the sampler walks.
      sampler: that turns noise into actions.
      history: of metrics over steps.
      rewards: (episodes,) or (episodes, T) returns or rewards, in the order of training.
      success: (episodes,) an independent measure of success, in the same order.
      normalizers: "observation" and "action" -> the map that the run applies.
      statistics: "observation" and "action" -> the numbers that the run stores and serves with.
      floor: the lowest loss that any policy can reach on these data.
      declared: what the person says.
      extra: arrays that only some checks know: "terminated", "value_targets", "images", ...
    """

    name: str
    dataset: Dataset | None = None
    batches: Callable[[int], Batch] | None = None
    init: Callable[[Key], Params] | None = None
    loss: Callable[[Params, Batch, Key], Array | tuple[Array, Any]] | None = None
    optimizer: optax.GradientTransformation | None = None
    params: Params | None = None
    ema: Params | None = None
    opt_state: Any | None = None
    act: Callable[[Params, Array, Key | None], Array] | None = None
    serve: Callable[[Array], Array] | None = None
    denoiser: Denoiser | None = None
    process: Process | None = None
    sampler: Sampler | None = None
    history: History | None = None
    rewards: np.ndarray | None = None
    success: np.ndarray | None = None
    normalizers: Mapping[str, Normalizer] | None = None
    statistics: Mapping[str, Statistics] | None = None
    floor: float | None = None
    declared: Declared = dataclasses.field(default_factory=Declared)
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)
