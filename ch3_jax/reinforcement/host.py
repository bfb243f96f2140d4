"""Worlds that are no pure functions: a Gymnasium vector environment drives, its rollouts go to `learn`.

  driver = Driver(gymnasium.make_vec("Hopper-v5", 8, vectorization_mode="async",
                                     vector_kwargs={"autoreset_mode": "SameStep"}))
  state = begin(driver.facts, agent, ...)
  lanes, data = driver.rollout(agent, state, settings)
  state, metrics = learn(state, lanes, data)         # `learner.make_learn`, compiled

The vector environment must begin anew within the same step and hand out the observation that was reached
(`final_obs`): in Gymnasium's default mode the step after an end is a reset whose action is ignored, and a
learner that does not know would learn from it. What a simulator holds cannot be saved: a resumed run begins
new episodes, and is no bit-exact continuation.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array, Key
from ch3_jax.environments.environment import Environment, Outcome
from ch3_jax.errors import InputError
from ch3_jax.reinforcement.agent import Agent
from ch3_jax.reinforcement.rollout import Lanes, Rollout
from ch3_jax.reinforcement.settings import Settings
from ch3_jax.reinforcement.state import LearnerState, key_of, looks


class Driver:
    """N environments of a Gymnasium vector environment.

    Args:
      vector: has `num_envs`, `single_observation_space`, `single_action_space`, `reset(seed=)`,
        `step(actions)` and `metadata["autoreset_mode"]`.
      name: for people.
      steps: the time limit, for people too: the environment keeps it itself.
      seed: of its first episodes.

    Raises:
      InputError: spaces that cannot be learned in, another mode of beginning anew.
    """

    def __init__(self, vector: Any, *, name: str = "gymnasium", steps: int = 1000, seed: int = 0):
        self.facts = _facts(vector, name, steps)
        self._vector, self._name = vector, name
        self._seen = self._checked(vector.reset(seed=seed)[0])
        count = int(vector.num_envs)
        self._total, self._discounted = np.zeros(count), np.zeros(count)
        self._length = np.zeros(count, np.int64)
        self._act: Any = None

    def rollout(self, agent: Agent, state: LearnerState, settings: Settings) -> tuple[Lanes, Rollout]:
        """T steps with the parameters of `state`.

        Args:
          agent: who drives.
          state: whose parameters and moments.
          settings: T and the discount.

        Returns:
          Lanes (their states are empty) and what happened, on the host.

        Raises:
          InputError: an observation of another shape than the environment says.
        """
        if self._act is None:
            self._act = jax.jit(
                lambda params, moments, seen, noise: agent.act(params, looks(agent, moments)(seen), noise)
            )
        count = len(self._total)
        if settings.envs != count:
            raise InputError(
                f"{self._name} was made for another number of environments",
                got=f"{count} in the vector environment, --envs={settings.envs}",
                expected="the same number",
                cause="settings of another run",
                fix=f"--envs={count}",
            )
        # The key of a rollout, as `learner.make_iteration` has it; `learn` folds its own from the same one.
        drawn = agent.draw(jax.random.fold_in(key_of(state), 0), settings.rollout, count)
        noise = jax.tree.map(_on_host, drawn)
        rows = []
        for t in range(settings.rollout):
            given = jax.tree.map(lambda x, t=t: x[t], noise)
            acted = self._act(state.params, state.observations, self._seen, given)
            rows.append(self._step(acted, settings.gamma))
        data = jax.tree.map(lambda *x: np.stack(x), *rows)
        lanes = Lanes(
            state.lanes.state,
            jnp.asarray(self._total, jnp.float32),
            jnp.asarray(self._discounted, jnp.float32),
            jnp.asarray(self._length, jnp.int32),
        )
        return lanes, jax.tree.map(jnp.asarray, data)

    def _step(self, acted, gamma: float) -> Rollout:
        action = np.asarray(acted.action)
        given = action[:, 0].astype(np.int64) if self.facts.choices else action
        before = self._seen
        seen, reward, died, late, info = self._vector.step(given)
        seen, reward = self._checked(seen), np.asarray(reward, np.float32)
        died, late = np.asarray(died, bool), np.asarray(late, bool)
        over, reached = died | late, seen.copy()
        for i in np.flatnonzero(over):
            reached[i] = self._final(info, i)
        self._total, self._length = self._total + reward, self._length + 1
        self._discounted = self._discounted * gamma + reward
        row = Rollout(
            observation=before,
            reached=reached,
            record=jax.tree.map(np.asarray, acted.record),
            log_prob=np.asarray(acted.log_prob),
            action=action,
            reward=reward,
            terminated=died,
            truncated=late & ~died,
            discounted=self._discounted.astype(np.float32),
            total=self._total.astype(np.float32),
            length=self._length.astype(np.int32),
            success=np.full(len(reward), np.nan, np.float32),
        )
        for tally in (self._total, self._discounted, self._length):
            tally[over] = 0
        self._seen = seen
        return row

    def _final(self, info: dict, i: int) -> np.ndarray:
        final = np.ravel(info["final_obs"][i]) if "final_obs" in info else np.zeros(0)
        if final.shape != self._seen[i].shape:
            raise InputError(
                f"{self._name} does not say what an episode ended with",
                got=f"{final.size} numbers in info['final_obs']",
                expected=f"{self._seen[i].size}: the observation that was reached",
                cause="a wrapper that begins anew by itself",
                fix="AutoresetMode.SAME_STEP, and no such wrapper",
            )
        return final

    def _checked(self, observation: Any) -> np.ndarray:
        seen = np.array(observation, np.float32)  # A copy: a vector environment may write over its own.
        wanted = (int(self._vector.num_envs), *self._vector.single_observation_space.shape)
        if seen.shape != wanted:
            raise InputError(
                f"{self._name} observes another shape than it says",
                got=str(seen.shape),
                expected=str(wanted),
                cause="a wrapper that changes observations and not their space",
                fix="let the wrapper change single_observation_space too",
            )
        return seen.reshape(len(seen), -1)


def _on_host(x: Array) -> Any:
    """Numbers as NumPy: taking a row of a device's array costs as much as a step of a policy. Keys stay."""
    return x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else np.asarray(x)


def _facts(vector: Any, name: str, steps: int) -> Environment:
    """What agents and learners ask of an environment; it cannot be driven."""
    mode = getattr(vector, "metadata", {}).get("autoreset_mode")
    if "samestep" not in str(getattr(mode, "value", mode)).lower().replace("_", ""):
        raise InputError(
            f"{name} does not begin anew within the step that ended an episode",
            got=f"autoreset_mode={mode}",
            expected="SameStep, with the observation that was reached in info['final_obs']",
            cause="Gymnasium's default: the step after an end is a reset whose action is ignored",
            fix="gymnasium.make_vec(..., vector_kwargs={'autoreset_mode': AutoresetMode.SAME_STEP})",
        )
    space, seen = vector.single_action_space, vector.single_observation_space
    choices, shape = getattr(space, "n", None), tuple(getattr(space, "shape", None) or ())
    one_of = choices is not None and shape == () and getattr(space, "start", 0) == 0
    low, high = getattr(space, "low", None), getattr(space, "high", None)
    if one_of:
        low, high = np.zeros(1), np.full(1, choices - 1.0)
    if not getattr(seen, "shape", None) or not (one_of or (len(shape) == 1 and low is not None)):
        raise InputError(
            f"{name} cannot be learned in",
            got=f"observations {seen}, actions {space}",
            expected="arrays of numbers, and actions that are one vector or one choice from 0 on",
            cause="a dictionary, a tuple, several choices at once, or choices that begin elsewhere",
            fix="gymnasium.wrappers.FlattenObservation",
        )
    size = int(np.prod(seen.shape))

    def nowhere(state: Array, action: Array, key: Key) -> tuple[Array, Outcome]:
        del action, key
        return state, Outcome(jnp.float32(0), jnp.asarray(False), jnp.asarray(False))

    return Environment(
        name=name,
        reset=lambda key: jnp.zeros(size, jnp.float32),
        step=nowhere,
        observe=lambda state: state,
        low=np.asarray(low, np.float32),
        high=np.asarray(high, np.float32),
        steps=steps,
        choices=int(choices) if one_of else None,
    )
