"""How far a run is, for the person who waits: a bar in a terminal, a few lines elsewhere.

  step 3,000/15,625 loss 3.620 val 3.600 1,120 steps/s 0:11 left

The rate is that of the recent past,

  rate = (s_now - s_then) / (t_now - t_then),   then = some 10 seconds ago,

validation and saving included, so that the time left is what the clock will show. It counts from the
first update, not from the start, because the first dispatch is mostly compilation.
"""

import collections
import os
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from ch3_jax.errors import InputError

WINDOW_S = 10.0
LINE_S, DECILE_S = 5.0, 1.0
_FRAME_S, _FRAME_SHARE = 0.2, 0.005


class Progress:
    """Shows steps, rate, loss, validation loss and time left while the `with` block runs.

    In a terminal a bar that redraws itself a few times a second; elsewhere a line at the first update,
    then at each tenth of the run and every 5 seconds (in long runs every 20th of the time that has
    passed), and at the end.

    Args:
      total: steps of the whole run; None where that is not known.
      start: steps that an earlier process has made.
      stream: where to write; None for stderr.
      clock: () -> seconds, for tests.

    Example:
      >>> ticks = iter(range(99))
      >>> with Progress(200, stream=sys.stdout, clock=lambda: next(ticks)) as progress:
      ...     progress.update(100, loss=5.54)
      ...     progress.update(200, loss=5.5, val=5.52)
      step 100/200 loss 5.540
      step 200/200 loss 5.500 val 5.520 ...
    """

    def __init__(
        self,
        total: int | None,
        start: int = 0,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total, self._step, self._clock = total, start, clock
        self._stream = sys.stderr if stream is None else stream
        self._values: dict[str, Any] = {}
        self._times: collections.deque[tuple[float, int]] = collections.deque()
        self._entered = self._next = self._shown_at = 0.0
        self._shown: int | None = None
        self._first: tuple[float, int] | None = None
        self._bar: Any = None

    def __enter__(self) -> "Progress":
        if _is_terminal(self._stream):
            self._bar = _bar(self._stream)
            self._task = self._bar.add_task("", total=self._total, completed=self._step, text=self.line())
            self._bar.start()
        self._entered = self._next = self._clock()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._first and self._shown != self._step:
            self._show(self._clock())
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def update(self, step: int, loss: Any = None, val: Any = None, **more: Any) -> None:
        """Tells where the run is; costs next to nothing, as most calls show nothing.

        Args:
          step: steps made so far.
          loss: training loss, any scalar; None keeps the last one.
          val: validation loss, likewise.
          **more: other scalars, shown behind these under their names.
        """
        self._step = step
        if loss is not None:
            self._values["loss"] = loss
        if val is not None:
            self._values["val"] = val
        self._values |= more
        now = self._clock()
        if self._first is None:
            self._first = (now, step)
            self._times.append(self._first)
        if now >= self._next or (self._bar is None and self._at_tenth(now)):
            self._show(now)

    def say(self, text: str) -> None:
        """Prints `text` on lines of its own, above the bar where there is one."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
        else:
            print(text, file=self._stream, flush=True)

    def rate(self) -> float | None:
        """Steps per second of the last 10 seconds or so; None until two updates tell."""
        if not self._times:
            return None
        (then, old), now = self._times[0], self._clock()
        return (self._step - old) / (now - then) if now > then and self._step > old else None

    def line(self) -> str:
        """What is shown, as one line of text."""
        total = "" if self._total is None else f"/{self._total:,}"
        words = [f"step {self._step:,}{total}"]
        words += [f"{name} {_number(value)}" for name, value in self._values.items()]
        rate = self.rate()
        if rate is not None:
            words.append(f"{_rate(rate)} steps/s")
            if self._total is not None:
                words.append(f"{_duration(max(self._total - self._step, 0) / rate)} left")
        return " ".join(words)

    def _at_tenth(self, now: float) -> bool:
        """Whether another tenth of the run is done since the last line, and that line can be read."""
        if not self._total or now - self._shown_at < DECILE_S:
            return False
        return self._step * 10 // self._total > (self._shown or 0) * 10 // self._total

    def _show(self, now: float) -> None:
        if self._bar is None:
            print(self.line(), file=self._stream, flush=True)
            # A run of ten hours has hundred lines or so, not thousands.
            self._next = now + max(LINE_S, (now - self._entered) / 20)
        else:
            self._bar.update(self._task, completed=self._step, text=self.line(), refresh=True)
            # Drawing takes its share of the time and no more, also on a slow machine.
            self._next = now + max(_FRAME_S, (self._clock() - now) / _FRAME_SHARE)
        self._shown, self._shown_at = self._step, now
        if self._first is not None:
            self._times.append((now, self._step))
        # One sample older than the window stays, else a slow run would have no past at all.
        while len(self._times) > 2 and self._times[1][0] <= now - WINDOW_S:
            self._times.popleft()


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def _bar(stream: TextIO) -> Any:
    try:
        from rich import console, progress, table
    except ImportError as error:
        raise InputError(
            "the progress bar needs the package rich",
            got=error,
            expected="an installed rich",
            cause="it is not among the packages of this environment",
            fix="pip install rich",
        ) from error
    text = table.Column(no_wrap=True, overflow="ellipsis")
    return progress.Progress(
        progress.TextColumn("{task.fields[text]}", markup=False, table_column=text),
        progress.BarColumn(bar_width=None),
        console=console.Console(file=stream, highlight=False),
        auto_refresh=False,
        expand=True,
        # Lines printed elsewhere go above the bar, except where they go to a file.
        redirect_stdout=sys.stdout.isatty(),
    )


def _number(value: Any) -> str:
    """Four digits or so, the same number of characters from one update to the next.

    >>> [_number(v) for v in (3.62, 0.00123, -12.5, 12345.0, 0, float("nan"))]
    ['3.620', '1.23e-03', '-12.500', '1.23e+04', '0.000', 'nan']
    """
    number = float(value)
    small = number == 0 or 0.01 <= abs(number) < 1000 or number != number
    return f"{number:.3f}" if small else f"{number:.2e}"


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _duration(seconds: float) -> str:
    """Hours only where there are some.

    >>> _duration(11), _duration(61.6), _duration(3661), _duration(200_000)
    ('0:11', '1:02', '1:01:01', '55:33:20')
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
