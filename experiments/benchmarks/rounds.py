"""Fair timing on a machine that drifts: every contender is a process, and all take turns.

A contender is started once, pinned to its processors, and says "ready" after imports and compilation. Each
round then asks every one of them, in an order that rotates, to make some steps while the others wait. A time
is the median over the rounds. A ratio is the median over the rounds of the two contenders' ratio *within* a
round, which cancels what slows the whole machine for longer than a round.

On one processor the clock is the contender's own processor time: on an idle machine the wall's, on
a busy one without the moments in which somebody else had the processor. With more threads processor times add
up, so the clock is the wall's and the machine must be idle. Both are kept.
"""

import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_ROOT = Path(__file__).resolve().parents[2]
# How many threads a process may use, for every library that asks the environment.
CLOCKS = ("cpu", "wall")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Answer(NamedTuple):
    """What a contender did in one round: steps, seconds by the wall, seconds of processor time."""

    steps: int
    wall: float
    cpu: float

    def us_per_step(self, clock: str) -> float:
        """Microseconds per step by one of `CLOCKS`."""
        return 1e6 * (self.cpu if clock == "cpu" else self.wall) / self.steps


class Worker:
    """A contender's process: `ready` waits for its start, `ask` makes it work, leaving the `with` ends it.

    Args:
      command: argument list; it answers the protocol of `third_party/chapter_loop.py`.
      threads: for the environment variables that libraries read.
    """

    def __init__(self, command: Sequence[str], threads: int):
        # A test of this project, or a person, may have set flags that would measure something else.
        environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_ENABLE_X64")}
        environment |= dict.fromkeys(_THREADS, str(threads)) | {"JAX_PLATFORMS": "cpu"}
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
            cwd=_ROOT,
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def ready(self) -> str:
        """Waits for the start; returns the version of the library that the contender runs on."""
        return self._read()["version"]

    def ask(self, steps: int, workload: str = "") -> Answer:
        """Lets it make about that many steps, of that workload where it has several."""
        self._process.stdin.write(f"{workload} {steps}\n".lstrip())
        self._process.stdin.flush()
        return Answer(**self._read())

    def _read(self) -> dict:
        # Libraries may print on stdout; only a line that is an object of ours is an answer.
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        self._log.seek(0)
        last = [line for line in self._log.read().splitlines() if line.strip()][-1:]
        raise ChildProcessError(last[0].strip() if last else "it ended without a word")


def interleaved(workers: Mapping[str, Worker], rounds: int, seconds: float) -> dict[str, list[Answer]]:
    """Rounds in which every worker takes its turn.

    Args:
      workers: name -> a worker that is ready.
      rounds: how many.
      seconds: about how long one turn lasts.

    Returns:
      name -> one answer per round.
    """
    # Two short turns: the first finds the scale, the second is the one that counts.
    steps = {}
    for name, worker in workers.items():
        first = worker.ask(1)
        first = worker.ask(max(first.steps, round(0.2 * seconds * first.steps / first.wall)))
        steps[name] = max(1, round(seconds * first.steps / first.wall))
    answers = {name: [] for name in workers}
    names = list(workers)
    for turn in range(rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            answers[name].append(workers[name].ask(steps[name]))
    return answers


def median_us(answers: Sequence[Answer], clock: str) -> float:
    """Median microseconds per step by one of `CLOCKS`."""
    return statistics.median(answer.us_per_step(clock) for answer in answers)


def quartiles_us(answers: Sequence[Answer], clock: str) -> tuple[float, float]:
    """Lower and upper quartile of the microseconds per step.

    >>> quartiles_us([Answer(1, 1e-6 * t, 0.0) for t in (1, 2, 3, 4, 5)], "wall")
    (2.0, 4.0)
    """
    times = [answer.us_per_step(clock) for answer in answers]
    if len(times) < 2:
        return times[0], times[0]
    low, _, high = statistics.quantiles(times, n=4, method="inclusive")
    return round(low, 6), round(high, 6)


def median_ratio(slow: Sequence[Answer], fast: Sequence[Answer], clock: str) -> float:
    """How many times faster `fast` is: median over the rounds of the ratio within a round.

    >>> slow, fast = [Answer(1, t, t) for t in (4, 9, 8)], [Answer(1, t, t) for t in (2, 3, 1)]
    >>> median_ratio(slow, fast, "cpu")
    3.0
    """
    pairs = zip(slow, fast, strict=True)
    return statistics.median(s.us_per_step(clock) / f.us_per_step(clock) for s, f in pairs)


def processor_share(answers: Sequence[Answer]) -> float:
    """Processor seconds per wall second, median: under the number of threads where others were in the way."""
    return statistics.median(answer.cpu / answer.wall for answer in answers)
