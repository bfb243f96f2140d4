"""A report as 80 columns of plain text, and as JSON: the verdict first, then what it rests on."""

import json
import math
import textwrap
from typing import Any

from ch3_jax.doctor.causes import CAUSES
from ch3_jax.doctor.examine import CHECKS, Report
from ch3_jax.doctor.finding import Finding
from ch3_jax.doctor.verdict import Believed, Diagnosis
from ch3_jax.doctor.view import plain

WIDTH = 80
_MOST_NOTES = 12


def summary(report: Report, diagnosis: Diagnosis) -> str:
    """The report for a terminal.

    Args:
      report: of `examine`.
      diagnosis: of `verdict.diagnose`.

    Returns:
      Lines of at most 80 printable characters, without a final newline.
    """
    lines = [f"{plain(report.name, 60)}: {diagnosis.status.split(':')[0]}", *_wrap(diagnosis.sentence, "  ")]
    for number, believed in enumerate(diagnosis.causes, 1):
        lines += ["", *_cause(number, believed)]
    lines += ["", *_checks(report)]
    notes = [f for f in report.findings if not f.alarm]
    if notes:
        lines += ["", "true, and no fault:"]
        lines += [line for f in notes[:_MOST_NOTES] for line in _wrap(f.sentence, f"  {f.check}  ", "     ")]
        if len(notes) > _MOST_NOTES:
            lines.append(f"     and {len(notes) - _MOST_NOTES} more")
    if report.not_examined:
        lines += ["", "not examined:"]
        for gap in report.not_examined:
            lines += _wrap(f"{gap.what}: needs {gap.needs}", f"  {gap.check}  ", "     ")
    for failed in report.failed:
        lines += ["", *_wrap(f"check {failed.check} ({failed.name}) failed: {failed.error}", "", "  ")]
    return "\n".join(lines)


def one_line(report: Report, check: int) -> str:
    """One check in a line of at most 80 characters, for the start of a training.

    >>> one_line(Report("x", (), (), (), {}), 3)
    'check 3 ten steps on a batch of four: not run'
    """
    name = next(name for number, name, _ in CHECKS if number == check)
    return textwrap.shorten(f"check {check} {name}: {_state(report, check)}", WIDTH, placeholder=" ...")


def to_json(report: Report, diagnosis: Diagnosis) -> dict[str, Any]:
    """The whole report as plain JSON; numbers that are not finite become null.

    Args:
      report: of `examine`.
      diagnosis: of `verdict.diagnose`.

    Returns:
      A dict with `name`, `status`, `verdict`, `causes`, `findings`, `not_examined`, `failed`, `seconds`.
    """
    return {
        "format": "ch3_jax doctor 1",
        "name": report.name,
        "status": diagnosis.status,
        "verdict": diagnosis.sentence,
        "examined": list(diagnosis.examined),
        "causes": [
            {
                "cause": b.cause,
                "place": b.place,
                "title": CAUSES[b.cause].title,
                "confidence": b.confidence,
                "explained_by": b.explained_by,
                "explanation": CAUSES[b.cause].explanation,
                "next_experiment": CAUSES[b.cause].next_experiment,
            }
            for b in diagnosis.causes
        ],
        "findings": [_finding(f) for f in report.findings],
        "not_examined": [{"check": n.check, "what": n.what, "needs": n.needs} for n in report.not_examined],
        "failed": [{"check": f.check, "name": f.name, "error": f.error} for f in report.failed],
        "seconds": {name: round(s, 4) for name, s in report.seconds.items()},
    }


def dumps(document: dict[str, Any]) -> str:
    """JSON that any reader takes: ASCII, no NaN."""
    return json.dumps(document, indent=1, allow_nan=False)


def _finding(f: Finding) -> dict[str, Any]:
    return {
        "check": f.check,
        "cause": f.cause,
        "severity": f.severity,
        "statistic": f.statistic,
        "value": _number(f.value),
        "bound": _number(f.bound),
        "where": f.where,
        "sentence": f.sentence,
        "p": _number(f.p),
        "interval": None if f.interval is None else [_number(x) for x in f.interval],
        "numbers": {name: _number(x) for name, x in f.numbers.items()},
        "next_experiment": CAUSES[f.cause].next_experiment,
    }


def _number(x: Any) -> float | int | str | None:
    if x is None or isinstance(x, (str, bool)):
        return x
    value = float(x)
    if not math.isfinite(value):
        return None
    return int(value) if value == int(value) and abs(value) < 2**53 else value


def _cause(number: int, believed: Believed) -> list[str]:
    cause = CAUSES[believed.cause]
    after = f", perhaps the consequence of {believed.explained_by}" if believed.explained_by else ""
    head = f"{number}. {cause.title} [{cause.id}]: place {cause.place}, {believed.confidence:.0%}{after}"
    lines = _wrap(head, "", "   ")
    for finding in believed.findings[:4]:
        lines += _wrap(finding.sentence, "   - ", "     ")
    lines += _wrap(cause.explanation, "   ")
    return lines + _wrap(f"next: {cause.next_experiment}", "   > ", "     ")


def _checks(report: Report) -> list[str]:
    lines = []
    for number, name, _ in CHECKS:
        seconds = report.seconds.get(name)
        took = "" if seconds is None else f"{seconds:.2f} s"
        lines.append(f"check {number}  {name:<30}{_state(report, number):<30}{took:>9}".rstrip())
    return lines


def _state(report: Report, check: int) -> str:
    name = next(name for number, name, _ in CHECKS if number == check)
    if any(f.check == check for f in report.failed):
        return "failed, see below"
    if name not in report.seconds:
        return "not run"
    alarms = [f for f in report.findings if f.check == check and f.alarm]
    if alarms:
        return f"{len(alarms)} finding{'s' * (len(alarms) > 1)}"
    return "nothing wrong found" if check in report.examined else "not examined"


def _wrap(text: str, first: str, rest: str | None = None) -> list[str]:
    clean = "".join(c if c.isprintable() else "?" for c in text)
    return textwrap.wrap(
        clean, WIDTH, initial_indent=first, subsequent_indent=first if rest is None else rest
    )
