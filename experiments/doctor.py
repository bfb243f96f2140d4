"""The doctor: names the cause of a run that does not train.

  python -m experiments.doctor --data=data/bridge_dataset/1.0.0      a data set alone, about a second
  python -m experiments.doctor --run=runs/inverse_dynamics-ce-0-...   a run of experiments.train, under 30 s
  python -m experiments.doctor --curve=log.csv --family=supervised    CSV, TensorBoard, JSON lines, text logs

prints 80 columns, the verdict first; `--json` prints JSON and nothing else; `--out` takes report.json,
report.txt and report.html.

Exit code 0 healthy as far as examined, 1 findings, 2 could not examine.
"""

import dataclasses
import sys
from typing import NamedTuple

from absl import flags

from experiments import (
    entry,
    shared_flags,  # noqa: F401 - defines --out and --smoke
)

HEALTHY, FINDINGS, NOTHING = 0, 1, 2
FAMILIES = ("supervised", "reinforcement", "diffusion", "flow")


class Options(NamedTuple):
    """The flags; one of `run`, `data` and `curve` is given."""

    run: str | None = None
    data: str | None = None
    curve: str | None = None
    family: str | None = None
    action_meaning: str | None = None
    delay_steps: int | None = None
    json: bool = False
    out: str | None = None


def define_flags() -> None:
    """The flags of this command, defined when it runs: other commands have a --data of their own."""
    flags.DEFINE_string("run", None, "folder of a run of experiments.train")
    flags.DEFINE_string("data", None, "folder of a data set: RLDS/TFDS, zarr, LeRobot")
    flags.DEFINE_string("curve", None, "a history: CSV, TensorBoard events, JSON lines, a text log")
    flags.DEFINE_enum("family", None, FAMILIES, "of the loss, where the run does not say")
    flags.DEFINE_string("action_meaning", None, "what the run takes the action for: absolute, delta, ...")
    flags.DEFINE_integer("delay_steps", None, "known delay of the robot in steps", lower_bound=0)
    flags.DEFINE_bool("json", False, "print the report as JSON, and nothing else")


def main(argv: list[str]) -> int:
    """Reads the flags, examines."""
    del argv
    return run(Options(**{name: flags.FLAGS[name].value for name in Options._fields}))


def run(options: Options) -> int:
    """Makes the patient, examines it, reports.

    Args:
      options: as the flags.

    Returns:
      The exit code.

    Raises:
      InputError: no patient or several, a patient that cannot be read, an --out that cannot be made.
    """
    from ch3_jax.doctor import text
    from ch3_jax.doctor.examine import examine
    from ch3_jax.doctor.verdict import ABSTAIN, diagnose
    from ch3_jax.doctor.verdict import HEALTHY as NOTHING_WRONG
    from experiments import doctor_files

    kind, path = _chosen(options)
    out = None if options.out is None else doctor_files.folder_of(options.out)
    patient = _patient(kind, path, options)
    report = examine(patient)
    success = None if patient.success is None or not len(patient.success) else float(patient.success.mean())
    diagnosis = diagnose(report, success=success)
    if out is not None:
        doctor_files.write(out, patient, report, diagnosis)
    print(text.dumps(text.to_json(report, diagnosis)) if options.json else text.summary(report, diagnosis))
    for sentence in patient.extra.get("left_out", ()):
        print(f"left out: {sentence}", file=sys.stderr)
    if diagnosis.status == ABSTAIN and not report.alarms:
        return NOTHING
    return HEALTHY if diagnosis.status == NOTHING_WRONG else FINDINGS


def _chosen(options: Options) -> tuple[str, str]:
    """The one of --run, --data and --curve that is given, and its value."""
    from ch3_jax.errors import InputError

    given = {name: getattr(options, name) for name in ("run", "data", "curve") if getattr(options, name)}
    if len(given) != 1:
        raise InputError(
            "the doctor examines one patient at a time",
            got=", ".join(f"--{name}" for name in given) or "no patient",
            expected="one of --run, --data, --curve",
            cause="a flag left over from another command" if given else "a missing flag",
            fix="python -m experiments.doctor --data=FOLDER",
        )
    return next(iter(given.items()))


def _patient(kind: str, path: str, options: Options):
    """The patient of a flag, with what the person declares beside it."""
    if kind == "data":
        from ch3_jax.doctor.from_data import patient_of_data as make
    elif kind == "run":
        from ch3_jax.doctor.from_run import patient_of_run as make
    else:
        from ch3_jax.doctor.from_curve import patient_of_curve as make
    patient = make(path)
    said = {name: getattr(options, name) for name in ("family", "action_meaning", "delay_steps")}
    said = {name: value for name, value in said.items() if value is not None}
    return dataclasses.replace(patient, declared=dataclasses.replace(patient.declared, **said))


if __name__ == "__main__":
    define_flags()
    entry.run(main)
