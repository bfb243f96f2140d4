"""An examination goes on, whatever it is given, and says what failed."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.base import Batch
from ch3_jax.data.episodes import Dataset, Episode, Facts, Source, Steps
from ch3_jax.data.normalize import make_normalizer
from ch3_jax.data.prepare import measure
from ch3_jax.doctor import examine as examination
from ch3_jax.doctor.from_data import gather_as_is, patient_of_data
from ch3_jax.doctor.from_run import patient_of_run
from ch3_jax.doctor.patient import Declared, Patient
from ch3_jax.doctor.verdict import diagnose
from ch3_jax.errors import InputError
from tests.doctor.simulated import robot


def examine(patient: Patient, checks=(1, 2)):
    return examination.examine(patient, checks)


def random(rows=400, width=3, length=40, seed=0) -> Dataset:
    x = np.random.default_rng(seed).normal(size=(2, rows, width)).astype(np.float32)
    names = tuple(f"dimension {i}" for i in range(width))
    steps = Steps(x[0], x[1], np.arange(0, rows + 1, length))
    return Dataset(Facts("random", "generated", names, names), {"train": steps})


def test_a_check_that_raises_stops_nobody_else(monkeypatch):
    def broken(patient):
        raise RuntimeError("a sampler that raises\nwith a second line")

    monkeypatch.setattr(
        examination, "CHECKS", ((1, "broken", broken), *[c for c in examination.CHECKS if c[0] == 2])
    )
    report = examine(Patient("x", robot(0)))
    assert [(f.check, f.error) for f in report.failed] == [(1, "RuntimeError: a sampler that raises")]
    assert report.examined == (2,) and report.findings


def test_without_data_everything_is_named_as_missing():
    report = examine(Patient("nothing"))
    assert not report.findings and not report.examined
    assert {n.check for n in report.not_examined} == {1, 2}
    assert diagnose(report).status == "abstain"


def test_nan_in_one_episode_is_left_out_and_the_rest_examined():
    data = robot(0)
    data.splits["train"].action[100, 2] = np.nan
    report = examine(Patient("x", data))
    assert any("1 episodes with NaN" in n.what for n in report.not_examined)
    assert not report.failed and not report.alarms and report.examined == (1, 2)
    data.splits["train"].action[:] = np.inf
    report = examine(Patient("x", dataclasses.replace(data)))
    assert not report.failed and not report.findings


@pytest.mark.parametrize("width", [1, 1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_one_dimension_and_very_many(width):
    report = examine(Patient("x", random(rows=200, width=width)))
    assert not report.failed and not report.alarms


def test_one_episode_of_one_step_and_one_of_two():
    for rows in (1, 2):
        report = examine(Patient("x", random(rows=rows, length=rows)))
        assert not report.failed and not report.alarms


def test_names_that_are_too_few_or_hostile():
    data = random(width=4)
    facts = dataclasses.replace(data.facts, action_names=("<script>\x07",), observation_names=())
    report = examine(Patient("x", dataclasses.replace(data, facts=facts)))
    assert not report.failed and not report.alarms


def normalised_patient(**edits) -> Patient:
    """A data set with the statistics, normalisers and batches of a run on it."""
    data = robot(0)
    steps = data.splits["train"]
    observation, action = measure(steps, data.facts)
    statistics = {"observation": observation, "action": action}
    normalizers = {name: make_normalizer(s, "zscore") for name, s in statistics.items()}
    scaled = [(v - s.mean) / s.std for v, s in ((steps.observation, observation), (steps.action, action))]

    def batches(step):
        index = np.random.default_rng(step).integers(0, len(steps), 64)
        return Batch(scaled[0][index][:, None], scaled[1][index][:, None], np.ones((64, 1), bool))

    fields = {"dataset": data, "statistics": statistics, "normalizers": normalizers, "batches": batches}
    return Patient("x", **{**fields, **edits})


def causes(patient) -> list[str]:
    report = examine(patient, (1,))
    assert not report.failed
    return [f.cause for f in report.alarms]


def test_a_run_with_its_own_statistics_is_healthy():
    assert causes(normalised_patient()) == []


def test_statistics_of_other_data_are_named():
    other = robot(9)
    observation, action = measure(other.splits["train"], other.facts)
    assert causes(normalised_patient(statistics={"observation": observation, "action": action})) == [
        "stale_statistics",
        "stale_statistics",
    ]


def test_inputs_that_are_not_normalised_are_named():
    healthy = normalised_patient()

    def wide(step):
        batch = healthy.batches(step)
        return batch._replace(observation=50 * batch.observation)

    assert causes(dataclasses.replace(healthy, batches=wide)) == ["unnormalized_inputs"]

    def degrees(step):
        batch = healthy.batches(step)
        return batch._replace(action=batch.action * np.array([1, 57.3, 1, 1, 1, 1, 1]))

    assert causes(dataclasses.replace(healthy, batches=degrees)) == ["unit_mix"]

    def poisoned(step):
        batch = healthy.batches(step)
        action = batch.action.copy()
        action[0, 0, 3] = 1e3
        return batch._replace(action=action)

    assert causes(dataclasses.replace(healthy, batches=poisoned)) == ["action_outliers"]


def test_a_normaliser_that_amplifies_is_named():
    healthy = normalised_patient()
    action = healthy.normalizers["action"]
    gain = np.array(action.gain)
    gain[2] = 3200.0
    broken = {**healthy.normalizers, "action": action._replace(gain=gain)}
    assert causes(dataclasses.replace(healthy, normalizers=broken)) == ["tiny_range"]


def test_batches_that_raise_leave_the_rest_alone():
    def broken(step):
        raise OSError("the disk went away")

    report = examine(normalised_patient(batches=broken), (1,))
    assert any("OSError: the disk went away" in n.needs for n in report.not_examined)
    assert report.findings and not report.failed


def served_patient(serve) -> Patient:
    """A linear policy beside the function that is deployed for it."""
    healthy = normalised_patient()
    matrix = np.random.default_rng(0).normal(size=(7, 7)).astype(np.float32)

    def act(params, observation, key):
        return (observation[:, -1] @ params)[:, None]

    o, a = healthy.normalizers["observation"], healthy.normalizers["action"]

    def direct(observation):
        seen = (np.asarray(observation[:, -1]) - np.asarray(o.offset)) * np.asarray(o.gain)
        return ((seen @ matrix) * np.asarray(a.scale) + np.asarray(a.offset))[:, None]

    return dataclasses.replace(healthy, act=act, params=matrix, serve=lambda obs: serve(direct, obs))


@pytest.mark.parametrize(
    ("serve", "cause"),
    [
        (lambda direct, obs: direct(obs), []),
        (lambda direct, obs: direct(obs) * 1.3 + 0.5, ["stale_statistics"]),
        (lambda direct, obs: direct(obs[..., ::-1]), ["serve_mismatch"]),
        (lambda direct, obs: direct(obs) * np.array([1, 1, 1, 1, 1, 1, -1]), ["inverted_gripper"]),
        (lambda direct, obs: direct(obs)[..., :3], ["serve_mismatch"]),
    ],
    ids=["the same", "other statistics", "inputs reversed", "gripper mirrored", "too few numbers"],
)
def test_serving_is_held_against_training(serve, cause):
    assert causes(served_patient(serve)) == cause


def sampling_patient(serve, seed: int = 0) -> Patient:
    """A policy that goes one of two ways and trembles, beside a deployed function with noise of its own."""
    healthy = served_patient(lambda direct, obs: direct(obs))
    direct = healthy.act

    def act(params, observation, key):
        key = jax.random.key(99) if key is None else key
        side, tremble = jax.random.split(key)
        sign = jnp.where(jax.random.bernoulli(side, 0.5, (len(observation), 1, 1)), 1.0, -1.0)
        mean = direct(params, observation, None)
        return mean.at[..., :1].add(sign) + 0.1 * jax.random.normal(tremble, mean.shape)

    o, a = healthy.normalizers["observation"], healthy.normalizers["action"]

    def deployed(observation):
        seen = (np.asarray(observation) - np.asarray(o.offset)) * np.asarray(o.gain)
        action = act(healthy.params, jnp.asarray(seen, jnp.float32), jax.random.key(seed))
        return np.asarray(action) * np.asarray(a.scale) + np.asarray(a.offset)

    return dataclasses.replace(healthy, act=act, serve=lambda obs: serve(deployed, obs))


def test_a_policy_that_samples_is_served_another_sample():
    same = [causes(sampling_patient(lambda d, obs: d(obs), seed)) for seed in range(20)]
    assert same == [[]] * 20


@pytest.mark.parametrize(
    ("serve", "cause"),
    [
        (lambda d, obs: d(obs) * 1.5 + 1.0, ["stale_statistics"]),
        (lambda d, obs: d(obs[..., ::-1]), ["serve_mismatch"]),
        (lambda d, obs: d(obs) * np.array([1, 1, 1, 1, 1, 1, -1]), ["inverted_gripper"]),
    ],
    ids=["other statistics", "inputs reversed", "gripper mirrored"],
)
def test_serving_another_law_is_found_through_the_samples(serve, cause):
    assert causes(sampling_patient(serve)) == cause


def source(*episodes) -> Source:
    facts = Facts("mixed", "generated", ("a", "b"), ("a",))
    return Source(facts, {"train": lambda: iter(episodes)})


def episode(steps: int, width: int = 2) -> Episode:
    return Episode(
        np.zeros((steps, width), np.float32), np.zeros((steps, 1), np.float32), np.arange(steps) / 10
    )


def test_data_are_read_as_they_are():
    bad = episode(4)
    bad.action[2] = np.nan
    data = gather_as_is(source(bad, episode(3, width=5), episode(0), episode(2)))
    assert data.splits["train"].offset.tolist() == [0, 4, 6]
    assert data.extra["left_out"] == ("episode 1 of split train", "episode 2 of split train")
    with pytest.raises(InputError, match="holds no episode that can be examined"):
        gather_as_is(source(episode(0)))


def test_folders_that_are_no_patients_are_refused(tmp_path):
    with pytest.raises(InputError, match="is no run folder"):
        patient_of_run(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"flags": 3}))
    with pytest.raises(InputError, match="is no run folder"):
        patient_of_run(tmp_path)
    with pytest.raises(InputError):
        patient_of_data(tmp_path / "nothing")


def test_a_run_without_a_checkpoint_keeps_what_it_has(tmp_path):
    flags = {
        "loss": "ce",
        "data": "inverse_dynamics",
        "pairs": 200,
        "seed": 0,
        "validation": 0.1,
        "ema": "none",
    }
    (tmp_path / "config.json").write_text(json.dumps({"flags": flags}))
    (tmp_path / "metrics.csv").write_text("step,loss\n0,3.0\n100,2.0\n")
    patient = patient_of_run(tmp_path)
    assert patient.dataset is not None and patient.history is not None and patient.loss is None
    assert patient.declared == Declared(family="supervised", loss_name="ce", dtype="float32")
    (sentence,) = patient.extra["left_out"]
    assert sentence.startswith("the policy could not be made again")


# The facts of the three sets are those measured on them; nothing here is an alarm about what is normal.
REAL = {
    "bridge/bridge_dataset/1.0.0": ["duplicates_across_splits", "wrong_description", "zero_first_actions"],
    "pusht": [],
    "g1": [],
}


@pytest.mark.parametrize("name", REAL)
def test_real_sets(real_data, name):
    if not (real_data / name).is_dir():
        pytest.skip(f"no {name}")
    report = examine(patient_of_data(real_data / name))
    assert sorted(f.cause for f in report.alarms) == REAL[name] and not report.failed
    said = " ".join(f.sentence for f in report.findings)
    if name == "pusht":
        assert "91 jumps of almost a whole turn" in said and "774 of 25650" in said
        (lag,) = [f for f in report.findings if f.statistic.startswith("lag")]
        # The action leads the agent by about two steps, and moves it at once.
        assert lag.value == 0 and 2 < lag.numbers["lead"] < 3
    if name == "g1":
        assert "13 of 26 action dimensions hardly move" in said
    if name.startswith("bridge"):
        assert "25 of 25 episodes of split val are duplicates" in said
        assert "zero in 25 of 25 episodes" in said and "not joint velocities" in said
