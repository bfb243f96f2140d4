"""The scoreboard: its cases, who is admitted, what baselines say, and the arithmetic of the table."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ch3_jax.doctor.causes import CAUSES
from ch3_jax.faults import catalogue
from experiments.scoreboard import admission, baselines, cases, table, worker
from experiments.scoreboard.cases import CLEAN, FAULT, LOOKALIKE, Case, Settings

ROOT = Path(__file__).resolve().parents[2]
FULL = Settings(10, ("mild", "middle", "strong"), 120, None)


def test_the_full_scoreboard():
    planned = cases.cases(FULL)
    assert len({case.key for case in planned}) == len(planned) == 30 * len(catalogue.FAULTS) + 120
    healthy = [case for case in planned if case.kind != FAULT]
    assert sum(case.kind == LOOKALIKE for case in healthy) == 60
    halves = {
        half: {c.seed for c in planned if c.kind == FAULT and cases.half_of(c) == half}
        for half in table.HALVES
    }
    assert not halves["tuning"] & halves["held out"]
    families = {half: set() for half in table.HALVES}
    for case in (c for c in planned if c.kind == FAULT):
        families[cases.half_of(case)].add(catalogue.FAULTS[case.name].family)
    assert not families["tuning"] & families["held out"]
    for half in table.HALVES:
        for kind in (CLEAN, LOOKALIKE):
            assert sum(c.kind == kind and cases.half_of(c) == half for c in planned) >= 15


def test_admission():
    generator = np.random.default_rng(0)
    clean = generator.gamma(2.0, 1.0, 2_000)
    same = clean * np.exp(0.02 * generator.normal(size=2_000))
    assert not admission.harm(same, clean).admitted
    # certain, and too small: 2 % everywhere
    small = admission.harm(1.02 * clean, clean)
    assert small.ratio == pytest.approx(1.02) and not small.admitted
    worse = admission.harm(1.3 * same, clean)
    assert worse.admitted and worse.ratio == pytest.approx(1.3, rel=0.02) and worse.p < 1e-6
    assert admission.harm(np.full(2_000, np.inf), clean).admitted
    better = admission.harm(0.5 * clean, clean)
    assert not better.admitted and better.p == 1
    assert admission.flattered(0.5 * same, clean).admitted
    assert not admission.flattered(clean, clean[::-1]).admitted


def signals(**changed):
    """A run at which no rule takes offence."""
    weights = {name: np.linspace(-1, 1, 12).reshape(3, 4) for name in ("hidden_1/kernel", "heads/kernel")}
    quiet = {
        "loss": np.array([1.0, 0.5, 0.3]),
        "val_loss": np.array([1.1, 1.0, 0.5, 0.31]),
        "update_ratio": np.full(3, 1e-3),
        "gradients": weights,
        "parameters": weights,
        "before": {name: 2 * w for name, w in weights.items()},
        "zeros": {"hidden_1": np.full(4, 0.5)},
        "inputs": np.linspace(-0.9, 0.9, 8).reshape(2, 4),
        "rate": 1e-3,
    }
    return baselines.Signals(**quiet | changed)


def rules(who, **changed):
    return [alarm.rule for alarm in baselines.BASELINES[who](signals(**changed))]


def test_baselines_are_quiet_where_their_rules_are():
    assert all(rules(who) == [] for who in baselines.BASELINES)
    for say in baselines.BASELINES.values():
        for alarm in say(signals(loss=np.array([np.nan, 2e3, 1.0]), rate=1.0, inputs=np.full((2, 4), 9.0))):
            assert set(alarm.causes) <= set(CAUSES)


def test_baselines_use_their_published_constants():
    tiny = {"hidden_1/kernel": np.full((3, 4), 9e-8), "heads/kernel": np.ones((3, 4))}
    assert "VanishingGradient" in rules("SageMaker", gradients=tiny)
    assert "vanishing" in rules("AutoTrainer", gradients={**tiny, "hidden_1/kernel": np.full((3, 4), 1e-5)})
    assert "vanishing" not in rules(
        "AutoTrainer", gradients={**tiny, "hidden_1/kernel": np.full((3, 4), 1e-4)}
    )
    assert "exploding" in rules("AutoTrainer", gradients={**tiny, "hidden_1/kernel": np.full((3, 4), 71.0)})
    assert "WeightUpdateRatio" in rules("SageMaker", update_ratio=np.array([1e-3, 11.0]))
    assert "WeightUpdateRatio" in rules("SageMaker", update_ratio=np.array([1e-3, 9e-9]))
    assert "LossNotDecreasing" in rules("SageMaker", loss=np.array([1.0, 0.5, 0.5]))
    assert "Overfit" in rules("SageMaker", val_loss=np.array([1.1, 1.0, 0.5, 0.34]))
    assert "DeadRelu" in rules("SageMaker", zeros={"hidden_1": np.array([1, 1, 1, 0.0])})
    same = signals().parameters
    assert "UnchangedTensor" in rules("SageMaker", before=same)
    assert "nan_loss" in rules("AutoTrainer", loss=np.array([1_000.0, 1, 1]))
    assert rules("UMLAUT", rate=0.011) == ["learning rate above 0.01"]
    assert rules("UMLAUT", rate=9e-8) == ["learning rate below 1e-7"]
    assert rules("UMLAUT", inputs=np.full((2, 4), 1.01)) == ["input not in [-1, 1]"]
    assert rules("UMLAUT", val_loss=np.array([1.1, 0.5, 0.6, 0.5])) == ["overfitting"]


def line(kind, name, causes, *, admitted=True, baseline=(), half="held out"):
    said = [["rule", list(baseline)]] if baseline else []
    return {
        "key": f"{kind}/{name}/{len(causes)}",
        "case": {"kind": kind, "name": name, "severity": "strong", "seed": 1},
        "half": half,
        "alarm": bool(causes),
        "causes": [[c, CAUSES[c].place, sure, None] for c, sure in causes],
        "harm": {"admitted": admitted} if kind == FAULT else None,
        "examine_wall_s": 2.0,
        "examine_cpu_s": 1.0,
        "baselines": {who: [] if who == "always healthy" else said for who in baselines.BASELINES},
    }


LINES = [
    line(FAULT, "C05", [("gradient_sign", 0.9)]),
    line(FAULT, "D01", [("rate_too_low", 0.9)], baseline=["rate_too_high"]),
    line(FAULT, "A01", []),
    line(FAULT, "F01", [], admitted=False),
    line(CLEAN, "pairs", [], baseline=["memorising"]),
    line(LOOKALIKE, "A02", [("unit_mix", 0.6)]),
]


def test_the_table_counts():
    found = table.score(LINES, "doctor")
    assert found["detected"] == (2, 3)  # the one that does not hurt is not counted
    assert found["place"] == (2, 3)  # a low rate for a high one sits in the same place
    assert found["cause"] == (1, 3)
    assert found["false alarms, clean"] == (0, 1) and found["false alarms, look-alike"] == (1, 1)
    other = table.score(LINES, "UMLAUT")
    assert (other["cause"], other["false alarms, clean"]) == ((1, 3), (1, 1))
    assert table.score(LINES, "always healthy")["detected"] == (0, 3)
    told = table.calibration(LINES)
    # 0.9 right, 0.9 wrong, 0.6 wrong: (0.01 + 0.81 + 0.36) / 3
    assert told["claims"] == 3 and told["brier"] == pytest.approx(1.18 / 3)
    text = table.page(LINES)
    assert "held out half: 6 runs, 4 broken, of which 3 hurt and count" in text
    assert "wrong: look-alike/A02/1" in text and "McNemar" in text


def test_wilson_and_mcnemar_beside_scipy():
    for right, made in ((0, 59), (3, 60), (20, 20), (7, 11)):
        ends = stats.binomtest(right, made).proportion_ci(method="wilson")
        assert table.wilson(right, made) == pytest.approx((ends.low, ends.high), abs=1e-6)
    # b = 5, c = 1: 2 (C(6,0) + C(6,1)) / 2^6 = 14 / 64
    one, other = [True] * 5 + [False] + [True], [False] * 5 + [True] + [True]
    assert table.mcnemar(one, other) == (5, 1, pytest.approx(14 / 64))


def test_lines_that_were_cut_off_are_left_out(tmp_path):
    (tmp_path / "cases-0.jsonl").write_text(json.dumps(LINES[0]) + "\n" + json.dumps(LINES[1])[:40])
    assert [found["key"] for found in worker.read(tmp_path)] == [LINES[0]["key"]]
    assert Case(**LINES[0]["case"]).key == "fault/C05/strong/1"


@pytest.mark.slow
def test_the_command_resumes_and_reports(tmp_path):
    command = [sys.executable, "-m", "experiments.doctor_benchmark", "--smoke", f"--out={tmp_path}/board"]
    first = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=500)
    assert first.returncode == 0, first.stderr
    lines = worker.read(tmp_path / "board")
    assert len(lines) == 3 and {x["case"]["kind"] for x in lines} == {FAULT, CLEAN, LOOKALIKE}
    before = [p.read_bytes() for p in sorted((tmp_path / "board").glob("*.jsonl"))]
    again = subprocess.run([*command, "--report"], capture_output=True, text=True, cwd=ROOT, timeout=500)
    assert again.returncode == 0 and "runs," in again.stdout
    assert before == [p.read_bytes() for p in sorted((tmp_path / "board").glob("*.jsonl"))]
    wrong = subprocess.run([*command, "--faults=Z99"], capture_output=True, text=True, cwd=ROOT, timeout=500)
    assert wrong.returncode == 2 and "is no fault" in wrong.stderr
