"""Two doctors over the same recordings: what is written, what the other one means, how both are counted."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ch3_jax.data.load import open_source
from ch3_jax.doctor.causes import CAUSES
from ch3_jax.doctor.from_data import gather_as_is
from ch3_jax.faults.robots import robots
from experiments import doctor_data_benchmark as benchmark
from experiments.scoreboard import lerobot_doctor
from experiments.scoreboard.lerobot_doctor import FAILURE, TWIN, WARNING, Said, understood
from experiments.scoreboard.recordings import write_recording

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def recording():
    """Two faults that the project's writer would not let through: a gap in time, and a NaN."""
    dataset = robots(3, episodes=5)
    train = dataset.splits["train"]
    seen, time = train.observation.copy(), train.timestamp.copy()
    seen[7, 4] = np.nan
    time[10 : train.offset[1]] += 0.2
    broken = dataclasses.replace(train, observation=seen, timestamp=time)
    return dataclasses.replace(dataset, splits={**dataset.splits, "train": broken})


def test_a_recording_keeps_what_is_wrong_with_it(recording, tmp_path):
    read = gather_as_is(open_source(write_recording(recording, tmp_path / "set")))
    for name, part in recording.splits.items():
        np.testing.assert_array_equal(read.splits[name].observation, part.observation)
        np.testing.assert_array_equal(read.splits[name].action, part.action)
        np.testing.assert_allclose(read.splits[name].timestamp, part.timestamp, atol=1e-6)
        np.testing.assert_array_equal(read.splits[name].offset, part.offset)
    step = np.diff(read.splits["train"].timestamp[:12])
    assert np.argmax(step) == 9 and step[9] == pytest.approx(0.25, abs=1e-6)
    json.loads((tmp_path / "set" / "meta" / "stats.json").read_text())


# What 0.2.0 says, word for word.
SENTENCES = {
    "action: 3 NaN values detected": {"not finite"},
    "observation.state: 5 Inf values": {"not finite"},
    "Episode 4: 2 dropped frame gap(s) at frame indices [3, 9]": {"time"},
    "Episode 4: Mean interval 0.0600s differs from expected 0.0500s (fps=20)": {"time"},
    "action[6]: 54.4% of values at maximum (1.0000)": {"at a limit"},
    "action: 8% of episode 3 is consecutive identical actions (frozen)": {"frozen"},
    "action[6]: stuck/static in 60/60 episodes (>80% unchanged each) -- possible stuck actuator": {"stuck"},
    "action[2]: zero variance (constant value 0.0000)": {"constant"},
    "action: Episode 2 has 1 sudden large action jumps (>8 std mean across dims)": {"jump"},
    "action[3]: 4 extreme outlier(s) (>10 std from mean)": {"outlier"},
    "3 near-duplicate episode pair(s) detected: [(0, 1)]": {"duplicates"},
    "observation.state: distribution shift detected between first and last quarter of episodes": {"shift"},
    "2 episode(s) shorter than 20 frames (<1.0s): [3, 7]": {"lengths"},
    "Episode 3: 8% of action frozen (consecutive identical); NaN in action": {"frozen", "not finite"},
    # of other policies, and sums of others
    "60/60 episodes shorter than chunk_size=100 (used by ACT/Diffusion policies)": set(),
    "Shortest episode (9 frames) is too short for delta_timestamps with 10-step prediction horizon": set(),
    "VLA (Vision-Language-Action): no image/video features": set(),
    "...and 4 more episodes with issues": set(),
    "7/60 episode(s) flagged": set(),
    # a rule that nobody knew is an alarm that means nothing
    "the moon is full": {"Some Check"},
}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_sentences_are_understood(sentence):
    said = understood([["WARN", "Some Check", sentence]])
    assert {one.rule for one in said} == SENTENCES[sentence]
    assert all(cause in CAUSES for one in said for cause in one.causes)


def test_what_concerns_the_folder_alone_is_left_out():
    sentence = "action: 3 NaN values detected"
    assert not understood([["FAIL", check, sentence] for check in lerobot_doctor.OF_THE_FOLDER])
    twice = understood([["FAIL", "Action Quality", sentence]] * 2)
    assert twice == [Said("FAIL", "not finite", "action", ("non_finite_data",))]


def test_three_readings():
    gripper = Said("WARN", "at a limit", "action[6]", ("clipped_actions",))
    joint = gripper._replace(where="action[1]")
    nan = Said("FAIL", "not finite", "action", ("non_finite_data",))
    found = lerobot_doctor.readings([gripper, joint, nan], twin=[gripper])
    limit, broken = ["at a limit", ["clipped_actions"]], ["not finite", ["non_finite_data"]]
    assert found == {WARNING: [limit, limit, broken], FAILURE: [broken], TWIN: [limit, broken]}
    assert lerobot_doctor.readings([gripper], [gripper])[TWIN] == []


def test_only_recordings_of_robots_with_faults_in_the_data_take_part():
    names = {case.name for case in benchmark.recordings(1, 0, 100)}
    assert {"A02", "A12", "B07", "E03"} <= names
    # served, trained or measured otherwise; pairs without time
    assert not names & {"A04", "A06", "A10", "A18", "C01", "G01", "H01"}
    healthy = [case for case in benchmark.recordings(1, 40, 100) if case.kind != "fault"]
    assert {case.name for case in healthy if case.kind == "clean"} == {
        "robot",
        "robot_bins",
        "robot_chunks",
        "robot_camera",
    }


def line(key, kind, name, alarm, causes, said):
    return {
        "key": key,
        "case": {"kind": kind, "name": name, "severity": "", "seed": 1},
        "half": "tuning",
        "alarm": alarm,
        "causes": causes,
        "seconds": 0.5,
        "peer": "9.9",
        "peer_s": 0.25,
        "baselines": {WARNING: said, FAILURE: [], TWIN: []},
        "harm": {"admitted": True},
    }


def test_the_table_counts_by_hand():
    gripper = [["at a limit", ["clipped_actions"]]]
    lines = [
        line("1", "fault", "A12", True, [["clipped_actions", 1]], gripper),  # both right
        line("2", "fault", "B07", True, [["dropped_frames", 2]], gripper),  # the other: wrong place
        line("3", "clean", "robot", False, [], gripper),
        line("4", "look-alike", "A12", False, [], []),
    ]
    text = benchmark.page(lines).splitlines()
    rows = {row[:26].strip(): row[26:].split("]") for row in text if "/" in row}
    assert [x.split("[")[0].strip() for x in rows["cause"][:2]] == ["2/2", "1/2"]
    assert [x.split("[")[0].strip() for x in rows["detected"][:3]] == ["2/2", "2/2", "0/2"]
    assert [x.split("[")[0].strip() for x in rows["false alarms, clean"][:2]] == ["0/1", "1/1"]
    assert "against any warning: the doctor alone right 2, it alone 0" in "\n".join(
        text
    )  # B07 and the clean one
    assert text[-1] == "lerobot-doctor on 2 healthy recordings: at a limit 1"
    alarms = "alarms on healthy recordings of both halves: doctor 0/2 [0-66 %], any warning 1/2 [9-91 %], "
    assert any(row.startswith(alarms) for row in text)
    assert "median seconds: doctor 0.50, lerobot-doctor 0.25" in text


STAND_IN = {
    "__init__": '__version__ = "9.9"\n',
    "dataset_loader": """
import json, pathlib, types
def load_dataset(path):
    print("noise on stdout")
    info = json.loads((pathlib.Path(path) / "meta/info.json").read_text())
    return types.SimpleNamespace(info=info, info_error=None)
""",
    "runner": """
from types import SimpleNamespace as S
def message(severity, text): return S(severity=S(value=severity), message=text)
def run_checks(dataset):
    text = f"{dataset.info['features']['action']['shape'][0]} extreme outlier(s)"
    return S(results=[S(name="Data Distribution", messages=[message("PASS", "well"), message("WARN", text)])])
""",
}


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A package of the same name and functions."""
    package = tmp_path / "stand_in" / "lerobot_doctor"
    package.mkdir(parents=True)
    for name, text in STAND_IN.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))


def test_the_peer_is_asked_and_may_fail(stand_in, recording, tmp_path):
    folder = write_recording(recording, tmp_path / "set")
    with lerobot_doctor.Peer(sys.executable) as peer:
        assert peer.version == "9.9" and not peer.missing
        said, seconds = peer.ask(folder)
        assert [one.rule for one in said] == ["outlier"] and seconds >= 0
        assert peer.ask(tmp_path / "nowhere")[0] == [Said("FAIL", "error", "", ())]
        assert [one.rule for one in peer.ask(folder)[0]] == ["outlier"]


@pytest.fixture
def absent(tmp_path):
    """A path on which the package cannot be imported, installed or not."""
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent" / "lerobot_doctor.py").write_text("raise ImportError('not here')\n")
    return str(tmp_path / "absent")


@pytest.mark.parametrize("python", ["/nowhere/python", sys.executable])
def test_without_the_package_nothing_can_be_asked(python, absent, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", absent)
    with lerobot_doctor.Peer(python) as peer:
        assert peer.version == "" and ("nowhere" if "nowhere" in python else "not here") in peer.missing


def test_the_real_one(recording, tmp_path):
    pytest.importorskip("lerobot_doctor", reason="pip install -r third_party/requirements-lerobot-doctor.txt")
    folder = write_recording(recording, tmp_path / "set")
    with lerobot_doctor.Peer(sys.executable) as peer:
        said = {(one.severity, one.rule) for one in peer.ask(folder)[0]}
    assert {("FAIL", "not finite"), ("WARN", "time"), ("WARN", "at a limit"), ("WARN", "stuck")} <= said


@pytest.mark.slow
def test_the_command_goes_on_and_fills_in_the_other_column(stand_in, absent, tmp_path):
    def run(**environment):
        words = ["-m", "experiments.doctor_data_benchmark", "--smoke", f"--out={tmp_path / 'out'}"]
        done = subprocess.run(
            [sys.executable, *words], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert ("is not asked: not here" in done.stderr) == bool(environment)
        return done.stdout, (tmp_path / "out" / "data-cases.jsonl").read_text().count("\n")

    alone, lines = run(PYTHONPATH=absent)
    assert "not installed" in alone and "any warning" not in alone
    both, more = run()
    assert "lerobot-doctor 9.9" in both and "any warning" in both and more == 2 * lines
    again, same = run()
    assert again == both and same == more
