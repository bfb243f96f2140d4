"""A data set as the LeRobot folder that a recorder would have left, with all that is wrong in it.

The project's writer computes times from the rate and does not write what JSON cannot hold, as is right for
data that somebody will train on. Here the folder is evidence: the measured times go in, so that a gap where
frames are missing can be seen, and so do numbers that are not finite; `meta/stats.json` takes them for 0.
"""

import dataclasses
from pathlib import Path

import numpy as np

from ch3_jax.data.episodes import Dataset, Steps
from ch3_jax.data.lerobot_writer import write_lerobot


def write_recording(dataset: Dataset, folder: Path) -> Path:
    """Writes a LeRobot v3.0 folder that holds the data set as it is.

    Args:
      dataset: with a rate.
      folder: must not be there yet.

    Returns:
      `folder`.

    Raises:
      InputError: no rate, no steps, a folder that is there, pyarrow missing.
    """
    finite = {name: _finite(part) for name, part in dataset.splits.items()}
    write_lerobot(dataclasses.replace(dataset, splits=finite), folder)
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns, done = _as_measured(dataset), 0
    for path in sorted((folder / "data").rglob("*.parquet")):
        table = pq.read_table(path)
        for name, values in columns.items():
            mine = values[done : done + len(table)]
            array = pa.array(mine.ravel())
            if mine.ndim > 1:
                array = pa.FixedSizeListArray.from_arrays(array, mine.shape[1])
            table = table.set_column(table.column_names.index(name), name, array)
        pq.write_table(table, path)
        done += len(table)
    return folder


def _finite(part: Steps) -> Steps:
    pairs = {name: np.nan_to_num(getattr(part, name)) for name in ("observation", "action")}
    return dataclasses.replace(part, **pairs)


def _as_measured(dataset: Dataset) -> dict[str, np.ndarray]:
    """Columns over all splits, float32 as in the format."""
    parts = list(dataset.splits.values())
    columns = {
        "observation.state": np.concatenate([part.observation for part in parts]),
        "action": np.concatenate([part.action for part in parts]),
    }
    if all(part.timestamp is not None for part in parts):
        columns["timestamp"] = np.concatenate([part.timestamp for part in parts])
    return {name: np.asarray(values, np.float32) for name, values in columns.items()}
