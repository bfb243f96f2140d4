"""The doctor and lerobot-doctor over the same recordings, with no training: who finds what is wrong in data?

  pip install -r third_party/requirements-lerobot-doctor.txt          # into an interpreter of its own
  python -m experiments.doctor_data_benchmark --peer_python=peer/bin/python

takes the cases of experiments.doctor_benchmark whose fault changes the data of a robot, and healthy
recordings, writes each as a LeRobot folder, and lets both tools read that folder. The doctor is told what
the run declares, as on the scoreboard. Without the other tool its columns are left out and the table says
"not installed". Nothing is trained, so nobody knows which faults hurt, and all are counted. About 245
recordings, five minutes on one core.

Writes data-cases.jsonl and data-scoreboard.txt; the same command with the same `--out` goes on where it was.
"""

import functools
import json
import tempfile
import time
from pathlib import Path

from absl import flags

from experiments import (
    entry,
    shared_flags,  # noqa: F401 - defines --out and --smoke
)
from experiments.progress import Progress

_LINES, _TEXT = "data-cases.jsonl", "data-scoreboard.txt"


def define_flags() -> None:
    """The flags of this command, defined when it runs."""
    flags.DEFINE_integer("seeds", 2, "of every fault and severity", lower_bound=1, upper_bound=1_000)
    flags.DEFINE_integer(
        "healthy", 280, "healthy runs; those that are recordings of a robot count", lower_bound=0
    )
    flags.DEFINE_integer("first_seed", 100, "other runs of everything", lower_bound=0)
    flags.DEFINE_string("peer_python", None, "interpreter that has lerobot-doctor; by default this one")


def main(_: list[str]) -> int:
    """Examines what is missing, then prints the table."""
    import sys

    from experiments.scoreboard.lerobot_doctor import Peer

    f = flags.FLAGS
    folder = Path(f.out or "runs/doctor-data-benchmark").expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    planned = recordings(*((1, 6) if f.smoke else (f.seeds, f.healthy)), f.first_seed)
    planned = planned[:: len(planned) // 3] if f.smoke else planned
    done = {line["key"]: line for line in _read(folder)}
    with Peer(f.peer_python or sys.executable) as peer, (folder / _LINES).open("a") as file:
        if peer.missing:
            print(f"lerobot-doctor is not asked: {peer.missing}", file=sys.stderr)
        todo = [
            case for case in planned if case.key not in done or (peer.version and not done[case.key]["peer"])
        ]
        with Progress(len(planned), start=len(planned) - len(todo)) as progress:
            for index, case in enumerate(todo, len(planned) - len(todo) + 1):
                file.write(json.dumps(judge(case, peer)) + "\n")
                file.flush()
                progress.update(index)
    text = page(_read(folder))
    (folder / _TEXT).write_text(text + "\n")
    print(text, flush=True)
    return 0


def recordings(seeds: int, healthy: int, first: int) -> list:
    """Cases whose data are a robot's over time, and whose fault, if there is one, is in the data."""
    from ch3_jax.faults.fault import SEVERITIES
    from experiments.scoreboard import cases

    settings = cases.Settings(seeds=seeds, severities=SEVERITIES, healthy=healthy, steps=None, first=first)
    return [case for case in cases.cases(settings) if _in_the_data(case.kind, case.name)]


@functools.cache
def _in_the_data(kind: str, name: str) -> bool:
    import numpy as np

    from ch3_jax.faults import catalogue, healthy
    from experiments.scoreboard.cases import CLEAN, FAULT

    base = name if kind == CLEAN else catalogue.FAULTS[name].base
    clean = healthy.BASES[base](1).dataset
    if not clean.facts.rate_hz:
        return False
    if kind != FAULT:
        return True
    broken = catalogue.broken(catalogue.FAULTS[name], "strong", 1).dataset
    return broken.splits.keys() != clean.splits.keys() or any(
        not np.array_equal(getattr(part, field), getattr(clean.splits[split], field), equal_nan=True)
        for split, part in broken.splits.items()
        for field in ("observation", "action", "offset", "timestamp")
    )


def judge(case, peer) -> dict:
    """What both say of one recording, in the form of the scoreboard's lines."""
    from ch3_jax.doctor.examine import examine
    from ch3_jax.doctor.from_data import patient_of_data
    from ch3_jax.doctor.patient import Declared
    from ch3_jax.doctor.verdict import HEALTHY, diagnose
    from ch3_jax.faults import healthy
    from experiments.scoreboard import lerobot_doctor
    from experiments.scoreboard.cases import CLEAN, Settings, base_of, half_of, run_of
    from experiments.scoreboard.recordings import write_recording

    run = run_of(case, Settings(seeds=1, severities=(), healthy=0, steps=None))
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_recording(run.dataset, Path(scratch) / "recording")
        began = time.process_time()
        diagnosis = diagnose(examine(patient_of_data(folder, Declared(**run.declared))))
        seconds = time.process_time() - began
        said, peer_s, twin = [], None, []
        if peer.version:
            said, peer_s = peer.ask(folder)
            twin = said
            if case.kind != CLEAN:
                clean = healthy.BASES[base_of(case)](case.seed).dataset
                twin, _ = peer.ask(write_recording(clean, Path(scratch) / "twin"))
    return {
        "key": case.key,
        "case": case._asdict(),
        "half": half_of(case),
        "alarm": diagnosis.status != HEALTHY and bool(diagnosis.causes),
        "causes": [[b.cause, b.place] for b in diagnosis.causes],
        "seconds": seconds,
        "peer": peer.version,
        "peer_s": peer_s,
        "baselines": lerobot_doctor.readings(said, twin) if peer.version else {},
        "harm": {"admitted": True},
    }


def page(lines: list[dict]) -> str:
    """Both halves, then how often each of the other's rules speaks on healthy recordings."""
    import numpy as np

    from experiments.scoreboard import table
    from experiments.scoreboard.cases import FAULT
    from experiments.scoreboard.lerobot_doctor import READINGS, WARNING

    if not lines:
        return "no recording is examined"
    asked = all(line["peer"] for line in lines)
    tools = (table.DOCTOR, *READINGS) if asked else (table.DOCTOR,)
    version = lines[-1]["peer"] or "not installed"
    blocks = []
    for half in table.HALVES:
        mine = [line for line in lines if line["half"] == half]
        if not mine:
            continue
        broken = sum(line["case"]["kind"] == FAULT for line in mine)
        rows = [
            f"{half} half: {len(mine)} recordings, {broken} broken; columns 2 on: lerobot-doctor {version}"
        ]
        rows.append(f"{'':<26}" + "".join(f"{who:>20}" for who in tools))
        scores = {who: table.score(mine, who) for who in tools}
        for name in scores[table.DOCTOR]:
            rows.append(f"{name:<26}" + "".join(f"{_share(*s[name]):>20}" for s in scores.values()))
        for who in tools[1:]:
            only, other, p = table.mcnemar(
                *([table.correct(x, tool) for x in mine] for tool in (tools[0], who))
            )
            rows.append(
                f"against {who}: the doctor alone right {only}, it alone {other}, McNemar p = {p:.2g}"
            )
        blocks.append("\n".join(rows))
    times = {
        "doctor": [line["seconds"] for line in lines],
        "lerobot-doctor": [x["peer_s"] for x in lines if asked],
    }
    blocks.append(
        "median seconds: " + ", ".join(f"{who} {np.median(s):.2f}" for who, s in times.items() if len(s))
    )
    healthy = [line for line in lines if line["case"]["kind"] != FAULT]
    alarms = (f"{who} {_share(sum(table.alarmed(x, who) for x in healthy), len(healthy))}" for who in tools)
    blocks.append("alarms on healthy recordings of both halves: " + ", ".join(alarms))
    if asked:
        spoken: dict[str, int] = {}
        for line in healthy:
            for rule in {rule for rule, _ in line["baselines"][WARNING]}:
                spoken[rule] = spoken.get(rule, 0) + 1
        rules = ", ".join(f"{rule} {count}" for rule, count in sorted(spoken.items(), key=lambda x: -x[1]))
        blocks.append(f"lerobot-doctor on {len(healthy)} healthy recordings: {rules or 'silent'}")
    return "\n\n".join(blocks)


def _share(right: int, made: int) -> str:
    from experiments.scoreboard.table import wilson

    if not made:
        return "-"
    low, high = wilson(right, made)
    return f"{right}/{made} [{100 * low:.0f}-{100 * high:.0f} %]"


def _read(folder: Path) -> list[dict]:
    """All lines, the later of two about one case."""
    path = folder / _LINES
    texts = path.read_text().splitlines() if path.exists() else []
    lines = {}
    for text in texts:
        try:
            line = json.loads(text)
        except ValueError:  # Cut off when the last command was stopped.
            continue
        lines[line["key"]] = line
    return list(lines.values())


if __name__ == "__main__":
    define_flags()
    entry.run(main)
