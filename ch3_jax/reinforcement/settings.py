"""The numbers of a reinforcement run, with the range of each."""

import math
from typing import NamedTuple

from ch3_jax.errors import InputError

ON_POLICY = ("ppo", "a2c", "reinforce", "grpo")
OFF_POLICY = ("sac",)
OFFLINE = ("awr", "iql")
ALGORITHMS = (*ON_POLICY, *OFF_POLICY, *OFFLINE)


class Settings(NamedTuple):
    """What an algorithm is told, beside the environment.

    Attributes:
      algorithm: one of `ALGORITHMS`.
      envs: N, environments side by side.
      rollout: T, steps of each between two updates; whole episodes for reinforce and grpo.
      update_epochs: passes over a rollout.
      minibatches: of each pass.
      minibatch_of: "environments", whole ones; or "steps", any, for few environments (slower to gather).
      gamma: discount of a step.
      gae_lambda: of the advantages.
      clip_ratio, clip_high: of the ratio; `clip_high` None for the same on both sides.
      value_cost, entropy_cost: weights in the loss.
      target_kl: no further update in an iteration whose k3 passed 1.5 times this; None for never.
      kl_cost: weight of the leash to the reference, k3 in nats.
      group: G, episodes from one start in grpo.
      normalize_advantage, normalize_reward: by their deviation.
      bootstrap: whether a time limit is followed by the value of the state reached. False is CleanRL's single
        flag, which teaches that a time limit is a death.
      critic_warmup: iterations in which a clone's critic learns alone.
      batch_size: of an update, for sac, awr and iql.
      updates: per iteration, for sac, awr and iql.
      buffer: steps that sac remembers.
      tau: how fast target critics follow.
      temperature: beta of awr and iql, in units of the (normalised) return.
      max_weight: bound of their weights.
      expectile: of iql.
    """

    algorithm: str = "ppo"
    envs: int = 1024
    rollout: int = 32
    update_epochs: int = 4
    minibatches: int = 8
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip_ratio: float = 0.2
    clip_high: float | None = None
    value_cost: float = 0.5
    entropy_cost: float = 0.0
    target_kl: float | None = None
    kl_cost: float = 0.0
    group: int = 8
    minibatch_of: str = "environments"
    normalize_advantage: bool = True
    normalize_reward: bool = True
    bootstrap: bool = True
    critic_warmup: int = 0
    batch_size: int = 1024
    updates: int = 16
    buffer: int = 262_144
    tau: float = 0.005
    temperature: float = 0.3
    max_weight: float = 20.0
    expectile: float = 0.7


_RANGES = {
    "envs": (1, math.inf, "[)"),
    "rollout": (1, math.inf, "[)"),
    "update_epochs": (1, math.inf, "[)"),
    "minibatches": (1, math.inf, "[)"),
    "gamma": (0.0, 1.0, "[]"),
    "gae_lambda": (0.0, 1.0, "[]"),
    "clip_ratio": (0.0, 1.0, "(]"),
    "clip_high": (0.0, math.inf, "()"),
    "value_cost": (0.0, math.inf, "[)"),
    "entropy_cost": (0.0, math.inf, "[)"),
    "target_kl": (0.0, math.inf, "()"),
    "kl_cost": (0.0, math.inf, "[)"),
    "group": (2, math.inf, "[)"),
    "batch_size": (1, math.inf, "[)"),
    "updates": (1, math.inf, "[)"),
    "buffer": (1, math.inf, "[)"),
    "tau": (0.0, 1.0, "(]"),
    "temperature": (0.0, math.inf, "()"),
    "max_weight": (0.0, math.inf, "()"),
    "expectile": (0.0, 1.0, "()"),
}


def require(settings: Settings) -> Settings:
    """The settings, if they can be used.

    Raises:
      InputError: a number outside of its range, environments that do not divide into minibatches or groups.

    >>> require(Settings(gamma=0.9)).gamma
    0.9
    """
    if settings.algorithm not in ALGORITHMS:
        raise InputError(
            f"unknown algorithm {settings.algorithm!r}",
            got=settings.algorithm,
            expected=", ".join(ALGORITHMS),
            cause="a misspelt name",
            fix="--loss=ppo",
        )
    for name, (low, high, ends) in _RANGES.items():
        value = getattr(settings, name)
        if value is None:
            continue
        above = value >= low if ends[0] == "[" else value > low
        below = value <= high if ends[1] == "]" else value < high
        if not (above and below):  # NaN fails both
            raise InputError(
                f"--{name} is outside of its range",
                got=value,
                expected=f"{ends[0]}{low:g}, {high:g}{ends[1]}",
                cause="another convention (a percentage, a horizon instead of a discount), or a sign",
                fix=f"leave --{name} out: {getattr(Settings(), name)} is usual",
            )
    if settings.minibatch_of not in ("environments", "steps"):
        raise InputError(
            f"minibatches are not made of {settings.minibatch_of!r}",
            got=settings.minibatch_of,
            expected="environments or steps",
            cause="a misspelt name",
            fix="--minibatch_of=environments",
        )
    for name in ("minibatches", *(("group",) if settings.algorithm == "grpo" else ())):
        share = getattr(settings, name)
        by_steps = name == "minibatches" and settings.minibatch_of == "steps"
        count = settings.envs * (settings.rollout if by_steps else 1)
        if settings.algorithm in ON_POLICY and count % share:
            raise InputError(
                f"{settings.envs} environments do not divide into {share} {name}",
                got=f"--envs={settings.envs} --{name}={share}",
                expected="a divisor of --envs: minibatches and groups are made of whole environments",
                cause="numbers from another run",
                fix=f"--envs={max(settings.envs // share, 1) * share}",
            )
    return settings
