"""Pictures of now, of some steps ago, and of nothing that moves."""

import numpy as np
import pytest

from ch3_jax.data.episodes import Dataset, Facts, Steps
from ch3_jax.doctor.examine import examine
from ch3_jax.doctor.finding import Finding
from ch3_jax.doctor.patient import Declared, Patient


def walk(late: int = 0, seed: int = 0, episodes: int = 12, length: int = 60) -> tuple[Dataset, np.ndarray]:
    """Joints that speed up and slow down, and 4 x 4 pictures of where they were `late` steps ago."""
    generator = np.random.default_rng(seed)
    states, pictures = [], []
    mixture = generator.normal(size=(3, 16))
    for _ in range(episodes):
        speed = np.abs(np.sin(np.arange(length) / generator.uniform(4, 7) + generator.uniform(0, 6)))
        speed *= generator.uniform(0.5, 1.5, length)
        q = np.cumsum(speed[:, None] * generator.uniform(0.02, 0.05, 3), axis=0)
        q += 1e-3 * generator.normal(size=q.shape)
        then = q[np.maximum(np.arange(length) - late, 0)]
        states.append(q)
        pictures.append((127 + 60 * np.tanh(then @ mixture)).reshape(length, 4, 4))
    seen = np.concatenate(states).astype(np.float32)
    names = ("joint_1", "joint_2", "joint_3")
    steps = Steps(seen, seen + 0.01, np.arange(0, episodes * length + 1, length))
    return Dataset(Facts("walk", "generated", names, names), {"train": steps}), np.concatenate(pictures)


def said(late: int, declared: int | None = None, seed: int = 0) -> Finding:
    data, pictures = walk(late, seed)
    patient = Patient(
        "x", data, declared=Declared(camera_delay_steps=declared), extra={"images": {"wrist": pictures}}
    )
    report = examine(patient, (2,))
    assert not report.failed
    (finding,) = [f for f in report.findings if f.statistic.startswith("lag at which pictures")]
    return finding


def test_pictures_of_now_are_left_in_peace():
    for seed in range(20):
        finding = said(0, seed=seed)
        assert (finding.cause, finding.value) == ("normal", 0)


@pytest.mark.parametrize("late", [1, 2, 5])
def test_late_pictures_are_late_by_as_many_steps(late):
    for seed in range(5):
        finding = said(late, seed=seed)
        assert (finding.cause, finding.value, finding.where) == ("camera_lag", late, "wrist")
        assert finding.alarm and finding.p < 1e-4


def test_a_declared_latency_is_as_it_should_be_and_another_is_not():
    assert said(2, declared=2).cause == "normal"
    assert said(3, declared=2).cause == "camera_lag"


def test_pictures_that_never_change_say_nothing():
    data, pictures = walk()
    patient = Patient("x", data, extra={"images": {"wrist": 0 * pictures}})
    report = examine(patient, (2,))
    assert any("images are late: wrist" in n.what for n in report.not_examined)


def test_columns_named_after_a_camera_are_pictures():
    data, pictures = walk(2)
    steps = data.splits["train"]
    seen = np.concatenate([steps.observation, pictures.reshape(len(steps), -1)], axis=1).astype(np.float32)
    names = (*data.facts.observation_names, *(f"camera_{i}" for i in range(16)))
    facts = Facts("walk", "generated", names, data.facts.action_names)
    report = examine(Patient("x", Dataset(facts, {"train": Steps(seen, steps.action, steps.offset)})), (2,))
    assert [f.value for f in report.findings if f.cause == "camera_lag"] == [2]
