"""The loop around the step: advance, report, validate, save, stop.

The device always has the next dispatch before the host looks at the numbers of the last one, so that
writing a row of metrics costs the training nothing. Validation and saving are tied to step numbers
and never to the clock: a run that was killed and resumed passes the same points with the same bits.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from ch3_jax.base import Metrics
from ch3_jax.training.update import TrainState


class Plan(NamedTuple):
    """When things happen, in steps.

    Attributes:
      steps: length of the run.
      every: steps per dispatch and per row of metrics.
      save_every: steps between validations and checkpoints, a multiple of `every`.
    """

    steps: int
    every: int
    save_every: int


class Hooks(NamedTuple):
    """What the loop calls.

    Attributes:
      log: (step, metrics on the host) after each dispatch.
      validate: (state) -> validation metrics.
      save: (state, validation metrics or None).
      stop: () -> True when the run has been asked to end.
    """

    log: Callable[[int, Metrics], None]
    validate: Callable[[TrainState], Metrics]
    save: Callable[[TrainState, Metrics | None], None]
    stop: Callable[[], bool]


class Outcome(NamedTuple):
    """How a run ended: "finished", "interrupted", or "non_finite" with `state` the last good one."""

    state: TrainState
    status: str


def fit(
    state: TrainState,
    advance: Callable[[TrainState, int], tuple[TrainState, Metrics]],
    plan: Plan,
    hooks: Hooks,
    *,
    skip_nonfinite: bool = False,
) -> Outcome:
    """Trains from `state.step` to `plan.steps`.

    Args:
      state: start, or a restored checkpoint.
      advance: (state, length) -> (state, metrics), see `training.dispatch`; owns the state it is given.
      plan: when to report, validate and save.
      hooks: what to call then.
      skip_nonfinite: True where `advance` skips non-finite steps instead of freezing.

    Returns:
      An `Outcome`; its state is saved already.
    """
    step, pending = int(state.step), None

    def reported() -> bool:
        """Hands the pending metrics to the log; False if the run froze in them."""
        if pending is None:
            return True
        at, metrics = pending[0], jax.tree.map(np.asarray, pending[1])
        good = np.isfinite(metrics["losses"]) & np.isfinite(metrics["norms"])
        if not good.all() and not skip_nonfinite:
            return False
        hooks.log(at, {**metrics, "good": good})
        return True

    while step < plan.steps:
        length = min(plan.every - step % plan.every, plan.steps - step)
        state, metrics = advance(state, length)
        step += length
        alive = reported()
        pending = (step, metrics)
        stop, due = hooks.stop(), step % plan.save_every == 0 or step == plan.steps
        if alive and (stop or due):
            alive, pending = reported(), None
        if not alive:
            hooks.save(state, None)
            return Outcome(state, "non_finite")
        if stop or due:
            hooks.save(state, hooks.validate(state) if due else None)
        if stop and step < plan.steps:
            return Outcome(state, "interrupted")
    return Outcome(state, "finished")
