"""What the action is said to be, against what the numbers say that it is.

`relation` asks the numbers whether an action is a target or a change. A description - of the person or of
the files - that says another is a finding, because the transform of serving is chosen by it: a target
that is added to the state drifts away, a change that is taken for a target jumps to the origin. A
velocity per second moves the state by 1 / rate of itself in a step, a change by all of it.
"""

from collections.abc import Iterator

import numpy as np

from ch3_jax.doctor.finding import Finding
from ch3_jax.doctor.relation import Relation, core, correlation, dot
from ch3_jax.doctor.view import View, listing, plain

_WORDS = (
    ("velocit", "velocity"),
    ("delta", "change"),
    ("relative", "change"),
    ("displacement", "change"),
    ("absolute", "absolute"),
)
_CARTESIAN = {"x", "y", "z"}


def contradicted(view: View, relation: Relation, said: str | None, by_person: bool) -> Iterator[Finding]:
    """A description that the numbers contradict.

    Args:
      view, relation: of the data.
      said: what the action is called.
      by_person: whether a person said so, or the files.
    """
    lower = (said or "").lower()
    declared = next((kind for word, kind in _WORDS if word in lower), None)
    kind = relation.majority
    if declared is None or kind == "unknown":
        return
    chosen = np.flatnonzero(relation.kind == kind)
    names = [relation.names[p] for p in chosen]
    if len(chosen) < 0.5 * len(relation.kind):
        return
    slope, together, pairs = _slope(relation, chosen, kind)
    level, change = (float(np.median(x[chosen])) for x in (relation.level, relation.change))
    numbers = {"level": level, "change": change, "slope": slope, "pairs": pairs}
    if kind == "absolute":
        # A target near its state has a slope of 1 on it; anything else that follows it is not a position.
        if declared == "absolute" or level < 0.9 or not 0.7 < slope < 1.4:
            return
        sentence = (
            f"follow the state itself (correlation {together:.2f}, slope {slope:.2f}): absolute targets."
        )
    else:
        rate = view.facts.rate_hz
        per_step = 1 / rate if rate else 0.1
        if declared == "change" or (declared == "velocity" and not _is_change(slope, per_step)):
            return
        joints = "joint" in lower and set(names) >= _CARTESIAN
        of = f"; a velocity at {rate:g} Hz would give {per_step:g}" if rate and declared == "velocity" else ""
        sentence = (
            f"follow the change of the state of the same name (correlation {together:.2f} over {pairs} "
            f"steps, slope {slope:.2f}{of}): "
            + ("Cartesian changes per step, not joint velocities." if joints else "changes per step.")
        )
    who = "The action is declared to be" if by_person else "The files describe the action as"
    yield Finding(
        1,
        "absolute_as_delta" if by_person or declared == "change" else "wrong_description",
        "fault",
        "correlation of the action with " + ("the state" if kind == "absolute" else "its change"),
        level if kind == "absolute" else change,
        change if kind == "absolute" else level,
        f"action dimensions {listing(names)}",
        f'{who} "{plain(said, 120)}", but {listing(names, 7)} {sentence}',
        numbers=numbers,
    )


def _slope(relation: Relation, chosen: np.ndarray, kind: str) -> tuple[float, float, int]:
    """Median slope of the state (or its change) on the action, median correlation, number of steps."""
    t = core(relation.steps, 0, 1)
    slopes, together = [], []
    for p in chosen:
        a, s = relation.action[p][t], relation.state[p]
        y = s[t + 1] - s[t] if kind == "delta" else s[t + 1] - s[t + 1].mean()
        x = a if kind == "delta" else a - a.mean()
        slopes.append(dot(x, y) / max(dot(x, x), 1e-300))
        together.append(correlation(x, y))
    return float(np.median(slopes)), float(np.median(together)), len(t)


def _is_change(slope: float, per_step: float) -> bool:
    """Whether a slope is nearer to 1 than to that of a velocity, on a log scale."""
    return slope > 0 and abs(np.log(slope)) < abs(np.log(slope / per_step))
