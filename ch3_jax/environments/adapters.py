"""Other people's environments as ours: gymnax, and Brax or MuJoCo Playground.

| theirs | terminated | truncated |
| --- | --- | --- |
| gymnax `step_env` | done before the time limit | the limit of its parameters |
| Brax, Playground `step` | `done` of the bare environment | our own clock |

gymnax says `done` for both ends, so an episode that truly ends in the very last step counts as truncated.
Wrap nothing: an environment that resets itself hides the state that was reached, which has a value.

Reference: Lange 2022, gymnax; Freeman et al. 2021, arXiv:2106.13281 (Brax).
"""

import importlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array, Key, PyTree
from ch3_jax.environments.environment import Environment, Outcome
from ch3_jax.errors import InputError


class Seen(NamedTuple):
    """Their state, what is observed in it (...), and () int32 steps taken."""

    theirs: PyTree
    observation: Array
    t: Array


def gymnax(name: str) -> Environment:
    """An environment of the gymnax package, with its default parameters.

    Raises:
      InputError: gymnax is not installed, or has no such environment; what `from_gymnax` refuses.
    """
    package = _package("gymnax", name)
    try:
        env, params = package.make(name)
    except (ValueError, KeyError) as error:
        raise _unknown(name, "gymnax", error, "CartPole-v1, Pendulum-v1, ...") from error
    return from_gymnax(env, params, name=f"gymnax:{name}")


def from_gymnax(env: Any, params: Any, *, name: str = "gymnax") -> Environment:
    """A gymnax-style environment.

    Args:
      env: has `reset(key, params)`, `step_env(key, state, action, params)`, `action_space(params)`.
      params: its parameters, with `max_steps_in_episode`.
      name: for people.

    Raises:
      InputError: an action space that is neither choices nor a box with finite ends, no time limit.
    """
    limit = int(getattr(params, "max_steps_in_episode", 0))
    if limit < 1:
        raise InputError(
            f"{name} has no time limit",
            got=f"max_steps_in_episode={limit}",
            expected="a limit of one step or more",
            cause="parameters of another version",
            fix="params.replace(max_steps_in_episode=500)",
        )
    space = env.action_space(params)
    choices = getattr(space, "n", None)
    low, high = _bounds(name, space) if choices is None else (np.zeros(1), np.full(1, choices - 1.0))
    shape = () if choices is not None else tuple(space.shape)

    def see(theirs: PyTree, observation: Array, t: Array) -> Seen:
        return Seen(theirs, jnp.ravel(observation).astype(jnp.float32), t)

    def reset(key: Key) -> Seen:
        observation, theirs = env.reset(key, params)
        return see(theirs, observation, jnp.zeros((), jnp.int32))

    def step(state: Seen, action: Array, key: Key) -> tuple[Seen, Outcome]:
        given = action[0].astype(jnp.int32) if choices is not None else jnp.reshape(action, shape)
        observation, theirs, reward, done, _ = env.step_env(key, state.theirs, given, params)
        late = state.t + 1 >= limit
        outcome = Outcome(jnp.float32(reward), jnp.asarray(done, bool) & ~late, late)
        kept = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), theirs, state.theirs)
        return see(kept, observation, state.t + 1), outcome

    return Environment(
        name=name,
        reset=reset,
        step=step,
        observe=lambda state: state.observation,
        low=np.asarray(low, np.float32),
        high=np.asarray(high, np.float32),
        steps=limit,
        choices=choices,
    )


def brax(name: str, *, steps: int = 1000, backend: str = "generalized") -> Environment:
    """An environment of the brax package.

    Args:
      name: "reacher", "hopper", ...
      steps: the time limit.
      backend: of the physics.

    Raises:
      InputError: brax is not installed, or has no such environment.
    """
    envs = _package("brax.envs", name)
    try:
        env = envs.get_environment(name, backend=backend)
    except (KeyError, ValueError) as error:
        raise _unknown(name, "brax", error, "reacher, hopper, ...") from error
    return from_brax(env, steps=steps, name=f"brax:{name}")


def from_brax(env: Any, *, steps: int = 1000, name: str = "brax") -> Environment:
    """A bare Brax-style environment: also those of MuJoCo Playground.

    Args:
      env: has `reset(key)`, `step(state, action)` and `action_size`; its state has `obs`, `reward`, `done`.
        Actions are in [-1, 1].
      steps: the time limit.
      name: for people.

    Raises:
      InputError: an observation that is a dictionary.
    """

    def see(theirs: PyTree, t: Array) -> Seen:
        if not hasattr(theirs.obs, "shape"):
            raise InputError(
                f"{name} observes a dictionary",
                got=", ".join(map(str, theirs.obs)),
                expected="one vector",
                cause="an environment with an observation for the critic beside the actor's",
                fix="wrap it so that `obs` is the one that the policy is to see",
            )
        return Seen(theirs, jnp.ravel(theirs.obs).astype(jnp.float32), t)

    def reset(key: Key) -> Seen:
        return see(env.reset(key), jnp.zeros((), jnp.int32))

    def step(state: Seen, action: Array, key: Key) -> tuple[Seen, Outcome]:
        del key
        theirs = env.step(state.theirs, action)
        t = state.t + 1
        died = theirs.done > 0
        return see(theirs, t), Outcome(jnp.float32(theirs.reward), died, (t >= steps) & ~died)

    one = np.ones(int(env.action_size), np.float32)
    return Environment(
        name=name,
        reset=reset,
        step=step,
        observe=lambda state: state.observation,
        low=-one,
        high=one,
        steps=steps,
        starts_again=True,
    )


def _bounds(name: str, space: Any) -> tuple[np.ndarray, np.ndarray]:
    low, high = (
        np.broadcast_to(np.asarray(x, np.float64), space.shape).ravel() for x in (space.low, space.high)
    )
    if not (np.isfinite(low).all() and np.isfinite(high).all() and len(low)):
        raise InputError(
            f"the actions of {name} have no bounds",
            got=f"{low} to {high}",
            expected="finite ends of every number",
            cause="an environment that leaves the scale of actions to the policy",
            fix="wrap it with the bounds that its actuators have",
        )
    return low, high


def _package(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise InputError(
            f"{package}:{name} needs the package {package}",
            got=error,
            expected=f"an installed {package}",
            cause="it is no requirement of this project",
            fix=f"pip install {package}",
        ) from error


def _unknown(name: str, package: str, error: Exception, known: str) -> InputError:
    return InputError(
        f"{package} has no environment {name!r}",
        got=name,
        expected=known,
        cause=str(error)[:120] or "a misspelt name",
        fix="correct the name",
    )
