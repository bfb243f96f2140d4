"""Faults of runs by reward, and healthy runs that look like them: PPO on `panda_reach`, three seconds each.

A `RewardRun` says all that a fault may change: the world, the settings, how a rollout is judged, the moments
that observations are scaled by. Faults that make a policy forget the task begin from one that knows half of
it, since a policy that never succeeds has nothing to lose.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.environments.environment import Environment, Outcome
from ch3_jax.environments.reach import reach
from ch3_jax.reinforcement import moments, on_policy
from ch3_jax.reinforcement.agent import scratch
from ch3_jax.reinforcement.learner import make_iteration
from ch3_jax.reinforcement.settings import Settings
from ch3_jax.reinforcement.state import LearnerState, begin
from ch3_jax.training.optimizers import clipped_adamw

_ROW = 2  # iterations
_SUMS = ("return_sum", "success_sum")
SETTINGS = Settings(envs=256, rollout=32, update_epochs=1, minibatches=4, gamma=0.95)


class RewardRun(NamedTuple):
    """A run of PPO.

    Attributes:
      world: Environment -> Environment, done to `reach(reward)`.
      reward: of `environments.reach`.
      settings: of the algorithm.
      rate: of Adam.
      iterations: length.
      trained: iterations of healthy training before.
      judge: see `learner.make_iteration`.
      seen_by: done to the moments of the observations before the first iteration.
      log_std: of the first policy, in units of half the action's range.
      seed: of everything random.
    """

    world: Callable[[Environment], Environment] = lambda environment: environment
    reward: str = "dense"
    settings: Settings = SETTINGS
    rate: float = 2e-3
    iterations: int = 200
    trained: int = 0
    judge: Callable = on_policy.advantages
    seen_by: Callable[[moments.Moments], moments.Moments] = lambda m: m
    log_std: float = -0.5
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class RewardFault:
    """One way to break a run by reward; fields as of `fault.Fault`."""

    id: str
    title: str
    cause: str
    severities: tuple[float, float, float]
    change: Callable[[RewardRun, float], RewardRun]
    accepted: tuple[str, ...] = ()
    lookalike: Callable[[RewardRun], RewardRun] | None = None
    looks: str = ""

    def answers(self) -> tuple[str, ...]:
        """All ids that are right."""
        return (self.cause, *self.accepted)


class Curves(NamedTuple):
    """What a run left, a number per row of two iterations.

    Attributes:
      rows: name -> values, those of `reinforcement.reports` and of the loss, and `return`, `success`.
      actions: numbers of an action.
    """

    rows: dict[str, np.ndarray]
    actions: int


def train(run: RewardRun) -> Curves:
    """Trains, in some ten seconds, most of which is compilation."""
    environment = run.world(reach(run.reward))
    agent = scratch(environment, width=32, log_std=run.log_std)
    state = _start(run, environment, agent)
    optimizer = clipped_adamw(run.rate, clip=0.5, weight_decay=0.0, eps=1e-5)
    iteration = make_iteration(environment, agent, optimizer, run.settings, judge=run.judge)

    @jax.jit
    def through(state: LearnerState):
        return jax.lax.scan(lambda s, _: iteration(s), state, length=run.iterations)

    _, metrics = jax.device_get(through(state._replace(observations=run.seen_by(state.observations))))
    metrics.pop("gradient_norms")
    sums = {n: np.reshape(metrics[n], (-1, _ROW)).sum(1) for n in (*_SUMS, "episodes")}
    rows = {name: _mean(x) for name, x in metrics.items()}
    episodes = np.maximum(sums["episodes"], 1)
    rows |= {"return": sums["return_sum"] / episodes, "success": sums["success_sum"] / episodes}
    return Curves(rows, len(environment.low))


def _mean(x: np.ndarray) -> np.ndarray:
    """Means over the iterations of a row, of what is finite in it."""
    x = np.reshape(x.astype(np.float64), (-1, _ROW))
    good = np.isfinite(x)
    return np.where(good.any(1), np.where(good, x, 0).sum(1) / np.maximum(good.sum(1), 1), np.nan)


def _start(run: RewardRun, environment: Environment, agent) -> LearnerState:
    """A fresh learner; with `trained`, its actor is one that healthy training has brought half way."""
    optimizer = clipped_adamw(run.rate, clip=0.5, weight_decay=0.0, eps=1e-5)
    make = jax.jit(
        lambda actor: begin(
            environment, agent, optimizer, run.settings, jax.random.key(run.seed), actor=actor
        )
    )
    if not run.trained:
        return make(None)
    params, observations = _healthy(run.trained, run.seed)
    return make(params["actor"])._replace(observations=observations)


@functools.lru_cache(maxsize=32)
def _healthy(iterations: int, seed: int):
    environment = reach("dense")
    agent = scratch(environment, width=32)
    optimizer = clipped_adamw(2e-3, clip=0.5, weight_decay=0.0, eps=1e-5)
    iteration = make_iteration(environment, agent, optimizer, SETTINGS)

    @jax.jit
    def train():
        state = begin(environment, agent, optimizer, SETTINGS, jax.random.key(seed + 1000))
        state, _ = jax.lax.scan(lambda s, _: (iteration(s)[0], None), state, length=iterations)
        return state.params, state.observations

    return train()


def _rewarded(function: Callable[[Any, Outcome], Any]) -> Callable[[Environment], Environment]:
    """A world with another reward: (state reached, outcome) -> outcome."""

    def change(environment: Environment) -> Environment:
        def step(state, action, key):
            state, outcome = environment.step(state, action, key)
            return state, function(state, outcome)

        return environment._replace(step=step)

    return change


def _times(factor: float):
    return _rewarded(lambda state, outcome: outcome._replace(reward=factor * outcome.reward))


def _within(metres: float):
    return _rewarded(
        lambda state, outcome: outcome._replace(reward=(state.distance < metres).astype(jnp.float32))
    )


def _ending(environment: Environment) -> Environment:
    """The episode ends where the target is reached, with a bonus."""

    def step(state, action, key):
        state, outcome = environment.step(state, action, key)
        there = state.distance < 0.1
        return state, Outcome(outcome.reward + there, there, outcome.truncated)

    return environment._replace(step=step, shortest=1, name="panda_reach, ending")


def _behind_the_end(settings, data, scale, v_tm1, v_t):
    """Terminations taken for truncations."""
    alive = data._replace(
        terminated=jnp.zeros_like(data.terminated), truncated=data.truncated | data.terminated
    )
    return on_policy.advantages(settings, alive, scale, v_tm1, v_t)


def _along(axis: int):
    def judge(*given):
        advantage, target, mask = on_policy.advantages(*given)
        mean, std = (f(advantage, axis, keepdims=True) for f in (jnp.mean, jnp.std))
        return (advantage - mean) / (std + 1e-8), target, mask

    return judge


def _stale(shift: float):
    """Moments of another robot, `shift` deviations away, that are never updated."""
    return lambda m: moments.Moments(jnp.float32(1e12), m.mean - shift, jnp.ones_like(m.variance))


def _with(run: RewardRun, **changes) -> RewardRun:
    return run._replace(settings=run.settings._replace(**changes))


HALF = 150  # iterations after which the policy knows half of the task

FAULTS = (
    RewardFault(
        "R01", "rewards of a wrong scale", "reward_scale", (30, 100, 1000),
        lambda run, x: _with(run, normalize_reward=False)._replace(world=_times(x)),
        lookalike=lambda run: run._replace(world=_times(1000.0)),
        looks="rewards times 1000 with the return's normaliser on",
    ),
    RewardFault(
        "R02", "sign of the reward", "reward_sign", (0.1, 1, 10),
        lambda run, x: run._replace(world=_times(-x), trained=HALF), ("reward_hacking",),
        lookalike=lambda run: run._replace(trained=HALF),
        looks="a cost, negative everywhere",
    ),
    RewardFault(
        "R03", "a reward that can be hacked", "reward_hacking", (1, 10, 100),
        lambda run, x: run._replace(reward="hackable", world=_times(x), trained=HALF),
        lookalike=lambda run: run._replace(reward="shaped", trained=HALF),
        looks="a potential-based reward",
    ),
    RewardFault(
        "R04", "a reward that is never reached", "sparse_reward", (2e-4, 1e-4, 1e-5),
        lambda run, x: run._replace(world=_within(x), iterations=100),
        lookalike=lambda run: run._replace(reward="sparse", trained=HALF),
        looks="a sparse reward that is found",
    ),
    RewardFault(
        "R05", "advantages normalised along one axis", "advantage_axis", (0, 0, 1),
        lambda run, x: run._replace(judge=_along(int(x))),
    ),
    RewardFault(
        "R06", "a time limit taken for a death", "bootstrap", (0.9, 0.95, 0.99),
        lambda run, x: _with(run, bootstrap=False, gamma=x),
        lookalike=lambda run: run._replace(world=_ending),
        looks="episodes that end where the target is reached",
    ),
    RewardFault(
        "R07", "a death taken for a time limit", "bootstrap", (0.9, 0.95, 0.99),
        lambda run, x: _with(run, gamma=x)._replace(world=_ending, judge=_behind_the_end),
    ),
    RewardFault(
        "R08", "stale moments of the observations", "stale_normalizer", (3, 5, 8),
        lambda run, x: run._replace(seen_by=_stale(x)),
        lookalike=lambda run: run._replace(trained=400),
        looks="moments that still remember the first policy",
    ),
    RewardFault(
        "R09", "a policy that hardly explores", "policy_collapse", (-3.5, -4.5, -6.0),
        lambda run, x: run._replace(log_std=x),
        lookalike=lambda run: run._replace(iterations=600),
        looks="a policy that has learned and is sure",
    ),
    RewardFault(
        "R10", "updates that are far too large", "policy_step_too_large", (10, 30, 100),
        lambda run, x: _with(run, update_epochs=8)._replace(rate=run.rate * x), ("rate_too_high",),
    ),
)  # fmt: skip
"""Faults of runs by reward."""
