"""The doctor's report as one page of HTML: the verdict first, then the evidence.

Self-contained: styles inside, pictures as SVG in the text, no script, and a policy in its head that forbids
the browser to load anything. It follows the reader's choice of dark or light, reads from top to bottom by
keyboard and screen reader, and works on a telephone. Every string that comes from data is escaped.
"""

import html
import math
from collections.abc import Iterator
from pathlib import Path

from ch3_jax.doctor.causes import CAUSES
from ch3_jax.doctor.examine import CHECKS, Report
from ch3_jax.doctor.finding import Finding
from ch3_jax.doctor.patient import Patient
from ch3_jax.doctor.verdict import Believed, Diagnosis
from experiments.doctor_plots import Picture, pictures

_STYLE = Path(__file__).with_name("doctor_page.css")


def render(patient: Patient, report: Report, diagnosis: Diagnosis) -> str:
    """The page.

    Args:
      patient: that was examined; what it brings is drawn.
      report: of `doctor.examine.examine`.
      diagnosis: of `doctor.verdict.diagnose`.

    Returns:
      A whole HTML document, UTF-8.
    """
    name = _text(report.name)
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">",
        # Without an icon of its own a browser asks the server for one.
        '<link rel="icon" href="data:,">',
        f"<title>{_text(diagnosis.status)}: {name}</title><style>{_STYLE.read_text()}</style></head><body>",
        '<a class="skip" href="#evidence">Skip to the evidence</a>',
        f"<header><h1>Examination of {name}</h1></header><main>",
        *_verdict(report, diagnosis),
        *_causes(diagnosis),
        *_checks(report),
        *_evidence(pictures(patient, report)),
        *_findings(report),
        *_open(patient, report),
        "</main></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _verdict(report: Report, diagnosis: Diagnosis) -> Iterator[str]:
    kind = "good" if diagnosis.status == "healthy" else "fault" if report.alarms else "warning"
    examined = ", ".join(map(str, diagnosis.examined)) or "none"
    yield f'<section class="verdict {kind}" aria-label="verdict"><strong>{_text(diagnosis.status)}</strong>'
    yield f"<p>{_text(diagnosis.sentence)}</p>"
    yield (
        f'<p class="soft">Checks that could look at something: {examined}. '
        f"The examination took {sum(report.seconds.values()):.1f} s.</p></section>"
    )


def _causes(diagnosis: Diagnosis) -> Iterator[str]:
    if not diagnosis.causes:
        return
    yield "<section><h2>Causes, the first to be repaired first</h2>"
    for number, believed in enumerate(diagnosis.causes, 1):
        yield from _cause(number, believed)
    yield "</section>"


def _cause(number: int, believed: Believed) -> Iterator[str]:
    cause = CAUSES[believed.cause]
    share = f"{believed.confidence:.0%}"
    yield f'<article class="card"><h3>{number}. {_text(cause.title)}</h3>'
    yield (
        f'<p class="soft">place {cause.place} of 7, <code>{_text(cause.id)}</code>, confidence '
        f'<meter min="0" max="1" value="{believed.confidence:.3f}">{share}</meter> {share}'
    )
    if believed.explained_by:
        yield f"; perhaps the consequence of <code>{_text(believed.explained_by)}</code>"
    yield f"</p><p>{_text(cause.explanation)}</p><ul>"
    yield from (f"<li>{_text(finding.sentence)}</li>" for finding in believed.findings)
    yield f'</ul><p class="next">Next: {_text(cause.next_experiment)}</p></article>'


def _checks(report: Report) -> Iterator[str]:
    yield '<section><h2>The seven checks</h2><div class="wide"><table>'
    columns = "".join(f'<th scope="col">{column}</th>' for column in ("check", "result", "time"))
    yield f"<thead><tr>{columns}</tr></thead><tbody>"
    for number, name, _ in CHECKS:
        alarms = [f for f in report.findings if f.check == number and f.alarm]
        notes = [f for f in report.findings if f.check == number and not f.alarm]
        if any(f.check == number for f in report.failed):
            state, kind = "failed, see below", "warning"
        elif alarms:
            state, kind = ", ".join(dict.fromkeys(f.cause.replace("_", " ") for f in alarms)), "fault"
        elif number in report.examined:
            state, kind = "nothing wrong found", "good"
        else:
            state, kind = "not examined", "soft"
        more = f" ({len(notes)} note{'s' * (len(notes) > 1)})" if notes else ""
        seconds = f"{report.seconds[name]:.2f} s" if name in report.seconds else ""
        yield (
            f'<tr><th scope="row">{number} {_text(name)}</th><td class="{kind}">{_text(state)}{more}</td>'
            f'<td class="number">{seconds}</td></tr>'
        )
    yield "</tbody></table></div></section>"


def _evidence(drawn: list[Picture]) -> Iterator[str]:
    yield '<section id="evidence"><h2>Evidence</h2>'
    if not drawn:
        yield '<p class="soft">The patient brings nothing that could be drawn.</p>'
    for picture in drawn:
        yield f"<figure><h3>{_text(picture.title)}</h3>"
        if picture.svg:
            label = f'role="img" aria-label="{_text(picture.title)}" tabindex="0"'
            yield f'<div class="wide" {label}>{picture.svg}</div>'
        else:
            yield f'<p class="warning">could not be drawn: {_text(picture.problem)}</p>'
        yield f"<figcaption>{_text(picture.caption)}</figcaption></figure>"
    yield "</section>"


def _findings(report: Report) -> Iterator[str]:
    if not report.findings:
        return
    yield "<section><h2>All findings</h2>"
    yield f"<details><summary>{len(report.findings)} with their numbers</summary>"
    yield '<div class="wide"><table><thead><tr>'
    yield "".join(f'<th scope="col">{c}</th>' for c in ("check", "what", "where", "value", "bound", "p"))
    yield "</tr></thead><tbody>"
    yield from map(_finding, report.findings)
    yield "</tbody></table></div></details></section>"


def _finding(finding: Finding) -> str:
    kind = {"fault": "fault", "warning": "warning"}.get(finding.severity, "soft")
    return (
        f'<tr><td>{finding.check}</td><td><span class="{kind}">{finding.severity}</span> '
        f"{_text(finding.sentence)} <span class=soft>({_text(finding.statistic)})</span></td>"
        f'<td>{_text(finding.where)}</td><td class="number">{_number(finding.value)}</td>'
        f'<td class="number">{_number(finding.bound)}</td><td class="number">{_number(finding.p)}</td></tr>'
    )


def _open(patient: Patient, report: Report) -> Iterator[str]:
    left_out = patient.extra.get("left_out", ())
    if report.failed or report.not_examined or left_out:
        yield "<section><h2>Not examined</h2><ul>"
        yield from (
            f'<li class="warning">check {f.check}, {_text(f.name)}, failed: {_text(f.error)}</li>'
            for f in report.failed
        )
        yield from (f'<li class="warning">{_text(sentence)}</li>' for sentence in left_out)
        yield from (
            f"<li>check {n.check}, {_text(n.what)}: needs {_text(n.needs)}</li>" for n in report.not_examined
        )
        yield "</ul></section>"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if math.isfinite(value) else str(value)


def _text(value: object) -> str:
    """A string from anywhere, escaped, in printable characters."""
    return html.escape("".join(c if c.isprintable() or c == "\n" else "?" for c in str(value)))
