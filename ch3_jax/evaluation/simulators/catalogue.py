"""Tasks by name.

| name | what | needs |
| --- | --- | --- |
| panda_reach, panda_reach_obstacle | the embedded arm | nothing |
| pusht | Push-T by state | gym-pusht |
| metaworld:push-v3 | one of fifty tasks | metaworld |
| aloha:transfer_cube | two arms hand a cube over | gym-aloha |
"""

import difflib

from ch3_jax.errors import InputError
from ch3_jax.evaluation.simulators import aloha, meta_world, pusht, reach
from ch3_jax.evaluation.simulators.task import Task, require

NAMES = ("panda_reach", "panda_reach_obstacle", "pusht", "metaworld:<task>", "aloha:transfer_cube")


def find(name: str) -> Task:
    """The `Task` of a name, its simulator installed.

    Raises:
      InputError: an unknown name, or a simulator that is not installed.

    >>> find("panda_reach").rate_hz
    20.0
    """
    room, _, which = name.partition(":")
    if name in ("panda_reach", "panda_reach_obstacle"):
        task = reach.find(name.endswith("obstacle"))
    elif name == "aloha:transfer_cube":
        task = aloha.TRANSFER_CUBE
    elif name == "pusht":
        task = pusht.PUSHT
    elif room == "metaworld":
        task = meta_world.find(which)
        require(task)
        _known(which)
    else:
        raise _unknown(name, NAMES)
    require(task)
    return task


def _known(which: str) -> None:
    from metaworld.policies import ENV_POLICY_MAP

    if which not in ENV_POLICY_MAP:
        near = difflib.get_close_matches(which, ENV_POLICY_MAP, 3) or ["reach-v3", "push-v3", "pick-place-v3"]
        raise _unknown(f"metaworld:{which}", [f"metaworld:{n}" for n in near])


def _unknown(name: str, names: object) -> InputError:
    return InputError(
        f"there is no task {name!r}",
        got=name,
        expected=", ".join(names),
        cause="a mistyped name",
        fix="--env=pusht, for example",
    )
