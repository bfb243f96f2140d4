"""What every reader needs: packages asked for by name, and names for dimensions."""

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ch3_jax.errors import InputError


def require(module: str, package: str, purpose: str) -> ModuleType:
    """Imports a heavy package at the moment that somebody needs it.

    Args:
      module: what is imported, "pyarrow.parquet".
      package: what is installed, "pyarrow".
      purpose: what it is for, the subject of the message: "LeRobot data".

    Returns:
      The module.

    Raises:
      InputError: it is not installed, or does not import.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"{purpose} needs the package {package}.",
            got=f"{module} does not import here: {error}",
            expected=f"{package}, in the versions that requirements.txt gives",
            cause="a minimal installation",
            fix=f"pip install {package}",
        ) from error


def dimension_names(prefix: str, given: Any, count: int) -> tuple[str, ...]:
    """`count` names: those given, flattened, if they fit; otherwise prefix_0, prefix_1, ...

    Args:
      prefix: "action" or "state".
      given: None, a list, a list of lists, or a mapping of lists (all are found in LeRobot files).
      count: how many dimensions there are.

    Returns:
      A tuple of `count` names.

    Example:
      >>> dimension_names("action", [["pan", "tilt"]], 2)
      ('pan', 'tilt')
      >>> dimension_names("action", None, 2)
      ('action_0', 'action_1')
    """
    names = _flatten(given)
    if len(names) == count and len(set(names)) == count:
        return tuple(names)
    return tuple(f"{prefix}_{i}" for i in range(count))


def seconds(length: int, rate_hz: float | None) -> np.ndarray:
    """Timestamps from a constant rate; NaN where the rate is not known, for a guess is not a time.

    Args:
      length: T.
      rate_hz: steps per second, or None.

    Returns:
      (T,) float64 seconds from the first step.
    """
    return np.arange(length) / rate_hz if rate_hz else np.full(length, np.nan)


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
      InputError: it cannot be read as JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as JSON.",
            got=f"{error}; the file has {path.stat().st_size if path.is_file() else 0} bytes",
            expected="a JSON document",
            cause="an interrupted download or copy",
            fix=f"copy {path.name} again from the original data set",
        ) from error


def unreadable(path: Path, what: str, error: Exception) -> InputError:
    """The refusal of a file whose own library cannot read it, with that library's words.

    Args:
      path: the file.
      what: what it should have been: "a parquet file".
      error: what the library said.

    Returns:
      The error, to be raised by the caller.
    """
    size = f"{path.stat().st_size} bytes" if path.is_file() else "no such file"
    words = str(error).strip().splitlines()
    return InputError(
        f"{path} cannot be read.",
        got=f"{size}; the reader said: {words[0] if words else type(error).__name__}",
        expected=f"{what}, complete and undamaged",
        cause="an interrupted download or copy, a Git LFS pointer in place of the file, or flipped bytes",
        fix=f"copy {path.name} again and compare its size and checksum with the original",
    )


def _flatten(names: Any) -> list[str]:
    if isinstance(names, str):
        return [names]
    if isinstance(names, dict):
        # {"motors": [...]} holds lists of names; {"pan": 0, "tilt": 1} has them as its keys.
        nested = [v for v in names.values() if isinstance(v, Sequence) and not isinstance(v, str)]
        return _flatten(nested) if nested else list(names)
    return (
        [name for item in names or () for name in _flatten(item)] if isinstance(names, list | tuple) else []
    )
