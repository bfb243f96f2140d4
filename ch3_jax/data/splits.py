"""Splits by episode, never by frame, and a check that they do not share episodes.

Neighbouring frames of one demonstration are nearly equal, so a split by frame measures memory and
calls it validation. With E episodes and a share v, the episodes of validation are the first
min(max(round(v E), 1), E - 1) of a permutation drawn from the seed.

A split can still repeat itself where a data set holds the same episode twice (the Bridge sample:
25 of 25); `repeated` finds that by hashing the content.
"""

import dataclasses

import numpy as np

from ch3_jax.data.episodes import Steps
from ch3_jax.errors import InputError

_MULTIPLY = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))
_SHIFT = np.uint64(33)


def split_by_episode(steps: Steps, validation: float, seed: int) -> tuple[Steps, Steps]:
    """Cuts a data set into training and validation.

    Args:
      steps: E episodes; their order is kept in both parts.
      validation: share of the episodes to hold out, inside (0, 1).
      seed: of the permutation; the same seed gives the same split.

    Returns:
      (train, validation), at least one episode each.

    Raises:
      InputError: a share outside (0, 1), or fewer than two episodes.
    """
    if not 0 < validation < 1:
        raise InputError(
            "the validation share cannot be used",
            got=validation,
            expected="a number above 0 and below 1",
            cause="a percentage (10) in place of a share (0.1)",
            fix="set it to 0.1 to hold out a tenth of the episodes",
        )
    if steps.episodes < 2:
        raise InputError(
            "a single episode cannot be split into training and validation",
            got=f"{steps.episodes} episode of {len(steps)} steps",
            expected="at least 2 episodes",
            cause="a sample of a data set, or episodes that were joined into one",
            fix="record or read more episodes, or train without validation",
        )
    held = min(max(round(validation * steps.episodes), 1), steps.episodes - 1)
    chosen = np.zeros(steps.episodes, bool)
    chosen[np.random.default_rng(seed).permutation(steps.episodes)[:held]] = True
    return select(steps, np.flatnonzero(~chosen)), select(steps, np.flatnonzero(chosen))


def select(steps: Steps, episodes: np.ndarray) -> Steps:
    """The episodes with the given numbers, laid end to end in that order.

    Raises:
      ValueError: a number outside of [0, E).
    """
    episodes = np.asarray(episodes, np.int64)
    if len(episodes) and (episodes.min() < 0 or episodes.max() >= steps.episodes):
        raise ValueError(f"`episodes` are {episodes.min()} to {episodes.max()}, there are {steps.episodes}.")
    length = np.diff(steps.offset)[episodes]
    offset = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    rows = np.repeat(steps.offset[episodes] - offset[:-1], length) + np.arange(offset[-1])
    return dataclasses.replace(
        steps,
        observation=steps.observation[rows],
        action=steps.action[rows],
        offset=offset,
        timestamp=None if steps.timestamp is None else steps.timestamp[rows],
        sources=None if steps.sources is None else tuple(steps.sources[e] for e in episodes),
        instructions=None if steps.instructions is None else tuple(steps.instructions[e] for e in episodes),
    )


def repeated(train: Steps, validation: Steps) -> int:
    """How many validation episodes stand in training, too, number for number.

    Observations and actions are compared, not images, times or instructions.

    >>> ones = np.ones((2, 1), np.float32)
    >>> a = Steps(ones, ones, np.array([0, 1, 2]))
    >>> repeated(a, select(a, np.array([1])))
    1
    """
    if not train.episodes:
        return 0
    known = np.sort(content_hashes(train))
    asked = np.sort(content_hashes(validation))  # sorted questions: the search stays in the cache
    place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    return int(np.count_nonzero(known[place] == asked))


def content_hashes(steps: Steps) -> np.ndarray:
    """(E,) uint64, equal for episodes of equal numbers: 64 bits, so a million episodes collide by
    chance with a probability of 3e-8."""
    length = np.diff(steps.offset)
    position = np.arange(len(steps)) - np.repeat(steps.offset[:-1], length)
    row = position.astype(np.uint64) + np.uint64(1)
    values = (steps.observation, steps.action)
    dims = sum(v.shape[1] for v in values)
    for i in range(0, len(steps), 16384):
        part = slice(i, i + 16384)
        # An even number of float32 columns, read as half as many 64-bit words.
        block = np.zeros((len(row[part]), dims + dims % 2), np.float32)
        np.concatenate([v[part] for v in values], axis=1, out=block[:, :dims], casting="same_kind")
        block += np.float32(0)  # -0.0 becomes 0.0: equal numbers, other bits
        state = row[part]
        for word in np.ascontiguousarray(block.view(np.uint64).T):
            state ^= word
            state *= _MULTIPLY[0]
            state ^= state >> _SHIFT
        row[part] = _mix(state)
    # Rows know their position, so their sum depends on the order; an empty episode sums to 0.
    total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(row, dtype=np.uint64)])
    return _mix(total[steps.offset[1:]] - total[steps.offset[:-1]] + length.astype(np.uint64))


def _mix(x: np.ndarray) -> np.ndarray:
    """A bijection of 64-bit words that spreads every bit over all (Murmur3's finaliser)."""
    for multiply in _MULTIPLY:
        x = (x ^ (x >> _SHIFT)) * multiply
    return x ^ (x >> _SHIFT)
