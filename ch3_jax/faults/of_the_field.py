"""Faults that were added when every check stood, to see what the doctor makes of what it was not made for.

They are what people meet between a recording and a robot: a sensor that hangs, a data set that is mostly
copies, a transform that differs on the robot. At first sight it placed about half of them; copies, hanging
sensors and zeros were understood afterwards, so the next such look needs new ones. An angle that wraps in
mid-motion stays a miss: Push-T's does, and there it is noted and no alarm.
"""

import dataclasses
import math

import numpy as np

from ch3_jax.data.episodes import Steps
from ch3_jax.faults.fault import Fault
from ch3_jax.faults.of_data import on_steps
from ch3_jax.faults.run import Run

_JOINTS = 6


def _served(name: str):
    return lambda run, value: run._replace(served=(*run.served, (name, float(value))))


def hanging_sensor(run: Run, share: float) -> Run:
    """In `share` of the episodes the state stands still for the second half while the robot goes on."""

    def change(steps: Steps, generator: np.random.Generator) -> Steps:
        index = np.arange(len(steps))
        hit = generator.permutation(steps.episodes)[: max(round(share * steps.episodes), 1)]
        for e in hit:
            start, stop = steps.offset[e], steps.offset[e + 1]
            middle = (start + stop) // 2
            index[middle:stop] = middle
        seen = steps.observation.copy()
        seen[:, : _JOINTS + 1] = seen[index][:, : _JOINTS + 1]
        return dataclasses.replace(steps, observation=seen)

    return on_steps(run, change)


def old_frames(run: Run, share: float) -> Run:
    """Now and then the buffer hands out an old observation, four steps in a row: `share` of all steps."""

    def change(steps: Steps, generator: np.random.Generator) -> Steps:
        index = np.arange(len(steps))
        starts = np.flatnonzero(generator.random(len(steps)) < share / 4)
        for i in starts:
            episode = np.searchsorted(steps.offset, i, side="right") - 1
            stop = min(i + 5, int(steps.offset[episode + 1]))
            index[i:stop] = index[i]
        return dataclasses.replace(steps, observation=steps.observation[index])

    return on_steps(run, change)


def copies(run: Run, share: float) -> Run:
    """Only `share` of the training episodes are different ones; the others are copies of them."""

    def change(steps: Steps, generator: np.random.Generator) -> Steps:
        count = max(round(share * steps.episodes), 2)
        chosen = generator.permutation(steps.episodes)[:count]
        order = chosen[np.arange(steps.episodes) % count]
        rows = [np.arange(steps.offset[e], steps.offset[e + 1]) for e in order]
        index = np.concatenate(rows)
        return dataclasses.replace(
            steps,
            observation=steps.observation[index],
            action=steps.action[index],
            offset=np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64),
            timestamp=steps.timestamp[index],
            sources=tuple(f"episode_{i:04d}" for i in range(len(order))),
            instructions=None,
        )

    return on_steps(run, change, ("train",))


def zero_first(run: Run, count: float) -> Run:
    """The logger writes zeros until the first command has come through: `count` steps of every episode."""

    def change(steps: Steps, generator: np.random.Generator) -> Steps:
        done = steps.action.copy()
        for start in steps.offset[:-1]:
            done[start : start + round(count)] = 0
        return dataclasses.replace(steps, action=done)

    return on_steps(run, change)


def wrapped(run: Run, joints: float) -> Run:
    """`joints` encoders whose seam lies in the middle of the motion: angles jump by 2 pi there."""

    def change(steps: Steps, generator: np.random.Generator) -> Steps:
        seen = steps.observation.copy()
        seen[:, : round(joints)] = np.mod(seen[:, : round(joints)], 2 * math.pi)
        return dataclasses.replace(steps, observation=seen)

    return on_steps(run, change)


def _cut(run: Run, layers: float) -> Run:
    return run._replace(changes=(*run.changes, ("cut_layers", float(layers))))


FAULTS = (
    Fault("H01", "shaking", "noise left on in serving", 1, "serve_mismatch", "robot", (0.1, 0.25, 0.5),
          _served("shake")),
    Fault("H02", "scaling", "actions scaled in serving", 1, "stale_statistics", "robot", (0.9, 0.7, 0.4),
          _served("scale_action"), ("serve_mismatch", "unit_mix")),
    Fault("H03", "degrees in serving", "degrees sent to a policy of radians", 1, "serve_mismatch", "robot",
          (1, 3, 6), _served("degrees_in"), ("unit_mix", "stale_statistics")),
    Fault("H04", "hanging", "a sensor that hangs", 2, "frozen_observations", "robot", (0.2, 0.4, 0.8),
          hanging_sensor, ("observation_shuffled",)),
    Fault("H05", "old frames", "old observations from a buffer", 2, "frozen_observations", "robot",
          (0.1, 0.2, 0.4), old_frames, ("observation_shuffled",)),
    Fault("H06", "copies", "mostly copies of a few episodes", 1, "repeated_episodes", "robot",
          (0.25, 0.12, 0.06), copies, ("duplicates_across_splits", "too_few_demonstrations")),
    Fault("H07", "zeros", "zeros before the first command", 1, "zero_first_actions", "robot", (1, 3, 6),
          zero_first),
    Fault("H08", "cut", "layers cut off by a stop_gradient", 4, "frozen_layer", "pairs", (1, 1, 2), _cut,
          ("params_not_updated",)),
    Fault("H09", "seam", "angles that wrap in mid-motion", 1, "angle_wrap", "robot", (1, 2, 4), wrapped),
)  # fmt: skip
"""Faults of the field."""
