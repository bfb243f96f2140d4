"""Drives a trained run in closed loop: how often the task is done, and how fast the policy must be.

  python -m experiments.evaluate --run=runs/x --env=pusht --episodes=50

drives 50 starts that no demonstration had, all at once, in a minute on two cores, and writes

  evaluation.txt  evaluation.json  contact_sheet.png  episodes.mp4 (or .gif)

to --out, by default a folder in the run's. The starts are the seeds --first_seed, --first_seed + 1, ...: the
same for every run. Half of a predicted chunk is executed before the policy is asked again (--execute), or,
with --ensemble=0.01, it is asked at every step and its predictions are averaged as ACT does.

  python -m experiments.evaluate --env=pusht --replay=path/to/pusht

executes recorded actions from their recorded starts instead: whether a data set and a simulator are of one
world.

Tasks: panda_reach, panda_reach_obstacle (embedded); pusht, metaworld:push-v3 and the other 49,
aloha:transfer_cube with `pip install -r third_party/requirements-simulators.txt`. Exit code 0, 2 refused.
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

PICTURES = ("all", "sheet", "none")


def define_flags() -> None:
    """The flags of this command, defined when it runs."""
    flags.DEFINE_string("run", None, "folder of a run of experiments.train")
    flags.DEFINE_string("env", None, "panda_reach, panda_reach_obstacle, pusht, metaworld:push-v3, ...")
    flags.DEFINE_integer("episodes", 50, "starts that are driven", lower_bound=1)
    flags.DEFINE_integer("first_seed", 100_000, "of the starts; the next ones follow", lower_bound=0)
    flags.DEFINE_integer("execute", None, "actions of a chunk that are executed [half]", lower_bound=1)
    flags.DEFINE_float("ensemble", None, "ACT's temporal ensemble, its rate m [off]", lower_bound=0)
    flags.DEFINE_enum("actions", None, ("likely", "sampled"), "which [likely, where the run has one]")
    flags.DEFINE_string("sampler", None, "another sampler than the run's own")
    flags.DEFINE_integer("sampling_steps", None, "another number of sampling steps", lower_bound=1)
    flags.DEFINE_integer("parallel", None, "worlds at once [as the task allows]", lower_bound=1)
    flags.DEFINE_integer("processes", None, "that step them, 0 for this one [cores]", lower_bound=0)
    flags.DEFINE_string("replay", None, "a data set whose actions are executed, instead of a run's")
    flags.DEFINE_enum("pictures", "all", PICTURES, "contact sheet and video, the sheet alone, or none")


def main(_: list[str]) -> int:
    """Loads, checks that run and task fit, drives, reports."""
    f = flags.FLAGS
    began = time.monotonic()
    notes = display.headless(os.environ)
    from experiments.evaluate_parts import driven, pages, pictures, replay

    if f.replay:
        print(replay.page(f.env, f.replay, min(f.episodes, 2) if f.smoke else f.episodes))
        return 0
    request = driven.request(f)
    out = driven.folder(f.out, f.run, request.task.name)
    done = driven.drive(request)
    if f.pictures != "none":
        notes += pictures.write(request.task, done.driven.outcomes, out, f.pictures)
    record = pages.record(request, done, notes, time.monotonic() - began)
    page = pages.text(record)
    pages.write(record, page, out)
    print(page)
    print(f"written to {Path(out)}")
    return 0


if __name__ == "__main__":
    define_flags()
    entry.run(main)
