"""--env=gymnasium:NAME: a simulator in processes of its own, its rollouts learned from in a compiled step."""

import atexit
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.errors import InputError
from ch3_jax.reinforcement.agent import Acted, scratch
from ch3_jax.reinforcement.build import Learner
from ch3_jax.reinforcement.host import Driver
from ch3_jax.reinforcement.learner import make_iteration, make_learn
from ch3_jax.reinforcement.settings import Settings, require
from ch3_jax.reinforcement.state import LearnerState, begin
from ch3_jax.training.loop import Plan
from experiments.reinforce_parts import worlds
from experiments.reinforce_parts.flags import Options
from experiments.reinforce_parts.job import EVALUATIONS, Job, of_a_row

_ALGORITHMS = ("ppo", "a2c")
_EPISODES = 16
_LONGEST = 10_000
_AT_ONCE = 64  # Steps between two looks at whether all episodes have ended.


def build_job(options: Options, settings: Settings, schedule: Any, optimizer: Any) -> Job:
    """As `job.build_job`.

    Raises:
      InputError: an algorithm that needs pure environments, a package or an environment that is not there.
    """
    if options.loss not in _ALGORITHMS or options.init or options.reward:
        raise InputError(
            f"{options.env} is driven from outside",
            got=f"--loss={options.loss}" + (" --init" if options.init else ""),
            expected=" or ".join(_ALGORITHMS) + ", from scratch and with its own reward",
            cause="the other algorithms need an environment that is a pure function",
            fix="--loss=ppo",
        )
    require(settings)
    name = options.env.removeprefix(worlds.GYMNASIUM)
    vector = _vector(name, options.envs)
    atexit.register(vector.close)  # Its processes end before the interpreter does.
    driver = Driver(vector, name=options.env, seed=options.seed)
    environment = driver.facts
    agent = scratch(environment, width=options.width)
    learn = jax.jit(make_learn(agent, optimizer, settings, 1))
    start = jax.jit(lambda key: begin(environment, agent, optimizer, settings, key))
    last: list[Any] = []

    def advance(state: LearnerState, length: int):
        rows = []
        for _ in range(length):
            lanes, data = driver.rollout(agent, state, settings)
            last[:] = [data]
            state, metrics = learn(state, lanes, data)
            rows.append(metrics)
        return state, of_a_row(jax.tree.map(lambda *x: jnp.stack(x), *rows))

    def explain(state: LearnerState) -> str:
        del state
        reward = np.asarray(last[0].reward)
        bad = np.argwhere(~np.isfinite(reward))
        if len(bad):
            return f"{options.env} gave the reward {reward[tuple(bad[0])]} in environment {bad[0][1]}"
        return "the rewards are finite: an observation, the loss or a gradient was not"

    return Job(
        environment=environment,
        learner=Learner(
            agent,
            start,
            make_iteration(environment, agent, optimizer, settings),
            settings.envs * settings.rollout,
            settings.update_epochs * settings.minibatches,
        ),
        schedule=schedule,
        plan=Plan(options.steps, options.log_every, options.save_every),
        start=lambda: start(jax.random.key(options.seed)),
        advance=advance,
        evaluate=_evaluate(name, options, agent, settings),
        explain=explain,
    )


def _evaluate(name: str, options: Options, agent, settings: Settings):
    """`_EPISODES` whole episodes each way, always of the same first seed."""
    certain = agent._replace(
        act=lambda params, seen, noise: Acted(
            agent.best(params, seen), jnp.zeros((seen.shape[0], 0)), jnp.zeros((seen.shape[0], 1))
        )
    )

    def evaluate(state: LearnerState) -> dict[str, float]:
        found = dict.fromkeys(EVALUATIONS, float("nan"))
        for how, who in (("best", certain), ("sampled", agent)):
            driver = Driver(_vector(name, _EPISODES, own_processes=False), name=options.env, seed=10_000)
            apart = settings._replace(envs=_EPISODES, rollout=_AT_ONCE)
            totals, lengths = np.full(_EPISODES, np.nan), np.full(_EPISODES, np.nan)
            rounds = 0
            while np.isnan(totals).any() and rounds * _AT_ONCE < _LONGEST:
                # Another key in each round, so that chance differs between them.
                _, data = driver.rollout(who, state._replace(step=state.step + 1_000_000 + rounds), apart)
                ended, total, length = (np.asarray(x) for x in (data.ended, data.total, data.length))
                for i in np.flatnonzero(ended.any(0) & np.isnan(totals)):
                    first = int(np.argmax(ended[:, i]))
                    totals[i], lengths[i] = total[first, i], length[first, i]
                rounds += 1
            found[f"{how}_return"], found[f"{how}_length"] = float(totals.mean()), float(lengths.mean())
        return found

    return evaluate


def _vector(name: str, count: int, *, own_processes: bool = True):
    try:
        import gymnasium
    except ImportError as error:
        raise InputError(
            f"gymnasium:{name} needs the package gymnasium",
            got=error,
            expected="an installed gymnasium",
            cause="it is no requirement of this project",
            fix="pip install 'gymnasium[mujoco]'",
        ) from error
    try:
        return gymnasium.make_vec(
            name,
            count,
            vectorization_mode="async" if own_processes and count > 1 else "sync",
            vector_kwargs={"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP},
        )
    except (gymnasium.error.Error, ImportError) as error:
        raise InputError(
            f"gymnasium cannot make {name}",
            got=str(error)[:200],
            expected="a registered environment whose packages are there",
            cause="a misspelt name, or a missing simulator",
            fix="pip install 'gymnasium[mujoco]', or correct the name",
        ) from error
