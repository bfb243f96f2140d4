"""RLDS: episodes as TensorFlow Datasets wrote them, read without TensorFlow.

A version folder holds `features.json`, `dataset_info.json` and shards, tfrecord or array_record.
Every record is one episode whose `steps` are stored column by column, so a (T, 7) action comes out
of one record as one array. The reader asks tensorflow-datasets only for what the caller wants: the
features are cut down to action, state, language and time before a record is parsed, and an
image is never decoded that nobody asked for.
"""

import contextlib
import dataclasses
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ch3_jax.data.episodes import Episode, Facts, Source
from ch3_jax.data.readers import common, tfrecord
from ch3_jax.errors import InputError

# The files of Bridge V2 name no dimension; this is its published layout.
_POSE = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
_POSE_UNITS = ("m", "m", "m", "rad", "rad", "rad", "1")
_BRIDGE = {
    "observation_names": _POSE,
    "action_names": _POSE,
    "observation_units": _POSE_UNITS,
    "action_units": _POSE_UNITS,
    "rate_hz": 5.0,
    "notes": ("names, units and the rate of 5 Hz are those of Bridge V2: the files do not say",),
}
_STATE_KEYS = ("state", "proprio", "robot_state")
_LANGUAGE_KEYS = ("language_instruction", "natural_language_instruction")


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Where things stand in a step: each path is a tuple of keys, each leaf a TFDS feature."""

    action: Mapping[tuple[str, ...], Any]
    state: Mapping[tuple[str, ...], Any]
    cameras: Mapping[tuple[str, ...], Any]
    language: tuple[str, ...] | None
    time: tuple[str, ...] | None


def open_rlds(folder: Path, *, images: bool = False) -> Source:
    """Opens a TFDS version folder (the one with `features.json`) of episodes in RLDS layout.

    Args:
      folder: ".../bridge_dataset/1.0.0".
      images: whether to decode the camera images.

    Returns:
      A `Source`. `Facts.action_meaning` is the text in which features.json describes the action;
      a `metadata.json` beside it may give any field of `Facts` by name.

    Raises:
      InputError: not RLDS, an unknown file format, a missing shard; on reading: a truncated or
        damaged record, a shard with another number of episodes than it should have.
    """
    tfds = common.require("tensorflow_datasets", "tensorflow-datasets", "RLDS data")
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints advice to install TensorFlow
            builder = tfds.builder_from_directory(str(folder))
        info = builder.info
        steps = info.features["steps"].feature
        splits = {name: list(map(Path, map(str, split.filepaths))) for name, split in info.splits.items()}
    except Exception as error:  # whatever is wrong with a folder's metadata, this is the message
        raise _not_rlds(folder, error) from error
    kind = info.file_format.value
    if kind not in ("tfrecord", "array_record"):
        raise _not_rlds(folder, f"shards in the format {kind}")
    _check_shards(folder, splits)
    layout = _layout(folder, steps)
    parse = _parser(tfds, layout, images)
    facts = _facts(folder, info.name, kind, layout)

    def passes(split: str) -> Callable[[], Iterator[Episode]]:
        def start() -> Iterator[Episode]:
            records = _array_records if kind == "array_record" else _tf_records
            for shard, index, record in records(tfds, builder, split, splits[split]):
                yield _episode(parse, record, layout, facts, images, f"record {index} of {shard}")

        return start

    return Source(facts=facts, splits={name: passes(name) for name in splits})


def _not_rlds(folder: Path, reason: object) -> InputError:
    return InputError(
        f"{folder} holds a TFDS data set that cannot be read as RLDS episodes.",
        got=str(reason).strip().splitlines()[0] if str(reason).strip() else type(reason).__name__,
        expected="features.json with `steps` of `action` and `observation`, dataset_info.json with its"
        " splits, and shards of tfrecord or array_record",
        cause="an incomplete copy, or a data set that is not made of episodes",
        fix=f"look at {folder / 'features.json'} and copy the version folder again, complete",
    )


def _check_shards(folder: Path, splits: Mapping[str, list[Path]]) -> None:
    files = [file for shards in splits.values() for file in shards]
    missing = [file for file in files if not file.is_file()]
    if missing or not files:
        raise InputError(
            f"{folder} lacks {len(missing) or 'all'} of its {len(files)} shards.",
            got=f"no file {missing[0].name}" if missing else "a dataset_info.json that lists no split",
            expected="every shard that dataset_info.json lists",
            cause="an interrupted download or copy",
            fix="copy the missing files, or the whole version folder, again",
        )


def _layout(folder: Path, steps: Mapping[str, Any]) -> _Layout:
    leaves = dict(_leaves(steps))
    numeric = {path: leaf for path, leaf in leaves.items() if _is_vector(leaf)}
    action = {path: leaf for path, leaf in numeric.items() if path[0] == "action"}
    seen = {path: leaf for path, leaf in numeric.items() if path[0] == "observation"}
    named = [("observation", key) for key in _STATE_KEYS if ("observation", key) in seen]
    state = {named[0]: seen[named[0]]} if named else seen
    if not action or not state:
        raise InputError(
            f"{folder} has no numeric {'state' if action else 'action'} in its steps.",
            got="steps of " + ", ".join("/".join(path) for path in leaves),
            expected="a vector `action` and a vector in `observation` (`state` where there are several)",
            cause="a set of images only, or other key names",
            fix=f"see {folder / 'features.json'}; a set without a state needs a policy on images",
        )
    texts = [p for p in leaves if p[-1] in _LANGUAGE_KEYS and len(p) <= 2]
    return _Layout(
        action=action,
        state=state,
        cameras={
            p: leaf
            for p, leaf in sorted(leaves.items(), key=lambda item: item[0])
            if type(leaf).__name__ == "Image"
        },
        language=texts[0] if texts else None,
        time=("timestamp",) if ("timestamp",) in numeric else None,
    )


def _leaves(feature: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every feature of a step that holds numbers, text or an image, with its path."""
    if hasattr(feature, "items"):
        for key, child in feature.items():
            yield from _leaves(child, (*path, key))
    else:
        yield path, feature


def _is_vector(leaf: Any) -> bool:
    if type(leaf).__name__ not in ("Tensor", "Scalar"):
        return False
    return len(leaf.shape) <= 1 and None not in leaf.shape and np.issubdtype(leaf.np_dtype, np.number)


def _size(leaf: Any) -> int:
    return int(np.prod(leaf.shape, dtype=int))


def _facts(folder: Path, name: str, kind: str, layout: _Layout) -> Facts:
    known: dict[str, Any] = {}
    if "bridge" in name.lower() and [sum(map(_size, f.values())) for f in (layout.action, layout.state)] == [
        7,
        7,
    ]:
        known |= _BRIDGE
    if (folder / "metadata.json").is_file():
        known |= _given_facts(common.read_json(folder / "metadata.json"))
    notes = tuple(known.pop("notes", ()))
    if len(layout.state) > 1:
        notes += (f"the state is {' + '.join('/'.join(path[1:]) for path in layout.state)}, in this order",)
    texts = [leaf.doc.desc for leaf in layout.action.values() if leaf.doc.desc]
    return Facts(
        **{
            "name": name,
            "format": f"rlds {kind}",
            "observation_names": _names("state", layout.state),
            "action_names": _names("action", layout.action),
            "action_meaning": "; ".join(texts) or None,
            "cameras": tuple(path[-1] for path in layout.cameras),
            "notes": notes,
            **known,
        }
    )


def _given_facts(metadata: Any) -> dict[str, Any]:
    """The fields of `Facts` that a metadata.json gives; lists become tuples, the rest is left out."""
    fields = {field.name for field in dataclasses.fields(Facts)} - {"format", "cameras"}
    given = metadata if isinstance(metadata, dict) else {}
    return {
        k: tuple(v) if isinstance(v, list) else v for k, v in given.items() if k in fields and v is not None
    }


def _names(prefix: str, leaves: Mapping[tuple[str, ...], Any]) -> tuple[str, ...]:
    if len(leaves) == 1:
        return common.dimension_names(prefix, None, _size(next(iter(leaves.values()))))
    return tuple(f"{path[-1]}_{i}" for path, leaf in leaves.items() for i in range(_size(leaf)))


def _parser(tfds: Any, layout: _Layout, images: bool) -> Callable[[bytes], Mapping[str, Any]]:
    """Record -> {key: (T, ...) array}, of the wanted features only, images still encoded."""
    wanted = {**layout.action, **layout.state, **(layout.cameras if images else {})}
    if layout.language:
        wanted[layout.language] = tfds.features.Text()
    if layout.time:
        wanted[layout.time] = tfds.features.Scalar(np.float64)
    tree: dict[str, Any] = {}
    for path, leaf in wanted.items():
        branch = tree
        for key in path[:-1]:
            branch = branch.setdefault(key, {})
        branch[path[-1]] = leaf
    features = tfds.features.FeaturesDict({"steps": tfds.features.Dataset(tree)})
    decoders = {"steps": tfds.decode.SkipDecoding()}
    return lambda record: features.deserialize_example_np(record, decoders=decoders)["steps"]


def _tf_records(tfds: Any, builder: Any, split: str, shards: list[Path]) -> Iterator[tuple[str, int, bytes]]:
    del tfds
    for shard, expected in zip(shards, builder.info.splits[split].shard_lengths, strict=True):
        count = 0
        for record in tfrecord.read_records(shard):
            yield shard.name, count, record
            count += 1
        if count != expected:
            raise _wrong_count(shard, count, expected)


def _array_records(
    tfds: Any, builder: Any, split: str, shards: list[Path]
) -> Iterator[tuple[str, int, bytes]]:
    common.require("array_record", "array_record", "RLDS data in array_record")
    where = shards[0] if len(shards) == 1 else shards[0].parent
    expected = builder.info.splits[split].num_examples
    try:
        data = builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
        count = len(data)
    except (RuntimeError, ValueError, OSError) as error:
        raise common.unreadable(where, f"array_record shards of split {split}", error) from error
    if count != expected:
        raise _wrong_count(where, count, expected)
    for index in range(count):
        try:
            record = data[index]
        except (RuntimeError, ValueError, IndexError, OSError) as error:
            raise common.unreadable(
                where, f"array_record shards with record {index} of {split}", error
            ) from error
        yield where.name, index, record


def _wrong_count(path: Path, count: int, expected: int) -> InputError:
    return InputError(
        f"{path} holds {count} episodes where its dataset_info.json says {expected}.",
        got=f"{count} whole records",
        expected=f"{expected} records",
        cause="a file cut off between two records, or a shard from another version of the set",
        fix=f"copy {path.name} and dataset_info.json again, from the same version",
    )


def _episode(
    parse: Callable[[bytes], Mapping[str, Any]],
    record: bytes,
    layout: _Layout,
    facts: Facts,
    images: bool,
    where: str,
) -> Episode:
    try:
        steps = parse(record)
        action, state = (_vectors(steps, leaves) for leaves in (layout.action, layout.state))
        pictures = {p[-1]: _pictures(steps, p, f) for p, f in layout.cameras.items()} if images else {}
    except InputError:
        raise
    except Exception as error:  # protobuf, numpy and PIL each raise their own
        words = str(error).strip().splitlines()
        raise InputError(
            f"{where} cannot be decoded.",
            got=f"{type(error).__name__}: {words[0] if words else ''}",
            expected="a tf.train.Example of the features in features.json",
            cause="features.json of another version than the shards, or an image that is damaged",
            fix="copy features.json and the shards again, from the same version",
        ) from error
    time = np.asarray(_get(steps, layout.time), np.float64).reshape(-1) if layout.time else None
    text = _get(steps, layout.language)[:1] if layout.language else ()
    return Episode(
        observation=state,
        action=action,
        timestamp=common.seconds(len(action), facts.rate_hz) if time is None else time - time[:1],
        images=pictures,
        instruction=text[0].decode("utf-8", "replace") if len(text) else "",
        source=where,
    )


def _get(steps: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    for key in path:
        steps = steps[key]
    return steps


def _vectors(steps: Mapping[str, Any], leaves: Mapping[tuple[str, ...], Any]) -> np.ndarray:
    columns = []
    for path, leaf in leaves.items():
        raw = np.asarray(_get(steps, path))
        if raw.dtype == object:  # a compressed tensor (the state of the kuka set is one)
            raw = np.stack([leaf.decode_example_np(item) for item in raw])
        columns.append(raw.reshape(len(raw), _size(leaf)).astype(np.float32))
    return np.concatenate(columns, axis=1) if len(columns) > 1 else columns[0]


def _pictures(steps: Mapping[str, Any], path: tuple[str, ...], leaf: Any) -> np.ndarray:
    return np.stack([leaf.decode_example_np(item) for item in _get(steps, path)])
