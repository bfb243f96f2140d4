"""One drill from start to end: trained, written down, examined. Two of them go on at a time."""

import concurrent.futures
import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ch3_jax.doctor.causes import CAUSES, PLACES, same
from ch3_jax.doctor.examine import Report, examine
from ch3_jax.doctor.verdict import HEALTHY, Diagnosis, diagnose
from ch3_jax.faults import drill
from ch3_jax.faults import train as training
from ch3_jax.faults.run import Run
from ch3_jax.faults.train import Trained
from experiments.drill_parts import sentences
from experiments.drill_parts.patients import patient_of

WORKERS = 2


class Stopped(Exception):
    """The person asked to stop."""


class Drilled(NamedTuple):
    """A drill that is done.

    Attributes:
      name: "baseline" or one of `drill.FAULTS`.
      trained: the run.
      shape: of its curves.
      report, diagnosis: of the doctor; None where it was not asked.
      train_s, examine_s: seconds on the clock, beside one other drill.
    """

    name: str
    trained: Trained
    shape: sentences.Shape
    report: Report | None
    diagnosis: Diagnosis | None
    train_s: float
    examine_s: float

    @property
    def named(self) -> str:
        """The cause that the doctor names first, "normal" where it finds the run healthy."""
        if self.diagnosis is None or not self.diagnosis.causes:
            return "normal"
        return self.diagnosis.causes[0].cause

    @property
    def right(self) -> bool | None:
        """Whether that is the planted cause or the same act; None where nobody was asked."""
        return None if self.diagnosis is None else same(self.named, drill.CAUSES[self.name])


def drills(dataset, *, steps: int, seed: int) -> dict[str, Run]:
    """The six runs by name."""
    healthy = drill.baseline(dataset, steps=steps, seed=seed)
    return {"baseline": healthy, **{name: change(healthy) for name, change in drill.CHANGES.items()}}


def run(
    runs: dict[str, Run],
    folder: Path,
    *,
    examined: bool,
    heard: Callable[[str, int, float], None],
    finished: Callable[[Drilled], None],
    stop: Callable[[], bool],
) -> dict[str, Drilled]:
    """Trains and examines all runs, two at a time, with one compiled program.

    Args:
      runs: of `drills`.
      folder: for the tables.
      examined: whether the doctor looks at them.
      heard: called with (name, updates made, loss) after every row, from several threads.
      finished: called with each drill that is done.
      stop: asked after every row.

    Returns:
      Name -> `Drilled`, those that were finished.
    """

    def one(name: str) -> Drilled:
        began = time.monotonic()

        def told(step: int, loss: float) -> None:
            if stop():
                raise Stopped
            heard(name, step, loss)

        trained = training.train(training.ready(runs[name]), told)
        train_s = time.monotonic() - began
        write_table(folder / f"{name}.csv", trained)
        report = diagnosis = None
        if examined:
            report = examine(patient_of(trained, name))
            diagnosis = diagnose(report)
        shape = sentences.shape(trained.history)
        return Drilled(name, trained, shape, report, diagnosis, train_s, time.monotonic() - began - train_s)

    done: dict[str, Drilled] = {}
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        waiting = [pool.submit(one, name) for name in runs]
        for future in concurrent.futures.as_completed(waiting):
            try:
                drilled = future.result()
            except (Stopped, concurrent.futures.CancelledError):
                for other in waiting:
                    other.cancel()
                continue
            done[drilled.name] = drilled
            finished(drilled)
    return {name: done[name] for name in runs if name in done}


def write_table(path: Path, trained: Trained) -> None:
    """A row for every 100 steps: step, losses, norms, as `metrics.csv` has them."""
    history = trained.history
    steps = history["val_loss"].steps
    columns = {
        name: dict(zip(s.steps.tolist(), s.values.tolist(), strict=True)) for name, s in history.items()
    }
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["step", *columns])
        for step in steps.tolist():
            table.writerow(
                [step, *(f"{column[step]:.9g}" if step in column else "" for column in columns.values())]
            )


def words(drilled: Drilled) -> str:
    """What the doctor says, in a few words."""
    if drilled.diagnosis is None:
        return "not asked for"
    if drilled.diagnosis.status == HEALTHY:
        return "a healthy run"
    if not drilled.diagnosis.causes:
        return drilled.diagnosis.status
    first = drilled.diagnosis.causes[0]
    place = PLACES.get(first.place, "none of the seven")
    return f"{CAUSES[first.cause].title} (place {first.place}, {place}; {first.confidence:.0%} sure)"


def evidence(drilled: Drilled) -> str:
    """The finding that the diagnosis rests on, in the doctor's words."""
    if drilled.diagnosis is None or not drilled.diagnosis.causes:
        return ""
    return drilled.diagnosis.causes[0].findings[0].sentence


def facts(drilled: Drilled, usual: sentences.Shape) -> dict:
    """A drill as plain JSON."""
    run = drilled.trained.ready.run
    return {
        "name": drilled.name,
        "sentence": sentences.sentence(drilled.name, drilled.shape, usual, run.floor, words(drilled)),
        "evidence": evidence(drilled),
        "diagnosis": drilled.named,
        "planted": drill.CAUSES[drilled.name],
        "right": drilled.right,
        "floor": run.floor,
        "plateau_over_floor": drilled.shape.plateau / run.floor,
        "train_s": drilled.train_s,
        "examine_s": drilled.examine_s,
        "shape": {k: v if v is None or np.isfinite(v) else None for k, v in drilled.shape._asdict().items()},
    }
