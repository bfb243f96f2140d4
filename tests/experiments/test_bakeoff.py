"""The bake-off: what it trains, how it scores, what it says, and that it survives being stopped."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from ch3_jax.data import synthetic
from experiments.bakeoff_parts import parts, pictures, plan, pool, report, scores, worker
from experiments.bakeoff_parts.plan import ITEMS, PREDICTORS, SETS, TRUTH, Item, Settings

ROOT = Path(__file__).resolve().parents[2]
SMALL = Settings(pairs=640, seed=0, observations=20, predictions=10, smoke=False)


@pytest.fixture(scope="module")
def truths():
    return {
        data: scores.make_truth(
            synthetic.inverse_dynamics(0, pairs=64, validation_pairs=200, bimodal=data == "bimodal"), 100, 0
        )
        for data in SETS
    }


def test_ten_runs_of_the_chapters_length():
    assert len(set(ITEMS)) == 10
    # 50 epochs of 156 batches; one pass over a million is 15,625, cut to a multiple of 50.
    assert plan.steps_of(SMALL._replace(pairs=10_000)) == 7_800
    assert plan.steps_of(SMALL._replace(pairs=1_000_000)) == 15_600
    assert {p.model for p in PREDICTORS} == set(plan.MODELS)


def test_the_chapters_settings():
    for model in plan.MODELS:
        options = worker.options_of(Item("bimodal", model), SMALL._replace(pairs=10_000))
        assert (options.loss, options.bimodal, options.bins, options.bins_rule) == (
            model,
            True,
            64,
            "minmax",
        )
        assert (options.learning_rate, options.batch_size, options.steps) == (1e-3, 64, 7_800)
        assert (options.weight_decay, options.clip, options.warmup) == (0, 0, 0)
        assert options.sampler == ("dpmpp_2m" if model in ("ddpm", "flow") else None)
        assert options.sampling_steps == (20 if model in ("denoising", "ddpm", "flow") else None)


def test_scores_of_the_truth(truths):
    settings = SMALL._replace(predictions=400)
    found = scores.score(truths["bimodal"], scores.fresh(truths["bimodal"], settings))
    # Two points at +-1 with noise 0.3: standard deviation sqrt(1.09); in the middle quarter 0.6 %.
    assert found["spread"] == pytest.approx(np.sqrt(1.09), rel=0.01)
    between = stats.norm.cdf(-2.5) - stats.norm.cdf(-1.25 / 0.3)
    assert found["valley"] == pytest.approx(between, abs=0.002)
    assert found["modes"] == 1
    assert abs(found["energy"]) < 0.005 and found["wasserstein"] < 0.15
    single = scores.score(truths["unimodal"], scores.fresh(truths["unimodal"], settings))
    assert single["spread"] == pytest.approx(0.3, rel=0.01)
    assert single["valley"] is None and single["modes"] == 1


def test_scores_of_the_average_and_of_one_way(truths):
    truth = truths["bimodal"]
    average = np.repeat(truth.mean[:, None].astype(np.float32), 10, axis=1)
    found = scores.score(truth, average)
    assert (found["spread"], found["modes"], found["valley"]) == (0, 0, 1)
    one = average.copy()
    one[..., 0] += 1.0
    found = scores.score(truth, one)
    assert (found["spread"], found["modes"], found["valley"]) == (0, 0, 0)
    # Half of the mass must go from one way to the other, 2 N m; the other half is within its noise.
    assert found["wasserstein"] == pytest.approx(1 + 0.3 * np.sqrt(2 / np.pi) / 2, abs=0.08)
    # A mode needs a tenth of the predictions: one in ten at the other way is enough, none is not.
    one[:, 0, 0] -= 2.0
    assert scores.score(truth, one)["modes"] == 1


def test_the_same_draws_for_every_model_and_others_for_the_reference(truths):
    again = scores.make_truth(
        synthetic.inverse_dynamics(0, pairs=64, validation_pairs=200, bimodal=True), 100, 0
    )
    np.testing.assert_array_equal(again.draws, truths["bimodal"].draws)
    # Of 14,000 floats one or two may be met again among 140,000 by chance.
    assert np.isin(scores.fresh(again, SMALL), again.draws).mean() < 0.01


def made_up(seed=0):
    """Parts as ten runs would leave them, with models that do what the chapter says."""
    rng = np.random.default_rng(seed)
    offsets = {"unimodal": np.zeros(1), "bimodal": np.array([-1.0, 1.0])}
    found, means = {}, {data: rng.normal(size=plan.SHOWN) for data in SETS}
    for item in ITEMS:
        offset, mean = offsets[item.data], means[item.data]
        law = mean[:, None] + rng.choice(offset, (plan.SHOWN, plan.DRAWN))
        cloud = (law + 0.3 * rng.normal(size=law.shape)).astype(np.float32)
        curve = 1 + np.exp(-np.arange(51) / 10)
        arrays = {
            "steps": np.arange(1, 51) * 156,
            "train": 0.9 * curve[1:],
            "validation": 1.05 * curve,
            "truth/offsets": offset,
            "truth/noise": np.array(0.3),
            "truth/mean": mean,
            "truth/draws": cloud,
        }
        facts = {"steps": 7_800, "parameters": 1_000, "parameters_sha256": "0", "floor": 1.0}
        facts |= {
            "train_loss": 0.9,
            "val_loss": 1.06,
            "best_val_loss": 1.05,
            "best_step": 312,
            "unit": "nats",
            "scores": {},
            "times": {},
        }
        for name in [p.name for p in PREDICTORS if p.model == item.model] + [TRUTH]:
            point = name in ("CE argmax", "MSE")
            valley = None if item.data == "unimodal" else 0.9 if name == "MSE" else 0.01
            row = {"spread": 0.0 if point else 1.0, "modes": 0.0 if point else 0.99, "valley": valley}
            row |= {"energy": 0.1, "wasserstein": 0.2, "calls": None if name == TRUTH else 20}
            facts["scores"][name] = row
            facts["times"][name] = 0.5
            arrays[f"predictions/{name}"] = np.repeat(mean[:, None], plan.DRAWN, 1) if point else cloud
        facts["times"] |= {"train_s": 20.0, "score_s": 2.0}
        found[item] = parts.Part(facts, arrays)
    return found


def test_part_roundtrip_and_damage(tmp_path):
    part = made_up()[ITEMS[0]]
    path = parts.path_of(tmp_path, ITEMS[0])
    assert parts.read(path) is None
    parts.write(path, part)
    again = parts.read(path)
    assert again.facts == part.facts
    assert parts.digest(again.arrays) == parts.digest(part.arrays)
    good = path.read_bytes()
    place = good.index(part.arrays["truth/draws"].tobytes())
    path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
    assert parts.read(path) is None
    path.write_bytes(good[: len(good) // 2])
    assert parts.read(path) is None
    # Another number under the same sum is no part either.
    other = part.arrays | {"train": part.arrays["train"] + 1}
    np.savez(path, facts=json.dumps(part.facts | {"sha256": parts.digest(part.arrays)}), **other)
    assert parts.read(path) is None


def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path, monkeypatch):
    def full(file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parts.np, "savez", full)
    with pytest.raises(OSError, match="bimodal-ddpm.npz"):
        parts.write(parts.path_of(tmp_path, Item("bimodal", "ddpm")), made_up()[ITEMS[0]])
    assert list((tmp_path / "parts").iterdir()) == []


def test_tables_fit_a_terminal_and_verdicts_can_fail():
    found = made_up()
    both = {data: report.collect(found, data) for data in SETS}
    for data in SETS:
        text = report.table(found, both[data], data)
        assert max(len(line) for line in text.splitlines()) <= 80
        assert all(name in text for name in (*both[data], "floor"))
    verdicts = report.judge(SMALL, found, both)
    assert len(verdicts) == 4 and all(good for _, good in verdicts)
    both["bimodal"]["MSE"] |= {"spread": 1e-6, "valley": 0.02}
    both["bimodal"]["flow"] |= {"modes": 0.94, "valley": 0.051}
    assert not any(good for _, good in report.judge(SMALL, found, both))
    assert report.judge(SMALL._replace(smoke=True), found, both) == []


def test_floors_are_judged_with_a_million_pairs():
    found = made_up()
    both = {data: report.collect(found, data) for data in SETS}
    settings = SMALL._replace(pairs=1_000_000)
    *_, (text, good) = report.judge(settings, found, both)
    assert "5 %" in text and not good  # 1.06 of the floor
    for part in found.values():
        part.facts["val_loss"] = 1.04
    assert report.judge(settings, found, both)[-1][1]


def test_memorising_is_said_where_it_is_and_nowhere_else():
    found = made_up()
    (said,) = report.memorised(SMALL, found)
    assert "memorising" in said and "10 % under" in said and "6 % over" in said
    for part in found.values():
        part.facts["train_loss"] = 1.0
    assert report.memorised(SMALL, found) == []


def test_everything_is_written(tmp_path):
    for item, part in made_up().items():
        parts.write(parts.path_of(tmp_path, item), part)
    folder = SimpleNamespace(path=tmp_path, write_summary=lambda summary: kept.append(summary))
    kept = []
    text = report.write(SMALL, folder, 61.0, ["a note"])
    assert "reached" in text and "a note" in text
    assert max(len(line) for line in text.splitlines() if "written" not in line) <= 80
    rows = list(csv.reader((tmp_path / "curves.csv").open()))
    assert len(rows) == 52 and len(rows[0]) == 31 and rows[1][0] == "0" and rows[-1][0] == "7800"
    content = json.loads((tmp_path / "bakeoff.json").read_text())
    # What a clock measured is apart: the rest must be the same in every run.
    assert "times" not in json.dumps({k: v for k, v in content.items() if k != "timing"})
    assert content["scores"]["bimodal"]["MSE"]["valley"] == 0.9
    assert kept[0].status == "finished" and kept[0].steps == 78_000
    for name, size in (("curves.png", (1300, 620)), ("spread.png", (1500, 820))):
        header = (tmp_path / name).read_bytes()[:24]
        assert header[:8] == b"\x89PNG\r\n\x1a\n"
        assert tuple(int.from_bytes(header[i : i + 4], "big") for i in (16, 20)) == size


def test_pictures_change_with_the_data(tmp_path):
    both = [made_up(0), made_up(1)]
    drawn = [
        pictures.spread(found, {d: report.collect(found, d) for d in SETS}, tmp_path / f"{i}.png")
        for i, found in enumerate(both)
    ]
    assert drawn[0].read_bytes() != drawn[1].read_bytes()


def scripted(monkeypatch, body):
    """Processes that say what a test wants instead of training."""
    script = f"import json, sys, time\nfor line in sys.stdin:\n    item = json.loads(line)\n{body}"
    monkeypatch.setattr(pool, "command", lambda *_: [sys.executable, "-c", script])
    monkeypatch.setattr(pool, "processors", lambda items: [0, 1])


def test_items_are_handed_out_and_finished(monkeypatch, tmp_path):
    say = "    print(json.dumps({'step': 1}), flush=True)\n    print('chatter')\n"
    scripted(monkeypatch, say + "    print(json.dumps({'done': item}), flush=True)")
    heard = []
    assert pool.run(ITEMS, SMALL, tmp_path, heard=lambda *pair: heard.append(pair), stop=lambda: False)
    done = [(item, message["done"]) for item, message in heard if "done" in message]
    assert sorted(item for item, _ in done) == sorted(ITEMS)
    assert all(list(item) == answer for item, answer in done)
    assert sum("step" in message for _, message in heard) == len(ITEMS)
    assert pool.run([], SMALL, tmp_path, heard=lambda *_: None, stop=lambda: False)


def test_stopping_ends_the_processes(monkeypatch, tmp_path):
    scripted(monkeypatch, "    print(json.dumps({'step': 1}), flush=True)\n    time.sleep(600)")
    heard, began = [], time.monotonic()
    ended = pool.run(
        ITEMS, SMALL, tmp_path, heard=lambda *pair: heard.append(pair), stop=lambda: len(heard) >= 2
    )
    assert not ended and len(heard) == 2
    assert time.monotonic() - began < 300  # the sleepers were not waited for


def test_what_goes_wrong_in_a_process_comes_up(monkeypatch, tmp_path):
    nothing = {"heard": lambda *_: None, "stop": lambda: False}
    scripted(monkeypatch, "    print(json.dumps({'os_error': [28, 'No space left', 'x.npz']}), flush=True)")
    with pytest.raises(OSError, match="No space left.*x.npz"):
        pool.run(ITEMS, SMALL, tmp_path, **nothing)
    scripted(monkeypatch, "    raise MemoryError('too large')")
    with pytest.raises(ChildProcessError, match="MemoryError: too large"):
        pool.run(ITEMS, SMALL, tmp_path, **nothing)


def test_processes_are_not_more_than_items():
    assert len(pool.processors(1)) == 1
    assert 1 <= len(pool.processors(100)) <= pool.MOST


def bakeoff(*words, timeout=600, **environment):
    command = [sys.executable, "-m", "experiments.bakeoff", *words]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, env=os.environ | environment
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--pairs=1"], "--pairs cannot be 1"),
        (["--loss=ce"], "there is no flag --loss"),
        (["--predictions=5"], "--predictions cannot be 5"),
        (["--resume", "--out={file}"], "is a file"),
    ],
)
def test_bad_input_is_one_screen(tmp_path, words, said):
    (tmp_path / "file").write_text("")
    done = bakeoff(*(word.format(file=tmp_path / "file") for word in words))
    assert done.returncode == 2
    assert said in done.stderr and "next step" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_smoke_is_stopped_resumed_and_the_same(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    done = bakeoff("--smoke", f"--out={whole}")
    assert done.returncode == 0, done.stderr
    command = [sys.executable, "-m", "experiments.bakeoff", "--smoke", f"--out={cut}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    while process.poll() is None and len(list((cut / "parts").glob("*.npz"))) < 2:
        time.sleep(0.05)
    process.send_signal(2)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and f"--resume --out={cut}" in out
    assert not (cut / "bakeoff.json").exists()
    first = {path.name: path.read_bytes() for path in (cut / "parts").glob("*.npz")}
    assert 2 <= len(first) < 10
    refused = bakeoff("--resume", f"--out={cut}", "--pairs=100")
    assert refused.returncode == 2 and "--pairs=100" in refused.stderr
    done = bakeoff("--resume", f"--out={cut}")  # the other flags are those that it was started with
    assert done.returncode == 0 and "runs were finished before" in done.stdout
    assert all((cut / "parts" / name).read_bytes() == content for name, content in first.items())
    results = [json.loads((place / "bakeoff.json").read_text()) for place in (whole, cut)]
    for result in results:
        del result["timing"]
    assert results[0] == results[1]
    assert (whole / "curves.csv").read_bytes() == (cut / "curves.csv").read_bytes()
    assert (whole / "spread.png").read_bytes() == (cut / "spread.png").read_bytes()
