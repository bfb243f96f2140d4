"""Episodes that are there twice, and where.

`content_hashes` gives every episode a 64-bit number that depends on each of its values and on the
order of its steps, not on where the episode stands. Equal numbers are only candidates here: what is
reported was compared value by value. Validation on an episode that training has seen measures
memory, so every split is checked in this way.
"""

import numpy as np

from ch3_jax.data.episodes import Steps
from ch3_jax.data.splits import content_hashes


def episodes_also_in(steps: Steps, other: Steps) -> np.ndarray:
    """Which episodes of one split stand, number for number, in another.

    Args:
      steps: the split whose episodes are asked about (validation).
      other: the split in which they are looked for (training).

    Returns:
      (E,) int64: the index in `other`, or -1 where the episode is not there.

    Example:
      >>> x = np.array([[0.0], [1.0], [2.0]], np.float32)
      >>> train = Steps(observation=x, action=x, offset=np.array([0, 1, 3]))
      >>> val = Steps(observation=x[1:], action=x[1:], offset=np.array([0, 2]))
      >>> episodes_also_in(val, train).tolist(), episodes_also_in(train, val).tolist()
      ([1], [-1, 0])
    """
    return _confirmed(steps, other, _first_place(content_hashes(other), content_hashes(steps)))


def repeats_within(steps: Steps) -> np.ndarray:
    """Which episodes repeat an earlier one of the same split.

    Args:
      steps: E episodes.

    Returns:
      (E,) int64: the index of the first equal episode, or -1 where there is none before.
    """
    hashes = content_hashes(steps)
    first = _first_place(hashes, hashes)
    return _confirmed(steps, steps, np.where(first < np.arange(len(first)), first, -1))


def _first_place(known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """For each wanted number its first place in `known`, or -1."""
    values, first = np.unique(known, return_index=True)
    place = np.minimum(np.searchsorted(values, wanted), len(values) - 1)
    return np.where(values[place] == wanted, first[place], -1)


def _confirmed(steps: Steps, other: Steps, candidate: np.ndarray) -> np.ndarray:
    found = candidate.copy()
    for mine in np.flatnonzero(candidate >= 0):
        theirs = candidate[mine]
        a, b = slice(*steps.offset[mine : mine + 2]), slice(*other.offset[theirs : theirs + 2])
        equal = np.array_equal(steps.action[a], other.action[b])
        if not (equal and np.array_equal(steps.observation[a], other.observation[b])):
            found[mine] = -1
    return found
