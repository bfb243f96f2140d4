"""Zarr in the layout of Diffusion Policy: all episodes end to end, and where each one ends.

    data/<key>: (N, ...) for state, action, images;  meta/episode_ends: (E,) with N = episode_ends[-1]

Episode e is rows episode_ends[e - 1] to episode_ends[e] - 1. Zarr gives the fill value, in silence,
for a chunk whose file is missing, so every chunk is looked for before it is read; and blosc does not
notice that a chunk was cut off, so its length is compared with its header.
"""

import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ch3_jax.data.episodes import Episode, Facts, Source
from ch3_jax.data.readers import common
from ch3_jax.errors import InputError

# The arrays of Push-T name nothing; this is the layout that its authors published.
_PUSHT = {
    "observation_names": ("agent_x", "agent_y", "block_x", "block_y", "block_angle"),
    "action_names": ("target_x", "target_y"),
    "observation_units": ("px", "px", "px", "px", "rad"),
    "action_units": ("px", "px"),
    "action_meaning": "absolute target position of the agent",
    "frame": "window of 512 x 512 px, origin at the top left, y down",
    "rate_hz": 10.0,
    "notes": ("names, units and the rate of 10 Hz are those of Push-T: the arrays do not say",),
}
_STATE_KEYS = ("state", "obs", "proprio")


def open_zarr(folder: Path, *, images: bool = False) -> Source:
    """Opens a zarr group (format 2 or 3) with data/action, a state, and meta/episode_ends.

    The vectors are read at once, when the first episode is asked for; images stay on disk and are
    read episode by episode.

    Args:
      folder: "pusht_cchi_v7_replay.zarr".
      images: whether to read the image arrays too.

    Returns:
      A `Source` with the one split "train". Facts beyond the array names are filled in only where
      the folder's name says Push-T.

    Raises:
      InputError: arrays are missing or disagree in length; on reading: a chunk is missing,
        truncated or damaged.
    """
    zarr = common.require("zarr", "zarr", "Zarr data")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # zarr warns of other files in the folder; what matters raises below
            group = zarr.open_group(str(folder), mode="r")
            data = dict(group["data"].arrays())
            ends_array = group["meta/episode_ends"]
    except Exception as error:  # zarr has a dozen error types for metadata that it cannot read
        raise _not_a_replay(folder, error) from error
    states = _state_keys(data)
    if "action" not in data or data["action"].ndim != 2 or not states:
        raise _not_a_replay(folder, f"arrays {', '.join(sorted(data)) or 'none'} in data/")
    ends = _episode_ends(folder, ends_array, {name: data[name].shape[0] for name in ("action", *states)})
    cameras = {name: array for name, array in sorted(data.items()) if array.ndim == 4}
    facts = _facts(folder, data, states, tuple(cameras))

    def start() -> Iterator[Episode]:
        action = _rows(folder, data["action"])
        state = np.concatenate([_rows(folder, data[name]) for name in states], axis=1)
        begin = 0
        for index, end in enumerate(ends):
            yield Episode(
                observation=state[begin:end],
                action=action[begin:end],
                timestamp=common.seconds(end - begin, facts.rate_hz),
                images={n: _pictures(folder, a, begin, end) for n, a in cameras.items()} if images else {},
                source=f"episode {index} of {folder.name}",
            )
            begin = end

    return Source(facts=facts, splits={"train": start})


def _not_a_replay(folder: Path, reason: object) -> InputError:
    words = str(reason).strip().splitlines()
    return InputError(
        f"{folder} is a zarr folder without the arrays of a replay buffer.",
        got=words[0] if words else type(reason).__name__,
        expected="data/action and data/state of shape (steps, dimensions), and meta/episode_ends",
        cause="an incomplete copy, or zarr in another layout",
        fix=f"list {folder / 'data'} and {folder / 'meta'}; copy the folder again if arrays are missing",
    )


def _state_keys(data: dict[str, Any]) -> tuple[str, ...]:
    named = [key for key in _STATE_KEYS if key in data and data[key].ndim == 2]
    if named:
        return (named[0],)
    return tuple(k for k in sorted(data) if k != "action" and data[k].ndim == 2 and data[k].dtype.kind == "f")


def _episode_ends(folder: Path, array: Any, lengths: dict[str, int]) -> list[int]:
    ends = _read(folder, array)
    rows = set(lengths.values())
    increasing = ends.ndim == 1 and bool(np.all(np.diff(ends, prepend=0) > 0))
    if not len(ends) or not increasing or rows != {int(ends[-1])}:
        raise InputError(
            f"{folder}: meta/episode_ends does not fit the arrays.",
            got=f"{len(ends)} ends, {'increasing' if increasing else 'not increasing'}, the last one "
            f"{ends[-1] if len(ends) else 'missing'}; rows: "
            + ", ".join(f"{name} {count}" for name, count in lengths.items()),
            expected="increasing ends above 0, the last one equal to the number of rows of each array",
            cause="an array that was copied or written only in part, or an empty recording",
            fix="copy the folder again, or rewrite episode_ends from the recording",
        )
    return [int(end) for end in ends]


def _facts(folder: Path, data: dict[str, Any], states: tuple[str, ...], cameras: tuple[str, ...]) -> Facts:
    widths = [data[name].shape[1] for name in states]
    known: dict[str, Any] = {
        "observation_names": tuple(
            f"{n}_{i}" for n, width in zip(states, widths, strict=True) for i in range(width)
        ),
        "action_names": common.dimension_names("action", None, data["action"].shape[1]),
    }
    if "pusht" in folder.name.lower().replace("-", "").replace("_", "") and widths == [5]:
        known |= _PUSHT if data["action"].shape[1] == 2 else {}
    return Facts(name=folder.name.removesuffix(".zarr"), format="zarr", cameras=cameras, **known)


def _rows(folder: Path, array: Any) -> np.ndarray:
    with np.errstate(
        over="ignore", invalid="ignore"
    ):  # a number too large becomes inf, which `gather` refuses
        return np.asarray(_read(folder, array), np.float32)


def _pictures(folder: Path, array: Any, begin: int, end: int) -> np.ndarray:
    """(T, height, width, 3) uint8; Push-T stores the numbers 0 to 255 as float32."""
    return np.clip(np.rint(_read(folder, array, begin, end)), 0, 255).astype(np.uint8)


def _read(folder: Path, array: Any, begin: int = 0, end: int | None = None) -> np.ndarray:
    """Rows begin to end - 1, chunk by chunk: a bad chunk is named, and zarr's other tasks stay quiet."""
    end = array.shape[0] if end is None else end
    grid = getattr(array, "shards", None) or array.chunks
    out = np.empty((end - begin, *array.shape[1:]), array.dtype)
    counts = [range(-(-size // step)) for size, step in zip(array.shape[1:], grid[1:], strict=True)]
    for first in range(begin // grid[0], -(-end // grid[0])):
        for rest in itertools.product(*counts):
            cell = (first, *rest)
            chunk = folder / array.path / array.metadata.encode_chunk_key(cell)
            if not chunk.is_file():
                raise _missing_chunk(folder, array, chunk)
            _check_blosc(array, chunk)
            corner = tuple(i * step for i, step in zip(cell, grid, strict=True))
            stop = tuple(min(i + step, n) for i, step, n in zip(corner, grid, array.shape, strict=True))
            low, high = max(begin, corner[0]), min(end, stop[0])
            inner = tuple(slice(i, j) for i, j in zip(corner[1:], stop[1:], strict=True))
            try:
                if array.metadata.zarr_format == 2:  # read here: twenty times as fast as by zarr's event loop
                    block = _chunk_v2(array, chunk)[low - corner[0] : high - corner[0]]
                    block = block[(slice(None), *(slice(part.stop - part.start) for part in inner))]
                else:
                    block = array[(slice(low, high), *inner)]
                out[(slice(low - begin, high - begin), *inner)] = block
            except Exception as error:  # each codec has its own: blosc RuntimeError, zlib.error, ValueError
                raise common.unreadable(chunk, f"a chunk of {array.path}", error) from error
    return out


def _chunk_v2(array: Any, chunk: Path) -> np.ndarray:
    """A whole chunk of format 2: the codecs undone in reverse order, then the shape of a chunk."""
    meta, data = array.metadata, chunk.read_bytes()
    for codec in (meta.compressor, *reversed(meta.filters or ())):
        data = data if codec is None else codec.decode(data)
    return np.frombuffer(data, array.dtype).reshape(array.chunks, order=meta.order)


def _check_blosc(array: Any, chunk: Path) -> None:
    """Refuses a blosc chunk that is shorter than its header says: blosc itself reads on beyond the end."""
    codecs = getattr(array, "compressors", ())
    sharded = getattr(array, "shards", None) is not None
    if sharded or not codecs or "blosc" not in type(codecs[-1]).__name__.lower():
        return
    with chunk.open("rb") as file:
        header = file.read(16)
    size, told = chunk.stat().st_size, int.from_bytes(header[12:16], "little")
    if len(header) < 16 or told != size:
        error = ValueError(
            f"a blosc header that says {told} bytes" if len(header) == 16 else "no whole blosc header"
        )
        raise common.unreadable(chunk, f"a chunk of {array.path}", error)


def _missing_chunk(folder: Path, array: Any, chunk: Path) -> InputError:
    return InputError(
        f"{folder}: a chunk of {array.path} is missing.",
        got=f"no file {chunk.relative_to(folder)}; zarr would read it as {array.fill_value}",
        expected=f"all {array.nchunks} chunks of {array.path}",
        cause="an incomplete copy; or a writer that leaves out chunks which hold only the fill value",
        fix="copy the folder again; if the numbers really are the fill value, write them with"
        " zarr.config.set({'array.write_empty_chunks': True})",
    )
