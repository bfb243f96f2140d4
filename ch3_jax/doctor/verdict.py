r"""From findings to one diagnosis: which causes, in which order, how sure.

*How sure.* A cause is believed with 1 - prod_i (1 - c_i) over the findings that name it, c_i the share of
such findings that were right in calibration, by check and severity (`precision`). Findings of one check share
their data, so of each check only the strongest counts. A cause that an earlier one explains keeps half of its
belief: it may be a second fault, and mostly it is the echo of the first.

*Which order.* Repair goes upstream: faults before warnings, then causes that nothing else explains before
their consequences, then by place - data, time, non-finite numbers, the step, gradients, bookkeeping, the
family.

*Which answer.* No alarm: healthy. One cause, or one and its consequences: one place. Several that do not
explain one another: several, in causal order. Alarms that point outside of the seven, or a run that fails
though nothing is found: none of the seven, with the tests to do. Nothing examined, or nothing believed to
a half: abstain.
"""

import dataclasses

from ch3_jax.doctor import precision
from ch3_jax.doctor.causes import CAUSES, PLACES, explains, same
from ch3_jax.doctor.examine import Report
from ch3_jax.doctor.finding import Finding

HEALTHY, ONE, SEVERAL, ABSTAIN = "healthy", "one place", "several", "abstain"
NONE = "none of the seven"

_ECHO = 0.5
_ORDER = {1: 0, 2: 1, 5: 2, 3: 3, 4: 4, 6: 5, 7: 6, 0: 7}
_OUTSIDE = (
    "whether pretrained weights were loaded (hash of the parameters at step 0), the effect of every input on "
    "the action, the orientation and channel order of the images, the deployed transform of the actions"
)


@dataclasses.dataclass(frozen=True)
class Believed:
    """A cause in a diagnosis.

    Attributes:
      cause: id of `CAUSES`.
      place: 1..7, or 0.
      confidence: in [0, 1].
      findings: that name it or an equivalent, the strongest first.
      explained_by: id of the earlier cause whose consequence it may be; None for one of its own.
    """

    cause: str
    place: int
    confidence: float
    findings: tuple[Finding, ...]
    explained_by: str | None = None


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """The verdict on a patient.

    Attributes:
      status: "healthy", "one place", "several", "none of the seven: test ...", "abstain".
      causes: ranked, the first to be repaired first.
      examined: numbers of the checks that could look at something.
    """

    status: str
    causes: tuple[Believed, ...]
    examined: tuple[int, ...]

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        if self.status == ABSTAIN:
            return "No verdict: " + ("too little to go by." if self.causes else "nothing could be examined.")
        if self.status == HEALTHY:
            checks = ", ".join(PLACES[n] for n in self.examined)
            return f"Healthy as far as examined ({checks})."
        if self.status.startswith(NONE):
            return self.status[0].upper() + self.status[1:] + "."
        first = self.causes[0]
        title = CAUSES[first.cause].title
        text = f"{title[0].upper()}{title[1:]} (place {first.place}, {PLACES.get(first.place, 'none')}), "
        text += f"confidence {first.confidence:.0%}"
        rest = [b for b in self.causes[1:] if b.explained_by is None]
        if self.status == SEVERAL and rest:
            text += "; then " + ", ".join(CAUSES[b.cause].title for b in rest)
        return text + "."


def diagnose(report: Report, *, success: float | None = None) -> Diagnosis:
    """Weighs the findings of an examination.

    Args:
      report: of `examine`.
      success: share of successful episodes of the trained policy, where it is known.

    Returns:
      A `Diagnosis`.

    >>> diagnose(Report("nothing", (), (), (), {})).status
    'abstain'
    """
    causes = _ranked(_grouped(report.alarms))
    if not report.examined:
        return Diagnosis(ABSTAIN, causes, ())
    if not causes:
        if success is not None and success < 0.1 and len(report.examined) >= 5:
            return Diagnosis(f"{NONE}: test {_OUTSIDE}", (), report.examined)
        return Diagnosis(HEALTHY, (), report.examined)
    if max(b.confidence for b in causes) < 0.5:
        return Diagnosis(ABSTAIN, causes, report.examined)
    if causes[0].place == 0:
        test = CAUSES[causes[0].cause].next_experiment
        return Diagnosis(f"{NONE}: test {test[0].lower()}{test[1:-1]}", causes, report.examined)
    roots = [b for b in causes if b.explained_by is None]
    return Diagnosis(SEVERAL if len(roots) > 1 else ONE, causes, report.examined)


def confidence(findings: tuple[Finding, ...]) -> float:
    """1 - prod (1 - c) over the strongest finding of each check."""
    strongest: dict[int, float] = {}
    for finding in findings:
        share = precision.share(finding.check, finding.severity)
        strongest[finding.check] = max(strongest.get(finding.check, 0.0), share)
    doubt = 1.0
    for share in strongest.values():
        doubt *= 1 - share
    return 1 - doubt


def _grouped(alarms: tuple[Finding, ...]) -> list[tuple[str, tuple[Finding, ...]]]:
    """Findings by cause; equivalents join the cause that is earliest in the causal order."""
    groups: list[tuple[str, list[Finding]]] = []
    for finding in sorted(alarms, key=lambda f: (_place(f.cause), f.severity != "fault")):
        home = next((g for g in groups if same(g[0], finding.cause)), None)
        if home is None:
            groups.append((finding.cause, [finding]))
        else:
            home[1].append(finding)
    return [
        (cause, tuple(sorted(found, key=lambda f: (f.severity != "fault", f.p or 0.0))))
        for cause, found in groups
    ]


def _ranked(groups: list[tuple[str, tuple[Finding, ...]]]) -> tuple[Believed, ...]:
    believed = []
    for cause, findings in groups:
        by = next((other for other, _ in groups if other != cause and explains(other, cause)), None)
        sure = confidence(findings) * (_ECHO if by else 1.0)
        believed.append(Believed(cause, CAUSES[cause].place, round(sure, 3), findings, by))

    def rank(b: Believed) -> tuple:
        fault = any(f.severity == "fault" for f in b.findings)
        return b.explained_by is not None, not fault, _place(b.cause), -b.confidence

    return tuple(sorted(believed, key=rank))


def _place(cause: str) -> int:
    return _ORDER[CAUSES[cause].place]
