"""The doctor beside a training: before the first step, on the way, and at the end.

*Before* the first step checks 1 to 3 are run and get a line each. *On the way* checks 4 to 6 look at the
rows that the run writes anyway, and what they find is said once. *At the end* the checks that parameters and
curves answer are run, and report.html, report.txt and report.json are written to the run folder.

Watching keeps its own books: it looks again only while all looks so far have cost under 4 % of the training,
so a short run is looked at less often, and no run is slowed down by more. Nothing here touches the state: a
run that is watched ends with the same bits as one that is not.
"""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ch3_jax.data.episodes import Dataset
from ch3_jax.data.prepare import Prepared
from ch3_jax.doctor import text
from ch3_jax.doctor.examine import Report, examine
from ch3_jax.doctor.from_run import patient_of
from ch3_jax.doctor.histories import read
from ch3_jax.doctor.history import History
from ch3_jax.doctor.patient import Patient
from ch3_jax.doctor.verdict import Diagnosis, diagnose
from ch3_jax.evaluation.serve import Rebuilt
from ch3_jax.metrics import columns_of
from ch3_jax.objectives import Shapes
from ch3_jax.training.update import TrainState
from experiments.doctor_files import write
from experiments.job import Job

BEFORE, ON_THE_WAY, AFTER = (1, 2, 3), (4, 5, 6), (4, 5, 6, 7)
_SHARE = 0.04
_FEWEST_ROWS = 8


class Watch:
    """A doctor who looks over a run's shoulder.

    Args:
      flags: of the run, as its config.json holds them.
      dataset: raw, with its splits.
      data: prepared.
      run: built from both.
      state: before the first step; its parameters are copied to the host.
      name: of the run, for the report.
      clock: () -> seconds.
    """

    def __init__(
        self,
        flags: Mapping[str, Any],
        dataset: Dataset,
        data: Prepared,
        run: Job,
        state: TrainState,
        name: str,
        clock=time.monotonic,
    ):
        self._flags, self._dataset, self._data, self._run, self._name = flags, dataset, data, run, name
        self._clock, self._spent, self._began = clock, 0.0, clock()
        self._fresh = jax.tree.map(np.asarray, state.params)
        self._rows: list[tuple[int, dict[str, float]]] = []
        self._said: set[str] = set()
        self._first: Report | None = None
        self._batches = run.replay
        self._declared = self._patient(self._fresh).declared

    def before(self) -> list[str]:
        """Checks 1 to 3, a line of at most 80 characters each."""
        patient = dataclasses.replace(self._patient(self._fresh), params=None, serve=None)
        self._first = examine(patient, BEFORE)
        self._said |= {f.cause for f in self._first.alarms}
        self._began = self._clock()
        return [text.one_line(self._first, check) for check in BEFORE]

    def row(self, step: int, values: Mapping[str, float]) -> None:
        """Takes note of a row of metrics."""
        self._rows.append((step, dict(values)))

    def look(self) -> list[str]:
        """What the curves say that was not said before, a sentence each; nothing while it is too soon."""
        now = self._clock()
        if len(self._rows) < _FEWEST_ROWS or self._spent > _SHARE * (now - self._began):
            return []
        history = History(columns_of(self._rows), source="metrics.csv")
        curves = Patient("curves", history=history, floor=self._run.floor, declared=self._declared)
        found = [f for f in examine(curves, ON_THE_WAY).alarms if f.cause not in self._said]
        self._said |= {f.cause for f in found}
        self._spent += self._clock() - now
        return [f"check {f.check}: {f.sentence}" for f in found]

    def after(self, state: TrainState, folder: Path) -> Diagnosis:
        """The last examination; writes the report beside the run's other files.

        Args:
          state: where the run ended.
          folder: of the run.
        """
        params = jax.tree.map(np.asarray, state.params if state.ema is None else state.ema)
        patient = dataclasses.replace(self._patient(params), history=read(folder))
        last = examine(patient, AFTER)
        first = self._first or examine(patient, (1, 2))
        report = Report(
            last.name,
            (*first.findings, *last.findings),
            (*first.not_examined, *last.not_examined),
            (*first.failed, *last.failed),
            {**first.seconds, **last.seconds},
            tuple(sorted({*first.examined, *last.examined})),
        )
        diagnosis = diagnose(report)
        write(folder, patient, report, diagnosis)
        return diagnosis

    def _patient(self, params) -> Patient:
        run, data = self._run, self._data
        rebuilt = Rebuilt(
            run.objective,
            params,
            data.normalizers,
            run.bins,
            self._flags,
            Shapes(
                self._flags["window"],
                len(data.observation.names),
                self._flags["horizon"],
                len(data.action.names),
            ),
            data.observation,
            data.action,
            0,
        )
        made = patient_of(
            self._name, self._flags, rebuilt, self._dataset, floor=run.floor, batches=self._batches
        )
        # The run has compiled its own start already; compiling the network's again would cost a second.
        return dataclasses.replace(made, init=lambda _: self._fresh)
