"""One cause of a run that does not train, as the catalogue and the reports speak of it."""

import dataclasses

PLACES = {
    1: "action statistics",
    2: "timestamp alignment",
    3: "the training step",
    4: "gradients and rates",
    5: "non-finite numbers",
    6: "loss and bookkeeping",
    7: "the family's own",
}
"""The seven places of section 3.5 in which a cause can sit; 0 is none of them."""


@dataclasses.dataclass(frozen=True)
class Cause:
    """What can be wrong.

    Attributes:
      id: snake_case, the name in findings, guesses and JSON.
      place: 1..7, where it sits; 0 for what sits in none of the seven.
      title: a few words.
      explanation: what it is and how it does harm, one or two sentences.
      next_experiment: the one thing to do that would settle it, or repair it.
      equivalents: ids of causes that are the same act or cannot be told from it: as good an answer.
      upstream_of: ids of causes that are commonly the consequence of this one, for the causal order.
    """

    id: str
    place: int
    title: str
    explanation: str
    next_experiment: str
    equivalents: tuple[str, ...] = ()
    upstream_of: tuple[str, ...] = ()
