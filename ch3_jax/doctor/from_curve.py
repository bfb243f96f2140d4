"""A patient from a history alone: a table, events or a log that any program left behind."""

from pathlib import Path

from ch3_jax.doctor.histories import read
from ch3_jax.doctor.patient import Declared, Patient


def patient_of_curve(path: str | Path, declared: Declared | None = None) -> Patient:
    """The history in a file or folder, as a patient.

    Args:
      path: whatever `ch3_jax.doctor.histories.read` reads.
      declared: what the person says of the run, the family of its loss above all.

    Returns:
      A `Patient` with `history`, named after the file.

    Raises:
      InputError: no such file, or not one named number in it.
    """
    path = Path(path).expanduser()
    return Patient(path.name, history=read(path), declared=declared or Declared())
