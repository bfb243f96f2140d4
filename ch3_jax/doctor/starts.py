"""How episodes begin: with a filler in place of an action, or with a long standstill.

*A filler* is a first action of exactly nothing - within a thousandth of a standard deviation of 0 in
every continuous dimension - followed by one of ordinary size; or several of them, if their number is the
same in nearly all episodes. An episode that begins at rest is no such thing: it rests for as long as it
pleases.

*A standstill* at the start is held against the other standstills of the same recording: pauses are
normal, in some tasks four steps in five, and then the episodes begin with one as long as all others. Only
a beginning that is longer than the pauses inside (Mann-Whitney, and three times as long) and takes three
steps in ten is alarming.
"""

from collections.abc import Iterator

import numpy as np

from ch3_jax.doctor.chance import greater
from ch3_jax.doctor.finding import Finding
from ch3_jax.doctor.relation import Relation
from ch3_jax.doctor.view import View, listing

_ZERO, _MOST, _SAME = 1e-3, 12, 0.9
_ORDINARY = 0.2
_LEVEL = 1e-3
_PREFIX = 0.3
_RUN = 7


def zero_first(view: View) -> Iterator[Finding]:
    """Episodes whose first action is a filler."""
    steps = view.steps
    free = np.flatnonzero(view.moving & ~view.discrete)
    long = np.flatnonzero(np.diff(steps.offset) >= 3)
    if not len(free) or len(long) < 3:
        return
    std = np.array([view.action[j].std(dtype=np.float64) for j in free])
    first = steps.offset[:-1][long]
    lead = _leading_zeros(view, free, std, first, np.diff(steps.offset)[long])
    zero = lead > 0
    if zero.sum() < 3 or zero.mean() < 0.05:
        return
    usual = int(np.bincount(lead[zero]).argmax())
    if np.mean(lead[zero] == usual) < _SAME or usual >= _MOST:
        return
    second = np.sqrt(np.mean((view.action[free][:, first[zero] + usual] / std[:, None]) ** 2, axis=0))
    rest = np.ones(len(steps), bool)
    for i in range(usual):
        rest[np.minimum(steps.offset[:-1] + i, steps.offset[1:] - 1)] = False
    elsewhere = np.ones(int(rest.sum()), bool)
    for j, s in zip(free, std, strict=True):
        elsewhere &= np.abs(view.action[j][rest]) <= _ZERO * s
    others = float(elsewhere.mean())
    if np.median(second) < _ORDINARY or others > 0.5 * zero.mean():
        return
    hit = np.zeros(steps.episodes, bool)
    hit[long[zero]] = True
    left_out = [view.action_names[j] for j in range(len(view.action)) if j not in set(free.tolist())]
    yield Finding(
        1,
        "zero_first_actions",
        "warning",
        "share of episodes whose first action is zero",
        float(zero.mean()),
        0.05,
        f"step {'0' if usual == 1 else f'0 to {usual - 1}'} of {view.episodes(hit)}",
        f"{'The first action is' if usual == 1 else f'The first {usual} actions are'} zero in "
        f"{int(zero.sum())} of {len(long)} episodes"
        f"{f' ({listing(left_out)} left out)' if left_out else ''}, the next of ordinary size "
        f"({np.median(second):.2f} standard deviations); {others:.1%} of the other actions are zero.",
        numbers={"count": int(zero.sum()), "episodes": len(long), "share_of_others": others},
    )


def _leading_zeros(view: View, free, std, first, length) -> np.ndarray:
    """(E,) how many actions of exactly nothing an episode begins with, at most `_MOST`."""
    lead, running = np.zeros(len(first), int), np.ones(len(first), bool)
    for i in range(_MOST):
        running &= length > i + 1
        at = np.minimum(first + i, view.action.shape[1] - 1)
        running &= (np.abs(view.action[free][:, at]) / std[:, None]).max(axis=0) <= _ZERO
        lead[running] += 1
    return lead


def idle_starts(view: View, relation: Relation) -> Iterator[Finding]:
    """Episodes that stand still for long before they begin; a note on pauses otherwise."""
    steps = view.steps
    idle = standing_still(view, relation)
    if idle is None:
        return
    length = np.diff(steps.offset)
    prefix, pauses = _runs(idle, steps.offset)
    share = float(np.median(prefix / length))
    total = float(idle.mean())
    inner = float(np.median(pauses)) if len(pauses) else 0.0
    longer = float(np.median(prefix)) >= max(3 * inner, _RUN)
    if share >= _PREFIX and longer:
        p = greater(prefix, pauses) if len(pauses) else 0.0
        if p <= _LEVEL:
            yield Finding(
                1,
                "idle_prefix",
                "warning",
                "median share of an episode before its first motion",
                share,
                _PREFIX,
                "the start of all episodes",
                f"Half of the episodes stand still for {share:.0%} of their length and more at their start "
                f"(median {np.median(prefix):.0f} steps; pauses inside them have a median of {inner:.0f}).",
                p=p,
                numbers={"prefix": float(np.median(prefix)), "pause": inner, "idle": total},
            )
            return
    if total >= 0.2:
        yield Finding(
            1,
            "normal",
            "note",
            "share of steps without motion",
            total,
            None,
            "all episodes",
            f"{total:.0%} of the steps are pauses, {share:.0%} of an episode before its first motion; pauses "
            "are part of many tasks.",
            numbers={"idle": total, "prefix": share},
        )


def standing_still(view: View, relation: Relation) -> np.ndarray | None:
    """(n,) bool, steps at which no continuous action asks for a motion; None where that cannot be told.

    A change is compared with 0, a target with the one before: both in units of their own fast steps. An
    absolute action also has to have left the pose in which it stood.
    """
    free = np.flatnonzero(view.moving & ~view.discrete)
    if not len(free) or np.median(np.diff(view.steps.offset)) < 2 * _RUN or relation.majority == "unknown":
        return None
    rows = view.action[free[:64]]
    if relation.majority == "absolute":
        rows = np.diff(rows, axis=1, append=rows[:, -1:]) * np.append(view.inside, False)
    fast = np.quantile(np.abs(rows), 0.95, axis=1)
    rows = rows[fast > 0]
    if not len(rows):
        return None
    speed = np.max(np.abs(rows) / fast[fast > 0][:, None], axis=0)
    return speed < 0.05


def _runs(idle: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(E,) steps of standstill at the start of each episode; lengths of all later ones from 3 on."""
    first = np.zeros(len(idle), bool)
    first[offset[:-1]] = True
    edge = np.append(idle[1:] != idle[:-1], True) | np.append(first[1:], True)
    stop = np.flatnonzero(edge) + 1
    start = np.concatenate([[0], stop[:-1]])
    still, lead = idle[start], first[start]
    prefix = np.where(still[lead], (stop - start)[lead], 0)
    later = (stop - start)[still & ~lead]
    return prefix, later[later >= 3]
