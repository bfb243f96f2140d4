"""Angles that wrap are found, and only those; encoded, nothing jumps and nothing is lost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.data import angles
from ch3_jax.data.episodes import Dataset, Facts, Steps
from ch3_jax.data.load import load
from ch3_jax.data.statistics import of_array
from ch3_jax.evaluation import serve
from tests.evaluation import untrained

NAMES = ("x", "turn", "joint", "heading")


def rows(seed=0, steps=400):
    """A position, an angle in [0, 2 pi) that drifts, a joint within +-1.5 rad, a heading in degrees."""
    draw = np.random.default_rng(seed)
    walk = np.cumsum(draw.normal(0, 0.3, (2, steps)), axis=1)
    joint = 1.5 * np.sin(np.arange(steps) / 7)
    columns = [draw.normal(size=steps), walk[0] % (2 * np.pi), joint, 60 * walk[1] % 360]
    return np.stack(columns, 1).astype(np.float32)


def steps_of(observation, offset=(0, 150, 400)):
    count = len(observation)
    return Steps(
        observation=observation,
        action=np.zeros((count, 1), np.float32),
        timestamp=None,
        offset=np.asarray(offset),
    )


def test_only_what_wraps_is_found():
    turns = angles.find(steps_of(rows()), NAMES)
    assert turns.columns == (1, 3)
    assert turns.periods == pytest.approx((2 * np.pi, 360))
    # Jumps between episodes are no jumps: every row an episode of its own wraps nowhere.
    assert angles.find(steps_of(rows(), np.arange(401)), NAMES).columns == ()
    noise = rows()
    noise[:, 1] = np.random.default_rng(1).uniform(0, 2 * np.pi, 400)
    assert angles.find(steps_of(noise), NAMES).columns == (3,)


def test_encoded_nothing_jumps_and_nothing_is_lost():
    raw = rows()
    turns = angles.find(steps_of(raw), NAMES)
    facts = Facts("x", "generated", NAMES, ("a",), observation_units=("m", "rad", "rad", "deg"))
    made = angles.encoded(Dataset(facts, {"train": steps_of(raw)}), turns)
    assert made.facts.observation_names == (
        "x",
        "turn_sin",
        "turn_cos",
        "joint",
        "heading_sin",
        "heading_cos",
    )
    assert made.facts.observation_units == ("m", "1", "1", "rad", "1", "1")
    seen = made.splits["train"].observation
    assert seen.shape == (400, 6) and np.abs(np.diff(seen[:, 1:3], axis=0)).max() < 1.2
    np.testing.assert_allclose(np.arctan2(seen[:, 1], seen[:, 2]) % (2 * np.pi), raw[:, 1], atol=1e-5)
    np.testing.assert_allclose(np.degrees(np.arctan2(seen[:, 4], seen[:, 5])) % 360, raw[:, 3], atol=1e-3)
    np.testing.assert_array_equal(seen[:, [0, 3]], raw[:, [0, 2]])
    with_jax = jax.jit(lambda x: angles.encode(turns, x))(jnp.asarray(raw)[:, None])
    np.testing.assert_allclose(with_jax[:, 0], seen, atol=1e-6)


def test_a_policy_is_served_with_raw_angles(tmp_path):
    """The served policy takes what the robot reports, and a whole turn more changes nothing."""
    raw = rows()
    turns = angles.find(steps_of(raw), NAMES)
    seen, action = angles.encode(turns, raw), np.sin(raw[:, :2])
    names = tuple(f"s{i}" for i in range(6)), ("a", "b")
    with_turns = untrained.write(tmp_path / "a", seen, action, names, turns=turns)
    without = untrained.write(tmp_path / "b", seen, action, names)
    policy, plain = serve.load(with_turns), serve.load(without)
    assert policy.shapes.state == 4 and policy.observation.names == NAMES
    window = np.stack([raw[:-1], raw[1:]], 1)
    expected = plain.act(angles.encode(turns, window))
    np.testing.assert_allclose(policy.act(window), expected, atol=1e-5)
    turned = window + np.array([0, 2 * np.pi, 0, -360], np.float32)
    np.testing.assert_allclose(policy.act(turned), expected, atol=1e-4)
    again = serve.rebuild(with_turns).turns
    assert again == turns and again.raw == of_array(raw, NAMES)


def test_the_block_of_push_t(real_data):
    dataset = load(real_data / "pusht")
    (split,) = dataset.splits.values()
    turns = angles.find(split, dataset.facts.observation_names)
    assert len(turns.columns) == 1 and "angle" in dataset.facts.observation_names[turns.columns[0]]
