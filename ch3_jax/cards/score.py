"""Scores readings against labelled passages: how often family and form are right, how far numbers can be
trusted.

  family   right if it is the label or one of the label's accepted alternatives
  form     right if the first form read is among the label's, and none is read where the label has none, or
  has none
           that the reading adds: every main form read is in the label; `exact` asks for the same set
  numbers  precision = right / stated, recall = right / labelled

The systems are split into two halves by the parity of the SHA-256 of their names, so that rules can be
written while looking at one half and judged on the other.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ch3_jax.cards.reader import read

NUMBERS = ("bins", "chunk", "schedule", "inference_steps")
TARGETS = {
    ("positive", "family"): 0.95,
    ("hard_negative", "family"): 0.90,
    ("positive", "form"): 0.90,
    ("hard_negative", "form"): 0.85,
    **{("all", name): 0.95 for name in NUMBERS},
}


class Share(NamedTuple):
    """`right` of `asked`; for precision, of what was stated."""

    right: int
    asked: int

    @property
    def value(self) -> float:
        """The share; 1 where nothing was asked."""
        return self.right / self.asked if self.asked else 1.0


class Scores(NamedTuple):
    """Shares by (kind of passage, what is asked), recall by name, misses as (id, what, got, expected)."""

    shares: dict[tuple[str, str], Share]
    recall: dict[str, Share]
    misses: tuple[tuple[str, str, Any, Any], ...]
    passages: int


def half(system: str) -> str:
    """ "tuning" or "held_out", by the parity of the SHA-256 of the system's name.

    Example:
      >>> half("PPO"), half("Octo")
      ('tuning', 'held_out')
    """
    return "tuning" if int(hashlib.sha256(system.encode()).hexdigest(), 16) % 2 == 0 else "held_out"


def form_is_right(got: list[str], expected: list[str]) -> bool:
    """Whether the forms read are the labelled ones, or a part of them that begins with a right one.

    Example:
      >>> form_is_right(["td"], ["td", "awr"]), form_is_right(["td", "mse"], ["td"])
      (True, False)
    """
    return set(got) <= set(expected) and bool(got) == bool(expected)


def score(rows: Iterable[Mapping[str, Any]]) -> Scores:
    """Reads every passage and compares.

    Args:
      rows: records with `text`, `kind`, `family`, `family_alt`, `form`, `bins`, `chunk`, `schedule`,
        `inference_steps`.

    Returns:
      shares over positives and hard negatives for family and form, over all passages for the numbers'
      precision.
    """
    tally: dict[tuple[str, str], list[bool]] = {}
    found: dict[str, list[bool]] = {name: [] for name in NUMBERS}
    misses = []
    rows = list(rows)
    for row in rows:
        got = read(row["text"]).labels()
        name = str(row.get("id", row["text"][:40]))
        checks = {
            "family": (got["family"] in (row["family"], *row.get("family_alt", ())), row["family"]),
            "form": (form_is_right(got["form"], row["form"]), row["form"]),
            "form, exact": (set(got["form"]) == set(row["form"]), row["form"]),
        }
        for what, (right, expected) in checks.items():
            tally.setdefault((row["kind"], what), []).append(right)
            if not right and what != "form, exact":
                misses.append((name, what, got[what], expected))
        for what in NUMBERS:
            right = got[what] == row.get(what)
            if got[what] is not None:
                tally.setdefault(("all", what), []).append(right)
            if row.get(what) is not None:
                found[what].append(right)
            if not right:
                misses.append((name, what, got[what], row.get(what)))
    shares = {key: Share(sum(values), len(values)) for key, values in tally.items()}
    recall = {name: Share(sum(values), len(values)) for name, values in found.items()}
    return Scores(shares, recall, tuple(misses), len(rows))
