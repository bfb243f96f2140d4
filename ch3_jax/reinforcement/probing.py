"""A learner on the five probes: what it learned beside what a right one learns.

The first probe that fails says which part is wrong, see `environments.probes`. `BUGS` holds for each probe
the mistake that it was made for, as a change of an agent or of the settings: the claim can be watched.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.environments import probes
from ch3_jax.environments.environment import Environment
from ch3_jax.errors import InputError
from ch3_jax.reinforcement.agent import Agent, scratch
from ch3_jax.reinforcement.build import build
from ch3_jax.reinforcement.settings import ON_POLICY, Settings
from ch3_jax.reinforcement.state import looks
from ch3_jax.training.optimizers import clipped_adamw

GAMMA = 0.5  # far from 1, so that a forgotten discount shows
TOLERANCE = 0.1  # of a value, whose true size is 1
SETTINGS = Settings(
    envs=64, rollout=8, update_epochs=4, minibatches=4, gamma=GAMMA, gae_lambda=0.95, normalize_reward=False
)
ITERATIONS, _RATE, _WIDTH = 150, 3e-3, 32

Bug = Callable[[Agent, Settings], tuple[Agent, Settings]]


def _backwards(agent: Agent) -> Callable:
    def score(params, seen, record):
        log_prob, entropy = agent.score(params, seen, record)
        return 2 * jax.lax.stop_gradient(log_prob) - log_prob, entropy

    return score


BUGS: dict[str, tuple[str, Bug]] = {
    "value": (
        "the value's loss is left out",
        lambda agent, settings: (agent, settings._replace(value_cost=0.0)),
    ),
    "observation": (
        "the critic is shown zeros",
        lambda agent, settings: (
            agent._replace(value=lambda params, seen: agent.value(params, jnp.zeros_like(seen))),
            settings,
        ),
    ),
    "discount": (
        "the value of the next state is left out",
        lambda agent, settings: (agent, settings._replace(gamma=0.0)),
    ),
    "advantage": (
        "the policy's gradient has the wrong sign",
        lambda agent, settings: (agent._replace(score=_backwards(agent)), settings),
    ),
    "policy": (
        "actions are scored with another row's observation",
        lambda agent, settings: (
            agent._replace(
                score=lambda params, seen, record: agent.score(params, jnp.roll(seen, 1, 0), record)
            ),
            settings,
        ),
    ),
}


class Probed(NamedTuple):
    """One probe.

    Attributes:
      name: of the probe.
      passed: whether values and actions are right.
      expected: what should have been learned.
      value: (N,) learned values, in units of the reward, at `expected.observation`.
      action: (N,) -1 or 1, what the policy does there without chance.
    """

    name: str
    passed: bool
    expected: probes.Expected
    value: np.ndarray
    action: np.ndarray


def probe(
    name: str, *, algorithm: str = "ppo", bug: str | None = None, seed: int = 0, settings: Settings = SETTINGS
) -> Probed:
    """Learns one probe, in about three seconds, most of which is compilation.

    Args:
      name: of `environments.probes.PROBES`.
      algorithm: "ppo" or "a2c": the probes look at values.
      bug: of `BUGS`, planted; None for none.
      seed: of everything random.
      settings: of the run.

    Raises:
      InputError: unknown names, or an algorithm without values.
    """
    if algorithm not in ("ppo", "a2c"):
        raise InputError(
            f"{algorithm} cannot be probed",
            got=algorithm,
            expected="ppo or a2c",
            cause=f"the probes look at values, which {', '.join(ON_POLICY[2:])} have not",
            fix="--loss=ppo",
        )
    if bug is not None and bug not in BUGS:
        raise InputError(
            f"there is no bug {bug!r}",
            got=bug,
            expected=", ".join(BUGS),
            cause="a misspelt name",
            fix="a bug has the name of the probe that finds it",
        )
    environment = probes.probe(name)
    settings = settings._replace(algorithm=algorithm)
    if algorithm == "a2c":  # one look at each sample: the ratio that would forgive a second one is missing
        settings = settings._replace(update_epochs=1)
    agent = scratch(environment, width=_WIDTH)
    if bug is not None:
        agent, settings = BUGS[bug][1](agent, settings)
    return _learn(environment, agent, settings, seed, probes.expected(name, GAMMA), name)


def _learn(
    environment: Environment, agent: Agent, settings: Settings, seed: int, right: probes.Expected, name: str
) -> Probed:
    optimizer = clipped_adamw(_RATE, clip=0.5, weight_decay=0.0, eps=1e-5)
    made = build(environment, settings, optimizer, agent=agent)

    @jax.jit
    def run(key):
        state, _ = jax.lax.scan(lambda s, _: (made.iteration(s)[0], None), made.start(key), length=ITERATIONS)
        seen = looks(agent, state.observations)(jnp.asarray(right.observation))
        return agent.value(state.params, seen), agent.best(state.params, seen)[:, 0]

    value, action = map(np.asarray, run(jax.random.key(seed)))
    side = np.where(action > 0, 1.0, -1.0)
    values_right = np.abs(value - right.value).max() <= TOLERANCE
    actions_right = (side == right.action)[right.action != 0].all()
    return Probed(name, bool(values_right and actions_right), right, value, side)
