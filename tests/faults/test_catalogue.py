"""The catalogue: pure, seeded, named like the doctor's causes, split by family."""

import numpy as np
import pytest

from ch3_jax.doctor.causes import CAUSES
from ch3_jax.faults import catalogue, healthy, of_data, of_the_field, of_training
from ch3_jax.faults.catalogue import FAULTS
from ch3_jax.faults.robots import robots

CHEAP = [f for f in FAULTS.values() if f.base in ("robot", "robot_bins", "robot_chunks")]


@pytest.fixture(scope="module")
def base():
    return healthy.robot(3, episodes=20)


def arrays(run):
    return [
        getattr(s, n) for s in run.dataset.splits.values() for n in ("observation", "action", "timestamp")
    ]


def test_every_answer_is_a_cause_of_the_doctor():
    for fault in FAULTS.values():
        assert set(fault.answers()) <= set(CAUSES)
        assert CAUSES[fault.cause].place == fault.place
        assert fault.base in healthy.BASES
        assert len(fault.severities) == 3
    assert {f.place for f in FAULTS.values()} == set(range(1, 8))


def test_halves_are_of_families_and_both_have_every_place_with_two_families():
    for family in {(f.place, f.family) for f in FAULTS.values()}:
        assert len({catalogue.half(f) for f in FAULTS.values() if (f.place, f.family) == family}) == 1
    for place in range(1, 8):
        mine = [f for f in FAULTS.values() if f.place == place]
        if len({f.family for f in mine}) > 1:
            assert {catalogue.half(f) for f in mine} == set(catalogue.HALVES)


@pytest.mark.parametrize("fault", CHEAP, ids=lambda f: f.id)
def test_a_fault_of_data_changes_its_run_and_not_the_healthy_one(fault, base):
    before = [a.copy() for a in arrays(base)]
    one, again = (fault.change(base, fault.severities[2]) for _ in range(2))
    for kept, now in zip(before, arrays(base), strict=True):
        np.testing.assert_array_equal(kept, now)
    for a, b in zip(arrays(one), arrays(again), strict=True):
        np.testing.assert_array_equal(a, b)
    differs = one._replace(dataset=base.dataset, measured=base.measured) != base or any(
        a.shape != b.shape or not np.array_equal(a, b) for a, b in zip(arrays(one), before, strict=True)
    )
    assert differs or one.measured is not None
    for steps in one.dataset.splits.values():
        assert steps.offset[-1] == len(steps.observation) == len(steps.action) == len(steps.timestamp)
        assert (np.diff(steps.offset) > 0).all()


def test_a_settings_fault_is_one_field(base):
    assert of_training.rate(base, 100.0).learning_rate == pytest.approx(0.1)
    assert of_training.reset(base._replace(steps=2_000), 0.25).reset_at == 500
    assert FAULTS["C05"].change(base, 1.0).changes == (("flip_gradient", 1.0),)
    assert dict(FAULTS["G07"].change(base, 2).acting) == {"sampling_steps": 1}


def test_numbers_of_the_changes(base):
    train = base.dataset.splits["train"]
    late = of_data.lagged_actions(base, 2).dataset.splits["train"]
    np.testing.assert_array_equal(late.action[2:10], train.action[:8])  # inside the first episode
    np.testing.assert_array_equal(late.action[:2], train.action[[0, 0]])  # and held at its beginning
    idle = of_data.idle_prefix(base, 0.6).dataset.splits["train"]
    assert len(idle) / len(train) == pytest.approx(2.5, rel=0.02)  # 1 / (1 - 0.6)
    flipped = of_data.inverted_gripper(base, 0.5).dataset.splits["train"]
    rows = flipped.action[:, 6] != train.action[:, 6]
    assert rows.sum() == np.diff(train.offset)[[rows[o] for o in train.offset[:-1]]].sum()  # whole episodes
    assert sum(rows[o] for o in train.offset[:-1]) == 8  # half of the sixteen
    cut = of_data.clipped_actions(base, 0.5).dataset.splits["train"].action[:, 0]
    assert np.mean((cut == cut.min()) | (cut == cut.max())) == pytest.approx(0.5, abs=0.02)
    bad = of_data.nan_in_one_episode(base, 5)
    assert np.isnan(bad.dataset.splits["train"].observation).sum() == 5
    assert np.isfinite(bad.measured.splits["train"].observation).all()


def test_lookalikes_are_healthy_runs():
    for fault in catalogue.lookalikes():
        if fault.base == "robot":
            run = catalogue.lookalike(fault, 1)
            assert not run.changes and not run.served and run.measured is None
    with pytest.raises(ValueError, match="no healthy look-alike"):
        catalogue.lookalike(FAULTS["C05"], 0)
    with pytest.raises(ValueError, match="mild, middle, strong"):
        catalogue.broken(FAULTS["A01"], "fatal", 0)


def test_robots_move_as_described():
    data = robots(5, episodes=12, delay=2, noise=0.0)
    train = data.splits["train"]
    first = slice(int(train.offset[0]), int(train.offset[1]))
    seen, done = train.observation[first], train.action[first]
    # q_{t+1} = q_t + 0.7 (a_{t-2} - q_t) + noise of 0.002 times the amplitude
    told = seen[2:-1, :6] + 0.7 * (done[:-3, :6] - seen[2:-1, :6])
    np.testing.assert_allclose(seen[3:, :6], told, atol=0.02)
    assert set(np.unique(train.action[:, 6])) == {-1.0, 1.0}
    delta = robots(5, episodes=12, delay=2, noise=0.0, action="delta").splits["train"]
    np.testing.assert_allclose(delta.action[first, :6], done[:, :6] - seen[:, :6], atol=1e-5)
    with pytest.raises(Exception, match="absolute or delta"):
        robots(0, action="velocity")


@pytest.fixture(scope="module")
def recording():
    return healthy.robot(3)


def test_faults_of_the_field_by_hand(recording):
    """Each on one recording of 48 training episodes: what stands still, repeats, is zero or jumps."""
    steps = recording.dataset.splits["train"]
    rows = [slice(a, b) for a, b in zip(steps.offset[:-1], steps.offset[1:], strict=True)]

    hung = of_the_field.hanging_sensor(recording, 0.25).dataset.splits["train"]
    still = [
        np.ptp(hung.observation[r][len(hung.observation[r]) // 2 :, :7], axis=0).max() == 0 for r in rows
    ]
    assert sum(still) == 12 and np.array_equal(hung.action, steps.action)

    few = of_the_field.copies(recording, 0.25).dataset.splits["train"]
    cut = zip(few.offset[:-1], few.offset[1:], strict=True)
    assert few.episodes == 48 and len({few.action[a:b].tobytes() for a, b in cut}) == 12

    zero = of_the_field.zero_first(recording, 3).dataset.splits["train"]
    assert all(not zero.action[r][:3].any() and zero.action[r][3:].any() for r in rows)

    seam = of_the_field.wrapped(recording, 1).dataset.splits["train"]
    assert seam.observation[:, 0].min() >= 0
    np.testing.assert_allclose(np.cos(seam.observation[:, 0]), np.cos(steps.observation[:, 0]), atol=1e-5)

    old = of_the_field.old_frames(recording, 0.4).dataset.splits["train"]
    changed = np.any(old.observation != steps.observation, axis=1).mean()
    assert 0.2 < changed < 0.4 and np.array_equal(old.action, steps.action)


def test_late_pictures_by_hand():
    run = healthy.robot_camera(3)
    steps, late = (r.dataset.splits["train"] for r in (run, of_data.late_camera(run, 2)))
    camera = [i for i, n in enumerate(run.dataset.facts.observation_names) if n.startswith("camera")]
    assert len(camera) == 12
    np.testing.assert_array_equal(late.observation[2:20][:, camera], steps.observation[:18][:, camera])
    np.testing.assert_array_equal(late.observation[:2][:, camera], steps.observation[[0, 0]][:, camera])
    np.testing.assert_array_equal(late.observation[:, :7], steps.observation[:, :7])


def test_what_was_looked_at_last_is_held_out():
    assert {catalogue.half(f) for f in of_the_field.FAULTS} == {"held out"}
