"""Lines and bars against a clock that the test sets."""

import contextlib
import io
import re
import sys
import time

import numpy as np
import pytest

from experiments.progress import Progress


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def _run(total, steps, seconds_per_step, start=0, every=100, stream=None):
    clock, stream = Clock(), io.StringIO() if stream is None else stream
    with Progress(total, start, stream=stream, clock=clock) as progress:
        for step in range(start + every, start + steps + 1, every):
            clock.now += every * seconds_per_step
            progress.update(step, loss=np.float32(3.62), val=np.float32(3.6))
    return stream.getvalue().splitlines()


def test_a_line_by_hand():
    # 1,000 steps/s; the 12,000 that are left take 12 s. The first update starts the count.
    lines = _run(15_000, 3_000, 1e-3)
    assert lines[-1] == "step 3,000/15,000 loss 3.620 val 3.600 1,000 steps/s 0:12 left"
    assert lines[0] == "step 100/15,000 loss 3.620 val 3.600"


def test_a_short_run_shows_its_tenths():
    lines = _run(15_000, 15_000, 1e-3)
    steps = [int(line.split()[1].split("/")[0].replace(",", "")) for line in lines]
    assert steps == [100, *range(1500, 15_001, 1500)]
    assert lines[-1].endswith("0:00 left")


def test_a_run_of_a_second_shows_its_ends():
    assert len(_run(1000, 1000, 1e-3)) == 2


def test_ten_hours_are_no_flood():
    lines = _run(360_000, 360_000, 0.1)
    assert 50 < len(lines) < 250


def test_an_unknown_total():
    lines = _run(None, 30_000, 1e-3)
    assert lines[-1] == "step 30,000 loss 3.620 val 3.600 1,000 steps/s"
    assert len(lines) == 7  # At 0.1 s, then at 5.1, 10.1, ... 25.1 s, and at the end.


def test_a_resumed_run_counts_from_where_it_starts():
    # 2 s for 1,000 steps; were the 9,000 of the earlier process counted, the rate would be far higher.
    lines = _run(20_000, 1_100, 2e-3, start=9_000)
    assert lines[-1] == "step 10,100/20,000 loss 3.620 val 3.600 500 steps/s 0:20 left"


def test_the_rate_is_that_of_the_recent_past():
    clock, stream = Clock(), io.StringIO()
    with Progress(None, stream=stream, clock=clock) as progress:
        for step in range(0, 60_000, 100):
            clock.now += 0.1  # 1,000 steps/s for a minute,
            progress.update(step)
        for step in range(60_000, 63_000, 100):
            clock.now += 1.0  # then 100 steps/s for half a minute.
            progress.update(step)
        assert progress.rate() == pytest.approx(100.0, rel=1e-6)


def test_numbers_stay_until_there_are_new_ones():
    clock, stream = Clock(), io.StringIO()
    with Progress(100, stream=stream, clock=clock) as progress:
        assert "loss" not in progress.line()
        progress.update(10, loss=2.0, val=3.0)
        progress.update(20, loss=float("nan"))
        assert "loss nan val 3.000" in progress.line()


def test_the_last_state_is_shown_when_a_run_breaks_off():
    stream = io.StringIO()
    with (
        pytest.raises(RuntimeError),
        Progress(100, stream=stream, clock=Clock()) as progress,
    ):
        progress.update(10)
        progress.update(20)
        raise RuntimeError
    assert stream.getvalue() == "step 10/100\nstep 20/100\n"


def test_nothing_is_shown_of_a_run_that_made_no_step():
    stream = io.StringIO()
    with Progress(100, stream=stream):
        pass
    assert stream.getvalue() == ""


def test_say_is_a_line_of_its_own():
    stream = io.StringIO()
    with Progress(100, stream=stream) as progress:
        progress.say("[bold]as it stands[/bold] :smile:")
    assert stream.getvalue() == "[bold]as it stands[/bold] :smile:\n"


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    return Terminal()


def _plain(text):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n").splitlines()


def test_the_bar_fits_into_80_columns(terminal):
    lines = [
        line for line in _plain("\n".join(_run(1_000_000, 2_000, 5e-3, 400_000, stream=terminal))) if line
    ]
    assert all(len(line) <= 80 for line in lines)
    # 1,000,000 - 402,000 = 598,000 steps at 200 a second are 2,990 s.
    assert lines[-1].startswith("step 402,000/1,000,000 loss 3.620 val 3.600 200 steps/s 49:50 left ")
    assert "━" in lines[-1]


def test_text_goes_above_the_bar(terminal):
    with Progress(100, stream=terminal, clock=Clock()) as progress:
        progress.update(10)
        progress.say("[bold]saved[/bold] at 10")
    lines = _plain(terminal.getvalue())
    assert "[bold]saved[/bold] at 10" in [line.strip() for line in lines]
    assert [line for line in lines if line.strip()][-1].startswith("step 10/100")


def test_an_unknown_total_has_a_bar_too(terminal):
    _run(None, 1000, 1e-3, stream=terminal)
    assert "step 1,000 loss" in _plain(terminal.getvalue())[-1]


def test_lines_printed_to_a_pipe_stay_in_it(terminal):
    with contextlib.redirect_stdout(io.StringIO()) as out, Progress(100, stream=terminal) as progress:
        progress.update(10)
        print("for the pipe")
    assert out.getvalue() == "for the pipe\n" and "for the pipe" not in terminal.getvalue()


def test_a_dumb_terminal_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in "\n".join(_run(100, 100, 1e-3, every=10, stream=Terminal()))


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_an_update_costs_next_to_nothing(stream, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    loss, best = np.float32(1.0), np.inf
    for _ in range(3):
        with Progress(20_000, stream=stream()) as progress:
            start = time.process_time()
            for step in range(20_000):
                progress.update(step, loss=loss)
            best = min(best, (time.process_time() - start) / 20_000)
    assert best < 50e-6


def test_a_missing_rich_is_named(monkeypatch, terminal):
    from ch3_jax.errors import InputError

    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(InputError, match="pip install rich"), Progress(1, stream=terminal):
        pass
