"""Any data set in memory as a TFDS data set in RLDS layout, written without TensorFlow.

RLDS (Ramos et al. 2021) is an agreement on nesting and names: a record is an episode, an episode is a
sequence `steps`, and a step holds

    observation, action, reward, discount, is_first, is_last, is_terminal.

TensorFlow Datasets writes and reads it as array_record with numpy alone; with tfrecord, the other
format, it would need TensorFlow. Names, units and what else is known of the numbers go into
`metadata.json` beside the shards, which the project's own reader takes them from.

A record of its own for every single pair would spend its time on records, so sets whose episodes all have
one step are written with 1,000 pairs to an episode; neighbours in it have nothing to do with one
another, and the set's notes say so.
"""

import contextlib
import dataclasses
import io
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ch3_jax.data.episodes import Dataset, Steps
from ch3_jax.data.readers import common
from ch3_jax.data.synthetic import ONE_STEP
from ch3_jax.errors import InputError

_PAIRS_PER_EPISODE = 1_000


def rlds_builder(
    dataset: Dataset, name: str | None = None, *, version: str = "1.0.0", episode_length: int | None = None
) -> type:
    """A `tfds.core.GeneratorBasedBuilder` of a data set in memory.

    Args:
      dataset: of any source; `extra`, if there is any, must be plain JSON.
      name: of the TFDS data set, lower case with underscores; the set's own by default.
      version: three numbers, "1.0.0".
      episode_length: pairs to an episode where every episode has one step; 1,000 by default, and
        refused where episodes are real. The last episode of a split may be shorter.

    Returns:
      The class. It is not registered under its name, so nothing global changes. Order is kept.

    Raises:
      InputError: tensorflow-datasets is not installed, a name or version that TFDS does not accept,
        nothing to write, or an episode length that does not apply.
    """
    tfds = common.require("tensorflow_datasets", "tensorflow-datasets", "writing RLDS data")
    name = dataset.facts.name if name is None else name
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise _refusal("name", name, "lower-case letters, digits and underscores, a letter first")
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise _refusal("version", version, "three numbers, such as 1.0.0")
    pairs = all((np.diff(part.offset) == 1).all() for part in dataset.splits.values())
    if episode_length is not None and (not pairs or episode_length < 1):
        raise _refusal(
            "episode_length", episode_length, "1 or more, and only where every episode is one step"
        )
    if not dataset.splits or not all(len(part) for part in dataset.splits.values()):
        raise _refusal("dataset", "a split without steps, or no split", "at least one step in every split")
    length = (episode_length or _PAIRS_PER_EPISODE) if pairs else None
    offsets = {k: _grouped(part, length) for k, part in dataset.splits.items()}
    metadata = _metadata(dataset, name, length)

    # TFDS wants a class; it is made here, because its base exists only where TFDS is installed.
    with tfds.core.registered.skip_registration():

        class Builder(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version(version)
            code_path = None  # no checksums of downloads lie beside this code; looking needs another package

            def _info(self) -> Any:
                return tfds.core.DatasetInfo(
                    builder=self,
                    description=" ".join(metadata["notes"]) or f"The data set {name}.",
                    features=_features(tfds, dataset, whole=length is None),
                    metadata=tfds.core.MetadataDict(metadata),
                    disable_shuffling=True,
                )

            def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, Any]]]:
                del dl_manager  # nothing is downloaded
                return {k: self._generate_examples(k) for k in dataset.splits}

            def _generate_examples(self, split: str) -> Iterator[tuple[int, Any]]:
                return _episodes(dataset.splits[split], offsets[split], whole=length is None)

    Builder.__name__ = Builder.__qualname__ = "".join(word.capitalize() for word in name.split("_"))
    Builder.name = name
    return Builder


def write_rlds(
    dataset: Dataset,
    folder: str | Path,
    name: str | None = None,
    *,
    version: str = "1.0.0",
    episode_length: int | None = None,
) -> Path:
    """Writes a data set as array_record in RLDS layout, without TensorFlow.

    The folder appears whole or not at all: everything is written to a hidden folder beside it, which
    is renamed at the end.

    Args:
      dataset: of any source, e.g. `synthetic.embedded("inverse_dynamics", 0)`.
      folder: where TFDS data sets live; the set goes to folder/name/version.
      name: as for `rlds_builder`.
      version: as for `rlds_builder`.
      episode_length: as for `rlds_builder`.

    Returns:
      folder/name/version, which `tfds.builder_from_directory` and the project's reader open.

    Raises:
      InputError: what `rlds_builder` refuses, a version that is there already, a folder that cannot be
        written.

    References:
      Ramos et al., 2021, RLDS: an Ecosystem to Generate, Share and Use Datasets, arXiv:2111.02767.
    """
    common.require("array_record.python.array_record_module", "array_record", "writing RLDS data")
    builder = rlds_builder(dataset, name, version=version, episode_length=episode_length)
    folder = Path(folder)
    target = folder / builder.name / version
    if target.exists():
        raise InputError(
            f"{target} is there already",
            got="a folder of that name and version",
            expected="a version that does not exist yet",
            cause="the set was written before",
            fix="read it, remove it, or write another version",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Hidden and named for what it is: a process that is killed leaves it, and it can be deleted.
        scratch = Path(tempfile.mkdtemp(dir=folder, prefix=f".{builder.name}.incomplete."))
        try:
            made = builder(data_dir=scratch, file_format="array_record")
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                made.download_and_prepare()  # says "Downloading" and draws bars; nothing is downloaded
            target.parent.mkdir(exist_ok=True)
            Path(str(made.data_dir)).replace(target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"{target} cannot be written",
            got=error,
            expected="a folder that can be written, with room for the set",
            cause="missing rights, or a read-only or full disk",
            fix="choose another folder",
        ) from error
    return target


def _grouped(part: Steps, length: int | None) -> np.ndarray:
    """The offsets that are written: `length` steps to an episode, or as they are."""
    if length is None:
        return part.offset
    return np.append(np.arange(0, len(part), length), len(part))


def _metadata(dataset: Dataset, name: str, length: int | None) -> dict[str, Any]:
    facts = dataclasses.asdict(dataset.facts) | {"name": name}
    notes = [note for note in facts["notes"] if length is None or note != ONE_STEP]
    if length is not None:
        notes.append(
            f"independent pairs, laid into episodes of {length:,} for storage: their order means nothing"
        )
    # The format is the reader's to find out, and no images are written.
    del facts["format"], facts["cameras"]
    try:
        return json.loads(json.dumps(facts | {"notes": notes, "extra": dict(dataset.extra)}))
    except (TypeError, ValueError) as error:
        raise _refusal("extra", error, "numbers, texts, lists and mappings of them") from error


def _features(tfds: Any, dataset: Dataset, *, whole: bool) -> Any:
    part, facts = next(iter(dataset.splits.values())), dataset.facts

    def vector(array: np.ndarray, text: str | None) -> Any:
        return tfds.features.Tensor(shape=array.shape[1:], dtype=np.float32, doc=text)

    step = {
        "observation": {"state": vector(part.observation, ", ".join(facts.observation_names))},
        "action": vector(part.action, facts.action_meaning),
        "reward": np.float32,
        "discount": np.float32,
        "is_first": np.bool_,
        "is_last": np.bool_,
        "is_terminal": np.bool_,
    }
    if whole and part.timestamp is not None:
        step["timestamp"] = tfds.features.Scalar(np.float64, doc="s from the first step of the episode")
    if whole and part.instructions is not None:
        step["language_instruction"] = tfds.features.Text()
    episode = {"steps": tfds.features.Dataset(step)}
    if whole and part.sources is not None:
        episode["episode_metadata"] = {"file_path": tfds.features.Text()}
    return tfds.features.FeaturesDict(episode)


def _episodes(part: Steps, offset: np.ndarray, *, whole: bool) -> Iterator[tuple[int, Any]]:
    for index, (start, stop) in enumerate(zip(offset[:-1].tolist(), offset[1:].tolist(), strict=True)):
        length, rows = stop - start, slice(start, stop)
        steps: dict[str, Any] = {
            "observation": {"state": part.observation[rows]},
            "action": part.action[rows],
            "reward": np.zeros(length, np.float32),  # nobody scored these steps
            "discount": np.ones(length, np.float32),
            "is_first": np.arange(length) == 0,
            "is_last": np.arange(length) == length - 1,
            "is_terminal": np.zeros(length, bool),
        }
        if whole and part.timestamp is not None:
            steps["timestamp"] = part.timestamp[rows]
        if whole and part.instructions is not None:
            steps["language_instruction"] = [part.instructions[index]] * length
        episode: dict[str, Any] = {"steps": steps}
        if whole and part.sources is not None:
            episode["episode_metadata"] = {"file_path": part.sources[index]}
        yield index, episode


def _refusal(name: str, got: object, expected: str) -> InputError:
    return InputError(
        f"{name} cannot be written as RLDS",
        got=got,
        expected=expected,
        cause="a set made by hand, or a typing error",
        fix=f"give another {name}",
    )
