"""A process that trains, examines and scores one share of the cases, a JSON line for each.

  python -m experiments.scoreboard.worker FOLDER SETTINGS SHARE OF

Cases whose line is in the folder already are left out, so that a stopped scoreboard goes on where it was.
"""

import argparse
import functools
import json
import math
import time
from pathlib import Path

import numpy as np

from ch3_jax.doctor.causes import CAUSES
from ch3_jax.doctor.examine import examine
from ch3_jax.doctor.verdict import HEALTHY, diagnose
from ch3_jax.faults import catalogue, healthy
from ch3_jax.faults import train as training
from ch3_jax.faults.train import Trained
from experiments.drill_parts.patients import patient_of
from experiments.scoreboard import admission, baselines
from experiments.scoreboard.cases import FAULT, Case, Settings, base_of, cases, half_of, run_of, shortened


def judge(case: Case, settings: Settings) -> dict:
    """Everything about one case, as plain JSON."""
    began = time.process_time()
    trained = training.train(training.ready(run_of(case, settings)))
    train_s = time.process_time() - began
    harm = _harm(case, trained, settings)
    began, wall = time.process_time(), time.monotonic()
    report = examine(patient_of(trained, "patient"), settings.checks)
    diagnosis = diagnose(report)
    line = {
        "key": case.key,
        "case": case._asdict(),
        "half": half_of(case),
        "base": base_of(case),
        "status": diagnosis.status.split(":")[0],
        "alarm": diagnosis.status != HEALTHY and bool(diagnosis.causes),
        "causes": [[b.cause, b.place, b.confidence, b.explained_by] for b in diagnosis.causes],
        "evidence": [[f.check, f.severity] for b in diagnosis.causes[:1] for f in b.findings],
        "failed": [f"{f.check}: {f.error}" for f in report.failed],
        "train_cpu_s": train_s,
        "examine_cpu_s": time.process_time() - began,
        "examine_wall_s": time.monotonic() - wall,
        "harm": harm,
    }
    seen = baselines.signals(trained)
    line["baselines"] = {name: [list(a) for a in say(seen)] for name, say in baselines.BASELINES.items()}
    return line


def _harm(case: Case, trained: Trained, settings: Settings) -> dict | None:
    """Harm against the clean twin; None for healthy runs."""
    if case.kind != FAULT:
        return None
    fault = catalogue.FAULTS[case.name]
    clean, errors = _clean(fault.base, case.seed, settings)
    broken = training.held_out_errors(trained, clean.ready.run.dataset)
    if fault.family == "splits":
        found = admission.flattered(training.held_out_errors(trained, trained.ready.run.dataset), broken)
    else:
        found = admission.harm(broken, errors)
    return {k: v if isinstance(v, bool) or math.isfinite(v) else None for k, v in found._asdict().items()}


@functools.lru_cache(maxsize=4)
def _clean(base: str, seed: int, settings: Settings) -> tuple[Trained, np.ndarray]:
    trained = training.train(training.ready(shortened(healthy.BASES[base](seed), settings)))
    return trained, training.held_out_errors(trained, trained.ready.run.dataset)


def place_of(cause: str) -> int:
    """1..7, or 0."""
    return CAUSES[cause].place


def main() -> None:
    """Works through a share."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("settings", type=json.loads)
    parser.add_argument("share", type=int)
    parser.add_argument("of", type=int)
    arguments = parser.parse_args()
    settings = Settings(**{k: tuple(v) if isinstance(v, list) else v for k, v in arguments.settings.items()})
    planned = cases(settings)
    first, last = (len(planned) * i // arguments.of for i in (arguments.share, arguments.share + 1))
    mine = planned[first:last]  # side by side, so that they share compiled programs
    done = {line["key"] for line in read(arguments.folder)}
    with (arguments.folder / f"cases-{arguments.share}.jsonl").open("a") as file:
        for case in mine:
            if case.key not in done:
                file.write(json.dumps(judge(case, settings)) + "\n")
                file.flush()


def read(folder: Path) -> list[dict]:
    """All lines of a folder; one that was cut off is left out."""
    lines = {}
    for path in sorted(folder.glob("cases-*.jsonl")):
        for text in path.read_text().splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            lines[line["key"]] = line
    return list(lines.values())


if __name__ == "__main__":
    main()
