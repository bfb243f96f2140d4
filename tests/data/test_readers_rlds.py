"""RLDS folders: a tiny one written by hand (frames, protobuf, metadata), and Bridge."""

import io
import json
import re
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from ch3_jax.data.readers import tfrecord
from ch3_jax.data.readers.rlds import open_rlds
from ch3_jax.errors import InputError

tfds = pytest.importorskip("tensorflow_datasets")
crc32c = pytest.importorskip("google_crc32c").value

CUP = "pick up the cup"


def frame(data: bytes) -> bytes:
    """One TFRecord frame, from the format's definition."""

    def mask(crc):
        return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32

    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", mask(crc32c(length))) + data + struct.pack("<I", mask(crc32c(data)))


def record(action, state, *, text=CUP, pictures=(), clock=None) -> bytes:
    """One episode as a tf.train.Example: every feature flattened over its steps."""
    from tensorflow_datasets.proto import tf_example_pb2

    example = tf_example_pb2.Example()
    put = example.features.feature
    put["steps/action"].float_list.value.extend(np.ravel(action))
    put["steps/observation/state"].float_list.value.extend(np.ravel(state))
    put["steps/language_instruction"].bytes_list.value.extend([text.encode()] * len(action))
    if len(pictures):
        put["steps/observation/wrist"].bytes_list.value.extend(pictures)
    if clock is not None:
        put["steps/timestamp"].float_list.value.extend(clock)
    return example.SerializeToString()


def jpeg(value: int) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.full((8, 6, 3), value, np.uint8)).save(out, format="JPEG")
    return out.getvalue()


def write_folder(
    root: Path, shards: dict[str, list[list[bytes]]], *, kind="tfrecord", pictures=False, clock=False
):
    """A TFDS version folder; `shards` is split -> list of shards -> list of records."""
    folder = root / "tiny" / "1.0.0"
    folder.mkdir(parents=True)
    observation = {"state": tfds.features.Tensor(shape=(3,), dtype=np.float32)}
    if pictures:
        observation["wrist"] = tfds.features.Image(shape=(8, 6, 3), encoding_format="jpeg")
    steps = {
        "action": tfds.features.Tensor(shape=(2,), dtype=np.float32, doc="Joint velocities."),
        "observation": observation,
        "language_instruction": tfds.features.Text(),
    }
    if clock:
        steps["timestamp"] = tfds.features.Scalar(dtype=np.float32)
    tfds.features.FeaturesDict({"steps": tfds.features.Dataset(steps)}).save_config(folder)
    splits = []
    for name, files in shards.items():
        for number, records in enumerate(files):
            path = folder / f"tiny-{name}.{kind}-{number:05d}-of-{len(files):05d}"
            if kind == "tfrecord":
                path.write_bytes(b"".join(map(frame, records)))
            else:
                from array_record.python import array_record_module

                writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1,uncompressed")
                for data in records:
                    writer.write(data)
                writer.close()
        splits.append(
            {
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "name": name,
                "numBytes": "1",
                "shardLengths": [str(len(records)) for records in files],
            }
        )
    info = {"fileFormat": kind, "moduleName": "tiny", "name": "tiny", "splits": splits, "version": "1.0.0"}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


def episode(seed: int, length: int):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(length, 2)).astype(np.float32), rng.normal(size=(length, 3)).astype(np.float32)


@pytest.mark.parametrize("kind", ["tfrecord", "array_record"])
def test_the_numbers_come_back_as_they_were_written(tmp_path, kind):
    if kind == "array_record":
        pytest.importorskip("array_record")
    data = [episode(seed, length) for seed, length in enumerate((4, 1, 7))]
    shards = {"train": [[record(*data[0]), record(*data[1])], [record(*data[2], text="")]]}
    source = open_rlds(write_folder(tmp_path, shards, kind=kind))
    for _ in range(2):  # a split can be passed over as often as one likes
        read = list(source.splits["train"]())
        assert [len(e) for e in read] == [4, 1, 7]
        for (action, state), e in zip(data, read, strict=True):
            np.testing.assert_array_equal(e.action, action)
            np.testing.assert_array_equal(e.observation, state)
            assert e.action.dtype == e.observation.dtype == np.float32
            assert e.images == {}
    assert [e.instruction for e in read] == [CUP, CUP, ""]
    assert np.isnan(read[0].timestamp).all()  # no rate, no clock: unknown
    assert source.facts.format == f"rlds {kind}"
    assert source.facts.action_meaning == "Joint velocities."
    assert source.facts.action_names == ("action_0", "action_1")
    assert source.facts.observation_names == ("state_0", "state_1", "state_2")
    assert source.facts.rate_hz is None and source.facts.action_units is None
    assert "tensorflow" not in sys.modules


def test_images_are_decoded_only_when_asked(tmp_path):
    action, state = episode(0, 2)
    bad = record(action, state, pictures=[b"no jpeg", b"no jpeg"])
    good = record(action, state, pictures=[jpeg(10), jpeg(200)])
    folder = write_folder(tmp_path, {"train": [[good, bad]]}, pictures=True)
    assert len(list(open_rlds(folder).splits["train"]())) == 2
    episodes = open_rlds(folder, images=True).splits["train"]()
    pictures = next(episodes).images["wrist"]
    assert pictures.shape == (2, 8, 6, 3) and pictures.dtype == np.uint8
    np.testing.assert_allclose(pictures.mean(axis=(1, 2, 3)), [10, 200], atol=2)
    with pytest.raises(InputError, match=r"record 1 of tiny-train\S+ cannot be decoded"):
        next(episodes)


def test_timestamps_count_from_the_first_step(tmp_path):
    folder = write_folder(tmp_path, {"train": [[record(*episode(0, 3), clock=[5.0, 5.5, 6.25])]]}, clock=True)
    np.testing.assert_array_equal(next(open_rlds(folder).splits["train"]()).timestamp, [0.0, 0.5, 1.25])


def test_a_metadata_file_gives_names_units_and_rate(tmp_path):
    folder = write_folder(tmp_path, {"train": [[record(*episode(0, 3))]]})
    facts = {"action_names": ["pan", "tilt"], "action_units": ["rad", "rad"], "rate_hz": 4.0, "other": 1}
    (folder / "metadata.json").write_text(json.dumps(facts))
    source = open_rlds(folder)
    assert source.facts.action_names == ("pan", "tilt") and source.facts.action_units == ("rad", "rad")
    # 3 steps at 4 Hz: 0, 1/4, 2/4 s.
    np.testing.assert_array_equal(next(source.splits["train"]()).timestamp, [0.0, 0.25, 0.5])


def damage(path: Path, kind: str) -> None:
    data = path.read_bytes()
    (first,) = struct.unpack("<Q", data[:8])
    second = 16 + first
    cuts = {"in the data": second + 40, "in the header": second + 5, "between records": second}
    if kind in cuts:
        path.write_bytes(data[: cuts[kind]])
        return
    at = {"data bit": second + 12 + 9, "length bit": second + 3, "footer bit": second - 2}[kind]
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("in the data", "cut off: it ends inside record 1"),
        ("in the header", "cut off: it ends inside record 1"),
        ("between records", "holds 1 episodes where its dataset_info.json says 3"),
        ("data bit", "damaged: the data of record 1"),
        ("length bit", "damaged: the length of record 1"),
        ("footer bit", "damaged: the data of record 0"),
    ],
)
def test_a_cut_or_damaged_tfrecord_is_refused(tmp_path, kind, words):
    folder = write_folder(tmp_path, {"train": [[record(*episode(seed, 5)) for seed in range(3)]]})
    shard = next(folder.glob("*tfrecord*"))
    damage(shard, kind)
    with pytest.raises(InputError, match=words) as caught:
        list(open_rlds(folder).splits["train"]())
    assert shard.name in str(caught.value) and len(str(caught.value).splitlines()) == 5


@pytest.mark.parametrize("kind", ["half", "empty", "flipped"])
def test_a_cut_or_damaged_array_record_is_refused(tmp_path, kind):
    pytest.importorskip("array_record")
    shards = {"train": [[record(*episode(seed, 50)) for seed in range(3)]]}
    folder = write_folder(tmp_path, shards, kind="array_record")
    shard = next(folder.glob("*array_record*"))
    data = bytearray(shard.read_bytes())
    at = data.find(np.float32(episode(1, 50)[0][10, 0]).tobytes())
    if kind == "flipped" and at < 0:
        pytest.skip("the writer compressed the records: no byte of one to be found")
    if kind == "flipped":
        data[at] ^= 1
    shard.write_bytes({"half": data[: len(data) // 2], "empty": b"", "flipped": data}[kind])
    with pytest.raises(InputError, match=re.escape(shard.name)):
        list(open_rlds(folder).splits["train"]())


def test_other_features_than_the_shards_are_refused(tmp_path):
    folder = write_folder(tmp_path, {"train": [[frame(b"x")]]})
    with pytest.raises(InputError, match="record 0 .* cannot be decoded"):
        list(open_rlds(folder).splits["train"]())


def test_a_missing_shard_is_refused_at_once(tmp_path):
    folder = write_folder(tmp_path, {"train": [[record(*episode(0, 2))], [record(*episode(1, 2))]]})
    (folder / "tiny-train.tfrecord-00001-of-00002").unlink()
    with pytest.raises(InputError, match=r"lacks 1 of its 2 shards[\s\S]*tfrecord-00001-of-00002"):
        open_rlds(folder)


@pytest.mark.parametrize("name", ["features.json", "dataset_info.json"])
def test_broken_metadata_is_refused(tmp_path, name):
    folder = write_folder(tmp_path, {"train": [[record(*episode(0, 2))]]})
    text = (folder / name).read_text()
    for content in (text[: len(text) // 2], None):
        (folder / name).unlink() if content is None else (folder / name).write_text(content)
        with pytest.raises(InputError, match="cannot be read as RLDS|lacks all"):
            open_rlds(folder)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    folder = write_folder(tmp_path, {"train": [[record(*episode(0, 2))]]})
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(InputError, match="pip install tensorflow-datasets"):
        open_rlds(folder)


def test_masked_crc_of_the_published_check_value():
    # CRC-32C("123456789") = 0xe3069283; rotated right by 15: 0x2507c60d; + 0xa282ead8 mod 2**32 = 0xc78ab0e5.
    assert tfrecord.masked_crc(b"123456789") == 0xC78AB0E5


def bridge(real_data: Path) -> Path:
    return real_data / "bridge" / "bridge_dataset" / "1.0.0"


def test_bridge_is_what_was_measured(real_data):
    source = open_rlds(bridge(real_data))
    splits = {name: list(start()) for name, start in source.splits.items()}
    assert {name: [len(e) for e in episodes] for name, episodes in splits.items()} == {
        "train": [10] * 25,
        "val": [10] * 25,
    }
    assert source.facts.action_names == ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
    assert source.facts.action_units == ("m", "m", "m", "rad", "rad", "rad", "1")
    assert source.facts.cameras == ("image_0", "image_1", "image_2", "image_3")
    assert "joint velocities" in source.facts.action_meaning
    action = np.concatenate([e.action for e in splits["train"]])
    measured = {  # min, max, mean, std
        "x": (-0.019, 0.018, 0.0016, 0.0057),
        "y": (-0.029, 0.012, -0.0010, 0.0056),
        "z": (-0.020, 0.033, -0.0029, 0.0083),
        "roll": (-0.160, 0.133, -0.0099, 0.0363),
        "pitch": (-0.117, 0.072, -0.0049, 0.0288),
        "yaw": (-0.254, 0.067, -0.0053, 0.0363),
        "gripper": (0.0, 1.0, 0.739, 0.434),
    }
    for j, (low, high, mean, std) in enumerate(measured.values()):
        np.testing.assert_allclose([action[:, j].min(), action[:, j].max()], [low, high], atol=6e-4)
        np.testing.assert_allclose([action[:, j].mean(), action[:, j].std()], [mean, std], atol=6e-4)
    first = np.stack([e.action[0, :6] for e in splits["train"]])
    assert np.abs(first).max() < 1e-5
    state = np.concatenate([e.observation for e in splits["train"]])
    assert abs(state[:, 6].max() - 1.007) < 1e-3
    assert len({e.instruction for e in splits["train"]}) == 4
    np.testing.assert_allclose(splits["train"][0].timestamp, np.arange(10) / 5)


def test_bridge_images(real_data):
    images = next(open_rlds(bridge(real_data), images=True).splits["train"]()).images
    assert {name: x.shape for name, x in images.items()} == {f"image_{i}": (10, 64, 64, 3) for i in range(4)}
    assert images["image_3"].max() == 0 and all(images[f"image_{i}"].std() > 10 for i in range(3))


def test_a_truncated_bridge_is_refused(real_data, tmp_path):
    folder = tmp_path / "1.0.0"
    shutil.copytree(bridge(real_data), folder)
    shard = next(folder.glob("*-train.tfrecord*"))
    data = shard.read_bytes()
    shard.chmod(0o644)
    shard.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"ends inside record \d+"):
        list(open_rlds(folder).splits["train"]())
