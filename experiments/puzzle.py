"""The puzzle: a broken run of SmallPolicy whose cause is hidden in one of the seven places.

  python -m experiments.puzzle --seed=7 [--place=1..7] [--level=easy|hard|compound]     writes the run
  python -m experiments.puzzle --seed=7 --guess=CAUSE       judges a guess (two, with a comma, for compound)
  python -m experiments.puzzle --seed=7 --hint              a hint, for 15 points
  python -m experiments.puzzle --seed=7 --reveal            the answer; ends the game
  python -m experiments.puzzle --seed=7 --doctor            lets the doctor guess; it does not see the answer
  python -m experiments.puzzle --causes                     all that can be guessed

The run lies in runs/puzzle-7-hard or --out: config.json, metrics.csv, statistics.json, data.npz,
parameters.npz. No file names its cause: the answer is a function of the seed, and stored only as salted
hashes. Ten seconds to write. Exit code 0, for a guess 0 right and 1 wrong.
"""

import time
from pathlib import Path

from absl import flags

from experiments import (
    entry,
    shared_flags,  # noqa: F401 - defines --out and --smoke
)


def define_flags() -> None:
    """The flags of this command, defined when it runs."""
    flags.DEFINE_integer("seed", 7, "which puzzle", lower_bound=0, upper_bound=2**32 - 2)
    flags.DEFINE_integer("place", None, "only causes of this place", lower_bound=1, upper_bound=7)
    flags.DEFINE_enum("level", "hard", ("easy", "hard", "compound"), "how plain it is")
    flags.DEFINE_string("guess", None, "the cause, an id of --causes; two with a comma")
    flags.DEFINE_bool("hint", False, "a hint")
    flags.DEFINE_bool("reveal", False, "the answer")
    flags.DEFINE_bool("doctor", False, "let the doctor play")
    flags.DEFINE_bool("causes", False, "list what can be guessed")


def main(_: list[str]) -> int:
    """Writes a puzzle, or plays on with one."""
    f = flags.FLAGS
    _one_of(f)
    from ch3_jax.doctor.causes import CAUSES

    if f.causes:
        for cause in CAUSES.values():
            if cause.place:
                print(f"{cause.place}  {cause.id:<26}{cause.title}")
        return 0
    from experiments.puzzle_parts import choice, files

    puzzle = choice.Puzzle(f.seed, f.level, f.place)
    folder = Path(f.out or f"runs/puzzle-{puzzle.name}").expanduser()
    if not (f.guess or f.hint or f.reveal or f.doctor):
        return _write(folder, puzzle, f.smoke)
    log = files.read_log(folder)
    puzzle = choice.Puzzle(**log["puzzle"])
    if f.guess:
        return _guess(folder, log, f.guess, CAUSES)
    if f.hint:
        return _hint(folder, log, puzzle)
    return _reveal(folder, log, puzzle, CAUSES) if f.reveal else _doctor(puzzle, f.smoke)


def _write(folder: Path, puzzle, smoke: bool) -> int:
    from ch3_jax.errors import InputError
    from experiments.puzzle_parts import files

    if (folder / "puzzle.json").exists():
        raise InputError(
            f"{folder} holds this puzzle already",
            got="puzzle.json",
            expected="a folder without a puzzle",
            cause="the same --seed, --level and --place were used before",
            fix="go on with --guess, --hint or --reveal, or choose another --seed or --out",
        )
    began = time.monotonic()
    trained = _train(puzzle, smoke)
    files.write(folder, puzzle, trained)
    found = int(trained.history["loss"].steps[-1])
    causes = "two causes" if puzzle.level == "compound" else "one cause"
    print(f"{folder}: a run of {found:,} steps, broken by {causes}, in {time.monotonic() - began:.0f} s")
    print("guess with --guess=CAUSE (--causes lists them); the clock runs", flush=True)
    return 0


def _train(puzzle, smoke: bool):
    from ch3_jax.faults import train as training
    from experiments.progress import Progress
    from experiments.puzzle_parts import choice

    run = choice.broken(puzzle)
    if smoke:
        run = run._replace(steps=run.every)
    with entry.Interrupt() as interrupt, Progress(run.steps) as progress:

        def told(step: int, loss: float) -> None:
            if interrupt.requested:
                raise KeyboardInterrupt
            progress.update(step, loss=loss)

        return training.train(training.ready(run), told)


def _guess(folder: Path, log: dict, guess: str, causes) -> int:
    from ch3_jax.errors import InputError
    from experiments.puzzle_parts import score
    from experiments.run_folder import write_json

    names = [name.strip() for name in guess.split(",") if name.strip()]
    unknown = [name for name in names if name not in causes]
    if unknown or not names:
        import difflib

        near = difflib.get_close_matches((unknown or [""])[0], list(causes), 3)
        raise InputError(
            f"{(unknown or ['nothing'])[0]} is no cause",
            got=f"--guess={guess}",
            expected=" or ".join(near) or "an id that --causes lists",
            cause="a mistyped name",
            fix="python -m experiments.puzzle --causes",
        )
    said = score.judge(log, names, {name: c.place for name, c in causes.items()}, time.time())
    write_json(folder / "puzzle.json", log)
    print(said + (" (after the answer was shown)" if log["revealed"] else ""), flush=True)
    return 0 if said.startswith("right") else 1


def _hint(folder: Path, log: dict, puzzle) -> int:
    from ch3_jax.doctor.cause import PLACES
    from experiments.puzzle_parts import choice
    from experiments.run_folder import write_json

    faults = choice.hidden(puzzle)
    hints = [
        "it sits in "
        + " and in ".join("the data" if choice.in_data(puzzle, f) else "code or settings" for f in faults),
        "the place is " + " and ".join(f"{f.place}, {PLACES[f.place]}" for f in faults),
        "in short: " + " and ".join(f.title for f in faults),
    ]
    print(hints[min(log["hints"], len(hints) - 1)], flush=True)
    log["hints"] = min(log["hints"] + 1, len(hints))
    write_json(folder / "puzzle.json", log)
    return 0


def _reveal(folder: Path, log: dict, puzzle, causes) -> int:
    from experiments.puzzle_parts import choice, score
    from experiments.run_folder import write_json

    faults = choice.hidden(puzzle)
    points = score.score(log, len(faults))
    log["revealed"] = True
    write_json(folder / "puzzle.json", log)
    for fault in faults:
        print(f"{fault.cause} (place {fault.place}): {fault.title}. {causes[fault.cause].explanation}")
        if fault.accepted:
            print(f"  taken as right too: {', '.join(fault.accepted)}")
    print(f"{len(log['guesses'])} guesses, {log['hints']} hints: {points:.0f} points", flush=True)
    return 0


def _doctor(puzzle, smoke: bool) -> int:
    """The doctor gets the run's functions and data, as a person who owns the code would have them."""
    from ch3_jax.doctor.examine import examine
    from ch3_jax.doctor.text import summary
    from ch3_jax.doctor.verdict import diagnose
    from experiments.drill_parts.patients import patient_of

    trained = _train(puzzle, smoke)
    began = time.monotonic()
    report = examine(patient_of(trained, f"puzzle {puzzle.name}"))
    diagnosis = diagnose(report)
    print(summary(report, diagnosis))
    guess = ",".join(b.cause for b in diagnosis.causes if b.explained_by is None)
    print(
        f"\nthe doctor's guess after {time.monotonic() - began:.1f} s: {guess or 'a healthy run'}", flush=True
    )
    return 0


def _one_of(f) -> None:
    from ch3_jax.errors import InputError

    asked = [name for name in ("guess", "hint", "reveal", "doctor", "causes") if f[name].value]
    if len(asked) > 1:
        raise InputError(
            "one move at a time",
            got=", ".join(f"--{name}" for name in asked),
            expected="one of --guess, --hint, --reveal, --doctor, --causes",
            cause="flags left over from another move",
            fix=f"keep --{asked[0]}",
        )


if __name__ == "__main__":
    define_flags()
    entry.run(main)
