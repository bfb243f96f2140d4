"""The doctor at the end of a run by reward: checks 4 to 7, and the report beside the run's files."""

import dataclasses
from pathlib import Path

import numpy as np

from ch3_jax.doctor.examine import examine
from ch3_jax.doctor.from_reward import patient_of_rewards
from ch3_jax.doctor.verdict import diagnose
from experiments.doctor_files import write
from experiments.reinforce_parts.flags import Options

_CHECKS = (4, 5, 6, 7)


def after(folder: Path, options: Options) -> str:
    """Examines what the run wrote, writes the report, says the verdict in a sentence."""
    patient = patient_of_rewards(folder, dataclasses.asdict(options))
    report = examine(patient, _CHECKS)
    success = None if patient.success is None else patient.success[np.isfinite(patient.success)]
    known = success is not None and len(success)
    diagnosis = diagnose(report, success=float(success[-1]) if known else None)
    write(folder, patient, report, diagnosis)
    return f"the doctor: {diagnosis.sentence} {folder / 'report.html'}"
