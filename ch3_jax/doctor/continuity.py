r"""Whether observations follow one another as a robot's do: in order, moving, and beside their own actions.

*In order.* Von Neumann's ratio of a series in an episode,

    nu = sum (s_{t+1} - s_t)^2 / (2 sum (s_t - mean)^2),

is near 0 where s moves smoothly and 1 on average for every random order of the same numbers. States with
nu near 1 in all of their dimensions beside actions that are smooth were shuffled, or shifted row by row.
Where actions are rough too the rows have no order to lose, and nothing is said.

*Moving.* Runs of five and more equal observations while the action goes on, ended by a jump of what was
missed. A robot that is blocked does not jump when it comes free, one that waits has no action.

*Beside their own actions.* Named pairs of a declared position or velocity that show no relation at any lag,
less than the same actions turned round in time show by chance.
"""

from collections.abc import Iterator

import numpy as np

from ch3_jax.doctor.finding import Finding
from ch3_jax.doctor.relation import Relation, centred, core
from ch3_jax.doctor.view import View

_ROUGH, _SMOOTH = 0.7, 0.35
_RUN = 5


def shuffled(view: View) -> Iterator[Finding]:
    """States in random order beside actions in order."""
    steps = view.steps
    long = np.diff(steps.offset) >= 8
    free = view.moving & ~view.discrete
    if not long.any() or not free.any():
        return
    seen, varies = _ratios(view.observation, view)
    done, _ = _ratios(view.action[free], view)
    if not varies.any():
        return
    total = seen[varies].sum(axis=1)
    nu = np.divide(total[:, 0], total[:, 1])
    action = done.sum(axis=1)
    action = action[action[:, 1] > 0]
    smooth = float(np.median(action[:, 0] / action[:, 1])) if len(action) else 1.0
    if smooth > _SMOOTH:
        return
    # Per episode: over all dimensions that vary in it, each in units of its own spread over the data.
    share = seen[varies] / np.maximum(total[:, 1], 1e-300)[:, None, None]
    both = share.sum(axis=0)
    told = long & (both[:, 1] > 0.1 * both[:, 1].mean())
    each = np.divide(both[:, 0], both[:, 1], out=np.zeros(len(both)), where=both[:, 1] > 0)
    hit = told & (each > _ROUGH)
    some = hit.sum() >= 3 and hit.sum() >= 0.05 * told.sum() and _least(seen, hit)
    if nu.min() <= _ROUGH and not some:
        yield _in_order(float(nu.min()), smooth)
        return
    value = float(nu.min()) if nu.min() > _ROUGH else float(np.median(each[hit]))
    where = view.episodes(hit if hit.any() else told)
    rest = each[told & ~hit]
    other = f"; in the other episodes it is {np.median(rest):.2f}" if len(rest) else ""
    yield Finding(
        2,
        "observation_shuffled",
        "fault",
        "von Neumann's ratio of the states (1 in random order)",
        value,
        _ROUGH,
        where,
        f"From step to step the states jump as in random order (ratio {value:.2f}, 1 at random{other}) while "
        f"the actions beside them are smooth ({smooth:.2f}): {int(hit.sum())} of {int(told.sum())} episodes.",
        numbers={"action_ratio": smooth, "episodes": int(hit.sum()), "told": int(told.sum())},
    )


def _in_order(value: float, action: float) -> Finding:
    return Finding(
        2,
        "normal",
        "note",
        "von Neumann's ratio of the states (1 in random order)",
        value,
        _ROUGH,
        "all episodes",
        f"States and actions follow one another smoothly (ratios {value:.2g} and {action:.2g}, 1 in random "
        "order).",
    )


def frozen(view: View, relation: Relation) -> Iterator[Finding]:
    """Observations that stand still, exactly, while actions go on, and then jump."""
    steps, t = view.steps, np.flatnonzero(view.inside)
    if len(t) < 20 or not len(view.observation):
        return
    lively = np.flatnonzero(np.ptp(view.observation, axis=1) > 0)
    free = np.flatnonzero(view.moving & ~view.discrete)
    if not len(lively) or not len(free):
        return
    same = np.zeros(len(steps), bool)
    same[t + 1] = (np.abs(np.diff(view.observation[lively], axis=1)).max(axis=0) == 0)[t]
    start, length = _runs(same, steps.offset)
    keep = length >= _RUN
    if not keep.any():
        return
    start, length = start[keep], length[keep]
    last = start + length - 1
    speed, typical = _speed(view.action[free], t, len(steps))
    state_speed, state_typical = _speed(view.observation[lively], t, len(steps))
    # The run at the beginning of an episode may be a robot that has not heard its first command yet.
    first = np.isin(start - 1, steps.offset[:-1])
    after = np.minimum(last + 1, len(steps) - 1)
    ends = np.isin(last + 1, steps.offset)
    moved = np.array([np.mean(speed[a : b + 1] > 0.3 * typical) for a, b in zip(start, last, strict=True)])
    jumps = ~ends & (state_speed[after] > 2 * state_typical)
    # At the end there is no jump to see: there it must have stood for a fifth of the episode.
    own = np.diff(steps.offset)[np.searchsorted(steps.offset, start, side="right") - 1]
    tail = ends & (length >= 0.2 * own)
    hung = (moved >= 0.5) & ~first & (jumps | tail)
    count, share = int(hung.sum()), float(length[hung].sum() / len(steps))
    blocked = int(((moved >= 0.5) & ~first & ~ends & ~jumps).sum())
    if count < 3 or share < 0.005 or count < 2 * blocked:
        return
    hit = np.zeros(steps.episodes, bool)
    hit[np.searchsorted(steps.offset, start[hung], side="right") - 1] = True
    yield Finding(
        2,
        "frozen_observations",
        "fault",
        "share of steps in frozen stretches",
        share,
        0.005,
        view.episodes(hit),
        f"The whole observation repeats itself exactly for {_RUN} steps and more, {count} times "
        f"({share:.1%} of the steps, in {int(hit.sum())} of {steps.episodes} episodes), while the action "
        "goes on, and jumps afterwards.",
        numbers={"runs": count, "longest": int(length[hung].max()), "share": share},
    )


def unrelated(view: View, relation: Relation, meaning: str | None) -> Iterator[Finding]:
    """Named pairs of a declared position or change whose numbers have nothing to do with each other."""
    told = any(w in (meaning or "").lower() for w in ("absolute", "delta", "position", "pose", "velocit"))
    named = np.flatnonzero(relation.named)
    steps = relation.steps
    if not told or "torque" in (meaning or "").lower() or len(named) < 2 or steps.episodes < 8:
        return
    length = np.diff(steps.offset)
    if np.median(length) < 20:
        return
    rng = np.random.default_rng(0)
    real = _relatedness(relation, named, np.arange(len(steps)))
    null = []
    for _ in range(19):
        turn = rng.integers(np.maximum(length // 4, 1), np.maximum(3 * length // 4, 2))
        place = np.arange(len(steps)) - np.repeat(steps.offset[:-1], length)
        turned = (place + np.repeat(turn, length)) % np.repeat(length, length)
        null.append(_relatedness(relation, named, turned + np.repeat(steps.offset[:-1], length)))
    bound = float(max(null))
    if real > bound or real > 0.2:
        return
    yield Finding(
        2,
        "observation_shuffled",
        "warning",
        "largest R^2 between paired actions and states over lags",
        real,
        bound,
        "all episodes",
        f"Actions and the states of the same names are no more related at any lag (R^2 {real:.3f}) than when "
        f"the actions are turned round in time (up to {bound:.3f}).",
        p=0.05,
    )


def _relatedness(relation: Relation, pairs: np.ndarray, order: np.ndarray) -> float:
    """Mean over pairs of the largest R^2 of a_t with s_{t+k} and with its change, k = 0 .. 6."""
    steps, out = relation.steps, []
    windows = [(k, core(steps, 0, k + 1)) for k in (0, 1, 2, 4, 6)]
    for p in pairs[:8]:
        a = centred(relation.action[p][order], steps.offset)
        s = centred(relation.state[p], steps.offset)
        best = 0.0
        for k, t in windows:
            for y in (s[t + k], s[t + k + 1] - s[t + k]):
                size = np.sqrt((a[t] ** 2).sum() * (y**2).sum())
                best = max(best, float((a[t] * y).sum() / size) ** 2 if size > 0 else 0.0)
        out.append(best)
    return float(np.mean(out))


def _ratios(rows: np.ndarray, view: View) -> tuple[np.ndarray, np.ndarray]:
    """(D, E, 2) numerator and denominator of nu by dimension and episode; the dimensions that vary."""
    offset, out = view.steps.offset, []
    inside = view.inside.astype(np.float64)
    for row in rows[:: -(-len(rows) // 64)]:
        x = row.astype(np.float64)
        squares = np.append(np.diff(x) ** 2 * inside, 0)
        out.append(
            np.stack(
                [
                    np.add.reduceat(squares, offset[:-1]),
                    2 * np.add.reduceat(centred(x, offset) ** 2, offset[:-1]),
                ],
                axis=1,
            )
        )
    made = np.array(out)
    return made, made[:, :, 1].sum(axis=1) > 1e-12 * np.maximum(
        np.abs(rows[:: -(-len(rows) // 64)]).max(1), 1
    )


def _least(seen: np.ndarray, hit: np.ndarray) -> bool:
    """Whether in the episodes `hit` even the smoothest dimension that varies is rough."""
    total = seen[:, hit].sum(axis=1)
    total = total[total[:, 1] > 0.01 * total[:, 1].max()]
    return bool(len(total)) and float((total[:, 0] / total[:, 1]).min()) > _ROUGH


def _runs(same: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and lengths of the runs of True, never across episodes (their first row is never True)."""
    edges = np.diff(np.concatenate([[0], same.astype(np.int8), [0]]))
    start, stop = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return start, stop - start


def _speed(rows: np.ndarray, t: np.ndarray, n: int) -> tuple[np.ndarray, float]:
    """(n,) how far the row moved to get here, in units of each spread; and a typical such step."""
    scale = np.maximum(rows.std(axis=1), 1e-12)[:, None]
    out = np.zeros(n)
    out[t + 1] = np.sqrt(np.mean((np.diff(rows, axis=1)[:, t] / scale) ** 2, axis=0))
    moving = out[out > 0]
    return out, float(np.median(moving)) if len(moving) else 0.0
