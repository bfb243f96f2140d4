"""`experiments.read_card` as a person runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ch3_jax.cards.consequences import Setup
from ch3_jax.errors import InputError
from experiments import read_card, read_card_page, read_card_score, read_card_sources

ROOT = Path(__file__).resolve().parents[2]
CARD = """---
license: mit
tags:
- robotics
---
# Kestrel

Unlike models that discretize actions, Kestrel is trained with **flow matching** on chunks
of 50 actions and integrated with 10 Euler steps at 50 Hz.

## Baselines

Tern is trained with PPO.
"""


def run(*words, text=None):
    return subprocess.run(
        [sys.executable, "-m", "experiments.read_card", *words],
        input=text,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


def page(text, setup=Setup(), other=None):  # noqa: B008 - a frozen record
    return read_card_page.page(read_card_sources.example(text), setup, other)


def test_json_of_a_file_and_of_the_standard_input(tmp_path):
    path = tmp_path / "card.md"
    path.write_text(CARD)
    done = run(str(path), "--json", "--backbone_ms=40", "--head_ms=4", f"--out={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["labels"]["form"] == ["flow_matching"]
    assert found["settings"]["chunk"]["value"] == 50
    assert found["settings"]["bins"] is None
    assert found["family"]["line"] == 8
    assert any(q["numbers"].get("latency_ms") == 80 for q in found["consequences"]["questions"])
    assert json.loads((tmp_path / "out" / "reading.json").read_text()) == found
    piped = run("-", "--json", text=CARD)
    assert json.loads(piped.stdout)["labels"] == found["labels"]


def test_refusals_are_one_screen_and_code_2(tmp_path):
    done = run(str(tmp_path / "nothing.md"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "next step" in done.stderr
    assert len(done.stderr.splitlines()) <= 8


def test_smoke_and_help_of_what_is_missing():
    done = run("--smoke")
    assert done.returncode == 0
    assert "flow matching" in done.stdout


def test_the_page_fits_80_columns_and_says_what_is_not_stated():
    text = page(CARD, Setup(40, 4, None, (-0.1, 0.1), "m", 0.2))
    assert max(map(len, text.splitlines())) <= 80
    assert "self-supervised" in text
    assert "not stated" in text
    assert "bins" in text.split("not stated", 1)[1]
    assert "Named and not counted" in text
    assert "PPO" in text
    assert "experiments.doctor --curve=metrics.csv --family=flow" in text


def test_no_loss_is_unknown_with_the_reason():
    text = page("The arm has seven joints.")
    assert "unknown" in text
    assert "no loss, target or reward is named" in text
    assert "What follows: nothing" in text


def test_three_papers_are_read_one_by_one():
    text = "".join(
        f"{name}\n\nAbstract\n\n{body}\n\n"
        for name, body in (
            ("One", "Trained with an L1 loss."),
            ("Two", "Trained with PPO."),
            ("Three", "Nothing."),
        )
    )
    source = read_card_sources.example(text)
    assert [r.family.value for r in source.readings] == ["supervised", "reinforcement", "unknown"]
    assert source.readings[1].forms[0].evidence.line == 11
    assert "3 documents" in read_card_page.page(source, Setup(), None)
    found = read_card_page.as_json(source, Setup(), None)
    assert found["family"] is None
    assert len(found["documents"]) == 3


def test_against_a_run_and_against_a_card(tmp_path):
    run_folder = tmp_path / "x"
    run_folder.mkdir()
    (run_folder / "config.json").write_text(
        json.dumps({"flags": {"loss": "ce", "bins": 256, "learning_rate": 1e-3, "clip": 1.0}})
    )
    card, mine = read_card_sources.open_("openvla"), read_card_sources.open_(str(run_folder), runs=True)
    text = read_card_page.page(card, Setup(), mine)
    assert max(map(len, text.splitlines())) <= 80
    assert "50 x larger" in text.replace("\n", " ")
    found = read_card_page.as_json(card, Setup(), mine)
    assert {row["name"]: row["same"] for row in found["difference"]}["clip_norm"]
    other = read_card_page.page(read_card_sources.example(CARD), Setup(), card)
    assert "flow_matching" in other


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="no run folder"):
        read_card_sources.open_(str(tmp_path), runs=True)


def test_a_card_shows_facts_sources_and_papers():
    text = read_card_page.page(read_card_sources.open_("act"), Setup(), None)
    assert max(map(len, text.splitlines())) <= 80
    assert "paper: mse; code: l1" in text
    assert "imitate_episodes.py" in text


@pytest.mark.parametrize("words", [["1"], ["2", "1"], ["a", "b"], ["0", "1", "m", "x"]])
def test_a_range_that_is_none_is_refused(words):
    class Given:
        backbone_ms = head_ms = control_hz = action_dims = None
        mode_distance, episode_steps, range = 1.0, 500, words

    with pytest.raises(InputError, match="--range"):
        read_card_sources.setup(Given)


def test_score_page(tmp_path):
    labels = {"family": "supervised", "family_alt": [], "form": ["l1"], "bins": None, "chunk": None}
    labels |= {
        "schedule": None,
        "inference_steps": None,
        "kind": "positive",
        "text": "Trained with an L1 loss.",
    }
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({**labels, "system": name}) for name in ("PPO", "Octo", "Tern")))
    text = read_card_score.page(str(path))
    assert "100.0%" in text
    assert "held out" in text
    assert json.loads(read_card_score.page(str(path), as_json=True))["tuning"]["passages"] >= 1
    path.write_text('{"text": "x"}\n')
    with pytest.raises(InputError, match="no labelled passages"):
        read_card_score.page(str(path))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["x", "a.md"], ["x", "--file=a.md"]),
        (["x", "-", "--json"], ["x", "--file=-", "--json"]),
        (["x", "--against", "openvla", "a.md"], ["x", "--against", "openvla", "--file=a.md"]),
        (["x", "--json", "a.md", "b.md"], ["x", "--json", "--file=a.md", "b.md"]),
    ],
)
def test_the_bare_word_is_the_file(given, expected):
    assert read_card.with_file(given) == expected
