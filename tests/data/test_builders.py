"""What is written as RLDS comes back number for number, through TFDS and through our own reader."""

import json
import subprocess
import sys

import numpy as np
import pytest

from ch3_jax.data import builders
from ch3_jax.data.builders import rlds_builder, write_rlds
from ch3_jax.data.episodes import Dataset, Facts, Steps
from ch3_jax.data.synthetic import embedded
from ch3_jax.errors import InputError

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("array_record")


@pytest.fixture(scope="module")
def pairs():
    return embedded("inverse_dynamics", 0, pairs=250, validation_pairs=30, bimodal=True)


def _demonstrations() -> Dataset:
    rng = np.random.default_rng(0)
    offset = np.array([0, 3, 4, 9])
    part = Steps(
        observation=rng.normal(size=(9, 5)).astype(np.float32),
        action=rng.normal(size=(9, 2)).astype(np.float32),
        offset=offset,
        timestamp=np.concatenate([np.arange(n) * 0.1 for n in np.diff(offset)]),
        sources=("a.h5", "b.h5", "c.h5"),
        instructions=("pick up the cup", "", "größer"),
    )
    facts = Facts(
        name="demos",
        format="zarr",
        observation_names=tuple("abcde"),
        action_names=("x", "y"),
        action_units=("m", "m"),
        action_meaning="absolute position",
        rate_hz=10.0,
        notes=("made by hand",),
    )
    return Dataset(facts, {"train": part})


def _steps(folder, split):
    source = tfds.builder_from_directory(str(folder)).as_data_source(split)
    return [list(episode["steps"]) for episode in source]


@pytest.mark.parametrize("name", ["inverse_dynamics", "random_bins"])
def test_embedded_sets_come_back_from_tfds(tmp_path, name):
    data = embedded(name, 1, pairs=25, validation_pairs=10)
    folder = write_rlds(data, tmp_path, episode_length=3)  # enough episodes to notice a shuffle
    assert folder == tmp_path / name / "1.0.0"
    for split, lengths in (("train", [3] * 8 + [1]), ("val", [3, 3, 3, 1])):
        episodes = _steps(folder, split)
        assert [len(e) for e in episodes] == lengths
        steps = [step for episode in episodes for step in episode]
        state = np.stack([step["observation"]["state"] for step in steps])
        assert np.array_equal(state, data.splits[split].observation)
        assert np.array_equal(np.stack([step["action"] for step in steps]), data.splits[split].action)


def test_rlds_flags_mark_the_ends_of_an_episode(tmp_path, pairs):
    first = _steps(write_rlds(pairs, tmp_path, episode_length=100), "train")[0]
    assert [step["is_first"] for step in first] == [True] + [False] * 99
    assert [step["is_last"] for step in first] == [False] * 99 + [True]
    assert not any(step["is_terminal"] for step in first)
    assert {float(step["reward"]) for step in first} == {0.0}
    assert {float(step["discount"]) for step in first} == {1.0}


def test_thousand_pairs_to_an_episode_by_default(tmp_path):
    data = embedded("inverse_dynamics", 0, pairs=1_001, validation_pairs=1)
    info = tfds.builder_from_directory(str(write_rlds(data, tmp_path))).info
    assert info.splits["train"].num_examples == 2 and info.splits["val"].num_examples == 1


def test_real_episodes_keep_their_bounds_times_and_words(tmp_path):
    data = _demonstrations()
    folder = write_rlds(data, tmp_path, "my_demos", version="2.3.4")
    assert folder == tmp_path / "my_demos" / "2.3.4"
    source = tfds.builder_from_directory(str(folder)).as_data_source("train")
    assert [len(e["steps"]) for e in source] == [3, 1, 5]
    third = list(source[2]["steps"])
    np.testing.assert_allclose([step["timestamp"] for step in third], [0, 0.1, 0.2, 0.3, 0.4])
    assert third[0]["language_instruction"].decode() == "größer"
    assert source[0]["episode_metadata"]["file_path"].decode() == "a.h5"


def test_own_reader_gets_numbers_and_facts_back(tmp_path, pairs):
    load = pytest.importorskip("ch3_jax.data.load").load
    data = load(write_rlds(pairs, tmp_path, episode_length=100))
    for split in ("train", "val"):
        assert np.array_equal(data.splits[split].observation, pairs.splits[split].observation)
        assert np.array_equal(data.splits[split].action, pairs.splits[split].action)
    assert data.splits["train"].offset.tolist() == [0, 100, 200, 250]
    facts = data.facts
    assert facts.format == "rlds array_record"
    assert facts.observation_units == pairs.facts.observation_units
    assert facts.action_names == pairs.facts.action_names and facts.action_meaning == "joint torque"
    assert any("two equally likely demonstrators" in note for note in facts.notes)
    assert any("their order means nothing" in note for note in facts.notes)
    assert not any("one step" in note for note in facts.notes)


def test_own_reader_gets_demonstrations_back(tmp_path):
    load = pytest.importorskip("ch3_jax.data.load").load
    made = _demonstrations()
    data, part = load(write_rlds(made, tmp_path)), made.splits["train"]
    read = data.splits["train"]
    assert np.array_equal(read.action, part.action) and np.array_equal(read.offset, part.offset)
    np.testing.assert_allclose(read.timestamp, part.timestamp)
    assert read.instructions == part.instructions
    assert data.facts.rate_hz == 10.0 and data.facts.action_units == ("m", "m")


def test_metadata_carries_what_the_generator_knows(tmp_path, pairs):
    metadata = json.loads((write_rlds(pairs, tmp_path) / "metadata.json").read_text())
    assert metadata["extra"] == pairs.extra


def test_interrupted_write_leaves_nothing_and_never_looks_complete(tmp_path, pairs, monkeypatch):
    seen = []
    make = builders._episodes

    def interrupted(part, offset, *, whole):
        yield from list(make(part, offset, whole=whole))[:1]
        seen.extend(p.name for p in tmp_path.iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(builders, "_episodes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_rlds(pairs, tmp_path, episode_length=100)
    assert len(seen) == 1 and seen[0].startswith(".inverse_dynamics.incomplete.")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert write_rlds(pairs, tmp_path).is_dir()


def test_nothing_is_registered_printed_or_overwritten(tmp_path, pairs, capsys):
    before = set(tfds.core.registered.list_imported_builders())
    folder = write_rlds(pairs, tmp_path)
    assert set(tfds.core.registered.list_imported_builders()) == before
    assert capsys.readouterr().out == "" and capsys.readouterr().err == ""
    with pytest.raises(InputError, match="is there already"):
        write_rlds(pairs, tmp_path)
    assert folder.is_dir()


def test_builder_works_in_the_hands_of_tfds(tmp_path, pairs):
    builder = rlds_builder(pairs, "arm", episode_length=50)(data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    assert type(builder).__mro__[1] is tfds.core.GeneratorBasedBuilder
    assert len(builder.as_data_source("train")) == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "Not A Name"}, "name"),
        ({"name": "../up"}, "name"),
        ({"version": "1"}, "version"),
        ({"episode_length": 0}, "episode_length"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(tmp_path, pairs, arguments, words):
    with pytest.raises(InputError, match=words):
        write_rlds(pairs, tmp_path, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_real_episodes_are_not_regrouped(tmp_path):
    with pytest.raises(InputError, match="episode_length"):
        write_rlds(_demonstrations(), tmp_path, episode_length=2)


def test_what_is_no_json_or_no_data_is_refused(tmp_path, pairs):
    with pytest.raises(InputError, match="extra"):
        write_rlds(Dataset(pairs.facts, pairs.splits, {"f": print}), tmp_path)
    none = Steps(np.zeros((0, 14), np.float32), np.zeros((0, 7), np.float32), np.zeros(1, np.int64))
    with pytest.raises(InputError, match="at least one step"):
        write_rlds(Dataset(pairs.facts, {"train": none}), tmp_path)


def test_folder_that_cannot_be_written(tmp_path, pairs):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_rlds(pairs, tmp_path / "file")


def test_importing_is_light_and_writing_needs_no_tensorflow(tmp_path):
    code = (
        "import sys; from ch3_jax.data import builders; from ch3_jax.data.synthetic import embedded\n"
        "assert 'tensorflow_datasets' not in sys.modules\n"
        f"builders.write_rlds(embedded('random_bins', 0, pairs=20, validation_pairs=5), {str(tmp_path)!r})\n"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
