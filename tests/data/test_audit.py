"""The audit: planted facts are found and counted, normal things are not remarked on."""

import time

import numpy as np
import pytest
import scipy.stats

from ch3_jax.data.audit import CHECKS, audit
from ch3_jax.data.episodes import Dataset, Facts, Steps
from ch3_jax.data.load import load

POSE = ("x", "y", "z", "gripper")


def pack(
    action, observation=None, *, names=POSE, length=20, meaning=None, rate=None, units=None, **others
) -> Dataset:
    """One split "train" of episodes of `length`, and `others` by split name."""
    observation = action if observation is None else observation
    facts = Facts(
        "planted", "generated", names, names, action_meaning=meaning, rate_hz=rate, action_units=units
    )

    def steps(a, o):
        offset = np.arange(0, len(a) + 1, length)
        return Steps(observation=np.asarray(o, np.float32), action=np.asarray(a, np.float32), offset=offset)

    splits = {"train": steps(action, observation)} | {n: steps(x, x) for n, x in others.items()}
    return Dataset(facts=facts, splits=splits)


def random(seed=0, rows=400, columns=4, scale=1.0):
    return np.random.default_rng(seed).normal(size=(rows, columns)) * scale


def found(dataset: Dataset, check: str):
    return [finding for finding in audit(dataset) if finding.id == check]


def test_noise_has_no_findings():
    assert audit(pack(random(), random(1))) == ()


def test_shared_and_repeated_episodes():
    data = random()
    val = np.concatenate([data[40:60], random(5, 20), data[:20]])
    dataset = pack(data, data, val=val)
    (finding,) = found(dataset, "shared_episodes")
    # Of the three validation episodes, the first and the third were taken from training.
    assert finding.sentence.startswith("2 of 3 validation episodes stand in training too")
    assert finding.episodes == (0, 2) and finding.split == "val"
    assert not found(dataset, "repeated_episodes")
    (finding,) = found(pack(np.concatenate([data, data[20:40]])), "repeated_episodes")
    assert finding.sentence.startswith(
        "1 of 21 training episodes repeats an earlier one"
    ) and finding.episodes == (20,)


def test_first_action_zero_leaves_the_gripper_out():
    action = random()
    action[:, 3] = np.random.default_rng(1).integers(0, 2, 400)
    action[::20, :3] = 1e-7
    action[::20, 3] = 1
    (finding,) = found(pack(action, random(2)), "first_action_zero")
    # 400 steps in episodes of 20: 20 first actions; no other action is zero.
    assert "zero in 20 of 20 episodes (gripper left out); 0.0% of" in finding.sentence
    assert finding.dimensions == ("x", "y", "z") and finding.numbers["count"] == 20


def test_idle_robots_are_no_news():
    action = random()
    action *= np.random.default_rng(1).random((400, 1)) < 0.3  # pauses in 70 % of the steps
    action[::20] = 0
    assert not found(pack(action, random(2)), "first_action_zero")
    action = random()
    action[0] = 0  # one episode of twenty begins at rest
    assert not found(pack(action, random(2)), "first_action_zero")


def moved(action, length=20, gain=1.0, seed=3):
    """s_{t+1} = s_t + gain a_t + noise, episode by episode."""
    noise = 0.1 * random(seed, *action.shape)
    change = (gain * action + noise).reshape(-1, length, action.shape[1])
    start = np.random.default_rng(seed).normal(size=(len(change), 1, action.shape[1]))
    return (start + np.cumsum(change, axis=1) - change).reshape(action.shape)


def test_declared_joint_velocities_that_are_cartesian_changes():
    action = random()
    dataset = pack(action, moved(action), meaning="7x joint velocities", rate=5.0)
    (finding,) = found(dataset, "action_meaning")
    assert "Cartesian changes per step, not joint velocities" in finding.sentence
    assert '"7x joint velocities"' in finding.sentence
    # The oracle: scipy's r and least squares, per dimension over all neighbouring steps.
    a, s = (
        x.reshape(20, 20, 4) for x in (dataset.splits["train"].action, dataset.splits["train"].observation)
    )
    a, ds = (x.reshape(-1, 4).astype(float) for x in (a[:, :-1], np.diff(s, axis=1)))
    r = np.median([scipy.stats.pearsonr(a[:, j], ds[:, j]).statistic for j in range(4)])
    slope = np.median([np.linalg.lstsq(a[:, j : j + 1], ds[:, j], rcond=None)[0][0] for j in range(4)])
    np.testing.assert_allclose(finding.numbers["r_change"], r, rtol=1e-5)
    np.testing.assert_allclose(finding.numbers["slope"], slope, rtol=1e-5)
    assert finding.numbers["pairs"] == 20 * 19


def test_true_velocities_are_not_contradicted():
    action = random()
    assert not found(
        pack(action, moved(action, gain=0.2), meaning="joint velocities", rate=5.0), "action_meaning"
    )


def test_declared_changes_that_are_absolute_and_the_reverse():
    state = moved(random(scale=0.3))
    target = np.concatenate([state[1:], state[-1:]])  # the next state
    (finding,) = found(pack(target, state, meaning="delta position"), "action_meaning")
    assert "absolute values" in finding.sentence
    assert not found(pack(target, state, meaning="absolute position"), "action_meaning")
    action = random()
    (finding,) = found(pack(action, moved(action), meaning="absolute position"), "action_meaning")
    assert "changes per step" in finding.sentence
    assert not found(pack(action, moved(action), meaning="delta position"), "action_meaning")
    assert not found(pack(action, moved(action), meaning="commands"), "action_meaning")


@pytest.mark.parametrize(("period", "words"), [(2 * np.pi, "2 pi"), (360.0, "360")])
def test_an_angle_that_wraps(period, words):
    state = random(1)
    turn = np.tile(np.linspace(0, 1.95 * period, 20), 20)  # 1.95 turns in 20 steps: one jump in each episode
    state[:, 2] = turn % period
    (finding,) = found(pack(random(), state), "angle_wrap")
    assert f"z wraps at {words} inside episodes: 20 jumps" in finding.sentence
    assert finding.numbers == {"jumps": 20, "episodes": 20, "period": period}


def test_jumps_between_episodes_and_noise_do_not_wrap():
    state = random(1)
    state[:, 2] = np.tile(np.linspace(0, 6.2, 20), 20)  # falls back only where an episode ends
    state[:, 1] = np.random.default_rng(0).uniform(0, 2 * np.pi, 400)  # jumps by anything
    assert not found(pack(random(), state), "angle_wrap")


def test_dimensions_that_never_move():
    action, state = random(), random(1)
    action[:, 1] = 0.25
    constant = {f.sentence: f.dimensions for f in found(pack(action, state), "constant_dimensions")}
    assert constant == {"1 of 4 action dimensions never moves: y.": ("y",)}


def test_dimensions_that_hold_a_pose_in_each_episode():
    action = random()
    pose = np.repeat(np.random.default_rng(4).normal(size=(20, 1)), 20, axis=0)
    action[:, :2] = pose + 0.1 * action[:, :2]
    (finding,) = found(pack(action, random(1)), "held_dimensions")
    assert finding.dimensions == (
        "x",
        "y",
    ) and "2 of 4 action dimensions hardly move inside episodes: x, y" in (finding.sentence)
    grouped = action[:, :2].reshape(20, 20, 2)
    ratio = np.sqrt(grouped.var(axis=1).mean(axis=0)) / action[:, :2].std(axis=0)
    np.testing.assert_allclose(finding.numbers["largest_ratio"], ratio.max(), rtol=1e-4)


def test_scales_that_lie_apart():
    action = random()
    action[:, 0] *= 1000 / action[:, 0].std()
    action[:, 2] *= 0.5 / action[:, 2].std()
    (finding,) = found(pack(action, random(1), units=("mm", "1", "m", "1")), "scale_spread")
    # 1000 mm against 0.5 m: a factor of 2000 between the numbers.
    assert finding.sentence == (
        "Action scales lie a factor of 2e+03 apart: standard deviation 0.5 m (z) to 1e+03 mm (x)."
    )
    assert finding.dimensions == ("z", "x")


def test_repeated_actions():
    action = random()
    action[5:10] = action[4]  # five repeats inside episode 0
    action[20] = action[19]  # equal across the border of two episodes: no repeat
    (finding,) = found(pack(action, random(1)), "repeated_actions")
    assert finding.sentence == "5 of 400 actions (1.2%) are equal to the one before."


def test_every_check_is_silent_on_single_steps():
    """Pairs that stand alone (episodes of one step) have no neighbours."""
    assert audit(pack(random(), random(1), length=1)) == ()


def test_one_step_in_all():
    assert audit(pack(random(rows=1), random(1, rows=1), length=1)) == ()


def test_bridge(real_data):
    by_id = {finding.id: finding for finding in audit(load(real_data / "bridge"))}
    assert by_id["shared_episodes"].sentence.startswith("25 of 25 validation episodes stand in training too")
    assert "zero in 25 of 25 episodes (gripper left out)" in by_id["first_action_zero"].sentence
    meaning = by_id["action_meaning"]
    assert meaning.sentence.endswith("Cartesian changes per step, not joint velocities.")
    assert meaning.dimensions == ("x", "y", "z", "roll", "pitch", "yaw")
    assert 0.83 < meaning.numbers["r_change"] < 0.90 and 0.7 < meaning.numbers["slope"] < 1.0


def test_push_t(real_data):
    by_id = {finding.id: finding for finding in audit(load(real_data / "pusht"))}
    assert by_id["angle_wrap"].sentence.startswith("block_angle wraps at 2 pi inside episodes: 91 jumps")
    assert by_id["repeated_actions"].numbers["count"] == 774
    assert set(by_id) == {"angle_wrap", "scale_spread", "repeated_actions"}


def test_g1(real_data):
    findings = audit(load(real_data / "g1"))
    held = next(f for f in findings if f.id == "held_dimensions")
    # The left arm (7) and the left hand (6) hold still; the right side does the task.
    assert len(held.dimensions) == 13 and all(name.startswith("kLeft") for name in held.dimensions)
    assert not [f for f in findings if f.id in ("constant_dimensions", "action_meaning", "angle_wrap")]
    spread = next(f for f in findings if f.id == "scale_spread")
    assert spread.dimensions == ("kLeftShoulderRoll", "kRightElbow") and 11 < spread.numbers["ratio"] < 11.2


def test_every_finding_is_a_check_and_a_short_line(real_data):
    for name in ("bridge", "pusht", "g1"):
        for finding in audit(load(real_data / name)):
            assert finding.id in CHECKS and "\n" not in finding.sentence and len(finding.sentence) < 450


@pytest.mark.slow
def test_a_million_steps_in_a_second():
    action, state = (random(s, 1_000_000, 14) for s in (0, 1))
    dataset = pack(action, state, names=tuple(f"d{i}" for i in range(14)), length=200, meaning="delta")
    audit(dataset)
    start = time.process_time()  # of this process alone: other people's work does not count
    audit(dataset)
    assert time.process_time() - start < 1.0
