"""Training by reward as a person meets it: runs, refusals, interruptions, clones."""

import csv
import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from ch3_jax.doctor import from_reward
from ch3_jax.environments.reach import REWARDS, reach
from ch3_jax.errors import InputError
from ch3_jax.evaluation import serve
from ch3_jax.reinforcement.rollout import start
from ch3_jax.reinforcement.settings import ALGORITHMS, Settings
from experiments import flags as data_flags
from experiments.evaluate_parts import rewarded
from experiments.reinforce_parts import flags, presets
from experiments.reinforce_parts.job import EVALUATED

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    *("--loss=ppo", "--envs=32", "--rollout=4", "--minibatches=2", "--steps=24", "--log_every=2"),
    *("--save_every=6", "--width=8", "--notensorboard"),
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
    out = tmp_path_factory.mktemp("runs") / "whole"
    return out, run(*SMALL, f"--out={out}")


def test_names_stand_once():
    assert data_flags.BY_REWARD == ALGORITHMS == from_reward.BY_REWARD
    assert tuple(REWARDS) == flags.REWARDS
    assert set(Settings._fields) - {"algorithm"} <= {f.name for f in dataclasses.fields(flags.Options)}
    assert set(presets.REACH) == set(ALGORITHMS)


def test_a_run_leaves_everything_behind(whole):
    out, done = whole
    assert {p.name for p in out.iterdir()} >= {
        *("config.json", "metrics.csv", "curves.png", "summary.json", "checkpoints"),
        *("report.html", "report.json", "report.txt"),
    }
    with pytest.raises(InputError, match="by reward"):
        serve.load(out)
    fields = summary(out)
    assert fields["status"] == "finished"
    assert fields["extra"]["env_steps"] == 24 * 32 * 4
    assert set(fields["extra"]["evaluation"]) >= {"best_success", "sampled_success", "best_return"}
    assert max(len(line) for line in done.stdout.splitlines() if str(out) not in line) <= 80
    rows = list(csv.DictReader((out / "metrics.csv").open()))
    assert [int(r["step"]) for r in rows if r["best_return"]] == [0, 6, 12, 18, 24]
    assert [int(r["step"]) for r in rows if r["loss"]] == [*range(2, 25, 2)]
    assert int(rows[-1]["env_steps"]) == 24 * 128
    assert all(float(r["reward_std"]) > 0 for r in rows if r["loss"])


def test_it_is_driven_as_it_was_evaluated(whole):
    """80 steps of the same 256 starts, one call of the policy a step: the return that the run has written."""
    policy = rewarded.load(whole[0], {})
    world = reach("dense")
    lanes = start(world, jax.random.split(jax.random.key(2**31 - 1))[0], EVALUATED, spread=False)
    state, total = lanes.state, 0.0
    see, step = jax.jit(jax.vmap(world.observe)), jax.jit(jax.vmap(world.step, in_axes=(0, 0, None)))
    for _ in range(world.steps):
        state, outcome = step(state, policy.act(see(state)[:, None])[:, 0], jax.random.key(0))
        total += float(outcome.reward.mean())
    assert total == pytest.approx(summary(whole[0])["extra"]["evaluation"]["best_return"], rel=1e-4)
    chances = [policy.act(see(state)[:, None], jax.random.key(seed)) for seed in (0, 0, 1)]
    assert (chances[0] == chances[1]).all() and (chances[0] != chances[2]).any()
    assert policy.step == 24 and rewarded.is_rewarded(whole[0]) and not rewarded.is_rewarded(whole[0].parent)
    with pytest.raises(InputError, match="cannot be driven"):
        rewarded.load(whole[0], {"sampler": "euler"})


@pytest.mark.slow
def test_sigterm_saves_and_resume_ends_with_the_same_bits(whole, tmp_path):
    args = (*SMALL, "--steps=1200", "--save_every=12")
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
    run("--resume", f"--out={tmp_path / 'b'}")
    assert (tmp_path / "b/metrics.csv").read_bytes() == (tmp_path / "a/metrics.csv").read_bytes()
    assert summary(tmp_path / "b")["parameters_sha256"] == summary(tmp_path / "a")["parameters_sha256"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--loss=ppo", "--horizon=2"), "--horizon is not for"),
        (("--loss=ppo", "--num_processes=2"), "--num_processes is not for"),
        (("--loss=ce", "--gamma=0.9"), "--gamma is not for"),
        (("--loss=ppo", "--gamma=1.5"), "[0, 1]"),
        (("--loss=ppo", "--envs=10", "--minibatches=4"), "--envs=8"),
        (("--loss=ppo", "--env=hopper"), "panda_reach"),
        (("--loss=ppo", "--env=probe:value", "--reward=dense"), "--reward is for panda_reach"),
        (("--loss=sac", "--init=runs/none"), "does not start from a run"),
        (("--loss=ppo", "--init=runs/none"), "no checkpoint"),
    ],
)
def test_refusals_fit_on_a_screen(args, words, tmp_path):
    done = run(*args, f"--out={tmp_path / 'x'}", code=2)
    assert words in done.stderr
    assert len(done.stderr.splitlines()) <= 8
    assert not (tmp_path / "x" / "config.json").exists()


def test_a_reward_that_never_changes_ends_the_run_with_what_it_has(tmp_path):
    out = tmp_path / "x"
    done = run(*SMALL, "--envs=4", "--reward=sparse", f"--out={out}", code=2)
    assert "never changes" in done.stderr
    assert "--reward=shaped" in done.stderr
    assert summary(out)["status"] == "failed"
    assert 0 < summary(out)["steps"] < 24
    assert list((out / "checkpoints").iterdir())
    causes = {f["cause"] for f in json.loads((out / "report.json").read_text())["findings"]}
    assert "sparse_reward" in causes or summary(out)["steps"] < 20  # too few rows to say so


@pytest.mark.slow
def test_a_clone_is_taught(whole, tmp_path):
    clone, out = tmp_path / "clone", tmp_path / "taught"
    run(
        *("--loss=mse", "--data=panda_reach", "--pairs=2000", "--steps=40", "--width=16"),
        *("--notensorboard", "--nodoctor", f"--out={clone}"),
    )
    done = run(*SMALL, "--kl_cost=0.01", f"--init={clone}", f"--out={out}")
    assert f"from {clone}" in done.stdout
    assert summary(out)["status"] == "finished"
    rows = [r for r in csv.DictReader((out / "metrics.csv").open()) if r["loss"]]
    assert all(float(r["kl_reference"]) >= 0 for r in rows)
    refused = run(*SMALL, f"--init={out}", f"--out={tmp_path / 'again'}", code=2)
    assert "by reward already" in refused.stderr
