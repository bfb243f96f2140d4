"""Whether validation measures anything: episodes of one split that stand in another, whole or frame by
frame.

*Whole* episodes are found by hashes of all their numbers and confirmed number for number
(`data.duplicates`).

*Frame by frame*: where a split was cut through episodes, every held-out step has its own neighbours in
time among the training steps. So the distance from held-out steps to the nearest training step is
compared with the same distance from training steps to those of other episodes. Cut by episode, the two
are alike, however dense or sparse the data are.
"""

from collections.abc import Iterator

import numpy as np

from ch3_jax.data.duplicates import episodes_also_in, repeats_within
from ch3_jax.data.episodes import Steps
from ch3_jax.data.splits import content_hashes, select
from ch3_jax.doctor.chance import greater
from ch3_jax.doctor.finding import Finding, NotExamined, Result
from ch3_jax.doctor.view import View, plain

_PRODUCTS = 24_000_000  # of queries and training steps, in each group
_BLOCK = 16_384
_NEARER = 0.3
_LEVEL = 1e-4
_COPIES = 0.3  # a few that were recorded or listed twice do no harm


def shared(view: View) -> Iterator[Result]:
    """Findings on episodes that stand in two splits, or twice in one."""
    splits = view.dataset.splits
    names = sorted(splits, key=lambda name: name != view.split)
    if len(names) < 2:
        yield NotExamined(1, "episodes shared between splits", "a second split (validation)")
    clean = True
    for i, second in enumerate(names):
        for first in names[:i]:
            hit = np.flatnonzero(_found_in(splits[second], splits[first]))
            if len(hit):
                clean = False
                yield _duplicates(first, second, hit, splits[second].episodes)
    if len(names) > 1 and clean:
        yield from _through_episodes(view, names[1])
    for name in names:
        hit = np.flatnonzero(_repeated(splits[name]))
        if len(hit):
            count = splits[name].episodes
            yield Finding(
                1,
                "repeated_episodes",
                "warning" if len(hit) / count > _COPIES else "note",
                "share of episodes that repeat an earlier one",
                len(hit) / count,
                _COPIES,
                f"split {plain(name)}, {_episodes(hit)}",
                f"{len(hit)} of {count} episodes of split {plain(name)} repeat an earlier one, number for "
                f"number ({_episodes(hit)}).",
                numbers={"repeated": len(hit), "episodes": count},
            )


def _duplicates(first: str, second: str, hit: np.ndarray, count: int) -> Finding:
    return Finding(
        1,
        "duplicates_across_splits",
        "fault",
        "share of episodes that stand in another split",
        len(hit) / count,
        0.0,
        f"split {plain(second)}, {_episodes(hit)}",
        f"{len(hit)} of {count} episodes of split {plain(second)} are duplicates of episodes of split "
        f"{plain(first)}, number for number ({_episodes(hit)}): validation measures memory.",
        numbers={"shared": len(hit), "episodes": count},
    )


def _found_in(steps: Steps, other: Steps) -> np.ndarray:
    """(E,) bool, which episodes stand in another split; only those that look alike are read in full."""
    mine, theirs = _look(steps), _look(other)
    mine, theirs = np.flatnonzero(np.isin(mine, theirs)), np.flatnonzero(np.isin(theirs, mine))
    found = np.zeros(steps.episodes, bool)
    if len(mine):
        found[mine] = episodes_also_in(select(steps, mine), select(other, theirs)) >= 0
    return found


def _repeated(steps: Steps) -> np.ndarray:
    """(E,) bool, which episodes repeat an earlier one."""
    _, place, count = np.unique(_look(steps), return_inverse=True, return_counts=True)
    alike = np.flatnonzero(count[place] > 1)
    found = np.zeros(steps.episodes, bool)
    if len(alike):
        found[alike] = repeats_within(select(steps, alike)) >= 0
    return found


def _look(steps: Steps) -> np.ndarray:
    """(E,) uint64, equal for episodes that are equal: a hash of four rows and the length.

    Of millions of short ones the bits of two numbers of the first row do: it is only a first look.
    """
    length = np.diff(steps.offset)
    if len(steps) < 16 * steps.episodes:
        first = steps.offset[:-1]
        one = np.ascontiguousarray(steps.observation[first, -1], np.float32).view(np.uint32)
        other = np.ascontiguousarray(steps.action[first, 0], np.float32).view(np.uint32)
        return one.astype(np.uint64) << np.uint64(32) | other
    rows = steps.offset[:-1, None] + (np.array([0, 1, 2, 3])[None] * (length[:, None] - 1)) // 3
    rows = rows.reshape(-1)
    seen = np.column_stack([steps.observation[rows], np.repeat(length, 4)])
    return content_hashes(Steps(seen, steps.action[rows], np.arange(0, len(rows) + 1, 4)))


def _through_episodes(view: View, held_out: str) -> Iterator[Finding]:
    train, other = view.whole, view.dataset.splits[held_out]
    scale = view.observation.std(axis=1)
    use = np.flatnonzero(scale > 0)[:32]
    if not len(use) or train.episodes < 4 or len(other) < 8:
        return
    most = int(np.clip(_PRODUCTS // len(train), 16, 48))
    asked, _ = _queries(other, use, scale, most)
    control, own = _queries(train, use, scale, most)
    if min(len(asked), len(control)) < 8:
        return
    near = _nearest(
        np.concatenate([asked, control]), np.concatenate([np.full(len(asked), -1), own]), train, use, scale
    )
    held, usual = near[: len(asked)], near[len(asked) :]
    ratio = float(np.median(held) / max(np.median(usual), 1e-12))
    if ratio >= _NEARER:
        return
    p = greater(-held, -usual)
    if p > _LEVEL:
        return
    yield Finding(
        1,
        "frame_level_split",
        "fault",
        "distance to the nearest training step, held-out over training",
        ratio,
        _NEARER,
        f"split {plain(held_out)}",
        f"Steps of split {plain(held_out)} lie {1 / max(ratio, 1e-3):.1f} times nearer to training steps "
        "than training steps lie to those of other episodes: both splits hold parts of the same episodes.",
        p=p,
        numbers={"ratio": ratio, "held_out": float(np.median(held)), "training": float(np.median(usual))},
    )


def _queries(steps: Steps, use: np.ndarray, scale: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """(Q, D) scaled observations of rows drawn at random, one to an episode, and their episodes."""
    rng = np.random.default_rng(0)
    count = min(most, max(steps.episodes, min(len(steps) // 4, most)))
    episode = rng.permutation(
        np.arange(count) % steps.episodes if steps.episodes < count else steps.episodes
    )[:count]
    row = steps.offset[episode] + (rng.random(count) * np.diff(steps.offset)[episode]).astype(int)
    x = steps.observation[row][:, use] / scale[use]
    good = np.isfinite(x).all(axis=1)
    return x[good].astype(np.float32), episode[good]


def _nearest(queries, own, train: Steps, use: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(Q,) distance from each query to the nearest training step that is not of its own episode."""
    best = np.full(len(queries), np.inf, np.float32)
    weight = (1 / scale[use]).astype(np.float32)
    size, turned = (queries**2).sum(axis=1), -2 * (queries * weight).T
    whole = len(use) == train.observation.shape[1]
    for start in range(0, len(train), _BLOCK):
        block = train.observation[start : start + _BLOCK]
        block = block if whole else block[:, use]
        square = block @ turned
        square += np.square(block * weight).sum(axis=1)[:, None]
        stop = start + len(block)
        for q, e in enumerate(own):
            if e >= 0 and train.offset[e] < stop and train.offset[e + 1] > start:
                square[max(train.offset[e] - start, 0) : train.offset[e + 1] - start, q] = np.inf
        best = np.fmin(best, np.fmin.reduce(square, axis=0))
    return np.sqrt(np.maximum(best + size, 0))


def _episodes(hit: np.ndarray, most: int = 5) -> str:
    more = f" and {len(hit) - most} more" if len(hit) > most else ""
    return f"episode{'s' * (len(hit) > 1)} {', '.join(str(e) for e in hit[:most])}{more}"
