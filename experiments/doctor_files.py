"""The three files of an examination, and the folder that they are written to."""

from pathlib import Path

from ch3_jax.doctor import text
from ch3_jax.doctor.examine import Report
from ch3_jax.doctor.patient import Patient
from ch3_jax.doctor.verdict import Diagnosis
from ch3_jax.errors import InputError


def folder_of(out: str, inside: str = ".") -> Path:
    """The folder of --out, made now: what cannot be written is refused before anything is examined.

    Args:
      out: as given.
      inside: a folder in it that is made as well.

    Raises:
      InputError: a name that is a file's.
    """
    folder = Path(out).expanduser()
    try:
        (folder / inside).mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(
            f"{folder} cannot be a folder",
            got="a file of that name",
            expected="a folder, or a path where one can be made",
            cause="a name that is taken",
            fix="choose another --out",
        ) from None
    return folder


def write(folder: Path, patient: Patient, report: Report, diagnosis: Diagnosis) -> None:
    """Writes report.json, report.txt and report.html, the page last because it takes longest.

    Args:
      folder: that exists.
      patient: whose data and curves the page draws.
      report: of `doctor.examine.examine`.
      diagnosis: of `doctor.verdict.diagnose`.
    """
    from experiments.doctor_page import render

    (folder / "report.json").write_text(text.dumps(text.to_json(report, diagnosis)) + "\n")
    (folder / "report.txt").write_text(text.summary(report, diagnosis) + "\n")
    (folder / "report.html").write_text(render(patient, report, diagnosis))
