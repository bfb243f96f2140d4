"""What follows and what differs: numbers that were derived by hand."""

import math
import re
from pathlib import Path

import pytest

from ch3_jax.cards import commitments, facts, read
from ch3_jax.cards.consequences import (
    Setup,
    averaging,
    consequences,
    decoding,
    discounting,
    doctor_family,
    latency,
    resolution,
)
from ch3_jax.cards.difference import NOT_STATED, difference


def numbers(found, setup=Setup()):  # noqa: B008 - a frozen record
    return {name: value for q in consequences(found, setup).questions for name, value in q.numbers.items()}


def test_averaging_error():
    # Modes at 0 and 0.6, each half the time: the mean is 0.3, each squared error 0.09 = 0.6^2 / 4.
    assert averaging("mse", 0.6).numbers == pytest.approx({"distance_to_each_mode": 0.3, "floor": 0.09})
    # The median: |x| / 2 + |0.6 - x| / 2 = 0.3 wherever x lies between.
    assert averaging("l1", 0.6).numbers["floor"] == pytest.approx(0.3)
    assert "0.05" in averaging("mse", math.sqrt(1.4), 7).answer  # 0.35 / 7


def test_value_at_the_start():
    assert discounting(0.99, 500, True).numbers["value_at_start"] == pytest.approx(0.0066, abs=5e-5)
    assert discounting(0.99, 500, True).numbers["reach_steps"] == pytest.approx(100)
    assert discounting(0.99, 500, False).numbers["gamma_for_half"] ** 500 == pytest.approx(0.5)
    assert "not stated" in discounting(0.99, 500, False).answer
    assert discounting(1.0, 10, True).numbers["value_at_start"] == 1


def test_which_reward():
    found = commitments.from_reading(
        read("We fine-tune with PPO on a sparse binary reward with a discount of 0.98.")
    )
    assert (found["reward"], found["gamma"]) == ("sparse", 0.98)
    question = consequences(found, Setup(episode_steps=100)).questions[0]
    assert "a sparse reward" in question.answer
    assert question.numbers["value_at_start"] == pytest.approx(0.98**100)
    assert "not stated" in consequences({"form": ["ppo"]}).questions[0].answer


def test_latency_against_chunk_and_period():
    found = {"form": ["flow_matching"], "inference_steps": 10, "chunk": 50}
    seen = latency(found, Setup(backbone_ms=40, head_ms=6, control_hz=50)).numbers
    # 40 + 10 * 6 = 100 ms; 50 actions last 1000 ms; (1000 - 40) / 6 = 160 calls; 100 ms are 5 actions.
    assert seen == {
        "calls": 10,
        "period_ms": 20,
        "chunk_ms": 1000,
        "latency_ms": 100,
        "fits": 1,
        "most_calls": 160,
        "late_actions": 5,
    }
    late = latency({**found, "executed": 4}, Setup(backbone_ms=40, head_ms=6, control_hz=50))
    assert late.numbers["fits"] == 0
    assert "does NOT fit" in late.answer
    assert "--backbone_ms" in latency(found, Setup()).answer
    assert latency({"form": ["flow_matching"]}, Setup()).numbers == {}


def test_bins():
    seen = resolution(256, Setup(value_range=(-math.pi, math.pi), unit="rad")).numbers
    assert seen["width"] == pytest.approx(2 * math.pi / 256)
    assert seen["largest_error"] == pytest.approx(math.pi / 256)
    assert seen["rms_error"] == pytest.approx(2 * math.pi / 256 / math.sqrt(12))
    assert "rad" in resolution(256, Setup(value_range=(-1, 1), unit="rad")).answer


def test_decoding_length():
    assert decoding({"bins": 256, "chunk": 8}, Setup(action_dims=7)).numbers == {"tokens": 56}
    seen = decoding({"bins": 256, "action_dims": 7}, Setup(backbone_ms=50, head_ms=20, control_hz=5))
    assert seen.numbers["latency_ms"] == 190  # 50 + 7 * 20, within 200 ms
    assert "which fits" in seen.answer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Trained with cross-entropy over 256 bins per action dimension.", math.log(256)),
        ("The network predicts the noise added to the actions.", 1.0),
        ("Trained with flow matching on actions.", 2.0),
    ],
)
def test_first_loss(text, expected):
    assert numbers(commitments.from_reading(read(text)))["first_loss"] == pytest.approx(expected)


def test_checks_begin_with_what_the_family_needs():
    first = {
        family: consequences({"family": family, "form": [form]}).checks[0].name[0]
        for family, form in (
            ("supervised", "mse"),
            ("reinforcement", "ppo"),
            ("self_supervised", "flow_matching"),
        )
    }
    assert first == {"supervised": "1", "reinforcement": "7", "self_supervised": "1"}
    seen = consequences({"family": "reinforcement", "form": ["grpo"]})
    assert any("--family=reinforcement" in check.command for check in seen.checks)
    # Eight rollouts at ten per cent: 0.9^8 + 0.1^8.
    assert numbers({"family": "reinforcement", "form": ["grpo"]})["silent_at_10_percent"] == pytest.approx(
        0.9**8 + 0.1**8
    )


def test_commands_are_those_of_the_doctor():
    source = (Path(__file__).resolve().parents[2] / "experiments" / "doctor.py").read_text()
    words = re.search(r"FAMILIES = \(([^)]*)\)", source)[1]
    for family, form in (
        ("supervised", "l1"),
        ("reinforcement", "sac"),
        ("self_supervised", "flow_matching"),
    ):
        assert f'"{doctor_family(family, [form])}"' in words
    flags = set(re.findall(r"--(\w+)", " ".join(c.command for c in consequences({"form": ["ppo"]}).checks)))
    assert flags == {"run", "data", "curve", "family"}
    assert all(f'"{flag}"' in source for flag in flags)


def test_nothing_follows_from_nothing():
    assert consequences({}) == ((), (), ())


@pytest.mark.parametrize("key", facts.names())
def test_every_card_has_consequences(key):
    seen = consequences(commitments.from_card(facts.load(key)), Setup(20, 5, 10, (-1, 1), "rad", 0.2, 100, 7))
    assert seen.checks
    assert seen.failures


FLAGS = {"loss": "ce", "bins": 256, "bins_rule": "minmax", "normalize": "zscore", "window": 1, "horizon": 1}
FLAGS |= {
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "warmup": 20,
    "weight_decay": 1e-5,
    "clip": 1.0,
    "b1": 0.9,
}
FLAGS |= {"b1": 0.9, "b2": 0.999, "batch_size": 64, "steps": 1000, "dtype": "float32", "ema": "none"}


def test_difference_of_openvla_and_a_run():
    rows = {
        r.name: r
        for r in difference(commitments.from_card(facts.load("openvla")), commitments.from_flags(FLAGS))
    }
    assert rows["form"].same
    assert rows["clip_norm"].same
    assert rows["learning_rate"].effect.startswith("50 x larger")
    assert rows["batch_size"].effect.startswith("32 x smaller")
    assert "bfloat16" in str(rows["dtype"].theirs)
    assert "float32" in str(rows["dtype"].yours)
    assert rows["lr_schedule"].effect
    assert rows["epochs"].yours is NOT_STATED
    assert rows["epochs"].effect == ""
    # Every hyperparameter that drill 4 asks for has its row.
    assert {
        *("optimizer", "learning_rate", "lr_schedule", "weight_decay", "batch_size", "clip_norm", "dtype"),
        *("warmup_steps", "steps"),
    } <= set(rows)


def test_every_difference_that_both_state_has_an_effect():
    for one in facts.names():
        for other in facts.names():
            rows = difference(
                commitments.from_card(facts.load(one)), commitments.from_card(facts.load(other))
            )
            for row in rows:
                both = row.theirs is not NOT_STATED and row.yours is not NOT_STATED
                assert bool(row.effect) == (both and not row.same), (one, other, row)


@pytest.mark.parametrize(
    ("flags", "form", "output"),
    [
        ({"loss": "mse", "horizon": 1}, "mse", "continuous"),
        ({"loss": "l1", "horizon": 8}, "l1", "chunk"),
        ({"loss": "flow", "horizon": 8}, "flow_matching", "denoised_chunk"),
        ({"loss": "ddpm", "prediction": "x0"}, "x0_mse", "denoised"),
        ({"loss": "ddpm", "prediction": None}, "epsilon_mse", "denoised"),
    ],
)
def test_flags_of_a_run(flags, form, output):
    found = commitments.from_flags(flags)
    assert (found["form"], found["output"]) == ([form], output)


def test_every_loss_of_a_run_has_a_form():
    from experiments import flags

    assert set(flags.LOSSES) <= set(commitments.RUN_FORMS)
