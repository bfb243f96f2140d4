"""Which fault a puzzle hides: a pure function of seed, level and place, never written down.

A compound puzzle has two faults that sit in different families of one kind of run. The order of the draw
comes from a SHA-256, so neither the seed nor a neighbour's puzzle says anything about it.
"""

import hashlib
from typing import NamedTuple

import numpy as np

from ch3_jax.errors import InputError
from ch3_jax.faults import catalogue
from ch3_jax.faults.fault import Fault
from ch3_jax.faults.run import Run

LEVELS = ("easy", "hard", "compound")
_SEVERITY = {"easy": 2, "hard": 1, "compound": 1}


class Puzzle(NamedTuple):
    """What was asked for.

    Attributes:
      seed: of the choice and of the run.
      level: one of `LEVELS`.
      place: 1..7, or None for any.
    """

    seed: int
    level: str
    place: int | None

    @property
    def name(self) -> str:
        """For folders: "7-hard-4"."""
        return f"{self.seed}-{self.level}" + (f"-{self.place}" if self.place else "")


def hidden(puzzle: Puzzle) -> tuple[Fault, ...]:
    """The faults of a puzzle, one, or two for "compound".

    Raises:
      InputError: no fault sits in that place, or none that goes with another one.
    """
    draw = _draw(puzzle)
    faults = [f for f in catalogue.FAULTS.values() if puzzle.place in (None, f.place)]
    places = sorted({f.place for f in faults})
    if not places:
        raise InputError(
            f"no fault sits in place {puzzle.place}",
            got=f"--place={puzzle.place}",
            expected=", ".join(str(p) for p in sorted({f.place for f in catalogue.FAULTS.values()})),
            cause="a place outside of the seven",
            fix="leave --place out",
        )
    # The place first: else the places with many faults would be most of the puzzles.
    place = places[draw.integers(len(places))]
    if puzzle.level != "compound":
        mine = [f for f in faults if f.place == place]
        return (mine[draw.integers(len(mine))],)
    for index in draw.permutation(len(faults)):
        first = faults[index]
        others = [
            f
            for f in catalogue.FAULTS.values()
            if f.base == first.base and f.family != first.family and f.cause not in first.answers()
        ]
        if others:
            both = first, others[draw.integers(len(others))]
            return tuple(sorted(both, key=lambda f: f.place))
    raise LookupError("no two faults of the catalogue share a kind of run")


def broken(puzzle: Puzzle) -> Run:
    """The run of a puzzle."""
    faults = hidden(puzzle)
    run = catalogue.base(faults[0], puzzle.seed)
    for fault in faults:
        run = fault.change(run, fault.severities[_SEVERITY[puzzle.level]])
    return run


def in_data(puzzle: Puzzle, fault: Fault) -> bool:
    """Whether a fault changes the data, or the numbers that normalise them, and not code or settings."""
    healthy = catalogue.base(fault, puzzle.seed)
    run = fault.change(healthy, fault.severities[_SEVERITY[puzzle.level]])
    return run.dataset is not healthy.dataset or run.measured is not healthy.measured


def salted(salt: str, cause: str) -> str:
    """What a file may say of an answer."""
    return hashlib.sha256(f"{salt}|{cause}".encode()).hexdigest()


def salt_of(puzzle: Puzzle) -> str:
    """A salt of the puzzle's own."""
    return hashlib.sha256(f"salt of {puzzle.name}".encode()).hexdigest()[:16]


def _draw(puzzle: Puzzle) -> np.random.Generator:
    digest = hashlib.sha256(f"which one, {puzzle.seed}, {puzzle.level}, {puzzle.place}".encode()).digest()
    return np.random.default_rng(list(digest))
