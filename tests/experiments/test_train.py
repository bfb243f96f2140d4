"""The main job as a person meets it: runs, refusals, interruptions, and the same bits after each of them."""

import csv
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ch3_jax.evaluation import serve

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    *("--pairs=2000", "--steps=120", "--log_every=20", "--save_every=40", "--width=16"),
    *("--notensorboard", "--nodoctor"),
)


def command(*args):
    return [sys.executable, "-m", "experiments.train", *map(str, args)]


def run(*args, code=0):
    done = subprocess.run(command(*args), capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done


def summary(out):
    return json.loads((out / "summary.json").read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One finished run that the others are compared with; the doctor watches it, and not them."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return out, run(*SMALL, "--doctor", f"--out={out}")


def test_a_run_leaves_everything_behind(whole):
    out, done = whole
    names = {p.name for p in out.iterdir()}
    assert names >= {
        "config.json",
        "statistics.json",
        "metrics.csv",
        "curves.png",
        "summary.json",
        "checkpoints",
        "report.html",
        "report.json",
        "report.txt",
    }
    fields = summary(out)
    needed = "train_loss val_loss floor steps steps_per_second seed status parameters_sha256 findings"
    assert set(needed.split()) <= set(fields)
    assert fields["status"] == "finished"
    assert fields["steps"] == 120
    assert fields["floor"] < fields["val_loss"] < np.log(256) * 1.02
    assert max(len(line) for line in done.stdout.splitlines() if str(out) not in line) <= 80
    config = json.loads((out / "config.json").read_text())
    assert config["flags"]["learning_rate"] == 1e-3
    assert config["versions"]["jax"]


def test_the_doctor_says_a_line_for_each_of_its_first_checks_and_a_verdict(whole):
    lines = whole[1].stdout.splitlines()
    said = [line for line in lines if line.startswith("check ")]
    assert [line[:7] for line in said] == ["check 1", "check 2", "check 3"]
    assert "nothing wrong found" in said[0] and "nothing wrong found" in said[2]
    document = json.loads((whole[0] / "report.json").read_text())
    assert document["status"] == "healthy" and document["failed"] == []
    assert {f["check"] for f in document["findings"]} >= {1, 3, 4, 7}
    assert any("the doctor: Healthy" in line for line in lines)


def test_rows_of_metrics(whole):
    rows = list(csv.DictReader((whole[0] / "metrics.csv").open()))
    assert [int(r["step"]) for r in rows if r["loss"]] == [20, 40, 60, 80, 100, 120]
    assert [int(r["step"]) for r in rows if r["val_loss"]] == [0, 40, 80, 120]
    last = [r for r in rows if r["loss"]][-1]
    per_leaf = [float(v) for k, v in last.items() if k.startswith("gradient_norm/")]
    assert len(per_leaf) == 6
    assert all(float(last[f"{group}/joint_torque_7"]) > 0 for group in ("loss", "l1"))


def test_the_same_seed_gives_the_same_bits_and_another_does_not(whole, tmp_path):
    run(*SMALL, f"--out={tmp_path / 'b'}")
    run(*SMALL, "--seed=1", f"--out={tmp_path / 'c'}")
    same, other = summary(tmp_path / "b"), summary(tmp_path / "c")
    assert same["parameters_sha256"] == summary(whole[0])["parameters_sha256"] != other["parameters_sha256"]
    assert (tmp_path / "b/metrics.csv").read_bytes() == (whole[0] / "metrics.csv").read_bytes()


def test_the_host_pipeline_trains_on_the_same_samples(whole, tmp_path):
    run(*SMALL, "--pipeline=host", f"--out={tmp_path / 'h'}")
    assert summary(tmp_path / "h")["val_loss"] == pytest.approx(summary(whole[0])["val_loss"], rel=1e-4)


def test_sigterm_saves_and_resume_ends_with_the_same_bits(tmp_path):
    args = (*SMALL, "--steps=4000", "--save_every=400")
    run(*args, f"--out={tmp_path / 'a'}")
    process = subprocess.Popen(
        command(*args, f"--out={tmp_path / 'b'}"), cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    while not (tmp_path / "b/checkpoints").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("the run was over before the signal came")
    assert process.returncode == 128 + signal.SIGTERM
    assert "go on with: python -m experiments.train --resume" in text
    assert summary(tmp_path / "b")["status"] == "interrupted"
    run("--resume", f"--out={tmp_path / 'b'}")
    assert (tmp_path / "b/metrics.csv").read_bytes() == (tmp_path / "a/metrics.csv").read_bytes()
    for field in ("parameters_sha256", "val_loss", "train_loss", "steps", "status"):
        assert summary(tmp_path / "b")[field] == summary(tmp_path / "a")[field]


@pytest.mark.slow
def test_ten_kills_and_ten_resumes(tmp_path):
    """kill -9 at random moments of the whole life of a run, saving included."""
    args = (*SMALL, "--steps=1500", "--save_every=20", "--ema=0.99")
    began = time.monotonic()
    run(*args, f"--out={tmp_path / 'whole'}")
    life = time.monotonic() - began
    draw = random.Random(0)
    for trial in range(10):
        out = tmp_path / f"kill{trial}"
        process = subprocess.Popen(
            command(*args, f"--out={out}"), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(draw.uniform(0.3, 1.0) * life)
        process.kill()
        process.wait()
        run(*args, "--resume", f"--out={out}")
        assert summary(out)["parameters_sha256"] == summary(tmp_path / "whole")["parameters_sha256"]
        assert (out / "metrics.csv").read_bytes() == (tmp_path / "whole/metrics.csv").read_bytes()


def test_a_planted_overflow_stops_the_run_and_says_where(tmp_path):
    out = tmp_path / "overflow"
    done = run(*SMALL, "--plant_overflow=70", f"--out={out}", code=3)
    fields = summary(out)
    stopped = fields["steps"]
    assert 0 < stopped <= 70
    assert fields["status"] == "non_finite"
    [text] = [s for s in fields["findings"] if s.startswith("stopped")]
    assert f"step {stopped}: first non-finite value is" in text
    assert "made by `" in text
    assert "e+3" in text  # the batch's largest number
    served = serve.load(out)
    assert served.step == stopped
    assert np.isfinite(served.act(np.zeros((1, 1, 14), np.float32))).all()
    assert "--on_nonfinite=skip" in done.stdout
    run("--resume", "--on_nonfinite=skip", f"--out={out}")
    assert summary(out)["status"] == "finished"
    assert summary(out)["extra"]["skipped"] >= 1


def test_a_policy_is_served_with_the_statistics_it_was_trained_with(whole):
    """Training observations replayed through the served policy give the loss of the training pipeline."""
    from ch3_jax.data.synthetic import embedded

    served = serve.load(whole[0])
    steps = embedded("inverse_dynamics", 0, pairs=2000).splits["val"]
    action = np.asarray(served.act(steps.observation[:, None]))[:, 0]
    rows = list(csv.DictReader((whole[0] / "metrics.csv").open()))
    reported = [float(v) for k, v in rows[-1].items() if k.startswith("val_l1/")]
    np.testing.assert_allclose(np.abs(action - steps.action).mean(0), reported, rtol=1e-4)
    with pytest.raises(ValueError, match="`observation`|`expected`"):
        served.act(np.zeros((1, 1, 13), np.float32))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--data={tmp}/nowhere",), "is not there"),
        (("--data={tmp}",), "expected"),
        (("--loss=nope",), "ce, mse, l1"),
        (("--bins=0",), "--bins"),
        (("--steps=0",), "--steps"),
        (("--batch_size=0",), "--batch_size"),
        (("--learning_rate=0",), "learning_rate"),
        (("--learning_rate=-1",), "learning_rate"),
        (("--epochs=-1",), "epochs"),
        (("--batch_size=4000", "--pairs=2000"), "--batch_size=64"),
        (("--window=0",), "--window"),
        (("--ema=2", "--pairs=2000"), "openpi"),
        (("--bins_rule=openvla", "--pairs=2000"), "--normalize=openvla"),
        (("--pairs=20", "--data=../shared/data/g1"), "embedded"),
        (("--horizon=2", "--pairs=2000"), "shorter than the window"),
        (("--loss=flow", "--sampling_steps=0"), "--sampling_steps"),
        # Refused before anything is read: the data are not there either.
        (("--loss=ddpm", "--noise_schedule=linear", "--data={tmp}/nowhere"), "allow_signal"),
        (("--loss=mse", "--beta=1", "--data={tmp}/nowhere"), "--loss=cvae"),
    ],
)
def test_bad_input_is_answered_on_one_screen_and_writes_nothing(args, words, tmp_path):
    out = tmp_path / "run"
    done = run(*(a.format(tmp=tmp_path) for a in args), f"--out={out}", code=2)
    assert words in done.stderr
    assert len(done.stderr.splitlines()) <= 25
    assert not out.exists()


def test_a_second_run_in_the_same_folder_is_refused(whole):
    before = (whole[0] / "summary.json").read_bytes()
    done = run(*SMALL, f"--out={whole[0]}", code=2)
    assert "--resume" in done.stderr
    done = run(*SMALL, "--resume", "--learning_rate=0.5", f"--out={whole[0]}", code=2)
    assert "learning_rate" in done.stderr
    assert (whole[0] / "summary.json").read_bytes() == before


def test_help_is_quick_to_import_nothing_heavy():
    code = "import sys, experiments.train; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not {"jax", "numpy", "optax", "matplotlib"} & set(loaded.stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["ce", "mse"])
@pytest.mark.parametrize("name", ["bridge/bridge_dataset/1.0.0", "pusht/pusht_cchi_v7_replay.zarr", "g1"])
def test_real_data_trains(real_data, name, loss, tmp_path):
    run(f"--data={real_data / name}", f"--loss={loss}", "--steps=50", f"--out={tmp_path / 'r'}")
    rows = [
        float(r["val_loss"]) for r in csv.DictReader((tmp_path / "r/metrics.csv").open()) if r["val_loss"]
    ]
    assert rows[-1] < rows[0]
    assert np.isfinite(summary(tmp_path / "r")["val_loss"])


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["denoising", "consistency", "infonce", "cvae"])
def test_every_family_trains_samples_and_is_served(loss, tmp_path):
    out = tmp_path / "r"
    done = run(*SMALL, f"--loss={loss}", f"--out={out}")
    fields = summary(out)
    rows = [float(r["val_loss"]) for r in csv.DictReader((out / "metrics.csv").open()) if r["val_loss"]]
    assert fields["floor"] < rows[-1] < rows[0]
    assert "1-Wasserstein distance to the data" in done.stdout.replace("\n  ", " ")
    assert len(fields["extra"]["wasserstein_of_range"]) == 7
    assert serve.load(out).act(np.zeros((2, 1, 14), np.float32)).shape == (2, 1, 7)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["flow", "ddpm"])
def test_sampled_actions_are_those_of_the_data(real_data, loss, tmp_path):
    """Per dimension, a 1-Wasserstein distance under 0.05 of the range, after a tenth of the usual run."""
    out = tmp_path / "r"
    data = real_data / "pusht/pusht_cchi_v7_replay.zarr"
    run(f"--data={data}", f"--loss={loss}", "--steps=1500", "--width=128", "--notensorboard", f"--out={out}")
    assert max(summary(out)["extra"]["wasserstein_of_range"].values()) < 0.05
