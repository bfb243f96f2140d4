r"""Check 7 for demonstrations: do they agree, and does the policy answer between them?

Two ways to act in the same state are invisible in the marginal of an action and everywhere in the residuals
of a mean. So the question is conditional: in neighbourhoods of states, one step from an episode, the
residuals of a regression are tested for more than one mode by Hartigan's dip, which unlike a coefficient of
bimodality is not fooled by skew or tails. One p-value over neighbourhoods that do not overlap is Stouffer's
sum, corrected over dimensions (Holm). Where the neighbours' residuals tell which of the two modes a step is
in, the state does so, and nobody disagrees.

A squared error answers with the mean, d^2 / 4 of error for modes a distance d apart. It is a fault where such
a loss is declared or where the policy is seen to stand in the valley, at less than a quarter of the density
at the modes. A head that holds two modes may have them.

Label noise is the other way to disagree: a part of the actions, anywhere, is far from what the state says.

References: Hartigan and Hartigan 1985, The dip test of unimodality; Stouffer 1949.
"""

from typing import NamedTuple

import jax
import numpy as np
from scipy import stats
from scipy.spatial import cKDTree

from ch3_jax.doctor.demonstrations import Pairs, neighbourhoods, of_batches, of_recording, residual
from ch3_jax.doctor.finding import Finding, NotExamined, Result
from ch3_jax.doctor.patient import Patient
from ch3_jax.doctor.statistics import holm, robust_sigma
from ch3_jax.errors import InputError

NEIGHBOURS, CENTRES, FEWEST = 50, 60, 8
_TOLD, _FAR, _ALONE = 0.6, 0.015, 2.5
ALPHA, MOST_STATES, MOST_ACTIONS = 1e-4, 64, 64
_MEANS = ("mse", "l2", "huber", "l1", "smooth_l1", "gaussian_nll")
_HOLDS = ("ce", "gmm", "cvae", "denoising", "ddpm", "flow", "consistency", "diffusion")


def findings(patient: Patient) -> list[Result]:
    """Modes, the policy's place between them, label noise."""
    pairs = of_recording(patient) or of_batches(patient)
    if pairs is None:
        return [NotExamined(7, "whether demonstrators agree", "`dataset` or `batches`")]
    size, count = pairs.state.shape[1], pairs.action.shape[1]
    if not (0 < size <= MOST_STATES and count <= MOST_ACTIONS and len(pairs.state) >= 500):
        needs = f"500 different steps of at most {MOST_STATES} states; there are {len(pairs.state)} of {size}"
        return [NotExamined(7, "whether demonstrators agree", needs)]
    groups = neighbourhoods(pairs, NEIGHBOURS, CENTRES)
    if len(groups) < FEWEST:
        needs = f"{FEWEST} neighbourhoods of {NEIGHBOURS} episodes; there are {len(groups)}"
        return [NotExamined(7, "whether demonstrators agree", needs)]
    tested = dips(pairs, groups)
    two = (tested.p < ALPHA) & (tested.share > 0.2) & (tested.apart > 3)
    results = [_modes(patient, pairs, tested, int(j)) for j in np.flatnonzero(two)]
    return results or noise(pairs)


class Dips(NamedTuple):
    """Of the residuals, for each action dimension.

    Attributes:
      p: (A,) of one mode everywhere, corrected.
      share: (A,) of the neighbourhoods with p < 0.05.
      apart: (A,) distance of two means over the spread within.
      distance: (A,) of the means, in the action's unit.
    """

    p: np.ndarray
    share: np.ndarray
    apart: np.ndarray
    distance: np.ndarray


def dips(pairs: Pairs, groups: list[np.ndarray]) -> Dips:
    """Hartigan's dip in each neighbourhood and dimension.

    Raises:
      InputError: the package diptest is not installed.
    """
    test = _diptest()
    rest = residual(pairs)
    count = pairs.action.shape[1]
    z, share, apart, distance = (np.zeros(count) for _ in range(4))
    _, near = cKDTree(pairs.state).query(pairs.state, 16)
    for j in np.flatnonzero(_continuous(pairs)):
        apart[j], distance[j], centre = two_means(rest[:, j])
        if apart[j] <= 3 or _told_by_state(pairs, rest[:, j] > centre, near):
            continue
        p = np.array([test(rest[group, j])[1] for group in groups])
        z[j] = stats.norm.isf(np.clip(p, 1e-6, 1 - 1e-6)).sum() / np.sqrt(len(p))
        share[j] = float(np.mean(p < 0.05))
    return Dips(holm(np.where(z > 0, stats.norm.sf(z), 1.0)), share, apart, distance)


def _continuous(pairs: Pairs) -> np.ndarray:
    """A gripper has two positions, which is no disagreement."""
    return np.array([len(np.unique(np.round(column, 9))) >= 50 for column in pairs.action.T])


def _told_by_state(pairs: Pairs, upper: np.ndarray, near: np.ndarray) -> bool:
    """Whether the neighbours' mode tells the mode of a step, other steps of its episode left out."""
    other = pairs.episode[near[:, 1:]] != pairs.episode[:, None]
    votes = np.where(other, upper[near[:, 1:]], 0).sum(1) / np.maximum(other.sum(1), 1)
    right = float(np.mean((votes > 0.5) == upper))
    return right > max(upper.mean(), 1 - upper.mean()) + 0.2


def _diptest():
    try:
        from diptest import diptest
    except ImportError as error:
        raise InputError(
            "the test for two modes needs the package diptest",
            got=error,
            expected="diptest >= 0.11",
            cause="a minimal installation",
            fix="pip install diptest",
        ) from error
    return diptest


def two_means(values: np.ndarray) -> tuple[float, float, float]:
    """Two means of one dimension: (their distance over the spread within, their distance, the middle).

    >>> [round(x, 2) for x in two_means(np.array([-1.1, -0.9, 0.9, 1.1]))]
    [20.0, 2.0, 0.0]
    """
    low, high = np.quantile(values, [0.1, 0.9])
    for _ in range(30):
        middle = (low + high) / 2
        left, right = values[values < middle], values[values >= middle]
        if not len(left) or not len(right):
            return 0.0, 0.0, 0.0
        low, high = left.mean(), right.mean()
    within = np.sqrt((left.var() * len(left) + right.var() * len(right)) / len(values))
    return float((high - low) / within) if within > 0 else 0.0, float(high - low), float(middle)


def _modes(patient: Patient, pairs: Pairs, tested: Dips, j: int) -> Finding:
    name, distance = pairs.names[j], float(tested.distance[j])
    loss = (patient.declared.loss_name or "").lower()
    numbers = {"distance": distance, "share": float(tested.share[j]), "mean_error": distance**2 / 4}
    sentence = (
        f"Around the same state, action {name} is taken in two ways {distance:.3g} apart "
        f"({tested.share[j]:.0%} of the neighbourhoods)."
    )
    valley = None if loss in _HOLDS else _valley(patient, j)
    # A network that knows its training rows by heart answers them well, and the mean of both on new ones.
    harm = loss in _MEANS or (valley is not None and valley < 0.25)
    if valley is not None:
        numbers["valley"] = valley
        sentence += f" The policy answers where actions have {valley:.0%} of their density at the modes."
    if loss in _MEANS:
        sentence += f" Their mean, which {loss} answers with, costs {distance**2 / 4:.3g} of squared error."
    cause, severity = ("mode_averaging", "fault") if harm else ("normal", "note")
    p = float(tested.p[j])
    where = f"action dimension {name}"
    return Finding(
        7, cause, severity, "p of one mode around a state", p, ALPHA, where, sentence, p=p, numbers=numbers
    )


def _valley(patient: Patient, j: int) -> float | None:
    """Density of the residuals at the policy's answers over that at the modes; None without a policy."""
    pairs = of_batches(patient)
    if patient.act is None or patient.params is None or pairs is None:
        return None
    rest = residual(pairs)[:, j]
    apart, _, middle = two_means(rest)
    if apart <= 3:
        return None
    chosen = np.linspace(0, len(rest) - 1, min(512, len(rest))).astype(int)
    act = jax.jit(lambda params, observation: patient.act(params, observation, None))
    answer = np.asarray(act(patient.params, pairs.observation[chosen]), np.float64)[:, 0, j]
    predicted = answer - (pairs.action[chosen, j] - rest[chosen])
    sides = rest[rest < middle], rest[rest >= middle]
    width = max(robust_sigma(sides[0]), robust_sigma(sides[1]), 1e-9)
    ordered = np.sort(rest)

    def density(at):
        return np.searchsorted(ordered, at + width) - np.searchsorted(ordered, at - width)

    return float(np.median(density(predicted)) / np.mean(density(np.array([np.median(s) for s in sides]))))


def noise(pairs: Pairs) -> list[Result]:
    """Actions far from what the state says, anywhere: another label than the state's own.

    Asked only where the state tells most of the action, and only of rows that stand alone: where all the
    neighbours are uncertain too, the state is hard and the labels are not wrong.
    """
    rest = residual(pairs, trim=True)
    _, near = cKDTree(pairs.state).query(pairs.state, 16)
    found = []
    for j in np.flatnonzero(_continuous(pairs)):
        total, core = robust_sigma(pairs.action[:, j]), robust_sigma(rest[:, j])
        # Of labels drawn from all actions every tenth lies that far; the others hide among the right ones.
        if not 0 < core < _TOLD * total:
            continue
        far = np.abs(rest[:, j]) > max(5 * core, 0.5 * total)
        share = float(far.mean())
        around = float(far[near[far, 1:]].mean()) if far.any() else 0.0
        if share > _FAR and around < _ALONE * share:
            found.append((share, int(j), max(5 * core, 0.5 * total), core))
    if len(found) < max(1, int(_continuous(pairs).sum()) // 2):
        return []
    share, j, bound, core = max(found)
    sentence = (
        f"{share:.0%} of the actions {pairs.names[j]} differ by more than {bound:.3g} from what the state "
        f"says, where {core:.3g} is usual, and their neighbours do not."
    )
    where = f"action dimension {pairs.names[j]}"
    return [
        Finding(
            7, "label_noise", "warning", "share of actions far from the state's", share, _FAR, where, sentence
        )
    ]
