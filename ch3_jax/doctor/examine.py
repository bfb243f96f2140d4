"""An examination: every check in turn, and a check that raises stops nobody but itself.

  report = examine(patient)

Checks are pure functions patient -> findings. They are imported one by one, when they are run, so that a
patient of data alone never loads an optimizer.
"""

import dataclasses
import importlib
import time
from collections.abc import Callable, Sequence

from ch3_jax.doctor.finding import Finding, NotExamined, Result
from ch3_jax.doctor.patient import Patient

Check = Callable[[Patient], list[Result]]


@dataclasses.dataclass(frozen=True)
class Failed:
    """A check that raised.

    Attributes:
      check: 1..7.
      name: of the check.
      error: the exception's class and words.
    """

    check: int
    name: str
    error: str


@dataclasses.dataclass(frozen=True)
class Report:
    """What an examination found.

    Attributes:
      name: of the patient, unescaped.
      findings: in the order of the checks.
      not_examined: what was left open, and what it would have taken.
      failed: checks that raised; all others ran to their end.
      seconds: name of a check -> how long it took.
      examined: numbers of the checks that could look at something: those that made a finding, a note at
        least, or had nothing to say and nothing to ask for.
    """

    name: str
    findings: tuple[Finding, ...]
    not_examined: tuple[NotExamined, ...]
    failed: tuple[Failed, ...]
    seconds: dict[str, float]
    examined: tuple[int, ...] = ()

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """The findings that ask a person to look."""
        return tuple(finding for finding in self.findings if finding.alarm)


def _lazy(module: str) -> Check:
    def check(patient: Patient) -> list[Result]:
        return importlib.import_module(f"ch3_jax.doctor.{module}").check(patient)

    return check


CHECKS: Sequence[tuple[int, str, Check]] = tuple(
    (number, name, _lazy(module))
    for number, name, module in (
        (1, "action statistics", "actions"),
        (2, "timestamp alignment", "alignment"),
        (3, "ten steps on a batch of four", "ten_steps"),
        (4, "gradient norms per layer", "gradients"),
        (5, "NaN and Inf", "nonfinite"),
        (6, "the loss curve", "curve"),
        (7, "the family's own", "family"),
    )
)
"""(number, name, check) of the seven, in causal order."""


def examine(patient: Patient, checks: Sequence[int] = (1, 2, 3, 4, 5, 6, 7)) -> Report:
    """Runs the checks.

    Args:
      patient: whatever is known of the run.
      checks: the numbers of those to run.

    Returns:
      A `Report`. A check that raises stands in `failed` with its words; the others are not touched by it.
    """
    results: list[Result] = []
    failed, seconds, examined = [], {}, []
    for number, name, check in CHECKS:
        if number not in checks:
            continue
        began = time.perf_counter()
        try:
            found = check(patient)
            results += found
            if not found or any(isinstance(r, Finding) for r in found):
                examined.append(number)
        except Exception as error:  # A patient's own functions may raise anything.
            failed.append(Failed(number, name, _words(error)))
        seconds[name] = time.perf_counter() - began
    return Report(
        patient.name,
        tuple(r for r in results if isinstance(r, Finding)),
        tuple(r for r in results if isinstance(r, NotExamined)),
        tuple(failed),
        seconds,
        tuple(examined),
    )


def _words(error: Exception) -> str:
    lines = str(error).strip().splitlines() or ["no message"]
    text = f"{type(error).__name__}: {lines[0]}"
    return text if len(text) <= 300 else text[:296] + " ..."
