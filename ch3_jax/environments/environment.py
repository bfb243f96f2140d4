"""What a reinforcement learner needs of a world: four pure functions and the bounds of an action.

  state             = reset(key)
  state, outcome    = step(state, action, key)
  observation       = observe(state)
  done              = success(state)          the task itself, whatever the reward says

An environment is one robot; `jax.vmap` makes a thousand. The two ways in which an episode ends stay apart:
*terminated* (nothing comes after) and *truncated* (a time limit: the state reached still has a value).
Success is judged beside the reward and never by it, so that a reward that is not about the task can be seen.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array, Key, PyTree
from ch3_jax.errors import InputError


class Outcome(NamedTuple):
    """What a step led to, beside the state.

    Attributes:
      reward: () float32.
      terminated: () bool, the episode is over and nothing comes after.
      truncated: () bool, the time is up while the task went on.
    """

    reward: Array
    terminated: Array
    truncated: Array


class Environment(NamedTuple):
    """One robot and its task, as pure functions.

    Attributes:
      name: for people.
      reset: key -> state.
      step: (state, action (A,), key) -> (state, `Outcome`); the action inside its bounds.
      observe: state -> (S,) float32.
      low, high: (A,) float32, the bounds of an action in its own units.
      steps: the time limit, in steps.
      shortest: no episode ends in fewer steps; lets a rollout draw fewer new starts.
      success: state -> () bool, judged on the last state of an episode; None where there is no such thing.
      choices: K where the action is one of K numbers 0 .. K-1 (A is 1), None where it is continuous.
      expert: (state) -> action, a demonstrator, or None.
      starts_again: a reset costs much, so a start may come twice in one rollout.
    """

    name: str
    reset: Callable[[Key], PyTree]
    step: Callable[[PyTree, Array, Key], tuple[PyTree, Outcome]]
    observe: Callable[[PyTree], Array]
    low: np.ndarray
    high: np.ndarray
    steps: int
    shortest: int = 1
    success: Callable[[PyTree], Array] | None = None
    choices: int | None = None
    expert: Callable[[PyTree], Array] | None = None
    starts_again: bool = False


class Sizes(NamedTuple):
    """The sizes of an environment: S numbers observed, A numbers of an action."""

    state: int
    action: int


def sizes(environment: Environment) -> Sizes:
    """S and A, checked once by tracing a reset and a step; nothing is computed.

    Args:
      environment: to be looked at.

    Raises:
      InputError: an observation that is no vector of floats, a reward or an end that is no single number, a
        state that changes its shapes in a step, bounds that are none, a time limit below one step.
    """
    key = jax.random.key(0)
    state = jax.eval_shape(environment.reset, key)
    seen = jax.eval_shape(environment.observe, state)
    low, high = np.asarray(environment.low), np.asarray(environment.high)
    if len(seen.shape) != 1 or not jnp.issubdtype(seen.dtype, jnp.floating):
        raise _unfit(
            environment,
            f"an observation of shape {seen.shape}, {seen.dtype}",
            "(S,) floating point",
            "flatten it",
        )
    if (
        low.ndim != 1
        or low.shape != high.shape
        or not (low < high).all()
        or not np.isfinite([low, high]).all()
    ):
        raise _unfit(environment, f"bounds {low} and {high}", "finite (A,) with low < high", "give both ends")
    if environment.steps < 1 or not 1 <= environment.shortest <= environment.steps:
        raise _unfit(
            environment,
            f"a time limit of {environment.steps} steps, shortest episode {environment.shortest}",
            "1 <= shortest <= steps",
            "an episode has at least one step",
        )
    after, outcome = jax.eval_shape(
        environment.step, state, jax.ShapeDtypeStruct(low.shape, jnp.float32), key
    )
    for name, value in outcome._asdict().items():
        if value.shape != ():
            raise _unfit(environment, f"a {name} of shape {value.shape}", "one number per step", "reduce it")
    before, behind = (jax.tree.map(lambda x: (x.shape, x.dtype), tree) for tree in (state, after))
    if before != behind:
        raise _unfit(
            environment, "a step that changes the state's shapes", f"{before}"[:200], "keep shapes and types"
        )
    return Sizes(seen.shape[0], len(low))


def require_inside(environment: Environment, action: np.ndarray) -> None:
    """Refuses actions outside of their bounds, at the door where people hand them in.

    Args:
      environment: whose bounds count.
      action: (..., A) in the environment's units.

    Raises:
      InputError: names the dimension, the value and its bounds; also for NaN.
    """
    action = np.asarray(action)
    good = (action >= environment.low) & (action <= environment.high)
    if good.all():
        return
    where = tuple(int(i) for i in np.argwhere(~good)[0])
    a = where[-1]
    raise InputError(
        f"an action lies outside of the bounds of {environment.name}",
        got=f"{action[where]} in dimension {a}",
        expected=f"[{environment.low[a]:.4g}, {environment.high[a]:.4g}]",
        cause="normalised actions that were not taken back to physical units, or a policy that diverged",
        fix="denormalise, then clip to the bounds",
    )


def _unfit(environment: Environment, got: str, expected: str, fix: str) -> InputError:
    return InputError(
        f"{environment.name} is no environment that can be learned in",
        got=got,
        expected=expected,
        cause="an adapter that hands out another shape than it says",
        fix=fix,
    )
