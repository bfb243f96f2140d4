"""What a reinforcement run has become, and the rule that keeps the last good of it.

The six lines' own state, the environments as they stand, the moments by which observations and rewards are
scaled: all of it goes into a checkpoint, so a resumed run is the same run. An iteration in which anything was
not finite (a reward, an observation, a loss, a gradient) gives back the state that it was handed, its step
unchanged.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ch3_jax.base import Array, Key, Metrics, Params, PyTree
from ch3_jax.environments.environment import Environment
from ch3_jax.reinforcement import moments
from ch3_jax.reinforcement.agent import Agent
from ch3_jax.reinforcement.rollout import Lanes, Rollout, start
from ch3_jax.reinforcement.settings import Settings
from ch3_jax.training.update import TrainState, init_state


class LearnerState(NamedTuple):
    """All that an iteration changes.

    Attributes:
      step: () int32, iterations made so far.
      train: parameters and optimizer; its own step counts updates.
      lanes: the environments.
      observations: moments (S,), returns: moments ().
      memory: what an algorithm keeps beside these (sac's buffer, the data of awr and iql), or ().
    """

    step: Array
    train: TrainState
    lanes: Lanes
    observations: moments.Moments
    returns: moments.Moments
    memory: PyTree = ()

    @property
    def params(self) -> Params:
        """Of actor and critic."""
        return self.train.params

    @property
    def skipped(self) -> Array:
        """() int32, as in `TrainState`; an iteration is never skipped."""
        return self.train.skipped


Iteration = Callable[[LearnerState], tuple[LearnerState, Metrics]]


def begin(
    environment: Environment,
    agent: Agent,
    optimizer: optax.GradientTransformation,
    settings: Settings,
    key: Key,
    *,
    actor: Params | None = None,
    ema: bool = False,
) -> LearnerState:
    """The state before the first iteration; inside `jax.jit`, so that no two leaves share a buffer.

    Args:
      environment, agent, optimizer, settings: of the run.
      key: of everything random.
      actor: parameters to start from, of a clone; None for the agent's own start.
      ema: whether an average of the parameters is kept: target critics.
    """
    of_params, of_lanes, of_run = jax.random.split(key, 3)
    params = agent.init(of_params)
    if actor is not None:
        params = {**params, "actor": actor}
    lanes = start(environment, of_lanes, settings.envs)
    shape = jax.eval_shape(jax.vmap(environment.observe), lanes.state).shape[1:]
    return LearnerState(
        jnp.zeros((), jnp.int32),
        init_state(params, optimizer, of_run, ema=ema),
        lanes,
        moments.start(shape),
        moments.start(),
    )


def looks(agent: Agent, observations: moments.Moments) -> Callable[[Array], Array]:
    """Raw observations as an agent is shown them: by its own way, or by the run's moments."""
    return agent.see or (lambda raw: moments.standardise(observations, raw))


def key_of(state: LearnerState) -> Key:
    """The key of the iteration that begins at `state`; updates fold their own from the same run key."""
    return jax.random.fold_in(jax.random.fold_in(state.train.key, 1), state.step)


def reward_scale(settings: Settings, returns: moments.Moments) -> Array:
    """() what rewards are divided by: the deviation of the discounted return, or 1."""
    return jnp.sqrt(returns.variance + 1e-8) if settings.normalize_reward else jnp.float32(1)


def all_finite(data: Rollout) -> Array:
    """() bool, of rewards and of the states reached."""
    return jnp.isfinite(data.reward).all() & jnp.isfinite(data.reached).all()


def or_before(finite: Array, after: PyTree, before: PyTree) -> PyTree:
    """`after` where all was finite, else `before`, leaf by leaf."""
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, before)
