"""The catalogue of causes, and their order: what comes first in the making of a number comes first here.

Two relations: `same` (two names for one act, or two that no evidence separates) and `explains` (one is
commonly the consequence of the other). A verdict with several causes lists the earliest first, because the
later ones may be gone once it is repaired.
"""

from ch3_jax.doctor import causes_of_data, causes_of_family, causes_of_training
from ch3_jax.doctor.cause import PLACES as PLACES
from ch3_jax.doctor.cause import Cause as Cause

CAUSES: dict[str, Cause] = {
    cause.id: cause
    for cause in (*causes_of_data.CAUSES, *causes_of_training.CAUSES, *causes_of_family.CAUSES)
}
"""id -> `Cause`, in the order of the places."""


def same(one: str, other: str) -> bool:
    """Whether two ids are accepted as the same answer.

    >>> same("action_outliers", "outlier_stretched_bins"), same("action_lag", "label_noise")
    (True, False)
    """
    return one == other or other in CAUSES[one].equivalents or one in CAUSES[other].equivalents


def explains(one: str, other: str) -> bool:
    """Whether `other` is commonly a consequence of `one`, over any number of links.

    >>> explains("unit_mix", "spikes"), explains("spikes", "unit_mix")
    (True, False)
    """
    seen, front = set(), [one]
    while front:
        for name in CAUSES[front.pop()].upstream_of:
            if name == other:
                return True
            if name not in seen:
                seen.add(name)
                front.append(name)
    return False
