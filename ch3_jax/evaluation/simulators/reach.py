"""`panda_reach` behind the vector interface: no installation, all robots in one `vmap`.

The embedded task is pure JAX, so a thousand worlds are one compiled call. For a picture one of them is driven
again and drawn from above.

    score = max(0, 1 - |flange - target| / |flange - target| at the start)
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.data.demonstrations import panda_reach
from ch3_jax.data.episodes import Dataset, Steps
from ch3_jax.environments import panda_reach as task
from ch3_jax.errors import InputError
from ch3_jax.evaluation.simulators.task import Seen, Task, World
from ch3_jax.kinematics.forward import forward

STEPS = round(1.5 * task.STEPS)  # half as long again as a demonstration
_PICTURE, _METRES, _CENTRE = 240, 1.1, 0.35


class Reach:
    """B robots as one vector environment.

    Args:
      number: B.
      obstacle: the variant with the pillar.
    """

    def __init__(self, number: int, obstacle: bool):
        self.num_envs = number
        self._reset = _compiled("reset", obstacle)
        self._step = _compiled("step", obstacle)

    def reset(self, *, seed: Sequence[int]) -> tuple[np.ndarray, dict[str, Any]]:
        """One start for each of at most B seeds; robots beyond them stand idle."""
        padded = np.resize(np.asarray(seed, np.uint32), self.num_envs)
        self._states, shown = self._reset(padded)
        self._first = np.maximum(np.asarray(shown["distance"], np.float64), 1e-6)
        self._left = STEPS
        self._idle = np.arange(self.num_envs) >= len(seed)
        return np.asarray(shown["observation"], np.float64), self._infos(shown)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """One twentieth of a second of all robots; `actions` (B, 7) rad/s."""
        self._left -= 1
        self._states, shown = self._step(self._states, jnp.asarray(actions, jnp.float32))
        infos = self._infos(shown)
        over = np.full(self.num_envs, self._left <= 0)
        infos["over"] |= over
        never = np.zeros(self.num_envs, bool)
        return np.asarray(shown["observation"], np.float64), infos["score"], never, over, infos

    def close(self) -> None:
        """Nothing to close."""

    def _infos(self, shown: dict[str, Any]) -> dict[str, Any]:
        distance = np.asarray(shown["distance"], np.float64)
        tips, touched = np.asarray(shown["tip"]), np.asarray(shown["touched"])
        return {
            "score": np.clip(1 - distance / self._first, 0, 1),
            "success": np.array(shown["success"]),
            "over": self._idle.copy(),
            "error": [None] * self.num_envs,
            "extra": [
                {"tip": tip, "touched": bool(hit), "distance": float(d)}
                for tip, hit, d in zip(tips, touched, distance, strict=True)
            ],
        }


@functools.cache
def _compiled(what: str, obstacle: bool) -> Any:
    """`reset` from seeds, or `step`, of all robots, with what is shown of them."""

    def show(state: task.State) -> dict[str, jax.Array]:
        return {
            "observation": task.observe(state),
            "distance": task.distance(state),
            "success": task.success(state, obstacle),
            "tip": forward(task.panda(), state.q).position,
            "touched": state.touched,
        }

    def start(seed: jax.Array) -> tuple[task.State, dict[str, jax.Array]]:
        state = task.reset(jax.random.key(seed), obstacle)
        return state, show(state)

    def advance(state: task.State, action: jax.Array) -> tuple[task.State, dict[str, jax.Array]]:
        state = task.step(state, action)
        return state, show(state)

    return jax.jit(jax.vmap(start if what == "reset" else advance))


def make(obstacle: bool) -> World:
    """One robot, with a picture from above: pillar, target, and the way of the flange so far."""
    robots, trail, goal = Reach(1, obstacle), [], np.zeros(2)

    def reset(seed: int) -> tuple[np.ndarray, dict[str, Any]]:
        observation, infos = robots.reset(seed=[seed])
        trail[:] = [infos["extra"][0]["tip"]]
        goal[:] = observation[0, 14:16]
        return observation[0], infos["extra"][0]

    def step(action: np.ndarray) -> Seen:
        observation, rewards, terminated, truncated, infos = robots.step(np.asarray(action)[None])
        extra = infos["extra"][0]
        trail.append(extra["tip"])
        return Seen(
            observation[0], float(rewards[0]), float(infos["score"][0]), bool(infos["success"][0]),
            bool(terminated[0]), bool(truncated[0]), extra,
        )  # fmt: skip

    return World(reset, step, lambda: picture(np.asarray(trail), goal, obstacle), robots.close)


def picture(trail: np.ndarray, goal: np.ndarray, obstacle: bool) -> np.ndarray:
    """(240, 240, 3) uint8: x of the base frame to the right, y upwards, 1.1 m wide.

    Args:
      trail: (T, 3) positions of the flange, m; the last is now.
      goal: (2,) x, y of the target, m.
      obstacle: whether the pillar is drawn.
    """
    image = np.full((_PICTURE, _PICTURE, 3), 255, np.uint8)
    edge = np.linspace(-_METRES / 2, _METRES / 2, _PICTURE)
    x, y = edge[None, :] + _CENTRE, -edge[:, None]

    def disc(centre: np.ndarray, radius: float, colour: tuple[int, int, int]) -> None:
        image[(x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2] = colour

    disc(np.zeros(2), 0.07, (150, 150, 150))
    if obstacle:
        disc(task.PILLAR_M, task.PILLAR_RADIUS_M, (213, 94, 0))
    disc(goal, 0.03, (0, 158, 115))
    for point in trail:
        disc(point, 0.008, (140, 190, 230))
    disc(trail[-1], 0.022, (0, 114, 178))
    return image


def demonstrate(episodes: int, seed: int, obstacle: bool) -> tuple[Dataset, int]:
    """Successful episodes of the embedded expert; as `Task.demonstrate`.

    The expert is shaken to show the way back, so it counts as successful where it has been within 2 cm of the
    target, and has stayed out of the pillar.
    """
    tried = episodes + max(episodes // 10, 2)
    data = panda_reach(seed, pairs=tried * task.STEPS, obstacle=obstacle)
    steps = data.splits["train"]
    q = jnp.asarray(steps.observation[:, :7].reshape(tried, task.STEPS, 7))
    tips = np.asarray(jax.jit(jax.vmap(jax.vmap(lambda q: forward(task.panda(), q).position)))(q))
    goals = steps.observation[:, 14:].reshape(tried, task.STEPS, 3)
    good = (np.linalg.norm(tips - goals, axis=-1) < task.TOLERANCE_M).any(axis=1)
    if obstacle:
        beside = np.sum((tips[..., :2] - task.PILLAR_M) ** 2, axis=-1) >= task.PILLAR_RADIUS_M**2
        good &= beside.all(axis=1)
    kept = np.flatnonzero(good)[:episodes]
    if len(kept) < episodes:
        raise InputError(
            "the expert of panda_reach does not do its task often enough",
            got=f"{len(kept)} of {tried} episodes",
            expected=f"{episodes}",
            cause="another demonstrator",
            fix="ask for fewer episodes",
        )
    rows = (kept[:, None] * task.STEPS + np.arange(task.STEPS)).ravel()
    part = Steps(
        steps.observation[rows],
        steps.action[rows],
        np.arange(episodes + 1, dtype=np.int64) * task.STEPS,
        steps.timestamp[rows],
        sources=tuple(f"episode {k} of seed {seed}" for k in kept),
    )
    return Dataset(data.facts, {"train": part}, data.extra), int(kept[-1]) + 1


def find(obstacle: bool) -> Task:
    """`panda_reach`, or `panda_reach_obstacle`."""
    name = "panda_reach_obstacle" if obstacle else "panda_reach"
    return Task(
        name=name,
        packages=(),
        observation_names=task.OBSERVATION_NAMES,
        action_names=task.ACTION_NAMES,
        observation_units=("rad",) * 7 + ("rad/s",) * 7 + ("m",) * 3,
        action_units=("rad/s",) * 7,
        action_meaning="joint velocity",
        rate_hz=1 / task.STEP_S,
        steps=STEPS,
        bounds=None,  # the robot itself clips to its joints' limits
        held=True,
        score="share of the way to the target, at its best",
        make=functools.partial(make, obstacle),
        many=functools.partial(Reach, obstacle=obstacle),
        demonstrate=functools.partial(demonstrate, obstacle=obstacle),
    )
