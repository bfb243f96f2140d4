"""Learning curves from made-up runs, and the probes' command."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import reinforce_curves

ROOT = Path(__file__).resolve().parents[2]


def made_up(shift=0.0):
    return {
        "seconds": np.array([0.0, 10.0, 20.0]),
        "env_steps": np.array([0, 1000, 2_000_000]),
        "success": np.array([0.0, 0.95, 0.97]) - shift,
        "sampled": np.array([0.0, 0.5, 0.9]),
    }


def test_intervals_are_students():
    mean, half = reinforce_curves.interval(np.array([[1.0, 2.0], [2.0, 2.0], [3.0, 2.0]]))
    # t(2) = 4.30, s = 1, n = 3
    assert mean.tolist() == [2.0, 2.0]
    assert half.tolist() == pytest.approx([4.30 / 3**0.5, 0.0])


def test_a_table_says_when_all_seeds_were_there_or_how_many():
    text = reinforce_curves.table({"ppo": [made_up(), made_up()], "sac": [made_up(), made_up(0.1)]})
    ppo, sac = text.splitlines()[1:]
    assert "97.0%" in ppo and "2.0M" in ppo and ppo.endswith("10 s")
    assert sac.endswith("1 of 2")
    assert max(map(len, text.splitlines())) <= 80


def test_a_picture_is_drawn(tmp_path):
    reinforce_curves.draw({"ppo": [made_up(), made_up(0.1)]}, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_probes_localise_a_bug():
    words = [sys.executable, "-m", "experiments.probes", "--plant=discount"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the first to fail is 'discount'" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
