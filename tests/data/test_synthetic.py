"""The embedded sets against their stated laws; the cache against damage."""

import json
import math
import time

import jax
import numpy as np
import pytest
from scipy import stats

from ch3_jax.data import synthetic
from ch3_jax.data.synthetic import cached, embedded, inverse_dynamics, random_bins
from ch3_jax.errors import InputError
from ch3_jax.probability.floors import binned_gaussian_entropy, cross_entropy_floor

SMALL = {"pairs": 300, "validation_pairs": 40}


@pytest.fixture(scope="module")
def drill():
    return inverse_dynamics(0, pairs=10_000, noise=0.1)


def _residual(data, split="train"):
    part = data.splits[split]
    return part.action - part.observation.astype(np.float64) @ np.array(data.extra["map"]).T


def _same(a, b):
    return all(
        np.array_equal(getattr(a.splits[k], f), getattr(b.splits[k], f))
        for k in ("train", "val")
        for f in ("observation", "action", "offset")
    )


def test_map_is_seven_rows_of_the_cosine_transform(drill):
    # M[0, 0] = sqrt(1/7) cos(pi / 28) = 0.377964 x 0.993712 = 0.375588
    clean = np.array(drill.extra["map"])
    np.testing.assert_allclose(clean[0, 0], 0.375588, atol=1e-6)
    np.testing.assert_allclose(clean @ clean.T, np.eye(7), atol=1e-14)


def test_shapes_names_and_units_of_the_drill(drill):
    train, val = drill.splits["train"], drill.splits["val"]
    assert train.observation.shape == (10_000, 14) and val.action.shape == (2_000, 7)
    assert train.observation.dtype == train.action.dtype == np.float32
    assert train.episodes == 10_000 and train.timestamp is None
    facts = drill.facts
    assert facts.observation_names[7] == "joint_velocity_1" and facts.observation_units[7] == "rad/s"
    assert len(facts.action_names) == len(facts.action_units) == 7
    assert facts.action_meaning == "joint torque" and facts.format == "generated"


@pytest.mark.parametrize(
    ("pairs", "held_out"), [(1, 2_000), (10_000, 2_000), (200_000, 4_000), (1_000_000, 20_000)]
)
def test_default_number_of_validation_pairs(pairs, held_out, monkeypatch):
    asked = []
    monkeypatch.setattr(synthetic, "_steps", lambda block, seed, split, count: asked.append(count))
    inverse_dynamics(0, pairs=pairs)
    assert asked == [pairs, held_out]


def test_observation_is_uniform_and_noise_gaussian(drill):
    observation, residual = drill.splits["train"].observation, _residual(drill)
    assert stats.kstest(observation.ravel() / math.sqrt(3), stats.uniform(-1, 2).cdf).pvalue > 1e-3
    assert stats.kstest(residual.ravel() / 0.1, stats.norm.cdf).pvalue > 1e-3
    both = np.concatenate([observation, residual], axis=1)
    correlation = np.corrcoef(both.T) - np.eye(21)
    assert np.abs(correlation).max() < 5 / math.sqrt(10_000)


def test_clean_action_has_unit_variance_and_least_squares_finds_the_map(drill):
    part = drill.splits["train"]
    np.testing.assert_allclose(part.action.std(0), math.sqrt(1 + 0.01), rtol=0.03)
    found = np.linalg.lstsq(part.observation, part.action, rcond=None)[0].T
    np.testing.assert_allclose(found, drill.extra["map"], atol=5 * 0.1 / math.sqrt(10_000))


def test_without_noise_the_action_is_linear():
    np.testing.assert_allclose(_residual(inverse_dynamics(3, noise=0.0, **SMALL)), 0.0, atol=2e-6)


def test_same_seed_same_numbers_and_a_smaller_set_is_a_beginning():
    large, small = (inverse_dynamics(7, pairs=n, validation_pairs=50) for n in (20_050, 10_020))
    assert _same(small, inverse_dynamics(7, pairs=10_020, validation_pairs=50))
    assert np.array_equal(large.splits["train"].action[:10_020], small.splits["train"].action)
    # The second block does not repeat the first.
    assert not np.isin(large.splits["train"].action[10_000:, 0], large.splits["train"].action[:100, 0]).any()


def test_numbers_of_seed_zero_have_not_changed():
    # Bits are threefry's: they must be the same on another machine and with another version of JAX.
    bits = jax.jit(synthetic._bits, static_argnums=3)(np.uint32(0), np.uint32(0), np.uint32(0), 2)
    assert np.asarray(bits[:, :2]).tolist() == [[1214273199, 3384852239], [259460538, 898929468]]


def test_splits_and_seeds_differ():
    sets = [inverse_dynamics(s, **SMALL) for s in (0, 1, 2**31, 2**32 - 1)]
    firsts = {float(d.splits[k].action[0, 0]) for d in sets for k in ("train", "val")}
    assert len(firsts) == 8
    assert sets[0].extra["map"] == sets[1].extra["map"]


def test_sixty_four_bit_mode_changes_nothing():
    plain = inverse_dynamics(5, **SMALL)
    with jax.enable_x64(True):
        assert _same(plain, inverse_dynamics(5, **SMALL))


def test_two_demonstrators_differ_in_dimension_zero_only():
    one = inverse_dynamics(4, pairs=10_000, noise=0.1)
    two = inverse_dynamics(4, pairs=10_000, noise=0.1, bimodal=True, mode_distance=3.0)
    shift = two.splits["train"].action - one.splits["train"].action
    assert (shift[:, 1:] == 0).all()
    np.testing.assert_allclose(np.abs(shift[:, 0]), 1.5, atol=1e-6)
    assert abs((shift[:, 0] > 0).mean() - 0.5) < 0.02  # 4 standard errors
    assert abs(np.corrcoef(shift[:, 0], one.splits["train"].observation.T)[0, 1:]).max() < 0.05
    assert two.extra["mode_distance"] == 3.0 and one.extra["mode_distance"] == 0.0
    assert "two equally likely demonstrators" in two.facts.notes[1]


@pytest.mark.parametrize("bimodal", [False, True])
def test_extra_gives_the_floor(bimodal):
    data = inverse_dynamics(0, pairs=10_000, noise=0.1, bimodal=bimodal)
    action = data.splits["train"].action
    edges = np.linspace(action.min(0), action.max(0), 257).T
    law = data.extra["floor"]
    floor = cross_entropy_floor(edges, **law)
    if not bimodal:
        # 256 bins over a range of about 7: 0.5 ln(2 pi e 0.01) - ln(7 / 256) = -0.884 + 3.599 = 2.72
        np.testing.assert_allclose(floor.mean(), 2.72, atol=0.06)
    clean = data.splits["train"].observation @ np.array(data.extra["map"]).T
    seen = [binned_gaussian_entropy(edges[a], clean[:, a], 0.1, law["offsets"][a]).mean() for a in range(7)]
    np.testing.assert_allclose(floor, seen, atol=0.005)


def test_random_bins_are_uniform_under_both_encodings():
    data = random_bins(42)
    part = data.splits["train"]
    assert part.observation.shape == (4096, 64) and part.action.shape == (4096, 7)
    assert len(data.splits["val"]) == 1024
    bins = (part.action + 1) * 128 - 0.5
    assert np.array_equal(bins, bins.round()) and bins.min() == 0 and bins.max() == 255
    low, high = part.action.min(0), part.action.max(0)
    by_range = np.clip(np.floor((part.action - low) / (high - low) * 256), 0, 255)
    assert np.array_equal(by_range, bins)
    assert stats.chisquare(np.bincount(bins.astype(int).ravel(), minlength=256)).pvalue > 1e-3
    assert stats.kstest(part.observation.ravel(), stats.norm.cdf).pvalue > 1e-3
    correlation = np.corrcoef(np.concatenate([part.observation, part.action], 1).T)[64:, :64]
    assert np.abs(correlation).max() < 5 / 64
    assert data.extra["settings"] == {
        "batch_size": 64,
        "epochs": 50,
        "learning_rate": 1e-4,
        "weight_decay": 1e-5,
        "seed": 42,
    }


def test_a_million_pairs_take_well_under_a_second():
    inverse_dynamics(0, **SMALL)  # compiles
    start = time.process_time()  # not the clock: the machine may be busy
    inverse_dynamics(1)
    assert time.process_time() - start < 1.0  # 0.13 s on a free core


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pairs": 0}, "pairs"),
        ({"pairs": 10**12}, "pairs"),
        ({"pairs": 1.5}, "pairs"),
        ({"validation_pairs": 0}, "validation_pairs"),
        ({"noise": -0.1}, "noise"),
        ({"noise": math.nan}, "noise"),
        ({"mode_distance": 1.0}, "bimodal=True"),
        ({"bimodal": True, "mode_distance": -1.0}, "mode_distance"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"colour": 1, "shape": 2}, "no setting colour, shape"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        embedded("inverse_dynamics", **({"seed": 0} | settings))


def test_unknown_set_lists_the_known():
    with pytest.raises(InputError, match="inverse_dynamics, random_bins"):
        embedded("inverse_dinamics", 0)


RECIPE = {"name": "inverse_dynamics", "seed": 0, **SMALL}


def _make():
    return inverse_dynamics(0, **SMALL)


def _never():
    raise AssertionError("the cache should have been read")


def test_cache_returns_what_was_made(tmp_path):
    path = tmp_path / "drills" / "data.npz"
    made, status = cached(path, _make, RECIPE)
    assert status == "made"
    read, status = cached(path, _never, RECIPE)
    assert status == "read"
    assert _same(made, read) and read.facts == made.facts and read.extra == made.extra
    assert json.loads(json.dumps(made.extra)) == made.extra
    assert [p.name for p in path.parent.iterdir()] == ["data.npz"]
    assert np.load(path)["train/action"].shape == (300, 7)


def _truncate(data):
    return data[: len(data) // 2]


def _flip(data):
    middle = len(data) // 3
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("damage", [_truncate, _flip, lambda data: b"", lambda data: b"not a zip"])
def test_damaged_cache_is_made_again_and_kept_aside(tmp_path, damage):
    path = tmp_path / "data.npz"
    made, _ = cached(path, _make, RECIPE)
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    again, status = cached(path, _make, RECIPE)
    assert status.startswith("remade: data.npz")
    assert (tmp_path / "data.npz.old").read_bytes() == damaged
    assert _same(made, again) and cached(path, _never, RECIPE)[1] == "read"


def test_consistent_file_with_a_changed_number_is_noticed(tmp_path):
    # A sound zip with every field, in which one action is another: only the checksum can tell.
    path = tmp_path / "data.npz"
    cached(path, _make, RECIPE)
    fields = dict(np.load(path))
    fields["train/action"][5, 2] += 1
    np.savez(path, **fields)
    assert "does not match its checksum" in cached(path, _make, RECIPE)[1]


def test_foreign_file_and_other_recipe_are_not_used(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, train=np.zeros(3))
    assert "is not a cache of this library" in cached(path, _make, RECIPE)[1]
    other = RECIPE | {"seed": 1}
    data, status = cached(path, lambda: inverse_dynamics(1, **SMALL), other)
    assert "holds another set" in status and '"seed": 0' in status
    assert _same(data, inverse_dynamics(1, **SMALL))


def test_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(synthetic.np, "savez", full)
    with pytest.raises(InputError, match="No space left"):
        cached(tmp_path / "data.npz", _make, RECIPE)
    assert list(tmp_path.iterdir()) == []


def test_folder_in_place_of_the_cache_is_refused(tmp_path):
    (tmp_path / "data.npz").mkdir()
    with pytest.raises(InputError, match="cannot be used"):
        cached(tmp_path / "data.npz", _make, RECIPE)
