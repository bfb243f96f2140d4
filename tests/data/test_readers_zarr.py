"""Zarr replay buffers: tiny ones written by the zarr package, and Push-T."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from ch3_jax.data.readers.zarr import open_zarr
from ch3_jax.errors import InputError

zarr = pytest.importorskip("zarr")

ENDS = (3, 4, 10)


def write_folder(
    folder: Path, *, version=2, chunk=4, rename=None, ends=ENDS, pictures=False, codec="auto"
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    rows = 10
    arrays = {
        "data/action": rng.normal(size=(rows, 2)).astype(np.float32),
        "data/state": rng.normal(size=(rows, 5)).astype(np.float64),
        "meta/episode_ends": np.array(ends, np.int64),
    }
    if pictures:
        arrays["data/img"] = rng.integers(0, 256, size=(rows, 4, 5, 3)).astype(np.float32)
    root = zarr.open_group(str(folder), mode="w", zarr_format=version)
    for name, values in arrays.items():
        chunks = (chunk, *((1,) if name == "data/state" else values.shape[1:2]), *values.shape[2:])
        target = root.create_array(
            (rename or {}).get(name, name),
            shape=values.shape,
            dtype=values.dtype,
            chunks=chunks[: values.ndim],
            compressors=codec,
        )
        target[...] = values
    return arrays


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_episodes_end_where_episode_ends_says(tmp_path, version, chunk):
    arrays = write_folder(tmp_path / "set.zarr", version=version, chunk=chunk)
    source = open_zarr(tmp_path / "set.zarr")
    for _ in range(2):
        episodes = list(source.splits["train"]())
        # Ends 3, 4, 10: rows 0-2, 3, 4-9.
        for e, (begin, end) in zip(episodes, ((0, 3), (3, 4), (4, 10)), strict=True):
            np.testing.assert_array_equal(e.action, arrays["data/action"][begin:end])
            np.testing.assert_array_equal(e.observation, arrays["data/state"][begin:end].astype(np.float32))
            assert e.observation.dtype == np.float32 and e.images == {}
            assert np.isnan(e.timestamp).all() and len(e.timestamp) == end - begin
    assert source.facts.name == "set" and source.facts.rate_hz is None and source.facts.action_units is None
    assert source.facts.action_names == ("action_0", "action_1")


def test_images_on_request(tmp_path):
    arrays = write_folder(tmp_path / "set.zarr", pictures=True)
    assert open_zarr(tmp_path / "set.zarr").facts.cameras == ("img",)
    episodes = list(open_zarr(tmp_path / "set.zarr", images=True).splits["train"]())
    np.testing.assert_array_equal(
        np.concatenate([e.images["img"] for e in episodes]), arrays["data/img"].astype(np.uint8)
    )
    assert episodes[0].images["img"].dtype == np.uint8


def test_push_t_names_only_for_push_t(tmp_path):
    write_folder(tmp_path / "my_pusht_run.zarr")
    source = open_zarr(tmp_path / "my_pusht_run.zarr")
    assert source.facts.observation_names[-1] == "block_angle" and source.facts.observation_units[-1] == "rad"
    np.testing.assert_allclose(next(source.splits["train"]()).timestamp, [0, 0.1, 0.2])


def test_a_missing_chunk_is_refused_not_filled(tmp_path):
    write_folder(tmp_path / "set.zarr")
    (tmp_path / "set.zarr" / "data" / "action" / "1.0").unlink()
    assert (
        zarr.open_group(str(tmp_path / "set.zarr"))["data/action"][4:8] == 0
    ).all()  # what zarr would have given
    with pytest.raises(InputError, match=r"chunk of data/action is missing[\s\S]*data/action/1\.0"):
        list(open_zarr(tmp_path / "set.zarr").splits["train"]())


def codecs():
    """Compressors by format: those of zarr itself, and none."""
    import numcodecs

    old = {n: getattr(numcodecs, n)() for n in ("Blosc", "Zlib", "GZip", "Zstd", "LZ4", "BZ2")}
    new = {
        "blosc": zarr.codecs.BloscCodec(),
        "gzip": zarr.codecs.GzipCodec(),
        "zstd": zarr.codecs.ZstdCodec(),
    }
    return (
        [(2, n, c) for n, c in old.items()]
        + [(3, n, c) for n, c in new.items()]
        + [(2, "", None), (3, "", None)]
    )


@pytest.mark.parametrize(
    ("version", "name", "codec"), codecs(), ids=lambda x: str(x) if isinstance(x, int | str) else ""
)
def test_a_truncated_chunk_is_refused_by_name(tmp_path, capfd, version, name, codec):
    write_folder(tmp_path / "set.zarr", version=version, codec=codec)
    chunk = tmp_path / "set.zarr" / "data" / "state" / ("2.3" if version == 2 else "c/2/3")
    whole = chunk.read_bytes()
    for keep in (0, 5, len(whole) // 2, len(whole) - 1):
        chunk.write_bytes(whole[:keep])
        with pytest.raises(InputError, match=r"cannot be read[\s\S]*chunk of data/state") as caught:
            list(open_zarr(tmp_path / "set.zarr").splits["train"]())
        assert str(chunk) in str(caught.value) and len(str(caught.value).splitlines()) == 5
    assert capfd.readouterr().err == ""


def test_column_order_and_filters_of_format_2(tmp_path):
    import numcodecs

    arrays = write_folder(tmp_path / "set.zarr")
    root = zarr.open_group(str(tmp_path / "set.zarr"), mode="a", zarr_format=2)
    values = np.arange(50, dtype=">i4").reshape(10, 5)
    state = root.create_array(
        "data/state",
        shape=values.shape,
        dtype=values.dtype,
        chunks=(4, 2),
        order="F",
        filters=[numcodecs.Delta(dtype=">i4")],
        overwrite=True,
    )
    state[...] = values
    read = list(open_zarr(tmp_path / "set.zarr").splits["train"]())
    np.testing.assert_array_equal(np.concatenate([e.observation for e in read]), values)
    np.testing.assert_array_equal(np.concatenate([e.action for e in read]), arrays["data/action"])


def test_arrays_that_are_not_there(tmp_path):
    write_folder(tmp_path / "a.zarr", rename={"data/action": "data/commands"})
    with pytest.raises(InputError, match=r"without the arrays[\s\S]*commands"):
        open_zarr(tmp_path / "a.zarr")
    write_folder(tmp_path / "b.zarr", rename={"meta/episode_ends": "meta/ends"})
    with pytest.raises(InputError, match=r"without the arrays[\s\S]*episode_ends"):
        open_zarr(tmp_path / "b.zarr")
    write_folder(tmp_path / "c.zarr")
    (tmp_path / "c.zarr" / "data" / "action" / ".zarray").write_text('{"shape": [')
    with pytest.raises(InputError, match="without the arrays"):
        open_zarr(tmp_path / "c.zarr")


@pytest.mark.parametrize("ends", [(3, 4, 9), (3, 3, 10), (4, 3, 10), (0, 10), ()])
def test_ends_that_do_not_fit(tmp_path, ends):
    write_folder(tmp_path / "set.zarr", ends=ends)
    with pytest.raises(InputError, match="episode_ends does not fit"):
        open_zarr(tmp_path / "set.zarr")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    write_folder(tmp_path / "set.zarr")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(InputError, match="pip install zarr"):
        open_zarr(tmp_path / "set.zarr")


def pusht(real_data: Path) -> Path:
    return real_data / "pusht" / "pusht_cchi_v7_replay.zarr"


def test_push_t_is_what_was_measured(real_data):
    source = open_zarr(pusht(real_data))
    episodes = list(source.splits["train"]())
    assert len(episodes) == 206 and sum(map(len, episodes)) == 25_650
    assert source.facts.action_names == ("target_x", "target_y") and source.facts.action_units == ("px", "px")
    assert source.facts.rate_hz == 10 and source.facts.cameras == ("img",)
    angle = [e.observation[:, 4] for e in episodes]
    assert min(a.min() for a in angle) >= 0 and max(a.max() for a in angle) < 2 * np.pi
    assert sum(int((np.abs(np.diff(a)) > 3).sum()) for a in angle) == 91
    assert sum(int((np.diff(e.action, axis=0) == 0).all(axis=1).sum()) for e in episodes) == 774


def test_push_t_images(real_data):
    image = next(open_zarr(pusht(real_data), images=True).splits["train"]()).images["img"]
    assert image.shape == (161, 96, 96, 3) and image.dtype == np.uint8 and image.max() == 255


def test_a_truncated_push_t_chunk(real_data, tmp_path):
    folder = tmp_path / "pusht.zarr"
    shutil.copytree(pusht(real_data), folder, ignore=shutil.ignore_patterns("img", "keypoint", "n_contacts"))
    chunk = folder / "data" / "state" / "7.0"
    data = chunk.read_bytes()
    chunk.chmod(0o644)
    chunk.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"state/7\.0 cannot be read[\s\S]*blosc"):
        list(open_zarr(folder).splits["train"]())
