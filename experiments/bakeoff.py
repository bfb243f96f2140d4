"""Three families of losses, five models, one question: what do they do where there are two ways to act?

  python -m experiments.bakeoff

is drill 3. Cross-entropy on 64 bins, squared error, the chapter's denoising, DDPM and flow matching are
trained on the same 10,000 pairs (Adam 1e-3, batch 64, 50 epochs), once with one demonstrator and once with
two who differ by 2 N m in joint 1. Then each predicts 200 held-out observations, 50 times, and the clouds are
compared with the demonstrators' own.

Expected on the bimodal set: cross-entropy's likeliest action and MSE have no spread, MSE answers between the
two ways, denoising, DDPM and flow find both for 95 % of the observations or more with under 5 % in
between. About a minute and a half on two cores. Writes into one run folder

  bakeoff.json  curves.csv  curves.png  spread.png  bakeoff.txt  parts/  config.json  summary.json

Ctrl-C keeps what is finished; `--resume --out=...` goes on, with the same bits. With `--pairs=1000000`
nothing can be memorised and every validation loss ends within 5 % of its floor.
"""

import signal
import time
from pathlib import Path

from absl import flags

from experiments import (
    entry,
    run_folder,
    shared_flags,  # noqa: F401 - defines --out and --smoke
)
from experiments.bakeoff_parts import plan, pool
from experiments.progress import Progress

_FLAGS = ("pairs", "seed", "observations", "predictions", "smoke")


def define_flags() -> None:
    """Called by the command alone: training has flags of the same names, and tests import both."""
    flags.DEFINE_integer(
        "pairs", 10_000, "training pairs of each set", lower_bound=64, upper_bound=10_000_000
    )
    flags.DEFINE_integer(
        "seed", 0, "of data, parameters, order and noise", lower_bound=0, upper_bound=2**32 - 2
    )
    flags.DEFINE_integer(
        "observations", 200, "held-out ones that are scored", lower_bound=1, upper_bound=2_000
    )
    flags.DEFINE_integer(
        "predictions", 50, "of each model for each of them", lower_bound=plan.DRAWN, upper_bound=1_000
    )
    flags.DEFINE_bool("resume", False, "go on with the bake-off in --out: what is finished is not done again")


def main(_: list[str]) -> int:
    """Trains what is missing, then draws and tells."""
    began = time.monotonic()
    f = flags.FLAGS
    out = run_folder.prepare(
        f.out or run_folder.default_out("inverse_dynamics", "bakeoff", f.seed), f.resume, absent="start"
    )
    chosen = _chosen(out, f.resume)
    settings = plan.Settings(**chosen)
    with entry.Interrupt() as interrupt, run_folder.acquire(out, f.resume, absent="start") as folder:
        notes = folder.write_config(chosen)
        done = train(settings, folder.path, interrupt, notes)
        if not done:
            print(
                f"\ninterrupted; finished runs are kept. To go on:\n"
                f"  python -m experiments.bakeoff --resume --out={folder.path}",
                flush=True,
            )
            return 128 + getattr(signal, interrupt.requested)
        # Imported here: --help and a misspelt flag answer at once.
        from experiments.bakeoff_parts import report

        print(report.write(settings, folder, time.monotonic() - began, notes), flush=True)
    return 0


def train(settings: plan.Settings, folder: Path, interrupt: entry.Interrupt, notes: list[str]) -> bool:
    """Trains and scores the items that have no part yet; False where it was interrupted."""
    from experiments.bakeoff_parts import parts

    waiting = [item for item in plan.ITEMS if parts.read(parts.path_of(folder, item)) is None]
    each, finished = plan.steps_of(settings), len(plan.ITEMS) - len(waiting)
    made = dict.fromkeys(waiting, 0)
    if finished:
        notes.append(f"{finished} of {len(plan.ITEMS)} runs were finished before")
    with Progress(each * len(plan.ITEMS), start=each * finished) as progress:

        def heard(item: plan.Item, message: dict) -> None:
            if "done" in message:
                facts = message["done"]
                progress.say(
                    f"{item.data + ', ' + plan.TITLES[item.model]:<22}validation {facts['val_loss']:8.4f}   "
                    f"floor {facts['floor']:8.4f}   {facts['times']['train_s']:5.1f} s"
                )
            else:
                made[item] = message["step"]
            progress.update(each * finished + sum(made.values()))

        return pool.run(waiting, settings, folder, heard=heard, stop=lambda: interrupt.requested is not None)


def _chosen(out: Path, resume: bool) -> dict:
    """The flags that decide the numbers; a resumed run keeps its own where the command line is silent."""
    given = {name: flags.FLAGS[name] for name in _FLAGS}
    before = (run_folder.RunFolder(out, lock=-1).read_config() if resume else None) or {"flags": {}}
    chosen = {
        name: flag.value if flag.present else before["flags"].get(name, flag.value)
        for name, flag in given.items()
    }
    if chosen["smoke"]:  # a few steps on a few pairs, a few predictions
        chosen |= {"pairs": min(chosen["pairs"], 2_000), "observations": 20, "predictions": plan.DRAWN}
    return chosen


if __name__ == "__main__":
    define_flags()
    entry.run(main)
