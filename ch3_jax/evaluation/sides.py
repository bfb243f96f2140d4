"""Which way around: the bimodal probe of `panda_reach_obstacle`.

Half of the demonstrators pass the pillar behind it (larger x), half in front of it, and at the start nothing
tells which. A head that keeps both ways passes on either side; one that averages them drives between the
modes, into the pillar.
"""

from collections.abc import Sequence

import numpy as np

WAYS = ("behind", "in front", "hit", "not passed")


def way(tips: np.ndarray, touched: bool, pillar: np.ndarray) -> str:
    """How one episode went by.

    Args:
      tips: (T, 3) positions of the flange, m.
      touched: whether it was inside the pillar.
      pillar: (2,) x, y of its axis; the task goes from y below to y above it.

    Returns:
      One of `WAYS`.

    >>> way(np.array([[0.7, -0.1, 0.4], [0.7, 0.1, 0.4]]), False, np.array([0.5, 0.0]))
    'behind'
    """
    if touched:
        return "hit"
    passed = np.flatnonzero((tips[:-1, 1] < pillar[1]) & (tips[1:, 1] >= pillar[1]))
    if not len(passed):
        return "not passed"
    before, after = tips[passed[0]], tips[passed[0] + 1]
    share = (pillar[1] - before[1]) / (after[1] - before[1])
    return "behind" if before[0] + share * (after[0] - before[0]) > pillar[0] else "in front"


def shares(ways: Sequence[str]) -> dict[str, float]:
    """Share of the episodes of each of `WAYS`.

    >>> shares(["hit", "behind", "hit", "in front"])
    {'behind': 0.25, 'in front': 0.25, 'hit': 0.5, 'not passed': 0.0}
    """
    return {name: sum(w == name for w in ways) / max(len(ways), 1) for name in WAYS}
