"""The flags of training by reward, and their values as one record.

Nothing heavy is imported here: `--help` must answer at once. A flag that is not given is None until `presets`
fills it in, by the environment and the algorithm.
"""

import dataclasses
from typing import Any

from absl import flags

REWARDS = ("dense", "shaped", "sparse", "miscalibrated", "hackable", "flipped")

# Flags of `experiments.flags` that mean the same here; of these the ones that have a default there are taken
# only where a person gave them.
SHARED = (
    *(
        "loss",
        "steps",
        "batch_size",
        "learning_rate",
        "schedule",
        "warmup",
        "weight_decay",
        "clip",
        "b1",
        "b2",
    ),
    *(
        "width",
        "devices",
        "seed",
        "out",
        "resume",
        "log_every",
        "save_every",
        "tensorboard",
        "doctor",
        "wandb",
        "smoke",
    ),
)
_SILENT = ("weight_decay", "clip", "width", "log_every")


def define_flags() -> None:
    """The flags of this family, defined when `experiments.train` runs."""
    flags.DEFINE_string(
        "env", None, "reward: panda_reach, panda_reach_obstacle, probe:value, ... [panda_reach]"
    )
    flags.DEFINE_enum("reward", None, REWARDS, "reward: of panda_reach [dense]")
    flags.DEFINE_string("init", None, "reward: a run of experiments.train to start from and to stay close to")
    flags.DEFINE_integer(
        "env_steps", None, "reward: length of the run in steps of the environment", lower_bound=1
    )
    flags.DEFINE_integer(
        "envs", None, "reward: environments side by side; recorded episodes of awr and iql", lower_bound=1
    )
    flags.DEFINE_integer("rollout", None, "reward: steps of each between two updates", lower_bound=1)
    flags.DEFINE_integer("update_epochs", None, "reward: passes over a rollout", lower_bound=1)
    flags.DEFINE_integer("minibatches", None, "reward: of a pass", lower_bound=1)
    flags.DEFINE_enum("minibatch_of", None, ("environments", "steps"), "reward: steps for few environments")
    flags.DEFINE_float("gamma", None, "reward: discount of a step")
    flags.DEFINE_float("gae_lambda", None, "reward: of the advantages")
    flags.DEFINE_float("clip_ratio", None, "reward: ppo and grpo, bound of the ratio")
    flags.DEFINE_float("clip_high", None, "reward: ppo and grpo, its upper bound [the same]")
    flags.DEFINE_float("value_cost", None, "reward: weight of the value's loss")
    flags.DEFINE_float("entropy_cost", None, "reward: weight of the entropy")
    flags.DEFINE_float("target_kl", None, "reward: ends the updates of a rollout [never]")
    flags.DEFINE_float("kl_cost", None, "reward: weight of the KL to --init [0]")
    flags.DEFINE_integer("group", None, "reward: grpo, episodes from one start", lower_bound=2)
    flags.DEFINE_bool("normalize_advantage", None, "reward: divide advantages by their deviation")
    flags.DEFINE_bool("normalize_reward", None, "reward: divide rewards by the deviation of the return")
    flags.DEFINE_bool("bootstrap", None, "reward: a time limit is followed by the value of the state reached")
    flags.DEFINE_integer(
        "critic_warmup", None, "reward: iterations in which the critic of --init learns alone", lower_bound=0
    )
    flags.DEFINE_float(
        "explore", None, "reward: deviation that --init explores with, in its normalised units"
    )
    flags.DEFINE_integer("updates", None, "reward: sac, awr, iql, updates of an iteration", lower_bound=1)
    flags.DEFINE_integer("buffer", None, "reward: sac, steps that are remembered", lower_bound=1)
    flags.DEFINE_float("tau", None, "reward: sac and iql, how fast target critics follow")
    flags.DEFINE_float("temperature", None, "reward: awr and iql, beta")
    flags.DEFINE_float("max_weight", None, "reward: awr and iql, largest weight of an action")
    flags.DEFINE_float("expectile", None, "reward: iql")
    flags.DEFINE_float("expert_noise", None, "reward: awr and iql, noise of the worst recorded episode")
    flags.DEFINE_bool("constant_reward", None, "reward: go on although the reward never changes")


@dataclasses.dataclass(frozen=True)
class Options:
    """The flags of a run by reward, by name; None means: as the preset says."""

    loss: str
    env: str | None
    reward: str | None
    init: str | None
    env_steps: int | None
    steps: int | None
    envs: int | None
    rollout: int | None
    update_epochs: int | None
    minibatches: int | None
    minibatch_of: str | None
    gamma: float | None
    gae_lambda: float | None
    clip_ratio: float | None
    clip_high: float | None
    value_cost: float | None
    entropy_cost: float | None
    target_kl: float | None
    kl_cost: float | None
    group: int | None
    normalize_advantage: bool | None
    normalize_reward: bool | None
    bootstrap: bool | None
    critic_warmup: int | None
    explore: float | None
    updates: int | None
    batch_size: int | None
    buffer: int | None
    tau: float | None
    temperature: float | None
    max_weight: float | None
    expectile: float | None
    expert_noise: float | None
    constant_reward: bool | None
    devices: int | None
    learning_rate: float | None
    schedule: str | None
    warmup: int | None
    weight_decay: float | None
    clip: float | None
    b1: float
    b2: float
    width: int | None
    seed: int
    out: str | None
    resume: bool
    log_every: int | None
    save_every: int | None
    tensorboard: bool
    doctor: bool
    wandb: str | None
    smoke: bool


OWN = tuple(f.name for f in dataclasses.fields(Options) if f.name not in SHARED)


def options(before: dict[str, Any] | None = None) -> Options:
    """The parsed flags as a record; `before` as in `experiments.flags.options`."""
    before = before or {}

    def value(name: str) -> Any:
        flag = flags.FLAGS[name]
        if flag.present:
            return flag.value
        return before.get(name, None if name in _SILENT else flag.value)

    return Options(**{field.name: value(field.name) for field in dataclasses.fields(Options)})


def given(names) -> list[str]:
    """Those of the flags that stand on the command line."""
    return [name for name in names if name in flags.FLAGS and flags.FLAGS[name].present]
