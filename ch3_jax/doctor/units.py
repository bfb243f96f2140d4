r"""Two units on one joint: degrees in the action beside radians in the state, or in a part of the episodes.

Three kinds of evidence, strongest first.

*Gain.* g = std(a) / std(s) (or std(ds) for changes) of a pair, within episodes. The gain of one joint
against the median of the others is near 180 / pi = 57.3 if only one of the two numbers is in degrees.

*Mixture of gains.* The same gain episode by episode: two tight groups a factor of 57.3 apart. A task of
another amplitude moves action and state alike and leaves the gain where it was.

*Range.* Both in degrees: the joint turns by far more than a turn where its siblings (same name but for
the number, or the same declared unit "rad") stay within one; in all episodes, or in some that are 57.3
times as wide as the rest while their other joints are not.

A slide beside a wrist is no sibling, and a wrist that turns by pi stays within a turn.
"""

from collections.abc import Iterator

import numpy as np

from ch3_jax.doctor.finding import Finding
from ch3_jax.doctor.ranges import families
from ch3_jax.doctor.relation import Relation, centred
from ch3_jax.doctor.view import View, plain

DEGREES = 180 / np.pi
_NEAR = np.log(1.25)
_TURN = 1.1 * 2 * np.pi


def mixed_units(view: View, relation: Relation) -> Iterator[Finding]:
    """At most one finding for each action dimension, by the strongest evidence."""
    told: set[int] = set()
    for finder in (_gains, _ranges):
        for j, finding in finder(view, relation):
            if j not in told:
                told.add(j)
                yield finding


def _gains(view: View, relation: Relation) -> Iterator[tuple[int, Finding]]:
    pairs = np.flatnonzero(relation.named)
    if len(pairs) < 1 or not relation.steps.episodes:
        return
    change = relation.majority == "delta"
    gain, told = _gain(relation, pairs, change)
    log = np.log(np.where(told, gain, 1.0))
    usual = np.array([np.median(row[t]) if t.any() else np.nan for row, t in zip(log, told, strict=True)])
    for i, p in enumerate(pairs):
        if told[i].sum() < 3:
            continue
        j, name = int(relation.action_index[p]), relation.names[p]
        rest = np.delete(usual, i)
        rest = rest[np.isfinite(rest)]
        known = relation.majority != "unknown" and relation.kind[p] == relation.majority
        if len(rest) >= 2 and known and np.abs(rest - np.median(rest)).max() < np.log(3):
            off = usual[i] - np.median(rest)
            tight = np.median(np.abs(log[i][told[i]] - usual[i])) < _NEAR
            if abs(abs(off) - np.log(DEGREES)) < _NEAR and tight:
                yield j, _one_joint(view, j, float(np.exp(off)), float(np.exp(np.median(rest))))
                continue
        split = _two_groups(log[i][told[i]])
        if split is not None:
            mask = np.zeros(view.steps.episodes, bool)
            mask[relation.episode[np.flatnonzero(told[i])[split[0]]]] = True
            yield (
                j,
                _some_episodes(view, name, mask, int(told[i].sum()), split[1], "gain from state to action"),
            )


def _ranges(view: View, relation: Relation) -> Iterator[tuple[int, Finding]]:
    del relation
    facts = view.facts
    for rows, names, units in (
        (view.action, view.action_names, facts.action_units),
        (view.observation, view.observation_names, facts.observation_units),
    ):
        told = units if units and len(units) == len(names) else ("",) * len(names)
        moving = np.flatnonzero(np.ptp(rows, axis=1) > 0).tolist()
        kin = families(names, told, moving)
        # Cheap first: nothing that stays within a turn is in degrees and moves.
        for j in np.flatnonzero(np.maximum(rows.max(axis=1), -rows.min(axis=1)) > 2 * _TURN):
            others = [i for i in kin.get(int(j), ())[:17] if i != j]
            found = _beyond_a_turn(view, rows, names[j], told[j], int(j), others)
            if found is not None:
                yield int(j) if rows is view.action else -1 - int(j), found


def _beyond_a_turn(view: View, rows, name: str, unit: str, j: int, others: list[int]) -> Finding | None:
    if unit not in ("rad", "", "1") or not others:
        return None
    reach = {i: np.quantile(np.abs(rows[i]), (0.9, 0.999)) for i in (j, *others)}
    if reach[j][1] <= 2 * _TURN or any(reach[i][1] > _TURN for i in others):
        return None
    ratio = float(rows[j].std()) / max(float(np.median([rows[i].std() for i in others])), 1e-12)
    split = _two_groups(*_widths(view, rows, j, others))
    if split is not None:
        mask = np.zeros(view.steps.episodes, bool)
        mask[split[0]] = True
        return _some_episodes(view, name, mask, len(mask), split[1], "range within episodes")
    if reach[j][0] > 2 * _TURN and DEGREES / 5 < ratio < 5 * DEGREES:
        return _beyond(name, ratio, float(reach[j][1]), max(float(reach[i][1]) for i in others))
    return None


def _gain(relation: Relation, pairs: np.ndarray, change: bool) -> tuple[np.ndarray, np.ndarray]:
    """(P, E) std(a) / std(s) within episodes, and where both move enough for the ratio to mean something."""
    offset, length = relation.steps.offset, np.diff(relation.steps.offset)
    gain, told = [], []
    inside = np.ones(len(relation.steps), bool)
    inside[offset[1:] - 1] = False
    for p in pairs:
        a, s = relation.action[p], relation.state[p]
        s = np.append(np.diff(s), 0) * inside if change else centred(s, offset)
        a = centred(a, offset)
        pa, ps = (np.sqrt(np.add.reduceat(x * x, offset[:-1]) / length) for x in (a, s))
        moves = ps > 0.1 * np.median(ps[ps > 0]) if (ps > 0).any() else ps > 0
        gain.append(np.divide(pa, ps, out=np.ones_like(pa), where=ps > 0))
        told.append(moves & (pa > 0) & (length >= 5))
    return np.array(gain), np.array(told)


def _two_groups(log: np.ndarray, others: np.ndarray | None = None) -> tuple[np.ndarray, float] | None:
    """(members of the upper group, ratio) of numbers in two tight groups a factor of 57.3 apart.

    Args:
      log: logarithms, one for each episode.
      others: logarithms of the same for the siblings: they must not part in the same way.
    """
    if len(log) < 6:
        return None
    order = np.sort(log)
    gap = np.diff(order)
    cut = int(gap.argmax())
    upper = log > (order[cut] + order[cut + 1]) / 2
    count = min(int(upper.sum()), int((~upper).sum()))
    if count < 2 or count < 0.02 * len(log) or gap[cut] < 0.4 * np.log(DEGREES):
        return None
    apart = float(np.median(log[upper]) - np.median(log[~upper]))
    if abs(apart - np.log(DEGREES)) > 1.4 * _NEAR:
        return None
    if others is not None and abs(np.median(others[upper]) - np.median(others[~upper])) > 1.0:
        return None
    return np.flatnonzero(upper), float(np.exp(apart))


def _widths(view: View, rows: np.ndarray, j: int, others: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """(E,) log of the root mean square of a dimension in each episode, and of its siblings' median."""
    offset, length = view.steps.offset, np.diff(view.steps.offset)

    def log(i: int) -> np.ndarray:
        square = np.add.reduceat(rows[i].astype(np.float64) ** 2, offset[:-1]) / length
        return 0.5 * np.log(np.maximum(square, 1e-24))

    return log(j), np.median([log(i) for i in others[:8]], axis=0)


def _one_joint(view: View, j: int, ratio: float, usual: float) -> Finding:
    name = view.action_names[j]
    return Finding(
        1,
        "unit_mix",
        "fault",
        "gain from state to action over that of the other joints",
        ratio,
        DEGREES,
        f"action dimension {name}",
        f"The action {name} moves {ratio * usual:.3g} times as far as its state, the others {usual:.3g} "
        f"times: a factor of {ratio if ratio > 1 else 1 / ratio:.1f}, and 180 / pi is 57.3.",
        numbers={"ratio": ratio, "usual": usual},
    )


def _some_episodes(view: View, name: str, mask, total: int, ratio: float, what: str) -> Finding:
    return Finding(
        1,
        "unit_mix",
        "fault",
        f"{what}, one group of episodes over the other",
        ratio,
        DEGREES,
        f"dimension {name}, {view.episodes(mask)}",
        f"The {what} of {plain(name)} falls into two groups {ratio:.1f} times apart (180 / pi is 57.3): "
        f"{int(mask.sum())} of {total} episodes are in the wider one ({view.episodes(mask)}).",
        numbers={"ratio": ratio, "episodes": int(mask.sum()), "total": total},
    )


def _beyond(name: str, ratio: float, reach: float, usual: float) -> Finding:
    return Finding(
        1,
        "unit_mix",
        "fault",
        "spread over that of its siblings",
        ratio,
        DEGREES,
        f"dimension {name}",
        f"{name} reaches {reach:.3g} and varies {ratio:.3g} times as much as its siblings, which stay "
        f"within {usual:.3g}: degrees among radians (57.3).",
        numbers={"ratio": ratio, "reach": reach},
    )
