"""A policy driven in many worlds at once, and what came of each episode.

All worlds start together and are asked about together: one call of the policy for all of them, always of the
same size, so that it is compiled once. Worlds beyond the episodes of the last round, and those that have
ended, are part of the call and of nothing else. Success is latched: some simulators switch it off again.
An episode in which the simulator raised is neither a success nor a failure.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ch3_jax.errors import InputError
from ch3_jax.evaluation.rollouts import Success, wilson
from ch3_jax.evaluation.simulators.task import Task


class Outcome(NamedTuple):
    """One episode.

    Attributes:
      seed: of its start.
      score: the largest of its steps, in [0, 1].
      success: whether the task was done, at any step or at the end as the task says.
      ever: whether it was done at any step.
      kept: whether it was done at the last step.
      length: steps driven.
      first: the step at which the task was done first, from 1; None where it never was.
      error: what the simulator raised, or None.
      actions: (T, A) as executed.
      extra: what the simulator said of each moment, T + 1 of them.
    """

    seed: int
    score: float
    success: bool
    ever: bool
    kept: bool
    length: int
    first: int | None
    error: str | None
    actions: np.ndarray
    extra: list[dict[str, Any]]


class Drive(NamedTuple):
    """All episodes, and where the time went.

    Attributes:
      outcomes: one per seed, in their order.
      calls_s: (calls,) seconds of each call of the policy, for all worlds at once.
      wall_s: of everything between the first reset and the last step.
      clipped: share of the action's numbers that lay outside the bounds.
    """

    outcomes: list[Outcome]
    calls_s: np.ndarray
    wall_s: float
    clipped: float


def drive(
    decide: Callable[[np.ndarray, int], np.ndarray],
    worlds: Any,
    task: Task,
    seeds: Sequence[int],
    *,
    window: int,
    executor: Callable[[Callable[[np.ndarray], np.ndarray]], Callable[[np.ndarray], np.ndarray]],
) -> Drive:
    """Drives one episode for every seed.

    Args:
      decide: (observations (B, W, S) raw, number of the call) -> chunks (B, H, A) raw, on the host.
      worlds: a vector environment of B worlds, `simulators.worlds.open_worlds`.
      task: its facts.
      seeds: of the starts; the same seeds are the same starts for every policy.
      window: W; before the first step the past is the first observation repeated.
      executor: from a policy of chunks to one of actions, made anew for each round: `chunks.queue`.

    Returns:
      A `Drive`.
    """
    size, outcomes, seconds, outside, numbers = worlds.num_envs, [], [], 0, 0

    def timed(observation: np.ndarray) -> np.ndarray:
        began = time.perf_counter()
        chunk = decide(observation, len(seconds))
        seconds.append(time.perf_counter() - began)
        return chunk

    began = time.perf_counter()
    for start in range(0, len(seeds), size):
        some = list(seeds[start : start + size])
        records = [_Record(seed) for seed in some]
        act = executor(timed)
        seen, infos = worlds.reset(seed=some)
        for i, record in enumerate(records):
            record.begin(infos, i)
        past = np.repeat(seen[:, None], window, axis=1)
        for _ in range(task.steps):
            live = [i for i, record in enumerate(records) if not record.over]
            if not live:
                break
            actions = _finite(act(past), task)
            executed = actions if task.bounds is None else np.clip(actions, *np.array(task.bounds))
            outside += int(np.sum(executed[live] != actions[live]))
            numbers += executed[live].size
            seen, _, _, _, infos = worlds.step(executed)
            for i in live:
                records[i].advance(infos, i, executed[i])
            past = np.concatenate([past[:, 1:], seen[:, None]], axis=1)
        outcomes += [record.outcome(task.held) for record in records]
    wall = time.perf_counter() - began
    return Drive(outcomes, np.array(seconds), wall, outside / max(numbers, 1))


class _Record:
    """What is kept of one episode while it runs."""

    def __init__(self, seed: int):
        self.seed, self.score, self.ever, self.kept = int(seed), 0.0, False, False
        self.error, self.over, self.actions, self.extra = None, False, [], []
        self.first: int | None = None

    def begin(self, infos: dict[str, Any], i: int) -> None:
        self.error, self.over = infos["error"][i], bool(infos["over"][i])
        self.extra.append(infos["extra"][i])

    def advance(self, infos: dict[str, Any], i: int, action: np.ndarray) -> None:
        self.begin(infos, i)
        if self.error is not None:
            return
        self.actions.append(action)
        self.score = max(self.score, float(infos["score"][i]))
        self.kept = bool(infos["success"][i])
        if self.kept and not self.ever:
            self.ever, self.first = True, len(self.actions)

    def outcome(self, held: bool) -> Outcome:
        good = (self.kept if held else self.ever) and self.error is None
        actions = np.asarray(self.actions, np.float64)
        return Outcome(
            self.seed, self.score, good, self.ever, self.kept,
            len(actions), self.first, self.error, actions, self.extra,
        )  # fmt: skip


class Score(NamedTuple):
    """All episodes in a few numbers; those with errors are in none but `errors`.

    Attributes:
      success: `Success` with Wilson's interval, of the episodes without error.
      ever, kept: shares of episodes done at any step, and done at their last.
      score: mean score; `score_error` its standard error.
      length: mean steps of an episode.
      first: mean step at which those that succeeded were done first; None without one.
      errors: episodes in which the simulator raised.
    """

    success: Success
    ever: float
    kept: float
    score: float
    score_error: float
    length: float
    first: float | None
    errors: int


def summarise(outcomes: Sequence[Outcome]) -> Score:
    """The numbers of a table.

    Raises:
      InputError: not one episode without an error.
    """
    ran = [o for o in outcomes if o.error is None]
    if not ran:
        raise InputError(
            "the simulator raised in every episode",
            got=outcomes[0].error if outcomes else "no episode",
            expected="at least one episode that runs to its end",
            cause="versions of the simulator that do not fit together",
            fix="install the versions of third_party/requirements-simulators.txt",
        )
    scores = np.array([o.score for o in ran])
    firsts = [o.first for o in ran if o.success]
    return Score(
        success=wilson(sum(o.success for o in ran), len(ran)),
        ever=float(np.mean([o.ever for o in ran])),
        kept=float(np.mean([o.kept for o in ran])),
        score=float(scores.mean()),
        score_error=float(scores.std(ddof=1) / np.sqrt(len(ran))) if len(ran) > 1 else 0.0,
        length=float(np.mean([o.length for o in ran])),
        first=float(np.mean(firsts)) if firsts else None,
        errors=len(outcomes) - len(ran),
    )


def notable(outcomes: Sequence[Outcome]) -> dict[str, Outcome]:
    """The first, the median and the worst episode: by success, then score, then length, then order."""
    ran = [o for o in outcomes if o.error is None]
    order = sorted(range(len(ran)), key=lambda i: (ran[i].success, ran[i].score, -ran[i].length, -i))
    return {"first": ran[0], "median": ran[order[len(order) // 2]], "worst": ran[order[0]]}


def _finite(actions: np.ndarray, task: Task) -> np.ndarray:
    if np.isfinite(actions).all():
        return actions
    bad = np.flatnonzero(~np.isfinite(actions).all(axis=0))
    raise InputError(
        "the policy answers with numbers that are not finite",
        got=", ".join(task.action_names[j] for j in bad),
        expected="finite actions",
        cause="a run that diverged, or parameters that are damaged",
        fix="python -m experiments.doctor on the run says where it broke",
    )
