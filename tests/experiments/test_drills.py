"""Drills 1 and 2: words that follow the numbers, one program for six runs, and the command."""

import json

import numpy as np
import pytest

from ch3_jax.data.synthetic import inverse_dynamics
from ch3_jax.faults import drill
from ch3_jax.metrics import Series
from experiments.drill_parts import drilling, sentences


def history(loss, norm=None, val=None):
    steps = 100 * np.arange(1, len(loss) + 1)
    norm = np.ones(len(loss)) if norm is None else np.asarray(norm, float)
    val = np.asarray([loss[0], *loss] if val is None else val, float)
    return {
        "loss": Series(steps, np.asarray(loss, float)),
        "val_loss": Series(np.append(0, steps), val),
        "gradient_norm": Series(steps, norm),
        "gradient_norm_max": Series(steps, norm),
    }


def test_the_plateau_is_after_the_fall_and_before_memorising():
    # falls for three rows, lies at 0.23 for a dozen, then is learned by heart
    loss = [1.0, 0.5, 0.3, *[0.23] * 12, *np.linspace(0.22, 0.1, 30)]
    level, at = sentences.plateau(np.array(loss))
    assert level == pytest.approx(0.23) and at == 3


def test_words_follow_the_numbers():
    usual = sentences.shape(history([1.0, 0.1] + [0.09] * 20))
    assert "fell from 1 to a plateau of 0.09" in sentences.loss_words(usual, 0.09)
    assert "1.000 times its floor" in sentences.loss_words(usual, 0.09)
    still = sentences.shape(history([1.0] * 20))
    assert sentences.loss_words(still, 0.09).startswith("stayed at 1 where it began")
    high = sentences.shape(history([1e6, 30.0] + [1.1] * 20, [1e6, 9.0] + [5.0] * 20, val=[1.1] * 23))
    assert "jumped from 1.1 to 1e+06, came back no lower than it began" in sentences.loss_words(high, 0.09)
    assert sentences.norm_words(high, usual).startswith(
        "peaked at 1e+06 and ended at 5, 5 times the baseline's"
    )
    worse = sentences.shape(history([1500.0] * 20, np.linspace(50, 300, 20), val=[1.1] * 21))
    assert "never came down" in sentences.loss_words(worse, 0.09)
    assert sentences.norm_words(worse, usual).startswith("rose from 50 to")
    ended = sentences.shape(history([1.0, np.nan], val=[1.0, 1.0, np.nan]))
    assert sentences.loss_words(ended, 0.09) == "was not finite at step 200"
    assert sentences.loss_words(sentences.shape(history([np.nan])), 0.09) == "was not finite at step 100"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """All six, 40 steps each, without the doctor, with the program of `tests/faults/test_train.py`."""
    data = inverse_dynamics(0, pairs=400, validation_pairs=100)
    runs = {
        n: r._replace(width=16, batch_size=16, every=20)
        for n, r in drilling.drills(data, steps=40, seed=0).items()
    }
    told, folder = [], tmp_path_factory.mktemp("drills")
    done = drilling.run(
        runs,
        folder,
        examined=False,
        heard=lambda name, step, loss: told.append((name, step)),
        finished=lambda d: None,
        stop=lambda: False,
    )
    return done, told, folder


def test_six_runs_share_one_program_and_write_tables(small):
    done, told, folder = small
    assert list(done) == ["baseline", *drill.FAULTS]
    assert len({id(d.trained.ready.program) for d in done.values()}) == 1
    assert {step for name, step in told if name == "big_lr"} == {20, 40}
    rows = (folder / "tiny_lr.csv").read_text().splitlines()
    assert rows[0].startswith("step,val_loss,loss,gradient_norm") and len(rows) == 4
    assert rows[1].split(",")[0] == "0" and rows[-1].split(",")[0] == "40"
    facts = {n: drilling.facts(d, done["baseline"].shape) for n, d in done.items()}
    json.dumps(facts, allow_nan=False)
    assert facts["big_lr"]["sentence"].startswith("big_lr: loss jumped from")
    assert facts["tiny_lr"]["sentence"].startswith("tiny_lr: loss stayed at")
    assert facts["tiny_lr"]["right"] is None
    assert facts["bimodal_labels"]["floor"] == pytest.approx(0.232857, abs=1e-6)


def test_a_stop_keeps_what_is_finished(tmp_path):
    data = inverse_dynamics(0, pairs=400, validation_pairs=100)
    runs = {
        n: r._replace(width=16, batch_size=16, every=20)
        for n, r in drilling.drills(data, steps=40, seed=0).items()
    }
    done = drilling.run(
        runs,
        tmp_path,
        examined=False,
        heard=lambda *_: None,
        finished=lambda d: None,
        stop=lambda: len(list(tmp_path.glob("*.csv"))) > 0,
    )
    assert 1 <= len(done) < len(runs)


@pytest.mark.slow
def test_the_plateau_of_two_demonstrators_is_their_floor():
    data = inverse_dynamics(1, pairs=10_000, validation_pairs=500)
    run = drill.bimodal_labels(drill.baseline(data, steps=1_500))
    from ch3_jax.faults import train as training

    shape = sentences.shape(training.train(training.ready(run)).history)
    assert shape.plateau == pytest.approx(run.floor, rel=0.03)
    # and not that of one demonstrator, nor the "half the squared distance" of the chapter
    assert shape.plateau != pytest.approx(0.09, rel=0.5)
    assert shape.plateau != pytest.approx(2.0**2 / 2 / 7 + 0.09, rel=0.1)
