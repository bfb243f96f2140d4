"""The peer's world is ours, written twice; and what is said of a measurement."""

import numpy as np
import pytest

from experiments.benchmarks import ppo
from third_party import sb3_ppo


def test_the_worlds_agree_along_a_path(tmp_path):
    """NumPy from Franka's DH table against the library's arm: rewards of eighty steps."""
    expected = ppo._path(tmp_path / "inputs.npz", seed=3)
    with np.load(tmp_path / "inputs.npz") as file:
        limits = [file[name].astype(float) for name in ("lower", "upper", "velocity", "rest")]
        world = sb3_ppo.World(1, limits, 0)
        world.q, world.target = file["q"][None].astype(float), file["target"][None].astype(float)
        rewards = [world.step(action[None])[0] for action in file["actions"]]
    np.testing.assert_allclose(rewards, expected, atol=1e-5)
    assert np.std(expected) > 0.01


def test_another_world_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", reward=np.full(3, 0.1))
    with pytest.raises(ValueError, match="another world"):
        ppo._same_world(np.zeros(3), tmp_path / "x.npz")


def test_a_table_and_its_targets():
    rows = [
        {"contender": "ours", "envs": 1024, "rate": 1.1e6, "ours_is": 1.0},
        {"contender": "one by one", "envs": 1024, "rate": 5e3, "ours_is": 220.0},
        {"contender": "vectorised", "envs": 1024, "rate": 1.7e5, "ours_is": 6.5},
    ]
    targets = ppo._targets(rows, threads=2)
    assert [t["reached"] for t in targets] == [True, True, False]
    record = {
        "threads": 2,
        "versions": {"ours": "jax", "one by one": "sb3", "vectorised": "sb3"},
        "rows": rows,
        "scaling": [{"envs": 16, "rate": 3e5}],
        "targets": targets,
    }
    text = ppo.table(record)
    assert "1,100,000" in text and "220.0 x" in text and "MISSED" in text
    assert max(map(len, text.splitlines())) <= 80
