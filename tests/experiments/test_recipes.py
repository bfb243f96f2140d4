"""Recipes: the cards' facts as flags, a page that hides no difference, the command line above them."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ch3_jax.cards import facts
from ch3_jax.errors import InputError
from experiments import flags
from experiments.recipes import RECIPES, SCALES, count, explain, recipe

ROOT = Path(__file__).resolve().parents[2]
# Read in the sources, see each card: what a recipe of the name must say.
KNOWN = {
    "rt1": {"loss": "ce", "bins_rule": "rt1", "window": 6, "horizon": 1, "weight_decay": 0.0},
    "openvla": {"loss": "ce", "bins_rule": "openvla", "normalize": "openvla", "clip": 1.0, "b2": 0.999},
    "act": {"loss": "cvae", "beta": 10.0, "horizon": 100, "clip": 0.0, "weight_decay": 1e-4, "warmup": 0},
    "diffusion_policy": {
        "loss": "ddpm", "noise_steps": 100, "b1": 0.95, "weight_decay": 1e-6, "ema": "power", "horizon": 16,
        "window": 2, "noise_schedule": "squaredcos_cap_v2", "normalize": "diffusion_policy", "clip": 0.0,
    },
    "pi0": {
        "loss": "flow", "time_direction": "noise_at_1", "time_law": "pi0_beta", "b2": 0.95, "ema": "0.99",
        "sampling_steps": 10, "weight_decay": 1e-10, "schedule": "openpi", "normalize": "openpi_zscore",
    },
    "octo": {"loss": "ddpm", "noise_steps": 20, "schedule": "rsqrt", "weight_decay": 0.1, "horizon": 4},
}  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_what_its_system_does(name):
    made = recipe(name).flags
    assert {flag: made[flag] for flag in KNOWN[name]} == KNOWN[name]
    fields = {field.name for field in dataclasses.fields(flags.Options)}
    assert set(made) <= fields


@pytest.mark.parametrize("name", RECIPES)
def test_at_full_scale_numbers_are_the_cards(name):
    made, card = recipe(name, "paper").flags, facts.load(name)
    for flag in ("batch_size", "learning_rate", "steps", "epochs"):
        assert made.get(flag) == card.value(flag)
    assert made["learning_rate"] != recipe(name, "small").flags["learning_rate"]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", RECIPES)
def test_the_page_fits_a_terminal_and_names_its_deviations(name, scale):
    made = recipe(name, scale)
    page = explain(made, 1)
    assert max(map(len, page.splitlines())) <= 80
    assert page.count("\n- ") == len(made.deviations) >= 4
    for flag, value in made.flags.items():
        assert f"--{flag}={value}" in page.replace("\n ", "")
    # A small scale says that its rate is its own.
    assert ("two cores" in " ".join(page.split())) == (scale != "paper")


def test_sizes_of_the_networks():
    """Octo's 14 -> 384 and the transformer of its own test; small ones are a hundredth of the paper's."""
    for name in ("act", "pi0"):
        tiny, small, paper = (count(recipe(name, scale)) for scale in SCALES)
        assert tiny * 5 < small < paper / 5
    assert count(recipe("pi0", "paper")) > 1_981_882_368 + 311_464_960


@pytest.mark.parametrize("given", [("pi1", "small"), ("pi0", "huge")])
def test_unknown_names_are_refused(given):
    with pytest.raises(InputError, match="unknown"):
        recipe(*given)


def run(*words):
    command = [sys.executable, "-m", "experiments.train", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_what_contradicts_a_recipe_is_refused():
    for words in (["--explain"], ["--recipe=pi0", "--loss=ce"]):
        done = run(*words)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "--recipe" in done.stderr + done.stdout and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_recipe_trains_and_the_command_line_wins(tmp_path):
    out = tmp_path / "run"
    done = run(
        "--recipe=rt1", "--scale=tiny", "--data=panda_reach", "--smoke", "--window=2", "--nodoctor",
        "--notensorboard", f"--out={out}",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    kept = json.loads((out / "config.json").read_text())["flags"]
    assert kept["network"] == "rt1:tiny" and kept["bins_rule"] == "rt1" and kept["recipe"] == "rt1"
    assert kept["window"] == 2
