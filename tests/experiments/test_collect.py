"""Collected demonstrations: written twice, read back by this project and by TensorFlow Datasets."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ch3_jax.data import lerobot_writer
from ch3_jax.data.builders import write_rlds
from ch3_jax.data.episodes import Dataset, Facts, Steps
from ch3_jax.data.load import load
from ch3_jax.errors import InputError
from ch3_jax.evaluation.simulators.task import INSTALL

ROOT = Path(__file__).resolve().parents[2]
LENGTHS = (4, 7, 5)
RATE_HZ = 80.0


def made(**changed):
    draw, rows = np.random.default_rng(0), sum(LENGTHS)
    offset = np.append(0, np.cumsum(LENGTHS))
    time = np.concatenate([np.arange(n) / RATE_HZ for n in LENGTHS])
    steps = Steps(
        draw.normal(size=(rows, 3)).astype(np.float32),
        draw.normal(size=(rows, 2)).astype(np.float32),
        offset,
        time,
        sources=("a", "b", "c"),
        instructions=("push", "pull", "push"),
    )
    facts = Facts("made_up", "generated", ("x", "y", "z"), ("dx", "dy"), rate_hz=RATE_HZ)
    return Dataset(facts, {"train": steps, "val": steps}, **changed)


def same(found, steps):
    for name in ("observation", "action", "offset"):
        np.testing.assert_array_equal(getattr(found, name), getattr(steps, name))
    np.testing.assert_allclose(found.timestamp, steps.timestamp, atol=1e-7)
    assert found.instructions == steps.instructions


def test_lerobot_is_read_back(tmp_path):
    data = made()
    found = load(lerobot_writer.write_lerobot(data, tmp_path / "set", robot_type="sawyer"))
    assert found.facts.format == "lerobot v3.0" and found.facts.rate_hz == RATE_HZ
    assert found.facts.action_names == ("dx", "dy") and found.facts.observation_names == ("x", "y", "z")
    assert list(found.splits) == ["train", "val"]
    for part in found.splits.values():
        same(part, data.splits["train"])


def test_the_folder_is_what_lerobot_expects(tmp_path):
    """Files, columns and types of v3.0, as a real tree of LeRobot's own has them."""
    data, folder = made(), tmp_path / "set"
    lerobot_writer.write_lerobot(data, folder)
    info = json.loads((folder / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (6, 32, 2)
    assert (info["fps"], info["splits"]) == (80, {"train": "0:3", "val": "3:6"})
    assert isinstance(info["fps"], int)
    table = pq.read_table(folder / info["data_path"].format(chunk_index=0, file_index=0))
    assert set(table.column_names) == set(info["features"])
    types = {name: str(table.schema.field(name).type) for name in table.column_names}
    assert types["action"].startswith("fixed_size_list<") and types["action"].endswith("[2]")
    assert (types["timestamp"], types["frame_index"], types["index"]) == ("float", "int64", "int64")
    assert table["index"].to_pylist() == list(range(32))
    assert table["episode_index"].to_pylist()[15:18] == [2, 3, 3]
    assert table["task_index"].to_pylist()[:5] == [0, 0, 0, 0, 1]
    episodes = pq.read_table(folder / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [e["length"] for e in episodes] == list(LENGTHS) * 2
    assert [(e["dataset_from_index"], e["dataset_to_index"]) for e in episodes][1:3] == [(4, 11), (11, 16)]
    assert episodes[1]["tasks"] == ["pull"]
    tasks = pq.read_table(folder / "meta/tasks.parquet")
    assert tasks.schema.pandas_metadata["index_columns"] == ["__index_level_0__"]
    assert tasks["__index_level_0__"].to_pylist() == ["push", "pull"]
    stats = json.loads((folder / "meta/stats.json").read_text())
    action = np.concatenate([data.splits["train"].action] * 2).astype(np.float64)
    np.testing.assert_allclose(stats["action"]["std"], action.std(0))
    np.testing.assert_allclose(stats["action"]["q10"], np.quantile(action, 0.1, axis=0))
    assert stats["action"]["count"] == [32]
    np.testing.assert_allclose(episodes[1]["stats/action/max"], action[4:11].max(0))


def test_many_files_where_one_would_be_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(lerobot_writer, "_FILE_MB", 0.0006)  # ten rows of 56 bytes
    data = made()
    folder = lerobot_writer.write_lerobot(data, tmp_path / "set")
    assert len(list(folder.glob("data/chunk-000/*.parquet"))) == 5  # 4 | 7 | 5 + 4 | 7 | 5
    same(load(folder).splits["val"], data.splits["train"])


@pytest.mark.parametrize(
    ("change", "words"), [({"rate_hz": None}, "no rate"), ({}, "there already")], ids=["rate", "there"]
)
def test_what_cannot_be_written_is_refused(tmp_path, change, words):
    import dataclasses

    data = made()
    data = dataclasses.replace(data, facts=dataclasses.replace(data.facts, **change))
    folder = tmp_path / "set"
    if not change:
        folder.mkdir()
    with pytest.raises(InputError, match=words):
        lerobot_writer.write_lerobot(data, folder)
    assert [p.name for p in tmp_path.iterdir()] == (["set"] if not change else [])


def test_rlds_is_read_by_tensorflow_datasets(tmp_path):
    import tensorflow_datasets as tfds

    data = made()
    folder = write_rlds(data, tmp_path)
    same(load(folder).splits["train"], data.splits["train"])
    source = tfds.builder_from_directory(folder).as_data_source("train")
    assert len(source) == 3
    steps = list(source[1]["steps"])
    assert len(steps) == 7 and steps[0]["is_first"] and steps[-1]["is_last"]
    np.testing.assert_array_equal([s["action"] for s in steps], data.splits["train"].action[4:11])
    assert steps[0]["language_instruction"] in ("pull", b"pull")


def collect(*args):
    command = [sys.executable, "-m", "experiments.collect", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_the_command_with_a_simulator(tmp_path):
    pytest.importorskip("metaworld", reason=INSTALL)
    done = collect("--env=metaworld:drawer-close-v3", "--episodes=2", f"--out={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "2 successful episodes of 2 tried" in done.stdout
    sets = [load(tmp_path / name) for name in ("rlds", "lerobot")]
    same(sets[1].splits["train"], sets[0].splits["train"])
    assert sets[0].facts.action_names == ("hand_dx", "hand_dy", "hand_dz", "gripper_effort")
    assert sets[0].splits["train"].instructions == ("drawer close",) * 2


@pytest.mark.parametrize(
    ("args", "words"),
    [(("--out=x",), "--env is missing"), (("--env=panda_reach",), "--out is missing")],
)
def test_refusals(args, words):
    done = collect(*args)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_embedded_task(tmp_path):
    done = collect("--env=panda_reach_obstacle", "--smoke", f"--out={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert load(tmp_path / "lerobot").splits["train"].episodes == 2
