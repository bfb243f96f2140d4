"""The evaluation as a person meets it: the page, the files, the refusals, the pictures."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ch3_jax.environments import panda_reach
from ch3_jax.errors import InputError
from ch3_jax.evaluation.simulators import pusht
from ch3_jax.evaluation.simulators.task import INSTALL
from experiments.evaluate_parts import driven, pages, pictures, replay
from tests.evaluation import imaginary, untrained

ROOT = Path(__file__).resolve().parents[2]
FLAGS = {
    "episodes": 3,
    "first_seed": 100_000,
    "execute": None,
    "ensemble": None,
    "actions": None,
    "sampler": None,
    "sampling_steps": None,
    "parallel": None,
    "processes": 0,
    "smoke": True,
}


def rows(task_names, low, high):
    return np.random.default_rng(0).uniform(low, high, (40, len(task_names))).astype(np.float32)


@pytest.fixture(scope="module")
def reacher(tmp_path_factory):
    names = panda_reach.OBSERVATION_NAMES, panda_reach.ACTION_NAMES
    data = rows(names[0], -1, 1), rows(names[1], -0.2, 0.2)
    return untrained.write(tmp_path_factory.mktemp("reacher"), *data, names)


@pytest.fixture(scope="module")
def pusher(tmp_path_factory):
    names = pusht.PUSHT.observation_names, pusht.PUSHT.action_names
    data = rows(names[0], 0, 500), rows(names[1], 100, 400)
    return untrained.write(tmp_path_factory.mktemp("pusher"), *data, names, loss="flow")


def request(run, env, **changed):
    return driven.request(SimpleNamespace(run=run and str(run), env=env, **{**FLAGS, **changed}))


def test_the_command_leaves_everything_behind(reacher, tmp_path):
    out = tmp_path / "evaluation"
    command = [
        sys.executable,
        "-m",
        "experiments.evaluate",
        f"--run={reacher}",
        "--smoke",
        "--pictures=sheet",
    ]
    command += ["--env=panda_reach_obstacle", f"--out={out}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {p.name for p in out.iterdir()} >= {"evaluation.json", "evaluation.txt", "contact_sheet.png"}
    page = (out / "evaluation.txt").read_text()
    assert page in done.stdout
    assert max(map(len, page.splitlines())) <= 80
    told = json.loads((out / "evaluation.json").read_text())
    assert told["success"]["episodes"] == 2 and told["errors"] == 0
    assert sum(told["ways"].values()) == pytest.approx(1)
    assert [o["seed"] for o in told["outcomes"]] == [100_000, 100_001]
    assert told["execute"] == 2 and told["score"]["mean"] <= 1
    assert 0 < told["policy_share"] < 1
    assert told["control"]["call_share_of_period"] == pytest.approx(told["latency_ms"]["one"]["p99"] / 50)
    # Numbers of another run of the same command are the same, but for times.
    again = driven.drive(request(reacher, "panda_reach_obstacle"))
    assert [o.score for o in again.driven.outcomes] == [o["score"] for o in told["outcomes"]]


@pytest.mark.parametrize(
    ("env", "changed", "words"),
    [
        ("pusht", {"run": None}, "--run is missing"),
        ("", {}, "--env is missing"),
        ("push-t", {}, "no task"),
        ("panda_reach", {"execute": 5}, "--execute=2"),
        ("panda_reach", {"actions": "sampled"}, "no samples"),
    ],
)
def test_refusals(reacher, env, changed, words):
    with pytest.raises(InputError) as refused:
        request(changed.pop("run", reacher), env, **changed)
    assert words in str(refused.value)


def test_another_robots_run_is_refused_with_both_sides_named(pusher):
    with pytest.raises(InputError) as refused:
        request(pusher, "panda_reach")
    assert "agent_x" in str(refused.value) and "joint_angle_1" in str(refused.value)


def test_pusht_is_driven(pusher, tmp_path):
    pytest.importorskip("gym_pusht", reason=INSTALL)
    asked = request(pusher, "pusht", ensemble=0.01)
    assert asked.sampled and asked.execute == 1
    done = driven.drive(asked)
    again = driven.drive(asked)
    assert [o.score for o in done.driven.outcomes] == [o.score for o in again.driven.outcomes]
    assert {o.length for o in done.driven.outcomes} == {40}
    assert len(done.driven.calls_s) == 40
    frames, score = pictures.film(asked.task, done.driven.outcomes[0])
    assert len(frames) == 41 and score == pytest.approx(done.driven.outcomes[0].score, abs=1e-9)


def outcomes(*actions):
    from ch3_jax.evaluation.driving import Outcome

    return [
        Outcome(i, 0.0, False, False, False, len(a), None, None, np.array(a)[:, None], [])
        for i, a in enumerate(actions)
    ]


def test_pictures_say_when_a_simulator_is_not_the_same_twice(tmp_path):
    notes = pictures.write(imaginary.TASK, outcomes([0.1] * 5), tmp_path, "sheet")
    # 0.1 five times from 0: the score is 0.5, and 0.0 was recorded.
    assert notes[0] == "first episode: scored 0.000, 0.500 when driven again"
    assert (tmp_path / "contact_sheet.png").stat().st_size > 1000


def test_without_a_display_there_are_no_pictures_and_an_evaluation(tmp_path):
    notes = pictures.write(imaginary.TASK._replace(make=imaginary.broken), outcomes([0.1]), tmp_path, "all")
    assert notes == ["no pictures: RuntimeError: cannot open display"]
    assert not list(tmp_path.iterdir())


def test_a_video_is_what_was_drawn_and_without_a_codec_a_gif(tmp_path, monkeypatch):
    import av

    frames = {"first": [np.full((16, 16, 3), v, np.uint8) for v in (20, 120, 220)]}
    assert pictures._video(frames, 10.0, tmp_path)[0].startswith("episodes.mp4")
    with av.open(str(tmp_path / "episodes.mp4")) as container:
        means = [f.to_ndarray(format="rgb24").mean() for f in container.decode(video=0)]
        assert container.streams.video[0].average_rate == 10
    np.testing.assert_allclose(means, [20, 120, 220], atol=4)

    (tmp_path / "episodes.mp4").unlink()
    encode = pictures.encode
    monkeypatch.setattr(
        pictures, "encode", lambda frames, hz, codec, path: encode(frames, hz, "absent", path)
    )
    (note,) = pictures._video(frames, 10.0, tmp_path)
    assert "no codec for mp4" in note and "episodes.gif instead" in note
    assert [p.name for p in tmp_path.iterdir()] == ["episodes.gif"]


def test_a_long_line_is_wrapped():
    lines = pages._lines("note", "word " * 40 + "end")
    assert all(len(line) <= 80 for line in lines) and len(lines) == 3
    assert lines[0].startswith("note      word") and lines[1].startswith(" " * 10 + "word")


def test_a_recording_driven_again(real_data):
    pytest.importorskip("gym_pusht", reason=INSTALL)
    lines = replay.page("pusht", str(real_data / "pusht"), 4).splitlines()
    assert lines[0].startswith("pusht_cchi_v7_replay in pusht: 4 episodes")
    medians = {line.split()[0]: float(line.split()[1]) for line in lines[4:]}
    assert set(medians) == set(pusht.PUSHT.observation_names) and max(medians.values()) < 1e-3


def test_a_difference_of_angles_goes_the_short_way():
    """Recorded at 6.2 rad, driven to 0.05: 0.133 apart; a position of 6.2 beside 0.05 is 6.15 apart."""
    task = imaginary.TASK._replace(
        observation_units=("rad", "m"), make=lambda: imaginary.make()._replace(reset_to=lambda s: None)
    )
    seen = np.array([[0.0, 0.0], [6.2, 6.2]])
    outcomes, apart = replay.replay(task, [(seen, np.full((2, 1), 0.05))])
    np.testing.assert_allclose(apart, [[2 * np.pi - 6.15, 5.2]])
    assert outcomes[0].score == pytest.approx(0.1) and outcomes[0].length == 2
    with pytest.raises(InputError, match="cannot be put into a recorded state"):
        replay.replay(imaginary.TASK, [(seen, np.zeros((2, 1)))])
