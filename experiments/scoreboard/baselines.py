"""What others would say of the same runs: published rules with their published constants.

| baseline | rules that apply to a regression policy |
| --- | --- |
| always healthy | none |
| SageMaker Debugger | vanishing, exploding, update ratio, dead ReLU, loss, overfit, unchanged, zero |
| AutoTrainer | vanishing and exploding by the first and last layer, dying ReLU, loss >= 1e3 or NaN |
| UMLAUT | inputs outside [-1, 1] or NaN, learning rate outside [1e-7, 1e-2], validation rises |

Their rules about accuracy have nothing to apply to. An alarm is translated into the causes of the project's
catalogue that it could mean; it is right when the planted one is among them.

References: awsdocs, debugger-built-in-rules; Zhang et al. 2021 (AutoTrainer); Schoop et al. 2021 (UMLAUT).
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from ch3_jax.faults.train import Trained


class Alarm(NamedTuple):
    """A rule that fired, and the causes that it could mean."""

    rule: str
    causes: tuple[str, ...]


class Signals(NamedTuple):
    """What rules look at.

    Attributes:
      loss, val_loss: (n,) by row; update_ratio likewise.
      gradients: layer -> gradient of the last batch, in the order of the network.
      parameters, before: layer -> at the end, at the start.
      zeros: hidden layer -> share of samples in which each unit gives 0.
      inputs: (B, S) as the network sees them.
      rate: learning rate.
    """

    loss: np.ndarray
    val_loss: np.ndarray
    update_ratio: np.ndarray
    gradients: Mapping[str, np.ndarray]
    parameters: Mapping[str, np.ndarray]
    before: Mapping[str, np.ndarray]
    zeros: Mapping[str, np.ndarray]
    inputs: np.ndarray
    rate: float


def signals(trained: Trained) -> Signals:
    """The signals of a run; SmallPolicy's three layers, without the activations of other networks."""
    made, run = trained.ready.program, trained.ready.run
    batch = made.batch(trained.ready.data, trained.state.step)
    key = jax.random.key(0)
    gradients = jax.grad(lambda p: made.loss(p, batch, key)[0])(trained.state.params)
    init_key, _, _ = jax.random.split(jax.random.key(run.seed), 3)
    inputs = np.asarray(batch.observation).reshape(len(batch.observation), -1)
    history = trained.history
    return Signals(
        history["loss"].values,
        history["val_loss"].values,
        history["update_ratio"].values,
        _kernels(gradients),
        _kernels(trained.state.params),
        _kernels(made.objective.init(init_key)),
        _zeros(trained.state.params, inputs),
        inputs,
        run.learning_rate,
    )


def always_healthy(_: Signals) -> list[Alarm]:
    """Says nothing."""
    return []


def sagemaker(s: Signals) -> list[Alarm]:
    """Amazon SageMaker Debugger's built-in rules at their defaults."""
    found = []
    if any(np.mean(np.abs(g)) < 1e-7 for g in s.gradients.values()):
        found.append(Alarm("VanishingGradient", ("vanishing_gradients", "frozen_layer", "input_ignored")))
    if not (_finite(s.loss) and all(_finite(p) for p in s.parameters.values())):
        found.append(Alarm("ExplodingTensor", _NAN))
    if np.any((s.update_ratio > 10) | (s.update_ratio < 1e-8)):
        found.append(Alarm("WeightUpdateRatio", ("rate_too_high", "rate_too_low", "params_not_updated")))
    if any(np.mean(z > 0.99) > 0.5 for z in s.zeros.values()):
        found.append(Alarm("DeadRelu", ("dead_units",)))
    if np.any(np.diff(s.loss) >= 0):
        found.append(
            Alarm("LossNotDecreasing", ("plateau_at_blind_loss", "rate_too_low", "params_not_updated"))
        )
    if np.any((s.val_loss[1:] - s.loss) / np.maximum(np.abs(s.loss), 1e-12) > 0.1):
        found.append(Alarm("Overfit", ("memorising", "too_few_demonstrations")))
    if any(np.allclose(s.parameters[n], s.before[n], rtol=1e-5, atol=1e-8) for n in s.parameters):
        found.append(Alarm("UnchangedTensor", ("params_not_updated", "frozen_layer", "rate_too_low")))
    if any(not np.any(p) for p in s.parameters.values()):
        found.append(Alarm("AllZero", ("dead_units",)))
    return found


def autotrainer(s: Signals) -> list[Alarm]:
    """AutoTrainer's monitor, beta_1 = 1e-3, beta_2 = 1e-4, beta_3 = 70, gamma = 0.7."""
    norms = [float(np.linalg.norm(g)) for g in s.gradients.values()]
    first, last = norms[0], norms[-1]
    found = []
    if first < 1e-3 * last and first < 1e-4:
        found.append(Alarm("vanishing", ("vanishing_gradients", "input_ignored")))
    if first > 70 * last:
        found.append(Alarm("exploding", ("exploding_gradients", "unnormalized_inputs", "rate_too_high")))
    entries = np.concatenate([np.ravel(g) for g in s.gradients.values()])
    if np.mean(entries == 0) >= 0.7:
        found.append(Alarm("dying ReLU", ("dead_units",)))
    if not _finite(s.loss) or np.any(s.loss >= 1e3):
        found.append(Alarm("nan_loss", (*_NAN, "rate_too_high", "divergence", "action_outliers")))
    return found


def umlaut(s: Signals) -> list[Alarm]:
    """UMLAUT's heuristics that need no accuracy."""
    found = []
    if np.nanmin(s.inputs) < -1 or np.nanmax(s.inputs) > 1:
        found.append(Alarm("input not in [-1, 1]", ("unnormalized_inputs", "stale_statistics", "unit_mix")))
    if not _finite(s.inputs):
        found.append(Alarm("NaN in the input", ("non_finite_data",)))
    if s.rate > 0.01:
        found.append(Alarm("learning rate above 0.01", ("rate_too_high",)))
    if s.rate < 1e-7:
        found.append(Alarm("learning rate below 1e-7", ("rate_too_low",)))
    rises, falls = np.diff(s.val_loss[1:]) > 0, np.diff(s.loss) <= 0
    if np.any(rises & falls):
        found.append(Alarm("overfitting", ("memorising", "too_few_demonstrations")))
    return found


BASELINES = {
    "always healthy": always_healthy,
    "SageMaker": sagemaker,
    "AutoTrainer": autotrainer,
    "UMLAUT": umlaut,
}

_NAN = ("non_finite_loss", "non_finite_gradient", "non_finite_data", "precision_overflow")


def _finite(x: np.ndarray) -> bool:
    return bool(np.all(np.isfinite(x)))


def _kernels(tree) -> dict[str, np.ndarray]:
    """Path -> weight matrix, hidden layers first."""
    leaves = {
        "/".join(str(part.key) for part in path): np.asarray(x)
        for path, x in jax.tree.leaves_with_path(tree)
        if x.ndim > 1
    }
    order = sorted(leaves, key=lambda name: (not name.startswith("hidden"), name))
    return {name: leaves[name] for name in order}


def _zeros(params, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Share of zeros of each unit of the two hidden layers, where the network is SmallPolicy."""
    found, x = {}, inputs
    for name in ("hidden_1", "hidden_2"):
        layer = params.get(name)
        if layer is None or layer["kernel"].shape[0] != x.shape[1]:
            return found
        x = np.maximum(x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"]), 0)
        found[name] = np.mean(x == 0, axis=0)
    return found
