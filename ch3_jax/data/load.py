"""From a path to a data set: the reader is chosen by looking at what the path holds.

    features.json or dataset_info.json        RLDS (TFDS)
    .zgroup, .zmetadata or zarr.json          zarr
    meta/info.json                            LeRobot

`open_source` streams episodes; `load` lays them end to end and refuses, before anything is trained on
them, numbers that no policy can learn from: NaN, infinity, and episodes of different width.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from ch3_jax.data.episodes import Dataset, Episode, Facts, Source, Steps
from ch3_jax.data.readers.common import read_json
from ch3_jax.data.readers.lerobot import open_lerobot
from ch3_jax.data.readers.rlds import open_rlds
from ch3_jax.data.readers.zarr import open_zarr
from ch3_jax.errors import InputError

_MARKS: tuple[tuple[str, Callable[..., Source]], ...] = (
    ("features.json", open_rlds),
    ("dataset_info.json", open_rlds),
    ("meta/info.json", open_lerobot),
    (".zgroup", open_zarr),
    (".zmetadata", open_zarr),
    ("zarr.json", open_zarr),
)
_DEPTH = 2
_LOOKED_FOR = "features.json (RLDS/TFDS), meta/info.json (LeRobot), .zgroup or zarr.json (zarr)"


def open_source(path: str | Path, *, images: bool = False) -> Source:
    """Opens the data set that a folder holds, or that it alone holds one or two levels below.

    Args:
      path: a version folder of TFDS, a zarr folder, a LeRobot folder, or a parent of exactly one.
      images: whether episodes carry their images; decoding is most of the time, so the default is no.

    Returns:
      A `Source`; nothing but metadata has been read so far.

    Raises:
      InputError: nothing there, an empty folder, an unknown format, several data sets, metadata that
        cannot be read, a missing file or package.
    """
    folder, reader = _find(Path(path).expanduser())
    try:
        return reader(folder, images=images)
    except OSError as error:
        raise _not_readable(folder, error) from error


def load(path: str | Path) -> Dataset:
    """Reads every split of a data set into memory, without images, and checks the numbers.

    Args:
      path: as for `open_source`.

    Returns:
      A `Dataset`; `extra` is what a metadata.json of the project's own builders says of the generator.

    Raises:
      InputError: as `open_source` and `gather`.
    """
    folder, _ = _find(Path(path).expanduser())
    source = open_source(folder)
    try:
        dataset = gather(source)
    except OSError as error:
        raise _not_readable(folder, error) from error
    metadata = read_json(folder / "metadata.json") if (folder / "metadata.json").is_file() else None
    extra = metadata.get("extra") if isinstance(metadata, dict) else None
    return dataclasses.replace(dataset, extra=extra) if isinstance(extra, dict) else dataset


def gather(source: Source) -> Dataset:
    """Lays the episodes of every split end to end.

    Args:
      source: any `Source`.

    Returns:
      A `Dataset` with the source's facts. `Steps.timestamp` is None where no file and no rate gives
      times.

    Raises:
      InputError: a split without episodes, an episode without steps, dimensions that differ between
        episodes or from the names, NaN or infinity in an action or an observation.
    """
    if not source.splits:
        raise _no_episodes(source.facts, "any split")
    widths: tuple[int, int] | None = None
    splits = {}
    for name, episodes in source.splits.items():
        splits[name], widths = _lay_out(source.facts, name, episodes(), widths)
    return Dataset(facts=source.facts, splits=splits)


def check_finite(facts: Facts, split: str, steps: Steps) -> None:
    """Refuses NaN and infinity, by episode, step and dimension.

    Args:
      facts: for the names of dimensions.
      split: its name, for the message.
      steps: the numbers.

    Raises:
      InputError: the first bad number, and how many there are.
    """
    vectors: Mapping[str, tuple[np.ndarray, tuple[str, ...]]] = {
        "action": (steps.action, facts.action_names),
        "observation": (steps.observation, facts.observation_names),
    }
    for kind, (values, names) in vectors.items():
        good = np.isfinite(values)
        if not good.all():
            raise _not_finite(facts, split, steps, kind, values, good, names)


def _lay_out(
    facts: Facts, split: str, episodes: Iterable[Episode], widths: tuple[int, int] | None
) -> tuple[Steps, tuple[int, int]]:
    gathered = []
    for index, episode in enumerate(episodes):
        where = f"episode {index} of split {split}"
        if len(episode.observation) != len(episode.action) or not len(episode):
            raise _bad_length(facts, where, episode)
        given = (len(facts.observation_names), len(facts.action_names))
        expected, why = (given, "its names") if widths is None else (widths, "the episodes before it")
        widths = (episode.observation.shape[1], episode.action.shape[1])
        for kind, got, want in zip(("observation", "action"), widths, expected, strict=True):
            if got != want:
                raise _bad_width(facts, f"{where} ({episode.source})", kind, got, want, why)
        gathered.append(episode)
    if not gathered or widths is None:
        raise _no_episodes(facts, f"split {split}")
    time = np.concatenate([e.timestamp for e in gathered])
    steps = Steps(
        observation=np.concatenate([e.observation for e in gathered]).astype(np.float32, copy=False),
        action=np.concatenate([e.action for e in gathered]).astype(np.float32, copy=False),
        offset=np.concatenate([[0], np.cumsum([len(e) for e in gathered])]).astype(np.int64),
        timestamp=None if np.isnan(time).all() else time,
        sources=tuple(e.source for e in gathered),
        instructions=tuple(e.instruction for e in gathered) if any(e.instruction for e in gathered) else None,
    )
    check_finite(facts, split, steps)
    return steps, widths


def _find(path: Path) -> tuple[Path, Callable[..., Source]]:
    """The one data set that a path holds, and its reader."""
    if not path.is_dir():
        raise _no_folder(path)
    try:
        found = _candidates(path, _DEPTH)
        seen = sorted(child.name + "/" * child.is_dir() for child in path.iterdir())
    except OSError as error:
        raise _not_readable(path, error) from error
    if len(found) != 1:
        raise _several(path, found) if found else _unknown(path, seen)
    return found[0]


def _candidates(folder: Path, depth: int) -> list[tuple[Path, Callable[..., Source]]]:
    """The data sets in a folder: itself, or else those below it."""
    for mark, reader in _MARKS:
        if (folder / mark).is_file():
            return [(folder, reader)]
    if not depth:
        return []
    below = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    return [found for child in below for found in _candidates(child, depth - 1)]


def _no_folder(path: Path) -> InputError:
    parent = next((p for p in path.parents if p.is_dir()), Path())
    try:
        beside = ", ".join(sorted(child.name for child in parent.iterdir())[:8]) or "nothing"
    except OSError as error:
        beside = f"({error})"
    is_file = path.is_file()
    return InputError(
        f"{path} is a file, not the folder of a data set." if is_file else f"{path} is not there.",
        got=f"{'a file of ' + str(path.stat().st_size) + ' bytes' if is_file else 'no such folder'}; "
        f"{parent} holds {beside}",
        expected=f"a folder with {_LOOKED_FOR}",
        cause="a packed archive" if is_file else "a typing error, or another working directory than intended",
        fix="unpack it, and give the folder" if is_file else f"ls {parent}",
    )


def _unknown(path: Path, seen: list[str]) -> InputError:
    more = f" and {len(seen) - 8} more" if len(seen) > 8 else ""
    return InputError(
        f"{path} holds no data set of a known format." if seen else f"{path} is empty.",
        got=", ".join(seen[:8]) + more if seen else "an empty folder",
        expected=f"{_LOOKED_FOR}, here or up to {_DEPTH} levels below",
        cause="the wrong folder, a copy without its metadata, or another format (hdf5, rosbag)"
        if seen
        else "a download that did not run",
        fix="give the folder that holds one of these files, or convert the set to LeRobot or RLDS"
        if seen
        else "fetch the data again, or give another folder",
    )


def _several(path: Path, found: list[tuple[Path, Callable[..., Source]]]) -> InputError:
    names = [str(folder.relative_to(path)) for folder, _ in found]
    return InputError(
        f"{path} holds {len(found)} data sets.",
        got=", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else ""),
        expected="exactly one data set",
        cause="a parent folder, or a TFDS folder with several versions",
        fix=f"give one of them: {path / names[0]}",
    )


def _not_readable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path} cannot be read.",
        got=str(error),
        expected="folders and files that this user may read",
        cause="permissions, or a disk that went away",
        fix=f"ls -la {path}",
    )


def _no_episodes(facts: Facts, where: str) -> InputError:
    return InputError(
        f"{facts.name} ({facts.format}) holds no episode in {where}.",
        got="0 episodes",
        expected="at least one episode in every split",
        cause="a recording that was never written, or a split that its metadata leaves empty",
        fix="check the metadata of the set; remove the empty split from it if that is what was meant",
    )


def _bad_length(facts: Facts, where: str, episode: Episode) -> InputError:
    return InputError(
        f"{facts.name}: {where} ({episode.source}) has no steps, or not as many states as actions.",
        got=f"{len(episode.observation)} observations, {len(episode)} actions",
        expected="one observation and one action per step, at least one step",
        cause="a recording that was stopped before its first step, or cut",
        fix="remove this episode from the set",
    )


def _bad_width(facts: Facts, where: str, kind: str, got: int, want: int, why: str) -> InputError:
    verb = "give" if why == "its names" else "have"
    return InputError(
        f"{facts.name}: {where} has {got} {kind} dimensions where {why} {verb} {want}.",
        got=f"{kind} of {got} dimensions",
        expected=f"{want} dimensions in every episode",
        cause="recordings of two robots, or of two versions of one, in one data set",
        fix="split the set by robot, or bring the episodes to one layout before training",
    )


def _not_finite(
    facts: Facts,
    split: str,
    steps: Steps,
    kind: str,
    values: np.ndarray,
    good: np.ndarray,
    names: tuple[str, ...],
) -> InputError:
    rows, columns = np.nonzero(~good)
    hit = np.unique(np.searchsorted(steps.offset, rows, side="right") - 1)
    row, column, episode = int(rows[0]), int(columns[0]), int(hit[0])
    source = f" ({steps.sources[episode]})" if steps.sources else ""
    where = f"episode {episode}{source}, step {row - int(steps.offset[episode])}"
    return InputError(
        f"{facts.name}: the {kind}s of split {split} hold numbers that are not finite, first in {where}, "
        f"dimension {column} ({names[column]}).",
        got=f"{values[row, column]} there; {len(rows)} such numbers in {len(hit)} of {steps.episodes} "
        f"episodes, dimensions {', '.join(names[c] for c in np.unique(columns)[:8])}",
        expected="finite numbers",
        cause="a sensor that dropped out, or a division by zero in a conversion",
        fix="repair these steps in the recording, or remove the episodes; nothing is filled in here",
    )
