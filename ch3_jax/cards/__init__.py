"""Model cards: the facts about published systems, and a reader for what a text says.

  facts         cards of `third_party/cards`: values with their sources
  documents     files of any kind -> text
  reader        text -> `Reading`
  consequences  reading -> what to check first, what to expect, in numbers
  difference    two sets of settings side by side
  score         readings against labelled passages

Pure Python without JAX: a card is read in milliseconds.
"""

from ch3_jax.cards.reader import read
from ch3_jax.cards.records import Evidence, Form, Found, Reading, SetAside

__all__ = ["Evidence", "Form", "Found", "Reading", "SetAside", "read"]
