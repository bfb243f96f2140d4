r"""How often findings were right: what a verdict's confidence rests on.

Counts over the tuning half of the scoreboard, by the check and severity of the findings that named the first
cause of a diagnosis: how many diagnoses they stood behind, and how many of those named the planted cause.
Alarms on healthy runs count as made and wrong. Few findings of one check say little by themselves, so a check
is drawn towards all findings of its severity, and those towards ten of which half are wrong, as others have:

  pool = (R + 5) / (M + 10),    share = (right + 10 pool) / (made + 10)

`python -m experiments.doctor_benchmark --report` prints the counts of the runs in its folder; none of the
held-out half is in them.
"""

from collections.abc import Mapping

PRECISION: Mapping[tuple[int, str], tuple[int, int]] = {
    (1, "fault"): (61, 61),
    (3, "fault"): (6, 6),
    (3, "warning"): (4, 4),
    (4, "fault"): (11, 11),
    (4, "warning"): (4, 4),
    (5, "fault"): (6, 6),
    (6, "fault"): (6, 6),
    (6, "warning"): (6, 6),
    (7, "fault"): (21, 21),
    (7, "warning"): (6, 6),
}
"""(check, severity) -> (right, made)."""

WEIGHT = 10


def share(check: int, severity: str) -> float:
    """The share of such findings that was right.

    >>> share(7, "a severity that nothing was counted for")
    0.5
    """
    same = [counts for (_, other), counts in PRECISION.items() if other == severity]
    pool = (sum(right for right, _ in same) + WEIGHT / 2) / (sum(made for _, made in same) + WEIGHT)
    right, made = PRECISION.get((check, severity), (0, 0))
    return (right + WEIGHT * pool) / (made + WEIGHT)
