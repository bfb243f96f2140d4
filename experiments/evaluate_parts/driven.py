"""From flags to episodes: what is driven, and the driving."""

import functools
import re
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ch3_jax.errors import InputError
from ch3_jax.evaluation import chunks, driving, fitting, serve, sides
from ch3_jax.evaluation.simulators import catalogue, worlds
from ch3_jax.evaluation.simulators.task import Task
from experiments import run_folder
from experiments.evaluate_parts import rewarded

_ALONE = 50  # calls at batch 1 that are timed


class Request(NamedTuple):
    """What is asked for, settled and checked.

    Attributes:
      run: its folder.
      task: to be driven.
      policy: loaded.
      orders: of the dimensions, between the two.
      seeds: of the starts.
      execute: actions of a chunk that are executed; 1 with an ensemble.
      ensemble: ACT's rate, or None.
      sampled: whether actions are samples.
      parallel, processes: worlds at once, and what steps them.
    """

    run: str
    task: Task
    policy: serve.Served
    orders: fitting.Orders
    seeds: range
    execute: int
    ensemble: float | None
    sampled: bool
    parallel: int
    processes: int | None


class Done(NamedTuple):
    """What came of it.

    Attributes:
      driven: episodes and times.
      score: in a few numbers.
      alone_s: (calls,) seconds of calls at batch 1.
      ways: share of each way around the pillar, or None.
      start_s: seconds until worlds and policy were ready.
    """

    driven: driving.Drive
    score: driving.Score
    alone_s: np.ndarray
    ways: dict[str, float] | None
    start_s: float


def request(f: Any) -> Request:
    """The flags, settled; refuses what does not fit before a world is made."""
    for name in ("run", "env"):
        if not getattr(f, name):
            raise InputError(
                f"--{name} is missing",
                got="nothing",
                expected="a run folder" if name == "run" else ", ".join(catalogue.NAMES),
                cause="an evaluation needs a policy and a task",
                fix="python -m experiments.evaluate --run=runs/x --env=panda_reach",
            )
    task = catalogue.find(f.env)
    sampling = {n: getattr(f, n) for n in ("sampler", "sampling_steps") if getattr(f, n) is not None}
    policy = rewarded.load(f.run, sampling) if rewarded.is_rewarded(f.run) else serve.load(f.run, **sampling)
    orders = fitting.orders(policy.observation.names, policy.action.names, task)
    horizon = policy.shapes.horizon
    execute = 1 if f.ensemble is not None else f.execute or max(horizon // 2, 1)
    chunks.require_within(execute, horizon)
    episodes = min(f.episodes, 2) if f.smoke else f.episodes
    return Request(
        run=f.run,
        task=task._replace(steps=min(task.steps, 40)) if f.smoke else task,
        policy=policy,
        orders=orders,
        seeds=range(f.first_seed, f.first_seed + episodes),
        execute=execute,
        ensemble=f.ensemble,
        sampled=_sampled(f.actions, policy),
        parallel=min(f.parallel or task.parallel, episodes),
        processes=f.processes,
    )


def drive(request: Request) -> Done:
    """Makes the worlds, compiles the policy, drives, and times it alone."""
    began = time.perf_counter()
    policy, task = request.policy, request.task
    base = jax.random.key(request.seeds[0])

    def decide(observation: np.ndarray, call: int) -> np.ndarray:
        # One key per call: the same noise for every run of the same shape.
        key = jax.random.fold_in(base, call) if request.sampled else None
        chunk = policy.act(observation[..., request.orders.observation], key)
        return np.asarray(chunk, np.float64)[..., request.orders.action]

    group = worlds.open_worlds(task, request.parallel, request.processes)
    try:
        blank = np.broadcast_to(
            policy.observation.mean[np.argsort(request.orders.observation)],
            (request.parallel, policy.shapes.window, policy.shapes.state),
        )
        decide(blank, 0)
        ready = time.perf_counter() - began
        if request.ensemble is not None:
            executor = functools.partial(chunks.temporal_ensemble, rate=request.ensemble)
        else:
            executor = functools.partial(chunks.queue, execute=request.execute, horizon=policy.shapes.horizon)
        driven = driving.drive(
            decide, group, task, request.seeds, window=policy.shapes.window, executor=executor
        )
    finally:
        group.close()
    return Done(driven, driving.summarise(driven.outcomes), _alone(decide, blank[:1]), _ways(driven), ready)


def folder(out: str | None, run: str, name: str) -> Path:
    """Where it is written: `--out`, or evaluation-<task> in the run's folder."""
    path = Path(out) if out else Path(run) / ("evaluation-" + re.sub(r"[^A-Za-z0-9_.]+", "_", name))
    path = run_folder.prepare(path)
    path.mkdir(parents=True, exist_ok=True)
    for name in ("contact_sheet.png", "episodes.mp4", "episodes.gif"):
        (path / name).unlink(missing_ok=True)  # of an earlier evaluation
    return path


def _sampled(wanted: str | None, policy: serve.Served) -> bool:
    if wanted is None:
        return policy.samples and not policy.likeliest
    if wanted == "sampled" and not policy.samples:
        raise InputError(
            f"a run of {policy.loss} has one action and no samples",
            got="--actions=sampled",
            expected="--actions=likely",
            cause="a loss that predicts numbers, not a law",
            fix="leave --actions out",
        )
    return wanted == "sampled"


def _alone(decide: Any, observation: np.ndarray) -> np.ndarray:
    """Seconds of calls for one robot, compiled before."""
    decide(observation, 0)
    seconds = []
    for call in range(_ALONE):
        began = time.perf_counter()
        decide(observation, call)
        seconds.append(time.perf_counter() - began)
    return np.array(seconds)


def _ways(driven: driving.Drive) -> dict[str, float] | None:
    """Shares left and right of the pillar, where there is one."""
    from ch3_jax.environments.panda_reach import PILLAR_M

    told = [o for o in driven.outcomes if o.error is None and o.extra and "tip" in o.extra[0]]
    if not told:
        return None
    ways = [
        sides.way(np.stack([e["tip"] for e in o.extra]), any(e["touched"] for e in o.extra), PILLAR_M)
        for o in told
    ]
    return sides.shares(ways)
