"""How often findings were right: what a verdict's confidence rests on.

Counts over the tuning half of the scoreboard, by the check and severity of the findings that named the first
cause of a diagnosis: how many diagnoses they stood behind, and how many of those named the planted cause.
Alarms on healthy runs count as made and wrong. `python -m experiments.doctor_benchmark --report` prints the
table of the runs in its folder; none of the held-out half is in it.
"""

from collections.abc import Mapping

PRECISION: Mapping[tuple[int, str], tuple[int, int]] = {
    (1, "fault"): (36, 36),
    (3, "fault"): (6, 6),
    (3, "warning"): (4, 4),
    (4, "fault"): (6, 6),
    (4, "warning"): (4, 4),
    (5, "fault"): (6, 6),
    (6, "fault"): (6, 6),
    (6, "warning"): (6, 6),
    (7, "fault"): (16, 16),
    (7, "warning"): (6, 6),
}
"""(check, severity) -> (right, made)."""

PRIOR = (5, 10)
"""Added to every count: ten alarms of which half are wrong, as in other tools."""


def share(check: int, severity: str) -> float:
    """The share of such findings that was right, (right + 5) / (made + 10).

    >>> share(7, "a severity that nothing was counted for")
    0.5
    """
    right, made = PRECISION.get((check, severity), (0, 0))
    return (right + PRIOR[0]) / (made + PRIOR[1])
