"""Jacobians of the Panda beside everybody else's: many at once, in two layouts, one at a time, the first one.

Times are per J. On one processor they are processor time, medians over rounds in which all contenders take
turns; a ratio is the median of the ratios within a round.
"""

import statistics
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ch3_jax.kinematics.arm import load_arm
from experiments.benchmarks import arm as shared
from experiments.benchmarks import rounds
from experiments.benchmarks.settings import Settings

PEERS = ("pinocchio", "mujoco", "roboticstoolbox", "pytorch_kinematics", "kinjax", "frax", "casadi")
SMOKE_PEERS = ("pinocchio",)
SMALL, LARGE = 4096, 262_144
# Bars on one core: (contender, other, how many times faster, its words).
_BATCH_BARS = (
    ("jacobian", "pinocchio", 15, "J as (B, 6, 7), B = 4,096, against Pinocchio's Python loop"),
    ("jacobian", shared.CPP, 6, "J as (B, 6, 7), B = 4,096, against Pinocchio's C++ loop in double"),
    ("jacfwd", "naive", 15, "a user's vmap(jacfwd(forward)) against the naive one"),
)
_LAST_BARS = tuple(
    ("jacobian_last", peer, ratio, f"batch-last J, B = 262,144, donated, against {peer}")
    for peer, ratio in ((shared.CPP, 12), ("kinjax", 15), ("casadi", 1.8))
)
_JACFWD_MOST, _ONE_MOST, _FIRST_MOST = 3.0, 1.3, 1.0


def records(settings: Settings) -> Iterator[tuple[dict[str, Any], str]]:
    """Checks the peers' interpreter, then gives records and their texts as they come."""
    peers = shared.find_peers(settings.python, SMOKE_PEERS if settings.smoke else PEERS, not settings.smoke)
    return _records(settings, peers)


def _records(settings: Settings, peers: shared.Peers) -> Iterator[tuple[dict[str, Any], str]]:
    for note in peers.notes:
        yield {"note": note}, note
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shared.write_folder(load_arm("panda"), folder, targets=1)
        for threads in settings.threads:
            if threads > len(shared.processors()):
                note = f"left out: {threads} threads, this process may use {len(shared.processors())}"
                yield {"skipped": note}, note
                continue
            for measure in (_batch, _last, _one):
                record = measure(settings, peers, folder, threads)
                yield record, table(record)
        record = _first(settings, folder)
        yield record, table(record)
        record = _memory()
        yield record, table(record)


def _batch(settings: Settings, peers: shared.Peers, folder: Path, threads: int) -> dict[str, Any]:
    batch = 256 if settings.smoke else SMALL
    own = {name: [name, f"--folder={folder}", f"--batch={batch}"] for name in ("jacobian", "jacfwd", "naive")}
    names = dict.fromkeys((*peers.names, shared.CPP), batch)
    title = f"J of {batch:,} configurations, samples first"
    record = _measured(title, settings, shared.commands(own, peers, names, folder, threads), threads)
    answers = record.pop("answers")
    targets = _bars(_BATCH_BARS, answers, threads)
    if targets:
        ratio = rounds.median_ratio(answers["jacfwd"], answers["jacobian"], "cpu")
        bar = shared.Bar("vmap(jacfwd(forward)) beside our analytic J", ratio, _JACFWD_MOST, most=True)
        targets.append(bar.record())
    return record | {"targets": targets}


def _last(settings: Settings, peers: shared.Peers, folder: Path, threads: int) -> dict[str, Any]:
    batch = 1024 if settings.smoke else LARGE
    own = {"jacobian_last": ["jacobian_last", f"--folder={folder}", f"--batch={batch}"]}
    names = {name: batch for name in (shared.CPP, "kinjax", "casadi") if name in (*peers.names, shared.CPP)}
    title = f"J of {batch:,} configurations, samples last, output donated (peers: samples first)"
    record = _measured(title, settings, shared.commands(own, peers, names, folder, threads), threads)
    return record | {"targets": _bars(_LAST_BARS, record.pop("answers"), threads)}


def _one(settings: Settings, peers: shared.Peers, folder: Path, threads: int) -> dict[str, Any]:
    own = {
        f"{name}{note}": [name, f"--folder={folder}", "--batch=1", *flag]
        for note, flag in (("", []), (" (waits)", ["--wait"]))
        for name in ("one", "noop")
    }
    names = {name: 1 for name in ("pinocchio", "kinjax", "frax") if name in peers.names}
    title = "one configuration, waited for; (waits): jax_cpu_enable_async_dispatch off"
    record = _measured(title, settings, shared.commands(own, peers, names, folder, threads), threads)
    answers, targets = record.pop("answers"), []
    if threads == 1 and len(answers["one"]) >= shared.JUDGED_ROUNDS:
        for note in ("", " (waits)"):
            ratio = rounds.median_ratio(answers["one" + note], answers["noop" + note], "cpu")
            targets.append(shared.Bar(f"one q{note} beside a no-op", ratio, _ONE_MOST, most=True).record())
    return record | {"targets": targets}


def _measured(title: str, settings: Settings, lines: Mapping[str, list[str]], threads: int) -> dict[str, Any]:
    """One table's numbers, and the `answers` themselves."""
    clock = "cpu" if threads == 1 else "wall"
    with shared.started(lines, threads) as (workers, facts, failed):
        answers = rounds.interleaved(workers, settings.rounds, settings.seconds)
    ours = next(iter(answers))
    rows = [
        {
            "contender": name,
            "ns": 1e3 * rounds.median_us(own, clock),
            "quartiles_ns": [1e3 * t for t in rounds.quartiles_us(own, clock)],
            "ours_is_faster": rounds.median_ratio(own, answers[ours], clock),
            "error": facts[name].get("error"),
            "version": facts[name]["version"],
            "processor_share": rounds.processor_share(own),
        }
        for name, own in answers.items()
    ]
    return {
        "title": title, "threads": threads, "clock": clock, "ours": ours, "rows": rows, "failed": failed,
        "answers": answers,
    }  # fmt: skip


def _bars(bars, answers: Mapping[str, list[rounds.Answer]], threads: int) -> list[dict[str, Any]]:
    """The rows that were asked for on one core and whose peers are there."""
    found = []
    for ours, other, wanted, text in bars:
        present = ours in answers and other in answers
        if threads == 1 and present and len(answers[ours]) >= shared.JUDGED_ROUNDS:
            ratio = rounds.median_ratio(answers[other], answers[ours], "cpu")
            found.append(shared.Bar(text, ratio, wanted).record())
    return found


def _first(settings: Settings, folder: Path) -> dict[str, Any]:
    """Processor seconds of the first call in a fresh process, no cache: tracing, compiling, running."""
    line = [f"--folder={folder}", f"--batch={256 if settings.smoke else SMALL}"]
    own = {"first": ["first", *line]}
    lines = shared.commands(own, shared.Peers("", (), (), None), {}, folder, 1)
    answers = []
    for _ in range(1 if settings.smoke else max(settings.rounds, shared.JUDGED_ROUNDS)):
        with shared.started(lines, 1) as (workers, _, _):
            answers.append(workers["first"].ask(1))
    seconds = statistics.median(answer.cpu for answer in answers)
    wall = statistics.median(answer.wall for answer in answers)
    bar = shared.Bar("first call of jacobian(arm, q), empty cache", seconds, _FIRST_MOST, most=True, unit="s")
    targets = [bar.record()] if len(answers) >= shared.JUDGED_ROUNDS else []
    return {"title": "first call", "seconds": seconds, "wall_seconds": wall, "targets": targets}


def _memory() -> dict[str, Any]:
    """Bytes per sample that the compiled program needs beside its arguments, at three batch sizes."""
    import jax
    import jax.numpy as jnp

    from ch3_jax.kinematics.jacobian import jacobian

    panda = load_arm("panda")
    bytes_of = {}
    for batch in (8192, 16_384, 32_768):
        lowered = jax.jit(lambda q: jacobian(panda, q)).lower(jnp.zeros((batch, panda.dof), jnp.float32))
        memory = lowered.compile().memory_analysis()
        bytes_of[batch] = memory.temp_size_in_bytes + memory.output_size_in_bytes
    first, second, third = bytes_of.values()
    growth = (third - second) / (second - first)
    bar = shared.Bar("memory of 4 n over that of 2 n, less n", growth, 2.01, most=True)
    return {"title": "memory", "bytes": bytes_of, "targets": [bar.record()]}


def table(record: Mapping[str, Any]) -> str:
    """One record as text."""
    if "seconds" in record:
        head = [
            f"first call in a fresh process, B = {SMALL:,}: {record['seconds']:.2f} s of processor time, "
            f"{record['wall_seconds']:.2f} s by the wall"
        ]
        return "\n".join(head + shared.judged(record)) + "\n"
    if "bytes" in record:
        sizes = ", ".join(f"{size / batch:.0f} at {batch:,}" for batch, size in record["bytes"].items())
        return "\n".join([f"memory, bytes per sample: {sizes}", *shared.judged(record)]) + "\n"
    threads = record["threads"]
    head = f"{'contender':<22}{'ns per J':>12}{'quartiles':>22}{'ours is':>12}{'error':>10}  version"
    lines = [f"{record['title']}; {threads} thread{'s' if threads > 1 else ''}", "", head]
    for row in record["rows"]:
        low, high = row["quartiles_ns"]
        spread = f"{low:,.1f} - {high:,.1f}"
        error = "" if row["error"] is None else f"{row['error']:.0e}"
        lines.append(
            f"{row['contender']:<22}{row['ns']:>12,.1f}{spread:>22}{row['ours_is_faster']:>10.2f} x"
            f"{error:>10}  {row['version']}"
        )
    lines += [f"{name} is left out: it {reason}" for name, reason in record["failed"].items()]
    lines += ["", *shared.judged(record)] if record["targets"] else []
    share = min(row["processor_share"] for row in record["rows"])
    lines.append(f"processor share of the least served contender: {100 * share:.0f} %")
    return "\n".join(lines) + "\n"
