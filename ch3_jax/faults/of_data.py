"""Faults of place 1 and 2: units, grippers, statistics, ranges, idling, splits, and time."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from ch3_jax.data.episodes import Steps
from ch3_jax.data.splits import select
from ch3_jax.faults import healthy
from ch3_jax.faults.fault import Fault
from ch3_jax.faults.run import Run

_DEGREES = 180 / math.pi
_FINGER = 6  # the gripper's place among the robot's observations and actions
StepsChange = Callable[[Steps, np.random.Generator], Steps]


def on_steps(run: Run, change: StepsChange, splits: tuple[str, ...] = ("train", "val")) -> Run:
    """The run with some splits of its data changed, by a generator of its own seed."""
    parts = dict(run.dataset.splits)
    for name in splits:
        parts[name] = change(parts[name], np.random.default_rng([run.seed, len(parts[name]), 5]))
    return run._replace(dataset=dataclasses.replace(run.dataset, splits=parts))


def _rows(steps: Steps, episodes: np.ndarray) -> np.ndarray:
    """(N,) whether a row is of one of the episodes (E,) bool."""
    return np.repeat(episodes, np.diff(steps.offset))


def _some(steps: Steps, share: float, generator: np.random.Generator) -> np.ndarray:
    """(E,) bool, `share` of the episodes."""
    chosen = np.zeros(steps.episodes, bool)
    chosen[generator.permutation(steps.episodes)[: max(round(share * steps.episodes), 1)]] = True
    return chosen


def degrees_in_some_episodes(run: Run, share: float) -> Run:
    """One joint of state and action in degrees, in `share` of the episodes."""

    def change(steps: Steps, generator: np.random.Generator) -> Steps:
        factor = np.where(_rows(steps, _some(steps, share, generator)), _DEGREES, 1.0)
        seen, done = steps.observation.copy(), steps.action.copy()
        seen[:, 2] *= factor
        done[:, 2] *= factor
        return dataclasses.replace(steps, observation=seen, action=done)

    return on_steps(run, change)


def degrees_in_one_action(run: Run, factor: float) -> Run:
    """One joint's action `factor` times too wide in all episodes, where no normaliser hides it."""

    def change(steps: Steps, generator: np.random.Generator) -> Steps:
        done = steps.action.copy()
        done[:, 2] *= factor
        return dataclasses.replace(steps, action=done)

    return on_steps(run, change)._replace(normalize="identity")


def inverted_gripper(run: Run, share: float) -> Run:
    """The gripper's action has the other sign in `share` of the episodes."""

    def change(steps: Steps, generator: np.random.Generator) -> Steps:
        done = steps.action.copy()
        done[_rows(steps, _some(steps, share, generator)), _FINGER] *= -1
        return dataclasses.replace(steps, action=done)

    return on_steps(run, change)


def stale_statistics(run: Run, spreads: float) -> Run:
    """Normalised with the mean and spread of an older recording: shifted by `spreads`, half as wide."""

    def change(steps: Steps, generator: np.random.Generator) -> Steps:
        def old(x: np.ndarray) -> np.ndarray:
            mean, std = x.mean(0), x.std(0)
            return ((x - mean) * 0.3 + mean + spreads * std).astype(np.float32)

        return dataclasses.replace(steps, observation=old(steps.observation))

    return run._replace(measured=on_steps(run, change).dataset)


def stretched_bins(run: Run, times: float) -> Run:
    """A thousandth of the actions `times` the range away: bins from minimum to maximum stretch to them."""

    def change(steps: Steps, generator: np.random.Generator) -> Steps:
        done = steps.action.copy()
        for d in range(_FINGER):
            width = np.ptp(done[:, d])
            rows = generator.permutation(len(done))[: max(round(0.001 * len(done)), 2)]
            done[rows, d] += times * width * np.where(np.arange(len(rows)) % 2, -1, 1)
        return dataclasses.replace(steps, action=done)

    return on_steps(run, change, ("train",))


def clipped_actions(run: Run, share: float) -> Run:
    """Teleoperation cuts `share` of the actions of every joint off at its limits."""

    def change(steps: Steps, generator: np.random.Generator) -> Steps:
        done = steps.action.copy()
        joints = done[:, :_FINGER]
        low, high = np.quantile(joints, [share / 2, 1 - share / 2], axis=0)
        done[:, :_FINGER] = np.clip(joints, low, high)
        return dataclasses.replace(steps, action=done)

    return on_steps(run, change)


def idle_prefix(run: Run, share: float) -> Run:
    """A standstill before the work, until it is `share` of the recording."""

    def change(steps: Steps, generator: np.random.Generator) -> Steps:
        index, sizes = [], []
        for start, stop in zip(steps.offset[:-1], steps.offset[1:], strict=True):
            wait = round((stop - start) * share / (1 - share))
            index.append(np.concatenate([np.full(wait, start), np.arange(start, stop)]))
            sizes.append(wait + stop - start)
        index, joints = np.concatenate(index), steps.action.shape[1] - 1
        done, first = steps.action[index].copy(), np.zeros(len(index), bool)
        for offset, size, own in zip(
            np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes, np.diff(steps.offset), strict=True
        ):
            first[offset : offset + size - own] = True
        rest = (
            steps.observation[index][:, :joints]
            if "absolute" in (run.dataset.facts.action_meaning or "")
            else 0
        )
        done[:, :joints] = np.where(first[:, None], rest, done[:, :joints])
        seen = steps.observation[index].copy()
        seen[:, :_FINGER] += 1e-4 * generator.normal(size=(len(seen), _FINGER)).astype(np.float32)
        return dataclasses.replace(
            steps,
            observation=seen,
            action=done,
            offset=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            timestamp=np.concatenate([np.arange(n) for n in sizes]) / (run.dataset.facts.rate_hz or 1.0),
        )

    return on_steps(run, change)


def frame_level_split(run: Run, share: float) -> Run:
    """`share` of the frames of every episode, drawn at random, are the validation."""
    whole = run.dataset.splits["train"]
    held = np.random.default_rng(run.seed).random(len(whole)) < share

    def keep(rows: np.ndarray) -> Steps:
        counts = np.add.reduceat(rows, whole.offset[:-1])
        return dataclasses.replace(
            whole,
            observation=whole.observation[rows],
            action=whole.action[rows],
            timestamp=None if whole.timestamp is None else whole.timestamp[rows],
            offset=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        )

    parts = {"train": keep(~held), "val": keep(held)}
    return run._replace(dataset=dataclasses.replace(run.dataset, splits=parts))


def lagged_actions(run: Run, steps_late: float) -> Run:
    """The action beside an observation is the one that was given some steps before."""
    late = round(steps_late)

    def change(steps: Steps, generator: np.random.Generator) -> Steps:
        start = np.repeat(steps.offset[:-1], np.diff(steps.offset))
        return dataclasses.replace(
            steps, action=steps.action[np.maximum(np.arange(len(steps)) - late, start)]
        )

    return on_steps(run, change)


def late_camera(run: Run, steps_late: float) -> Run:
    """The camera shows the scene of some steps ago; an episode begins with its first picture, standing."""
    late, names = round(steps_late), run.dataset.facts.observation_names
    columns = [i for i, name in enumerate(names) if name.startswith("camera")]

    def change(steps: Steps, generator: np.random.Generator) -> Steps:
        start = np.repeat(steps.offset[:-1], np.diff(steps.offset))
        seen = steps.observation.copy()
        seen[:, columns] = seen[np.maximum(np.arange(len(steps)) - late, start)][:, columns]
        return dataclasses.replace(steps, observation=seen)

    return on_steps(run, change)


def shuffled_observations(run: Run, share: float) -> Run:
    """In `share` of the episodes observations stand beside actions of other steps."""

    def change(steps: Steps, generator: np.random.Generator) -> Steps:
        index = np.arange(len(steps))
        for e in np.flatnonzero(_some(steps, share, generator)):
            start, stop = steps.offset[e], steps.offset[e + 1]
            index[start:stop] = start + generator.permutation(stop - start)
        return dataclasses.replace(steps, observation=steps.observation[index])

    return on_steps(run, change)


def dropped_frames(run: Run, share: float) -> Run:
    """`share` of the steps are missing; the clock tells."""

    def change(steps: Steps, generator: np.random.Generator) -> Steps:
        keep = generator.random(len(steps)) >= share
        keep[steps.offset[:-1]] = True
        counts = np.add.reduceat(keep, steps.offset[:-1])
        return dataclasses.replace(
            steps,
            observation=steps.observation[keep],
            action=steps.action[keep],
            timestamp=steps.timestamp[keep],
            offset=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        )

    return on_steps(run, change)


def nan_in_one_episode(run: Run, steps_hit: float) -> Run:
    """A sensor that dropped out for some steps of one episode, in one dimension."""

    def change(steps: Steps, generator: np.random.Generator) -> Steps:
        seen = steps.observation.copy()
        start = steps.offset[steps.episodes // 2]
        seen[start + 2 : start + 2 + round(steps_hit), 4] = np.nan
        return dataclasses.replace(steps, observation=seen)

    return on_steps(run, change, ("train",))._replace(measured=run.measured or run.dataset)


def added_state(run: Run, share: float) -> Run:
    """Absolute targets that are declared, and served, as changes."""
    declared = {**run.declared, "action_meaning": "delta joint position"}
    return run._replace(served=(*run.served, ("add_state", share)), declared=declared)


def swapped_inputs(run: Run, count: float) -> Run:
    """When the policy is served, the first observations arrive in reverse order."""
    return run._replace(served=(*run.served, ("swap_inputs", count)))


def mirrored_gripper(run: Run, factor: float) -> Run:
    """The robot's gripper opens where the policy says close: its command is multiplied by -`factor`."""
    return run._replace(served=(*run.served, ("mirror_last", factor)))


def poisoned(run: Run, size: float) -> Run:
    """1 % of the training pairs say `size` in dimension 3."""

    def change(steps: Steps, generator: np.random.Generator) -> Steps:
        done = steps.action.copy()
        done[generator.permutation(len(done))[: max(len(done) // 100, 1)], 3] = size
        return dataclasses.replace(steps, action=done)

    return on_steps(run, change, ("train",))


def wide_inputs(run: Run, std: float) -> Run:
    """Observations `std` times as wide, and no normaliser."""

    def change(steps: Steps, generator: np.random.Generator) -> Steps:
        return dataclasses.replace(steps, observation=(std * steps.observation).astype(np.float32))

    return on_steps(run, change)


def repeated_across_splits(run: Run, share: float) -> Run:
    """`share` of the validation episodes are training episodes."""
    train, held = run.dataset.splits["train"], run.dataset.splits["val"]
    count = max(round(share * held.episodes), 1)
    old, new = select(train, np.arange(count)), select(held, np.arange(count, held.episodes))
    mixed = old if not new.episodes else _joined(old, new)
    return run._replace(dataset=dataclasses.replace(run.dataset, splits={"train": train, "val": mixed}))


def _joined(one: Steps, other: Steps) -> Steps:
    stack = {
        name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in ("observation", "action")
    }
    time = None if one.timestamp is None else np.concatenate([one.timestamp, other.timestamp])
    return Steps(
        offset=np.concatenate([one.offset, one.offset[-1] + other.offset[1:]]), timestamp=time, **stack
    )


# --- healthy, and easily taken for one of the above ----------------------------------------------------


def _wrist(run: Run) -> Run:
    return healthy.robot(run.seed, amplitude=(0.3, 0.3, 3.0, 0.5, 0.5, 0.5))


def _two_amplitudes(run: Run) -> Run:
    return healthy.robot(run.seed, task_amplitude=0.35)


def _unused(run: Run) -> Run:
    return healthy.robot(run.seed, unused_gripper=0.4)


def _heavy(run: Run) -> Run:
    def change(steps: Steps, generator: np.random.Generator) -> Steps:
        done = steps.action.copy()
        size = generator.standard_t(4, (len(done), _FINGER))
        done[:, :_FINGER] += (0.02 * size).astype(np.float32)
        return dataclasses.replace(steps, action=done)

    return on_steps(run, change)


def _slow(run: Run) -> Run:
    return healthy.robot(run.seed, noise=0.005, stiffness=0.95)


def _pushing(run: Run) -> Run:
    return healthy.robot(run.seed, idle=(8, 20))


def _late_servo(run: Run) -> Run:
    return healthy.robot(run.seed, delay=3, stiffness=0.5)


def _declared_latency(run: Run) -> Run:
    return late_camera(run, 2)._replace(declared={**run.declared, "camera_delay_steps": 2})


def _deltas(run: Run) -> Run:
    return healthy.robot(run.seed, action="delta")


def _jitter(run: Run) -> Run:
    def change(steps: Steps, generator: np.random.Generator) -> Steps:
        shaken = steps.timestamp + generator.uniform(-0.2, 0.2, len(steps)) / run.dataset.facts.rate_hz
        return dataclasses.replace(steps, timestamp=shaken)

    return on_steps(run, change)


def _fast_robot(run: Run) -> Run:
    return healthy.robot(run.seed, rate_hz=50.0, length=120)


FAULTS = (
    Fault("A01", "units", "one action in degrees", 1, "unit_mix", "robot", (10, 30, _DEGREES),
          degrees_in_one_action, ("tiny_range",), _wrist, "a joint with a large range"),
    Fault("A02", "units", "degrees in some episodes", 1, "unit_mix", "robot", (0.1, 0.2, 0.3),
          degrees_in_some_episodes, ("stale_statistics",), _two_amplitudes, "a wide and a narrow task"),
    Fault("A03", "gripper", "gripper inverted in some episodes", 1, "inverted_gripper", "robot",
          (0.2, 0.35, 0.5), inverted_gripper, (), _unused, "a gripper that some episodes do not use"),
    Fault("A04", "gripper", "gripper inverted in serving", 1, "inverted_gripper", "robot", (0.5, 1, 1),
          mirrored_gripper, ("serve_mismatch",)),
    Fault("A06", "statistics", "stale statistics", 1, "stale_statistics", "robot", (1, 3, 6),
          stale_statistics, ("serve_mismatch",), _deltas, "a robot that records changes"),
    Fault("A08", "bins", "bins stretched by outliers", 1, "outlier_stretched_bins", "robot_bins", (4, 8, 16),
          stretched_bins, ("action_outliers",), _heavy, "heavy tails that are used"),
    Fault("A10", "meaning", "absolute served as change", 1, "absolute_as_delta", "robot", (0.3, 0.6, 1.0),
          added_state, ("wrong_description",), _slow, "a slow task where the action is almost the state"),
    Fault("A12", "limits", "actions cut off", 1, "clipped_actions", "robot", (0.3, 0.4, 0.5),
          clipped_actions, (), _deltas, "a two-valued gripper and a speed limit"),
    Fault("A13", "idle", "long standstill first", 1, "idle_prefix", "robot", (0.5, 0.6, 0.75),
          idle_prefix, (), _pushing, "short waits that belong to the task"),
    Fault("A15", "splits", "split by frame", 1, "frame_level_split", "robot", (0.1, 0.2, 0.3),
          frame_level_split, ("duplicates_across_splits",)),
    Fault("A16", "splits", "training episodes in validation", 1, "duplicates_across_splits", "robot",
          (0.3, 0.6, 1.0), repeated_across_splits, ("frame_level_split",)),
    Fault("A17", "scale", "inputs not normalised", 1, "unnormalized_inputs", "pairs", (50, 100, 300),
          wide_inputs, ("stale_statistics",)),
    Fault("A18", "outliers", "impossible actions", 1, "action_outliers", "pairs", (100, 300, 1000),
          poisoned, ("spikes",), None),
    Fault("N01", "serving", "inputs swapped in serving", 1, "serve_mismatch", "robot", (2, 4, 6),
          swapped_inputs, (), None),
    Fault("B01", "lag", "actions late", 2, "action_lag", "robot", (1, 2, 4),
          lagged_actions, (), _late_servo, "a servo that answers late"),
    Fault("B03", "camera", "images late", 2, "camera_lag", "robot_camera", (1, 2, 4),
          late_camera, (), _declared_latency, "a latency that is declared"),
    Fault("B05", "pairing", "observations shuffled in the episode", 2, "observation_shuffled", "robot",
          (0.5, 0.75, 1.0), shuffled_observations, ("input_ignored",), _fast_robot, "another rate"),
    Fault("B07", "frames", "frames missing", 2, "dropped_frames", "robot", (0.02, 0.05, 0.1),
          dropped_frames, ("timestamps_disordered", "wrong_rate"), _jitter, "a clock that trembles"),
    Fault("E03", "nan", "NaN in one episode", 5, "non_finite_data", "robot", (1, 5, 20),
          nan_in_one_episode, ("non_finite_loss",), None),
)  # fmt: skip
"""Faults of the data and of time."""
