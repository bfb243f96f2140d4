"""What was not finite, where an iteration gave its state back."""

import jax
import numpy as np

from ch3_jax.environments.environment import Environment
from ch3_jax.reinforcement.agent import Agent
from ch3_jax.reinforcement.rollout import rollout
from ch3_jax.reinforcement.settings import OFFLINE, Settings
from ch3_jax.reinforcement.state import LearnerState, key_of, looks


def explain(environment: Environment, agent: Agent, settings: Settings, state: LearnerState) -> str:
    """One sentence on what was not finite first: parameters, an observation, a reward, or the loss.

    The environments are driven once more from where they stand, so a world that fails only now and then may
    fail elsewhere in it; where it does not fail again the sentence says so.

    Args:
      environment, agent, settings: of the run.
      state: the last good one.
    """
    for path, leaf in jax.tree.leaves_with_path(state.params):
        if not np.isfinite(np.asarray(leaf)).all():
            return f"the parameter {jax.tree_util.keystr(path)} was not finite before the iteration"
    if settings.algorithm in OFFLINE:
        data = state.memory
    else:
        _, data = jax.jit(
            lambda s: rollout(
                environment,
                agent,
                s.params,
                looks(agent, s.observations),
                s.lanes,
                jax.random.split(jax.random.fold_in(key_of(s), 0))[0],
                settings.rollout,
                settings.gamma,
            )
        )(state)
    for name, values in (("observation", data.observation), ("reward", data.reward), ("state", data.reached)):
        bad = np.argwhere(~np.isfinite(np.asarray(values)))
        if len(bad):
            t, n = bad[0][:2]
            action = np.array2string(np.asarray(data.action[t, n]), precision=3, threshold=8)
            what = f"{name}[{bad[0][2]}]" if len(bad[0]) > 2 else name
            value = np.asarray(values)[tuple(bad[0])]
            return (
                f"{environment.name} gave the {what} {value} in step {t} of the rollout, environment {n}, "
                f"after the action {action}"
            )
    return (
        "rewards and observations are finite: the loss or a gradient was not; try a tenth of --learning_rate"
    )
