"""Which way around the pillar: by hand."""

import numpy as np
import pytest

from ch3_jax.evaluation.sides import shares, way

PILLAR = np.array([0.5, 0.0])


def line(*points):
    return np.array([(*p, 0.4) for p in points])


@pytest.mark.parametrize(
    ("tips", "touched", "expected"),
    [
        (line((0.4, -0.2), (0.7, -0.1), (0.7, 0.2)), False, "behind"),
        (line((0.4, -0.2), (0.3, 0.1)), False, "in front"),
        # Crosses y = 0 a third of the way: x = 0.8 - 0.6 / 3 = 0.6, though it ends in front.
        (line((0.8, -0.1), (0.2, 0.2)), False, "behind"),
        (line((0.7, -0.1), (0.7, 0.2)), True, "hit"),
        (line((0.7, -0.1), (0.7, -0.05)), False, "not passed"),
        (line((0.7, 0.1), (0.7, 0.2)), False, "not passed"),
    ],
)
def test_by_hand(tips, touched, expected):
    assert way(tips, touched, PILLAR) == expected


def test_shares_of_nothing():
    assert set(shares([]).values()) == {0.0}
