"""The loop passes the same points in the same order however it is cut."""

from typing import NamedTuple

import numpy as np
import pytest

from ch3_jax.training.loop import Hooks, Plan, fit


class State(NamedTuple):
    step: int


def run(plan, start=0, stop_at=None, bad_at=None, skip=False):
    events = []

    def advance(state, length):
        assert length <= plan.every
        steps = np.arange(state.step, state.step + length)
        losses = np.where(steps == bad_at, np.nan, 1.0)
        froze = bad_at is not None and state.step <= bad_at < state.step + length and not skip
        frozen = bad_at is not None and state.step == bad_at and not skip
        end = bad_at if froze or frozen else state.step + length
        return State(end), {"losses": losses, "norms": np.ones(length)}

    hooks = Hooks(
        log=lambda step, metrics: events.append(("log", step, len(metrics["losses"]))),
        validate=lambda state: events.append(("validate", state.step)),
        save=lambda state, validation: events.append(("save", state.step)),
        stop=lambda: stop_at is not None and sum(e[0] == "log" for e in events) + 1 >= stop_at,
    )
    return fit(State(start), advance, plan, hooks, skip_nonfinite=skip), events


def test_order_of_events():
    outcome, events = run(Plan(steps=25, every=10, save_every=20))
    assert outcome == (State(25), "finished")
    assert events == [
        ("log", 10, 10),
        ("log", 20, 10),
        ("validate", 20),
        ("save", 20),
        ("log", 25, 5),
        ("validate", 25),
        ("save", 25),
    ]


def test_interrupted_and_resumed_logs_every_step_once():
    plan = Plan(steps=60, every=10, save_every=30)
    outcome, first = run(plan, stop_at=2)
    assert outcome.status == "interrupted"
    assert first[-1] == ("save", outcome.state.step)
    _, second = run(plan, start=outcome.state.step)
    logs = [e for e in first + second if e[0] in ("log", "validate")]
    assert logs == [e for e in run(plan)[1] if e[0] in ("log", "validate")]


@pytest.mark.parametrize("bad", [0, 7, 13, 29])
def test_non_finite_stops_and_saves_the_last_good_state(bad):
    outcome, events = run(Plan(steps=30, every=10, save_every=30), bad_at=bad)
    assert outcome == (State(bad), "non_finite")
    assert events[-1] == ("save", bad)
    assert all(e[1] <= bad for e in events if e[0] == "log")


def test_skipping_goes_on():
    outcome, events = run(Plan(steps=30, every=10, save_every=30), bad_at=13, skip=True)
    assert outcome.status == "finished"
    assert ("log", 20, 10) in events


def test_a_finished_run_has_nothing_to_do():
    outcome, events = run(Plan(steps=30, every=10, save_every=30), start=30)
    assert outcome.status == "finished"
    assert events == []
