"""Demonstrations of the embedded tasks, made by their own experts on the device.

The expert's action is recorded, a shaken one is executed: so the data holds states beside the straight
path, with the way back from each, and a copy that drifts has seen how to recover (Laskey et al. 2017,
DART, arXiv:1703.09327).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.data.episodes import Dataset, Facts, Steps
from ch3_jax.environments import panda_reach as task
from ch3_jax.errors import InputError


def panda_reach(seed: int, *, pairs: int = 320_000, noise: float = 0.2, obstacle: bool = False) -> Dataset:
    """A Panda that reaches for points; see `ch3_jax.environments.panda_reach`.

    Args:
      seed: of starts, targets and shaking.
      pairs: training steps, in episodes of 80; a twentieth more are held out.
      noise: standard deviation of the shaking, rad/s per joint.
      obstacle: the variant with a pillar and two demonstrators.

    Returns:
      A `Dataset`, observation (N, 17) in rad, rad/s and m, action (N, 7) in rad/s.

    Raises:
      InputError: fewer pairs than one episode, noise that is negative or not finite.
    """
    if pairs < task.STEPS or not (np.isfinite(noise) and noise >= 0):
        raise InputError(
            "panda_reach cannot be made like that",
            got=f"pairs {pairs}, noise {noise}",
            expected=f"at least {task.STEPS} pairs, which are one episode, and a noise of 0 or more",
            cause="a value meant for another data set",
            fix="leave --pairs and --noise out",
        )
    episodes = pairs // task.STEPS
    units = ("rad",) * 7 + ("rad/s",) * 7 + ("m",) * 3
    facts = Facts(
        name="panda_reach_obstacle" if obstacle else "panda_reach",
        format="generated",
        observation_names=task.OBSERVATION_NAMES,
        action_names=task.ACTION_NAMES,
        observation_units=units,
        action_units=("rad/s",) * 7,
        action_meaning="joint velocity",
        frame="target in the base frame",
        rate_hz=1 / task.STEP_S,
        notes=("two demonstrators, one for each side of the pillar",) if obstacle else (),
    )
    keys = dict(zip(("train", "val"), jax.random.split(jax.random.key(seed)), strict=True))
    counts = {"train": episodes, "val": max(episodes // 20, 2)}
    splits = {name: _steps(keys[name], counts[name], noise, obstacle) for name in keys}
    return Dataset(facts, splits, {"seed": int(seed), "noise": float(noise), "obstacle": obstacle})


def panda_reach_obstacle(seed: int, *, pairs: int = 320_000, noise: float = 0.2) -> Dataset:
    """`panda_reach` with the pillar and the two demonstrators; same arguments."""
    return panda_reach(seed, pairs=pairs, noise=noise, obstacle=True)


def _steps(key, episodes: int, noise: float, obstacle: bool) -> Steps:
    observation, action = _record(key, episodes, jnp.float32(noise), obstacle)
    offset = np.arange(episodes + 1, dtype=np.int64) * task.STEPS
    time = np.tile(np.arange(task.STEPS) * task.STEP_S, episodes)
    return Steps(np.asarray(observation).reshape(-1, 17), np.asarray(action).reshape(-1, 7), offset, time)


@functools.partial(jax.jit, static_argnums=(1, 3))
def _record(key, episodes: int, noise, obstacle: bool):
    """Observations (E, T, 17) and the expert's actions (E, T, 7)."""
    start, shake = jax.random.split(key)

    def one(key, shake_key):
        def advance(state, key):
            action = task.expert(state, obstacle)
            shaken = action + noise * jax.random.normal(key, (7,))
            return task.step(state, shaken), (task.observe(state), action)

        keys = jax.random.split(shake_key, task.STEPS)
        return jax.lax.scan(advance, task.reset(key, obstacle), keys)[1]

    return jax.vmap(one)(jax.random.split(start, episodes), jax.random.split(shake, episodes))
