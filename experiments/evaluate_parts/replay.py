"""Recorded actions, executed: whether a data set and a simulator are of one world.

Each episode is started from its first recorded state and driven by its recorded actions. Where both are of
one world the states come out as they were recorded, and the demonstrations do the task again; where units,
frames, rates or the order of a pose differ they part within a few steps.
"""

import numpy as np

from ch3_jax.data.load import load
from ch3_jax.errors import InputError
from ch3_jax.evaluation import driving, fitting
from ch3_jax.evaluation.simulators import catalogue
from ch3_jax.evaluation.simulators.task import Task


def page(env: str | None, data: str, episodes: int) -> str:
    """The first episodes of the data, driven again, as a page.

    Raises:
      InputError: a task that a state does not restore, another robot's data.
    """
    task = catalogue.find(env or "")
    dataset = load(data)
    order = fitting.orders(dataset.facts.observation_names, dataset.facts.action_names, task)
    steps = next(iter(dataset.splits.values()))
    back = np.argsort(order.observation)
    recorded = [
        (steps.observation[a:b][:, back], steps.action[a:b][:, order.action])
        for a, b in zip(steps.offset[:episodes], steps.offset[1 : episodes + 1], strict=False)
    ]
    scores, apart = replay(task, recorded)
    score = driving.summarise(scores)
    s, q = score.success, np.quantile(apart, [0.5, 0.95], axis=0)
    names, units = task.observation_names, task.observation_units
    lines = [
        f"{dataset.facts.name} in {task.name}: {len(recorded)} episodes, {len(apart):,} steps",
        f"success   {s.rate:.1%} [{s.low:.1%}, {s.high:.1%}] of {s.episodes}",
        f"score     {score.score:.3f}, {task.score}",
        "difference of the next state to the recorded one, median and 95th percentile:",
    ]
    lines += [f"  {n:<20}{a:10.2g}{b:10.2g} {u}" for n, a, b, u in zip(names, *q, units, strict=True)]
    return "\n".join(lines)


def replay(
    task: Task, recorded: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[list[driving.Outcome], np.ndarray]:
    """Drives recorded actions.

    Args:
      task: whose worlds can be put into a state.
      recorded: episodes as (observations (T, S), actions (T, A)), in the task's order.

    Returns:
      (outcomes, |next state - recorded| (N, S), angles modulo 2 pi).
    """
    world = task.make()
    turn = np.array([2 * np.pi if unit == "rad" else np.inf for unit in task.observation_units])
    try:
        if world.reset_to is None:
            raise InputError(
                f"{task.name} cannot be put into a recorded state",
                got=task.name,
                expected="pusht, whose state says everything",
                cause="an observation that leaves velocities or contacts out",
                fix="drive a trained run instead: --run",
            )
        outcomes, apart = [], []
        for number, (seen, done) in enumerate(recorded):
            world.reset_to(seen[0])
            told = [world.step(action) for action in done]
            off = np.abs(np.stack([t.observation for t in told[:-1]]) - seen[1:])
            apart.append(np.minimum(off, np.abs(turn - off)))
            when = [i for i, t in enumerate(told, 1) if t.success]
            best, first = max(t.score for t in told), when[0] if when else None
            outcomes.append(
                driving.Outcome(
                    number,
                    best,
                    bool(when),
                    bool(when),
                    told[-1].success,
                    len(done),
                    first,
                    None,
                    done,
                    [],
                )  # fmt: skip
            )
    finally:
        world.close()
    return outcomes, np.concatenate(apart)
