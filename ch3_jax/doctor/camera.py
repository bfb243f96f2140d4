r"""Whether the camera shows the scene of now: image changes against state changes.

While the robot moves, so does the picture. With the changes of one step

  d_t = || I_t - I_{t-1} ||,    m_t = || s_t - s_{t-1} ||,    c_e(k) = corr(d_t, m_{t-k}) in episode e,

pictures of now have the largest mean c_e at k = 0, pictures that are k steps old at k. Each episode votes, so
the lag has a p-value: the paired difference c_e(k) - c_e(0) over episodes. A camera that is late by a number
of steps that is declared is as it should be.

Pictures are `extra["images"]`, camera -> (N, ...) in the order of the steps, or columns of the observation
whose names begin with camera, image, img, rgb or pixel: features of a picture are late when it is.
"""

import re
from collections.abc import Iterator

import numpy as np
from scipy import stats

from ch3_jax.doctor.finding import Finding, NotExamined, Result
from ch3_jax.doctor.patient import Patient
from ch3_jax.doctor.view import View

FURTHEST = 6
_NAMES = re.compile(r"^(camera|image|img|rgb|pixel)", re.IGNORECASE)
_LEVEL, _GAIN, _SEEN = 1e-4, 0.03, 0.2
_LEAST_STEPS, _LEAST_EPISODES = 3 * FURTHEST, 8
_WHAT = "whether images are late"


def late(patient: Patient, view: View) -> Iterator[Result]:
    """Findings on the timing of the pictures.

    Args:
      patient: pictures, and `declared.camera_delay_steps`.
      view: of its data.

    Yields:
      One finding for each camera that moves with the robot.
    """
    columns = [i for i, name in enumerate(view.observation_names) if _NAMES.match(name)]
    pictures = _pictures(patient, view, columns)
    if not pictures:
        return
    state = np.delete(np.arange(len(view.observation_names)), columns)
    if not len(state):
        yield NotExamined(2, _WHAT, "a state beside the images")
        return
    motion = _changes(view.observation[state].T)
    for camera, frames in pictures.items():
        curves = _curves(_changes(frames), motion, view.steps.offset)
        if len(curves) < _LEAST_EPISODES:
            needs = f"{_LEAST_EPISODES} episodes of {_LEAST_STEPS} steps that move; there are {len(curves)}"
            yield NotExamined(2, f"{_WHAT}: {camera}", needs)
            continue
        yield _judged(camera, curves, patient.declared.camera_delay_steps)


def _pictures(patient: Patient, view: View, columns: list[int]) -> dict[str, np.ndarray]:
    found = {}
    if columns:
        found[_listed(view, columns)] = view.observation[columns].T
    images = patient.extra.get("images") or {}
    if len(view.steps) == len(view.whole):  # A sample of the episodes would be out of step with the pictures.
        found |= {name: np.asarray(x) for name, x in images.items() if len(x) == len(view.steps)}
    return found


def _listed(view: View, columns: list[int]) -> str:
    names = [view.observation_names[i] for i in columns]
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"


def _changes(x: np.ndarray) -> np.ndarray:
    """(N,) how far each row is from the one before: the mean over columns, none of which can shout.

    A gripper moves seldom and then far; over its own 90th percentile a column counts 1.
    """
    flat = np.asarray(x, np.float32).reshape(len(x), -1)
    step = np.abs(np.diff(flat, axis=0, prepend=flat[:1]))
    usual = np.quantile(step, 0.9, axis=0)
    moving = usual > 0
    if not moving.any():
        return np.zeros(len(flat), np.float32)
    return np.minimum(step[:, moving] / usual[moving], 1).mean(axis=1)


def _curves(change: np.ndarray, motion: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """(E, 2 FURTHEST + 1) c_e(k), k from -FURTHEST, of the episodes that are long enough and move."""
    curves = []
    for start, stop in zip(offset[:-1], offset[1:], strict=True):
        d, m = change[start + 1 : stop], motion[start + 1 : stop]
        if len(d) < _LEAST_STEPS:
            continue
        inner = d[FURTHEST : len(d) - FURTHEST]
        shifted = [m[FURTHEST - k : len(m) - FURTHEST - k] for k in range(-FURTHEST, FURTHEST + 1)]
        if inner.std() > 0 and all(s.std() > 0 for s in shifted):
            curves.append([np.corrcoef(inner, s)[0, 1] for s in shifted])
    return np.array(curves)


def _judged(camera: str, curves: np.ndarray, declared: int | None) -> Result:
    mean = curves.mean(axis=0)
    best = int(mean.argmax())
    k, top = best - FURTHEST, float(mean[best])
    if top < _SEEN:
        return NotExamined(2, f"{_WHAT}: {camera}", "pictures that change when the robot moves")
    expected = declared or 0
    there = expected + FURTHEST if abs(expected) <= FURTHEST else FURTHEST
    gain = curves[:, best] - curves[:, there]
    p = 1.0
    if k != expected:
        p = float(stats.ttest_1samp(gain, 0, alternative="greater").pvalue) * (2 * FURTHEST)
    numbers = {f"c[{i - FURTHEST:+d}]": float(c) for i, c in enumerate(mean)}
    late_now = k != expected and p <= _LEVEL and gain.mean() >= _GAIN
    said = f" {declared} declared" if declared else " now"
    if late_now:
        how = f"{abs(k)} step{'s' * (abs(k) > 1)} {'late' if k > 0 else 'early'}"
        sentence = (
            f"The pictures of {camera} move with the robot best when taken as {how} (correlation {top:.2f}, "
            f"{mean[there]:.2f} as{said}), in {np.mean(gain > 0):.0%} of {len(curves)} episodes."
        )
    else:
        sentence = f"The pictures of {camera} move when the robot does (correlation {top:.2f} as{said})."
    return Finding(
        2,
        "camera_lag" if late_now else "normal",
        "fault" if late_now else "note",
        "lag at which pictures move with the robot",
        k,
        expected,
        camera,
        sentence,
        p=min(p, 1.0) if late_now else None,
        numbers=numbers,
    )
