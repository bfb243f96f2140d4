"""Runs by reward as patients: one environment that cannot tell success, as Gymnasium's."""

import numpy as np
import pytest

from ch3_jax.doctor.examine import examine
from ch3_jax.doctor.from_reward import patient_of_rows

ROWS = 24
HOPPER = {
    "return": np.linspace(160, 3000, ROWS),
    "success": np.full(ROWS, np.nan),
    "advantage_between_envs": np.full(ROWS, np.nan),
    "advantage_between_steps": np.full(ROWS, 1.0),
    "clip_fraction": np.full(ROWS, 0.15),
    "kl_k3": np.full(ROWS, 0.01),
    "terminated_error": np.full(ROWS, 1e-8),
}


@pytest.mark.parametrize("known", [0, 5])
def test_without_success_there_is_no_alarm_and_what_was_not_looked_at_is_said(known):
    rows = {**HOPPER, "success": np.r_[np.zeros(known), np.full(ROWS - known, np.nan)]}
    report = examine(patient_of_rows("hopper", rows, loss="ppo", normalized=True, actions=3), (7,))
    assert not report.failed
    assert report.alarms == ()
    assert any("about the task" in open_.what for open_ in report.not_examined)
