"""LeRobot data sets, v2.0, v2.1 and v3.0: parquet tables, and videos when images are asked for.

    v2   one table and, per camera, one video per episode: data/chunk-000/episode_000012.parquet
    v3   many episodes per table and per video: data/chunk-000/file-000.parquet; an episode's rows are those
         with its episode_index, its frames start at videos/<camera>/from_timestamp

`meta/info.json` says which, gives the rate, and names the dimensions; it does not say what an action means.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ch3_jax.data.episodes import Episode, Facts, Source
from ch3_jax.data.readers import common, video
from ch3_jax.errors import InputError

_VERSIONS = ("v2.0", "v2.1", "v3.0")
_CAMERA = "observation.images."


@dataclasses.dataclass(frozen=True)
class _Entry:
    """One episode as `meta/` lists it; `videos` is camera key -> (file, seconds where it starts)."""

    index: int
    length: int
    instruction: str
    table: Path
    videos: Mapping[str, tuple[Path, float]]


def open_lerobot(folder: Path, *, images: bool = False, episodes: Sequence[int] | None = None) -> Source:
    """Opens a LeRobot folder (the one with `meta/info.json`).

    Args:
      folder: the data set.
      images: whether to decode the cameras.
      episodes: only these episode indices; None reads all.

    Returns:
      A `Source` with the splits of info.json ("train" where it has none).

    Raises:
      InputError: an unknown version, missing tables or videos; on reading: a truncated table, another
        number of rows than meta/ says, a list of uneven length, a video without the frame of a row.
    """
    common.require("pyarrow.parquet", "pyarrow", "LeRobot data")
    info = common.read_json(folder / "meta" / "info.json")
    try:
        entries = (_entries_v3 if info["codebase_version"] == "v3.0" else _entries_v2)(
            folder, _checked(folder, info)
        )
        features = info["features"]
        state_keys = _state_keys(features)
        facts = _facts(folder, info, state_keys)
    except InputError:
        raise
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, ArithmeticError) as error:
        raise _bad_meta(folder, f"no {error}" if isinstance(error, KeyError) else error) from error
    if len(entries) != info.get("total_episodes", len(entries)):
        raise _bad_meta(folder, f"{len(entries)} episodes listed, total_episodes {info['total_episodes']}")
    only = {e.index for e in entries} if episodes is None else set(episodes)
    chosen = [entry for entry in entries if entry.index in only]
    _check_files(folder, chosen, images)
    pictured = {key: f["dtype"] for key, f in features.items() if images and f["dtype"] in ("video", "image")}

    def passes(inside: range) -> Callable[[], Iterator[Episode]]:
        def start() -> Iterator[Episode]:
            last, table = None, None
            for entry in (e for e in chosen if e.index in inside):
                if entry.table != last:
                    last = entry.table
                    inline = [key for key, dtype in pictured.items() if dtype == "image"]
                    table = _table(entry.table, ["action", *state_keys, *inline])
                yield _episode(entry, _own_rows(entry, table), facts, state_keys, pictured)

        return start

    return Source(facts=facts, splits={n: passes(r) for n, r in _splits(info.get("splits"), entries).items()})


def _bad_meta(folder: Path, reason: object) -> InputError:
    return InputError(
        f"{folder / 'meta'} cannot be used.",
        got=reason,
        expected=f"info.json of LeRobot {', '.join(_VERSIONS)} with `action`, `observation.state` and their "
        "shapes, and a list of all episodes (episodes.jsonl, or episodes/*/*.parquet for v3.0)",
        cause="an incomplete copy, a hand-edited file, or a version that this reader does not know",
        fix="copy meta/ again, or convert the set with LeRobot's own script to v2.1 or v3.0",
    )


def _checked(folder: Path, info: Any) -> Any:
    if info["codebase_version"] not in _VERSIONS:
        raise _bad_meta(folder, f"codebase_version {info['codebase_version']!r}")
    if "action" not in info["features"] or not _state_keys(info["features"]):
        raise _bad_meta(folder, "features " + ", ".join(info["features"]))
    if not float(info["fps"]) > 0:
        raise _bad_meta(folder, f"fps {info['fps']}")
    return info


def _state_keys(features: Mapping[str, Any]) -> tuple[str, ...]:
    if "observation.state" in features:
        return ("observation.state",)
    vectors = (k for k, f in features.items() if "float" in f["dtype"] and len(f["shape"]) == 1)
    return tuple(k for k in vectors if k.startswith("observation."))


def _entries_v2(folder: Path, info: Mapping[str, Any]) -> list[_Entry]:
    path = folder / "meta" / "episodes.jsonl"
    if not path.is_file():
        raise _bad_meta(folder, "no episodes.jsonl")
    cameras = [key for key, f in info["features"].items() if f["dtype"] == "video"]
    entries = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise _bad_meta(folder, f"line {number} of episodes.jsonl: {error}") from error
        index = int(row["episode_index"])
        place = {"episode_chunk": index // info["chunks_size"], "episode_index": index}
        videos = {c: (folder / info["video_path"].format(video_key=c, **place), 0.0) for c in cameras}
        table = folder / info["data_path"].format(**place)
        entries.append(_Entry(index, int(row["length"]), _first(row.get("tasks")), table, videos))
    return sorted(entries, key=lambda e: e.index)


def _entries_v3(folder: Path, info: Mapping[str, Any]) -> list[_Entry]:
    files = sorted((folder / "meta" / "episodes").glob("*/*.parquet"))
    if not files:
        raise _bad_meta(folder, "no parquet file under meta/episodes")
    cameras = [key for key, f in info["features"].items() if f["dtype"] == "video"]
    columns = ["episode_index", "length", "tasks", "data/chunk_index", "data/file_index"]
    columns += [f"videos/{c}/{k}" for c in cameras for k in ("chunk_index", "file_index", "from_timestamp")]
    entries = []
    for row in (row for file in files for row in _table(file, columns).to_pylist()):
        place = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
        videos = {}
        for c in cameras:
            where = {k: row[f"videos/{c}/{k}"] for k in ("chunk_index", "file_index")}
            start = float(row[f"videos/{c}/from_timestamp"])
            videos[c] = (folder / info["video_path"].format(video_key=c, **where), start)
        table = folder / info["data_path"].format(**place)
        entries.append(_Entry(row["episode_index"], row["length"], _first(row["tasks"]), table, videos))
    return sorted(entries, key=lambda e: e.index)


def _first(tasks: Any) -> str:
    return tasks if isinstance(tasks, str) else str(tasks[0]) if tasks else ""


def _check_files(folder: Path, entries: list[_Entry], images: bool) -> None:
    tables = sorted({e.table for e in entries})
    missing = [table for table in tables if not table.is_file()]
    if missing:
        raise InputError(
            f"{folder} lacks {len(missing)} of its {len(tables)} tables.",
            got=f"no file {missing[0].relative_to(folder)}",
            expected="every parquet file that meta/ lists",
            cause="an interrupted download or copy",
            fix="copy the missing files again",
        )
    videos = sorted({path for e in entries for path, _ in e.videos.values()})
    absent = [path for path in videos if not path.is_file()]
    if images and absent:
        raise video.missing_videos(absent, len(videos))


def _facts(folder: Path, info: Mapping[str, Any], state_keys: tuple[str, ...]) -> Facts:
    def names(prefix: str, key: str) -> tuple[str, ...]:
        feature = info["features"][key]
        return common.dimension_names(prefix, feature.get("names"), int(feature["shape"][0]))

    cameras = (key for key, f in info["features"].items() if f["dtype"] in ("video", "image"))
    one = len(state_keys) == 1
    return Facts(
        name=folder.resolve().name,
        format=f"lerobot {info['codebase_version']}",
        observation_names=tuple(
            n for key in state_keys for n in names("state" if one else key.removeprefix("observation."), key)
        ),
        action_names=names("action", "action"),
        rate_hz=float(info["fps"]),
        cameras=tuple(key.removeprefix(_CAMERA) for key in cameras),
    )


def _splits(given: Any, entries: list[_Entry]) -> dict[str, range]:
    """{"train": "0:100"} -> {"train": range(0, 100)}; everything is "train" where nothing is said."""
    texts = given.items() if isinstance(given, dict) else ()
    found = {name: re.fullmatch(r"(\d+):(\d+)", str(text)) for name, text in texts}
    splits = {name: range(int(m[1]), int(m[2])) for name, m in found.items() if m}
    return splits or {"train": range(entries[-1].index + 1 if entries else 0)}


def _table(path: Path, columns: Sequence[str]) -> Any:
    """The wanted columns, with the episode, frame and time of each row where the file has them."""
    pq = common.require("pyarrow.parquet", "pyarrow", "LeRobot data")
    pa = common.require("pyarrow", "pyarrow", "LeRobot data")
    try:
        file = pq.ParquetFile(path)
        there = set(file.schema_arrow.names)
        wanted = [*columns, *(c for c in ("episode_index", "frame_index", "timestamp") if c not in columns)]
        table = file.read(columns=[c for c in wanted if c in there], use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:  # column names may be damaged, too
        raise common.unreadable(path, "a parquet file", error) from error
    lacking = [column for column in columns if column not in there]
    if lacking:
        raise _bad_table(path, f"columns {', '.join(sorted(there))}", f"column {lacking[0]}")
    return table


def _bad_table(path: Path, got: str, expected: str) -> InputError:
    return InputError(
        f"{path} does not hold what meta/ says.",
        got=got,
        expected=expected,
        cause="a table of another version of the set, or a recording that was interrupted",
        fix="copy data/ and meta/ again, from the same version of the set",
    )


def _own_rows(entry: _Entry, table: Any) -> Any:
    """The rows of one episode: contiguous, and as many as meta/ says."""
    if "episode_index" in table.column_names:
        rows = np.flatnonzero(table["episode_index"].to_numpy() == entry.index)
        begin = int(rows[0]) if len(rows) else 0
        contiguous = not len(rows) or rows[-1] - rows[0] + 1 == len(rows)
        table = table.slice(begin, len(rows)) if contiguous else table.slice(0, 0)
    if len(table) != entry.length:
        got = f"{len(table)} rows in one piece for episode {entry.index}"
        raise _bad_table(entry.table, got, f"{entry.length} rows, one after the other")
    return table


def _episode(
    entry: _Entry, rows: Any, facts: Facts, state_keys: tuple[str, ...], pictured: Mapping[str, str]
) -> Episode:
    name = f"episode {entry.index} of {entry.table.name}"
    has = set(rows.column_names)
    time = rows["timestamp"].to_numpy().astype(np.float64).reshape(-1) if "timestamp" in has else None
    frame = rows["frame_index"].to_numpy() if "frame_index" in has else np.arange(len(rows))
    images = {}
    for key, dtype in pictured.items():
        if dtype == "video":
            path, start = entry.videos[key]
            pictures = video.decode_frames(path, start + frame / facts.rate_hz, facts.rate_hz)
        else:
            pictures = np.stack([video.decode_image(cell["bytes"], name) for cell in rows[key].to_pylist()])
        images[key.removeprefix(_CAMERA)] = pictures
    states = [_matrix(rows, key, entry) for key in state_keys]
    return Episode(
        observation=states[0] if len(states) == 1 else np.concatenate(states, axis=1),
        action=_matrix(rows, "action", entry),
        timestamp=common.seconds(len(rows), facts.rate_hz) if time is None else time - time[:1],
        images=images,
        instruction=entry.instruction,
        source=name,
    )


def _matrix(rows: Any, key: str, entry: _Entry) -> np.ndarray:
    """(T, D) float32 of a column of lists (fixed or not), or (T, 1) of a column of numbers."""
    pc = common.require("pyarrow.compute", "pyarrow", "LeRobot data")
    column = rows[key].combine_chunks()
    if column.null_count:
        raise _bad_table(entry.table, f"{column.null_count} empty cells in {key}", "a value in every row")
    width = 1
    if hasattr(column, "flatten") and hasattr(column.type, "value_type"):
        widths = pc.unique(pc.list_value_length(column)).to_pylist()
        if len(widths) > 1:
            got = (
                f"lists of {' and '.join(map(str, sorted(widths)))} numbers in {key} of episode {entry.index}"
            )
            raise _bad_table(entry.table, got, "lists of one length")
        width, column = (widths or [0])[0], column.flatten()
    values = column.to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(values, np.float32).reshape(len(rows), width)
