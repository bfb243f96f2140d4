r"""Angles that wrap, as sine and cosine: what a network sees must not jump where the robot turns on.

  \theta in [0, 2 pi)   ->   \sin\theta, \cos\theta

A column of an observation is taken for such an angle where it fills a whole turn and jumps by almost one
between neighbouring steps, in radians or degrees; a joint within its limits does neither and stays as it is.
Push-T's block is one: 91 jumps inside 206 demonstrations. Actions are left alone: a policy that answers in
sine and cosine answers in numbers that are no angle.

Reference: Zhou et al. 2019, arXiv:1812.07035 (continuity of representations of rotation).
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ch3_jax.data.episodes import Dataset, Steps
from ch3_jax.data.statistics import Statistics, from_json, of_array

PERIODS = (2 * math.pi, 360.0)
_FILLED, _SLACK, _JUMP, _MIDDLING, _ODD = 0.8, 1.01, 0.75, 0.25, 0.2


class Turns(NamedTuple):
    """Which columns of an observation are angles, and what the raw observation was like.

    Attributes:
      columns: of the raw observation, ascending.
      periods: of a whole turn, in the units of each.
      raw: statistics of the raw observation, with its names.
    """

    columns: tuple[int, ...]
    periods: tuple[float, ...]
    raw: Statistics

    def to_json(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {
            "columns": list(self.columns),
            "periods": list(self.periods),
            "raw": self.raw.to_json(),
        }


def turns_of(record: dict[str, Any]) -> Turns:
    """The `Turns` that `Turns.to_json` wrote."""
    return Turns(tuple(record["columns"]), tuple(record["periods"]), from_json(record["raw"]))


def jumps(values: np.ndarray, inside: np.ndarray) -> dict[int, tuple[float, np.ndarray]]:
    """Columns that wrap.

    Args:
      values: (N, D).
      inside: (N - 1,) whether a step and the next are of one episode.

    Returns:
      column -> (period, (N - 1,) bool, where it jumps by almost a whole turn).
    """
    found = {}
    extent = np.ptp(values, axis=0)
    for period in PERIODS:
        for j in np.flatnonzero((extent > _FILLED * period) & (extent <= _SLACK * period)):
            jump = np.abs(np.diff(values[:, j])) * inside
            whole = jump > _JUMP * period
            middling = (jump > _MIDDLING * period) & ~whole
            # A column that jumps by anything is noise, not an angle that wraps.
            if whole.any() and middling.sum() <= _ODD * whole.sum():
                found[int(j)] = period, whole
    return found


def find(steps: Steps, names: tuple[str, ...]) -> Turns:
    """The angles that wrap in the observations of a split; perhaps none."""
    values = np.asarray(steps.observation, np.float64)
    inside = np.ones(max(len(values) - 1, 0), bool)
    inside[np.asarray(steps.offset[1:-1]) - 1] = False
    found = jumps(values, inside)
    columns = tuple(sorted(found))
    return Turns(columns, tuple(found[j][0] for j in columns), of_array(steps.observation, names))


def encode(turns: Turns | None, observation):
    """Each angle's column becomes two, its sine and its cosine, in the same place.

    Args:
      turns: None or without columns changes nothing.
      observation: (..., S), of numpy or JAX.

    Returns:
      (..., S + number of angles).

    >>> raw = Statistics(("x", "angle"), 0, *[np.zeros(2)] * 9)
    >>> encode(Turns((1,), (360.0,), raw), np.array([[5.0, 90.0]])).round(6).tolist()
    [[5.0, 1.0, 0.0]]
    """
    if turns is None or not turns.columns:
        return observation
    xp = np if isinstance(observation, np.ndarray) else jnp
    parts, begin = [], 0
    for column, period in zip(turns.columns, turns.periods, strict=True):
        angle = observation[..., column : column + 1] * (2 * math.pi / period)
        parts += [observation[..., begin:column], xp.sin(angle), xp.cos(angle)]
        begin = column + 1
    return xp.concatenate([*parts, observation[..., begin:]], axis=-1)


def encoded(dataset: Dataset, turns: Turns) -> Dataset:
    """A data set whose observations are encoded, with names and units to match; `extra["turns"]` says how."""
    facts = dataset.facts
    units = facts.observation_units
    splits = {
        name: dataclasses.replace(
            steps, observation=encode(turns, np.asarray(steps.observation)).astype(np.float32)
        )
        for name, steps in dataset.splits.items()
    }
    facts = dataclasses.replace(
        facts,
        observation_names=_named(turns, facts.observation_names, ("{}_sin", "{}_cos")),
        observation_units=None if units is None else _named(turns, units, ("1", "1")),
    )
    return dataclasses.replace(dataset, facts=facts, splits=splits, extra={**dataset.extra, "turns": turns})


def _named(turns: Turns, names: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    words = []
    for j, name in enumerate(names):
        words += [p.format(name) for p in pair] if j in turns.columns else [name]
    return tuple(words)
