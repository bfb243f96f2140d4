r"""Five environments so small that each can be got wrong by one part of a learner only.

| probe | observation | actions | steps | reward | what fails alone |
| --- | --- | --- | --- | --- | --- |
| value | 0 | any | 1 | 1 | the value's loss, its learning rate |
| observation | -1 or 1 | any | 1 | the observation | the value's gradient, its observation |
| discount | 0, then 1 | any | 2 | 0, then 1 | discounting and bootstrapping: V(0) = gamma V(1) |
| advantage | 0 | two | 1 | 1 for the one, -1 for the other | advantages, the policy's loss and its sign |
| policy | -1 or 1 | two | 1 | observation times action | the policy's observation, rows paired wrongly |

They are meant in this order: a learner that fails one is wrong in what that one adds. `expected` says what
values and actions a right learner ends with.

Reference: Jones 2021, Debugging RL, Without the Agonizing Pain (andyljones.com/posts/rl-debugging.html).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array, Key
from ch3_jax.environments.environment import Environment, Outcome
from ch3_jax.errors import InputError

PROBES = ("value", "observation", "discount", "advantage", "policy")


class State(NamedTuple):
    """() float32 observation, () int32 steps taken, () float32 last action."""

    seen: Array
    t: Array
    last: Array


class Expected(NamedTuple):
    """What a right learner ends with, at each of a few observations.

    Attributes:
      observation: (N, 1).
      value: (N,) for a discount of gamma.
      action: (N,) the better of -1 and 1, 0 where it makes no difference.
    """

    observation: np.ndarray
    value: np.ndarray
    action: np.ndarray


def probe(name: str) -> Environment:
    """A probe of `PROBES`. Actions are one number in [-1, 1], of which the sign counts.

    Raises:
      InputError: an unknown name.

    >>> probe("discount").steps
    2
    """
    _require(name)
    random = name in ("observation", "policy")
    length = 2 if name == "discount" else 1

    def reset(key: Key) -> State:
        sign = jnp.where(jax.random.bernoulli(key), 1.0, -1.0)
        return State(sign if random else jnp.float32(0), jnp.zeros((), jnp.int32), jnp.float32(0))

    def step(state: State, action: Array, key: Key) -> tuple[State, Outcome]:
        del key
        side = jnp.where(action[0] > 0, 1.0, -1.0)
        reward = {
            "value": jnp.float32(1),
            "observation": state.seen,
            "discount": state.seen,
            "advantage": side,
            "policy": side * state.seen,
        }[name]
        t = state.t + 1
        over = t >= length
        seen = state.seen if random else t.astype(jnp.float32) * (name == "discount")
        return State(seen, t, side), Outcome(reward.astype(jnp.float32), over, jnp.asarray(False))

    return Environment(
        name=f"probe:{name}",
        reset=reset,
        step=step,
        observe=lambda state: state.seen[None],
        low=np.array([-1.0], np.float32),
        high=np.array([1.0], np.float32),
        steps=length,
        shortest=length,
        # The better action was the last one; where none is better there is nothing to succeed in.
        success={
            "advantage": lambda state: state.last > 0,
            "policy": lambda state: state.last * state.seen > 0,
        }.get(name),
    )


def expected(name: str, gamma: float) -> Expected:
    """Values and actions of a right learner.

    >>> expected("discount", 0.5).value.tolist()
    [0.5, 1.0]
    """
    _require(name)
    one, both = np.zeros((1, 1), np.float32), np.array([[-1.0], [1.0]], np.float32)
    flat = np.zeros(2)
    return {
        "value": Expected(one, np.ones(1), np.zeros(1)),
        "observation": Expected(both, both[:, 0], flat),
        "discount": Expected(np.array([[0.0], [1.0]], np.float32), np.array([gamma, 1.0]), flat),
        "advantage": Expected(one, np.ones(1), np.ones(1)),
        "policy": Expected(both, np.ones(2), both[:, 0]),
    }[name]


def _require(name: str) -> None:
    if name not in PROBES:
        raise InputError(
            f"there is no probe {name!r}",
            got=name,
            expected=", ".join(PROBES),
            cause="a misspelt name",
            fix="--env=probe:value is the first one",
        )
