"""A patient from the path of a data set alone.

Training refuses numbers that are not finite; a doctor is asked about such data, so they are read as they
are, and episodes that do not fit are left out and named.
"""

from pathlib import Path

import numpy as np

from ch3_jax.data.episodes import Dataset, Episode, Source, Steps
from ch3_jax.data.load import open_source
from ch3_jax.doctor.patient import Declared, Patient
from ch3_jax.errors import InputError


def patient_of_data(path: str | Path, declared: Declared | None = None) -> Patient:
    """The data set in a folder, as a patient.

    Args:
      path: a folder that `ch3_jax.data.load` reads: RLDS, zarr, LeRobot.
      declared: what the person says of it.

    Returns:
      A `Patient` with `dataset`, named after it.

    Raises:
      InputError: no such folder, an unknown format, no episode that can be read.
    """
    dataset = gather_as_is(open_source(path))
    return Patient(dataset.facts.name, dataset=dataset, declared=declared or Declared())


def gather_as_is(source: Source) -> Dataset:
    """All episodes of a source, finite or not.

    Args:
      source: any `Source`.

    Returns:
      A `Dataset`; its `extra["left_out"]` names episodes whose length or width does not fit the others.

    Raises:
      InputError: not one episode that can be used.
    """
    splits, left_out, width = {}, [], None
    for name, episodes in source.splits.items():
        kept = []
        for index, episode in enumerate(episodes()):
            mine = (episode.observation.shape[1:], episode.action.shape[1:])
            width = mine if width is None and len(episode) else width
            if not len(episode) or len(episode.observation) != len(episode.action) or mine != width:
                left_out.append(f"episode {index} of split {name}")
                continue
            kept.append(episode)
        if kept:
            splits[name] = _end_to_end(kept)
    if not splits:
        raise InputError(
            f"{source.facts.name} holds no episode that can be examined",
            got=f"{len(left_out)} episodes without steps or of differing width",
            expected="at least one episode with one observation and one action per step",
            cause="a recording that was never written",
            fix="check the folder with the tool that recorded it",
        )
    return Dataset(source.facts, splits, {"left_out": tuple(left_out)} if left_out else {})


def _end_to_end(episodes: list[Episode]) -> Steps:
    time = np.concatenate([np.asarray(e.timestamp, np.float64) for e in episodes])
    return Steps(
        observation=np.concatenate([e.observation for e in episodes]).astype(np.float32, copy=False),
        action=np.concatenate([e.action for e in episodes]).astype(np.float32, copy=False),
        offset=np.concatenate([[0], np.cumsum([len(e) for e in episodes])]).astype(np.int64),
        timestamp=None if np.isnan(time).all() else time,
        sources=tuple(e.source for e in episodes),
        instructions=tuple(e.instruction for e in episodes) if any(e.instruction for e in episodes) else None,
    )
