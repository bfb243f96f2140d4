"""Twenty steps from noise to action: our samplers beside diffusers' schedulers around the same network.

Both sides get the same weights of one MLP (observation 14, noisy action 7, time -> 256 -> 256 -> 7), the same
observations, starting noise and, for DDPM, the same draws, and must return the same actions before anything
is timed:

  max |ours - theirs| <= 2e-5 (1 + max |theirs|)

Ours is one compiled `lax.scan`, theirs a Python loop as its users write it. What a sampler adds to its
network is seen beside the row "network", the bare calls alone: at batch 1 the calls are so short that the
loop is nearly everything, at batch 64 the matrix products are, which cost both sides about the same.
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
from experiments.benchmarks import own_samplers, rounds, update
from experiments.benchmarks.settings import Settings
from third_party import diffusers_samplers

PEER = Path(diffusers_samplers.__file__)
COMMAND = "pip install -r third_party/requirements.txt"
OBSERVATION, WIDTH, ACTION = 14, 256, 7
LAYERS = {"hidden_1": (OBSERVATION + ACTION + 1, WIDTH), "hidden_2": (WIDTH, WIDTH), "heads": (WIDTH, ACTION)}
CALLS = {"heun": 2 * own_samplers.STEPS - 1}
TARGET = 3.0
_TOLERANCE = 2e-5
_OURS, _PEER = "ours", "diffusers"


def records(settings: Settings) -> Iterator[tuple[dict[str, Any], str]]:
    """Checks the peer's interpreter, then gives records and their texts as they come."""
    return _records(settings, missing_packages(settings.python))


def missing_packages(python: str) -> list[str]:
    """Which of torch and diffusers an interpreter could not import.

    Raises:
      InputError: it cannot be started.
    """
    names = "torch", "diffusers"
    check = f"from importlib.util import find_spec as f; print(*(n for n in {names} if f(n) is None))"
    try:
        done = subprocess.run([python, "-c", check], capture_output=True, text=True)
    except OSError as error:
        raise InputError(
            f"--torch_python={python} cannot be started",
            got=error.strerror,
            expected="the path of a Python interpreter that has torch and diffusers",
            cause="a mistyped path",
            fix="correct it, or leave it out and " + COMMAND,
        ) from error
    return list(names) if done.returncode else done.stdout.split()


def _records(settings: Settings, missing: Sequence[str]) -> Iterator[tuple[dict[str, Any], str]]:
    if missing:
        note = f"without {' and '.join(missing)} ours is measured alone; for the comparison: {COMMAND}\n"
        yield {"note": note.strip()}, note
    available = sorted(os.sched_getaffinity(0), reverse=True) if hasattr(os, "sched_getaffinity") else [0]
    for number in settings.threads:
        if number > len(available):
            record = {"skipped": f"{number} threads: this process may use {len(available)} processors"}
            yield record, f"left out: {record['skipped']}\n"
            continue
        cores = ",".join(map(str, available[:number]))
        record = measure(settings, number, cores, alone=bool(missing))
        yield record, table(record)


def inputs(seed: int = 0) -> dict[str, np.ndarray]:
    """Weights as torch.nn.Linear starts them, observations, starting noise, and DDPM's draws.

    Args:
      seed: of all of them.

    Returns:
      "layer/kernel" (in, out) and "layer/bias" (out,); for each batch b "observation/b" (b, 14),
      "start/b" (b, 7) and "draws/b" (20, b, 7), float32.
    """
    import jax

    rng = np.random.default_rng(seed)
    arrays = {}
    for name, (fan_in, fan_out) in LAYERS.items():
        bound = fan_in**-0.5
        arrays[f"{name}/kernel"] = rng.uniform(-bound, bound, (fan_in, fan_out)).astype(np.float32)
        arrays[f"{name}/bias"] = rng.uniform(-bound, bound, fan_out).astype(np.float32)
    key = jax.random.key(own_samplers.KEY)
    for b in own_samplers.BATCHES:
        arrays[f"observation/{b}"] = rng.standard_normal((b, OBSERVATION), dtype=np.float32)
        arrays[f"start/{b}"] = rng.standard_normal((b, ACTION), dtype=np.float32)
        steps = range(own_samplers.STEPS)
        arrays[f"draws/{b}"] = np.stack(
            [jax.random.normal(jax.random.fold_in(key, step), (b, ACTION)) for step in steps]
        )
    return arrays


def measure(settings: Settings, threads: int, cores: str, *, alone: bool = False) -> dict[str, Any]:
    """One record: every sampler at every batch, both sides in turns.

    Args:
      settings: of the benchmark. A contender's turn is shared by the samplers.
      threads: of each side.
      cores: comma-separated processors that both stay on.
      alone: there is no peer.

    Raises:
      InputError: the peer did not start, or made other actions than ours.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        np.savez(place / "inputs.npz", **inputs())
        commands = _commands(settings.python, place, threads, cores, alone)
        for name in commands:
            (place / name).mkdir()
        with _started(commands, threads) as (workers, versions):
            differences = {} if alone else compare(place / _OURS, place / _PEER)
            rows = []
            for b in own_samplers.BATCHES:
                for name in (*own_samplers.SAMPLERS, "network"):
                    views = {side: _View(worker, f"{name}-{b}") for side, worker in workers.items()}
                    turn = settings.seconds / len(own_samplers.SAMPLERS)
                    answers = rounds.interleaved(views, settings.rounds, turn)
                    rows.append(_row(name, b, answers, threads) | {"difference": differences.get((name, b))})
    judged = threads == 1 and settings.rounds >= update.JUDGED_ROUNDS and not alone
    return {
        "threads": threads,
        "versions": versions,
        "rows": rows,
        "targets": targets(rows) if judged else [],
    }


def compare(ours: Path, theirs: Path) -> dict[tuple[str, int], float]:
    """The largest difference of an action, for every sampler and batch.

    Raises:
      InputError: more than rounding.
    """
    found = {}
    for name in own_samplers.SAMPLERS:
        for b in own_samplers.BATCHES:
            mine, other = (np.load(folder / f"{name}-{b}.npy") for folder in (ours, theirs))
            found[name, b] = float(np.abs(mine - other).max())
            # Written so that a NaN on either side fails.
            if not found[name, b] <= _TOLERANCE * (1 + np.abs(other).max()):
                raise InputError(
                    f"{name} at batch {b} does not return diffusers' actions, so times cannot be compared",
                    got=f"a difference of {found[name, b]:.2g}",
                    expected=f"at most {_TOLERANCE * (1 + np.abs(other).max()):.1g}, rounding",
                    cause="another version of diffusers with other defaults",
                    fix=COMMAND,
                )
    return found


def targets(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What was asked for, beside what was measured: one line per batch, judged by the slowest ratio."""
    found = []
    for b in own_samplers.BATCHES:
        ratios = {r["sampler"]: r["faster"] for r in rows if r["batch"] == b and r["sampler"] != "network"}
        slow = min(ratios, key=ratios.get)
        reached = [name for name, ratio in ratios.items() if ratio >= TARGET]
        text = (
            f"{TARGET:g} x diffusers at batch {b}: {len(reached)} of {len(ratios)} samplers, "
            f"least {ratios[slow]:.2f} x ({slow})"
        )
        found.append(
            {"text": text, "measured": ratios[slow], "wanted": TARGET, "reached": ratios[slow] >= TARGET}
        )
    return found


def table(record: Mapping[str, Any]) -> str:
    """One record as text of 80 columns."""
    threads = record["threads"]
    lines = [
        f"{own_samplers.STEPS} steps around one MLP ({OBSERVATION + ACTION + 1} -> {WIDTH} -> {WIDTH} -> "
        f"{ACTION}), {threads} thread{'s' if threads > 1 else ''}, float32",
        "; ".join(record["versions"].values()),
        "",
        f"{'sampler':<12}{'batch':>6}{'calls':>7}{'ours, us':>12}{'diffusers, us':>16}{'ours is':>10}"
        f"{'differ by':>12}",
    ]
    for row in record["rows"]:
        text = f"{row['sampler']:<12}{row['batch']:>6}{row['calls']:>7}{row['ours_us']:>12,.0f}"
        if row["faster"] is not None:
            text += f"{row['peer_us']:>16,.0f}{row['faster']:>8.1f} x"
        if row["difference"] is not None:
            text += f"{row['difference']:>12.1e}"
        lines.append(text)
    lines += [""] if record["targets"] else []
    lines += [f"{'reached' if t['reached'] else 'MISSED':<8}{t['text']}" for t in record["targets"]]
    return "\n".join(lines) + "\n"


def _row(name: str, batch: int, answers: Mapping[str, Sequence[rounds.Answer]], threads: int) -> dict:
    clock = "cpu" if threads == 1 else "wall"
    theirs = answers.get(_PEER)
    return {
        "sampler": name,
        "batch": batch,
        "calls": CALLS.get(name, own_samplers.STEPS),
        "ours_us": rounds.median_us(answers[_OURS], clock),
        "peer_us": None if theirs is None else rounds.median_us(theirs, clock),
        "faster": None if theirs is None else rounds.median_ratio(theirs, answers[_OURS], clock),
    }


class _View(NamedTuple):
    """One workload of a process that has several, as `rounds.interleaved` wants it."""

    worker: rounds.Worker
    workload: str

    def ask(self, steps: int) -> rounds.Answer:
        return self.worker.ask(steps, self.workload)


def _commands(python: str, place: Path, threads: int, cores: str, alone: bool) -> dict[str, list[str]]:
    files = [str(place / "inputs.npz")]
    own = [sys.executable, "-m", "experiments.benchmarks.own_samplers", *files, str(place / _OURS)]
    commands = {_OURS: [*own, f"--cores={cores}"]}
    if not alone:
        theirs = [python, str(PEER), *files, str(place / _PEER)]
        commands[_PEER] = [*theirs, f"--threads={threads}", f"--cores={cores}"]
    return commands


@contextlib.contextmanager
def _started(commands: Mapping[str, list[str]], threads: int):
    """(workers that are ready and have written their answers, versions of their libraries)."""
    with contextlib.ExitStack() as stack:
        workers = {n: stack.enter_context(rounds.Worker(c, threads)) for n, c in commands.items()}
        versions = {_OURS: workers[_OURS].ready()}
        if _PEER in workers:
            try:
                versions[_PEER] = workers[_PEER].ready()
            except ChildProcessError as error:
                raise InputError(
                    "diffusers' side of the comparison did not start",
                    got=error,
                    expected="torch and diffusers that fit together",
                    cause="versions that do not",
                    fix=COMMAND,
                ) from error
        yield workers, versions
