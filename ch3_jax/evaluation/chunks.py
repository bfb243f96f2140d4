r"""Chunks of actions, executed: as queues, or as ACT's temporal ensemble.

A policy predicts H actions, a_{t} .. a_{t+H-1}, from what it sees at t. *Receding horizon*: the first E of
them are executed, one a step, before the policy is asked again. *Temporal ensemble*: it is asked at every
step, and the action of step t is the mean of all predictions made for it,

  a_t = \sum_i w_i a_t^{(i)} / \sum_i w_i,    w_i = exp(-m i),    i = 0 for the oldest prediction,

so m above 0 trusts the past more (ACT: m = 0.01).

Reference: Zhao et al. 2023, Learning Fine-Grained Bimanual Manipulation, arXiv:2304.13705, section IV-B.
"""

from collections.abc import Callable

import numpy as np

from ch3_jax.errors import InputError

Decide = Callable[[np.ndarray], np.ndarray]


def queue(decide: Decide, execute: int, horizon: int) -> Decide:
    """The next action of every world, from chunks of which `execute` actions are used.

    Args:
      decide: observations (B, W, S) -> chunks (B, H, A); asked once for all worlds.
      execute: E, at most H.
      horizon: H.

    Returns:
      observations -> actions (B, A); it remembers, so one episode needs one of its own.

    Raises:
      InputError: E beyond the horizon.

    >>> act = queue(lambda seen: np.arange(4.0).reshape(1, 4, 1) + 10 * seen[:, :1], 2, 4)
    >>> [float(act(np.full((1, 1, 1), t))[0, 0]) for t in range(4)]
    [0.0, 1.0, 20.0, 21.0]
    """
    require_within(execute, horizon)
    left: list[np.ndarray] = []

    def act(observation: np.ndarray) -> np.ndarray:
        if not left:
            left.extend(np.moveaxis(decide(observation), 1, 0)[:execute])
        return left.pop(0)

    return act


def temporal_ensemble(decide: Decide, rate: float = 0.01) -> Decide:
    """The weighted mean of all predictions for this step.

    Args:
      decide: as for `queue`; asked at every step.
      rate: m.

    Returns:
      As `queue`.

    >>> act = temporal_ensemble(lambda seen: np.arange(2.0).reshape(1, 2, 1) + 10 * seen[:, :1], 0.0)
    >>> [float(act(np.full((1, 1, 1), t))[0, 0]) for t in range(3)]
    [0.0, 5.5, 15.5]
    """
    chunks: list[np.ndarray] = []

    def act(observation: np.ndarray) -> np.ndarray:
        chunks.append(decide(observation))
        del chunks[: -chunks[-1].shape[1]]  # older ones say nothing of this step
        ages = range(len(chunks) - 1, -1, -1)
        told = np.stack([chunk[:, age] for chunk, age in zip(chunks, ages, strict=True)])
        weights = np.exp(-rate * np.arange(len(told)))
        return np.tensordot(weights / weights.sum(), told, 1)

    return act


def require_within(execute: int, horizon: int) -> None:
    """Refuses to execute more of a chunk than there is."""
    if not 1 <= execute <= horizon:
        raise InputError(
            f"{execute} actions of a chunk cannot be executed",
            got=f"execute {execute}, horizon {horizon}",
            expected=f"1 to {horizon}",
            cause="a run that was trained with a shorter --horizon",
            fix=f"--execute={max(horizon // 2, 1)}",
        )
