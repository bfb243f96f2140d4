"""One run, one folder: who may write there, what it was started with, how it ended.

  lock             held by the process that trains; the kernel lets go of it when that process dies
  config.json      flags, versions, device, git hash, command line: written once, before the first step
  checkpoints/     see `ch3_jax.training.checkpoints`
  metrics.csv      rows of metrics, and whatever else the experiment writes
  summary.json     `Summary`: how it ended, with the documented fields

`prepare` refuses what cannot work and writes nothing; `acquire` makes the folder and takes the lock.
Both JSON files appear whole or not at all: a temporary file, `fsync`, then a rename.
"""

import contextlib
import errno
import fcntl
import importlib.metadata
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ch3_jax.errors import InputError

NEEDED_BYTES = 50_000_000
STATUSES = ("finished", "interrupted", "non_finite", "failed")
_MARKS = ("config.json", "summary.json", "metrics.csv", "checkpoints")
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
_SOURCE = Path(__file__).resolve().parents[1]


class Summary(NamedTuple):
    """What every experiment says at its end, in `summary.json`.

    Attributes:
      status: "finished", "interrupted" (a signal; `--resume` goes on), "non_finite" (stopped with the
        last good state) or "failed".
      loss: name of the loss.
      data: name or path of the data.
      out: the run folder.
      seed: of everything random.
      steps: updates made, over all resumed parts.
      steps_per_second: of this process, without compilation, validation and saving; None if not measured.
      wall_seconds: of this process, all of it.
      train_loss: last reported training loss, in the unit of the loss (nats for cross-entropy).
      val_loss: last validation loss, same unit.
      floor: the lowest loss that any policy can reach on these data, where it is known.
      parameters_sha256: `ch3_jax.training.digests.tree_sha256` of the final parameters.
      findings: sentences for people: what was noticed in the data, in the run, on resuming.
      extra: whatever else an experiment reports.
    """

    status: str
    loss: str
    data: str
    out: str
    seed: int
    steps: int
    steps_per_second: float | None
    wall_seconds: float
    train_loss: float | None
    val_loss: float | None
    floor: float | None
    parameters_sha256: str | None
    findings: tuple[str, ...] = ()
    extra: Mapping[str, Any] = {}


def default_out(data: str, loss: str, seed: int, now: float | None = None) -> Path:
    """`runs/<data>-<loss>-<seed>-<UTC time>`; of a path the last telling part.

    Args:
      data: name or path of the data.
      loss: name of the loss.
      seed: seed of the run.
      now: seconds since 1970, for tests.

    Example:
      >>> default_out("/data/bridge_dataset/1.0.0/", "ce", 3, now=0).as_posix()
      'runs/bridge_dataset-ce-3-19700101T000000Z'
    """
    parts = [part for part in Path(data).parts if re.search(r"[A-Za-z]", part)] or ["data"]
    name = re.sub(r"[^A-Za-z0-9_.]+", "_", parts[-1]).strip("_.") or "data"
    return Path("runs") / f"{name}-{loss}-{seed}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}"


def prepare(out: str | Path, resume: bool = False, *, absent: str = "refuse") -> Path:
    """Refuses a folder that a run could not use, before anything is written.

    Args:
      out: the run folder.
      resume: True to go on with the run in it, False to start one.
      absent: with `resume`, what a folder that is not there means: "refuse", or "start" from the beginning,
        as for a run that was killed before it had made its folder.

    Returns:
      `out`, absolute.

    Raises:
      InputError: not a folder, not writable, less than 50 MB free, held by another process, a run in it
        already, or no run to resume.
    """
    path = Path(out).expanduser().absolute()
    try:
        there = path.exists()
    except OSError as error:  # A name too long, a parent that may not be searched.
        raise _unusable(path, error) from error
    parent = path
    while not (parent.exists() or parent.is_symlink()):
        parent = parent.parent
    if not parent.is_dir():
        raise _unusable(path, f"{parent} is a file" if parent.exists() else f"{parent} is a broken link")
    if resume and not there and absent == "refuse":
        raise _no_run(path, "no such folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        read_only = os.statvfs(parent).f_flag & os.ST_RDONLY
        raise _unusable(path, f"{parent} is {'on a read-only disk' if read_only else 'not writable for you'}")
    _require_room(parent)
    if there:
        _require_free(path)
        _require_fitting(path, resume)
    return path


class RunFolder:
    """A run folder that this process holds; see `acquire`. Leaving the `with` block lets go of it."""

    def __init__(self, path: Path, lock: int):
        self.path, self._lock = path, lock

    @property
    def checkpoints(self) -> Path:
        """Where `ch3_jax.training.checkpoints` saves."""
        return self.path / "checkpoints"

    def write_config(self, flags: Mapping[str, Any], *, may_differ: Collection[str] = ()) -> list[str]:
        """Writes `config.json`, or compares with the one that a resumed run was started with.

        Args:
          flags: name -> value of all that decides what the run does, as plain JSON.
          may_differ: names of flags that a resumed run may be given anew.

        Returns:
          Sentences on what differs and may: such flags, and versions or a device that can change bits.

        Raises:
          InputError: another flag differs, or the file is damaged.
        """
        config = describe_run(flags)
        before = self.read_config()
        if before is None:
            write_json(self.path / "config.json", config)
            return []
        changed = _differences(before.get("flags", {}), config["flags"])
        refused = {name: pair for name, pair in changed.items() if name not in may_differ}
        if refused:
            raise InputError(
                f"the run in {self.path} was started with other flags",
                got=", ".join(f"--{name}={new}" for name, (_, new) in refused.items()),
                expected=", ".join(f"--{name}={old}" for name, (old, _) in refused.items()),
                cause="--resume goes on with the same run, bit for bit, hence with the same flags",
                fix="give the flags that are expected, or another --out without --resume",
            )
        sentences = [f"resumed with --{n}={new} instead of {old}" for n, (old, new) in changed.items()]
        for group in ("versions", "device", "git_hash"):
            old, new = before.get(group), config[group]
            if old != new:
                sentences.append(f"resumed with {group} {new} instead of {old}: results may differ in bits")
        return sentences

    def read_config(self) -> dict[str, Any] | None:
        """The `config.json` of this folder, None where the run never came to write one."""
        try:
            return json.loads((self.path / "config.json").read_text())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise InputError(
                f"{self.path / 'config.json'} cannot be read",
                got=error,
                expected="the JSON that the run wrote at its start",
                cause="the file was edited or damaged",
                fix="repair it, or train again with another --out",
            ) from error

    def write_summary(self, summary: Summary) -> Path:
        """Writes `summary.json`; numbers that are not finite become null."""
        if summary.status not in STATUSES:
            raise ValueError(f"status must be one of {', '.join(STATUSES)}, got {summary.status!r}")
        return write_json(self.path / "summary.json", summary._asdict())

    def release(self) -> None:
        """Lets go of the lock; a second call does nothing."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def acquire(out: str | Path, resume: bool = False, *, absent: str = "refuse") -> RunFolder:
    """Makes the run folder and takes its lock; arguments and refusals as for `prepare`."""
    path = prepare(out, resume, absent=absent)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Another run may have come and gone since `prepare` looked.
        _require_fitting(path, resume)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()} on {platform.node()}\n".encode(), 0)
    except BlockingIOError as error:
        os.close(lock)
        raise _held(path) from error
    except OSError as error:
        os.close(lock)
        raise _unusable(path, error) from error
    except InputError:
        os.close(lock)
        raise
    return RunFolder(path, lock)


def describe_run(flags: Mapping[str, Any]) -> dict[str, Any]:
    """What `config.json` holds: enough to run the same again, and to see why bits would differ."""
    import jax

    hash_, changed = _git()
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "flags": plain(flags),
        "versions": versions,
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind} ({jax.default_backend()})",
        "platform": platform.platform(),
        "git_hash": hash_,
        "git_changed": changed,
        "command": [sys.executable, *sys.orig_argv[1:]],
        "started_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def write_json(path: Path, content: Any) -> Path:
    """Writes JSON that is there whole or not at all, and survives a loss of power."""
    text = json.dumps(plain(content), indent=2, allow_nan=False) + "\n"
    temporary = path.with_name(path.name + ".writing")
    try:
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    return path


def plain(value: Any) -> Any:
    """`value` as JSON can say it: arrays as lists, paths as text, NaN and infinities as None.

    Example:
      >>> plain({"a": np.float32(0.5), "b": float("nan"), "c": (1, Path("x"))})
      {'a': 0.5, 'b': None, 'c': [1, 'x']}
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "dtype"):
        return plain(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Name -> (old, new) of what differs; a flag that only one of them knows counts as None."""
    names = [*old, *(name for name in new if name not in old)]
    return {n: (old.get(n), new.get(n)) for n in names if old.get(n) != new.get(n)}


def _git() -> tuple[str | None, bool | None]:
    """(hash, whether tracked files differ from it) of the checkout that this file lies in."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", _SOURCE, *words], capture_output=True, text=True, timeout=10)
        done.check_returncode()
        return done.stdout

    try:
        top, hash_ = git("rev-parse", "--show-toplevel", "HEAD").split("\n")[:2]
        if Path(top).resolve() != _SOURCE:  # Installed somewhere inside another project's checkout.
            return None, None
        return hash_, bool(git("status", "--porcelain", "--untracked-files=no").strip())
    except (OSError, subprocess.SubprocessError, ValueError):
        return None, None


def _require_room(parent: Path) -> None:
    free = shutil.disk_usage(parent).free
    if free >= NEEDED_BYTES:
        return
    raise InputError(
        f"too little room for a run below {parent}",
        got=f"{free / 1e6:.1f} MB free",
        expected=f"{NEEDED_BYTES / 1e6:.0f} MB or more",
        cause="the disk is full",
        fix="make room, or choose an --out on another disk",
    )


def _require_free(path: Path) -> None:
    """Refuses a folder that a living process holds, without writing to it."""
    try:
        lock = os.open(path / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _held(path) from error
    finally:
        os.close(lock)


def _require_fitting(path: Path, resume: bool) -> None:
    """A run where one is resumed, none where one is started."""
    there = sorted(p.name for p in path.iterdir())
    marks = [name for name in there if name in _MARKS]
    if resume and there and not marks and "lock" not in there:
        raise _no_run(path, f"a folder with {', '.join(there[:5])}, but no run")
    if not resume and marks:
        raise InputError(
            f"{path} holds a run already",
            got=", ".join(marks),
            expected="a folder that is not there yet, or an empty one",
            cause="the same --out was used before",
            fix="--resume to go on with that run, or another --out",
        )


def _no_run(path: Path, got: str) -> InputError:
    return InputError(
        f"there is no run to resume in {path}",
        got=got,
        expected="the folder of a run that was started before",
        cause="the path is mistyped, or the run was killed before it had made its folder",
        fix="check --out, or leave --resume out to start from the beginning",
    )


def _held(path: Path) -> InputError:
    try:
        holder = (path / "lock").read_text().strip() or "not known"
    except OSError:
        holder = "not known"
    return InputError(
        f"another run holds {path}",
        got=f"process {holder}",
        expected="a folder that no process is training in",
        cause="the same --out was given twice, or the earlier run has not ended yet",
        fix="wait for it, end it, or choose another --out",
    )


def _unusable(path: Path, reason: OSError | str) -> InputError:
    code = getattr(reason, "errno", None)
    causes = {errno.EROFS: "the disk is read-only", errno.ENOSPC: "the disk is full"}
    return InputError(
        f"the run folder {path} cannot be used",
        got=reason.strerror or reason if isinstance(reason, OSError) else reason,
        expected="a folder that can be made and written",
        cause=causes.get(code, "a mistyped path, missing rights or a read-only disk"),
        fix="choose another --out, or give yourself the right to write there",
    )
