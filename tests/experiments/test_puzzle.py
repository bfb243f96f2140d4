"""The puzzle: the choice is the seed's, no file tells, guesses are judged."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ch3_jax.doctor.causes import CAUSES
from ch3_jax.errors import InputError
from ch3_jax.faults import train as training
from ch3_jax.faults.catalogue import FAULTS
from ch3_jax.metrics import Series
from experiments.puzzle_parts import choice, files, score
from experiments.puzzle_parts.choice import LEVELS, Puzzle

ROOT = Path(__file__).resolve().parents[2]
PLACES = {name: cause.place for name, cause in CAUSES.items()}


def test_neighbouring_seeds_hide_different_faults():
    n = len(FAULTS)
    dealt = [choice.hidden(Puzzle(seed, "hard", None))[0] for seed in range(2 * n)]
    assert {f.id for f in dealt[:n]} == {f.id for f in dealt[n:]} == set(FAULTS)
    assert all(one.place != other.place for one, other in zip(dealt[:7], dealt[1:7], strict=False))
    assert [f.id for f in dealt[:n]] != [f.id for f in dealt[n:]]


def test_the_choice_is_a_function_of_the_seed():
    puzzles = [Puzzle(seed, "hard", None) for seed in range(60)]
    chosen = [choice.hidden(p)[0].id for p in puzzles]
    assert chosen == [choice.hidden(p)[0].id for p in puzzles]
    assert len(set(chosen)) > 15
    assert {FAULTS[c].place for c in chosen} == set(range(1, 8))
    for place in range(1, 8):
        assert choice.hidden(Puzzle(3, "easy", place))[0].place == place
    with pytest.raises(InputError, match="no fault sits in place 9"):
        choice.hidden(Puzzle(3, "easy", 9))


def test_a_compound_puzzle_has_two_faults_of_one_kind_of_run():
    for seed in range(30):
        one, other = choice.hidden(Puzzle(seed, "compound", None))
        assert one.base == other.base and one.family != other.family


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A broken run in a folder: its own data and statistics, with a history and parameters made up here."""
    puzzle = Puzzle(7, "easy", 4)
    generator, steps = np.random.default_rng(0), np.array([0, 100, 200])
    columns = ("loss", "val_loss", "gradient_norm", "update_ratio", "learning_rate")
    history = {name: Series(steps, generator.random(3)) for name in columns}
    params = {"hidden_1": {"kernel": generator.random((14, 16)), "bias": np.zeros(16)}}
    state = SimpleNamespace(params=params, ema=None)
    folder = tmp_path_factory.mktemp("puzzle") / "run"
    trained = training.Trained(training.ready(choice.broken(puzzle)), state, history, "finished", 1.0)
    files.write(folder, puzzle, trained)
    return folder, puzzle


def test_no_file_names_its_cause(written):
    folder, puzzle = written
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("config.json", "metrics.csv", "statistics.json"),
        *("data.npz", "parameters.npz", "puzzle.json"),
    }
    words = [c.id for c in CAUSES.values() if c.place] + [c.title for c in CAUSES.values()]
    words += [f.title for f in FAULTS.values()] + [n for f in FAULTS.values() for n in (f'{f.id}"',)]
    words += ["flip_gradient", "zero_inputs", "drop_updates", "sum_over_batch", "changes", "lookalike"]
    for path in folder.iterdir():
        text = path.read_bytes().decode("latin-1").lower() + path.name
        for word in words:
            # The search for the bare word first: a pattern over megabytes of numbers takes a second each.
            found = word.lower() in text and re.search(rf"\b{re.escape(word.lower())}", text)
            assert not found, f"{word} is in {path.name}"


def test_every_puzzle_states_no_more_than_settings():
    for seed in range(40):
        for level in LEVELS:
            faults = choice.hidden(Puzzle(seed, level, None))
            if faults[0].base.startswith(("pairs", "flow", "diffusion")):
                continue  # the settings are the same, and the data take time
            text = json.dumps(files.stated(choice.broken(Puzzle(seed, level, None))), default=str)
            assert not [c for c in CAUSES if PLACES[c] and c in text]
        if seed > 3:
            break


def test_hints_tell_data_from_code():
    puzzle = Puzzle(1, "hard", None)
    told = {
        name: choice.in_data(puzzle, FAULTS[name])
        for name in ("A02", "A06", "E03", "N01", "C05", "D01", "G02")
    }
    assert told == {
        "A02": True,
        "A06": True,
        "E03": True,
        "N01": False,
        "C05": False,
        "D01": False,
        "G02": True,
    }


def test_guesses_are_judged(written):
    folder, puzzle = written
    fault = choice.hidden(puzzle)[0]
    log = files.read_log(folder)
    begun = log["begun"]
    elsewhere = next(c for c in CAUSES if PLACES[c] not in (0, fault.place) and c not in fault.answers())
    assert score.judge(log, [elsewhere], PLACES, begun + 60) == "wrong, and not in that place"
    near = next(c for c in CAUSES if PLACES[c] == fault.place and c not in fault.answers())
    assert "place is right" in score.judge(log, [near], PLACES, begun + 120)
    said = score.judge(log, [fault.cause], PLACES, begun + 12 * 60)
    # 100 - 2 wrong at 20 - 2 minutes beyond ten
    assert said == "right, after 12.0 minutes and 3 guesses: 58 points"
    log["hints"] = 4
    assert score.score(log, 1) == 0


def test_a_folder_without_a_puzzle_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no puzzle"):
        files.read_log(tmp_path)


@pytest.mark.slow
def test_the_command_from_writing_to_reveal(tmp_path):
    def play(*words):
        command = [
            sys.executable,
            "-m",
            "experiments.puzzle",
            "--seed=7",
            "--place=4",
            f"--out={tmp_path}/p",
            *words,
        ]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)

    made = play("--smoke")
    assert made.returncode == 0, made.stderr
    assert play("--smoke").returncode == 2
    assert play("--guess=unit_mix").returncode == 1
    assert "rate_too_high" in play("--guess=rate_to_high").stderr
    answer = choice.hidden(Puzzle(7, "hard", 4))[0].cause
    assert play(f"--guess={answer}").returncode == 0
    assert "code or settings" in play("--hint").stdout
    shown = play("--reveal").stdout
    assert answer in shown and "2 guesses, 1 hints" in shown
