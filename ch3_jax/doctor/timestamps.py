"""Time as it was recorded: does it rise, is a step missing, is the rate the declared one.

A sensor of variable rate has gaps of every length; a dropped frame leaves one of exactly two, three, ...
steps in a recording that is otherwise regular. So a gap is a dropped frame only where

    most steps are regular: 90 % within a fifth of the median, and
    the gaps are whole multiples of it, within 0.2, more often than the 40 % of chance (binomial test).

Many formats compute time from the frame number; then these tests are vacuous and say so.
"""

from collections.abc import Iterator

import numpy as np

from ch3_jax.doctor.chance import binomial_tail
from ch3_jax.doctor.finding import Finding, NotExamined, Result
from ch3_jax.doctor.view import View

_TIGHT = 1e-3
_LEVEL = 1e-3


def look_at_time(view: View, rate_hz: float | None) -> Iterator[Result]:
    """Findings on the timestamps of a view.

    Args:
      view: of a data set.
      rate_hz: declared by a person or by the files.
    """
    steps = view.steps
    if steps.timestamp is None or len(steps) == steps.episodes:
        yield NotExamined(2, "order of time and dropped frames", "timestamps of episodes of several steps")
        return
    step = np.diff(steps.timestamp)[view.inside]
    known = np.isfinite(step)
    if not known.all():
        yield NotExamined(2, f"{int((~known).sum())} of {len(step)} steps in time", "finite timestamps")
    backwards = known & (step <= 0)
    if backwards.any():
        yield _disordered(view, step, backwards)
        return
    step = step[known]
    if not len(step):
        return
    typical = float(np.median(step))
    if np.ptp(step) <= _TIGHT * typical:
        yield NotExamined(
            2, "gaps in time", "recorded timestamps: these are exactly the frame number over the rate"
        )
    else:
        yield from _gaps(view, step, typical)
    if rate_hz and abs(1 / (typical * rate_hz) - 1) > 0.1:
        yield Finding(
            2,
            "wrong_rate",
            "warning",
            "recorded rate over declared rate",
            1 / (typical * rate_hz),
            1.1,
            "all episodes",
            f"Steps are {typical:.4g} s apart, {1 / typical:.4g} Hz, where {rate_hz:g} Hz are declared.",
            numbers={"seconds": typical, "declared_hz": rate_hz},
        )


def _disordered(view: View, step: np.ndarray, backwards: np.ndarray) -> Finding:
    rows = np.flatnonzero(view.inside)[backwards] if len(step) == view.inside.sum() else np.array([], int)
    hit = np.zeros(view.steps.episodes, bool)
    hit[np.searchsorted(view.steps.offset, rows, side="right") - 1] = True
    count = int(backwards.sum())
    return Finding(
        2,
        "timestamps_disordered",
        "fault",
        "steps that do not go forward in time",
        count,
        0,
        view.episodes(hit),
        f"Time stands still or runs backwards at {count} of {len(step)} steps, in {int(hit.sum())} of "
        f"{len(hit)} episodes ({view.episodes(hit)}); the largest step back is {-float(step.min()):.3g} s.",
        numbers={"count": count, "steps": len(step), "episodes": int(hit.sum())},
    )


def _gaps(view: View, step: np.ndarray, typical: float) -> Iterator[Finding]:
    ratio = step / typical
    long = ratio > 1.5
    spread = float((np.abs(ratio - 1) > 0.2).mean() - long.mean())
    if not long.any():
        return
    whole = np.abs(ratio[long] - np.round(ratio[long])) <= 0.2
    p = binomial_tail(int(whole.sum()), len(whole), 0.4)
    share, count = float(long.mean()), int(long.sum())
    numbers = {"gaps": count, "share": share, "irregular": spread, "whole": float(whole.mean())}
    sentence = (
        f"{count} of {len(step)} steps ({share:.1%}) take more than 1.5 times the usual {typical:.4g} s, "
        f"{int(whole.sum())} of them a whole number of steps"
    )
    dropped = spread <= 0.1 and p < _LEVEL and whole.mean() >= 0.8 and share < 0.3
    yield Finding(
        2,
        "dropped_frames" if dropped else "normal",
        "fault" if dropped and share >= 0.002 else "note",
        "gaps that are whole multiples of a step",
        float(whole.mean()),
        0.4,
        "all episodes",
        sentence
        + (": frames are missing." if dropped else "; not regular enough to say that frames are missing."),
        p=p,
        numbers=numbers,
    )
