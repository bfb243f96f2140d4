"""The doctor: names the cause of a run that does not train.

  python -m experiments.doctor --data=data/bridge_dataset/1.0.0      a data set alone, about a second
  python -m experiments.doctor --run=runs/inverse_dynamics-ce-0-...   a run of experiments.train, under 30 s
  python -m experiments.doctor --curve=log.csv --family=supervised    CSV, TensorBoard, JSON lines, text logs

prints 80 columns, the verdict first; `--json` prints JSON and nothing else; `--out` takes report.json,
report.txt and report.html.

Exit code 0 healthy as far as examined, 1 findings, 2 could not examine.
"""

import importlib.util
import sys
from pathlib import Path

from absl import flags

from experiments import (
    entry,
    shared_flags,  # noqa: F401 - defines --out and --smoke
)

HEALTHY, FINDINGS, NOTHING = 0, 1, 2


def define_flags() -> None:
    """The flags of this command, defined when it runs: other commands have a --data of their own."""
    flags.DEFINE_string("run", None, "folder of a run of experiments.train")
    flags.DEFINE_string("data", None, "folder of a data set: RLDS/TFDS, zarr, LeRobot")
    flags.DEFINE_string("curve", None, "a history: CSV, TensorBoard events, JSON lines, a text log")
    families = ("supervised", "reinforcement", "diffusion", "flow")
    flags.DEFINE_enum("family", None, families, "of the loss, where the run does not say")
    flags.DEFINE_string("action_meaning", None, "what the run takes the action for: absolute, delta, ...")
    flags.DEFINE_integer("delay_steps", None, "known delay of the robot in steps", lower_bound=0)
    flags.DEFINE_bool("json", False, "print the report as JSON, and nothing else")


def main(argv: list[str]) -> int:
    """Makes the patient, examines it, reports."""
    del argv
    from ch3_jax.doctor import text
    from ch3_jax.doctor.examine import examine
    from ch3_jax.doctor.verdict import ABSTAIN, diagnose
    from ch3_jax.doctor.verdict import HEALTHY as NOTHING_WRONG

    chosen = _chosen()
    out = _writable(flags.FLAGS.out)
    patient = _patient(*chosen)
    report = examine(patient)
    diagnosis = diagnose(report, success=_success(patient))
    document = text.to_json(report, diagnosis)
    page = text.summary(report, diagnosis)
    if out is not None:
        _write(out, patient, report, diagnosis, document, page)
    print(text.dumps(document) if flags.FLAGS.json else page)
    for sentence in patient.extra.get("left_out", ()):
        print(f"left out: {sentence}", file=sys.stderr)
    if diagnosis.status == ABSTAIN and not report.alarms:
        return NOTHING
    return HEALTHY if diagnosis.status == NOTHING_WRONG else FINDINGS


def _chosen() -> tuple[str, str]:
    """The one of --run, --data and --curve that is given, and its value."""
    from ch3_jax.errors import InputError

    given = [name for name in ("run", "data", "curve") if flags.FLAGS[name].value]
    if len(given) != 1:
        raise InputError(
            "the doctor examines one patient at a time",
            got=", ".join(f"--{name}" for name in given) or "no patient",
            expected="one of --run, --data, --curve",
            cause="a flag left over from another command" if given else "a missing flag",
            fix="python -m experiments.doctor --data=FOLDER",
        )
    return given[0], flags.FLAGS[given[0]].value


def _patient(kind: str, path: str):
    """The patient of a flag, with what the person declares beside it."""
    import dataclasses

    if kind == "data":
        from ch3_jax.doctor.from_data import patient_of_data as make
    elif kind == "run":
        from ch3_jax.doctor.from_run import patient_of_run as make
    else:
        from ch3_jax.doctor.from_curve import patient_of_curve as make
    patient = make(path)
    said = {
        name: flags.FLAGS[name].value
        for name in ("family", "action_meaning", "delay_steps")
        if flags.FLAGS[name].value is not None
    }
    return dataclasses.replace(patient, declared=dataclasses.replace(patient.declared, **said))


def _success(patient) -> float | None:
    return None if patient.success is None or not len(patient.success) else float(patient.success.mean())


def _writable(out: str | None) -> Path | None:
    """The folder of --out, made now: what cannot be written is refused before the examination."""
    if out is None:
        return None
    from ch3_jax.errors import InputError

    folder = Path(out).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(
            f"{folder} cannot be a folder",
            got="a file of that name",
            expected="a folder, or a path where one can be made",
            cause="a name that is taken",
            fix="choose another --out",
        ) from None
    return folder


def _write(folder: Path, patient, report, diagnosis, document: dict, page: str) -> None:
    from ch3_jax.doctor import text

    (folder / "report.json").write_text(text.dumps(document) + "\n")
    (folder / "report.txt").write_text(page + "\n")
    if importlib.util.find_spec("experiments.doctor_page") is not None:
        page = importlib.import_module("experiments.doctor_page")
        (folder / "report.html").write_text(page.render(patient, report, diagnosis))


if __name__ == "__main__":
    define_flags()
    entry.run(main)
