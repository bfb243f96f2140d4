"""What a data set's own numbers say about it: sentences, each with the statistic behind it.

Every check is a pure function of the arrays. It reports what it counted or correlated, never what a
set of that name is known for, and stays silent about what is normal: pauses, grippers with two
positions, an action that runs ahead of the state.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from ch3_jax.data import angles
from ch3_jax.data.duplicates import episodes_also_in, repeats_within
from ch3_jax.data.episodes import Dataset, Facts, Steps

_SPLIT_WORDS = {"train": "training", "val": "validation", "valid": "validation", "eval": "evaluation"}
_CARTESIAN = {"x", "y", "z"}
_SAMPLE = 200_000
_MOST_EPISODES = 100


@dataclasses.dataclass(frozen=True)
class Finding:
    """One true sentence about a data set.

    Attributes:
      id: what kind of finding, a key of `CHECKS`.
      sentence: for a person.
      split: where it was counted.
      dimensions: names of all the dimensions that it is about.
      episodes: indices in `split` of the episodes that it is about, the first hundred.
      numbers: the statistics in the sentence, by name.
    """

    id: str
    sentence: str
    split: str
    dimensions: tuple[str, ...] = ()
    episodes: tuple[int, ...] = ()
    numbers: Mapping[str, float] = dataclasses.field(default_factory=dict)


def audit(dataset: Dataset) -> tuple[Finding, ...]:
    """Runs every check of `CHECKS`.

    Args:
      dataset: finite numbers, no empty episode. Checks of numbers look at the split "train", or at the
        first one where there is none; checks of episodes look at all splits.

    Returns:
      The findings, in the order of `CHECKS`; empty where nothing is worth a sentence.
    """
    name = "train" if "train" in dataset.splits else next(iter(dataset.splits))
    steps = dataset.splits[name]
    inside = np.ones(max(len(steps) - 1, 0), bool)
    inside[steps.offset[1:-1] - 1] = False
    view = _View(
        dataset=dataset,
        name=name,
        steps=steps,
        inside=inside,
        action=_columns("action", steps.action, dataset.facts.action_names, dataset.facts.action_units),
        observation=_columns(
            "observation", steps.observation, dataset.facts.observation_names, dataset.facts.observation_units
        ),
    )
    return tuple(finding for check in CHECKS.values() for finding in check(view))


@dataclasses.dataclass(frozen=True)
class _Columns:
    """D dimensions of one vector over N steps, each contiguous, with what several checks need."""

    kind: str
    names: tuple[str, ...]
    units: tuple[str, ...]
    values: np.ndarray  # (D, N)
    low: np.ndarray  # (D,)
    high: np.ndarray  # (D,)
    std: np.ndarray  # (D,) float64

    @property
    def moving(self) -> np.ndarray:
        return self.high > self.low

    @property
    def free(self) -> np.ndarray:
        """Neither constant nor at one of its two ends (within 5 % of the range) in 9 steps of 10."""
        edge = 0.05 * (self.high - self.low)
        at_end = (self.values <= (self.low + edge)[:, None]) | (self.values >= (self.high - edge)[:, None])
        return self.moving & (at_end.mean(axis=1) < 0.9)


@dataclasses.dataclass(frozen=True)
class _View:
    """The split that the checks look at."""

    dataset: Dataset
    name: str
    steps: Steps
    inside: np.ndarray  # (N - 1,) whether steps t and t + 1 belong to one episode
    action: _Columns
    observation: _Columns


def _columns(kind: str, rows: np.ndarray, names: tuple[str, ...], units: tuple[str, ...] | None) -> _Columns:
    values = np.ascontiguousarray(rows.T)
    low, high = values.min(axis=1), values.max(axis=1)
    std = np.array([row.std(dtype=np.float64) for row in values])
    told = tuple("" if unit == "1" else f" {unit}" for unit in units or ("1",) * len(names))
    return _Columns(kind, names, told, values, low, high, std)


def _shared_episodes(view: _View) -> Iterator[Finding]:
    """Episodes of one split that stand in another too, wherever they stand there."""
    names = sorted(view.dataset.splits, key=lambda name: name != view.name)
    for i, second in enumerate(names):
        for first in names[:i]:
            steps = view.dataset.splits[second]
            hit = np.flatnonzero(episodes_also_in(steps, view.dataset.splits[first]) >= 0)
            if len(hit):
                yield Finding(
                    "shared_episodes",
                    f"{len(hit)} of {steps.episodes} {_word(second)} episodes stand in {_word(first)} too, "
                    "number for number.",
                    second,
                    episodes=_some(hit),
                    numbers={"shared": len(hit), "episodes": steps.episodes},
                )


def _repeated_episodes(view: _View) -> Iterator[Finding]:
    """Episodes that repeat an earlier one of their own split."""
    for name, steps in view.dataset.splits.items():
        hit = np.flatnonzero(repeats_within(steps) >= 0)
        if len(hit):
            yield Finding(
                "repeated_episodes",
                f"{len(hit)} of {steps.episodes} {_word(name)} episodes "
                f"{'repeats' if len(hit) == 1 else 'repeat'} an earlier one, number for number.",
                name,
                episodes=_some(hit),
                numbers={"repeated": len(hit), "episodes": steps.episodes},
            )


def _first_action_zero(view: _View) -> Iterator[Finding]:
    """Episodes that begin with a zero action although most other steps have none.

    Zero: every free dimension is within a thousandth of its standard deviation of 0. Grippers and
    constant dimensions are left out.
    """
    action, episodes, free = view.action, view.steps.episodes, view.action.free
    if episodes < 2 or len(view.steps) == episodes or not free.any():
        return
    zero = np.ones(len(view.steps), bool)
    for column, std in zip(action.values[free], action.std[free], strict=True):
        zero &= np.abs(column) <= 1e-3 * std
    at_start = zero[view.steps.offset[:-1]]
    count = int(at_start.sum())
    others = (int(zero.sum()) - count) / (len(view.steps) - episodes)
    if count < 0.5 * episodes or others > 0.5:
        return
    left_out = _listing(_pick(action.names, ~free), action.names)
    yield Finding(
        "first_action_zero",
        f"The first action is zero in {count} of {episodes} episodes"
        f"{f' ({left_out} left out)' if left_out else ''}; {others:.1%} of the other actions are.",
        view.name,
        dimensions=_pick(action.names, free),
        episodes=_some(np.flatnonzero(at_start)),
        numbers={"count": count, "episodes": episodes, "share_of_others": others},
    )


def _action_meaning(view: _View) -> Iterator[Finding]:
    """A declared action meaning that the numbers contradict.

    For every free dimension that action a and state s share by name, over neighbouring steps:

        r_change = corr(a_t, s_{t+1} - s_t),   slope = <a, ds> / <a, a>,   r_state = corr(a_t, s_{t+1})

    A change per step has r_change high and slope near 1; a velocity per second, slope near 1 / rate;
    an absolute target, r_state high. The medians over the dimensions decide.
    """
    facts, columns = (
        view.dataset.facts,
        dict(zip(view.observation.names, view.observation.values, strict=True)),
    )
    declared = _declared(facts.action_meaning)
    shared = view.action.free & np.array([name in columns for name in view.action.names])
    steps = np.flatnonzero(view.inside[:_SAMPLE])
    if declared is None or not shared.any() or len(steps) < 20:
        return
    names = _pick(view.action.names, shared)
    action = view.action.values[shared][:, steps].astype(np.float64)
    before, after = (
        np.stack([columns[name][steps + k] for name in names]).astype(np.float64) for k in (0, 1)
    )
    change = after - before
    r_change, r_state = (float(np.median(_correlation(action, x))) for x in (change, after))
    slope = float(np.median((action * change).sum(axis=1) / (action**2).sum(axis=1)))
    told = _contradiction(declared, facts, names, r_change, r_state, slope, len(steps))
    if told:
        yield Finding(
            "action_meaning",
            f'The files describe the action as "{facts.action_meaning}", but {told}',
            view.name,
            dimensions=names,
            numbers={"r_change": r_change, "r_state": r_state, "slope": slope, "pairs": len(steps)},
        )


def _angle_wrap(view: _View) -> Iterator[Finding]:
    """Dimensions that fill one turn and jump by almost a whole one from a step to the next."""
    for columns in (view.observation, view.action):
        for j, (period, whole) in sorted(angles.jumps(columns.values.T, view.inside).items()):
            count, words = int(whole.sum()), "360" if period == 360 else "2 pi"
            hit = np.unique(np.searchsorted(view.steps.offset, np.flatnonzero(whole), side="right") - 1)
            cure = (
                "--angles=sincos does not jump" if columns.kind == "observation" else "sine and cosine do not"
            )
            yield Finding(
                "angle_wrap",
                f"{columns.names[j]} wraps at {words} inside episodes: {count} jumps of almost a whole "
                f"turn, in {len(hit)} of {view.steps.episodes} episodes; {cure}.",
                view.name,
                dimensions=(columns.names[j],),
                episodes=_some(hit),
                numbers={"jumps": count, "episodes": len(hit), "period": float(period)},
            )


def _constant_dimensions(view: _View) -> Iterator[Finding]:
    """Dimensions with one value throughout."""
    for columns in (view.action, view.observation):
        still = _pick(columns.names, ~columns.moving)
        if still and len(view.steps) > 1:
            yield Finding(
                "constant_dimensions",
                f"{len(still)} of {len(columns.names)} {columns.kind} dimensions never "
                f"{'moves' if len(still) == 1 else 'move'}: {_listing(still, columns.names)}.",
                view.name,
                dimensions=still,
                numbers={"count": len(still)},
            )


def _held_dimensions(view: _View) -> Iterator[Finding]:
    """Action dimensions that hold a pose inside each episode, another one in each.

    With sigma^2 = within^2 + between^2 (total variance over episodes), those of within < 0.25 sigma.
    """
    steps, action, free = view.steps, view.action, view.action.free
    if steps.episodes < 2 or len(steps) < 5 * steps.episodes or not free.any():
        return
    lengths = np.diff(steps.offset)
    ratio = np.zeros(len(action.names))
    for j in np.flatnonzero(free):
        means = np.add.reduceat(action.values[j], steps.offset[:-1], dtype=np.float64) / lengths
        centred = action.values[j] - np.repeat(means.astype(np.float32), lengths)
        ratio[j] = np.sqrt(np.square(centred).mean(dtype=np.float64)) / action.std[j]
    held = free & (ratio < 0.25)
    if held.any():
        which = _pick(action.names, held)
        one = len(which) == 1
        yield Finding(
            "held_dimensions",
            f"{len(which)} of {len(action.names)} action dimensions hardly {'moves' if one else 'move'} "
            f"inside episodes: {_listing(which, action.names)}; within an episode "
            f"{'its' if one else 'their'} spread is at most {ratio[held].max():.2f} of the whole, the rest "
            "is a pose that differs between episodes.",
            view.name,
            dimensions=which,
            numbers={"count": len(which), "largest_ratio": float(ratio[held].max())},
        )


def _scale_spread(view: _View) -> Iterator[Finding]:
    """How far the standard deviations of the moving dimensions lie apart, from a factor of 5."""
    for columns in (view.action, view.observation):
        moving = np.flatnonzero(columns.moving)
        if len(moving) < 2:
            continue
        low, high = moving[columns.std[moving].argmin()], moving[columns.std[moving].argmax()]
        ratio = float(columns.std[high] / columns.std[low])
        if ratio >= 5:
            least, most = (
                f"{columns.std[j]:.3g}{columns.units[j]} ({columns.names[j]})" for j in (low, high)
            )
            yield Finding(
                "scale_spread",
                f"{columns.kind.capitalize()} scales lie a factor of {ratio:.3g} apart: standard deviation "
                f"{least} to {most}.",
                view.name,
                dimensions=(columns.names[low], columns.names[high]),
                numbers={
                    "ratio": ratio,
                    "smallest": float(columns.std[low]),
                    "largest": float(columns.std[high]),
                },
            )


def _repeated_actions(view: _View) -> Iterator[Finding]:
    """Actions equal to the one before, from one in a hundred."""
    same = view.inside.copy()
    for column in view.action.values:
        if not same.any():
            return
        same &= column[1:] == column[:-1]
    count, total = int(same.sum()), len(view.steps)
    if count >= 0.01 * total:
        yield Finding(
            "repeated_actions",
            f"{count} of {total} actions ({count / total:.1%}) are equal to the one before.",
            view.name,
            numbers={"count": count, "steps": total, "share": count / total},
        )


CHECKS: Mapping[str, Callable[[_View], Iterator[Finding]]] = {
    "shared_episodes": _shared_episodes,
    "repeated_episodes": _repeated_episodes,
    "first_action_zero": _first_action_zero,
    "action_meaning": _action_meaning,
    "angle_wrap": _angle_wrap,
    "constant_dimensions": _constant_dimensions,
    "held_dimensions": _held_dimensions,
    "scale_spread": _scale_spread,
    "repeated_actions": _repeated_actions,
}
"""The id of a finding -> the check that makes it."""


def _correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's r per row; 0 where one of them does not vary."""
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    scale = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return np.divide((x * y).sum(axis=1), scale, out=np.zeros_like(scale), where=scale > 0)


def _declared(text: str | None) -> str | None:
    """What a description calls the action: "velocity", "change", "absolute", or nothing of these."""
    words = (("velocit", "velocity"), ("delta", "change"), ("relative", "change"), ("absolute", "absolute"))
    return next((kind for word, kind in words if word in (text or "").lower()), None)


def _contradiction(
    declared: str,
    facts: Facts,
    names: tuple[str, ...],
    r_change: float,
    r_state: float,
    slope: float,
    pairs: int,
) -> str | None:
    listing = _listing(names, facts.action_names)
    if declared == "change":
        if r_state < 0.9 or r_state < r_change + 0.1:
            return None
        return (
            f"{listing} follow the state itself (correlation {r_state:.2f} over {pairs} steps; with its "
            f"change {r_change:.2f}): absolute values."
        )
    if r_change < 0.6 or r_change < r_state + 0.1 or slope <= 0:
        return None
    # A velocity per second moves the state by 1 / rate of itself per step, a change per step by all of it.
    per_step = 1 / facts.rate_hz if facts.rate_hz else 0.1
    if declared == "velocity" and abs(np.log(slope)) >= abs(np.log(slope / per_step)):
        return None
    joints = "joint" in (facts.action_meaning or "").lower() and set(names) >= _CARTESIAN
    rate = f"; a velocity at {facts.rate_hz:g} Hz would give {per_step:g}" if facts.rate_hz else ""
    return (
        f"{listing} follow the change of the state of the same name from one step to the next (correlation "
        f"{r_change:.2f} over {pairs} steps, slope {slope:.2f}{rate if declared == 'velocity' else ''}): "
        + ("Cartesian changes per step, not joint velocities." if joints else "changes per step.")
    )


def _pick(names: Sequence[str], mask: np.ndarray) -> tuple[str, ...]:
    return tuple(name for name, keep in zip(names, mask, strict=True) if keep)


def _listing(chosen: Sequence[str], order: Sequence[str]) -> str:
    """Names in a line; runs of more than three neighbours in `order` become "first to last"."""
    place = {name: i for i, name in enumerate(order)}
    runs: list[list[str]] = []
    for name in chosen:
        if runs and place[runs[-1][-1]] + 1 == place[name]:
            runs[-1].append(name)
        else:
            runs.append([name])
    short = [f"{run[0]} to {run[-1]}" if len(run) > 3 else ", ".join(run) for run in runs]
    return ", ".join(short[:6]) + (f" and {len(short) - 6} more" if len(short) > 6 else "")


def _some(episodes: np.ndarray) -> tuple[int, ...]:
    return tuple(int(episode) for episode in episodes[:_MOST_EPISODES])


def _word(split: str) -> str:
    return _SPLIT_WORDS.get(split, split)
