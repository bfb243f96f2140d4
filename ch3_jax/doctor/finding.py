"""What a check hands back: a `Finding`, or what it could not look at and what it would have needed.

A finding is evidence, not an opinion: the statistic, its value, the bound that it is held against, where it
was seen, and how sure that is (a p-value or an interval). The cause is an id of `causes.CAUSES`; the verdict
weighs findings, so a check says what it saw and never how the story ends.
"""

import dataclasses
from collections.abc import Mapping

SEVERITIES = ("note", "warning", "fault")
"""In rising order; only the last two are alarms."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that a check saw.

    Attributes:
      check: 1..7, the check that made it.
      cause: id of `causes.CAUSES`; "normal" for a note that names no fault.
      severity: "note" (true, worth knowing, no alarm), "warning" (a person should look), "fault" (hurts).
      statistic: what was measured, in words: "actual over predicted decrease".
      value: of the statistic.
      bound: that the value is held against, in the same unit; None where a note has none.
      where: dimension, layer, episode, step, in words: "action dimension gripper, 12 of 40 episodes".
      sentence: the evidence, one sentence for a person.
      p: of the healthy hypothesis, after correction for the number of looks; None where it is no test.
      interval: 95 % of the value, (low, high); None where not computed.
      numbers: whatever else the sentence and the plots need, by name.
    """

    check: int
    cause: str
    severity: str
    statistic: str
    value: float
    bound: float | None
    where: str
    sentence: str
    p: float | None = None
    interval: tuple[float, float] | None = None
    numbers: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(f"`severity` is {self.severity!r}, expected one of {SEVERITIES}.")
        if self.check not in range(1, 8):
            raise ValueError(f"`check` is {self.check!r}, expected 1 to 7.")

    @property
    def alarm(self) -> bool:
        """Whether it asks a person to look: a warning or a fault."""
        return self.severity != "note"


@dataclasses.dataclass(frozen=True)
class NotExamined:
    """Something that a check leaves open because the patient does not bring what it takes.

    Attributes:
      check: 1..7.
      what: was not looked at: "update ratios per layer".
      needs: what would make it possible: "`optimizer` and `loss`".
    """

    check: int
    what: str
    needs: str


Result = Finding | NotExamined
