"""LeRobot folders: tiny ones of v2.1 and v3.0 written with pyarrow and PyAV, and the G1 set."""

import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from ch3_jax.data.readers.lerobot import open_lerobot
from ch3_jax.data.readers.video import decode_frames
from ch3_jax.errors import InputError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
av = pytest.importorskip("av")

FPS = 10
NAMES = [["pan", "tilt"]]
CAMERA = "observation.images.front"
LENGTHS = (4, 3, 5)
TASKS = ("lift", "push", "lift")


def shade(episode: int, step: int) -> int:
    """The grey of a frame: episode and step can be read from it."""
    return 20 + 60 * episode + 10 * step


def write_video(path: Path, shades: list[int], codec: str = "mpeg4") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for grey in shades:
            picture = np.full((48, 64, 3), grey, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def rows(episode: int, length: int, *, first: int = 0, width: int = 2, fixed: bool = True) -> dict:
    rng = np.random.default_rng(episode)
    action, state = (rng.normal(size=(length, n)).astype(np.float32) for n in (width, 3))

    def column(values):
        kind = pa.list_(pa.float32(), values.shape[1]) if fixed else pa.list_(pa.float32())
        return pa.array(values.tolist(), kind)

    return {
        "action": column(action),
        "observation.state": column(state),
        "timestamp": pa.array(np.arange(length, dtype=np.float32) / FPS),
        "frame_index": pa.array(np.arange(length)),
        "episode_index": pa.array(np.full(length, episode)),
        "index": pa.array(first + np.arange(length)),
        "task_index": pa.array(np.zeros(length, np.int64)),
    }


def info(version: str, *, video: bool, splits: dict | None = None) -> dict:
    old = version != "v3.0"
    features = {
        "action": {"dtype": "float32", "shape": [2], "names": NAMES},
        "observation.state": {"dtype": "float32", "shape": [3], "names": None},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    }
    if video:
        features[CAMERA] = {"dtype": "video", "shape": [48, 64, 3], "names": ["height", "width", "channel"]}
    place = "episode_{episode_index:06d}" if old else "file-{file_index:03d}"
    chunk = "chunk-{episode_chunk:03d}" if old else "chunk-{chunk_index:03d}"
    return {
        "codebase_version": version,
        "total_episodes": len(LENGTHS),
        "chunks_size": 2,
        "fps": FPS,
        "splits": splits or {"train": f"0:{len(LENGTHS)}"},
        "data_path": f"data/{chunk}/{place}.parquet",
        "video_path": f"videos/{chunk}/{{video_key}}/{place}.mp4"
        if old
        else f"videos/{{video_key}}/{chunk}/{place}.mp4",
        "features": features,
    }


def put(path: Path, columns: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def write_v2(folder: Path, *, video=False, fixed=True, widths=(2, 2, 2), splits=None, version="v2.1") -> Path:
    meta = folder / "meta"
    meta.mkdir(parents=True)
    (meta / "info.json").write_text(json.dumps(info(version, video=video, splits=splits)))
    lines = []
    for e, (length, width) in enumerate(zip(LENGTHS, widths, strict=True)):
        # chunks_size is 2: episode 2 is the first of chunk-001.
        table = folder / f"data/chunk-{e // 2:03d}/episode_{e:06d}.parquet"
        put(table, rows(e, length, width=width, fixed=fixed))
        lines.append(json.dumps({"episode_index": e, "tasks": [TASKS[e]], "length": length}))
        if video:
            path = folder / f"videos/chunk-{e // 2:03d}/{CAMERA}/episode_{e:06d}.mp4"
            write_video(path, [shade(e, t) for t in range(length)])
    (meta / "episodes.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def write_v3(folder: Path, *, video=False) -> Path:
    """Episodes 0 and 1 share file-000, episode 2 is in file-001; all three share one video."""
    meta = folder / "meta"
    meta.mkdir(parents=True)
    (meta / "info.json").write_text(json.dumps(info("v3.0", video=video)))
    starts = np.concatenate([[0], np.cumsum(LENGTHS)])
    tables = [rows(e, n, first=int(starts[e])) for e, n in enumerate(LENGTHS)]
    joined = {k: pa.concat_arrays([tables[0][k], tables[1][k]]) for k in tables[0]}
    put(folder / "data/chunk-000/file-000.parquet", joined)
    put(folder / "data/chunk-000/file-001.parquet", tables[2])
    listing = {
        "episode_index": pa.array([0, 1, 2]),
        "tasks": pa.array([[t] for t in TASKS]),
        "length": pa.array(LENGTHS),
        "data/chunk_index": pa.array([0, 0, 0]),
        "data/file_index": pa.array([0, 0, 1]),
        "dataset_from_index": pa.array(starts[:-1]),
        "dataset_to_index": pa.array(starts[1:]),
    }
    if video:
        listing |= {
            f"videos/{CAMERA}/chunk_index": pa.array([0, 0, 0]),
            f"videos/{CAMERA}/file_index": pa.array([0, 0, 0]),
            f"videos/{CAMERA}/from_timestamp": pa.array(starts[:-1] / FPS),
        }
        shades = [shade(e, t) for e, n in enumerate(LENGTHS) for t in range(n)]
        write_video(folder / f"videos/{CAMERA}/chunk-000/file-000.mp4", shades)
    put(meta / "episodes/chunk-000/file-000.parquet", listing)
    return folder


WRITERS = {"v2.1": write_v2, "v3.0": write_v3}


@pytest.mark.parametrize("version", WRITERS)
def test_the_numbers_come_back_as_they_were_written(tmp_path, version):
    source = open_lerobot(WRITERS[version](tmp_path / "arm"))
    for _ in range(2):
        episodes = list(source.splits["train"]())
        assert [len(e) for e in episodes] == list(LENGTHS) and [e.instruction for e in episodes] == list(
            TASKS
        )
        for index, e in enumerate(episodes):
            rng = np.random.default_rng(index)
            np.testing.assert_array_equal(e.action, rng.normal(size=(len(e), 2)).astype(np.float32))
            np.testing.assert_array_equal(e.observation, rng.normal(size=(len(e), 3)).astype(np.float32))
            np.testing.assert_allclose(e.timestamp, np.arange(len(e)) / FPS, atol=1e-6)
    facts = source.facts
    assert (facts.name, facts.format, facts.rate_hz) == ("arm", f"lerobot {version}", FPS)
    assert facts.action_names == ("pan", "tilt") and facts.observation_names == (
        "state_0",
        "state_1",
        "state_2",
    )
    assert facts.action_meaning is None and facts.action_units is None


@pytest.mark.parametrize("version", WRITERS)
def test_every_row_gets_its_own_frame(tmp_path, version):
    folder = WRITERS[version](tmp_path / "arm", video=True)
    assert next(open_lerobot(folder).splits["train"]()).images == {}
    assert open_lerobot(folder).facts.cameras == ("front",)
    for index, e in enumerate(open_lerobot(folder, images=True).splits["train"]()):
        frames = e.images["front"]
        assert frames.shape == (LENGTHS[index], 48, 64, 3) and frames.dtype == np.uint8
        # Neighbouring frames differ by 10 grey levels, so 4 tells them apart.
        expected = [shade(index, t) for t in range(LENGTHS[index])]
        np.testing.assert_allclose(frames.mean(axis=(1, 2, 3)), expected, atol=4)


def test_av1_and_seeking(tmp_path):
    write_video(
        tmp_path / "a.mp4", [10 * t for t in range(20)], codec="libsvtav1" if has("libsvtav1") else "mpeg4"
    )
    frames = decode_frames(tmp_path / "a.mp4", np.array([1.2, 1.3, 1.7]), FPS)
    # 10 frames per second: frames 12, 13 and 17.
    np.testing.assert_allclose(frames.mean(axis=(1, 2, 3)), [120, 130, 170], atol=4)


def test_no_neighbouring_frame_is_taken(tmp_path):
    write_video(tmp_path / "a.mp4", [10, 20, 30, 40])
    # Frames are shown at 0, 0.1, 0.2, 0.3 s; 0.15 s is half a frame from two of them.
    with pytest.raises(InputError, match=r"no frame at 0\.150 s[\s\S]*0 of the 2 frames"):
        decode_frames(tmp_path / "a.mp4", np.array([0.15, 0.25]), FPS)


def test_names_that_do_not_fit_are_not_used(tmp_path):
    folder = write_v2(tmp_path / "arm")
    path = folder / "meta/info.json"
    meta = json.loads(path.read_text())
    for given, used in (
        (["pan", "tilt", "roll"], ("action_0", "action_1")),
        (["pan", "pan"], ("action_0", "action_1")),
        ({"motors": ["pan", "tilt"]}, ("pan", "tilt")),
        ({"pan": 0, "tilt": 1}, ("pan", "tilt")),
    ):
        meta["features"]["action"]["names"] = given
        path.write_text(json.dumps(meta))
        assert open_lerobot(folder).facts.action_names == used


def has(codec: str) -> bool:
    try:
        return av.codec.Codec(codec, "w").is_encoder
    except Exception:
        return False


def test_images_inside_the_table(tmp_path):
    folder = write_v2(tmp_path / "arm")
    meta = json.loads((folder / "meta/info.json").read_text())
    meta["features"][CAMERA] = {"dtype": "image", "shape": [8, 6, 3], "names": None}
    (folder / "meta/info.json").write_text(json.dumps(meta))
    for e, length in enumerate(LENGTHS):
        columns = rows(e, length)
        columns[CAMERA] = pa.array([{"bytes": png(shade(e, t)), "path": None} for t in range(length)])
        put(folder / f"data/chunk-{e // 2:03d}/episode_{e:06d}.parquet", columns)
    e = list(open_lerobot(folder, images=True).splits["train"]())[1]
    np.testing.assert_array_equal(e.images["front"][:, 0, 0, 0], [shade(1, t) for t in range(3)])


def png(value: int) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.full((8, 6, 3), value, np.uint8)).save(out, format="PNG")
    return out.getvalue()


def test_splits_and_chosen_episodes(tmp_path):
    folder = write_v2(tmp_path / "arm", splits={"train": "0:2", "val": "2:3"})
    source = open_lerobot(folder)
    assert {n: [len(e) for e in start()] for n, start in source.splits.items()} == {
        "train": [4, 3],
        "val": [5],
    }
    chosen = open_lerobot(folder, episodes=[1]).splits["train"]()
    assert [len(e) for e in chosen] == [3]


def test_lists_need_not_be_fixed_but_must_be_even(tmp_path):
    folder = write_v2(tmp_path / "arm", fixed=False)
    assert [e.action.shape[1] for e in open_lerobot(folder).splits["train"]()] == [2, 2, 2]
    columns = rows(1, 3, fixed=False)
    columns["action"] = pa.array([[1.0, 2.0], [1.0], [1.0, 2.0]], pa.list_(pa.float32()))
    put(folder / "data/chunk-000/episode_000001.parquet", columns)
    with pytest.raises(InputError, match=r"lists of 1 and 2 numbers in action of episode 1"):
        list(open_lerobot(folder).splits["train"]())


@pytest.mark.parametrize("version", WRITERS)
@pytest.mark.parametrize("keep", [0, 100, -1, 0.5])
def test_a_truncated_table_is_refused(tmp_path, version, keep):
    folder = WRITERS[version](tmp_path / "arm")
    table = sorted((folder / "data").rglob("*.parquet"))[-1]
    data = table.read_bytes()
    table.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(InputError, match=f"{table.name} cannot be read") as caught:
        list(open_lerobot(folder).splits["train"]())
    assert len(str(caught.value).splitlines()) == 5


def test_rows_that_are_not_as_many_as_meta_says(tmp_path):
    folder = write_v2(tmp_path / "arm")
    put(folder / "data/chunk-000/episode_000001.parquet", rows(1, 2))
    with pytest.raises(InputError, match=r"2 rows in one piece for episode 1[\s\S]*3 rows"):
        list(open_lerobot(folder).splits["train"]())


def test_a_column_that_is_missing(tmp_path):
    folder = write_v2(tmp_path / "arm")
    columns = rows(0, 4)
    del columns["action"]
    put(folder / "data/chunk-000/episode_000000.parquet", columns)
    with pytest.raises(InputError, match=r"episode_000000[\s\S]*column action"):
        list(open_lerobot(folder).splits["train"]())


def test_missing_tables_and_videos_are_refused_at_once(tmp_path):
    folder = write_v2(tmp_path / "arm", video=True)
    next(folder.rglob("episode_000001.mp4")).unlink()
    with pytest.raises(InputError, match=r"episode_000001.mp4 is missing[\s\S]*1 of 3 video files"):
        open_lerobot(folder, images=True)
    assert len(list(open_lerobot(folder).splits["train"]())) == 3
    next(folder.rglob("episode_000002.parquet")).unlink()
    with pytest.raises(InputError, match=r"lacks 1 of its 3 tables"):
        open_lerobot(folder)


@pytest.mark.parametrize("kind", ["short", "cut", "text"])
def test_a_video_that_cannot_be_decoded(tmp_path, kind, capfd):
    folder = write_v2(tmp_path / "arm", video=True)
    path = next(folder.rglob("episode_000000.mp4"))
    if kind == "short":
        write_video(path, [10, 20, 30])
    else:
        path.write_bytes(
            path.read_bytes()[:200] if kind == "cut" else b"version https://git-lfs.github.com/spec/v1\n"
        )
    words = r"has no frame at 0\.300 s[\s\S]*3 of the 4" if kind == "short" else "cannot be read"
    with pytest.raises(InputError, match=words) as caught:
        next(open_lerobot(folder, images=True).splits["train"]())
    assert "episode_000000.mp4" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"codebase_version": "v1.6"}, "v1.6"),
        ({"features": {}}, "features"),
        ({"fps": 0}, "fps 0"),
        ({"total_episodes": 7}, "3 episodes listed, total_episodes 7"),
        ({"data_path": "data/{nothing}.parquet"}, "nothing"),
        ({"codebase_version": "v3.0"}, "no parquet file under meta/episodes"),
    ],
)
def test_meta_that_cannot_be_used(tmp_path, change, words):
    folder = write_v2(tmp_path / "arm")
    path = folder / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=words):
        open_lerobot(folder)


def test_meta_that_is_cut(tmp_path):
    folder = write_v2(tmp_path / "arm")
    path = folder / "meta/episodes.jsonl"
    path.write_text(path.read_text()[:-10])
    with pytest.raises(InputError, match="line 3 of episodes.jsonl"):
        open_lerobot(folder)
    (folder / "meta/info.json").write_text("{")
    with pytest.raises(InputError, match="info.json cannot be read as JSON"):
        open_lerobot(folder)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    folder = write_v2(tmp_path / "arm", video=True)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match="pip install av"):
        next(open_lerobot(folder, images=True).splits["train"]())
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InputError, match="pip install pyarrow"):
        open_lerobot(folder)


def test_g1_is_what_was_measured(real_data):
    source = open_lerobot(real_data / "g1")
    episodes = list(source.splits["train"]())
    assert len(episodes) == 100 and sum(map(len, episodes)) == 35_965
    assert all(e.action.shape[1] == e.observation.shape[1] == 26 for e in episodes)
    assert source.facts.rate_hz == 30 and source.facts.action_names[0] == "kLeftShoulderPitch"
    assert {e.instruction for e in episodes} == {"Pick up the yellow bottle on the table."}
    assert max(np.abs(e.timestamp - np.arange(len(e)) / 30).max() for e in episodes) < 1e-6


def test_g1_video_frames_are_those_of_the_rows(real_data):
    episode = next(open_lerobot(real_data / "g1", images=True, episodes=[10]).splits["train"]())
    frames = episode.images["cam_high"]
    assert frames.shape == (290, 480, 640, 3) and frames.dtype == np.uint8
    path = real_data / "g1/videos/chunk-000/observation.images.cam_high/episode_000010.mp4"
    with av.open(str(path)) as container:  # counted from the start: the same frames, for none is missing here
        for index, frame in zip(range(3), container.decode(video=0), strict=False):
            np.testing.assert_array_equal(frames[index], frame.to_ndarray(format="rgb24"))
    np.testing.assert_array_equal(decode_frames(path, np.array([200 / 30]), 30)[0], frames[200])


def test_a_truncated_g1_table(real_data, tmp_path):
    shutil.copytree(real_data / "g1", tmp_path / "g1", ignore=shutil.ignore_patterns("videos"))
    table = tmp_path / "g1/data/chunk-000/episode_000042.parquet"
    data = table.read_bytes()
    table.chmod(0o644)
    table.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"episode_000042.parquet cannot be read"):
        list(open_lerobot(tmp_path / "g1").splits["train"]())
