"""A trained run as a function from raw observations to actions in physical units.

What a policy was trained on - statistics, normalisation rule, bins - is stored in its checkpoint and
nowhere else, so a policy cannot be served with the numbers of another data set.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax import checks
from ch3_jax.base import Array, Key, Params
from ch3_jax.data.angles import Turns, encode, turns_of
from ch3_jax.data.normalize import Normalizer, denormalize, make_normalizer, normalize
from ch3_jax.data.statistics import Statistics, from_json
from ch3_jax.errors import InputError
from ch3_jax.noise.denoiser import Denoiser, require_same
from ch3_jax.objectives import Objective, Shapes, make_objective, options_of, spread
from ch3_jax.policies.networks import MLP
from ch3_jax.tokens.bins import Bins
from ch3_jax.training import checkpoints
from ch3_jax.training.optimizers import clipped_adamw
from ch3_jax.training.update import init_state


class Rebuilt(NamedTuple):
    """All that a run knows, made again from its checkpoint.

    Attributes:
      objective: policy, loss and sampler, as trained.
      params: the averaged ones where the run kept an average.
      normalizers: "observation" and "action".
      bins: of the normalised actions, None without tokens.
      options: the run's flags.
      shapes: what the network fits.
      observation, action: statistics of the training data, with names; encoded as the network sees them.
      step: updates behind the parameters.
      turns: how a raw observation is encoded, None where it is not.
    """

    objective: Objective
    params: Params
    normalizers: Mapping[str, Normalizer]
    bins: Bins | None
    options: Mapping[str, Any]
    shapes: Shapes
    observation: Statistics
    action: Statistics
    step: int
    turns: Turns | None = None


class Served(NamedTuple):
    """A policy ready to act.

    Attributes:
      act: (observation (B, W, S) raw, key or None) -> action (B, H, A) in the units of the data. Without a
        key the most likely action, with one a sample.
      step: updates behind the parameters.
      observation, action: statistics of the training data, with names.
      shapes: W, S, H, A.
      likeliest: whether there is a most likely action; without one a key is the only way.
      samples: whether a key makes a difference.
      loss: its name.
    """

    act: Callable[[Array, Key | None], Array]
    step: int
    observation: Statistics
    action: Statistics
    shapes: Shapes
    likeliest: bool
    samples: bool
    loss: str


def record(
    options: Mapping[str, Any],
    observation: Statistics,
    action: Statistics,
    bins: Bins | None,
    turns: Turns | None = None,
) -> dict[str, Any]:
    """What a checkpoint must hold beside the parameters, as plain JSON.

    Args:
      options: the run's flags; `loss normalize window horizon width network
        dtype ema` and those of the loss are read
        again.
      observation, action: statistics of the training data.
      bins: of the normalised actions, or None.
      turns: of the observation's angles, or None.
    """
    fields = None if bins is None else dataclasses.asdict(bins)
    return {
        "options": dict(options),
        "statistics": {"observation": observation.to_json(), "action": action.to_json()},
        "bins": fields and {k: v.tolist() if hasattr(v, "tolist") else v for k, v in fields.items()},
        "turns": turns and turns.to_json(),
    }


def load(run: str | Path, step: int | None = None, **sampling: Any) -> Served:
    """The policy of a run folder.

    Args:
      run: folder of a run of `experiments.train`.
      step: of a checkpoint; None takes the newest intact one.
      **sampling: another way from noise to action than the run's own, `sampler="heun", sampling_steps=4`.

    Returns:
      A `Served` policy; by the averaged parameters where the run kept an average.

    Raises:
      InputError: no such folder, no intact checkpoint; an option that the loss does not have, or one under
        which the network was not trained.
    """
    made = rebuild(run, step, **sampling)
    objective, shown = made.objective, made.turns.raw if made.turns else made.observation
    shapes = made.shapes._replace(state=len(shown.names))

    @jax.jit
    def decide(observation: Array, key: Key | None) -> Array:
        seen = normalize(made.normalizers["observation"], encode(made.turns, observation))
        action = objective.act(made.params, seen, key)
        return denormalize(made.normalizers["action"], action)

    def act(observation: Array, key: Key | None = None) -> Array:
        observation = jnp.asarray(observation, jnp.float32)
        example = np.empty((0, shapes.window, shapes.state))
        checks.shapes(observation=(observation[:0], "B W S"), expected=(example, "B W S"))
        return decide(observation, key)

    return Served(
        act, made.step, shown, made.action, shapes,
        objective.likeliest, objective.samples, made.options["loss"],
    )  # fmt: skip


def rebuild(run: str | Path, step: int | None = None, **sampling: Any) -> Rebuilt:
    """Everything behind a run folder; arguments and refusals as for `load`.

    For a loss that denoises, `objective.denoiser(params, observation)` is the network with normalised
    observations inside, and says its own process and prediction.
    """
    folder = Path(run) / "checkpoints"
    newest = checkpoints.latest(folder) if folder.is_dir() else None
    if newest is None:
        raise InputError(
            f"{run} holds no trained policy",
            got="no checkpoint",
            expected="a run folder of experiments.train with checkpoints/ in it",
            cause="another folder, or a run that stopped before its first checkpoint",
            fix="give the --out of a run that has trained",
        )
    meta = checkpoints.load_record(folder, newest if step is None else step)
    options = meta["options"]
    if "env_steps" in options:
        raise InputError(
            f"{run} was trained by reward and is not served by this function",
            got=f"--loss={options['loss']} in {options['env']}",
            expected="a run on data: its statistics turn observations and actions",
            cause="a policy that sees by the running moments in its own checkpoint",
            fix="experiments.evaluate drives it in panda_reach; its own evaluation stands in summary.json",
        )
    if not {"observation", "action"} <= set(meta.get("statistics") or {}):
        raise InputError(
            f"{run} has no statistics of its training data",
            got=f"a checkpoint with {', '.join(sorted(meta))}",
            expected="statistics of observation and action inside the checkpoint",
            cause="a checkpoint that was written by hand, or by another program",
            fix="train again; statistics of other data would scale every action wrongly",
        )
    statistics = {name: from_json(text) for name, text in meta["statistics"].items()}
    normalizers = {name: make_normalizer(s, options["normalize"]) for name, s in statistics.items()}
    bins = _bins(meta["bins"])
    shapes = Shapes(
        options["window"],
        len(statistics["observation"].names),
        options["horizon"],
        len(statistics["action"].names),
    )
    make = functools.partial(
        make_objective,
        options["loss"],
        shapes,
        bins,
        width=options["width"],
        dtype=jnp.dtype(options["dtype"]),
        network=options.get("network", MLP),
        spread=spread(statistics["action"], normalizers["action"]),
    )
    trained = {n: options[n] for n in options_of(options["loss"]) if options.get(n) is not None}
    objective = make(**trained)
    if sampling:
        if "sampler" in sampling:  # a number of steps belongs to the sampler that it was chosen for
            trained.pop("sampling_steps", None)
        objective = _sampled_otherwise(objective, make(**{**trained, **sampling}))
    averaged = options["ema"] != "none"
    key = jax.random.key(0)
    # Shapes are enough to say what to expect; nothing is initialised.
    target = jax.eval_shape(lambda: init_state(objective.init(key), clipped_adamw(1.0), key, ema=averaged))
    restored = checkpoints.restore(folder, target, step)
    params = restored.state.ema if averaged else restored.state.params
    return Rebuilt(
        objective,
        params,
        normalizers,
        bins,
        options,
        shapes,
        statistics["observation"],
        statistics["action"],
        restored.step,
        turns_of(meta["turns"]) if meta.get("turns") else None,
    )


def _sampled_otherwise(trained: Objective, wanted: Objective) -> Objective:
    """`wanted`, if its sampler asks the network only what it was trained to answer."""
    if trained.sampler is not None and wanted.sampler is not None:
        network = Denoiser(None, trained.sampler.prediction, trained.sampler.process)
        require_same(network, wanted.sampler.process, wanted.sampler.prediction)
    return wanted


def _bins(fields: Mapping[str, Any] | None) -> Bins | None:
    if fields is None:
        return None
    return Bins(**{k: jnp.asarray(v, jnp.float32) if isinstance(v, list) else v for k, v in fields.items()})
