"""The score of readings, on rows made here; on the labelled passages where they are present."""

import json

import pytest

from ch3_jax.cards import score

ROW = {
    "kind": "positive",
    "family_alt": [],
    "bins": None,
    "chunk": None,
    "schedule": None,
    "inference_steps": None,
}


def row(text, family, form, **others):
    return {**ROW, "text": text, "family": family, "form": form, **others}


def test_shares_by_hand():
    found = score.score(
        [
            row("Trained with an L1 loss.", "supervised", ["l1"]),
            row("Trained with an L1 loss.", "reinforcement", ["ppo"]),
            row("Trained with an L1 loss.", "unknown", ["l1", "mse"], family_alt=["supervised"]),
            row("Chunks of 8 actions.", "unknown", [], chunk=8),
            row("Chunks of 8 actions.", "unknown", [], chunk=9),
            row("Nothing.", "unknown", [], chunk=7),
        ]
    )
    assert found.shares["positive", "family"] == (5, 6)
    assert found.shares["positive", "form"] == (5, 6)
    assert found.shares["positive", "form, exact"] == (4, 6)
    assert found.shares["all", "chunk"] == (1, 2)  # Two stated, one right; silence is no false statement.
    assert found.recall["chunk"] == (1, 3)
    assert len(found.misses) == 4


@pytest.mark.parametrize(
    ("got", "expected", "right"),
    [
        ([], [], True),
        (["td"], [], False),
        ([], ["td"], False),
        (["awr"], ["td", "awr"], True),
        (["mse", "td"], ["td"], False),
    ],
)
def test_form_is_right(got, expected, right):
    assert score.form_is_right(got, expected) is right


def test_halves_are_a_fixed_rule():
    # SHA-256 of "PPO" ends in an even digit, of "Octo" in an odd one.
    assert (score.half("PPO"), score.half("Octo")) == ("tuning", "held_out")


def test_labelled_passages(real_data):
    path = real_data / "loss_passages.jsonl"
    if not path.is_file():
        pytest.skip(f"no labelled passages: {path} is not there")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for name in ("tuning", "held_out"):
        found = score.score([r for r in rows if score.half(r["system"]) == name])
        below = {
            key: found.shares[key]
            for key, target in score.TARGETS.items()
            if key in found.shares and found.shares[key].value < target
        }
        assert not below, (name, below)
