"""Which fault a puzzle hides: a pure function of seed, level and place, never written down.

Faults lie in a deck that is shuffled by a SHA-256 and dealt a place at a time, the seed saying which card
is drawn: neighbouring seeds hide different faults, in different places while there are any, and as many
seeds in a row as there are faults hide each of them once. A compound puzzle has a second fault, of another
family, from the same kind of run.
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
      InputError: no fault sits in that place.
    """
    faults = [f for f in catalogue.FAULTS.values() if puzzle.place in (None, f.place)]
    if not faults:
        raise InputError(
            f"no fault sits in place {puzzle.place}",
            got=f"--place={puzzle.place}",
            expected=", ".join(str(p) for p in sorted({f.place for f in catalogue.FAULTS.values()})),
            cause="a place outside of the seven",
            fix="leave --place out",
        )
    if puzzle.level == "compound":
        faults = [f for f in faults if _companions(f)]
    round_, card = divmod(puzzle.seed, len(faults))
    draw = _draw(puzzle, round_)
    first = _deck(faults, draw)[card]
    if puzzle.level != "compound":
        return (first,)
    others = _companions(first)
    second = others[_draw(puzzle, puzzle.seed).integers(len(others))]
    return tuple(sorted((first, second), key=lambda f: f.place))


def _deck(faults: list[Fault], draw: np.random.Generator) -> list[Fault]:
    """The faults, shuffled, no place again before every other place that has any left."""
    piles = {place: [] for place in draw.permutation(sorted({f.place for f in faults}))}
    for index in draw.permutation(len(faults)):
        piles[faults[index].place].append(faults[index])
    rounds = range(max(len(pile) for pile in piles.values()))
    return [pile[i] for i in rounds for pile in piles.values() if i < len(pile)]


def _companions(first: Fault) -> list[Fault]:
    """Faults that can be planted in the same run and are another story."""
    return [
        f
        for f in catalogue.FAULTS.values()
        if f.base == first.base and f.family != first.family and f.cause not in first.answers()
    ]


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


def _draw(puzzle: Puzzle, number: int) -> np.random.Generator:
    digest = hashlib.sha256(f"which one, {number}, {puzzle.level}, {puzzle.place}".encode()).digest()
    return np.random.default_rng(list(digest))
