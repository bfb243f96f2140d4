"""Learning curves of every algorithm that learns by reward: mean and interval over seeds.

  python -m experiments.reinforce_curves --seeds=5 --out=runs/curves

runs `experiments.train` for each of `--losses` and each seed with its preset on `panda_reach` (dense
reward), about a minute each on two cores, and draws success without chance over the seconds of training and
over the steps of the environment: the mean, and Student's 95 % interval of it. A run that is finished is not
run again, so a stopped set goes on with the same command. Writes curves.png, curves.txt and a run folder for
each run.
"""

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from absl import flags

from experiments import (
    entry,
    shared_flags,  # noqa: F401 - defines --out and --smoke
)
from experiments.flags import BY_REWARD
from experiments.progress import Progress

_ROOT = Path(__file__).resolve().parents[1]
_T95 = (math.nan, 12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)  # Student's, by degrees of freedom
SOLVED = 0.95


def define_flags() -> None:
    """The flags of this command, defined when it runs."""
    flags.DEFINE_list("losses", list(BY_REWARD), "algorithms")
    flags.DEFINE_integer("seeds", 5, "of each", lower_bound=1, upper_bound=10)


def main(_: list[str]) -> int:
    """Runs what is missing, then prints and draws."""
    f = flags.FLAGS
    folder = Path(f.out or "runs/reinforce-curves").expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    cases = [(loss, seed) for loss in f.losses for seed in range(f.seeds)]
    with Progress(len(cases)) as progress:
        for done, (loss, seed) in enumerate(cases):
            _run(folder / f"{loss}-{seed}", loss, seed, folder / "compiled", smoke=f.smoke)
            progress.update(done + 1)
    runs = {loss: [_read(folder / f"{loss}-{seed}") for seed in range(f.seeds)] for loss in f.losses}
    text = table(runs)
    (folder / "curves.txt").write_text(text + "\n")
    draw(runs, folder / "curves.png")
    print(f"{text}\nwritten to {folder}")
    return 0


def _run(out: Path, loss: str, seed: int, cache: Path, *, smoke: bool) -> None:
    if (out / "summary.json").is_file() and _summary(out)["status"] == "finished":
        return
    words = [f"--loss={loss}", f"--seed={seed}", f"--out={out}", "--notensorboard", "--nodoctor"]
    resume = ["--resume"] if out.exists() else []
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(cache.resolve()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "PYTHONPATH": str(_ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-m", "experiments.train", *words, *resume, *(["--smoke"] if smoke else [])],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ChildProcessError(f"{loss}, seed {seed}: {(done.stderr or done.stdout).strip()[-600:]}")


def _summary(out: Path) -> dict:
    return json.loads((out / "summary.json").read_text())


def _read(out: Path) -> dict:
    """Evaluations of a run over seconds of training and steps of the environment."""
    rows = [r for r in csv.DictReader((out / "metrics.csv").open()) if r["best_success"]]
    summary = _summary(out)
    rate = summary["steps_per_second"] or math.nan  # iterations, without compilation and evaluation
    step = np.array([int(r["step"]) for r in rows])
    return {
        "seconds": step / rate,
        "env_steps": np.array([int(r["env_steps"]) for r in rows]),
        "success": np.array([float(r["best_success"]) for r in rows]),
        "sampled": np.array([float(r["sampled_success"]) for r in rows]),
        "wall": summary["wall_seconds"],
        "rate": summary["extra"]["env_steps_per_second"],
    }


def interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and half width of Student's 95 % interval over the first axis.

    >>> [float(x) for x in interval(np.array([1.0, 3.0]))]
    [2.0, 12.71]
    """
    count = len(values)
    half = _T95[count - 1] * values.std(0, ddof=1) / math.sqrt(count) if count > 1 else np.nan * values[0]
    return values.mean(0), half


def table(runs: dict[str, list[dict]]) -> str:
    """Where each algorithm ends, and when it was there, as 80 columns."""
    heads = (
        ("success, without chance", 25),
        ("by chance", 11),
        ("steps", 8),
        ("training", 10),
        ("95 % after", 13),
    )
    lines = [f"{'':<10}" + "".join(f"{words:>{width}}" for words, width in heads)]
    for loss, many in runs.items():
        mean, half = interval(np.array([r["success"][-1] for r in many]))
        sampled = np.mean([r["sampled"][-1] for r in many])
        seconds = np.median([r["seconds"][-1] for r in many])
        first = [_first(r) for r in many]
        solved = [s for s in first if not math.isnan(s)]
        when = f"{np.median(solved):.0f} s" if len(solved) == len(many) else f"{len(solved)} of {len(many)}"
        steps = many[0]["env_steps"][-1] / 1e6
        lines.append(
            f"{loss:<10}{mean:>16.1%} +-{half:>5.1%}{sampled:>12.1%}{steps:>7.1f}M{seconds:>8.0f} s{when:>13}"
        )
    return "\n".join(lines)


def _first(run: dict) -> float:
    """Seconds until an evaluation saw `SOLVED`, NaN where none did."""
    there = np.flatnonzero(run["success"] >= SOLVED)
    return float(run["seconds"][there[0]]) if len(there) else math.nan


def draw(runs: dict[str, list[dict]], path: Path) -> None:
    """Success over the wall clock, and over steps of the environment."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(13, 5), dpi=100, sharey=True)
    for number, (loss, many) in enumerate(runs.items()):
        mean, half = interval(np.array([r["success"] for r in many]))
        for ax, name in zip(axes, ("seconds", "env_steps"), strict=True):
            x = np.mean([r[name] for r in many], axis=0)
            if name == "env_steps" and not x[-1]:
                continue  # learned from a recording
            there = slice(0 if name == "seconds" else 1, None)  # 0 is on no logarithmic axis
            low, high = (np.clip(mean + sign * half, 0, 1)[there] for sign in (-1, 1))
            ax.plot(x[there], mean[there], "o-", ms=3, label=loss, color=f"C{number}")
            ax.fill_between(x[there], low, high, color=f"C{number}", alpha=0.2, lw=0)
    axes[0].set(xlabel="seconds of training", ylabel="success without chance", ylim=(-0.02, 1.02))
    axes[1].set(xlabel="steps of the environment", xscale="log")
    axes[0].set_title("panda_reach, dense reward: mean and 95 % interval over seeds", loc="left")
    for ax in axes:
        ax.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


if __name__ == "__main__":
    define_flags()
    entry.run(main)
