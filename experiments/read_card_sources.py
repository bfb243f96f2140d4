"""What `read_card` can be pointed at: a file, the standard input, a card, a run folder."""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from ch3_jax.cards import commitments, documents, facts, reader
from ch3_jax.cards.consequences import Setup
from ch3_jax.cards.records import Found, Reading
from ch3_jax.errors import InputError


class Source(NamedTuple):
    """Something that states commitments.

    Attributes:
      name: for the page.
      kind: "text", "html", "pdf", "card" or "run".
      found: commitments, as `ch3_jax.cards.commitments` makes them.
      readings: of each document in the file, none for a card or a run.
      card: the card, None for a text or a run.
      notes: sentences about the file.
    """

    name: str
    kind: str
    found: dict[str, Any]
    readings: tuple[Reading, ...] = ()
    card: facts.Card | None = None
    notes: tuple[str, ...] = ()


def open_(name: str, *, runs: bool = False) -> Source:
    """The source of that name.

    Args:
      name: path, "-", or a card's key or name; a file wins over a card.
      runs: whether a run folder is accepted.
    """
    if name == "-":
        stream = getattr(sys.stdin, "buffer", sys.stdin)
        return _of_document(
            "standard input", documents.decode(stream.read(documents.LIMIT + 1), "the standard input")
        )
    path = Path(name).expanduser()
    if runs and path.is_dir():
        return _run(path)
    if not path.exists() and "/" not in name and "." not in name.strip(".0123456789piPI"):
        return _card(name)
    try:
        return _of_document(name, documents.load(path))
    except InputError:
        if path.exists():
            raise
        return _card(name) if _is_card(name) else _refuse(name)


def example(text: str) -> Source:
    """A built-in text."""
    return _of_document("example", documents.Document(text, "text"))


def setup(given: Any) -> Setup:
    """The robot and data of the flags.

    Raises:
      InputError: `--range` is not low,high[,unit] with low < high.
    """
    bounds, unit = None, ""
    if given.range:
        try:
            low, high = (float(word) for word in given.range[:2])
            unit = given.range[2].strip() if len(given.range) == 3 else ""
        except ValueError:
            low = high = 0.0
        if not low < high or len(given.range) > 3:
            raise InputError(
                f"--range cannot be {','.join(given.range)}",
                got=",".join(given.range),
                expected="low,high or low,high,unit with low < high",
                cause="a missing number, or low and high the wrong way round",
                fix="--range=-0.05,0.05,m",
            )
        bounds = (low, high)
    return Setup(
        given.backbone_ms,
        given.head_ms,
        given.control_hz,
        bounds,
        unit,
        given.mode_distance,
        given.episode_steps,
        given.action_dims,
    )


def _of_document(name: str, document: documents.Document) -> Source:
    pieces = documents.parts(document.text)
    readings = tuple(_read_part(document.text, start, text) for start, text in pieces)
    notes = document.notes
    if len(readings) > 1:
        notes = (*notes, f"{len(readings)} documents in one file: each is read on its own")
    found = commitments.from_reading(readings[0]) if len(readings) == 1 else {}
    return Source(name, document.kind, found, readings, None, notes)


def _read_part(text: str, start: int, part: str) -> Reading:
    """The reading of a part, with the positions that it has in the whole."""
    if start == 0:
        return reader.read(part)
    before = "".join("\n" if c == "\n" else " " for c in text[:start])
    return reader.read(before + part)


def _card(name: str) -> Source:
    card = facts.load(name)
    return Source(card.name, "card", commitments.from_card(card), (), card)


def _is_card(name: str) -> bool:
    try:
        facts.load(name)
    except InputError:
        return False
    return True


def _run(path: Path) -> Source:
    try:
        flags = json.loads((path / "config.json").read_text())["flags"]
        return Source(str(path), "run", commitments.from_flags(flags))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is no run folder",
            got=f"config.json: {error}",
            expected="a folder that experiments.train has written",
            cause="the path is mistyped, or the run never began",
            fix="give the folder that the run printed at its end",
        ) from error


def _refuse(name: str):
    raise InputError(
        f"{name} cannot be read",
        got="no such file, and no such card",
        expected="a file, or one of the cards " + ", ".join(facts.names()),
        cause="the path is mistyped",
        fix="check the path, or choose a card",
    )


def found_of(reading: Reading) -> dict[str, Any]:
    """Commitments of one reading."""
    return commitments.from_reading(reading)


def plain(found: Found | None) -> dict[str, Any] | None:
    """A found value as JSON says it."""
    if found is None:
        return None
    where = found.evidence
    return {"value": found.value, "confidence": found.confidence, **where._asdict()}
