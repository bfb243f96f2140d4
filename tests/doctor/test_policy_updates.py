"""The learner's side of check 7, on curves made by hand: each finding, and the healthy curve beside it."""

import numpy as np
import pytest

from ch3_jax.doctor import policy_updates
from ch3_jax.doctor.patient import Declared, Patient

ROWS = 50
HEALTHY = {
    "truncated_error": np.full(ROWS, 1e-7),
    "terminated_error": np.full(ROWS, np.nan),
    "return_with_success": np.linspace(0.0, 0.4, ROWS),
    "seen_mean": np.linspace(0.3, 0.9, ROWS),
    "seen_std": np.full(ROWS, 1.1),
    "advantage_between_envs": np.full(ROWS, 0.2),
    "advantage_between_steps": np.full(ROWS, 1e-3),
    "entropy": np.linspace(6.4, -5.3, ROWS),
    "clip_fraction": np.full(ROWS, 0.25),
    "kl_k3": np.full(ROWS, 0.02),
    "actions": 7,
}


def causes(changes, success=0.0, loss="ppo"):
    patient = Patient(
        "x",
        success=np.full(ROWS, success),
        declared=Declared(family="reinforcement", loss_name=loss),
        extra={**HEALTHY, **changes},
    )
    return [finding.cause for finding in policy_updates.findings(patient)]


def test_a_healthy_run_has_no_finding():
    assert causes({}) == []


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"truncated_error": np.full(ROWS, 1.0)}, "bootstrap"),
        ({"terminated_error": np.full(ROWS, 0.9)}, "bootstrap"),
        ({"return_with_success": np.random.default_rng(0).normal(-0.4, 0.2, ROWS)}, "reward_sign"),
        ({"seen_mean": np.full(ROWS, 3.0)}, "stale_normalizer"),
        ({"seen_std": np.full(ROWS, 9.0)}, "stale_normalizer"),
        ({"advantage_between_envs": np.full(ROWS, 1e-13)}, "advantage_axis"),
        ({"advantage_between_steps": np.full(ROWS, 1e-13)}, "advantage_axis"),
        ({"entropy": np.linspace(-16.0, -20.0, ROWS)}, "policy_collapse"),
        ({"clip_fraction": np.full(ROWS, 0.95)}, "policy_step_too_large"),
        ({"kl_k3": np.full(ROWS, 33.0)}, "policy_step_too_large"),
    ],
)
def test_each_question_has_its_finding(changes, cause):
    assert causes(changes) == [cause]


def test_what_is_no_fault():
    # A weak correlation around 0 is chance.
    assert causes({"return_with_success": np.random.default_rng(0).normal(-0.1, 0.3, ROWS)}) == []
    # A policy that is sure and right.
    assert causes({"entropy": np.linspace(-16.0, -20.0, ROWS)}, success=0.95) == []
    # Moments that lagged in the beginning and caught up.
    assert causes({"seen_mean": np.r_[np.full(20, 5.0), np.full(30, 0.2)]}) == []
    # REINFORCE takes the mean of each step away: that is its baseline.
    assert causes({"advantage_between_steps": np.full(ROWS, 1e-13)}, loss="reinforce") == []
    # A2C has no ratio to clip.
    assert causes({"clip_fraction": np.full(ROWS, 0.95)}, loss="a2c") == []
    # Too few rows to speak.
    assert causes({"truncated_error": np.r_[1.0, np.full(ROWS - 1, np.nan)]}) == []


def test_one_environment_has_nothing_to_be_compared_with():
    alone = np.random.default_rng(0).normal(size=(64, 1))
    missing = {"advantage_between_envs": None, "advantage_between_steps": None}
    assert causes({**missing, "advantages": alone}) == []
    assert causes({**missing, "advantages": alone.T}) == []
    assert causes({"advantage_between_envs": np.full(ROWS, np.nan)}) == []


def test_advantages_as_they_are_answer_too():
    raw = np.random.default_rng(0).normal(size=(32, 64)) + np.random.default_rng(1).normal(size=64)
    missing = {"advantage_between_envs": None, "advantage_between_steps": None}
    assert causes({**missing, "advantages": raw}) == []
    for axis in (0, 1):
        wrong = (raw - raw.mean(axis, keepdims=True)) / raw.std(axis, keepdims=True)
        assert causes({**missing, "advantages": wrong}) == ["advantage_axis"]
