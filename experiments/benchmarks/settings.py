"""What every subject of the benchmark is told."""

from typing import NamedTuple


class Settings(NamedTuple):
    """How to measure.

    Attributes:
      python: interpreter that has PyTorch, for peers that need it.
      threads: numbers of threads to measure with.
      rounds: turns of every contender; medians are over these.
      seconds: length of one contender's turn.
      long: measure longer where a subject has a long form.
      smoke: only show that it runs; the numbers mean nothing.
    """

    python: str
    threads: tuple[int, ...]
    rounds: int
    seconds: float
    long: bool
    smoke: bool
