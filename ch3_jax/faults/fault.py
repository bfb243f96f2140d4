"""The `Fault`: one way to break a run, how hard, what it is called, and what only looks like it."""

import dataclasses
from collections.abc import Callable

from ch3_jax.faults.run import Run

Pure = Callable[[Run, float], Run]
SEVERITIES = ("mild", "middle", "strong")


@dataclasses.dataclass(frozen=True)
class Fault:
    """A pure change of a healthy run.

    Attributes:
      id: short name in tables and files: "A02".
      family: the mechanism; what is tuned on one family is never reported on it.
      title: a few words.
      place: 1..7, where the cause sits.
      cause: id of the doctor's cause that is the right answer.
      accepted: other ids that name the same act.
      base: key of `healthy.BASES`.
      severities: the change's number for mild, middle and strong.
      change: (healthy run, number) -> broken run.
      lookalike: healthy run -> a healthy run that a careless check takes for this fault; None where every
        run of that look is broken.
      looks: what the look-alike is, in words.
    """

    id: str
    family: str
    title: str
    place: int
    cause: str
    base: str
    severities: tuple[float, float, float]
    change: Pure
    accepted: tuple[str, ...] = ()
    lookalike: Callable[[Run], Run] | None = None
    looks: str = ""

    def answers(self) -> tuple[str, ...]:
        """All ids that are right."""
        return (self.cause, *self.accepted)
