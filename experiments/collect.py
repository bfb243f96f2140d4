"""Demonstrations from scripted experts, kept where they succeed.

  python -m experiments.collect --env=metaworld:push-v3 --episodes=50 --out=data/push

drives the task's own expert, keeps the successful episodes and says how many it took, and writes them twice:

  --out/rlds/<name>/1.0.0    RLDS, read by tensorflow-datasets and `experiments.train --data=`
  --out/lerobot              LeRobot v3.0, read by LeRobot and `experiments.train --data=`

Tasks: panda_reach, panda_reach_obstacle (embedded, ten seconds); with `pip install -r
third_party/requirements-simulators.txt` metaworld:push-v3 and the other 49 (10 s for fifty episodes on one
core) and aloha:transfer_cube (30 s, by the project's own inverse kinematics). Demonstrations have the
scenes from --first_seed 0 on, an evaluation has those from 100,000 on: none is in both.
"""

import os
import time
from pathlib import Path

from absl import flags

from experiments import (
    entry,
    shared_flags,  # noqa: F401 - defines --out and --smoke
)
from experiments.evaluate_parts import display


def define_flags() -> None:
    """The flags of this command, defined when it runs."""
    flags.DEFINE_string("env", None, "panda_reach, metaworld:push-v3, aloha:transfer_cube, ...")
    flags.DEFINE_integer("episodes", 50, "successful episodes that are kept", lower_bound=1)
    flags.DEFINE_integer("first_seed", 0, "of the scenes; the next ones follow", lower_bound=0)
    flags.DEFINE_enum("format", "both", ("both", "rlds", "lerobot"), "what is written")


def main(_: list[str]) -> int:
    """Drives the expert, writes what succeeded."""
    f = flags.FLAGS
    began = time.monotonic()
    display.headless(os.environ)
    from ch3_jax.data.builders import write_rlds
    from ch3_jax.data.lerobot_writer import write_lerobot
    from ch3_jax.errors import InputError
    from ch3_jax.evaluation.simulators import catalogue

    for name, example in (("env", "--env=panda_reach"), ("out", "--out=data/reach")):
        if not getattr(f, name):
            raise InputError(
                f"--{name} is missing",
                got="nothing",
                expected=example,
                cause="a collection needs a task and a place",
                fix=f"python -m experiments.collect --env=panda_reach --out=data/reach {example}",
            )
    task = catalogue.find(f.env)
    out = Path(f.out).expanduser()
    if task.demonstrate is None:
        raise InputError(
            f"{task.name} has no scripted expert",
            got=task.name,
            expected="panda_reach, panda_reach_obstacle, metaworld:<task>",
            cause="a task that only people have shown",
            fix="use the recorded data of this task",
        )
    if (out / "lerobot").exists() and f.format != "rlds":
        raise InputError(
            f"{out / 'lerobot'} is there already",
            got="a folder",
            expected="a place that is free",
            cause="an earlier collection",
            fix="choose another --out",
        )
    data, tried = task.demonstrate(min(f.episodes, 2) if f.smoke else f.episodes, f.first_seed)
    steps = data.splits["train"]
    print(
        f"{task.name}: {steps.episodes} successful episodes of {tried} tried, {len(steps):,} steps, "
        f"{time.monotonic() - began:.1f} s"
    )
    if f.format != "lerobot":
        print(f"RLDS: python -m experiments.train --data={write_rlds(data, out / 'rlds')}")
    if f.format != "rlds":
        place = write_lerobot(data, out / "lerobot", robot_type=f.env.partition(":")[0])
        print(f"LeRobot v3.0: python -m experiments.train --data={place}")
    return 0


if __name__ == "__main__":
    define_flags()
    entry.run(main)
