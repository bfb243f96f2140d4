r"""From JSON lines to the scoreboard: rates with Wilson intervals, McNemar, calibration.

  Wilson     (p + z^2/2n +- z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n),   z = 1.96
  McNemar    exact: of the b + c cases that only one of two tools has right, b ~ Binomial(b + c, 1/2)
  Brier      mean (confidence - right)^2 over the named causes

A broken run is right where the first cause named has the right place (or is an accepted answer); a healthy
one where there is no alarm. Where nothing could be said, there is no alarm.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from ch3_jax.doctor.causes import CAUSES, same
from ch3_jax.faults import catalogue, of_the_field
from experiments.scoreboard.baselines import BASELINES
from experiments.scoreboard.cases import FAULT

HALVES = ("tuning", "held out")
DOCTOR = "doctor"
FIELD = frozenset(fault.id for fault in of_the_field.FAULTS)


def wilson(right: int, made: int) -> tuple[float, float]:
    """95 % interval of a share.

    >>> [round(x, 3) for x in wilson(0, 59)]
    [0.0, 0.061]
    """
    if not made:
        return 0.0, 1.0
    z, p = 1.959964, right / made
    middle = (p + z * z / (2 * made)) / (1 + z * z / made)
    half = z * math.sqrt(p * (1 - p) / made + z * z / (4 * made * made)) / (1 + z * z / made)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def mcnemar(one: Sequence[bool], other: Sequence[bool]) -> tuple[int, int, float]:
    """(cases that only the first has right, only the second, p of no difference).

    >>> mcnemar([True] * 6, [False] * 6)
    (6, 0, 0.03125)
    """
    b = sum(x and not y for x, y in zip(one, other, strict=True))
    c = sum(y and not x for x, y in zip(one, other, strict=True))
    return b, c, float(stats.binomtest(b, b + c).pvalue) if b + c else 1.0


def named(line: dict, who: str) -> list[str]:
    """The causes that a tool names, the first it means first."""
    if who == DOCTOR:
        return [cause for cause, *_ in line["causes"]] if line["alarm"] else []
    return [cause for _, causes in line["baselines"][who] for cause in causes]


def alarmed(line: dict, who: str) -> bool:
    """Whether a tool raises an alarm."""
    return line["alarm"] if who == DOCTOR else bool(line["baselines"][who])


def cause_right(line: dict, who: str) -> bool:
    """Whether the cause is named: by the doctor as its first, by a baseline as one of those that it means."""
    answers = catalogue.FAULTS[line["case"]["name"]].answers()
    causes = named(line, who)
    causes = causes[:1] if who == DOCTOR else causes
    return any(cause in answers or any(same(cause, a) for a in answers) for cause in causes)


def place_right(line: dict, who: str) -> bool:
    """Whether the place is named, by the same rule; an accepted cause is in the right place."""
    place = catalogue.FAULTS[line["case"]["name"]].place
    causes = named(line, who)
    causes = causes[:1] if who == DOCTOR else causes
    return cause_right(line, who) or any(CAUSES[cause].place == place for cause in causes)


def correct(line: dict, who: str) -> bool:
    """A broken run whose place is named, or a healthy one left in peace."""
    return place_right(line, who) if line["case"]["kind"] == FAULT else not alarmed(line, who)


def counted(lines: Sequence[dict]) -> list[dict]:
    """Healthy runs, and broken ones that hurt."""
    return [line for line in lines if line["case"]["kind"] != FAULT or line["harm"]["admitted"]]


def score(lines: Sequence[dict], who: str) -> dict:
    """The counts of a tool over some lines, each as (right, made)."""
    broken = [line for line in counted(lines) if line["case"]["kind"] == FAULT]
    found = {
        "detected": [alarmed(line, who) for line in broken],
        "place": [place_right(line, who) for line in broken],
        "cause": [cause_right(line, who) for line in broken],
    }
    for kind in ("clean", "look-alike"):
        mine = [line for line in lines if line["case"]["kind"] == kind]
        found[f"false alarms, {kind}"] = [alarmed(line, who) for line in mine]
    return {name: (sum(values), len(values)) for name, values in found.items()}


def calibration(lines: Sequence[dict]) -> dict:
    """How far the doctor's confidence can be believed.

    Returns:
      `brier`, `claims`, and `bins`: (mean confidence, share right, claims) in fifths of confidence.
    """
    claims = []
    for line in counted(lines):
        if line["causes"]:
            sure = line["causes"][0][2]
            claims.append((sure, line["case"]["kind"] == FAULT and cause_right(line, DOCTOR)))
    if not claims:
        return {"brier": None, "claims": 0, "bins": []}
    sure, right = (np.array(x, float) for x in zip(*claims, strict=True))
    fifth = np.minimum((sure * 5).astype(int), 4)
    bins = [
        (float(sure[fifth == i].mean()), float(right[fifth == i].mean()), int((fifth == i).sum()))
        for i in range(5)
        if (fifth == i).any()
    ]
    return {"brier": float(np.mean((sure - right) ** 2)), "claims": len(claims), "bins": bins}


def precision(lines: Sequence[dict]) -> dict[tuple[int, str], tuple[int, int]]:
    """(check, severity) -> (diagnoses that such findings stood behind and that were right, all of them)."""
    counts: dict[tuple[int, str], list[int]] = {}
    for line in counted(lines):
        if not line["causes"]:
            continue
        right = line["case"]["kind"] == FAULT and cause_right(line, DOCTOR)
        for check, severity in {tuple(pair) for pair in line["evidence"]}:
            count = counts.setdefault((check, severity), [0, 0])
            count[0] += right
            count[1] += 1
    return {key: (right, made) for key, (right, made) in sorted(counts.items())}


def page(lines: Sequence[dict]) -> str:
    """The scoreboard as text, each half apart."""
    blocks = []
    for half in HALVES:
        mine = [line for line in lines if line["half"] == half]
        if mine:
            blocks.append(_block(half, mine))
    field = [line for line in lines if line["case"]["name"] in FIELD and line["case"]["kind"] == FAULT]
    if field:
        blocks.append(_block("of the held out half, the faults of the field alone:", field))
    return "\n\n".join(blocks) if blocks else "no case is finished"


def _block(half: str, lines: list[dict]) -> str:
    broken = [line for line in lines if line["case"]["kind"] == FAULT]
    admitted = len(counted(broken))
    title = half if half.endswith(":") else f"{half} half:"
    rows = [f"{title} {len(lines)} runs, {len(broken)} broken, of which {admitted} hurt and count"]
    scores = {who: score(lines, who) for who in (DOCTOR, *BASELINES)}
    rows.append(f"{'':<26}" + "".join(f"{who:>19}" for who in scores))
    for name in scores[DOCTOR]:
        rows.append(f"{name:<26}" + "".join(f"{_share(*s[name]):>19}" for s in scores.values()))
    for who in BASELINES:
        both = [[correct(line, tool) for line in counted(lines)] for tool in (DOCTOR, who)]
        only, other, p = mcnemar(*both)
        rows.append(f"against {who}: the doctor alone right {only}, {who} alone {other}, McNemar p = {p:.2g}")
    seconds = np.array([line["examine_wall_s"] for line in lines])
    cpu = np.array([line["examine_cpu_s"] for line in lines])
    rows.append(
        f"examined: median {np.median(seconds):.1f} s, p90 {np.quantile(seconds, 0.9):.1f} s on the clock; "
        f"{np.median(cpu):.1f} s and {np.quantile(cpu, 0.9):.1f} s of processor"
    )
    told = calibration(lines)
    if told["claims"]:
        bins = ", ".join(f"{sure:.0%} sure: {right:.0%} of {n}" for sure, right, n in told["bins"])
        rows.append(f"calibration: Brier {told['brier']:.3f} over {told['claims']} named causes; {bins}")
    if half == HALVES[0]:
        rows.append("right of made, by check and severity, for doctor/precision.py:")
        rows.append("  " + ", ".join(f"{key}: {value}" for key, value in precision(lines).items()))
    missed = [line for line in counted(lines) if not correct(line, DOCTOR)]
    for line in missed:
        rows.append(f"  wrong: {line['key']:<32} says {', '.join(named(line, DOCTOR)[:3]) or 'healthy'}")
    return "\n".join(rows)


def _share(right: int, made: int) -> str:
    if not made:
        return "-"
    low, high = wilson(right, made)
    return f"{right}/{made} [{100 * low:.0f}-{100 * high:.0f} %]"
