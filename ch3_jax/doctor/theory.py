r"""What a loss must be before anything is learnt, and for a model that sees no input.

| loss | of a head that says 0 | blind: the best constant |
| --- | --- | --- |
| mse | E a^2, 1 for z-scored actions | Var a |
| l1 | E abs(a) | E abs(a - median) |
| ce, K bins | ln K (5.545 for 256) | entropy of the bins |
| denoising, ddpm (eps) | 1 | 1 |
| flow | E a^2 + 1 | Var a + 1 |
| gaussian_nll of unit variance | ln(2 pi) / 2 + E a^2 / 2 | ln(2 pi) / 2 + Var a / 2 |

All are means over batch, valid steps and action dimensions, as the losses here are. A plateau at the blind
value means that no input is used; below it something was learnt.
"""

import math
from typing import NamedTuple

import numpy as np

from ch3_jax.doctor.parts import leaves_of
from ch3_jax.doctor.patient import Patient

_LN_2PI = math.log(2 * math.pi)
_BATCHES = 16


class Expected(NamedTuple):
    """Numbers that a loss is held against; None where they are not known.

    Attributes:
      first: of a head that says 0, or of equal bins.
      blind: of the best model that sees no input.
      per_dimension: (A,) `blind` for each action dimension.
    """

    first: float | None = None
    blind: float | None = None
    per_dimension: np.ndarray | None = None


def bins_of(patient: Patient) -> int | None:
    """K, the number of bins, where it is known."""
    bins = patient.declared.bins
    return bins if isinstance(bins, int) else getattr(bins, "count", None)


def targets(patient: Patient) -> np.ndarray | None:
    """(N, A) valid normalised actions of the first batches; None for batches of another make."""
    if patient.batches is None:
        return None
    rows = []
    for step in range(_BATCHES):
        batch = patient.batches(step)
        if not hasattr(batch, "action") or np.ndim(batch.action) != 3:
            return None
        action = np.asarray(batch.action, np.float64)
        mask = [np.asarray(getattr(batch, leaf.path)) for leaf in leaves_of(batch) if leaf.path == "mask"]
        rows.append(
            action[mask[0]]
            if mask and mask[0].shape == action.shape[:2]
            else action.reshape(-1, action.shape[-1])
        )
    found = np.concatenate(rows)
    return found if len(found) >= 32 and np.isfinite(found).all() else None


def expected(patient: Patient) -> Expected:
    """The table above, for a patient's declared loss and its own batches.

    >>> from ch3_jax.doctor.patient import Declared
    >>> round(expected(Patient("x", declared=Declared(loss_name="ce", bins=256))).first, 3)
    5.545
    """
    name, count = (patient.declared.loss_name or "").lower(), bins_of(patient)
    if name in ("ce", "cross_entropy"):
        return _tokens(patient, count)
    if name in ("denoising", "ddpm", "diffusion"):
        return Expected(1.0, 1.0)
    a = targets(patient) if name in ("mse", "l1", "flow", "gaussian_nll") else None
    if a is None:
        return Expected()
    square, variance = np.mean(a**2, axis=0), a.var(axis=0)
    if name == "l1":
        blind = np.mean(np.abs(a - np.median(a, axis=0)), axis=0)
        return Expected(float(np.abs(a).mean()), float(blind.mean()), blind)
    add, factor = {"mse": (0.0, 1.0), "flow": (1.0, 1.0), "gaussian_nll": (_LN_2PI / 2, 0.5)}[name]
    blind = factor * variance + add
    return Expected(float(factor * square.mean() + add), float(blind.mean()), blind)


def _tokens(patient: Patient, count: int | None) -> Expected:
    first = None if count is None else math.log(count)
    a = None if isinstance(patient.declared.bins, int | None) else targets(patient)
    if a is None:
        return Expected(first, None, None)
    from ch3_jax.tokens.bins import encode

    tokens = np.asarray(encode(patient.declared.bins, a.astype(np.float32)[:, None]))[:, 0]
    entropy = np.array([_entropy(column) for column in tokens.T])
    return Expected(first, float(entropy.mean()), entropy)


def _entropy(tokens: np.ndarray) -> float:
    """Plug-in entropy with Miller and Madow's correction for few samples, in nats."""
    counts = np.unique(tokens, return_counts=True)[1]
    p = counts / counts.sum()
    return float(-np.sum(p * np.log(p)) + (len(counts) - 1) / (2 * counts.sum()))
