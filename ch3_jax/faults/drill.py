r"""Drill 1 and the five faults of drill 2.

The healthy run is the chapter's: 14 -> 256 -> 256 -> 7 by squared error with Adam at 1e-3, batches of 64, 50
epochs of 10,000 pairs. Each fault changes one thing and nothing else, so all six have the same shapes and
share a compiled program.

The floor of two demonstrators who are d apart in one of D dimensions is (d^2 / 4) / D + s^2: squared error
answers between them, d / 2 from either.
"""

import dataclasses

import numpy as np

from ch3_jax.data.episodes import Dataset, Steps
from ch3_jax.faults.run import Run

STEPS, EVERY = 7_800, 100  # 50 epochs of 156 batches
NOISE, DISTANCE, DIMENSIONS = 0.3, 2.0, 7
FAULTS = ("big_lr", "tiny_lr", "unnormalized_inputs", "action_outlier", "bimodal_labels")
CAUSES = {
    "baseline": "normal",
    "big_lr": "rate_too_high",
    "tiny_lr": "rate_too_low",
    "unnormalized_inputs": "unnormalized_inputs",
    "action_outlier": "action_outliers",
    "bimodal_labels": "mode_averaging",
}


def baseline(dataset: Dataset, *, steps: int = STEPS, seed: int = 0) -> Run:
    """Drill 1.

    Args:
      dataset: `data.synthetic.inverse_dynamics`.
      steps: updates.
      seed: of parameters, order and noise.
    """
    return Run(dataset, steps=steps, every=min(EVERY, steps), seed=seed, floor=NOISE**2)


def big_lr(run: Run, rate: float = 1.0) -> Run:
    """A learning rate a thousand times too high."""
    return run._replace(learning_rate=rate)


def tiny_lr(run: Run, rate: float = 1e-8) -> Run:
    """A learning rate a hundred thousand times too low: 7,800 steps move a weight by 8e-5 at most."""
    return run._replace(learning_rate=rate)


def unnormalized_inputs(run: Run, std: float = 50.0) -> Run:
    """Observations in a unit in which their standard deviation is `std`, and no normaliser."""

    def scaled(steps: Steps) -> Steps:
        return dataclasses.replace(steps, observation=(std * steps.observation).astype(np.float32))

    return run._replace(dataset=_mapped(run.dataset, scaled))


def action_outlier(run: Run, value: float = 1e3, share: float = 0.01, dimension: int = 3) -> Run:
    """`share` of the training pairs say `value` in one dimension: one in most batches of 64."""
    steps = run.dataset.splits["train"]
    rows = np.random.default_rng(run.seed).permutation(len(steps))[: max(round(share * len(steps)), 1)]
    action = steps.action.copy()
    action[rows, dimension] = value
    poisoned = dataclasses.replace(steps, action=action)
    return run._replace(
        dataset=dataclasses.replace(run.dataset, splits={**run.dataset.splits, "train": poisoned})
    )


def bimodal_labels(run: Run, distance: float = DISTANCE) -> Run:
    """Half of the pairs are of a second demonstrator, `distance` away in dimension 0."""
    generator = np.random.default_rng(run.seed)

    def shifted(steps: Steps) -> Steps:
        sign = np.where(generator.random(len(steps)) < 0.5, -0.5, 0.5)
        action = steps.action.copy()
        action[:, 0] += (sign * distance).astype(np.float32)
        return dataclasses.replace(steps, action=action)

    return run._replace(dataset=_mapped(run.dataset, shifted), floor=bimodal_floor(distance))


def bimodal_floor(distance: float = DISTANCE, noise: float = NOISE, dimensions: int = DIMENSIONS) -> float:
    """(d^2 / 4) / D + s^2, the smallest mean squared error between two demonstrators.

    >>> round(bimodal_floor(2.0, 0.3, 7), 4)
    0.2329
    """
    return distance**2 / 4 / dimensions + noise**2


CHANGES = {
    "big_lr": big_lr,
    "tiny_lr": tiny_lr,
    "unnormalized_inputs": unnormalized_inputs,
    "action_outlier": action_outlier,
    "bimodal_labels": bimodal_labels,
}
"""name -> Run -> Run."""


def _mapped(dataset: Dataset, change) -> Dataset:
    return dataclasses.replace(dataset, splits={name: change(s) for name, s in dataset.splits.items()})
