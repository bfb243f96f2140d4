"""Drills 1 and 2: a healthy run, five faults one at a time, and what each looks like.

  python -m experiments.drills

trains 14 -> 256 -> 256 -> 7 by squared error (Adam 1e-3, batch 64, 50 epochs of 10,000 pairs) once as it
should be and once with each of big_lr, tiny_lr, unnormalized_inputs, action_outlier and bimodal_labels. All
six share one compiled program. Trainings and pictures take about 57 s of processor time, half of that on the
clock of two free cores; the doctor's examinations twice as long again (`--noexamine` leaves them out). Writes
into drills/, or --out,

  data/*.npz  curves/*.csv  curves/*.png (six)  drills.png  baseline_mse.csv  baseline_mse.png
  sentences.txt  drills.json

Expected: the baseline's held-out loss lies slightly above its training loss, both within 15 % of the floor
0.09 at the plateau; that of bimodal_labels equals its floor (d^2/4)/7 + 0.09 = 0.2329 to 3 %.
"""

import json
import os
import signal
import time
from pathlib import Path

from absl import flags

from experiments import (
    entry,
    shared_flags,  # noqa: F401 - defines --out and --smoke
)
from experiments.progress import Progress


def define_flags() -> None:
    """The flags of this command, defined when it runs."""
    flags.DEFINE_integer("seed", 0, "of data, parameters and order", lower_bound=0, upper_bound=2**32 - 2)
    flags.DEFINE_bool("examine", True, "ask the doctor; without it the sentences have no diagnosis")


def main(_: list[str]) -> int:
    """Trains, examines, draws, tells."""
    began = time.monotonic()
    f = flags.FLAGS
    # Two trainings share two processors: threads inside of a matrix product would only be in their way.
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    from ch3_jax.data import synthetic
    from experiments import doctor_files
    from experiments.drill_parts import drilling

    folder = doctor_files.folder_of(f.out or "drills", "curves")

    pairs, held_out, steps = (2_000, 500, 200) if f.smoke else (10_000, 2_000, drilling.drill.STEPS)
    recipe = {"name": "inverse_dynamics", "seed": f.seed, "pairs": pairs, "validation_pairs": held_out}
    dataset, _status = synthetic.cached(
        folder / "data" / f"inverse_dynamics-{pairs}-{f.seed}.npz",
        lambda: synthetic.inverse_dynamics(f.seed, pairs=pairs, validation_pairs=held_out),
        recipe,
    )
    runs = drilling.drills(dataset, steps=steps, seed=f.seed)
    made = dict.fromkeys(runs, 0)
    with entry.Interrupt() as interrupt, Progress(steps * len(runs)) as progress:

        def heard(name: str, step: int, loss: float) -> None:
            made[name] = step
            progress.update(sum(made.values()), loss=loss)

        done = drilling.run(
            runs,
            folder / "curves",
            examined=f.examine,
            heard=heard,
            finished=lambda d: progress.say(
                f"{d.name:<20}trained {d.train_s:5.1f} s, examined {d.examine_s:5.1f} s: {drilling.words(d)}"
            ),
            stop=lambda: interrupt.requested is not None,
        )
    if len(done) < len(runs):
        print(f"\ninterrupted; {len(done)} of {len(runs)} drills are in {folder / 'curves'}", flush=True)
        return 128 + getattr(signal, interrupt.requested)
    print(_told(done, folder, began, f.smoke), flush=True)
    return 0


def _told(done: dict, folder: Path, began: float, smoke: bool) -> str:
    """Draws the pictures, writes the sentences; the text for the terminal."""
    import shutil

    from experiments import curves
    from experiments.drill_parts import drilling, overview

    usual = done["baseline"].shape
    facts = {name: drilling.facts(d, usual) for name, d in done.items()}
    for name, d in done.items():
        curves.draw(
            d.trained.history,
            folder / "curves" / f"{name}.png",
            floor=d.trained.ready.run.floor,
            floor_name="smallest possible loss",
            title=f"{name}: {drilling.words(d)}",
            unit="squared error",
        )
    overview.draw(
        {name: d.trained.history for name, d in done.items()},
        {name: d.trained.ready.run.floor for name, d in done.items()},
        {name: drilling.words(d) for name, d in done.items()},
        folder / "drills.png",
    )
    for end in ("csv", "png"):
        shutil.copyfile(folder / "curves" / f"baseline.{end}", folder / f"baseline_mse.{end}")
    lines = []
    for fact in facts.values():
        lines.append(fact["sentence"])
        if fact["evidence"]:
            lines.append(f"    evidence: {fact['evidence']}")
        if fact["right"] is False:
            lines.append(f"    the doctor is wrong here: planted was {fact['planted']}")
    text = "\n".join(lines)
    (folder / "sentences.txt").write_text(text + "\n")
    wall = time.monotonic() - began
    (folder / "drills.json").write_text(
        json.dumps({"smoke": smoke, "seconds": wall, "drills": facts}, indent=1)
    )
    return f"\n{text}\n\n{len(done)} drills in {wall:.0f} s; pictures in {folder / 'curves'}"


if __name__ == "__main__":
    define_flags()
    entry.run(main)
