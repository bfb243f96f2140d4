"""What driving needs to know of a task, whichever simulator it lives in.

A `World` is one environment with the simulator's habits taken away: it is seeded by a number that is
honoured, says after each step how well the task is done so far, and ends at its own time limit. A `Task` says
what its numbers are called and how fast they must come, and makes worlds.
"""

import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ch3_jax.data.episodes import Dataset
from ch3_jax.errors import InputError

INSTALL = "pip install -r third_party/requirements-simulators.txt"


class Seen(NamedTuple):
    """What one step of a world shows.

    Attributes:
      observation: (S,) float64, in the units of the task.
      reward: the simulator's own.
      score: in [0, 1], how well the task is done now.
      success: whether it is done now; some simulators switch this off again.
      terminated: the task's own end.
      truncated: the time limit.
      extra: name -> number or vector of this moment, such as the flange's position.
    """

    observation: np.ndarray
    reward: float
    score: float
    success: bool
    terminated: bool
    truncated: bool
    extra: dict[str, Any]


class World(NamedTuple):
    """One environment.

    Attributes:
      reset: seed -> (observation (S,), extra as in `Seen`); one seed is one start.
      step: action (A,) -> `Seen`.
      draw: () -> (height, width, 3) uint8.
      close: () -> None.
      reset_to: state of the data -> observation, or None where a state does not say everything.
    """

    reset: Callable[[int], tuple[np.ndarray, dict[str, Any]]]
    step: Callable[[np.ndarray], Seen]
    draw: Callable[[], np.ndarray]
    close: Callable[[], None]
    reset_to: Callable[[np.ndarray], np.ndarray] | None = None


class Task(NamedTuple):
    """A task by its facts.

    Attributes:
      name: as on the command line, "pusht".
      packages: modules that must be there.
      observation_names, action_names: S and A names.
      observation_units, action_units: their units.
      action_meaning: in words.
      rate_hz: control rate.
      steps: time limit.
      bounds: (low (A,), high (A,)) that actions are clipped to, or None where they are not.
      held: whether success counts at the end of the time; otherwise at any step of it.
      score: what the score is, in words.
      make: () -> `World`; importable by name, so that other processes can make one.
      parallel: how many worlds at once by default.
      many: number of worlds -> all of them as one vector environment in this process, or None.
      demonstrate: (episodes, seed) -> (data of successful experts, episodes tried), or None.
    """

    name: str
    packages: tuple[str, ...]
    observation_names: tuple[str, ...]
    action_names: tuple[str, ...]
    observation_units: tuple[str, ...]
    action_units: tuple[str, ...]
    action_meaning: str
    rate_hz: float
    steps: int
    bounds: tuple[tuple[float, ...], tuple[float, ...]] | None
    held: bool
    score: str
    make: Callable[[], World]
    parallel: int = 50
    many: Callable[[int], Any] | None = None
    demonstrate: Callable[[int, int], tuple[Dataset, int]] | None = None


def require(task: Task) -> None:
    """Refuses, before anything is started, a task whose simulator is not installed.

    Raises:
      InputError: with the one command that installs it.
    """
    missing = [name for name in task.packages if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"the simulator of {task.name} is not installed",
            got=f"no module {', '.join(missing)}",
            expected=", ".join(task.packages),
            cause="simulators are no part of the project's own requirements",
            fix=INSTALL,
        )
