"""From the name of an environment to the environment."""

from ch3_jax.environments import adapters, probes
from ch3_jax.environments.environment import Environment
from ch3_jax.environments.reach import reach
from ch3_jax.errors import InputError

GYMNASIUM = "gymnasium:"
EMBEDDED = ("panda_reach", "panda_reach_obstacle", *(f"probe:{name}" for name in probes.PROBES))


def find(name: str, reward: str | None) -> Environment:
    """The environment of --env.

    Args:
      name: of `EMBEDDED`.
      reward: of `panda_reach`, None elsewhere.

    Raises:
      InputError: an unknown name, a reward for an environment that has its own.
    """
    if name in EMBEDDED[:2]:
        return reach(reward or "dense", obstacle=name.endswith("_obstacle"))
    if reward is not None:
        raise InputError(
            f"--reward is for panda_reach, {name} has its own",
            got=f"--reward={reward}",
            expected="no --reward",
            cause="a flag left over from another command",
            fix="leave --reward out",
        )
    if name.startswith("probe:"):
        return probes.probe(name.removeprefix("probe:"))
    for package, make in (("gymnax:", adapters.gymnax), ("brax:", adapters.brax)):
        if name.startswith(package):
            return make(name.removeprefix(package))
    raise InputError(
        f"there is no environment {name!r} to learn in",
        got=name,
        expected=", ".join((*EMBEDDED, "gymnax:NAME", "brax:NAME", "gymnasium:NAME")),
        cause="a misspelt name, or a simulator that can be driven (experiments.evaluate) but not learned in",
        fix="--env=panda_reach",
    )
