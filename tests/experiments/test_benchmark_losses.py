"""The losses' benchmark compares like with like, and says so when it does not."""

import importlib.util
import sys

import numpy as np
import pytest

from experiments.benchmarks import jax_losses, losses
from experiments.benchmarks.rounds import Answer
from third_party import torch_losses

BATCH = 64


def test_ratios_are_those_within_a_round():
    answers = {
        "ours": [Answer(2, 1e-3, 2e-3), Answer(2, 1e-3, 4e-3), Answer(2, 1e-3, 2e-3)],
        "torch": [Answer(1, 1e-3, 3e-3), Answer(1, 1e-3, 6e-3), Answer(1, 1e-3, 3e-3)],
    }
    row = losses._row("huber-64-gradient", answers, threads=1)
    # processor time: ours 1, 2, 1 ms per call, torch 3, 6, 3: three times in every round
    assert (row["loss"], row["batch"], row["pass"]) == ("huber", 64, "gradient")
    assert row["ours_us"] == pytest.approx(1000)
    assert row["slower"] == {"torch": pytest.approx(3.0)}
    record = {"threads": 1, "rows": [row], "versions": {"ours": "jax 1", "torch": "torch 2"}}
    text = losses.table(record)
    assert "3.00 x" in text
    assert "ours is at least as fast in 1 of 1" in text
    assert max(map(len, text.splitlines())) <= 110


def test_other_numbers_are_refused():
    ours = {"huber-64-forward/value": np.float32(1.0)}
    assert losses.compare(ours, {"huber-64-forward/value": np.float32(1.0001)}, "optax") <= 1
    for wrong in (1.001, np.nan):
        with pytest.raises(ValueError, match="huber-64-forward/value is not optax's"):
            losses.compare(ours, {"huber-64-forward/value": np.float32(wrong)}, "optax")


def test_every_loss_has_inputs_and_a_formula_of_ours():
    assert set(jax_losses.ours()) == set(torch_losses.LOSSES)
    found = {key.split("/")[0] for key in losses.inputs(tuple(torch_losses.LOSSES), (BATCH,))}
    assert found == set(torch_losses.LOSSES)


def test_a_missing_interpreter_is_named():
    with pytest.raises(ValueError, match="--torch_python=/nowhere/python cannot be started"):
        losses.missing_packages("/nowhere/python")
    assert set(losses.missing_packages(sys.executable)) <= {"rlax", "torch"}


@pytest.mark.slow
def test_all_sides_return_the_same_values_and_gradients():
    """What the benchmark checks before it times anything, at the smaller batch."""
    arrays = losses.inputs(tuple(torch_losses.LOSSES), (BATCH,))
    ours = torch_losses.answers(jax_losses.make_runs(arrays, jax_losses.ours()), np.asarray)
    sides = {"optax": lambda: jax_losses.make_runs(arrays, jax_losses.of_optax())}
    if importlib.util.find_spec("rlax"):
        sides["rlax"] = lambda: jax_losses.make_runs(arrays, jax_losses.of_rlax())
    if importlib.util.find_spec("torch"):
        sides["torch"] = lambda: torch_losses.make_runs(arrays)
    for name, runs in sides.items():
        losses.compare(ours, torch_losses.answers(runs(), np.asarray), name)
