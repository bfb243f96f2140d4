"""Faults of runs by reward: the doctor names each, and leaves the look-alikes alone."""

import pytest

from ch3_jax.doctor.causes import CAUSES
from ch3_jax.doctor.examine import examine
from ch3_jax.doctor.from_reward import patient_of_rows
from ch3_jax.doctor.verdict import HEALTHY, diagnose
from ch3_jax.faults.of_rewards import FAULTS, RewardRun, train

BY_ID = {fault.id: fault for fault in FAULTS}


def examined(run):
    curves = train(run)
    seen = patient_of_rows(
        "x", curves.rows, loss="ppo", normalized=run.settings.normalize_reward, actions=curves.actions
    )
    report = examine(seen, (7,))
    assert not report.failed
    return diagnose(report, success=float(seen.success[-1])), {f.cause for f in report.alarms}


def test_answers_are_causes_of_the_doctor():
    assert len(BY_ID) == len(FAULTS)
    assert {answer for fault in FAULTS for answer in fault.answers()} <= set(CAUSES)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_every_strong_fault_is_named(fault):
    _, alarms = examined(fault.change(RewardRun(seed=3), fault.severities[2]))
    assert alarms & set(fault.answers())


@pytest.mark.slow
@pytest.mark.parametrize("fault", [f for f in FAULTS if f.lookalike], ids=lambda fault: fault.id)
def test_look_alikes_are_left_alone(fault):
    diagnosis, alarms = examined(fault.lookalike(RewardRun(seed=4)))
    assert (diagnosis.status, alarms) == (HEALTHY, set())
