"""Any data set in memory as a LeRobot folder, v3.0, without LeRobot and without torch.

    meta/info.json                              rate, shapes, names, where files lie
    meta/stats.json                             per feature min max mean std count q01 q10 q50 q90 q99
    meta/tasks.parquet                          task_index, indexed by the task's words
    meta/episodes/chunk-000/file-000.parquet    per episode its length, rows, file and statistics
    data/chunk-000/file-000.parquet             the rows of many episodes

A row's time is frame_index / fps, as LeRobot's own writer computes it: measured jitter has no place in the
format. Vectors are written, images are not.

Reference: huggingface/lerobot, src/lerobot/datasets, codebase_version v3.0.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ch3_jax.data.episodes import Dataset, Steps
from ch3_jax.data.readers import common
from ch3_jax.errors import InputError

_CHUNK, _FILE_MB = 1000, 100
_QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_INDEX = "__index_level_0__"


def write_lerobot(dataset: Dataset, folder: str | Path, *, robot_type: str = "unknown") -> Path:
    """Writes a data set as LeRobot v3.0; the folder appears whole or not at all.

    Args:
      dataset: with a rate; its splits follow one another, and info.json says where each begins.
      folder: must not be there yet.
      robot_type: what info.json calls the robot.

    Returns:
      `folder`, which the project's reader opens.

    Raises:
      InputError: no rate, no steps, numbers that are not finite, a folder that is there or cannot be written,
        pyarrow missing.
    """
    common.require("pyarrow.parquet", "pyarrow", "writing LeRobot data")
    folder = Path(folder)
    _check(dataset, folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.incomplete."))
        try:
            _write(dataset, scratch, robot_type)
            scratch.chmod(0o755)
            scratch.replace(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written",
            got=error,
            expected="a folder that can be made, with room for the set",
            cause="missing rights, or a read-only or full disk",
            fix="choose another folder",
        ) from error
    return folder


def _check(dataset: Dataset, folder: Path) -> None:
    problems = {
        f"{dataset.facts.name} has no rate, and LeRobot counts time by it": not dataset.facts.rate_hz,
        f"{dataset.facts.name} has no steps": not any(len(part) for part in dataset.splits.values()),
        f"{folder} is there already": folder.exists(),
    }
    for problem, holds in problems.items():
        if holds:
            raise InputError(
                problem,
                got=f"rate {dataset.facts.rate_hz}, splits {', '.join(dataset.splits) or 'none'}",
                expected="a rate in hertz, at least one step, and a folder that is free",
                cause="pairs without time, or a set that was written before",
                fix="write it as RLDS, or choose another folder",
            )
    for name, part in dataset.splits.items():
        for kind, values in (("observation", part.observation), ("action", part.action)):
            if not np.isfinite(values).all():
                bad = int((~np.isfinite(values)).sum())
                raise InputError(
                    f"{dataset.facts.name}: the {kind}s of split {name} hold numbers that are not finite",
                    got=f"{bad:,} of {values.size:,}",
                    expected="finite numbers: the statistics beside the data are JSON, which knows no NaN",
                    cause="a sensor that dropped out",
                    fix="repair or leave out those episodes first",
                )


def _write(dataset: Dataset, folder: Path, robot_type: str) -> None:
    pa = common.require("pyarrow", "pyarrow", "writing LeRobot data")
    pq = common.require("pyarrow.parquet", "pyarrow", "writing LeRobot data")
    rate = float(dataset.facts.rate_hz)
    tasks = {text: i for i, text in enumerate(dict.fromkeys(_instructions(dataset)))}
    episodes = list(_episodes(dataset, rate, tasks))
    widths = (len(dataset.facts.observation_names), len(dataset.facts.action_names))
    rows, start = [], 0
    for number, group in enumerate(_files(episodes, sum(widths))):
        place = {"chunk_index": number // _CHUNK, "file_index": number % _CHUNK}
        path = folder / _DATA.format(**place)
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = {name: np.concatenate([e[name] for e in group]) for name in group[0]}
        pq.write_table(_table(pa, columns), path)
        for episode in group:
            rows.append(_listed(episode, place, start, list(tasks)))
            start += len(episode["index"])
    path = folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    pq.write_table(_tasks(pa, tasks), folder / "meta" / "tasks.parquet")
    everything = {name: np.concatenate([e[name] for e in episodes]) for name in episodes[0]}
    stats = {name: _statistics(values) for name, values in everything.items()}
    _json(folder / "meta" / "stats.json", stats)
    _json(folder / "meta" / "info.json", _info(dataset, rate, robot_type, len(rows), start, len(tasks)))


def _instructions(dataset: Dataset) -> list[str]:
    return [
        text
        for part in dataset.splits.values()
        for text in (part.instructions or (dataset.facts.name,) * part.episodes)
    ]


def _episodes(dataset: Dataset, rate: float, tasks: Mapping[str, int]) -> Iterator[dict[str, np.ndarray]]:
    """The columns of each episode."""
    done, number, words = 0, 0, iter(_instructions(dataset))
    for part in dataset.splits.values():
        for begin, end in zip(part.offset[:-1].tolist(), part.offset[1:].tolist(), strict=True):
            frame = np.arange(end - begin, dtype=np.int64)
            yield _columns(part, begin, end) | {
                "timestamp": (frame / rate).astype(np.float32),
                "frame_index": frame,
                "episode_index": np.full(end - begin, number, np.int64),
                "index": frame + done,
                "task_index": np.full(end - begin, tasks[next(words)], np.int64),
            }
            done, number = done + end - begin, number + 1


def _columns(part: Steps, begin: int, end: int) -> dict[str, np.ndarray]:
    pairs = {"observation.state": part.observation, "action": part.action}
    return {name: np.asarray(values[begin:end], np.float32) for name, values in pairs.items()}


def _files(episodes: list[dict[str, np.ndarray]], width: int) -> Iterator[list[dict[str, np.ndarray]]]:
    """Episodes in their order, as many to a file as fit into 100 MB."""
    room = _FILE_MB * 1_000_000 // (4 * width + 36)
    group, held = [], 0
    for episode in episodes:
        length = len(episode["index"])
        if group and held + length > room:
            yield group
            group, held = [], 0
        group.append(episode)
        held += length
    yield group


def _table(pa: Any, columns: Mapping[str, np.ndarray]) -> Any:
    def array(values: np.ndarray) -> Any:
        if values.ndim == 1:
            return pa.array(values)
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])

    return pa.table({name: array(values) for name, values in columns.items()})


def _listed(
    episode: Mapping[str, np.ndarray], place: Mapping[str, int], start: int, tasks: list[str]
) -> dict[str, Any]:
    """The row of meta/episodes of one episode."""
    length = len(episode["index"])
    row = {
        "episode_index": int(episode["episode_index"][0]),
        "tasks": [tasks[int(episode["task_index"][0])]],
        "length": length,
        "data/chunk_index": place["chunk_index"],
        "data/file_index": place["file_index"],
        "dataset_from_index": start,
        "dataset_to_index": start + length,
        "meta/episodes/chunk_index": 0,
        "meta/episodes/file_index": 0,
    }
    for name, values in episode.items():
        row |= {f"stats/{name}/{k}": v for k, v in _statistics(values).items()}
    return row


def _statistics(values: np.ndarray) -> dict[str, list[float] | list[int]]:
    """Per dimension, as lists; a column of numbers is a list of one."""
    x = np.asarray(values, np.float64).reshape(len(values), -1)
    found = {"min": x.min(0), "max": x.max(0), "mean": x.mean(0), "std": x.std(0)}
    found |= {name: np.quantile(x, share, axis=0) for name, share in _QUANTILES.items()}
    return {name: v.tolist() for name, v in found.items()} | {"count": [len(x)]}


def _tasks(pa: Any, tasks: Mapping[str, int]) -> Any:
    """task_index, with the words as the index that pandas sees."""
    table = pa.table({"task_index": pa.array(list(tasks.values()), pa.int64()), _INDEX: list(tasks)})

    def column(name: str | None, field: str, kind: str, numpy_type: str) -> dict[str, Any]:
        return {
            "name": name,
            "field_name": field,
            "pandas_type": kind,
            "numpy_type": numpy_type,
            "metadata": None,
        }

    pandas = {
        "index_columns": [_INDEX],
        "column_indexes": [column(None, "None", "unicode", "object")],
        "columns": [
            column("task_index", "task_index", "int64", "int64"),
            column(None, _INDEX, "unicode", "object"),
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


def _info(
    dataset: Dataset, rate: float, robot_type: str, episodes: int, frames: int, tasks: int
) -> dict[str, Any]:
    facts, splits, begin = dataset.facts, {}, 0
    for name, part in dataset.splits.items():
        splits[name] = f"{begin}:{begin + part.episodes}"
        begin += part.episodes

    def vector(names: tuple[str, ...]) -> dict[str, Any]:
        return {"dtype": "float32", "shape": [len(names)], "names": list(names)}

    scalars = {"timestamp": "float32"}
    scalars |= dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), "int64")
    return {
        "codebase_version": "v3.0",
        "robot_type": robot_type,
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": _CHUNK,
        "data_files_size_in_mb": _FILE_MB,
        "video_files_size_in_mb": 200,
        "fps": int(rate) if rate.is_integer() else rate,
        "splits": splits,
        "data_path": _DATA,
        "video_path": None,
        "features": {
            "observation.state": vector(facts.observation_names),
            "action": vector(facts.action_names),
            **{name: {"dtype": kind, "shape": [1], "names": None} for name, kind in scalars.items()},
        },
    }


def _json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=4, allow_nan=False) + "\n")
