"""Whether serving does what training learned: the same observations through both paths.

The policy is asked twice about recorded observations: by its own parts - normalise, act, denormalise -
and by the function that is deployed. Both answer in physical units, so the difference is compared with
the spread of the demonstrated actions. Its shape names the cause: a mirrored gripper, one affine map
(statistics of other data), or neither.

A policy that samples answers twice differently when nothing is wrong. There the deployed answer d is compared
with the law of K answers a_1 .. a_K to the same observation, of mean m and variance v: without a mistake

  d = m + e,    E e = 0,    E e^2 = v (1 + 1 / K),

so over the rows d on m has slope 1 and intercept 0 within their errors, and the squared residual is
on average what the law says. One more answer of the policy itself goes through the same test: where that
fails, the law is too wild for the test, and nothing is said.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.data.normalize import denormalize, normalize
from ch3_jax.doctor.finding import Finding, NotExamined, Result
from ch3_jax.doctor.patient import Patient
from ch3_jax.doctor.view import View, listing

_ROWS = 64
_BOUND = 0.02
_ANSWERS, _SIGMAS, _MATTERS = 17, 5.0, 0.05
_STATISTIC = "serving against training, in standard deviations"


def served(patient: Patient, view: View) -> Iterator[Result]:
    """Findings on the difference between `serve` and `act`."""
    if patient.serve is None:
        yield NotExamined(1, "serving against training", "`serve`: raw observation -> action, as deployed")
        return
    if patient.act is None or patient.params is None or not patient.normalizers:
        yield NotExamined(1, "serving against training", "`act`, `params` and `normalizers`")
        return
    window = _windows(patient, view)
    # What is served is the average, where the run keeps one.
    params = patient.params if patient.ema is None else patient.ema
    act = patient.act(params, normalize(patient.normalizers["observation"], window), None)
    direct = np.asarray(denormalize(patient.normalizers["action"], act), np.float64)[:, 0]
    deployed = np.asarray(patient.serve(window), np.float64)[:, 0]
    if deployed.shape != direct.shape:
        yield _finding(
            "serve_mismatch",
            np.inf,
            f"Serving answers with {deployed.shape[1:]} numbers, training with {direct.shape[1:]}.",
            "all action dimensions",
        )
        return
    std = np.maximum(view.steps.action.std(axis=0), 1e-9)
    apart = np.median(np.abs(deployed - direct) / std, axis=0)
    off = np.flatnonzero(~(apart <= _BOUND))
    answers = _answers(patient, params, window) if len(off) else None
    if answers is not None:
        control, answers = answers[-1], answers[:-1]
        off = np.array(
            [
                j
                for j in off
                if not _of_one_law(deployed[:, j], answers[:, :, j], std[j])
                and _of_one_law(control[:, j], answers[:, :, j], std[j])
            ],
            int,
        )
        direct = answers.mean(axis=0)
        if not len(off):
            yield Finding(
                1, "normal", "note", _STATISTIC, float(apart.max()), _BOUND,
                "all action dimensions",
                f"The policy samples; serving is one more answer of the law of {_ANSWERS} in training.",
            )  # fmt: skip
            return
    if not len(off):
        yield Finding(
            1, "normal", "note", _STATISTIC, float(apart.max()), _BOUND,
            "all action dimensions",
            f"Serving gives the actions of training to {apart.max():.2g} standard deviations.",
        )  # fmt: skip
        return
    names = [view.action_names[j] for j in off]
    # A sample is its mean and noise on top: less of it is explained though the map is one line.
    least = 0.98 if answers is None else 0.5
    fits = [_affine(direct[:, j], deployed[:, j]) for j in off]
    most = float(np.nanmax(apart[off]))
    text = f"The deployed function differs from the trained one by {most:.3g} standard deviations"
    if all(r2 > least and slope < -0.3 for slope, r2 in fits):
        yield _finding(
            "inverted_gripper",
            most,
            f"{text}: {listing(names)} come out mirrored (slope {fits[0][0]:.2f}).",
            listing(names),
        )
    elif all(r2 > least for _, r2 in fits):
        yield _finding(
            "stale_statistics",
            most,
            f"{text}, by a scale and a shift "
            f"(slope {fits[0][0]:.3f} in {names[0]}): other statistics than those of training.",
            listing(names),
        )
    else:
        yield _finding(
            "serve_mismatch",
            most,
            f"{text} in {listing(names)}, by no scale "
            "and shift: its observations are arranged or scaled differently.",
            listing(names),
        )


def _windows(patient: Patient, view: View) -> jnp.ndarray:
    """(B, W, S) raw observations: windows that end at rows spread over the data."""
    width = 1
    if patient.batches is not None:
        width = int(np.shape(patient.batches(0).observation)[1])
    steps = view.steps
    rows = np.linspace(0, len(steps) - 1, min(_ROWS, len(steps))).astype(int)
    first = steps.offset[np.searchsorted(steps.offset, rows, side="right") - 1]
    index = np.maximum(rows[:, None] - np.arange(width - 1, -1, -1), first[:, None])
    return jnp.asarray(steps.observation[index])


def _answers(patient: Patient, params, window: jnp.ndarray) -> np.ndarray | None:
    """(K, B, A) answers in physical units to the same observations; None of a policy that does not sample."""
    seen = normalize(patient.normalizers["observation"], window)
    act, answers = jax.jit(patient.act), []
    for key in jax.random.split(jax.random.key(0), _ANSWERS):
        action = denormalize(patient.normalizers["action"], act(params, seen, key))
        answers.append(np.asarray(action, np.float64)[:, 0])
        if len(answers) == 2 and np.array_equal(answers[0], answers[1]):
            return None
    return np.stack(answers)


def _of_one_law(deployed: np.ndarray, answers: np.ndarray, scale: float) -> bool:
    """Whether (B,) deployed answers are draws of the laws that (K, B) answers were drawn from."""
    mean, variance = answers.mean(axis=0), answers.var(axis=0, ddof=1) * (1 + 1 / len(answers))
    if not np.all(np.isfinite(deployed)):
        return False
    # Weights, because where the policy is sure the line is known better; drawn towards their mean, because K
    # answers know the variance of a rare one badly.
    weight = 1 / np.sqrt((variance + variance.mean()) / 2 + (_BOUND * scale) ** 2)
    design = np.stack([mean - mean.mean(), np.ones_like(mean)], axis=1)
    covariance = np.linalg.pinv((design * weight[:, None] ** 2).T @ design)
    solution = covariance @ (design * weight[:, None] ** 2).T @ (deployed - mean)
    shifted = np.abs(solution) > _SIGMAS * np.sqrt(np.diag(covariance))
    shifted &= np.abs(solution) > _MATTERS * np.array([1.0, scale])
    square = ((deployed - mean) * weight) ** 2
    excess = square.mean() - 1
    wider = excess > max(0.5, _SIGMAS * max(square.std(ddof=1), np.sqrt(2)) / np.sqrt(len(square)))
    return not (shifted.any() or wider)


def _affine(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """(slope, R^2) of y on x."""
    x, y = x - x.mean(), y - y.mean()
    size = float((x * x).sum() * (y * y).sum())
    if not size > 0:
        return 1.0, 1.0 if not (y * y).sum() > 0 else 0.0
    return float((x * y).sum() / (x * x).sum()), float((x * y).sum() ** 2 / size)


def _finding(cause: str, value: float, sentence: str, where: str) -> Finding:
    return Finding(1, cause, "fault", _STATISTIC, value, _BOUND, f"action dimensions {where}", sentence)
