"""The benchmark measures the right thing: same function as the peer, right arithmetic, honest rounds."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.benchmarks import ours, rounds, update
from experiments.benchmarks.rounds import Answer
from third_party import chapter_loop

ROOT = Path(__file__).resolve().parents[2]


def batches(job, steps):
    """What our first steps see, as numpy."""
    rows = np.asarray(job.order(np.arange(steps)))
    return [tuple(np.asarray(a)[index, 0] for a in job.data) for index in rows]


def copy_weights(torch, model, params, heads):
    """Our parameters into torch's layers: kernels are transposed there, the heads apart."""
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    kernels, biases = [], []
    for name in ("hidden_1", "hidden_2", "heads"):
        parts = heads if name == "heads" else 1
        kernels += np.split(np.asarray(params[name]["kernel"]), parts, axis=1)
        biases += np.split(np.asarray(params[name]["bias"]), parts)
    assert len(layers) == len(kernels)
    for layer, kernel, bias in zip(layers, kernels, biases, strict=True):
        layer.weight.data, layer.bias.data = torch.tensor(kernel.T.copy()), torch.tensor(bias.copy())


@pytest.mark.parametrize("workload", ["small_policy", "drill_1"])
@pytest.mark.parametrize("implementation", ["eager", "fused"])
def test_same_loss_trajectory_as_the_peer(workload, implementation):
    torch = pytest.importorskip("torch")
    steps = 8
    job = ours.training(workload, length=steps)
    model, loss, optimizer, scheduler, clip = chapter_loop.make_training(workload, implementation)
    copy_weights(torch, model, job.state.params, heads=7 if workload == "small_policy" else 1)
    seen = batches(job, steps)
    _, metrics = job.advance(job.state, job.data)
    theirs = []
    for observation, action in seen:
        # Centres (2 k + 1) / 256 - 1 back to their k.
        target = np.rint(((action + 1) * 256 - 1) / 2).astype(np.int64) if clip else action
        args = torch.tensor(observation), torch.tensor(target)
        score = lambda o, t: loss(model(o), t)  # noqa: E731
        step = chapter_loop.train_step(score, list(model.parameters()), optimizer, scheduler, clip, *args)
        theirs.append(step.item())
    assert theirs[-1] != theirs[0]
    np.testing.assert_allclose(metrics["losses"], theirs, rtol=2e-5)


def test_the_peer_has_the_chapters_number_of_parameters():
    pytest.importorskip("torch")
    model, *_ = chapter_loop.make_training("small_policy", "eager")
    # 64 256 + 256 + 256 256 + 256 + 7 (256 256 + 256)
    assert sum(p.numel() for p in model.parameters()) == 542_976


@pytest.mark.parametrize("contender", ["dataloader", "eager"])
def test_every_loop_of_the_peer_runs(contender):
    pytest.importorskip("torch")
    # Random bins: after two steps the loss is still ln 256 = 5.545 and a little for the random logits.
    assert chapter_loop.make_runner("small_policy", contender)(2) == pytest.approx(5.56, abs=0.05)
    # Unit variance to explain, noise of 0.3: after one epoch more than half of it is explained.
    assert 0.09 * 0.7 < chapter_loop.make_runner("drill_1", contender)(156) < 0.5


def test_flops_against_the_compilers_count():
    layers, batch = (64, 256, 256, 1792), 64
    keys = iter(jax.random.split(jax.random.key(0), 4))
    weights = [jax.random.normal(next(keys), pair) for pair in zip(layers[:-1], layers[1:], strict=True)]

    def loss(weights, x):
        for w in weights:  # No activation: matrix products are all that is counted.
            x = x @ w
        return x.sum()

    x = jax.random.normal(next(keys), (batch, 64))
    gradient = jax.jit(jax.value_and_grad(loss)).lower(weights, x).compile()
    counted = gradient.cost_analysis()["flops"]
    # By hand: 6 64 (64 256 + 256 256 + 256 1792) - 2 64 64 256 = 205,520,896.
    assert update.flops(layers) == 205_520_896
    np.testing.assert_allclose(counted, 205_520_896, rtol=5e-3)


def answers(*seconds, steps=10):
    return [Answer(steps, 2 * s, s) for s in seconds]


def test_clocks_and_medians():
    own = answers(3e-5, 1e-5, 2e-5)  # 3, 1 and 2 us of processor time a step; twice that by the wall
    assert rounds.median_us(own, "cpu") == pytest.approx(2)
    assert rounds.median_us(own, "wall") == pytest.approx(4)
    assert rounds.processor_share(own) == pytest.approx(0.5)


def test_ratio_is_taken_within_rounds():
    # The machine is ten times slower in the second half: the ratio is 2 in every round all the same,
    # where the ratio of two medians over different halves would be 20 or 0.2.
    fast = answers(1e-5, 1e-5, 1e-4, 1e-4)
    slow = answers(2e-5, 2e-5, 2e-4, 2e-4)
    assert rounds.median_ratio(slow, fast, "cpu") == pytest.approx(2)
    with pytest.raises(ValueError, match="zip"):
        rounds.median_ratio(slow[1:], fast, "cpu")


def test_summary_of_made_up_times():
    # A product of 2 1024^3 = 2.147 GFLOP in 20 ms is 107.37 GFLOP/s; our step of 205.5 MFLOP in 2.5 ms runs
    # at 82.21, which is 76.6 % of it; eager takes three times as long, so ours is 3.00 times faster.
    times = {"matmul": 20e-3, "ours": 2.5e-3, "eager": 7.5e-3, "torch matmul": 40e-3, "fused": 4e-3}
    made = {name: [Answer(1, t, t)] * 7 for name, t in times.items()}
    found = update.summarise("small_policy", 1, made)
    assert found["peak_gflops"] == pytest.approx(107.37, abs=0.01)
    assert found["torch_peak_gflops"] == pytest.approx(53.69, abs=0.01)
    rows = {row["contender"]: row for row in found["rows"]}
    assert set(rows) == {"ours", "eager", "fused"}
    assert rows["ours"]["share_of_peak"] == pytest.approx(0.7656, abs=1e-4)
    assert rows["eager"]["ours_is_faster"] == pytest.approx(3)
    # Eager and the peak are reached, 1.6 against fused is not; there was no DataLoader to judge.
    assert [target["reached"] for target in found["targets"]] == [True, False, True]
    text = update.table(found | {"workload": "small_policy", "threads": 1, "failed": {"compile": "no g++"}})
    assert "MISSED  at least 2 x fused" in text
    assert "compile did not start: no g++" in text


def test_two_threads_and_few_rounds_are_not_judged():
    made = {name: [Answer(1, 1.0, 1.0)] * 7 for name in ("matmul", "ours")}
    assert update.summarise("drill_1", 2, made)["targets"] == []
    assert update.summarise("small_policy", 1, {n: a[:2] for n, a in made.items()})["targets"] == []


def echo(body):
    return [sys.executable, "-c", f'import json, sys\nprint(\'{{"version": "1"}}\', flush=True)\n{body}']


def test_workers_take_turns_and_end():
    body = (
        "for line in sys.stdin:\n"
        "    n = int(line)\n"
        '    print("chatter")\n'
        '    print(json.dumps({"steps": n, "wall": n * 1e-3, "cpu": n * 1e-3}), flush=True)'
    )
    with rounds.Worker(echo(body), 1) as a, rounds.Worker(echo(body), 1) as b:
        assert a.ready() == b.ready() == "1"
        found = rounds.interleaved({"a": a, "b": b}, rounds=3, seconds=0.05)
    # One step takes 1 ms, so that a turn of 50 ms is 50 steps.
    assert [answer.steps for answer in found["a"]] == [50, 50, 50]
    assert len(found["b"]) == 3
    assert a._process.returncode == 0


def test_a_worker_that_dies_says_why():
    worker = rounds.Worker([sys.executable, "-c", "raise SystemExit('no compiler here')"], 1)
    with worker, pytest.raises(ChildProcessError, match="no compiler here"):
        worker.ready()


def test_flatness_compares_start_and_end():
    class Slowing:
        made = 0

        def ask(self, steps):
            self.made += 1
            return Answer(steps, 0.0, steps * 1e-6 * self.made)  # 1, 2, 3, ... us a step

    found = update.flatness(Slowing(), 10_000)
    # Blocks of 1,000: medians of 1..5 and of 6..10.
    assert (found["early_us"], found["late_us"]) == pytest.approx((3, 8))


def test_smoke(tmp_path):
    command = [sys.executable, "-m", "experiments.benchmark", "--smoke", f"--out={tmp_path / 'run'}"]
    # An interpreter without torch is what most people have; `-S` hides what is installed.
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    done = subprocess.run([*command, f"--torch_python={fake}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert update.TORCH_COMMAND in done.stdout
    records = json.loads((tmp_path / "run" / "benchmark.json").read_text())["records"]
    (measured,) = [record for record in records if "rows" in record]
    assert [row["contender"] for row in measured["rows"]] == ["ours"]
    assert measured["rows"][0]["us_per_step"] > 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "finished"


@pytest.mark.parametrize(
    "flag", ["--rounds=0", "--what=nothing", "--round_seconds=0", "--torch_python=/nowhere/python"]
)
def test_bad_flags_are_refused(flag, tmp_path):
    command = [sys.executable, "-m", "experiments.benchmark", flag, f"--out={tmp_path / 'run'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert flag.split("=")[0] in done.stderr
    assert not (tmp_path / "run").exists()
