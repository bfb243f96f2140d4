"""Inverse kinematics of reachable Panda targets at 1 mm and 0.01 rad, beside everybody else's.

Targets are poses of configurations drawn uniformly within the limits. Whether one is solved is judged in
float64 by numpy, not by the solver. Times are processor time per target on one processor.
"""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ch3_jax.kinematics.arm import load_arm
from experiments.benchmarks import arm as shared
from experiments.benchmarks import rounds
from experiments.benchmarks.settings import Settings

PEERS = ("ik_roboticstoolbox", "ik_pytorch_kinematics", "ik_pinocchio")
# How many targets a peer gets at once: pytorch_kinematics solves in batches, the others one by one.
BATCHES = {"ik_roboticstoolbox": 2000, "ik_pytorch_kinematics": 500, "ik_pinocchio": 300}
LARGE, SMALL = 65_536, 4096
_LARGE, _SMALL = f"ours, {LARGE:,} targets", f"ours, {SMALL:,} targets"
_SOLVED, _LARGE_RATIO, _SMALL_RATIO = 99.9, 10.0, 4.0


def records(settings: Settings) -> Iterator[tuple[dict[str, Any], str]]:
    """Checks the peers' interpreter, then gives records and their texts as they come."""
    peers = shared.find_peers(settings.python, () if settings.smoke else PEERS, False)
    return _records(settings, peers)


def _records(settings: Settings, peers: shared.Peers) -> Iterator[tuple[dict[str, Any], str]]:
    for note in peers.notes:
        yield {"note": note}, note
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shared.write_folder(load_arm("panda"), folder, targets=500 if settings.smoke else LARGE)
        for threads in settings.threads:
            if threads > len(shared.processors()):
                note = f"left out: {threads} threads, this process may use {len(shared.processors())}"
                yield {"skipped": note}, note
                continue
            record = _measure(settings, peers, folder, threads)
            yield record, table(record)


def _measure(settings: Settings, peers: shared.Peers, folder: Path, threads: int) -> dict[str, Any]:
    sizes = {_SMALL: 500} if settings.smoke else {_LARGE: LARGE, _SMALL: SMALL}
    own = {name: ["inverse", f"--folder={folder}", f"--batch={size}"] for name, size in sizes.items()}
    lines = shared.commands(own, peers, {name: BATCHES[name] for name in peers.names}, folder, threads)
    clock = "cpu" if threads == 1 else "wall"
    with shared.started(lines, threads) as (workers, facts, failed):
        answers = rounds.interleaved(workers, settings.rounds, settings.seconds)
    rows = [
        {
            "contender": name,
            "us": rounds.median_us(own, clock),
            "quartiles_us": rounds.quartiles_us(own, clock),
            "ours_is_faster": rounds.median_ratio(own, next(iter(answers.values())), clock),
            "solved": 100 * facts[name]["solved"],
            "of": facts[name]["of"],
            "version": facts[name]["version"],
            "processor_share": rounds.processor_share(own),
        }
        for name, own in answers.items()
    ]
    return {
        "threads": threads, "clock": clock, "rows": rows, "failed": failed,
        "targets": _targets(rows, answers) if threads == 1 else [],
    }  # fmt: skip


def _targets(rows: list[dict[str, Any]], answers: Mapping[str, list[rounds.Answer]]) -> list[dict[str, Any]]:
    if _LARGE not in answers or len(answers[_LARGE]) < shared.JUDGED_ROUNDS:
        return []
    text = f"{LARGE:,} reachable targets within limits at 1 mm and 0.01 rad solved"
    found = [shared.Bar(text, rows[0]["solved"], _SOLVED, unit="%").record()]
    peer = answers.get("ik_roboticstoolbox")
    if peer is not None:
        for name, wanted in ((_LARGE, _LARGE_RATIO), (_SMALL, _SMALL_RATIO)):
            ratio = rounds.median_ratio(peer, answers[name], "cpu")
            found.append(shared.Bar(f"{name}, against roboticstoolbox's ik_LM", ratio, wanted).record())
    return found


def table(record: Mapping[str, Any]) -> str:
    """One record as text."""
    threads = record["threads"]
    lines = [
        f"Panda targets, 1 mm, 0.01 rad, within limits; {threads} thread{'s' if threads > 1 else ''}",
        "",
        f"{'contender':<26}{'us per target':>14}{'quartiles':>20}{'ours is':>12}{'solved':>10}{'of':>8}"
        "  version",
    ]
    for row in record["rows"]:
        low, high = row["quartiles_us"]
        spread = f"{low:,.1f} - {high:,.1f}"
        lines.append(
            f"{row['contender']:<26}{row['us']:>14,.1f}{spread:>20}{row['ours_is_faster']:>10.2f} x"
            f"{row['solved']:>8.2f} %{row['of']:>8,}  {row['version']}"
        )
    lines += [f"{name} is left out: it {reason}" for name, reason in record["failed"].items()]
    lines += ["", *shared.judged(record)] if record["targets"] else []
    share = min(row["processor_share"] for row in record["rows"])
    lines.append(f"processor share of the least served contender: {100 * share:.0f} %")
    return "\n".join(lines) + "\n"
