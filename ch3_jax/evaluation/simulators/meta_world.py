"""Meta-World's fifty tasks with a Sawyer arm, by state, and the experts that come with them.

    observation (39) = [hand xyz, gripper, object 1 pose, object 2 pose] now and a step before, goal xyz
    action (4)       = [hand dx, dy, dz, gripper], each in [-1, 1]

Habits that are taken away here: `reset(seed)` is ignored, so a seed chooses one of the fifty scenes of a
benchmark of its own; an expert's action reaches 12.5 and is clipped before it is executed and recorded;
success is a flag of the moment that goes off again, so an episode is done when it was on once; after 500
steps the environment raises, and ends here before that. `corner2` is upside down and is turned.
"""

import functools
import warnings
from typing import Any

import numpy as np

from ch3_jax.data.episodes import Dataset, Episode, Facts, Source
from ch3_jax.data.load import gather
from ch3_jax.errors import InputError
from ch3_jax.evaluation.simulators.eye import open_eye
from ch3_jax.evaluation.simulators.task import Seen, Task, World, require

RATE_HZ, STEPS, SCENES = 80.0, 500, 50
AFTER = 10  # steps that a demonstration goes on after its first success
_BODY = (
    "hand_x", "hand_y", "hand_z", "gripper",
    *(f"object_{i}_{part}" for i in (1, 2) for part in ("x", "y", "z", "qx", "qy", "qz", "qw")),
)  # fmt: skip
_UNITS = ("m", "m", "m", "1", *("m", "m", "m", "1", "1", "1", "1") * 2)


@functools.lru_cache(maxsize=4)
def scenes(name: str, block: int) -> tuple[Any, tuple[Any, ...]]:
    """(the class of an environment, its fifty scenes) of benchmark number `block`."""
    import metaworld

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        benchmark = metaworld.MT1(name, seed=block)
    return benchmark.train_classes[name], tuple(benchmark.train_tasks)


def make(name: str) -> World:
    """One environment of a task."""
    kind, _ = scenes(name, 0)
    env = kind()
    env._freeze_rand_vec = True
    look, shut = open_eye(env.model, env.data, "corner2")

    def reset(seed: int) -> tuple[np.ndarray, dict]:
        block, index = divmod(seed, SCENES)
        env.set_task(scenes(name, block)[1][index])
        return np.asarray(env.reset()[0], np.float64), {}

    def step(action: np.ndarray) -> Seen:
        action = np.clip(np.asarray(action, np.float32), -1.0, 1.0)
        observation, reward, terminated, truncated, info = env.step(action)
        success = bool(info["success"])
        return Seen(
            np.asarray(observation, np.float64), float(reward), float(success), success,
            bool(terminated), bool(truncated), {},
        )  # fmt: skip

    def close() -> None:
        shut()
        env.close()

    return World(reset, step, lambda: look()[::-1, ::-1].copy(), close)


def demonstrate(name: str, episodes: int, seed: int) -> tuple[Dataset, int]:
    """Successful episodes of the scripted expert.

    Args:
      name: of the task, "push-v3".
      episodes: how many to keep.
      seed: of the first scene; the next ones follow.

    Returns:
      (the data, episodes tried).

    Raises:
      InputError: the simulator is not installed; an expert that fails more often than it succeeds.
    """
    task = find(name)
    require(task)
    from metaworld.policies import ENV_POLICY_MAP

    world, expert = make(name), ENV_POLICY_MAP[name]()
    kept, tried = [], 0
    while len(kept) < episodes:
        if tried >= 2 * episodes + 10:
            raise InputError(
                f"the expert of {name} does not do its task",
                got=f"{len(kept)} of {tried} episodes",
                expected="more than half of them",
                cause="another version of metaworld, or of mujoco",
                fix="install the versions of third_party/requirements-simulators.txt",
            )
        episode = _episode(world, expert, seed + tried, name)
        tried += 1
        kept += [episode] if episode is not None else []
    world.close()
    facts = Facts(
        name="metaworld_" + name.replace("-", "_"),
        format="generated",
        observation_names=task.observation_names,
        action_names=task.action_names,
        observation_units=task.observation_units,
        action_units=task.action_units,
        action_meaning=task.action_meaning,
        frame="table of Meta-World",
        rate_hz=RATE_HZ,
        notes=(f"scripted expert of Meta-World, {len(kept)} successes of {tried} scenes from seed {seed}",),
    )
    return gather(Source(facts, {"train": lambda: iter(kept)})), tried


def _episode(world: World, expert: Any, seed: int, name: str) -> Episode | None:
    """One episode to `AFTER` steps past its first success; None without one."""
    observation, _ = world.reset(seed)
    seen, done, left = [], [], STEPS
    succeeded = False
    while left:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the gains that clipping is for
            action = np.clip(np.asarray(expert.get_action(observation), np.float32), -1.0, 1.0)
        seen.append(observation)
        done.append(action)
        now = world.step(action)
        observation, left = now.observation, left - 1
        if now.success and not succeeded:
            succeeded, left = True, min(left, AFTER)
    if not succeeded:
        return None
    return Episode(
        observation=np.asarray(seen, np.float32),
        action=np.asarray(done, np.float32),
        timestamp=np.arange(len(done)) / RATE_HZ,
        instruction=name.removesuffix("-v3").replace("-", " "),
        source=f"{name} scene {seed}",
    )


def find(name: str) -> Task:
    """The `Task` of a name such as "push-v3"."""
    return Task(
        name=f"metaworld:{name}",
        packages=("metaworld", "mujoco", "packaging"),
        observation_names=(*_BODY, *(f"{part}_before" for part in _BODY), "goal_x", "goal_y", "goal_z"),
        action_names=("hand_dx", "hand_dy", "hand_dz", "gripper_effort"),
        observation_units=(*_UNITS, *_UNITS, "m", "m", "m"),
        action_units=("1", "1", "1", "1"),
        action_meaning="change of the hand's position in hundredths of a metre, and gripper effort",
        rate_hz=RATE_HZ,
        steps=STEPS,
        bounds=((-1.0,) * 4, (1.0,) * 4),
        held=False,
        score="1 where success was on at any step",
        make=functools.partial(make, name),
        parallel=10,
        demonstrate=functools.partial(demonstrate, name),
    )
