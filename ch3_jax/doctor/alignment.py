"""Check 2: is each action stamped with the observation that it was taken at.

Five questions, each a file: does time rise and miss nothing (`timestamps`), do motions come after their
commands (`lags`), are the observations in order and moving (`continuity`), do pictures show the scene of now
(`camera`).
"""

from collections.abc import Iterator

import numpy as np

from ch3_jax.doctor import camera, continuity
from ch3_jax.doctor.chance import binomial_tail, p_positive
from ch3_jax.doctor.finding import Finding, NotExamined, Result
from ch3_jax.doctor.lags import Lags, explain_motion
from ch3_jax.doctor.patient import Patient
from ch3_jax.doctor.relation import Relation
from ch3_jax.doctor.seen import relation_of, view_of
from ch3_jax.doctor.timestamps import look_at_time
from ch3_jax.doctor.view import View, listing

_EXCESS = 0.015
_LEVEL = 1e-4
_EXPLAINED = 0.3


def check(patient: Patient) -> list[Result]:
    """Examines the timing of a data set.

    Args:
      patient: `dataset`, and what it declares of rate and delay.

    Returns:
      Findings of check 2.
    """
    if patient.dataset is None:
        return [NotExamined(2, "timestamp alignment", "`dataset`: episodes with their times")]
    view = view_of(patient.dataset)
    if not len(view.steps):
        return [NotExamined(2, "timestamp alignment", "an episode of finite numbers")]
    declared = patient.declared
    results: list[Result] = list(look_at_time(view, declared.rate_hz or view.facts.rate_hz))
    if len(view.steps) == view.steps.episodes:
        return [*results, NotExamined(2, "lags and order of steps", "episodes of more than one step")]
    relation = relation_of(patient.dataset)
    results += camera.late(patient, view)
    results += continuity.shuffled(view)
    results += continuity.frozen(view, relation)
    meaning = declared.action_meaning or view.facts.action_meaning
    if not any(r.cause == "observation_shuffled" for r in results if isinstance(r, Finding)):
        results += continuity.unrelated(view, relation, meaning)
        if any(
            r.cause in ("dropped_frames", "timestamps_disordered") for r in results if isinstance(r, Finding)
        ):
            results.append(NotExamined(2, "lag of the actions", "steps of one length: see the timestamps"))
        else:
            results += _lag(view, relation, declared.delay_steps)
    return results


def _lag(view: View, relation: Relation, delay: int | None) -> Iterator[Result]:
    if not len(relation.kind):
        yield NotExamined(2, "lag of the actions", "states that the actions command, under the same names")
        return
    kind = relation.majority
    if kind == "unknown":
        yield NotExamined(
            2, "lag of the actions", "actions that are targets or changes of the states of the same names"
        )
        return
    lags = explain_motion(relation, kind)
    if lags is None or lags.r2.max() < _EXPLAINED:
        yield NotExamined(2, "lag of the actions", "longer episodes, or motion that the actions explain")
        return
    names = listing([n for n, k in zip(relation.names, relation.kind, strict=True) if k == kind])
    numbers = {"lag": lags.best, "rows": lags.rows, "lead": lags.lead}
    numbers |= {f"r2[{k:+d}]": float(r) for k, r in zip(lags.lag, lags.r2, strict=True)}
    if kind == "absolute" and abs(lags.lead) < 0.25:
        yield Finding(
            2,
            "normal",
            "note",
            "steps by which the action runs ahead of the state",
            lags.lead,
            None,
            f"action dimensions {names}",
            f"The actions are the states beside them ({lags.lead:+.2f} steps ahead): a copy, or a robot that "
            "follows at once. Nothing can be said about their timing.",
            interval=lags.lead_interval,
            numbers=numbers,
        )
        return
    if kind == "absolute" and lags.lead_interval[1] < -0.25:
        yield _late(names, lags, numbers, _trailing(lags))
        return
    yield from _verdict(view, relation, lags, kind, names, numbers, delay)


def _verdict(
    view: View, relation: Relation, lags: Lags, kind: str, names: str, numbers: dict, delay: int | None
) -> Iterator[Finding]:
    k, excess, p = lags.excess
    if lags.best > 0 and excess >= _EXCESS and p <= _LEVEL:
        yield _late(names, lags, numbers, _before(lags, k, excess), p)
        return
    if delay is not None and lags.best != -delay:
        shift, gain, p = _against(lags, -delay)
        if gain >= _EXCESS and p <= _LEVEL:
            word = "late" if shift > 0 else "early"
            yield _late(
                names,
                lags,
                numbers,
                f"Motion is explained best by the action at k = {lags.best:+d} (R^2 {_top(lags):.3f}); "
                f"a delay of {delay} is declared: actions are stamped {abs(shift)} steps {word}.",
                p,
            )
            return
    hit = _late_episodes(lags)
    if hit is not None:
        episodes, p = hit
        mask = np.zeros(view.steps.episodes, bool)
        mask[relation.episode[episodes]] = True
        yield _late(
            names,
            lags,
            {**numbers, "episodes": len(episodes)},
            f"In {len(episodes)} of {len(np.unique(lags.block_episode))} episodes ({view.episodes(mask)}) "
            "the motion comes before the action that explains it; in the others it does not.",
            p,
            view.episodes(mask),
        )
        return
    said = (
        f"targets, {lags.lead:.1f} steps ahead of the state (least squares, median over dimensions)"
        if kind == "absolute"
        else "changes of the state"
    )
    yield Finding(
        2,
        "normal",
        "note",
        "lag that explains the motion best",
        lags.best,
        0,
        f"action dimensions {names}",
        f"The actions are {said}; the motion is explained best by the action "
        + ("of the same step" if lags.best == 0 else f"of {abs(lags.best)} steps before")
        + f" (R^2 {_top(lags):.2f}), as it must be{view.sampled}.",
        interval=None if kind == "delta" else lags.lead_interval,
        numbers=numbers,
    )


def _late(names, lags: Lags, numbers, sentence: str, p: float | None = None, where: str = "") -> Finding:
    return Finding(
        2,
        "action_lag",
        "fault",
        "lag that explains the motion best",
        lags.best,
        0,
        where or f"action dimensions {names}",
        sentence,
        p=p,
        numbers=numbers,
    )


def _top(lags: Lags) -> float:
    """The largest R^2; a little over 1 where more noise was taken off than there was."""
    return min(float(lags.r2.max()), 1.0)


def _trailing(lags: Lags) -> str:
    low, high = lags.lead_interval
    return (
        f"The actions run {-lags.lead:.2f} steps behind the state that they command (95 % {-high:.2f} to "
        f"{-low:.2f}): no robot moves before its command."
    )


def _before(lags: Lags, k: int, excess: float) -> str:
    return (
        f"The motion at step t is explained best by the action of step t + {k} (R^2 {_top(lags):.3f}, "
        f"{excess:.3f} more than by any action up to t): actions are stamped {k} step{'s' * (k > 1)} late."
    )


def _against(lags: Lags, expected: int) -> tuple[int, float, float]:
    """(best - expected, gain in R^2, p) of the best lag against the declared one."""
    if expected not in lags.lag:
        return 0, 0.0, 1.0
    best, there = int(lags.r2.argmax()), int(np.flatnonzero(lags.lag == expected)[0])
    gain = lags.block_r2[:, best] - lags.block_r2[:, there]
    return (
        lags.best - expected,
        float(lags.r2[best] - lags.r2[there]),
        p_positive(gain) * (len(lags.lag) - 1),
    )


def _late_episodes(lags: Lags) -> tuple[np.ndarray, float] | None:
    """Episodes that are late by themselves, if there are more than chance gives (2 %), and p."""
    episodes, place = np.unique(lags.block_episode, return_inverse=True)
    count = np.bincount(place)
    r2 = np.stack([np.bincount(place, column) / count for column in lags.block_r2.T], axis=1)
    ahead = lags.lag > 0
    excess = r2[:, ahead].max(axis=1) - r2[:, ~ahead].max(axis=1)
    # What R^2 of so many steps leaves to chance, three times.
    chance = 3 * (1 - np.minimum(r2.max(axis=1), 1)) / np.sqrt(np.bincount(place, lags.block_rows))
    late = (excess > np.maximum(2 * _EXCESS, chance)) & (r2.max(axis=1) > 0.5)
    if lags.unheard > 0.02:
        # With noise in the record R^2 scatters; how much, the lower half tells: the upper may hold late ones.
        low, middle = np.quantile(excess, (0.1, 0.5))
        late &= excess - middle > 5 * (middle - low) / 1.28
    if late.sum() < 3 or late.sum() < 0.05 * len(late):
        return None
    p = binomial_tail(int(late.sum()), len(late), 0.02)
    return (episodes[late], p) if p <= _LEVEL else None
