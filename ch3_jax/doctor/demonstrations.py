"""States and the actions taken there: what the tests of demonstrators look at.

From the recording where there is one, because only there is it known which rows belong to one episode: steps
of one episode are near one another in state and in action, and are one opinion, not many. A neighbourhood
therefore takes one step from an episode.
"""

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from ch3_jax.doctor.patient import Patient

ROWS = 6000


class Pairs(NamedTuple):
    """N states and actions.

    Attributes:
      state: (N, S) standardised, constant dimensions left out.
      action: (N, A) in the units in which they were given.
      episode: (N,) which opinion a row is.
      names: A names.
      observation: (N, W, S) as the policy sees them; None from a recording.
    """

    state: np.ndarray
    action: np.ndarray
    episode: np.ndarray
    names: tuple[str, ...]
    observation: np.ndarray | None = None


def of_recording(patient: Patient) -> Pairs | None:
    """Up to 6,000 evenly spaced rows of the training split; None without a recording."""
    if patient.dataset is None or not patient.dataset.splits:
        return None
    splits = patient.dataset.splits
    steps = splits.get("train", next(iter(splits.values())))
    chosen = np.linspace(0, len(steps) - 1, min(len(steps), ROWS)).astype(int)
    episode = np.searchsorted(steps.offset, chosen, side="right") - 1
    names = patient.dataset.facts.action_names
    return _pairs(steps.observation[chosen], steps.action[chosen], episode, names, None)


def of_batches(patient: Patient) -> Pairs | None:
    """Up to 6,000 rows of the batches, each an opinion of its own; None for batches of another make."""
    if patient.batches is None or np.ndim(getattr(patient.batches(0), "action", None)) != 3:
        return None
    seen, done, count = [], [], 0
    for step in range(200):
        batch = patient.batches(step)
        seen.append(np.asarray(batch.observation, np.float32))
        done.append(np.asarray(batch.action, np.float32)[:, 0])
        count += len(done[-1])
        if count >= ROWS:
            break
    observation, action = np.concatenate(seen)[:ROWS], np.concatenate(done)[:ROWS]
    names = () if patient.dataset is None else patient.dataset.facts.action_names
    return _pairs(
        observation.reshape(len(observation), -1), action, np.arange(len(action)), names, observation
    )


def _pairs(state, action, episode, names, observation) -> Pairs:
    state, action = np.asarray(state, np.float64), np.asarray(action, np.float64)
    good = np.flatnonzero(np.isfinite(state).all(1) & np.isfinite(action).all(1))
    # The same state and action again is no second opinion.
    _, first = np.unique(np.column_stack([state[good], action[good]]), axis=0, return_index=True)
    good = good[first]
    state, action, episode = state[good], action[good], episode[good]
    moving = np.ptp(state, axis=0) > 0 if len(state) else np.zeros(state.shape[1], bool)
    state = state[:, moving]
    state = (state - state.mean(0)) / state.std(0) if state.size else state
    names = tuple(names) if len(names) == action.shape[1] else tuple(map(str, range(action.shape[1])))
    return Pairs(state, action, episode, names, None if observation is None else observation[good])


def neighbourhoods(pairs: Pairs, size: int, most: int, seed: int = 0) -> list[np.ndarray]:
    """Sets of `size` rows near one another, of different episodes, that do not overlap.

    Args:
      pairs: N rows.
      size: rows of a neighbourhood.
      most: neighbourhoods.
      seed: of their centres.

    Returns:
      At most `most` index arrays (size,); fewer where the data hold no more.
    """
    tree = cKDTree(pairs.state)
    taken = np.zeros(len(pairs.state), bool)
    single = len(np.unique(pairs.episode)) == len(pairs.episode)
    asked = min(len(pairs.state), size if single else 8 * size)
    groups = []
    for centre in np.random.default_rng(seed).permutation(len(pairs.state))[: 20 * most]:
        _, near = tree.query(pairs.state[centre], asked)
        if not single:
            near = near[np.sort(np.unique(pairs.episode[near], return_index=True)[1])][:size]
        if len(near) == size and not taken[near].any():
            taken[near] = True
            groups.append(near)
        if len(groups) == most:
            break
    return groups


def residual(pairs: Pairs, trim: bool = False) -> np.ndarray:
    """Actions less a ridge regression on the state, its squares and, for few dimensions, its products.

    Args:
      pairs: N rows.
      trim: fit again without rows beyond 2.5 robust sigma, a few times: a part of wrong rows then does not
        bend the fit.

    Returns:
      (N, A).
    """
    x = pairs.state
    products = [x[:, i : i + 1] * x[:, i:] for i in range(x.shape[1])] if x.shape[1] <= 16 else [x**2]
    design = np.column_stack([np.ones(len(x)), x, *products])
    kept = np.ones(pairs.action.shape, bool)
    rest = np.empty_like(pairs.action)
    for j in range(pairs.action.shape[1]):
        for _ in range(6 if trim else 1):
            rows = design[kept[:, j]]
            gram = rows.T @ rows + 1e-3 * len(rows) * np.eye(design.shape[1])
            rest[:, j] = pairs.action[:, j] - design @ np.linalg.solve(
                gram, rows.T @ pairs.action[kept[:, j], j]
            )
            spread = 1.4826 * np.median(np.abs(rest[:, j]))
            kept[:, j] = np.abs(rest[:, j]) <= 2.5 * spread
            if kept[:, j].sum() < 2 * design.shape[1]:
                break
    return rest
