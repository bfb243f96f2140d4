"""Many worlds at once: Gymnasium's vector interface, with a process per core.

    observations, infos = worlds.reset(seed=[...])
    observations, rewards, terminated, truncated, infos = worlds.step(actions)

Gymnasium's own `AsyncVectorEnv` starts a process for every environment and stops them all when one raises.
Here every process holds a share of the worlds, and a world that raises in mid-episode ends alone: its error
is handed over in `infos["error"]`, the others go on, and it is made anew at the next reset. A world that has
ended stands still until then.

Processes are spawned, not forked: a fork of a process that has started JAX's threads may hang.
"""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Sequence
from typing import Any

import numpy as np

from ch3_jax.errors import InputError
from ch3_jax.evaluation.simulators.task import Task, World


class Share:
    """Some worlds of one task in this process; the vector interface, for one core.

    Args:
      make: () -> `World`.
      number: how many.
      width: S, of an observation.
    """

    def __init__(self, make: Any, number: int, width: int):
        self._make, self._width = make, width
        self._worlds: list[World | None] = [make() for _ in range(number)]
        self.num_envs = number
        self._idle(range(number))

    def _idle(self, rows: Any) -> None:
        self._last = np.zeros((self.num_envs, self._width))
        self._over = np.ones(self.num_envs, bool)
        self._now: list[dict[str, Any]] = [{} for _ in rows]

    def reset(self, *, seed: Sequence[int]) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts one episode for every seed; worlds beyond them stay idle."""
        self._idle(range(self.num_envs))
        for i, number in enumerate(seed):
            try:
                if self._worlds[i] is None:
                    self._worlds[i] = self._make()
                self._last[i], extra = self._worlds[i].reset(int(number))
                self._now[i] = {"extra": extra}
                self._over[i] = False
            except Exception as error:  # whatever a simulator raises is a fact about one episode
                self._fail(i, error)
        return self._last.copy(), self._infos()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """One step of every world whose episode goes on; `actions` (B, A)."""
        rewards = np.zeros(self.num_envs)
        terminated, truncated = np.zeros((2, self.num_envs), bool)
        for i in np.flatnonzero(~self._over):
            try:
                seen = self._worlds[i].step(actions[i])
            except Exception as error:  # as above
                self._fail(i, error)
                continue
            self._last[i], rewards[i] = seen.observation, seen.reward
            terminated[i], truncated[i] = seen.terminated, seen.truncated
            self._over[i] = seen.terminated or seen.truncated
            self._now[i] = {"score": seen.score, "success": seen.success, "extra": seen.extra}
        return self._last.copy(), rewards, terminated, truncated, self._infos()

    def close(self) -> None:
        """Closes every world."""
        for world in self._worlds:
            if world is not None:
                world.close()
        self._worlds = [None] * self.num_envs

    def _fail(self, i: int, error: Exception) -> None:
        self._now[i] = {"error": f"{type(error).__name__}: {error}"[:400]}
        self._over[i] = True
        self._worlds[i] = None

    def _infos(self) -> dict[str, Any]:
        return {
            "score": np.array([now.get("score", 0.0) for now in self._now]),
            "success": np.array([now.get("success", False) for now in self._now]),
            "over": self._over.copy(),
            "error": [now.get("error") for now in self._now],
            "extra": [now.get("extra", {}) for now in self._now],
        }


class Worlds:
    """Worlds of one task, spread over processes.

    Args:
      task: what to make.
      number: worlds in all, B.
      processes: how many; None for one per core that this process may use.

    Raises:
      InputError: a world that cannot be made, with what the simulator said.
    """

    def __init__(self, task: Task, number: int, processes: int | None = None):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        count = min(number, cores if processes is None else processes)
        self.num_envs, self._task = number, task
        self._shares = np.array_split(np.arange(number), count)
        self._workers = [self._start(len(share)) for share in self._shares]
        for worker in self._workers:
            self._greet(worker)

    def reset(self, *, seed: Sequence[int]) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts one episode for each of at most B seeds."""
        for i, (pipe, process) in enumerate(self._workers):
            if not process.is_alive():
                pipe.close()
                self._workers[i] = self._start(len(self._shares[i]))
                self._greet(self._workers[i])
        answers = self._ask("reset", [[int(seed[i]) for i in s if i < len(seed)] for s in self._shares])
        return np.concatenate([a[0] for a in answers]), _joined([a[-1] for a in answers])

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """One step of all; `actions` (B, A)."""
        answers = self._ask("step", [actions[share] for share in self._shares])
        arrays = (np.concatenate([a[i] for a in answers]) for i in range(4))
        return *arrays, _joined([a[-1] for a in answers])

    def close(self) -> None:
        """Ends the processes."""
        for pipe, process in self._workers:
            with contextlib.suppress(OSError, EOFError):  # it has ended already
                pipe.send(("close", None))
                pipe.recv()
            pipe.close()
            process.join(10)
            if process.is_alive():
                process.terminate()
        self._workers = []

    def _start(self, number: int) -> tuple[Any, Any]:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        arguments = (there, self._task.make, number, len(self._task.observation_names))
        process = context.Process(target=_work, args=arguments, daemon=True)
        process.start()
        there.close()
        return here, process

    def _greet(self, worker: tuple[Any, Any]) -> None:
        try:
            failure = worker[0].recv()
        except EOFError:
            failure = "its process ended"
        if failure is not None:
            raise _not_started(self._task, failure)

    def _ask(self, command: str, payloads: list[Any]) -> list[Any]:
        """The same question to all processes, then all answers; one that has died answers with its death."""
        for (pipe, _), payload in zip(self._workers, payloads, strict=True):
            with contextlib.suppress(OSError):  # noticed below
                pipe.send((command, payload))
        answers = []
        for share, (pipe, process) in zip(self._shares, self._workers, strict=True):
            try:
                answers.append(pipe.recv())
            except (EOFError, OSError):
                process.join(1)
                answers.append(self._dead(len(share), process.exitcode))
        return answers

    def _dead(self, number: int, code: int | None) -> tuple[Any, ...]:
        flags = np.zeros(number, bool)
        infos = {
            "score": np.zeros(number),
            "success": flags,
            "over": ~flags,
            "error": [f"the simulator's process ended with code {code}"] * number,
            "extra": [{}] * number,
        }
        return np.zeros((number, len(self._task.observation_names))), np.zeros(number), flags, flags, infos


def _work(pipe: Any, make: Any, number: int, width: int) -> None:
    """A process's life: makes its worlds, answers until it is told to close."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer; it closes the pipe
    try:
        share = Share(make, number, width)
    except Exception as error:  # told to the parent, which refuses
        pipe.send(f"{type(error).__name__}: {error}"[:400])
        return
    pipe.send(None)
    answers = {"reset": lambda seeds: share.reset(seed=seeds), "step": share.step}
    while True:
        try:
            command, payload = pipe.recv()
        except EOFError:  # the parent has gone
            share.close()
            return
        if command == "close":
            share.close()
            pipe.send(None)
            return
        pipe.send(answers[command](payload))


def _joined(infos: list[dict[str, Any]]) -> dict[str, Any]:
    arrays = {name: np.concatenate([i[name] for i in infos]) for name in ("score", "success", "over")}
    return arrays | {name: [x for i in infos for x in i[name]] for name in ("error", "extra")}


def open_worlds(task: Task, number: int, processes: int | None = None) -> Any:
    """`number` worlds behind the vector interface: vectorised where the task is, in this process where
    `processes` is 0, over processes otherwise.

    Raises:
      InputError: a world that cannot be made.
    """
    if task.many is not None:
        return task.many(number)
    if processes != 0:
        return Worlds(task, number, processes)
    try:
        return Share(task.make, number, len(task.observation_names))
    except Exception as error:  # as in a process of its own
        raise _not_started(task, f"{type(error).__name__}: {error}") from error


def _not_started(task: Task, reason: str) -> InputError:
    return InputError(
        f"{task.name} cannot be started",
        got=reason,
        expected="a simulator that runs without a display",
        cause="no display and no EGL, or versions that do not fit together",
        fix="set MUJOCO_GL=egl SDL_VIDEODRIVER=dummy; install third_party/requirements-simulators.txt",
    )
