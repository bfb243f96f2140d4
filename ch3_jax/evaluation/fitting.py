"""Whether a run and a task speak of the same numbers, and the order in which they name them.

Dimensions that both name are matched by name, so that a data set with its columns in another order is driven
rightly. Where a reader had no names to give (`state_0`, `action_1`), order is all there is.
"""

import re
from typing import NamedTuple

import numpy as np

from ch3_jax.errors import InputError
from ch3_jax.evaluation.simulators.task import Task

_NAMELESS = re.compile(r"(state|obs|observation|proprio|action)(_\d+)?")


class Orders(NamedTuple):
    """Index arrays between a task and a run.

    Attributes:
      observation: (S,) run's observation = task's observation[observation].
      action: (A,) task's action = run's action[action].
    """

    observation: np.ndarray
    action: np.ndarray


def orders(observation: tuple[str, ...], action: tuple[str, ...], task: Task) -> Orders:
    """The orders, or a refusal that names both sides.

    Args:
      observation, action: names of the run's dimensions.
      task: to be driven.

    Raises:
      InputError: another number of dimensions, or other names.
    """
    return Orders(
        _order("observation", observation, task.observation_names, task),
        np.argsort(_order("action", action, task.action_names, task)),
    )


def _order(kind: str, run: tuple[str, ...], task_names: tuple[str, ...], task: Task) -> np.ndarray:
    nameless = all(_NAMELESS.fullmatch(name) for name in run)
    if len(run) == len(task_names) and nameless:
        return np.arange(len(run))
    if sorted(run) == sorted(task_names):
        return np.array([task_names.index(name) for name in run])
    raise InputError(
        f"the run's {kind} is not that of {task.name}",
        got=f"{len(run)} dimensions in the run: {_few(run)}",
        expected=f"{len(task_names)} in {task.name}: {_few(task_names)}",
        cause="a run that was trained on another robot's data",
        fix=f"train on data of {task.name}, or give the --env that the data comes from",
    )


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
