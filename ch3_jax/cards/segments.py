"""Cuts a clean text into sentences, list items, table rows and configuration lines.

Everything later looks at one segment at a time: a negation holds in its sentence, a table row is one setting,
and a list item inherits what its lead-in says ("Several losses are available:").
"""

import bisect
import re
from typing import NamedTuple

_HEADING = re.compile(r"^\s{0,3}#{1,6}\s+\S")
_ITEM = re.compile(r"^\s*(?:[-+•–]|\*|\d{1,2}[.)]|\([a-z0-9]\))\s+(?=\S)")
_ROW = re.compile(r"^\s*\|.*\||^[^|\n]+\|[^|\n]+\|")
_RULE = re.compile(r"^[\s|:=~\-+*_]+$")
_FENCE = re.compile(r"^\s*(?:```|~~~)|^\s*$")
_SETTING = re.compile(
    r"""^\s*(?:-{1,2}|\+)?(?:["']?[\w./\-\[\]]+["']?)\s*(?::\s*[\w.\[\], |]+?\s*)?(?::|=|\s=\s|<-)\s*\S"""
    r"""|^\s*--[A-Za-z][\w.\-]*(?:[=\s]\s*[^\s\\]+)?\s*\\?$"""
)
_NAMED = re.compile(
    r"^\s*(?:\d+(?:\.\d+)*\.?|[IVX]+\.)?\s*(?:abstract|introduction|related work|background|"
    r"preliminaries|methods?|approach|"
    r"training(?: details)?|experiments?|results|baselines?|evaluation|implementation(?: details)?|"
    r"appendix|conclusions?|"
    r"limitations?|discussion|comparisons?)\s*:?\s*$",
    re.I,
)
_STOP = re.compile(
    r"(?:(?<=[.!?])|(?<=[.!?][\"')\]]))\s+(?=[A-Z0-9\"'(\[$\\#-]|\.\.\s)|(?<=:)\s+(?=[-*•]\s)|"
    r"\s+[*•]\s+(?=\S)|\s+-\s+(?=[A-Z])"
)
_ABBREVIATED = re.compile(
    r"(?:\bet al|\be\.g|\bi\.e|\bFigs?|\bEqs?|\bSecs?|\bvs|\bcf|\bresp|\bapprox|\bDr|\bw\.r\.t|\bNo|\bTab)\.$"
)


class Segment(NamedTuple):
    """A piece of the text.

    Attributes:
      start: offset of its first character.
      end: offset behind its last one.
      kind: "prose", "item" (of a list), "heading", "row" (of a table) or "setting" (key and value).
      heading: the heading that it stands under, lower case.
      lead: the lead-in of its list, "" elsewhere.
    """

    start: int
    end: int
    kind: str
    heading: str = ""
    lead: str = ""


class Line:
    """A piece of the text on one line, single-spaced, that knows where each character came from.

    Emphasis marks become blanks and sentences are broken over lines; patterns see neither.

    Example:
      >>> line = Line("we  use\\n  flow", 0, 14)
      >>> line.text, line.start(7), line.end(11), line.at(8)
      ('we use flow', 10, 14, 7)
    """

    def __init__(self, text: str, start: int, end: int):
        words = list(re.finditer(r"\S+", text[start:end]))
        self.source = text
        self.text = " ".join(word.group() for word in words)
        self._there = [start + word.start() for word in words] or [start]
        self._here, at = [], 0
        for word in words:
            self._here.append(at)
            at += len(word.group()) + 1
        self._here = self._here or [0]

    def start(self, offset: int) -> int:
        """Offset in the whole text of a character of this line."""
        index = max(0, bisect.bisect_right(self._here, offset) - 1)
        return self._there[index] + offset - self._here[index]

    def end(self, offset: int) -> int:
        """Offset in the whole text behind the character before `offset`."""
        return self.start(max(0, offset - 1)) + 1

    def at(self, offset: int) -> int:
        """Offset in this line of a character of the whole text."""
        index = max(0, bisect.bisect_right(self._there, offset) - 1)
        return self._here[index] + offset - self._there[index]


def segments(text: str) -> list[Segment]:
    """All pieces of a clean text, in order.

    Args:
      text: from `markup.clean`.

    Example:
      >>> text = "# Losses\\n\\nWe offer two. These are:\\n\\n- A\\n- B\\n\\nlr: 1e-4"
      >>> [(text[s.start : s.end], s.kind, s.lead) for s in segments(text)][2:4]
      [('These are:', 'prose', ''), ('- A', 'item', 'These are:')]
      >>> segments(text)[-1].kind
      'setting'
    """
    found: list[Segment] = []
    heading = lead = ""
    for start, end, kind in _blocks(text):
        body = text[start:end]
        if kind == "heading":
            heading = re.sub(r"[#\d.:\s]+", " ", body).strip().lower()
            found.append(Segment(start, end, kind, heading))
            lead = (
                body
                if re.search(r"options|choices|variants|supported|available|algorithms|losses", body, re.I)
                else ""
            )
            continue
        if kind in ("row", "setting"):
            found.append(Segment(start, end, kind, heading))
            continue
        for at, to, within in _sentences(text, start, end):
            item = kind == "item" or within
            found.append(Segment(at, to, "item" if item else "prose", heading, lead if item else ""))
            if text[at:to].rstrip().endswith(":"):
                lead = text[at:to].strip()
            elif not item:
                lead = ""
    return found


def _blocks(text: str):
    """(start, end, kind) of headings, rows, settings, items and paragraphs."""
    begun, kind, at = None, "prose", 0
    for line in text.splitlines(keepends=True):
        start, at = at, at + len(line)
        bare = line.strip()
        new = _kind_of(line, bare)
        # What is indented below an item, or wraps a sentence, goes on with it.
        goes_on = begun is not None and new == "prose"
        if begun is not None and not goes_on:
            yield begun[0], begun[1], kind
            begun = None
        if new == "blank":
            continue
        if new in ("heading", "row", "setting"):
            yield start + len(line) - len(line.lstrip()), start + len(line.rstrip()), new
        else:
            first = begun[0] if begun else start + len(line) - len(line.lstrip())
            kind = kind if begun else new
            begun = (first, start + len(line.rstrip()))
    if begun is not None:
        yield begun[0], begun[1], kind


def _kind_of(line: str, bare: str) -> str:
    if not bare or _RULE.match(bare) or _FENCE.match(line):
        return "blank"
    if _HEADING.match(line):
        # In code the same mark opens a comment, which is a sentence.
        return "item" if bare.endswith(".") or len(bare.split()) > 12 else "heading"
    if _NAMED.match(bare):
        return "heading"
    if _ROW.match(line):
        return "row"
    if (
        _SETTING.match(line)
        and len(re.split(r"\s#|//", bare)[0].split()) <= 7
        and not bare.endswith((".", ":"))
    ):
        return "setting"
    return "item" if _ITEM.match(line) else "prose"


def _sentences(text: str, start: int, end: int):
    """(start, end, whether it is an item of a list that stands within the line)."""
    at, within = start, False
    for stop in _STOP.finditer(text, start, end):
        if _ABBREVIATED.search(text, max(start, stop.start() - 8), stop.start()):
            continue
        if stop.start() <= at:
            continue
        yield at, stop.start(), within
        bullet = re.search(r"[*•]|\s-\s", stop.group())
        within = bool(bullet) or (within and not text[at : stop.start()].rstrip().endswith("."))
        at = stop.end()
    if at < end:
        yield at, end, within
