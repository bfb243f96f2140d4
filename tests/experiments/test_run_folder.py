"""Run folders: refusals before anything is written, the lock, config, summary."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.errors import InputError
from experiments import run_folder
from experiments.run_folder import Summary, acquire, default_out, prepare, write_json

ROOT = Path(__file__).resolve().parents[2]

SUMMARY = Summary("finished", "ce", "d", "o", 0, 10, 1.5, 2.0, 0.5, 0.6, 0.4, "ab", ("a finding",))

HOLDER = """
import sys, time
from experiments.run_folder import acquire
run = acquire(sys.argv[1])
print("held", flush=True)
time.sleep(60)
"""


def test_prepare_writes_nothing(tmp_path):
    assert prepare(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert prepare(tmp_path) == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_relative_and_home_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert prepare("x") == prepare("~/x") == tmp_path / "x"


def test_a_run_from_start_to_resume(tmp_path):
    out = tmp_path / "deep" / "run"
    with acquire(out) as run:
        assert run.read_config() is None
        assert run.write_config({"seed": 3, "rate": 1e-4}) == []
        run.write_summary(SUMMARY)
    assert sorted(p.name for p in out.iterdir()) == ["config.json", "lock", "summary.json"]
    with pytest.raises(InputError, match="(?s)holds a run already.*config.json, summary.json.*--resume"):
        acquire(out)
    with acquire(out, resume=True) as run:
        assert run.write_config({"seed": 3, "rate": 1e-4}) == []
        assert run.checkpoints == out / "checkpoints"


@pytest.mark.parametrize("mark", ["metrics.csv", "config.json", "summary.json", "checkpoints"])
def test_any_trace_of_a_run_is_a_run(tmp_path, mark):
    (tmp_path / mark).mkdir()
    with pytest.raises(InputError, match=f"(?s)holds a run already.*{mark}"):
        prepare(tmp_path)
    assert prepare(tmp_path, resume=True) == tmp_path


def test_resume_without_a_run(tmp_path):
    with pytest.raises(InputError, match="(?s)no run to resume.*no such folder.*without|no run to resume"):
        prepare(tmp_path / "no", resume=True)
    assert not (tmp_path / "no").exists()
    assert prepare(tmp_path / "no", resume=True, absent="start") == tmp_path / "no"
    (tmp_path / "letters.txt").write_text("")
    with pytest.raises(InputError, match="(?s)no run to resume.*letters.txt"):
        prepare(tmp_path, resume=True)


def test_resume_of_a_run_killed_before_its_config(tmp_path):
    acquire(tmp_path / "a").release()
    with acquire(tmp_path / "a", resume=True) as run:
        assert run.read_config() is None
    (tmp_path / "b").mkdir()  # Killed between making the folder and taking the lock.
    acquire(tmp_path / "b", resume=True).release()


def test_paths_that_cannot_be_folders(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    for out, words in (
        (tmp_path / "file", "is a file"),
        (tmp_path / "file" / "below", "is a file"),
        (tmp_path / "link", "broken link"),
        (tmp_path / ("x" * 300), "name too long"),
    ):
        with pytest.raises(InputError, match=f"(?is)cannot be used.*{words}"):
            prepare(out)


def test_a_parent_that_is_not_writable(tmp_path, monkeypatch):
    # Root may write everywhere, so the question is answered for it here.
    monkeypatch.setattr(os, "access", lambda path, mode: not (mode & os.W_OK))
    with pytest.raises(InputError, match="(?s)cannot be used.*not writable for you"):
        prepare(tmp_path / "x")


def test_a_read_only_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m,ro", "tmpfs", disk], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("no right to mount a disk")
    try:
        with pytest.raises(InputError, match="(?s)cannot be used.*read-only disk"):
            prepare(disk / "run")
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize("call", ["mkdir", "open"])
def test_a_folder_that_turns_out_unusable(tmp_path, monkeypatch, call):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path if call == "mkdir" else os, call, refuse)
    with pytest.raises(InputError, match="(?s)cannot be used.*Read-only file system.*disk is read-only"):
        acquire(tmp_path / "x")


def test_too_little_room(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=49_999_999))
    with pytest.raises(InputError, match="(?s)too little room.*50.0 MB free.*50 MB or more"):
        prepare(tmp_path / "x")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=50_000_000))
    prepare(tmp_path / "x")


def test_a_held_folder_is_refused_until_its_process_dies(tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-c", HOLDER, str(out)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        for resume in (False, True):
            for door in (prepare, acquire):
                with pytest.raises(InputError, match=f"(?s)another run holds.*process {holder.pid} on"):
                    door(out, resume=resume)
        holder.send_signal(signal.SIGKILL)
    with acquire(out, resume=True):
        assert (out / "lock").read_text().startswith(f"{os.getpid()} on ")


def test_release_twice_and_two_folders_in_one_process(tmp_path):
    run = acquire(tmp_path / "a")
    with pytest.raises(InputError, match="another run holds"):
        acquire(tmp_path / "a")
    with acquire(tmp_path / "b"):
        run.release()
        run.release()
    acquire(tmp_path / "a").release()


def test_config_says_what_ran(tmp_path):
    with acquire(tmp_path) as run:
        run.write_config({"data": Path("x"), "rate": np.float32(0.5), "none": None})
        config = run.read_config()
    assert config["flags"] == {"data": "x", "rate": 0.5, "none": None}
    for name in ("python", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"):
        assert re.match(r"\d+\.\d+", config["versions"][name])
    assert "cpu" in config["device"].lower() or "gpu" in config["device"].lower()
    assert config["git_hash"] is None or re.fullmatch(r"[0-9a-f]{40}", config["git_hash"])
    assert config["command"][0] == sys.executable


def test_git_hash(tmp_path, monkeypatch):
    def git(*words):
        subprocess.run(
            ["git", "-C", tmp_path, "-c", "user.name=n", "-c", "user.email=e", *words],
            check=True,
            capture_output=True,
        )

    if not shutil.which("git"):
        pytest.skip("no git here")
    monkeypatch.setattr(run_folder, "_SOURCE", tmp_path.resolve())
    assert run_folder._git() == (None, None)
    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "one")
    hash_, changed = run_folder._git()
    assert re.fullmatch(r"[0-9a-f]{40}", hash_) and changed is False
    (tmp_path / "a").write_text("2")
    assert run_folder._git() == (hash_, True)
    (tmp_path / "inside").mkdir()
    monkeypatch.setattr(run_folder, "_SOURCE", (tmp_path / "inside").resolve())
    assert run_folder._git() == (None, None)  # Another project's checkout says nothing of this one.
    monkeypatch.setenv("PATH", "")
    assert run_folder._git() == (None, None)


def test_resuming_with_other_flags(tmp_path):
    with acquire(tmp_path) as run:
        run.write_config({"steps": 100, "seed": 3, "bins": 256})
    with acquire(tmp_path, resume=True) as run:
        with pytest.raises(InputError) as error:
            run.write_config({"steps": 200, "seed": 4, "bins": 256}, may_differ={"log"})
        assert error.value.got == "--steps=200, --seed=4"
        assert error.value.expected == "--steps=100, --seed=3"
        assert run.write_config({"steps": 200, "seed": 3, "bins": 256}, may_differ={"steps"}) == [
            "resumed with --steps=200 instead of 100"
        ]
        with pytest.raises(InputError, match="--ema=0.9"):
            run.write_config({"steps": 100, "seed": 3, "bins": 256, "ema": 0.9})
        assert run.read_config()["flags"] == {"steps": 100, "seed": 3, "bins": 256}


def test_resuming_on_another_machine_is_said(tmp_path):
    with acquire(tmp_path) as run:
        run.write_config({"seed": 3})
        config = run.read_config()
        write_json(tmp_path / "config.json", {**config, "device": "1 x abacus (wood)"})
    with acquire(tmp_path, resume=True) as run:
        (sentence,) = run.write_config({"seed": 3})
    assert "abacus" in sentence and "bits" in sentence


def test_a_damaged_config_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"flags": {')
    with acquire(tmp_path, resume=True) as run, pytest.raises(InputError, match="config.json cannot be read"):
        run.write_config({})


def test_summary_is_strict_json_with_the_documented_fields(tmp_path):
    with acquire(tmp_path) as run:
        odd = SUMMARY._replace(
            train_loss=float("nan"),
            val_loss=jnp.float32(0.25),
            floor=float("-inf"),
            steps=np.int64(7),
            extra={"norms": np.array([1.0, np.inf]), "path": tmp_path, "nested": [{"a": (1, float("nan"))}]},
        )
        path = run.write_summary(odd)

    def forbid(name):
        raise AssertionError(name)

    found = json.loads(path.read_text(), parse_constant=forbid)
    assert list(found) == list(Summary._fields)
    needed = "train_loss val_loss floor steps steps_per_second seed status parameters_sha256 findings"
    assert set(needed.split()) <= set(found)
    assert (found["train_loss"], found["val_loss"], found["floor"], found["steps"]) == (None, 0.25, None, 7)
    assert found["extra"] == {"norms": [1.0, None], "path": str(tmp_path), "nested": [{"a": [1, None]}]}
    assert found["findings"] == ["a finding"]


def test_unknown_status(tmp_path):
    with (
        acquire(tmp_path) as run,
        pytest.raises(ValueError, match="finished, interrupted, non_finite, failed"),
    ):
        run.write_summary(SUMMARY._replace(status="done"))


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = write_json(tmp_path / "x.json", {"a": 1})

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1} and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("inverse_dynamics", "inverse_dynamics"),
        ("../shared/data/bridge/bridge_dataset/1.0.0", "bridge_dataset"),
        ("/a/pusht_cchi_v7_replay.zarr/", "pusht_cchi_v7_replay.zarr"),
        ("/a/My set (2)!", "My_set_2"),
        ("/", "data"),
        ("", "data"),
        ("..", "data"),
    ],
)
def test_default_out(data, name):
    # 86,400 s after the epoch is 2 January 1970.
    assert default_out(data, "mse", 7, now=86_400) == Path("runs") / f"{name}-mse-7-19700102T000000Z"
