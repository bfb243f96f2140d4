"""The losses beside optax, rlax and the same formulas in PyTorch: value, and value with gradient.

Every contender gets the same arrays in a process of its own and must return the same values and gradients
before anything is timed,

  |ours - theirs| <= 1e-4 |theirs| + 1e-5,

then all take turns, workload by workload. At batch 64 a loss is a few thousand operations, and what is
measured is the call: a dispatch of one compiled program, or of one PyTorch kernel per operation. At 65,536 it
is the passes over memory: a compiled loss makes one where separate kernels make one each. PyTorch is eager,
as its losses are used.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ch3_jax.errors import InputError
from experiments.benchmarks import rounds
from experiments.benchmarks.settings import Settings
from third_party import torch_losses

COMMAND = "pip install -r third_party/requirements.txt"
BINS, ACTION, COMPONENTS = 256, 7, 5
BATCHES = (64, 65_536)
PAIRS = (64, 1_024)  # of InfoNCE, whose table has as many columns as rows
SMOKE_LOSSES = ("cross_entropy", "gae")
PEERS = ("optax", "rlax", "torch")
_OURS = "ours"
_TURNS = 25  # workloads that share one turn of `--round_seconds`
_PEER_FILE = Path(torch_losses.__file__)


def records(settings: Settings) -> Iterator[tuple[dict[str, Any], str]]:
    """Checks the peers' interpreter, then gives records and their texts as they come."""
    return _records(settings, missing_packages(settings.python))


def missing_packages(python: str) -> list[str]:
    """Which of rlax and torch an interpreter could not import.

    Raises:
      InputError: it cannot be started.
    """
    names = "rlax", "torch"
    check = f"from importlib.util import find_spec as f; print(*(n for n in {names} if f(n) is None))"
    try:
        done = subprocess.run([python, "-c", check], capture_output=True, text=True)
    except OSError as error:
        raise InputError(
            f"--torch_python={python} cannot be started",
            got=error.strerror,
            expected="the path of a Python interpreter that has torch and rlax",
            cause="a mistyped path",
            fix="correct it, or leave it out and " + COMMAND,
        ) from error
    return list(names) if done.returncode else done.stdout.split()


def _records(settings: Settings, missing: Sequence[str]) -> Iterator[tuple[dict[str, Any], str]]:
    if missing:
        note = f"measured without {' and '.join(missing)}; for these peers: {COMMAND} rlax\n"
        yield {"note": note.strip()}, note
    available = sorted(os.sched_getaffinity(0), reverse=True) if hasattr(os, "sched_getaffinity") else [0]
    for number in settings.threads:
        if number > len(available):
            record = {"skipped": f"{number} threads: this process may use {len(available)} processors"}
            yield record, f"left out: {record['skipped']}\n"
            continue
        cores = ",".join(map(str, available[:number]))
        record = measure(settings, number, cores, [peer for peer in PEERS if peer not in missing])
        yield record, table(record)


def inputs(losses: Sequence[str], batches: Sequence[int], seed: int = 0) -> dict[str, np.ndarray]:
    """What the losses are computed on.

    Args:
      losses: names of `torch_losses.LOSSES`.
      batches: sizes; InfoNCE has those of `PAIRS` in their places.
      seed: of all of it.

    Returns:
      "loss/batch/argument" -> float32, or int32 bins.
    """
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.standard_normal(shape, dtype=np.float32)

    def arguments(loss: str, b: int) -> dict[str, np.ndarray]:
        pair = {"prediction": normal(b, ACTION), "target": normal(b, ACTION)}
        spread = {"log_std": 0.3 * normal(b, ACTION)}
        made = {
            "cross_entropy": lambda: {
                "logits": normal(b, BINS),
                "target": rng.integers(0, BINS, b).astype(np.int32),
            },
            "squared": lambda: pair,
            "huber": lambda: pair,
            "gaussian_nll": lambda: {"mean": pair["prediction"], "target": pair["target"]} | spread,
            "mixture_nll": lambda: {
                "logits": normal(b, COMPONENTS),
                "mean": normal(b, COMPONENTS, ACTION),
                "log_std": 0.3 * normal(b, COMPONENTS, ACTION),
                "target": pair["target"],
            },
            "gripper": lambda: {"logit": normal(b), "target": (normal(b) > 0).astype(np.float32)},
            "flow_matching": lambda: {
                "predicted": normal(b, ACTION),
                "x0": pair["target"],
                "eps": normal(b, ACTION),
            },
            "info_nce": lambda: {"scores": normal(b, b)},
            "ppo": lambda: {
                "log_prob": 0.3 * normal(b),
                "old_log_prob": 0.3 * normal(b),
                "advantage": normal(b),
            },
            "gae": lambda: {
                "reward": normal(b),
                "discount": np.float32(0.99) * (normal(b) < 2).astype(np.float32),
                "value": normal(b + 1),
            },
        }
        return made[loss]()

    sizes = {
        loss: [PAIRS[BATCHES.index(b)] for b in batches] if loss == "info_nce" else batches for loss in losses
    }
    return {
        f"{loss}/{b}/{name}": array
        for loss in losses
        for b in sizes[loss]
        for name, array in arguments(loss, b).items()
    }


def measure(settings: Settings, threads: int, cores: str, peers: Sequence[str]) -> dict[str, Any]:
    """One record: every loss at every batch, forward and with its gradient, all contenders in turns.

    Args:
      settings: of the benchmark.
      threads: of each contender.
      cores: comma-separated processors that all stay on.
      peers: those that can run.

    Raises:
      InputError: a peer did not start, or returned other numbers than ours.
    """
    losses = SMOKE_LOSSES if settings.smoke else tuple(torch_losses.LOSSES)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        np.savez(place / "inputs.npz", **inputs(losses, BATCHES[:1] if settings.smoke else BATCHES))
        with _started(settings.python, place, threads, cores, peers) as (workers, versions):
            given = {name: dict(np.load(place / f"{name}.npz")) for name in workers}
            known = {name: {key.split("/")[0] for key in found} for name, found in given.items()}
            difference = {name: compare(given[_OURS], given[name], name) for name in workers if name != _OURS}
            rows = []
            for workload in sorted(known[_OURS], key=list(dict.fromkeys(_keys(given[_OURS]))).index):
                views = {n: _View(w, workload) for n, w in workers.items() if workload in known[n]}
                answers = rounds.interleaved(views, settings.rounds, settings.seconds / _TURNS)
                rows.append(_row(workload, answers, threads))
    return {"threads": threads, "versions": versions, "rows": rows, "largest_difference": difference}


def compare(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], peer: str) -> float:
    """The largest difference of a value or gradient, relative to what is allowed.

    Raises:
      InputError: more than rounding.
    """
    worst = 0.0
    for key, expected in theirs.items():
        allowed = 1e-4 * np.abs(expected) + 1e-5
        share = float(np.max(np.abs(ours[key] - expected) / allowed))
        # Written so that a NaN on either side fails.
        if not share <= 1:
            raise InputError(
                f"{key} is not {peer}'s, so times cannot be compared",
                got=f"a difference of {share:.2g} times the rounding that is allowed",
                expected="1e-4 of the value and 1e-5",
                cause=f"another version of {peer} with other defaults",
                fix=COMMAND,
            )
        worst = max(worst, share)
    return worst


def table(record: Mapping[str, Any]) -> str:
    """One record as text of 80 columns."""
    threads, rows = record["threads"], record["rows"]
    peers = [peer for peer in PEERS if any(peer in row["slower"] for row in rows)]
    lines = [
        f"losses, {threads} thread{'s' if threads > 1 else ''}, float32; a peer's time over ours",
        "; ".join(record["versions"].values()),
        "",
        f"{'loss':<16}{'batch':>7}  {'pass':<10}{'ours, us':>12}" + "".join(f"{p:>11}" for p in peers),
    ]
    for row in rows:
        ratios = (f"{row['slower'][p]:>9.2f} x" if p in row["slower"] else f"{'':>11}" for p in peers)
        lines.append(
            f"{row['loss']:<16}{row['batch']:>7,}  {row['pass']:<10}{row['ours_us']:>12,.1f}"
            + "".join(ratios)
        )
    lines.append("")
    for peer in peers:
        ratios = {f"{r['loss']} {r['batch']:,} {r['pass']}": r["slower"].get(peer) for r in rows}
        ratios = {name: ratio for name, ratio in ratios.items() if ratio is not None}
        slowest = min(ratios, key=ratios.get)
        faster = sum(ratio >= 1 for ratio in ratios.values())
        lines.append(
            f"{peer}: ours is at least as fast in {faster} of {len(ratios)}, "
            f"median {np.median(list(ratios.values())):.2f} x, least {ratios[slowest]:.2f} x ({slowest})"
        )
    return "\n".join(lines) + "\n"


def _keys(found: Mapping[str, np.ndarray]) -> list[str]:
    return [key.split("/")[0] for key in found]


def _row(workload: str, answers: Mapping[str, Sequence[rounds.Answer]], threads: int) -> dict[str, Any]:
    clock = "cpu" if threads == 1 else "wall"
    loss, batch, which = workload.split("-")
    return {
        "loss": loss,
        "batch": int(batch),
        "pass": which,
        "ours_us": rounds.median_us(answers[_OURS], clock),
        "us": {name: rounds.median_us(own, clock) for name, own in answers.items()},
        "slower": {
            name: rounds.median_ratio(own, answers[_OURS], clock)
            for name, own in answers.items()
            if name != _OURS
        },
    }


class _View(NamedTuple):
    """One workload of a process that has several, as `rounds.interleaved` wants it."""

    worker: rounds.Worker
    workload: str

    def ask(self, steps: int) -> rounds.Answer:
        return self.worker.ask(steps, self.workload)


@contextlib.contextmanager
def _started(python: str, place: Path, threads: int, cores: str, peers: Sequence[str]):
    """(workers that are ready and have written their answers, versions of their libraries)."""
    jax_side = ["-m", "experiments.benchmarks.jax_losses"]
    commands = {}
    for name in (_OURS, *peers):
        program = [str(_PEER_FILE)] if name == "torch" else jax_side
        interpreter = sys.executable if name in (_OURS, "optax") else python
        files = [str(place / "inputs.npz"), str(place / f"{name}.npz")]
        options = [f"--library={name}", f"--threads={threads}", f"--cores={cores}"]
        commands[name] = [interpreter, *program, *files, *options]
    with contextlib.ExitStack() as stack:
        workers = {n: stack.enter_context(rounds.Worker(c, threads)) for n, c in commands.items()}
        versions = {}
        for name, worker in workers.items():
            try:
                versions[name] = worker.ready()
            except ChildProcessError as error:
                if name == _OURS:
                    raise
                raise InputError(
                    f"{name}'s side of the comparison did not start",
                    got=error,
                    expected=f"a {name} that its interpreter can import",
                    cause="a missing package, or versions that do not fit together",
                    fix=COMMAND + " rlax",
                ) from error
        yield workers, versions
