"""The verdict: memorising is said when it happens and only then."""

import dataclasses

import pytest
from absl import flags as absl_flags

from ch3_jax.objectives import Objective
from experiments import flags, report


@pytest.fixture(scope="module")
def options():
    absl_flags.FLAGS.mark_as_parsed()
    return dataclasses.replace(flags.options(), loss="ce", bins=256)


@pytest.mark.parametrize(
    ("train", "validation", "floor", "memorising"),
    [
        (3.567, 3.574, 3.549, False),  # the default job
        (3.540, 3.552, 3.549, False),  # at the floor, a little luck
        (1.52, 5.48, 2.70, True),  # ten thousand pairs
        (5.40, 5.58, 5.545, True),  # random bins: nothing can be learned, yet training falls
        (2.0, 2.05, None, False),
        (1.0, 2.0, None, True),
    ],
)
def test_memorising(options, train, validation, floor, memorising):
    sentences = report.verdict(options, 10_000, train, validation, floor)
    assert any(s.startswith("memorising") for s in sentences) == memorising


def test_it_says_why(options):
    text = " ".join(report.verdict(options, 10_000, 1.52, 5.48, 2.70))
    # 10,000 / 256 = 39.06
    assert "10,000 pairs are 39.1 for each of 256 bins: too few pairs" in text
    assert "+102.96% from the floor" in text


def test_a_floor_below_zero_is_told_as_a_difference(options):
    """A density's loss may be negative: percentages of it would change sign."""
    sentences = report.verdict(options, 10_000, -1.012, -1.0, -1.01)
    assert sentences == ("validation -1.0000 is +0.0100 from the floor -1.0100",)
    assert any(s.startswith("memorising") for s in report.verdict(options, 10_000, -1.5, -0.5, -1.01))


@pytest.mark.parametrize(
    ("samples", "likeliest", "ways"),
    [
        (False, True, ("prediction",)),
        (True, True, ("most likely action", "sampled action")),
        (True, False, ("sampled action",)),
    ],
)
def test_what_a_policy_is_asked_for(samples, likeliest, ways):
    assert report.ways(Objective(None, None, None, likeliest, samples)) == ways


def test_nothing_is_said_of_numbers_that_are_none(options):
    assert report.verdict(options, 10, None, 1.0, 1.0) == ()
    assert report.verdict(options, 10, float("nan"), 1.0, 1.0) == ()


def test_remarks_fit_eighty_columns():
    lines = report.remark("word " * 60).splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 79
