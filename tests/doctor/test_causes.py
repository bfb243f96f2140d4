"""The catalogue is whole: every reference resolves, and the causal order has no circle."""

import pytest

from ch3_jax.doctor.causes import CAUSES, explains, same

DRILLS = ("rate_too_high", "rate_too_low", "unnormalized_inputs", "action_outliers", "mode_averaging")


@pytest.mark.parametrize("cause", CAUSES.values(), ids=lambda c: c.id)
def test_references_resolve_and_nothing_explains_itself(cause):
    assert cause.id.isidentifier() and cause.id == cause.id.lower()
    assert cause.place in range(8)
    assert {*cause.equivalents, *cause.upstream_of} <= set(CAUSES)
    assert cause.id not in cause.equivalents
    assert not explains(cause.id, cause.id)
    assert cause.explanation.endswith(".") and cause.next_experiment.endswith(".")


def test_the_drills_causes_are_there_and_lie_in_their_places():
    assert [CAUSES[name].place for name in DRILLS] == [4, 4, 1, 1, 7]
    assert {cause.place for cause in CAUSES.values()} == set(range(8))


def test_same_is_symmetric():
    for one in CAUSES:
        for other in CAUSES[one].equivalents:
            assert same(one, other) and same(other, one)
