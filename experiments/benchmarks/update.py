"""The training step beside the chapter's PyTorch loop, and beside what the processor can do.

Model flops of one step of an MLP with layers (in_l, out_l) at batch B, forward and both gradients, without
the gradient of the input, which nobody needs:

  F = 6 B sum_l in_l out_l - 2 B in_1 out_1,      share of the peak = (F / t_step) / (2 n^3 / t_matmul)

with n = 1024 and t_matmul measured in the same rounds on the same processors. Torch's own rate in that
product is printed too: how far a ratio to torch can go depends on the processor, since torch's library uses
some of them fully and others, with wide vectors, by half.
"""

import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ch3_jax.errors import InputError
from experiments.benchmarks import ours, rounds
from experiments.benchmarks.settings import Settings
from third_party import chapter_loop

TORCH_COMMAND = "pip install -r third_party/requirements.txt"
LAYERS = {"small_policy": (64, 256, 256, 7 * 256), "drill_1": (14, 256, 256, 7)}
TITLES = {
    "small_policy": "SmallPolicy, cross-entropy on 7 x 256 bins, AdamW, clip 1.0, batch 64",
    "drill_1": "drill 1: 14 -> 256 -> 256 -> 7, squared error, Adam, batch 64",
}
PEERS = {
    "small_policy": chapter_loop.CONTENDERS,
    "drill_1": ("dataloader", "eager", "fused", "compile_fused"),
}
SMOKE_PEERS = ("eager",)
_PEAK, _TORCH_PEAK, _OURS = "matmul", "torch matmul", "ours"
_LOOP = Path(chapter_loop.__file__)
_SMOKE_STEPS, _SHORT, _LONG = 200, 10_000, 100_000


class Target(NamedTuple):
    """Asked for on one core: ours at least `ratio` times as fast as the fastest of `peers`."""

    workload: str
    peers: tuple[str, ...]
    ratio: float


TARGETS = (
    Target("small_policy", ("eager",), 3.0),
    Target("small_policy", ("fused", "compile", "compile_fused"), 2.0),
    Target("small_policy", ("dataloader",), 3.5),
    Target("drill_1", ("dataloader",), 4.0),
)
PEAK_TARGET = 0.70
JUDGED_ROUNDS = 7  # fewer, as in a smoke, say nothing


def flops(layers: Sequence[int], batch: int = ours.BATCH) -> int:
    """Model flops of one training step of an MLP.

    Args:
      layers: widths from input to output.
      batch: B.

    >>> flops((2, 3, 5), batch=1)  # forward 2 (6 + 15), weights the same, inputs 2 15
    114
    """
    products = [a * b for a, b in zip(layers[:-1], layers[1:], strict=True)]
    return 6 * batch * sum(products) - 2 * batch * products[0]


def has_torch(python: str) -> bool:
    """Whether an interpreter could import torch.

    Raises:
      InputError: it cannot be started.
    """
    check = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is None)"
    try:
        return subprocess.run([python, "-c", check], capture_output=True).returncode == 0
    except OSError as error:
        raise InputError(
            f"--torch_python={python} cannot be started",
            got=error.strerror,
            expected="the path of a Python interpreter that has torch",
            cause="a mistyped path",
            fix="correct it, or leave it out and " + TORCH_COMMAND,
        ) from error


def records(settings: Settings) -> Iterator[tuple[dict[str, Any], str]]:
    """Checks the peers' interpreter, then gives records and their texts as they come."""
    return _records(settings, has_torch(settings.python))


def _records(settings: Settings, torch: bool) -> Iterator[tuple[dict[str, Any], str]]:
    if not torch:
        note = f"PyTorch is not installed, so ours is measured alone; for its peers: {TORCH_COMMAND}\n"
        yield {"note": note.strip()}, note
    for record in measure(
        python=settings.python,
        torch=torch,
        threads=settings.threads,
        count=settings.rounds,
        seconds=settings.seconds,
        flat_steps=_SMOKE_STEPS if settings.smoke else _LONG if settings.long else _SHORT,
        smoke=settings.smoke,
    ):
        yield record, table(record)


def measure(
    *,
    python: str,
    torch: bool,
    threads: Sequence[int],
    count: int,
    seconds: float,
    flat_steps: int,
    smoke: bool = False,
) -> Iterator[dict[str, Any]]:
    """Yields one record per workload and number of threads, then one on how the cost grows.

    Args:
      python: interpreter of the peers.
      torch: whether it has torch; without, ours is measured alone.
      threads: numbers of threads to measure with.
      count: rounds.
      seconds: of one turn.
      flat_steps: length of the run whose first and last steps are compared.
      smoke: only the first peer.
    """
    available = _processors()
    for number in threads:
        if number > len(available):
            yield {"skipped": f"{number} threads: this process may use {len(available)} processors"}
            continue
        cores = ",".join(map(str, available[:number]))
        for workload in ["small_policy"] if smoke else LAYERS:
            names = (SMOKE_PEERS if smoke else PEERS[workload]) if torch else ()
            commands = _commands(workload, names, python, number, cores)
            with _started(commands, number) as (workers, versions, failed):
                answers = rounds.interleaved(workers, count, seconds)
                record = {"workload": workload, "threads": number, "versions": versions, "failed": failed}
                yield record | summarise(workload, number, answers)
                if workload == "small_policy" and number == threads[0]:
                    yield flatness(workers[_OURS], flat_steps)


def summarise(workload: str, threads: int, answers: Mapping[str, Sequence[rounds.Answer]]) -> dict[str, Any]:
    """Numbers of one table.

    Args:
      workload: key of `LAYERS`.
      threads: of every contender.
      answers: contender -> one answer per round; among them "ours" and "matmul".

    Returns:
      `peak_gflops`, `rows` (one per contender) and `targets` (one per applicable target).
    """
    clock = "cpu" if threads == 1 else "wall"
    peak_flops, step_flops = 2 * ours.MATMUL**3, flops(LAYERS[workload])
    rows = []
    for name, own in answers.items():
        if name in (_PEAK, _TORCH_PEAK):
            continue
        share = step_flops / peak_flops / rounds.median_ratio(own, answers[_PEAK], clock)
        rows.append(
            {
                "contender": name,
                "us_per_step": rounds.median_us(own, clock),
                "quartiles_us": rounds.quartiles_us(own, clock),
                "wall_us_per_step": rounds.median_us(own, "wall"),
                "ours_is_faster": rounds.median_ratio(own, answers[_OURS], clock),
                "share_of_peak": share,
                "processor_share": rounds.processor_share(own),
            }
        )
    rates = {
        n: peak_flops / rounds.median_us(answers[n], clock) / 1e3
        for n in (_PEAK, _TORCH_PEAK)
        if n in answers
    }
    judged = threads == 1 and len(answers[_OURS]) >= JUDGED_ROUNDS
    return {
        "peak_gflops": rates[_PEAK],
        "torch_peak_gflops": rates.get(_TORCH_PEAK),
        "clock": clock,
        "rows": rows,
        "targets": _targets(workload, {row["contender"]: row for row in rows}) if judged else [],
    }


def table(record: Mapping[str, Any]) -> str:
    """One record as text."""
    if "skipped" in record:
        return f"left out: {record['skipped']}\n"
    if "flat" in record:
        return _flat_text(record)
    threads = record["threads"]
    plural = "s" if threads > 1 else ""
    torch_rate = record["torch_peak_gflops"]
    torch_peak = f"; torch's {torch_rate:.0f}" if torch_rate else ""
    lines = [
        f"{TITLES[record['workload']]}; {threads} thread{plural}, float32",
        f"matmul peak {record['peak_gflops']:.0f} GFLOP/s (1024^3, same rounds){torch_peak}",
        "",
        f"{'contender':<16}{'us/step':>10}{'quartiles':>20}{'ours is':>12}{'of peak':>10}{'by the wall':>14}",
    ]
    for row in record["rows"]:
        low, high = row["quartiles_us"]
        spread = f"{low:.0f} - {high:.0f}"
        lines.append(
            f"{row['contender']:<16}{row['us_per_step']:>10.0f}{spread:>20}"
            f"{row['ours_is_faster']:>10.2f} x{100 * row['share_of_peak']:>8.1f} %"
            f"{row['wall_us_per_step']:>11.0f} us"
        )
    lines += [f"{name} did not start: {reason}" for name, reason in record["failed"].items()]
    lines += [""] if record["targets"] else []
    lines += [f"{'reached' if t['reached'] else 'MISSED':<8}{t['text']}" for t in record["targets"]]
    share = min(row["processor_share"] for row in record["rows"])
    if threads == 1 and share < 0.9:
        lines.append(f"the machine was busy: a contender had {100 * share:.0f} % of its processor")
    return "\n".join(lines) + "\n"


def _targets(workload: str, rows: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What was asked for on one core, beside what was measured."""
    found = []
    for target in TARGETS:
        present = [rows[name]["ours_is_faster"] for name in target.peers if name in rows]
        if target.workload == workload and present:
            found.append(
                _target(f"{target.ratio:g} x {' / '.join(target.peers)}", min(present), target.ratio, "x")
            )
    if workload == "small_policy":
        share = rows[_OURS]["share_of_peak"]
        found.append(_target("70 % of the matmul peak", 100 * share, 100 * PEAK_TARGET, "%"))
    return found


def _target(name: str, measured: float, wanted: float, unit: str) -> dict[str, Any]:
    text = f"at least {name}: {measured:.2f} {unit}"
    return {"text": text, "measured": measured, "wanted": wanted, "reached": measured >= wanted}


def _processors() -> list[int]:
    """Numbers of the processors that this process may use; the last first, as the first is the busiest."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0), reverse=True)
    return list(range(os.cpu_count() or 1))


def _own(workload: str, cores: str) -> list[str]:
    return [sys.executable, "-m", "experiments.benchmarks.ours", workload, f"--cores={cores}"]


def _commands(
    workload: str, peers: Sequence[str], python: str, threads: int, cores: str
) -> dict[str, list[str]]:
    loop = [python, str(_LOOP), workload]
    pinned = [f"--threads={threads}", f"--cores={cores}"]
    ours_and_peak = {_PEAK: _own(_PEAK, cores), _OURS: _own(workload, cores)}
    if not peers:
        return ours_and_peak
    theirs = {_TORCH_PEAK: [python, str(_LOOP), "matmul", "eager", *pinned]}
    return ours_and_peak | theirs | {name: [*loop, name, *pinned] for name in peers}


@contextlib.contextmanager
def _started(commands: Mapping[str, list[str]], threads: int):
    """(workers that are ready, their library versions, those that failed with the reason)."""
    with contextlib.ExitStack() as stack:
        workers = {n: stack.enter_context(rounds.Worker(c, threads)) for n, c in commands.items()}
        versions, failed = {}, {}
        for name, worker in workers.items():
            try:
                versions[name] = worker.ready()
            except ChildProcessError as error:
                if name in (_PEAK, _OURS):
                    raise
                failed[name] = str(error)
        yield {n: w for n, w in workers.items() if n in versions}, versions, failed


def flatness(worker: rounds.Worker, steps: int) -> dict[str, Any]:
    """Cost of a step at the start and at the end of `steps` more, in blocks of up to 1,000."""
    block = min(1_000, steps // 2)
    times = [worker.ask(block).us_per_step("cpu") for _ in range(steps // block)]
    some = max(1, min(7, len(times) // 2))
    early, late = statistics.median(times[:some]), statistics.median(times[-some:])
    return {"flat": True, "steps": steps, "early_us": early, "late_us": late, "ratio": late / early}


def _flat_text(record: Mapping[str, Any]) -> str:
    return (
        f"cost per step over a run of {record['steps']:,} steps: {record['early_us']:.0f} us at its start, "
        f"{record['late_us']:.0f} us at its end, ratio {record['ratio']:.3f}\n"
    )
