"""The `Episode`: what one demonstration is, and what is known of its numbers.

A number without its name, unit, frame and rate cannot be checked by anybody, so a data set
carries them as `Facts` beside its episodes. Readers fill in what the files say and leave the
rest `None`: unknown is a value, a guess is not.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Episode:
    """One demonstration of T steps.

    Attributes:
      observation: (T, S) float32, the state vector in the units of `Facts`.
      action: (T, A) float32, raw: the numbers as they were recorded.
      timestamp: (T,) float64, seconds from the first step.
      images: camera name -> (T, height, width, 3) uint8; empty unless asked for.
      instruction: the language instruction, "" where there is none.
      source: where it was read, for messages: "episode_000012.parquet".
    """

    observation: np.ndarray
    action: np.ndarray
    timestamp: np.ndarray
    images: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    instruction: str = ""
    source: str = ""

    def __len__(self) -> int:
        return len(self.action)


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of a data set's numbers. `None` means: the files do not say.

    Attributes:
      name: of the data set.
      format: "rlds tfrecord", "rlds array_record", "zarr", "lerobot v2.1", "lerobot v3.0", "generated".
      observation_names: S names.
      action_names: A names.
      observation_units: S units ("rad", "m", "px", "1"), or None.
      action_units: A units, or None.
      action_meaning: "absolute joint position", "delta end-effector pose", ... or None.
      frame: the coordinate frame of Cartesian numbers, or None.
      rate_hz: control rate, or None.
      cameras: names of the image streams that the files hold.
      notes: true sentences about this set that its readers found, for the summary.
    """

    name: str
    format: str
    observation_names: tuple[str, ...]
    action_names: tuple[str, ...]
    observation_units: tuple[str, ...] | None = None
    action_units: tuple[str, ...] | None = None
    action_meaning: str | None = None
    frame: str | None = None
    rate_hz: float | None = None
    cameras: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set that can be streamed, one episode at a time, as often as one likes.

    Attributes:
      facts: names, units, rate.
      splits: split name -> function that starts a new pass over its episodes. A set without
        splits of its own has only "train".
    """

    facts: Facts
    splits: Mapping[str, Callable[[], Iterator[Episode]]]


@dataclasses.dataclass(frozen=True)
class Steps:
    """Many episodes laid end to end: what is put on the device.

    Attributes:
      observation: (N, S) float32, raw.
      action: (N, A) float32, raw.
      offset: (E + 1,) int64; episode e is rows offset[e] to offset[e + 1] - 1.
      timestamp: (N,) float64 seconds from each episode's first step, or None where pairs
        stand alone and time means nothing.
      sources: E names for messages, or None.
      instructions: E language instructions, or None.
    """

    observation: np.ndarray
    action: np.ndarray
    offset: np.ndarray
    timestamp: np.ndarray | None = None
    sources: tuple[str, ...] | None = None
    instructions: tuple[str, ...] | None = None

    @property
    def episodes(self) -> int:
        return len(self.offset) - 1

    def __len__(self) -> int:
        return len(self.action)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set in memory.

    Attributes:
      facts: names, units, rate.
      splits: split name -> `Steps`.
      extra: what a generator knows beyond the numbers (its noise, its map), by name.
    """

    facts: Facts
    splits: Mapping[str, Steps]
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)
