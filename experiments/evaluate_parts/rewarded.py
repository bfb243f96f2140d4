"""A run by reward as a policy that is driven like any other: in the same simulator, from the same starts.

Such a policy sees by the running moments in its own checkpoint, or, taught from a clone, by the clone's
statistics; either way its actions come in the units and bounds of the environment.
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array, Key
from ch3_jax.data.statistics import Statistics
from ch3_jax.environments import panda_reach
from ch3_jax.errors import InputError
from ch3_jax.evaluation.serve import Served
from ch3_jax.objectives import Shapes
from ch3_jax.reinforcement.state import looks
from ch3_jax.training import checkpoints
from experiments.reinforce_parts.flags import Options
from experiments.reinforce_parts.job import build_job

_DRIVEN = ("panda_reach", "panda_reach_obstacle")


def is_rewarded(run: str | Path) -> bool:
    """Whether a folder holds a run by reward; False where it holds nothing that can be read."""
    folder = Path(run) / "checkpoints"
    newest = checkpoints.latest(folder) if folder.is_dir() else None
    return newest is not None and "env_steps" in checkpoints.load_record(folder, newest)["options"]


def load(run: str | Path, sampling: Mapping[str, Any]) -> Served:
    """The policy of a run by reward.

    Args:
      run: its folder, with an intact checkpoint.
      sampling: another sampler than the run's own, which no such run has.

    Returns:
      A `Served` of window and horizon 1; with a key it acts by chance, as it did while it learned. Of the
      statistics only names, means and deviations of the observation are known, the rest is NaN.

    Raises:
      InputError: an environment that this command cannot drive, or a sampler.
    """
    folder = Path(run) / "checkpoints"
    flags = checkpoints.load_record(folder, checkpoints.latest(folder))["options"]
    if flags["env"] not in _DRIVEN or sampling:
        wrong = f"--env={flags['env']}" if not sampling else f"--{next(iter(sampling))}"
        raise InputError(
            f"{run}, trained by reward, cannot be driven so",
            got=wrong,
            expected=f"a run in {' or '.join(_DRIVEN)}, without --sampler and --sampling_steps",
            cause="another environment is driven by its own training, and its actions are not sampled again",
            fix="its evaluation stands in summary.json; experiments.train --resume evaluates it again",
        )
    fields = {field.name for field in dataclasses.fields(Options)}
    options = Options(**{"out": str(run), "resume": True, **{k: v for k, v in flags.items() if k in fields}})
    job = build_job(dataclasses.replace(options, devices=1, init=_clone_of(options, Path(run))))
    target = jax.eval_shape(job.learner.start, jax.random.key(0))
    restored = checkpoints.restore(folder, target)
    state, agent = restored.state, job.learner.agent
    see = looks(agent, state.observations)

    @jax.jit
    def decide(observation: Array, key: Key | None) -> Array:
        seen = see(observation[:, 0])
        if key is None:
            return agent.best(state.params, seen)[:, None]
        noise = jax.tree.map(lambda x: x[0], agent.draw(key, 1, observation.shape[0]))
        return agent.act(state.params, seen, noise).action[:, None]

    names = panda_reach.OBSERVATION_NAMES, panda_reach.ACTION_NAMES
    moments = state.observations
    deviations = np.sqrt(np.asarray(moments.variance, np.float64))
    return Served(
        act=lambda observation, key=None: decide(jnp.asarray(observation, jnp.float32), key),
        step=restored.step,
        observation=_known(names[0], int(moments.count), np.asarray(moments.mean, np.float64), deviations),
        action=_known(names[1], 0, np.full(len(names[1]), math.nan), np.full(len(names[1]), math.nan)),
        shapes=Shapes(1, len(names[0]), 1, len(names[1])),
        likeliest=True,
        samples=True,
        loss=flags["loss"],
    )


def _clone_of(options: Options, run: Path) -> str | None:
    """The run that this one was taught from: where it was, or beside this one if both have moved."""
    beside = options.init and run.resolve().parent / Path(options.init).name
    moved = options.init and not Path(options.init).is_dir() and beside.is_dir()
    return str(beside) if moved else options.init


def _known(names: tuple[str, ...], count: int, mean: np.ndarray, std: np.ndarray) -> Statistics:
    """Statistics of which running moments are all that is known."""
    unknown = np.full(len(names), math.nan)
    return Statistics(
        names=names,
        count=count,
        mean=mean,
        std=std,
        **dict.fromkeys(("min", "max", "q01", "q99", "outlier_share"), unknown),
        bins_used=np.zeros(len(names), np.int64),
        constant=np.zeros(len(names), bool),
    )
