r"""The range of every action dimension: outliers that own it, a width too small to divide by, a limit.

*Outliers* are told from tails by the gap below them. Let r be the distances from the median, sorted
downwards. For a power tail of index gamma the ratio of neighbours obeys (Renyi 1953)

    P(r_(i) / r_(i+1) > g) = g^(-i / gamma),

so a large ratio above which only i values lie has a p-value, whatever the scale of the data. gamma is read
off the bulk between its 90th and 99th percentile and widened by a quarter, so that heavy tails excuse long
gaps. And an outlier stands alone in time: the steps around a real excursion are far out as well.

*Clipping* is told from resting at a limit by how it is entered: a motion that is cut arrives at full speed,
one that ends there slows down.
"""

from collections.abc import Iterator

import numpy as np

from ch3_jax.doctor.finding import Finding
from ch3_jax.doctor.view import View, listing, stem

_BLOCK = 65_536
_SHARE = 0.02  # at most so many values can be outliers
_STRETCH = 3.0  # times the range without them
_LEVEL = 1e-3
_AT_LIMIT = 0.4
_TINY = 1e-4
_GRIPPER = ("grip", "finger", "hand", "claw", "jaw")


def outliers(view: View) -> Iterator[Finding]:
    """Values far outside of their dimension, alone in time."""
    free = np.flatnonzero(view.moving & ~view.discrete)
    if not len(free) or view.action.shape[1] < 100:
        return
    middle, bound, gamma = np.array([bulk(view.action[j]) for j in free]).T
    rows, columns, far = _far(view.whole.action, free, middle, bound)
    for i, j in enumerate(free):
        mine = columns == i
        order = np.argsort(-far[mine], kind="stable")
        found = gap(far[mine][order], bound[i], gamma[i], len(free))
        if found is None:
            continue
        count, p = found
        hit = rows[mine][order[:count]]
        rest = far[mine][order[count]] if count < mine.sum() else bound[i]
        values = view.whole.action[hit, j]
        stretch = float(np.ptp(np.append(values, [middle[i] - rest, middle[i] + rest])) / (2 * rest))
        if stretch < _STRETCH or not _alone(view, hit, j, middle[i], rest):
            continue
        yield _outlier(view, j, hit, values, stretch, middle[i], rest, p)


def tiny_ranges(view: View) -> Iterator[Finding]:
    """Dimensions whose middle 98 % are far narrower than those of their siblings."""
    free = np.flatnonzero(view.moving & ~view.discrete)
    if not len(free):
        return
    low, high = np.quantile(view.action[free], (0.01, 0.99), axis=1)
    width = dict(zip(free.tolist(), (high - low).tolist(), strict=True))
    units = view.facts.action_units or ()
    units = units if len(units) == len(view.action) else ("",) * len(view.action)
    usual_of: dict[int, float] = {}
    for j, family in families(view.action_names, units, free.tolist()).items():
        # A family is one list, shared by its members: its median is taken once.
        if id(family) not in usual_of:
            usual_of[id(family)] = float(np.median([width[i] for i in family]))
        usual = usual_of[id(family)]
        if width[j] >= _TINY * usual:
            continue
        yield Finding(
            1,
            "tiny_range",
            "warning",
            "width of the middle 98 % over that of its siblings",
            width[j] / usual,
            _TINY,
            f"action dimension {view.action_names[j]}",
            f"The middle 98 % of {view.action_names[j]} are {width[j]:.3g} wide, those of its siblings "
            f"{usual:.3g}: a normaliser multiplies it by {2 / max(width[j], 1e-12):.3g}, noise and all.",
            numbers={"width": width[j], "usual": usual},
        )


def clipped(view: View) -> Iterator[Finding]:
    """Continuous actions that sit exactly on an end of their range, and got there at full speed."""
    hits = []
    for j in np.flatnonzero(view.moving & ~view.discrete):
        name = view.action_names[j].lower()
        if any(word in name for word in _GRIPPER):
            continue
        found = _limits(view, view.action[j])
        if found is not None:
            hits.append((j, *found))
    both = [hit for hit in hits if hit[1] >= 0.05 and hit[2] >= 0.05]
    if not hits or (len(hits) < 2 and not both):
        return
    share = float(np.mean([low + high for _, low, high, _, _ in hits]))
    names = listing([view.action_names[j] for j, *_ in hits])
    j, low, high, visits, speed = max(hits, key=lambda hit: hit[1] + hit[2])
    yield Finding(
        1,
        "clipped_actions",
        "fault",
        "share of actions exactly on a limit",
        share,
        _AT_LIMIT,
        f"action dimensions {names}",
        f"{low + high:.0%} of {view.action_names[j]} are exactly {view.action[j].min():.4g} or "
        f"{view.action[j].max():.4g}, entered {visits} times at {speed:.2f} of the usual speed: the motion "
        f"is cut off there ({len(hits)} of {len(view.action)} dimensions, {share:.0%}){view.sampled}.",
        numbers={"dimensions": len(hits), "share": share, "entry_speed": speed},
    )


def families(names: tuple[str, ...], units: tuple[str, ...], candidates: list[int]) -> dict[int, list[int]]:
    """Dimensions of a kind, at least 3: the same name but for its number, or else the same unit.

    Args:
      names: D names.
      units: D units, "" where none is known.
      candidates: the dimensions to sort.

    Returns:
      dimension -> all of its family, itself included; those without a family are left out.

    >>> families(("joint_1", "joint_2", "joint_3", "grip"), ("",) * 4, [0, 1, 2, 3])
    {0: [0, 1, 2], 1: [0, 1, 2], 2: [0, 1, 2]}
    """
    found: dict[int, list[int]] = {}
    for key in (lambda i: stem(names[i]), lambda i: units[i]):
        groups: dict[str, list[int]] = {}
        for i in candidates:
            groups.setdefault(key(i), []).append(i)
        for name, group in groups.items():
            if len(group) >= 3 and name not in ("", "1"):
                found.update({i: group for i in group if i not in found})
    return found


def used_bins(values: np.ndarray, low: float, high: float, bins: int = 256) -> float:
    """exp(entropy) of uniform bins from low to high: how many of them the values use."""
    counts = np.histogram(values, bins=bins, range=(low, high))[0]
    share = counts[counts > 0] / max(counts.sum(), 1)
    return float(np.exp(-(share * np.log(share)).sum()))


def bulk(row: np.ndarray) -> tuple[float, float, float]:
    """(median, 98th percentile of the distance from it, index of the tail)."""
    middle = float(np.median(row))
    q90, q98, q99, q998 = np.quantile(np.abs(row - middle), (0.9, 1 - _SHARE, 0.99, 0.998))
    if q90 <= 0:
        return middle, float(q98), np.inf
    # Where outliers begin inside the last percent, q99 is one of them: the 98th is then the better guide.
    broad = min(np.log(q99 / q90) / np.log(10), 2 * np.log(q98 / q90) / np.log(5) + 0.02)
    # A bounded range has a tail that gets thinner; where outliers are many, its end is one of them.
    slope = min(broad, (broad + np.log(q998 / q98) / np.log(10)) / 2)
    return middle, float(q98), 1.25 * max(float(slope), 0.02)


def _far(values: np.ndarray, free: np.ndarray, middle: np.ndarray, bound: np.ndarray):
    """(rows, columns, distances) of all values beyond the bound of their dimension, over all of the data."""
    found = []
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK]
        block = block if len(free) == values.shape[1] else block[:, free]
        distance = np.abs(block - middle.astype(np.float32))
        row, column = np.nonzero(distance > bound)
        keep = np.isfinite(distance[row, column])
        found.append((row[keep] + start, column[keep], distance[row, column][keep].astype(np.float64)))
    return tuple(np.concatenate(part) for part in zip(*found, strict=True))


def gap(far: np.ndarray, bound: float, gamma: float, dims: int) -> tuple[int, float] | None:
    """(number of values above the most telling gap, its p), None where no gap tells."""
    if not len(far) or not np.isfinite(gamma) or bound <= 0:
        return None
    ratio = np.log(far / np.append(far[1:], bound))
    i = np.arange(1, len(far) + 1)
    # Every place of the gap is a look; the first ones get the larger share of the level.
    log_p = -ratio * i / gamma + np.log(dims) + 2 * np.log(i) + np.log(np.pi**2 / 6)
    best = int(log_p.argmin())
    return (best + 1, float(np.exp(log_p[best]))) if log_p[best] < np.log(_LEVEL) else None


def _alone(view: View, rows: np.ndarray, j: int, middle: float, rest: float) -> bool:
    """Whether 8 in 10 of the rows have a neighbour in their episode that is not far out."""
    steps = view.whole
    episode = np.searchsorted(steps.offset, rows, side="right") - 1
    first, last = steps.offset[episode], steps.offset[episode + 1] - 1
    if (first == last).all():
        return True
    near = np.zeros(len(rows), bool)
    for shift in (-1, 1):
        t = rows + shift
        known = (t >= first) & (t <= last)
        near |= known & (np.abs(steps.action[np.clip(t, 0, len(steps) - 1), j] - middle) <= 1.05 * rest)
    return bool(near[first < last].mean() >= 0.8)


def _outlier(
    view: View, j: int, hit, values, stretch: float, middle: float, rest: float, p: float
) -> Finding:
    steps, name = view.whole, view.action_names[j]
    episode = np.searchsorted(steps.offset, hit[0], side="right") - 1
    low, high = min(values.min(), middle - rest), max(values.max(), middle + rest)
    used = used_bins(view.action[j], float(low), float(high))
    wild = stretch >= 30
    return Finding(
        1,
        "action_outliers" if wild else "outlier_stretched_bins",
        "fault" if len(hit) >= 3 else "warning",
        "range over the range without outliers",
        stretch,
        _STRETCH,
        f"action dimension {name}, first in episode {episode}, step {hit[0] - steps.offset[episode]}",
        f"{len(hit)} of {len(steps):,} values of {name} lie between {np.abs(values - middle).min():.3g} and "
        f"{np.abs(values - middle).max():.3g} from its median, all others within {rest:.3g}, and the steps "
        f"around them are ordinary: of 256 bins from minimum to maximum {used:.0f} are used.",
        p=p,
        numbers={"count": len(hit), "share": len(hit) / len(steps), "bins_used": used, "stretch": stretch},
    )


def _limits(view: View, row: np.ndarray) -> tuple[float, float, int, float] | None:
    """(share at the minimum, at the maximum, entries, speed of entering over the usual), or None."""
    low, high = row.min(), row.max()
    at = [row == low, row == high]
    shares = [float(a.mean()) for a in at]
    if sum(shares) < _AT_LIMIT:
        return None
    step = np.abs(np.diff(row))
    moving = view.inside & (step > 1e-6 * (high - low))
    if moving.sum() < 50:
        return None
    usual = float(np.median(step[moving]))
    entries = []
    for a in at:
        # Two steps inside the episode before the first one on the limit.
        t = np.flatnonzero(a[2:] & ~a[1:-1] & view.inside[1:] & view.inside[:-1]) + 2
        entries.append(step[t - 2])
    speeds = np.concatenate(entries)
    if len(speeds) < max(10, view.steps.episodes // 4):
        return None
    speed = float(np.median(speeds)) / usual
    return (*shares, len(speeds), speed) if speed >= 0.4 else None
