"""From a data set to what a training step reads: split, measured, normalised, on the device.

The statistics are those of the training split alone; validation is normalised with them and so is
every observation that the trained policy will ever see. They travel with the checkpoint.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ch3_jax.data import splits
from ch3_jax.data.episodes import Dataset, Facts, Steps
from ch3_jax.data.normalize import Normalizer, describe, make_normalizer
from ch3_jax.data.statistics import Statistics, of_array
from ch3_jax.data.windows import DeviceSteps, check_windows, to_device
from ch3_jax.errors import InputError

_VALIDATION = ("val", "valid", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Everything about the data that a run needs.

    Attributes:
      facts: names, units, rate.
      train, validation: normalised, on the device.
      observation, action: statistics of the raw training numbers.
      normalizers: "observation" and "action".
      warnings: sentences on dimensions that the normaliser's rule treats apart.
      extra: what a generator knows of its own law.
    """

    facts: Facts
    train: DeviceSteps
    validation: DeviceSteps
    observation: Statistics
    action: Statistics
    normalizers: Mapping[str, Normalizer]
    warnings: tuple[str, ...]
    extra: Mapping[str, Any]


def held_out(dataset: Dataset, share: float, seed: int) -> Dataset:
    """The data set with splits "train" and "val": its own where it has them, else cut by episode.

    Args:
      dataset: with a split "train" or just one split.
      share: of the episodes that become validation where there is no such split.
      seed: of the cut.

    Raises:
      InputError: no training split, a single episode, a share outside (0, 1).
    """
    own = next((name for name in _VALIDATION if name in dataset.splits), None)
    if "train" not in dataset.splits:
        raise InputError(
            f"{dataset.facts.name} has no split called train",
            got=", ".join(dataset.splits),
            expected="train, and perhaps " + " or ".join(_VALIDATION),
            cause="a folder that holds only the test part of a data set",
            fix="give the folder that holds the training part",
        )
    if own:
        parts = dataset.splits["train"], dataset.splits[own]
    else:
        parts = splits.split_by_episode(dataset.splits["train"], share, seed)
    return dataclasses.replace(dataset, splits=dict(zip(("train", "val"), parts, strict=True)))


def measure(steps: Steps, facts: Facts) -> tuple[Statistics, Statistics]:
    """Statistics of the raw observations and actions of a split."""
    return (
        of_array(steps.observation, facts.observation_names),
        of_array(steps.action, facts.action_names),
    )


def prepare(dataset: Dataset, *, rule: str = "zscore", window: int = 1, horizon: int = 1) -> Prepared:
    """Measures the training split and puts both splits on the device, normalised.

    Args:
      dataset: with splits "train" and "val", see `held_out`.
      rule: of the normalisers, see `ch3_jax.data.normalize`.
      window: W, observations that the policy sees.
      horizon: H, actions that it predicts.

    Raises:
      InputError: an episode shorter than the window; an unknown rule.
    """
    for steps in dataset.splits.values():
        check_windows(steps, window, horizon)
    observation, action = measure(dataset.splits["train"], dataset.facts)
    statistics = {"observation": observation, "action": action}
    normalizers = {name: make_normalizer(s, rule) for name, s in statistics.items()}
    device = {
        name: to_device(steps, normalizers["observation"], normalizers["action"])
        for name, steps in dataset.splits.items()
    }
    sentences = (f"{name} {text}" for name, s in statistics.items() for text in describe(s, rule))
    return Prepared(
        facts=dataset.facts,
        train=device["train"],
        validation=device["val"],
        observation=observation,
        action=action,
        normalizers=normalizers,
        warnings=tuple(sentences),
        extra=dataset.extra,
    )


def physical(normalizer: Normalizer, error: np.ndarray) -> np.ndarray:
    """An absolute error in normalised units, in the units of the data: (A,) times the scale."""
    return np.asarray(error) * np.abs(np.asarray(normalizer.scale))
