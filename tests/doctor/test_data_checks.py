"""Checks 1 and 2 where the law is known: planted faults are named, healthy robots are left alone."""

import dataclasses

import numpy as np
import pytest

from ch3_jax.data.splits import select
from ch3_jax.doctor.causes import same
from ch3_jax.doctor.examine import examine
from ch3_jax.doctor.patient import Declared, Patient
from ch3_jax.doctor.verdict import diagnose
from tests.doctor.planted import FAULTS, late
from tests.doctor.robots import KINDS, other
from tests.doctor.simulated import changed, robot

HEALTHY = {
    "plain": {},
    "deltas": {"delta": True},
    "deltas, late by three": {"delta": True, "delay": 3, "noise": 0.01},
    "two tasks": {"second_task": 0.4},
    "idle": {"idle": 0.83, "length": 150},
    "idle deltas": {"idle": 0.8, "length": 150, "delta": True},
    "idle start": {"idle_start": 10},
    "noisy": {"noise": 0.03, "alpha": 0.15},
    "stiff": {"alpha": 1.0, "noise": 0.0},
    "transport delay": {"delay": 4},
    "wrist and slide": {"scales": (1, 1, 1, 1, 5, 0.02)},
    "three episodes": {"episodes": 3, "held_out": 1},
    "one episode": {"episodes": 1, "held_out": 1},
}


def data_report(dataset, **patient):
    report = examine(Patient("x", dataset, **patient), checks=(1, 2))
    # A question that raised is left open, with the name of the exception: here none may.
    assert not report.failed and not [n for n in report.not_examined if "an examination without" in n.needs]
    return report


def alarms(dataset, **patient) -> list[str]:
    return [f.cause for f in data_report(dataset, **patient).alarms]


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_recordings_raise_no_alarm(name):
    assert alarms(robot(11, **HEALTHY[name])) == []


@pytest.mark.parametrize("kind", KINDS)
def test_other_robots_raise_no_alarm(kind):
    assert alarms(other(kind, 5)) == []


@pytest.mark.parametrize("delta", [False, True], ids=["targets", "changes"])
@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_named_first(name, delta):
    cause, plant = FAULTS[name]
    diagnosis = diagnose(data_report(plant(robot(7, delta=delta, noise=0.002))))
    assert diagnosis.causes, "nothing found"
    assert same(diagnosis.causes[0].cause, cause)
    # What else is said is a consequence of it.
    assert all(same(b.cause, cause) or b.explained_by for b in diagnosis.causes)


def test_a_standstill_before_the_motion_is_named():
    assert alarms(robot(5, idle_start=70, length=130)) == ["idle_prefix"]
    assert alarms(robot(5, idle_start=70, length=130, idle=0.4)) == ["idle_prefix"]


@pytest.mark.parametrize(
    ("delta", "said", "found"),
    [
        (False, "delta joint position", ["absolute_as_delta"]),
        (False, "absolute joint position", []),
        (True, "absolute joint position", ["absolute_as_delta"]),
        (True, "delta joint position", []),
    ],
)
def test_a_declared_meaning_is_held_against_the_numbers(delta, said, found):
    assert alarms(robot(3, delta=delta), declared=Declared(action_meaning=said)) == found


def test_a_declared_delay_settles_what_a_lag_leaves_open():
    slow = robot(1, delay=2)
    # A robot that hears 2 steps late and actions stamped 1 late read k = -1, which healthy robots do too.
    assert alarms(late(slow)) == []
    assert alarms(late(slow), declared=Declared(delay_steps=2)) == ["action_lag"]
    assert alarms(slow, declared=Declared(delay_steps=2)) == []


def test_noise_on_the_recorded_action_is_no_lag():
    rng = np.random.default_rng(0)
    noisy = changed(robot(2), lambda e, o, a: (o, a + 0.05 * rng.standard_t(2.5, a.shape)))
    assert "action_lag" not in alarms(noisy)


def test_times_that_run_backwards_and_a_sensor_of_varying_rate():
    data = robot(0)
    steps = data.splits["train"]

    def with_time(time):
        return dataclasses.replace(data, splits={"train": dataclasses.replace(steps, timestamp=time)})

    assert alarms(with_time(steps.timestamp[::-1].copy())) == ["timestamps_disordered"]
    jitter = np.random.default_rng(0).uniform(-0.02, 0.02, len(steps))
    assert alarms(with_time(steps.timestamp + jitter)) == []
    # The files say 20 Hz; the clock says 10.
    assert alarms(with_time(steps.timestamp * 2)) == ["wrong_rate"]


def zeros(seed: int, count: int):
    """The first `count` actions of every episode are zeros that the logger wrote."""

    def change(episode, seen, done):
        done = done.copy()
        done[:count] = 0
        return seen, done

    return changed(robot(seed), change)


@pytest.mark.parametrize("count", [1, 3, 6])
def test_zeros_before_the_first_command_are_told_from_a_rest(count):
    assert "zero_first_actions" in alarms(zeros(0, count))
    assert alarms(robot(0, delta=True, idle_start=4)) == []


def test_a_sensor_that_hangs_until_the_end_and_one_that_jumps_back():
    def until_the_end(episode, seen, done):
        if episode % 3:
            return seen, done
        seen = seen.copy()
        seen[len(seen) // 3 :] = seen[len(seen) // 3]
        return seen, done

    assert "frozen_observations" in alarms(changed(robot(1), until_the_end))


def test_a_recording_that_is_mostly_copies():
    data = robot(2)
    steps = data.splits["train"]
    few = select(steps, np.arange(steps.episodes) % 4)
    one = select(steps, np.r_[np.arange(steps.episodes - 2), 0, 1])
    assert alarms(dataclasses.replace(data, splits={"train": few})) == ["repeated_episodes"]
    assert alarms(dataclasses.replace(data, splits={"train": one})) == []
