"""The folder of a puzzle: what a run of `experiments.train` leaves, and nothing that names a cause.

config.json      the settings, as the run states them
metrics.csv      losses and norms, a row for every report
statistics.json  mean, spread and range of what the run normalised with
data.npz         both splits as the run read them, raw
parameters.npz   at the end of the run
puzzle.json      when it began, salted hashes of the answers, guesses and hints so far
"""

import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ch3_jax.errors import InputError
from ch3_jax.faults.run import Run
from ch3_jax.faults.train import Trained
from experiments.drill_parts.drilling import write_table
from experiments.puzzle_parts import choice
from experiments.puzzle_parts.choice import Puzzle
from experiments.run_folder import write_json

STATED = (
    *("loss", "normalize", "window", "horizon", "width", "bins", "batch_size", "steps"),
    *("learning_rate", "warmup", "clip", "ema", "seed"),
)


def write(folder: Path, puzzle: Puzzle, trained: Trained) -> None:
    """Writes the run; the clock starts when the last file is there."""
    folder.mkdir(parents=True, exist_ok=True)
    ready, run = trained.ready, trained.ready.run
    write_json(folder / "config.json", {"flags": stated(run)})
    write_json(
        folder / "statistics.json",
        {
            name: {field: getattr(s, field) for field in ("names", "mean", "std", "min", "max")}
            for name, s in ready.statistics.items()
        },
    )
    write_table(folder / "metrics.csv", trained)
    _write_data(folder / "data.npz", run)
    leaves = jax.tree.leaves_with_path(trained.state.params)
    np.savez(
        folder / "parameters.npz",
        **{jax.tree_util.keystr(p, simple=True, separator="/"): x for p, x in leaves},
    )
    salt = choice.salt_of(puzzle)
    answers = sorted(
        choice.salted(salt, cause) for fault in choice.hidden(puzzle) for cause in fault.answers()
    )
    log = {
        "puzzle": puzzle._asdict(),
        "salt": salt,
        "answers": answers,
        "begun": time.time(),
        "guesses": [],
        "hints": 0,
        "revealed": False,
    }
    write_json(folder / "puzzle.json", log)


def stated(run: Run) -> dict[str, Any]:
    """What the run says about itself."""
    facts = run.dataset.facts
    data = {
        "data": "data.npz",
        "observation_names": facts.observation_names,
        "action_names": facts.action_names,
    }
    declared = {k: v for k, v in run.declared.items() if k in ("action_meaning", "rate_hz", "frozen")}
    said = {name: getattr(run, name) for name in STATED} | dict(run.options) | data | declared
    # As the flags of experiments.train say it.
    return said | {"ema": "none" if run.ema is None else str(run.ema), "clip": run.clip or 0.0}


def read_log(folder: Path) -> dict[str, Any]:
    """The puzzle's own file.

    Raises:
      InputError: there is no puzzle in the folder, or its file is damaged.
    """
    try:
        return json.loads((folder / "puzzle.json").read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"there is no puzzle in {folder}",
            got=error,
            expected="the folder that a puzzle was written to",
            cause="a guess before the puzzle was made, or another --seed, --level, --place or --out",
            fix="python -m experiments.puzzle --seed=7, then the same with --guess=CAUSE",
        ) from error


def _write_data(path: Path, run: Run) -> None:
    arrays = {}
    for name, steps in run.dataset.splits.items():
        for field in ("observation", "action", "offset", "timestamp"):
            value = getattr(steps, field)
            if value is not None:
                arrays[f"{name}/{field}"] = value
    np.savez(path, **arrays)
