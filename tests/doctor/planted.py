"""Faults planted in the recordings of `simulated.robot`, each with the cause that has to be named."""

import dataclasses

import numpy as np

from ch3_jax.data.episodes import Dataset, Steps
from tests.doctor.simulated import changed

DEGREES = 180 / np.pi


def degrees(dataset: Dataset, share: float = 1.0, state: bool = False, joint: int = 2) -> Dataset:
    def edit(e, seen, done):
        if (e * 7919 % 100) / 100 < share:
            done[:, joint] *= DEGREES
            if state:
                seen[:, joint] *= DEGREES
        return seen, done

    return changed(dataset, edit)


def inverted(dataset: Dataset, every: int = 2) -> Dataset:
    def edit(e, seen, done):
        if e % every == 0:
            done[:, -1] = 1 - done[:, -1]
        return seen, done

    return changed(dataset, edit)


def outliers(dataset: Dataset, share: float, size: float, joint: int = 3) -> Dataset:
    rng = np.random.default_rng(1)

    def edit(e, seen, done):
        hit = rng.random(len(done)) < share
        done[hit, joint] += rng.choice([-1, 1], hit.sum()) * size
        return seen, done

    return changed(dataset, edit)


def clipped(dataset: Dataset, share: float = 0.5) -> Dataset:
    arm = dataset.splits["train"].action[:, :-1]
    low, high = np.quantile(arm, (share / 2, 1 - share / 2), axis=0)
    return changed(dataset, lambda e, o, a: (o, np.column_stack([np.clip(a[:, :-1], low, high), a[:, -1]])))


def zero_first(dataset: Dataset) -> Dataset:
    def edit(e, seen, done):
        done[0, :-1] = 0
        return seen, done

    return changed(dataset, edit)


def tiny(dataset: Dataset, joint: int = 1) -> Dataset:
    def edit(e, seen, done):
        done[:, joint] = 0.5 + 1e-5 * done[:, joint]
        return seen, done

    return changed(dataset, edit)


def late(dataset: Dataset, steps: int = 1, share: float = 1.0) -> Dataset:
    def edit(e, seen, done):
        if (e * 7919 % 100) / 100 < share:
            done = np.concatenate([np.repeat(done[:1], steps, 0), done])[: len(done)]
        return seen, done

    return changed(dataset, edit)


def shuffled(dataset: Dataset, share: float = 1.0) -> Dataset:
    rng = np.random.default_rng(2)

    def edit(e, seen, done):
        if (e * 7919 % 100) / 100 < share:
            seen = seen[rng.permutation(len(seen))]
        return seen, done

    return changed(dataset, edit)


def frozen(dataset: Dataset, run: int = 8) -> Dataset:
    def edit(e, seen, done):
        for start in range(20, len(seen) - run - 4, 25):
            seen[start : start + run] = seen[start]
        return seen, done

    return changed(dataset, edit)


def rows(steps: Steps, keep: np.ndarray) -> Steps:
    """The rows that are kept, in their episodes, with their own times."""
    episode = np.searchsorted(steps.offset, np.arange(len(steps)), side="right") - 1
    count = np.bincount(episode[keep], minlength=steps.episodes)
    return dataclasses.replace(
        steps,
        observation=steps.observation[keep],
        action=steps.action[keep],
        timestamp=steps.timestamp[keep],
        offset=np.concatenate([[0], np.cumsum(count)]).astype(np.int64),
    )


def dropped(dataset: Dataset, share: float = 0.02) -> Dataset:
    rng = np.random.default_rng(3)
    made = {}
    for name, steps in dataset.splits.items():
        keep = rng.random(len(steps)) >= share
        keep[steps.offset[:-1]] = True
        made[name] = rows(steps, keep)
    return dataclasses.replace(dataset, splits=made)


def by_frame(dataset: Dataset) -> Dataset:
    steps = dataset.splits["train"]
    held = np.random.default_rng(4).random(len(steps)) < 0.1
    return dataclasses.replace(dataset, splits={"train": rows(steps, ~held), "val": rows(steps, held)})


def duplicated(dataset: Dataset) -> Dataset:
    return dataclasses.replace(
        dataset, splits={"train": dataset.splits["train"], "val": dataset.splits["train"]}
    )


FAULTS = {
    "degrees in one action": ("unit_mix", degrees),
    "degrees in one joint": ("unit_mix", lambda d: degrees(d, state=True)),
    "degrees in the action of some episodes": ("unit_mix", lambda d: degrees(d, 0.3)),
    "degrees in some episodes": ("unit_mix", lambda d: degrees(d, 0.3, True)),
    "gripper inverted in half": ("inverted_gripper", inverted),
    "gripper inverted in a fifth": ("inverted_gripper", lambda d: inverted(d, 5)),
    "1 % at a thousand": ("action_outliers", lambda d: outliers(d, 0.01, 1000.0)),
    "1 % at ten": ("action_outliers", lambda d: outliers(d, 0.01, 10.0)),
    "half clipped": ("clipped_actions", clipped),
    "first action zero": ("zero_first_actions", zero_first),
    "a dimension of no width": ("tiny_range", tiny),
    "late by one": ("action_lag", late),
    "late by two": ("action_lag", lambda d: late(d, 2)),
    "late in some episodes": ("action_lag", lambda d: late(d, 1, 0.3)),
    "states shuffled": ("observation_shuffled", shuffled),
    "states shuffled in some episodes": ("observation_shuffled", lambda d: shuffled(d, 0.3)),
    "states frozen": ("frozen_observations", frozen),
    "frames dropped": ("dropped_frames", dropped),
    "split by frame": ("frame_level_split", by_frame),
    "validation is training": ("duplicates_across_splits", duplicated),
}
"""name -> (cause, data set -> data set)."""
