"""The doctor's command: exit codes, files, pure JSON, and refusals on one screen."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ch3_jax.data.builders import write_rlds
from ch3_jax.errors import InputError
from experiments.doctor import Options, run
from tests.doctor.planted import duplicated
from tests.doctor.simulated import robot

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory) -> Path:
    return write_rlds(robot(3, episodes=12, held_out=4), tmp_path_factory.mktemp("healthy"))


def test_a_healthy_data_set_ends_with_0(healthy, capsys):
    assert run(Options(data=str(healthy))) == 0
    page = capsys.readouterr().out
    assert "healthy" in page.splitlines()[0] and max(map(len, page.splitlines())) <= 80


def test_a_fault_ends_with_1_and_leaves_files(tmp_path, capsys):
    data = write_rlds(duplicated(robot(3, episodes=12)), tmp_path / "data")
    assert run(Options(data=str(data), json=True, out=str(tmp_path / "out"))) == 1
    printed = capsys.readouterr().out
    document = json.loads(printed, parse_constant=pytest.fail)
    assert document["causes"][0]["cause"] == "duplicates_across_splits"
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == document
    assert "memory" in (tmp_path / "out" / "report.txt").read_text()


def test_what_a_person_declares_counts(healthy, capsys):
    assert run(Options(data=str(healthy), action_meaning="delta joint position")) == 1
    assert "absolute targets" in " ".join(capsys.readouterr().out.split())


def test_a_curve_of_three_points_cannot_be_examined(tmp_path, capsys):
    (tmp_path / "log.csv").write_text("step,loss\n0,3.0\n1,2.9\n2,2.8\n")
    assert run(Options(curve=str(tmp_path / "log.csv"))) == 2
    assert "not examined" in capsys.readouterr().out


@pytest.mark.parametrize("given", [{}, {"run": "a", "data": "b"}])
def test_not_one_patient_is_refused(given):
    with pytest.raises(InputError, match="one patient at a time"):
        run(Options(**given))


def test_an_out_that_is_a_file_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match="cannot be a folder"):
        run(Options(data=str(tmp_path / "nothing"), out=str(tmp_path / "taken")))


def test_the_command_refuses_on_one_screen():
    done = subprocess.run(
        [sys.executable, "-m", "experiments.doctor", "--data=/nowhere/at/all"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert "is not there" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_run_is_made_again_and_examined(tmp_path, capsys):
    """A run of 60 steps: its data, its own batches, its parameters and its curve are all looked at."""
    import jax

    from ch3_jax.doctor.from_run import patient_of_run

    train = "experiments.train --smoke --loss=mse --data=inverse_dynamics --notensorboard --steps=40"
    command = [sys.executable, "-m", *train.split(), f"--out={tmp_path / 'run'}"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0
    patient = patient_of_run(tmp_path / "run")
    assert patient.extra["left_out"] == () and patient.declared.loss_name == "mse"
    # The last row of metrics.csv is the mean loss of steps 31 to 40; the trained parameters are near it.
    loss, _ = patient.loss(patient.params, patient.batches(39), jax.random.key(0))
    recorded = patient.history.role("loss").values[-1]
    assert np.isfinite(loss) and abs(float(loss) / recorded - 1) < 0.5
    # In the order of the run: two steps see other samples, one step always the same.
    first, again, second = (np.asarray(patient.batches(s).action) for s in (0, 0, 1))
    assert (first == again).all() and (first != second).any()
    assert patient.floor is not None
