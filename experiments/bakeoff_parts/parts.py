"""The result of one training run as one file, there whole or not at all: what `--resume` skips.

An `.npz` of arrays beside a line of JSON, written to a temporary name, synced and renamed. The line holds a
SHA-256 over all arrays, so that a damaged file is trained again instead of drawn.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.bakeoff_parts.plan import Item


class Part(NamedTuple):
    """What one run left.

    Attributes:
      facts: plain JSON: losses, floor, scores by predictor, times.
      arrays: curves, pictured predictions, parameters.
    """

    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]


def path_of(folder: Path, item: Item) -> Path:
    """Where the part of an item lies in the run folder."""
    return folder / "parts" / f"{item.name}.npz"


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(array)
    return found.hexdigest()


def write(path: Path, part: Part) -> None:
    """Writes a part.

    Raises:
      OSError: with the file's name, where the disk takes no more.
    """
    temporary = path.with_name(path.name + ".writing")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = json.dumps(part.facts | {"sha256": digest(part.arrays)})
        with temporary.open("wb") as file:
            np.savez(file, facts=facts, **part.arrays)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def read(path: Path) -> Part | None:
    """The part at a path; None where there is none, or a damaged one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        facts = json.loads(str(arrays.pop("facts")))
        return Part(facts, arrays) if facts.pop("sha256") == digest(arrays) else None
    except Exception:  # zip, zlib, numpy and json each have their own for a damaged file
        return None
