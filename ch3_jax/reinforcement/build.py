"""From the name of an algorithm to all that a run needs of it."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import optax

from ch3_jax.base import Key, Params
from ch3_jax.environments.environment import Environment, sizes
from ch3_jax.errors import InputError
from ch3_jax.reinforcement import learner, offline, sac
from ch3_jax.reinforcement.agent import Agent, scratch
from ch3_jax.reinforcement.settings import OFF_POLICY, ON_POLICY, Settings, require
from ch3_jax.reinforcement.spread import AXIS, Spread
from ch3_jax.reinforcement.state import Iteration, LearnerState, begin


class Learner(NamedTuple):
    """An algorithm in its environment.

    Attributes:
      agent: actor and critic.
      start: key -> state before the first iteration, compiled.
      iteration: state -> (state, metrics), not compiled.
      env_steps: of an iteration; 0 where nothing is driven.
      updates: of the parameters, in an iteration.
      place: state, restored from a checkpoint -> the same on the devices that it belongs to.
    """

    agent: Agent
    start: Callable[[Key], LearnerState]
    iteration: Iteration
    env_steps: int
    updates: int
    place: Callable[[LearnerState], LearnerState] = lambda state: state


def build(
    environment: Environment,
    settings: Settings,
    optimizer: optax.GradientTransformation,
    *,
    width: int = 64,
    agent: Agent | None = None,
    actor: Params | None = None,
    noise: float = 1.0,
    devices: int = 1,
) -> Learner:
    """All parts of a run.

    Args:
      environment: to be learned in; checked.
      settings: checked.
      optimizer: of actor and critic.
      width: of the hidden layers of an agent from scratch.
      agent: who learns, for on-policy algorithms; None for one that knows nothing.
      actor: its parameters to start from; they are the other end of the leash too.
      noise: of the recorded demonstrator of awr and iql, see `offline.recording`.
      devices: that the environments of an on-policy algorithm are spread over.

    Raises:
      InputError: numbers or an environment that cannot be used.
    """
    require(settings)
    sizes(environment)
    name = settings.algorithm
    if name in ON_POLICY:
        agent = agent or scratch(environment, width=width)
        leash = {"actor": actor} if actor is not None and settings.kl_cost else None
        make = functools.partial(learner.make_iteration, environment, agent, optimizer, settings)
        start = jax.jit(lambda key: begin(environment, agent, optimizer, settings, key, actor=actor))
        counts = settings.envs * settings.rollout, settings.update_epochs * settings.minibatches
        if devices == 1:
            return Learner(agent, start, make(reference=leash), *counts)
        spread = Spread(settings, start, devices)
        over = spread.over(make(reference=leash, axis=AXIS))
        return Learner(agent, lambda key: spread.place(start(key)), over, *counts, place=spread.place)
    if devices > 1:
        raise InputError(
            f"--loss={name} runs on one device",
            got=f"--devices={devices}",
            expected="1",
            cause="a flag left over from an on-policy run",
            fix="leave --devices out",
        )
    if name in OFF_POLICY:
        agent = sac.soft_agent(environment, width=width)
        return Learner(
            agent,
            jax.jit(lambda key: sac.start(environment, agent, optimizer, settings, key)),
            sac.make_iteration(environment, agent, optimizer, settings),
            settings.envs * settings.rollout,
            settings.updates,
        )
    agent = offline.offline_agent(environment, name, width=width)
    return Learner(
        agent,
        jax.jit(lambda key: offline.start(environment, agent, optimizer, settings, key, noise=noise)),
        offline.make_iteration(environment, agent, optimizer, settings),
        0,
        settings.updates,
    )
