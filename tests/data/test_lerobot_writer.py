"""The LeRobot writer: read back number for number, and refusals for data that the format cannot hold."""

import dataclasses

import numpy as np
import pytest

from ch3_jax.data.episodes import Dataset, Facts, Steps
from ch3_jax.data.lerobot_writer import write_lerobot
from ch3_jax.data.load import load
from ch3_jax.errors import InputError

pytest.importorskip("pyarrow", reason="pip install pyarrow")


def recording(rate=10.0) -> Dataset:
    generator = np.random.default_rng(0)
    seen, done = (generator.normal(size=(30, n)).astype(np.float32) for n in (3, 2))
    time = np.tile(np.arange(10) / 10, 3)
    facts = Facts("arm", "generated", ("a", "b", "c"), ("x", "y"), rate_hz=rate)
    return Dataset(facts, {"train": Steps(seen, done, np.array([0, 10, 20, 30]), time)})


def test_what_is_written_is_read_back(tmp_path):
    data = recording()
    back = load(write_lerobot(data, tmp_path / "set"))
    (mine,), (theirs,) = data.splits.values(), back.splits.values()
    np.testing.assert_array_equal(theirs.observation, mine.observation)
    np.testing.assert_array_equal(theirs.action, mine.action)
    np.testing.assert_array_equal(theirs.offset, mine.offset)
    np.testing.assert_allclose(theirs.timestamp, mine.timestamp, atol=1e-6)


def test_what_the_format_cannot_hold_is_refused_and_leaves_nothing(tmp_path):
    holed = recording()
    holed.splits["train"].action[7, 1] = np.nan
    for data, words in ((holed, "not finite"), (recording(rate=None), "no rate")):
        with pytest.raises(InputError, match=words):
            write_lerobot(data, tmp_path / "set")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "set").mkdir()
    with pytest.raises(InputError, match="there already"):
        write_lerobot(dataclasses.replace(recording()), tmp_path / "set")
