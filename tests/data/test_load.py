"""Opening by looking, laying end to end, and the refusals."""

import json
import shutil
import time

import numpy as np
import pytest

from ch3_jax.data.episodes import Episode, Facts, Source
from ch3_jax.data.load import gather, load, open_source
from ch3_jax.errors import InputError

FACTS = Facts("hand", "generated", ("a", "b", "c"), ("pan", "tilt"))


def episode(length: int, *, seed: int = 0, actions: int = 2, states: int = 3, clock=True) -> Episode:
    rng = np.random.default_rng(seed)
    times = np.arange(length) / 10 if clock else np.full(length, np.nan)
    return Episode(
        observation=rng.normal(size=(length, states)).astype(np.float32),
        action=rng.normal(size=(length, actions)).astype(np.float32),
        timestamp=times,
        source=f"file {seed}",
    )


def source(**splits: list[Episode]) -> Source:
    return Source(FACTS, {name: (lambda e=episodes: iter(e)) for name, episodes in splits.items()})


def one_screen(caught) -> str:
    text = str(caught.value)
    assert len(text.splitlines()) <= 20 and max(map(len, text.splitlines())) < 450 and "Traceback" not in text
    for row in ("got:", "expected:", "likely cause:", "next step:"):
        assert row in text
    return text


def test_episodes_are_laid_end_to_end():
    first, second = episode(3), episode(2, seed=1)
    data = gather(source(train=[first, second], val=[second]))
    steps = data.splits["train"]
    # Lengths 3 and 2: the episodes begin at rows 0 and 3, and row 5 is the end.
    np.testing.assert_array_equal(steps.offset, [0, 3, 5])
    assert steps.offset.dtype == np.int64 and steps.action.dtype == np.float32
    np.testing.assert_array_equal(steps.action[3:], second.action)
    np.testing.assert_array_equal(steps.observation[:3], first.observation)
    np.testing.assert_allclose(steps.timestamp, [0, 0.1, 0.2, 0, 0.1])
    assert steps.sources == ("file 0", "file 1") and steps.instructions is None
    assert data.splits["val"].episodes == 1 and data.facts == FACTS


def test_unknown_time_stays_unknown():
    assert gather(source(train=[episode(3, clock=False)])).splits["train"].timestamp is None


@pytest.mark.parametrize("kind", ["action", "observation"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_named(kind, value):
    episodes = [episode(4, seed=s) for s in range(3)]
    getattr(episodes[1], kind)[2, 1] = value
    getattr(episodes[2], kind)[0, 0] = np.nan
    with pytest.raises(InputError) as caught:
        gather(source(train=episodes))
    text = one_screen(caught)
    name = {"action": "tilt", "observation": "b"}[kind]
    assert f"{kind}s of split train" in text and f"episode 1 (file 1), step 2, dimension 1 ({name})" in text
    assert f"{value} there; 2 such numbers in 2 of 3 episodes" in text


def test_the_first_and_the_last_number_are_looked_at():
    for row in (0, 3):
        bad = episode(4)
        bad.action[row, 0] = np.nan
        with pytest.raises(InputError, match=rf"episode 0 \(file 0\), step {row}, dimension 0 \(pan\)"):
            gather(source(train=[bad]))


def test_widths_that_differ_are_refused():
    with pytest.raises(InputError) as caught:
        gather(source(train=[episode(3), episode(3, seed=7, actions=5)]))
    assert (
        "episode 1 of split train (file 7) has 5 action dimensions where the episodes before it have 2"
        in one_screen(caught)
    )
    with pytest.raises(InputError, match="episode 0 of split val .* has 4 observation dimensions"):
        gather(source(train=[episode(3)], val=[episode(3, states=4)]))
    with pytest.raises(InputError, match="3 action dimensions where its names give 2"):
        gather(source(train=[episode(3, actions=3)]))


def test_empty_splits_and_episodes_are_refused():
    for splits, words in (
        ({}, "no episode in any split"),
        ({"train": []}, "no episode in split train"),
        ({"train": [episode(3)], "val": []}, "no episode in split val"),
        ({"train": [episode(3), episode(0)]}, "episode 1 of split train .* has no steps"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            gather(source(**splits))
        one_screen(caught)


def test_paths_that_hold_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.zip").write_text("x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "demo.hdf5").write_text("x")
    for name, words in (
        ("nowhere", r"is not there[\s\S]*empty, file.zip, other"),
        ("nowhere/deep", r"is not there[\s\S]*empty, file.zip, other"),
        ("file.zip", "is a file, not the folder"),
        ("empty", "is empty"),
        ("other", r"no data set of a known format[\s\S]*got: +demo.hdf5[\s\S]*meta/info.json"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            open_source(tmp_path / name)
        one_screen(caught)


def test_several_data_sets_are_not_chosen_between(tmp_path):
    for version in ("1.0.0", "2.0.0"):
        (tmp_path / "set" / version).mkdir(parents=True)
        (tmp_path / "set" / version / "features.json").write_text("{}")
    with pytest.raises(InputError, match=r"holds 2 data sets[\s\S]*1\.0\.0, 2\.0\.0"):
        open_source(tmp_path / "set")


@pytest.mark.parametrize(
    "mark", ["features.json", "dataset_info.json", "meta/info.json", ".zgroup", "zarr.json"]
)
@pytest.mark.parametrize("content", ["", "{", "{}", "[]", "\x00\xff", "null"])
def test_metadata_that_says_nothing_is_refused_in_words(tmp_path, mark, content):
    (tmp_path / mark).parent.mkdir(exist_ok=True)
    (tmp_path / mark).write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError) as caught:
        load(tmp_path)
    one_screen(caught)


def test_the_reader_is_chosen_by_looking(real_data):
    for path, kind, sizes in (
        ("bridge/bridge_dataset/1.0.0", "rlds tfrecord", {"train": (25, 250), "val": (25, 250)}),
        ("bridge/bridge_dataset", "rlds tfrecord", {"train": (25, 250), "val": (25, 250)}),
        ("bridge", "rlds tfrecord", {"train": (25, 250), "val": (25, 250)}),
        ("pusht", "zarr", {"train": (206, 25_650)}),
        ("g1", "lerobot v2.1", {"train": (100, 35_965)}),
    ):
        data = load(real_data / path)
        assert data.facts.format == kind
        assert {name: (s.episodes, len(s)) for name, s in data.splits.items()} == sizes
        for steps in data.splits.values():
            assert steps.action.shape[1] == len(data.facts.action_names)
            assert steps.observation.shape[1] == len(data.facts.observation_names)
            assert (steps.timestamp[steps.offset[:-1]] == 0).all()


def test_what_a_generator_wrote_beside_its_data_is_read_back(real_data, tmp_path):
    shutil.copytree(real_data / "bridge" / "bridge_dataset" / "1.0.0", tmp_path / "set")
    (tmp_path / "set" / "metadata.json").write_text(json.dumps({"extra": {"floor": 2.5}}))
    assert load(tmp_path / "set").extra == {"floor": 2.5} and load(tmp_path).facts.rate_hz == 5
    (tmp_path / "set" / "metadata.json").write_text("[]")
    assert load(tmp_path).extra == {}


def test_a_nan_in_real_actions_is_named(real_data, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    shutil.copytree(real_data / "g1", tmp_path / "g1", ignore=shutil.ignore_patterns("videos"))
    path = tmp_path / "g1/data/chunk-000/episode_000037.parquet"
    table = pq.read_table(path)
    action = np.stack(table["action"].to_numpy())
    action[17, 2] = np.nan
    column = pa.array(action.tolist(), pa.list_(pa.float32(), 26))
    path.chmod(0o644)
    pq.write_table(table.set_column(table.column_names.index("action"), "action", column), path)
    with pytest.raises(
        InputError, match=r"episode 37 \(.*episode_000037.parquet\), step 17, dimension 2 \(kLeftSh"
    ):
        load(tmp_path / "g1")


def test_an_action_width_that_differs_in_real_files(real_data, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    shutil.copytree(real_data / "g1", tmp_path / "g1", ignore=shutil.ignore_patterns("videos"))
    path = tmp_path / "g1/data/chunk-000/episode_000003.parquet"
    table = pq.read_table(path)
    column = pa.array(np.stack(table["action"].to_numpy())[:, :25].tolist(), pa.list_(pa.float32(), 25))
    path.chmod(0o644)
    pq.write_table(table.set_column(table.column_names.index("action"), "action", column), path)
    with pytest.raises(
        InputError, match="episode 3 of split train .* has 25 action dimensions where .* have 26"
    ):
        load(tmp_path / "g1")


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    # Permissions do not bind the superuser, under whom tests often run, so the refusal is simulated.
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text(json.dumps({}))

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr("pathlib.Path.iterdir", refuse)
    with pytest.raises(InputError, match=r"cannot be read[\s\S]*Permission denied"):
        open_source(tmp_path)


@pytest.mark.slow
def test_loading_is_fast(real_data):
    for path, seconds in (("bridge", 1.0), ("pusht", 0.5), ("g1", 1.5)):
        load(real_data / path)  # the first load pays for imports
        start = time.process_time()
        load(real_data / path)
        assert time.process_time() - start < seconds, path
