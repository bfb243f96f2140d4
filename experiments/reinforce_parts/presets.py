"""What suits an algorithm in an environment, where the person says nothing.

Found on `panda_reach` with the dense reward by trying a dozen settings of each on two cores; the budget is
chosen so that the curve has flattened.
"""

import dataclasses
import math
from typing import Any

import jax

from ch3_jax.errors import InputError
from ch3_jax.reinforcement.settings import OFFLINE, ON_POLICY, Settings
from ch3_jax.reinforcement.spread import most_devices
from experiments.reinforce_parts.flags import Options
from experiments.reinforce_parts.worlds import GYMNASIUM

_ON_POLICY = {"gamma": 0.95, "width": 64, "clip": 0.5}
REACH: dict[str, dict[str, Any]] = {
    "ppo": {
        **_ON_POLICY, "envs": 1024, "rollout": 32, "update_epochs": 1, "minibatches": 8,
        "learning_rate": 2e-3, "env_steps": 16_000_000,
    },
    "a2c": {
        **_ON_POLICY, "envs": 1024, "rollout": 8, "update_epochs": 1, "minibatches": 1,
        "learning_rate": 2e-3, "env_steps": 24_000_000,
    },
    "reinforce": {
        **_ON_POLICY, "envs": 256, "rollout": 80, "update_epochs": 1, "minibatches": 1,
        "learning_rate": 3e-3, "env_steps": 24_000_000,
    },
    "grpo": {
        **_ON_POLICY, "envs": 512, "rollout": 80, "update_epochs": 2, "minibatches": 8, "group": 8,
        "learning_rate": 3e-3, "env_steps": 16_000_000,
    },
    "sac": {
        "gamma": 0.95, "width": 64, "clip": 0.0, "envs": 64, "rollout": 1, "updates": 8, "batch_size": 256,
        "buffer": 131_072, "tau": 0.02, "learning_rate": 2e-3, "env_steps": 512_000,
    },
    "awr": {
        "gamma": 0.95, "width": 128, "clip": 0.5, "envs": 1024, "updates": 200, "batch_size": 1024,
        "temperature": 1.0, "max_weight": 20.0, "expert_noise": 0.3, "learning_rate": 2e-3, "steps": 60,
    },
    "iql": {
        "gamma": 0.95, "width": 128, "clip": 0.5, "envs": 1024, "updates": 100, "batch_size": 1024,
        "temperature": 0.1, "max_weight": 100.0, "expectile": 0.7, "expert_noise": 0.3,
        "learning_rate": 2e-3, "steps": 60,
    },
}  # fmt: skip
_ANYWHERE: dict[str, Any] = {
    "weight_decay": 0.0, "learning_rate": 3e-4, "schedule": "cosine", "warmup": 0, "width": 64, "clip": 0.5,
    "expert_noise": 0.3, "explore": 0.1, "constant_reward": False,
}  # fmt: skip
# A clone is near already: fewer steps, after its new critic has learned for a few iterations.
_FROM_A_CLONE = {"critic_warmup": 5, "explore": 1.0, "env_steps": 4_000_000}
_ROWS = 100
_HOST_ROWS = 20  # A simulator's evaluation episodes cost as much as those it trains on.


def settle(options: Options) -> Options:
    """Options with every None replaced by what suits, and the whole checked for sense.

    Raises:
      InputError: a number outside of its range, a length of nothing.
    """
    env = options.env or "panda_reach"
    suits = REACH[options.loss] if env.startswith("panda_reach") else {}
    preset = {**Settings()._asdict(), **_ANYWHERE, **suits, **(_FROM_A_CLONE if options.init else {})}
    if options.steps is not None or options.env_steps is not None:
        preset.pop("steps", None)
        preset.pop("env_steps", None)
    values = {
        field.name: preset.get(field.name) if (value := getattr(options, field.name)) is None else value
        for field in dataclasses.fields(options)
    }
    values["env"] = env
    values["reward"] = options.reward or ("dense" if env.startswith("panda_reach") else None)
    if options.clip_high is None:
        values["clip_high"] = None
    steps = _length(values)
    if options.smoke:
        steps = min(steps, 4)
    rows = _HOST_ROWS if env.startswith(GYMNASIUM) else _ROWS
    log_every = min(values["log_every"] or max(steps // rows, 1), steps)
    # Whole rows: a last short one would be another program to compile.
    steps = -(-steps // log_every) * log_every
    save_every = values["save_every"] or max(steps // 10, 1)
    per_iteration = 0 if options.loss in OFFLINE else values["envs"] * values["rollout"]
    values |= {
        "steps": steps,
        "log_every": log_every,
        "save_every": -(-save_every // log_every) * log_every,
        "env_steps": steps * per_iteration,
    }
    rate = values["learning_rate"]
    if not (rate > 0 and math.isfinite(rate)):
        raise InputError(
            "--learning_rate must be a positive number",
            got=rate,
            expected="a finite number over 0",
            cause="a sign or a unit slipped",
            fix="leave --learning_rate out: the default suits the algorithm",
        )
    values["devices"] = _devices(Options(**values))
    if not values["explore"] > 0:
        raise InputError(
            "--explore must be above 0",
            got=values["explore"],
            expected="a deviation in normalised units, such as 0.1",
            cause="a policy that never deviates learns nothing from a reward",
            fix="--explore=0.1",
        )
    return Options(**values)


def settings_of(options: Options) -> Settings:
    """The algorithm's own numbers of settled options."""
    names = [name for name in Settings._fields if name != "algorithm"]
    return Settings(algorithm=options.loss, **{name: getattr(options, name) for name in names})


def updates_of(options: Options) -> int:
    """Updates of the parameters in the whole run, which the schedule of the rate counts."""
    each = options.update_epochs * options.minibatches if options.loss in ON_POLICY else options.updates
    return options.steps * each


def _devices(options: Options) -> int:
    """As many as there are, or as the environments divide over."""
    one = options.loss not in ON_POLICY or options.env.startswith(GYMNASIUM)
    if options.devices is not None or one:
        return options.devices or 1
    return most_devices(settings_of(options), jax.local_device_count())


def _length(values: dict[str, Any]) -> int:
    if values.get("steps"):
        return values["steps"]
    if values["loss"] in OFFLINE:
        return 60
    return max(1, round((values.get("env_steps") or 1_000_000) / (values["envs"] * values["rollout"])))
