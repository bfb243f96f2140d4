r"""Checkpoints that survive a kill, a full disk and a flipped bit, or say which of them they did not.

What Orbax does not notice is a changed bit: it restores it in silence. So every leaf x at path p, and every
file that Orbax wrote, gets a digest of our own,

  d_p = SHA-256(dtype | shape | bytes of x),

and all of them stand in one manifest, with the record and a digest of the manifest itself:

  folder/step_300/state           the leaves, by Orbax, under their paths
  folder/step_300/manifest.json   version, step, metric, record, digests

A checkpoint is written as `step_300.writing` and renamed when it is complete, so a process that dies while
saving leaves the ones before as they were, and no moment exists at which data are there and digests are
not. `restore` believes a checkpoint only when every digest agrees - those of the files before Orbax reads
them, those of the leaves after - and otherwise falls back to the one before it and says so.

Rules of the folder. It has one writer (the run that holds the run folder's lock). It keeps the last two
checkpoints and the best one. Saving a step again writes `step_300.1` and only then removes `step_300`:
nothing is replaced in place. Saving step s removes checkpoints beyond s: they belong to a line of
training that was left, such as a damaged one that was passed over.

Saves are synchronous. Orbax's asynchronous save copies before it returns and then competes for the
same cores, and a donated buffer must not change underneath it; 6.5 MB take about 50 ms either way.
"""

import errno
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ch3_jax.base import PyTree
from ch3_jax.errors import InputError
from ch3_jax.training.digests import Leaf, described, digest, kind, rebuilt, stored

VERSION = 1
_NAME = re.compile(r"step_(\d+)(?:\.(\d+))?")
_MANIFEST, _WRITING, _REMOVING = "manifest.json", ".writing", ".removing"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Restored(NamedTuple):
    """What `restore` found.

    Attributes:
      state: pytree like the target, bit for bit as it was saved.
      record: the record that was saved with it.
      step: the step that it was saved at.
      skipped: sentences, one for each newer checkpoint that was passed over, and why.
    """

    state: PyTree
    record: dict[str, Any]
    step: int
    skipped: tuple[str, ...]


def save(
    folder: str | Path, step: int, state: PyTree, record: Mapping[str, Any], metric: float | None = None
) -> Path:
    """Writes one checkpoint, then removes what is no longer kept.

    Args:
      folder: the checkpoints of one run; made when missing.
      step: number of updates behind `state`, 0 or more.
      state: any pytree of arrays, typed keys and Python numbers.
      record: what else the run needs to go on, as plain JSON: config, statistics, data position.
      metric: lower is better; the checkpoint with the lowest one is kept. None or NaN: no candidate.

    Returns:
      The folder of this checkpoint.

    Raises:
      InputError: the disk is full or cannot be written; earlier checkpoints are untouched.
      TypeError: a leaf is no array or number, or the record is no JSON.
      ValueError: a step below 0, or two leaves of one path.

    Example:
      >>> import tempfile
      >>> folder = tempfile.mkdtemp()
      >>> _ = save(folder, 3, {"w": np.ones(2, np.float32)}, {"seed": 0})
      >>> restore(folder, {"w": np.zeros(2, np.float32)}).state["w"]
      array([1., 1.], dtype=float32)
    """
    if step < 0:
        raise ValueError(f"step must be 0 or more, got {step}")
    leaves = described(state)
    if metric is not None and not math.isfinite(metric):
        metric = None
    manifest = {
        "version": VERSION,
        "step": int(step),
        "metric": None if metric is None else float(metric),
        "record": json.loads(json.dumps(record)),
        "leaves": {path: leaf.entry for path, leaf in leaves.items()},
    }
    folder = Path(folder).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        _require_room(folder, sum(leaf.data.nbytes for leaf in leaves.values()))
        path = _unused(folder, step)
        _write(path, leaves, manifest)
    except Exception as error:  # Orbax wraps the system's errors in types of its own.
        _sweep(folder)
        refusal = _refusal(error, folder, step)
        if refusal is None:
            raise
        raise refusal from error
    for old in _outdated(folder, path):
        _remove(old)
    return path


def restore(folder: str | Path, target: PyTree, step: int | None = None) -> Restored | None:
    """The newest checkpoint whose every digest agrees, in the structure of `target`.

    Args:
      folder: as given to `save`.
      target: a pytree of the same structure, shapes and dtypes: values or `jax.ShapeDtypeStruct`s. Arrays
        of JAX come back on the target's devices, the others as what they are in the target.
      step: only this step; None takes the newest.

    Returns:
      The state with its record, or None where no checkpoint was ever completed: a run that was
      killed before its first save starts from the beginning.

    Raises:
      InputError: no checkpoint is intact; the step is not there; the state differs from `target` in
        structure, shape or dtype; another format version.
    """
    candidates = _checkpoints(Path(folder).absolute())[::-1]
    if step is not None:
        candidates = [path for path in candidates if _order(path)[0] == step] or _absent(folder, step)
    if not candidates:
        return None
    wanted = described(target, data=False)
    reasons: list[str] = []
    for path in candidates:
        try:
            manifest = _manifest(path)
            _require_version(path, manifest)
            _require_fit(path, manifest["leaves"], wanted)
            data = _verified(path, manifest, wanted)
        except _Damaged as damage:
            reasons.append(f"step {_order(path)[0]} in {path.name} was passed over: {damage}")
            continue
        skipped = tuple(f"{reason}; step {manifest['step']} was restored instead" for reason in reasons)
        return Restored(
            rebuilt(target, data, manifest["leaves"]), manifest["record"], manifest["step"], skipped
        )
    raise InputError(
        f"no intact checkpoint in {folder}",
        got="; ".join(reasons),
        expected="at least one checkpoint whose checksums agree",
        cause="the disk failed, or files were changed or cut after they were written",
        fix="copy the folder back from a backup, or train again with another --out",
    )


def latest(folder: str | Path) -> int | None:
    """The newest completed step, not yet verified; None where there is none."""
    found = _checkpoints(Path(folder).absolute())
    return _order(found[-1])[0] if found else None


def best(folder: str | Path) -> int | None:
    """The step of the lowest metric, the earlier one of equals; None where none has a metric."""
    path = _best(_checkpoints(Path(folder).absolute()))
    return None if path is None else _order(path)[0]


def load_record(folder: str | Path, step: int | None = None) -> dict[str, Any]:
    """The record alone, of `step` or of the newest checkpoint, its digest verified.

    Raises:
      InputError: the step is not there, its record is damaged, or its format version is another.
    """
    found = [p for p in _checkpoints(Path(folder).absolute()) if step is None or _order(p)[0] == step]
    path = (found or _absent(folder, step))[-1]
    try:
        manifest = _manifest(path)
    except _Damaged as damage:
        raise InputError(
            f"the record of {path} cannot be used",
            got=damage,
            expected="a record whose checksum agrees",
            cause="the file was changed or cut after it was written",
            fix=f"use another step of {folder}",
        ) from damage
    _require_version(path, manifest)
    return manifest["record"]


class _Damaged(Exception):
    """A checkpoint that cannot be believed; the text says why."""


# The manifest: what was saved, sealed by a digest of its own.


def _seal(content: Mapping[str, Any]) -> str:
    """Digest of the canonical text, so that one changed character anywhere shows."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / _MANIFEST).read_bytes())
        seal = manifest.pop("sha256")
    except Exception as error:  # Damage shows as whatever the parser met first.
        raise _Damaged(f"{_MANIFEST} cannot be read ({_first_line(error)})") from error
    if seal != _seal(manifest):
        raise _Damaged(f"{_MANIFEST} does not match its checksum: it was changed after it was written")
    return manifest


def _files(path: Path) -> dict[str, str]:
    """Digests of all that Orbax wrote below `path`."""
    found = sorted(p for p in path.rglob("*") if p.is_file() and p != path / _MANIFEST)
    return {p.relative_to(path).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


def _require_version(path: Path, manifest: Mapping[str, Any]) -> None:
    if manifest.get("version") == VERSION:
        return
    raise InputError(
        f"{path} has another format version",
        got=f"version {manifest.get('version')}",
        expected=f"version {VERSION}",
        cause="it was written by another release of this project",
        fix="restore it with the release that config.json of the run names, or train again",
    )


def _require_fit(path: Path, entries: Mapping[str, Any], wanted: Mapping[str, Leaf]) -> None:
    """Refuses the first leaf that the checkpoint and the target do not have alike."""
    for name in [*wanted, *(name for name in entries if name not in wanted)]:
        saved, asked = entries.get(name), wanted.get(name)
        if saved is not None and asked is not None and kind(saved) == kind(asked.entry):
            continue
        raise InputError(
            f"the checkpoint {path} holds another state than this run: {name} differs",
            got="no such leaf" if saved is None else f"{name} of {kind(saved)}",
            expected="no such leaf" if asked is None else f"{name} of {kind(asked.entry)}",
            cause="the run was started with other flags (policy, bins, optimizer, EMA ...) or other data",
            fix="give the flags that config.json of the run shows, or another --out without --resume",
        )


# Orbax: reading and writing one checkpoint.


def _orbax():
    try:
        import orbax.checkpoint as ocp
    except ImportError as error:
        raise InputError(
            "checkpoints need the package orbax-checkpoint",
            got=error,
            expected="orbax-checkpoint 0.11 or newer",
            cause="it is not installed in this environment",
            fix="pip install orbax-checkpoint",
        ) from error
    return ocp


def _write(path: Path, leaves: Mapping[str, Leaf], manifest: Mapping[str, Any]) -> None:
    ocp = _orbax()
    # Orbax refuses arrays without elements (the manifest says all there is to know of them), and
    # trees without leaves, which the step prevents.
    tree = {name: leaf.data for name, leaf in leaves.items() if leaf.data.size}
    tree["step"] = np.asarray(manifest["step"])
    staged = path.with_name(path.name + _WRITING)
    with _checkpointer(ocp) as checkpointer:
        checkpointer.save(staged, args=ocp.args.Composite(state=ocp.args.StandardSave(tree)))
    content = {**manifest, "files": _files(staged)}
    with (staged / _MANIFEST).open("w") as file:
        json.dump({**content, "sha256": _seal(content)}, file)
        file.flush()
        os.fsync(file.fileno())
    staged.rename(path)


def _checkpointer(ocp):
    """One that waits for nobody: of several processes one saves for all, and each reads for itself."""
    import jax

    if jax.process_count() == 1:
        return ocp.Checkpointer(ocp.CompositeCheckpointHandler())
    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process_{me}"
    )
    handler = ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=alone),
        state=ocp.StandardCheckpointHandler(multiprocessing_options=alone),
    )
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _verified(path: Path, manifest: Mapping[str, Any], wanted: Mapping[str, Leaf]) -> dict[str, np.ndarray]:
    """The leaves by path, after every digest was found to agree."""
    found = _files(path)
    for name, sha256 in manifest["files"].items():
        if name not in found:
            raise _Damaged(f"the file {name} is missing")
        if found[name] != sha256:
            raise _Damaged(f"the file {name} does not match its checksum: a flipped bit or a missing part")
    ocp = _orbax()
    shapes = {name: stored(entry) for name, entry in manifest["leaves"].items()}
    target = {name: x for name, x in shapes.items() if x.size} | {"step": np.asarray(0)}
    args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
    try:
        with _checkpointer(ocp) as checkpointer:
            state = checkpointer.restore(path, args=args)["state"]
        data = {name: np.asarray(state[name]) if x.size else x for name, x in shapes.items()}
    except Exception as error:  # Damage shows as whatever the reader met first.
        raise _Damaged(f"its data cannot be read ({_first_line(error)})") from error
    for name in wanted:
        entry, array = manifest["leaves"][name], data[name]
        if array.dtype != shapes[name].dtype or array.shape != shapes[name].shape:
            raise _Damaged(f"{name} came back as shape {array.shape}, {array.dtype}")
        if digest(entry, array) != entry["sha256"]:
            raise _Damaged(f"{name} does not match its checksum")
    return data


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:160] if text else 'no text'}"


# The folder: names, order, retention.


def _checkpoints(folder: Path) -> list[Path]:
    """Completed checkpoints, oldest first."""
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if _NAME.fullmatch(p.name) and p.is_dir()), key=_order)


def _order(path: Path) -> tuple[int, int]:
    """(step, attempt)."""
    step, attempt = _NAME.fullmatch(path.name).groups()
    return int(step), int(attempt or 0)


def _unused(folder: Path, step: int) -> Path:
    """`step_300`, or `step_300.1` and so on where the step was saved before."""
    taken = [_order(p)[1] for p in _checkpoints(folder) if _order(p)[0] == step]
    return folder / (f"step_{step}.{max(taken) + 1}" if taken else f"step_{step}")


def _best(paths: list[Path]) -> Path | None:
    metrics: dict[Path, float] = {}
    for path in paths:
        try:
            metric = _manifest(path)["metric"]
        except (_Damaged, KeyError):
            continue
        if metric is not None:
            metrics[path] = metric
    return min(metrics, key=lambda p: (metrics[p], _order(p)), default=None)


def _outdated(folder: Path, newest: Path) -> list[Path]:
    """All but the last two steps and the best: `newest` is the line of training that goes on."""
    found = _checkpoints(folder)
    line = [p for p in found if _order(p)[0] < _order(newest)[0]] + [newest]
    kept = {*line[-2:], _best(line)}
    return [p for p in found if p not in kept]


def _remove(path: Path) -> None:
    """Renames first, so that half a folder never carries a checkpoint's name."""
    doomed = path.with_name(path.name + _REMOVING)
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Removes what an interrupted save or removal left behind."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.name.startswith("step_") and (_WRITING in path.name or path.suffix == _REMOVING):
            shutil.rmtree(path, ignore_errors=True)


def _require_room(folder: Path, size: int) -> None:
    """Asks before writing: some file systems fill up late and in silence."""
    needed, free = size + 2**20, shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(errno.ENOSPC, f"{free / 1e6:.1f} MB are free, {needed / 1e6:.1f} MB are needed")


def _refusal(error: Exception, folder: Path, step: int) -> InputError | None:
    """What a person can do about an error of the disk; None for any other error."""
    text, code = str(error), getattr(error, "errno", None)
    if code in _NO_ROOM or "No space left" in text or "RESOURCE_EXHAUSTED" in text:
        cause, fix = "the disk is full", "make room, then go on with --resume"
    elif isinstance(error, OSError) or "PERMISSION_DENIED" in text or "Read-only" in text:
        cause, fix = "the folder cannot be written", "make it writable, then go on with --resume"
    else:
        return None
    kept = [str(_order(p)[0]) for p in _checkpoints(folder)]
    return InputError(
        f"the checkpoint of step {step} could not be saved in {folder}",
        got=_first_line(error),
        expected=f"room; kept: {'steps ' + ', '.join(kept) if kept else 'no earlier checkpoint'}",
        cause=cause,
        fix=fix,
    )


def _absent(folder: str | Path, step: int | None) -> list[Path]:
    there = [str(_order(p)[0]) for p in _checkpoints(Path(folder).absolute())]
    raise InputError(
        f"no checkpoint of {'any step' if step is None else f'step {step}'} in {folder}",
        got=f"steps {', '.join(there)}" if there else "no checkpoint",
        expected="a step that is kept: the last two and the best",
        cause="it was removed by the rule above, or never saved",
        fix="name one of these steps" if there else "train first, or check the path",
    )
