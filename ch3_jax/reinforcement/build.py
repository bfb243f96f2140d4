"""From the name of an algorithm to all that a run needs of it."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import optax

from ch3_jax.base import Key, Params
from ch3_jax.environments.environment import Environment, sizes
from ch3_jax.reinforcement import learner, offline, sac
from ch3_jax.reinforcement.agent import Agent, scratch
from ch3_jax.reinforcement.settings import OFF_POLICY, ON_POLICY, Settings, require
from ch3_jax.reinforcement.state import Iteration, LearnerState, begin


class Learner(NamedTuple):
    """An algorithm in its environment.

    Attributes:
      agent: actor and critic.
      start: key -> state before the first iteration, compiled.
      iteration: state -> (state, metrics), not compiled.
      env_steps: of an iteration; 0 where nothing is driven.
      updates: of the parameters, in an iteration.
    """

    agent: Agent
    start: Callable[[Key], LearnerState]
    iteration: Iteration
    env_steps: int
    updates: int


def build(
    environment: Environment,
    settings: Settings,
    optimizer: optax.GradientTransformation,
    *,
    width: int = 64,
    agent: Agent | None = None,
    actor: Params | None = None,
    noise: float = 1.0,
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

    Raises:
      InputError: numbers or an environment that cannot be used.
    """
    require(settings)
    sizes(environment)
    name = settings.algorithm
    if name in ON_POLICY:
        agent = agent or scratch(environment, width=width)
        leash = {"actor": actor} if actor is not None and settings.kl_cost else None
        return Learner(
            agent,
            jax.jit(lambda key: begin(environment, agent, optimizer, settings, key, actor=actor)),
            learner.make_iteration(environment, agent, optimizer, settings, reference=leash),
            settings.envs * settings.rollout,
            settings.update_epochs * settings.minibatches,
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
