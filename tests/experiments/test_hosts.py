"""Two processes on one machine train as one; what does not fit together is refused, what is lost is said."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ch3_jax.errors import InputError
from ch3_jax.training import hosts

ROOT = Path(__file__).resolve().parents[2]
RUN = (
    *("--loss=ce", "--data=random_bins", "--pairs=2000", "--steps=400", "--log_every=20", "--save_every=40"),
    *("--notensorboard", "--nodoctor"),
)


def address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def started(out, *args, coordinator=None, different=()):
    """Both processes; `different` are flags of process 1 alone."""
    meeting = f"--coordinator={coordinator or address()}", "--num_processes=2"
    command = [sys.executable, "-m", "experiments.train", *args, f"--out={out}", *meeting]
    return [
        subprocess.Popen(
            [*command, f"--process_id={i}", *(different if i else ())],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for i in range(2)
    ]  # fmt: skip


def ended(processes):
    said = [process.communicate(timeout=200) for process in processes]
    return [process.returncode for process in processes], said


def summary(out):
    return json.loads((out / "summary.json").read_text())


def losses(out):
    rows = list(csv.DictReader((out / "metrics.csv").open()))
    return [float(row[name]) for row in rows for name in ("loss", "val_loss") if row[name]]


@pytest.mark.slow
def test_two_processes_are_one_and_survive_a_kill(tmp_path):
    whole, cut, one = tmp_path / "whole", tmp_path / "cut", tmp_path / "one"
    codes, said = ended(started(whole, *RUN))
    assert codes == [0, 0], said
    assert "2 devices: 32 of 64 rows on each" in said[0][0]
    assert "parameters" not in said[1][0] and "step" not in said[1][1]  # one of them speaks
    processes = started(cut, *RUN)
    while not (cut / "checkpoints/step_80").is_dir() and processes[0].poll() is None:
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    codes, said = ended(processes)
    assert time.monotonic() - killed < 30
    assert codes == [4, -signal.SIGKILL] and "another one is gone" in said[0][1] and "--resume" in said[0][1]
    assert "Traceback" not in said[0][1]
    # Each makes only its own rows, and the steps that follow are the same bits.
    codes, said = ended(started(cut, "--resume"))
    assert codes == [0, 0], said
    assert summary(cut)["parameters_sha256"] == summary(whole)["parameters_sha256"]
    assert (cut / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    command = [sys.executable, "-m", "experiments.train", *RUN, f"--out={one}"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0
    assert losses(whole) == pytest.approx(losses(one), rel=2e-6)


@pytest.mark.slow
def test_each_process_makes_its_own_rows(tmp_path):
    """The host pipeline, whose processes each make half of a batch, trains as the device pipeline does."""
    shorter = (*RUN, "--steps=40")
    for name in ("host", "device"):
        codes, said = ended(started(tmp_path / name, *shorter, f"--pipeline={name}"))
        assert codes == [0, 0], said
    assert losses(tmp_path / "host") == pytest.approx(losses(tmp_path / "device"), rel=1e-6)


def test_different_flags_are_refused_by_both(tmp_path):
    codes, said = ended(started(tmp_path / "x", *RUN, different=("--seed=1",)))
    assert codes == [2, 2]
    for _, error in said:
        assert "different flags" in error and "process 1 differs" in error and "Traceback" not in error
    assert not (tmp_path / "x/checkpoints").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("nowhere", 2, 1), "--coordinator=nowhere"),
        (("127.0.0.1:99999", 2, 1), "host:port"),
        (("127.0.0.1:1234", 2, 2), "--process_id from 0 to 1"),
    ],
)
def test_addresses_and_numbers_that_cannot_be(given, words):
    with pytest.raises(InputError) as refused:
        hosts.join(*given)
    assert words in str(refused.value)


def test_nobody_at_the_address():
    where = address()
    with pytest.raises(InputError, match="did not meet") as refused:
        hosts.join(where, 2, 1, patience=1)
    assert where in str(refused.value) and "--coordinator" in str(refused.value)


def test_half_of_the_flags_is_refused(tmp_path):
    command = [sys.executable, "-m", "experiments.train", "--num_processes=2", f"--out={tmp_path / 'x'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 2 and "several processes need --coordinator" in done.stderr
