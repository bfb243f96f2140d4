"""Finds `key, value, description` in configuration lines, tables, JSON, Python and between the words of a
sentence.

One record for all of them, so that the meaning of a key is decided in one place (`keys`):

  chunk_size: int = 50  # actions per call        -> chunk_size, 50, "actions per call"
  | `policy.num_steps` | `10` | Euler steps |     -> policy.num_steps, 10, "Euler steps"
  {"model": {"horizon": 16}}                      -> model.horizon, 16, ""
  Set `n_bins` to 256.                            -> n_bins, 256, the sentence
"""

import re
from typing import NamedTuple

from ch3_jax.cards.segments import Segment

_NUMBER = (
    r"[-+]?(?:\d[\d,_]*\.?\d*|\.\d+)"
    r"(?:\s*(?:[x×*·]|\\times|\\cdot)\s*10\s*\^?\s*\{?\s*[-−–]?\s*\d+\s*\}?|[eE][-+−]?\d+|\s*[kKM]\b)?"
)
NUMBER = re.compile(_NUMBER)
_LINE = re.compile(
    r"""^\s*(?:-\s+)?(?:--?)?["']?(?P<key>[A-Za-z_][\w./\-]*)["']?\s*
    (?::\s*(?P<type>[A-Za-z_][\w.\[\], |"']*?)\s*=(?!=)|[:=](?!=)|\s(?=["'\d\-]))\s*
    (?P<value>"[^"]*"|'[^']*'|\[[^\]]*\]|\([^)]*\)|[^\s,;#]+(?:\s+[A-Za-z0-9]+)?)""",
    re.X,
)
_JSON = re.compile(r"""["'](?P<key>[A-Za-z_][\w.]*)["']\s*:\s*(?P<value>"[^"]*"|'[^']*'|[-+\w.]+)""")
_INLINE = re.compile(
    rf"""(?<![\w.])(?P<key>[A-Za-z]\w*(?:[._]\w+)+|[a-z]\w*_\w+|[a-z]+(?==))
    (?:\s*=\s*|\s+(?:to|of|is|at)\s+|\s*\((?:[^()]{{0,50}}?,)?\s*(?:the\s+)?default(?:s\s+to|\s+is)?\s*[:=]?\s*|\s+defaults\s+to\s+|\s*:\s*)
    (?P<value>{_NUMBER}|"[^"]*"|'[^']*'|True\b|False\b|true\b|false\b|None\b|[A-Za-z]\w*(?=[\s,.;)\]}}]|$))""",
    re.X,
)
_COMMAND = re.compile(r"(?<!\S)--?(?P<key>[A-Za-z][\w.\-]*)(?:=|\s+)(?P<value>[^\s\\-][^\s\\]*)")
_LABELLED = re.compile(
    r"(?:^|\s[-*•]\s+)(?:[-*•]\s+)?(?P<key>[A-Z][\w ]{1,30}?|[a-z]\w*_\w+)\s*:\s*"
    r"(?P<value>\d[\d.,eE+-]*|[A-Za-z][\w-]*(?=\s*(?:$|[-–;,.(])))"
)
_NAMED = re.compile(r"^(?:[-*+]\s+)?(?P<key>[a-z]\w*(?:\.\w+)*_\w+|[a-z]\w*(?:\.\w+)+)\s*:\s*\S")
_CHOSEN = re.compile(
    rf"\b(?:we|official\w*|by default|default(?:s|ing)?|it)\s+(?:\w+\s+){{0,3}}?(?:use[sd]?|set|is|"
    rf"to)\s+(?P<value>{_NUMBER})",
    re.I,
)
_PARENT = re.compile(
    r"""^(?P<indent>\s*)(?:-\s+)?["']?(?P<key>[A-Za-z_]\w*)["']?\s*(?:[:=]\s*(?:[\w.]*[\[{(])?|[\[{(])\s*$"""
)
_VALUE_HEAD = re.compile(r"\b(?:value|default|setting|ours|proposed|this)\b", re.I)
_KEY_HEAD = re.compile(r"param|hyper|name|key|flag|option|argument|field|config|setting", re.I)


class Pair(NamedTuple):
    """One setting.

    Attributes:
      key: as written, with the keys that it stands below, joined by dots.
      value: as written, without quotes.
      about: comment, description or sentence around it.
      start: offset of the key.
      end: offset behind the value.
      loose: True where it stands between the words of a sentence.
    """

    key: str
    value: str
    about: str
    start: int
    end: int
    loose: bool = False


def number(text: str) -> float | int | None:
    """The number that a value is, None if it is none.

    Example:
      >>> [number(t) for t in ("50", "1e-4", "2.5 x 10^-5", "1 \\\\times 10^{-4}", "20k", "5,000", "fast")]
      [50, 0.0001, 2.5e-05, 0.0001, 20000, 5000, None]
    """
    text = (
        text.strip()
        .strip("\"'$~")
        .replace("−", "-")
        .replace("–", "-")
        .replace("_", "")
        .replace("{", "")
        .replace("}", "")
    )
    power = re.fullmatch(r"([-+]?[\d.]+)\s*(?:[x×*·]|\\times|\\cdot)\s*10\s*\^?\s*([-+]?\s*\d+)", text)
    scale = {"k": 1e3, "K": 1e3, "M": 1e6}.get(text[-1:], 1)
    try:
        if power:
            value = float(f"{power[1]}e{power[2].replace(' ', '')}")
        else:
            value = float((text[:-1] if scale != 1 else text).replace(",", "")) * scale
    except ValueError:
        return None
    if value != value or value in (float("inf"), float("-inf")):
        return None
    return int(value) if value == int(value) and abs(value) < 1e15 and "e-" not in text.lower() else value


def pairs(text: str, parts: list[Segment]) -> list[Pair]:
    """Every setting in a clean text, in order.

    Args:
      text: from `markup.clean`.
      parts: from `segments.segments`.
    """
    found: list[Pair] = []
    above = _parents(text)
    header: list[str] = []
    last_row = -2
    named: tuple[str, Segment] | None = None
    for index, part in enumerate(parts):
        body = text[part.start : part.end]
        if part.kind == "row":
            if last_row != index - 1:
                header = []
            last_row = index
            cells = _cells(body)
            if not header:
                header = [cell.strip() for cell, _ in cells]
                if len(header) > 1 and (
                    _KEY_HEAD.search(header[0]) or any(_VALUE_HEAD.fullmatch(h) for h in header)
                ):
                    continue
                if number(header[1] if len(header) > 1 else "") is None:
                    header = header if not _is_key(header[0]) else ["", ""]
                else:
                    header = ["", ""]
            found.extend(_row(part, cells, header))
        elif part.kind == "setting":
            plain = list(_setting(part, body, above))
            taken = {pair.start for pair in plain}
            found.extend([*plain, *(pair for pair in _loose(part, body) if pair.start not in taken)])
        elif part.kind != "heading":
            found.extend(_loose(part, body))
            named = _named(part, body, named, found)
    return _unique([pair for pair in found if not _measured(text, pair.end)])


def _named(part: Segment, body: str, named, found: list[Pair]):
    """`key: what it is. We use 8.` - the value may stand in the sentence after the key's."""
    if match := _NAMED.match(body):
        named = (match["key"], part, body)
    if named and (chosen := _CHOSEN.search(body)):
        start = named[1].start if part.start - named[1].end < 3 or part is named[1] else None
        if start is not None:
            found.append(
                Pair(
                    named[0],
                    chosen["value"],
                    f"{named[2]} {body}",
                    part.start + chosen.start(),
                    part.start + chosen.end(),
                    True,
                )
            )
    return named if named and (part is named[1]) else None


def _is_key(cell: str) -> bool:
    return bool(re.fullmatch(r"\s*-{0,2}[\w.\-/]+\s*", cell)) and ("_" in cell or "." in cell)


def _cells(body: str) -> list[tuple[str, int]]:
    """(text, offset in the row) of each cell."""
    out, at = [], 0
    for piece in body.split("|"):
        if piece.strip() or (out and at):
            out.append((piece, at))
        at += len(piece) + 1
    while out and not out[-1][0].strip():
        out.pop()
    return out


def _row(part: Segment, cells: list[tuple[str, int]], header: list[str]):
    """The setting of a table row: the key's cell, the value's cell, the rest as its description."""
    if len(cells) < 2:
        return
    key, at = cells[0]
    column = next((i for i, head in enumerate(header[: len(cells)]) if i and _VALUE_HEAD.search(head)), None)
    if column is None:
        values = [i for i in range(1, len(cells)) if _looks_like_value(cells[i][0])]
        # Numbers in several columns belong to several systems, and nothing says which one is meant.
        if len({cells[i][0].strip() for i in values if number(cells[i][0]) is not None}) > 1:
            return
        column = values[0] if values else 1
    value, to = cells[column]
    about = " ".join(cell.strip() for i, (cell, _) in enumerate(cells) if i not in (0, column))
    yield Pair(
        key.strip(),
        value.strip().strip("\"'"),
        about,
        part.start + at + len(key) - len(key.lstrip()),
        part.start + to + len(value.rstrip()),
    )


def _looks_like_value(cell: str) -> bool:
    return number(cell) is not None or len(cell.split()) == 1


def _setting(part: Segment, body: str, above: dict[int, str]):
    match = _LINE.match(body)
    inner = list(_JSON.finditer(body))
    commands = list(_COMMAND.finditer(body))
    about = re.split(r"(?<!\S)#|//", body, maxsplit=1)[1].strip() if re.search(r"(?<!\S)#|//", body) else ""
    path = above.get(part.start, "")
    several = inner if len(inner) > 1 else commands if len(commands) > 1 else []
    for one in several or ([match] if match else []):
        yield Pair(
            f"{path}{one['key']}",
            one["value"].strip().strip("\"',"),
            about,
            part.start + one.start("key"),
            part.start + one.end("value"),
        )


def _loose(part: Segment, body: str):
    for pattern in (_JSON, _COMMAND, _INLINE, _LABELLED):
        for one in pattern.finditer(body):
            yield Pair(
                one["key"],
                one["value"].strip("\"'").rstrip(".,"),
                body,
                part.start + one.start("key"),
                part.start + one.end("value"),
                True,
            )


def _parents(text: str) -> dict[int, str]:
    """Offset of a line's first letter -> the keys that it stands below, each followed by a dot."""
    above, stack, at = {}, [], 0
    for line in text.splitlines(keepends=True):
        start, at = at, at + len(line)
        bare = line.strip()
        if not bare or bare[0] in "#}])":
            continue
        indent = len(line) - len(line.lstrip())
        while stack and stack[-1][0] >= indent:
            stack.pop()
        above[start + indent] = "".join(f"{key}." for _, key in stack)
        if match := _PARENT.match(line):
            stack.append((indent, match["key"]))
    return above


def _measured(text: str, end: int) -> bool:
    """Whether a unit follows: "30 Hz" is no count."""
    return bool(re.match(r"\s*(?:hz|fps|ms|s|sec\w*|%|[kmg]b|mm|cm|m|deg\w*)\b", text[end : end + 12], re.I))


def _unique(found: list[Pair]) -> list[Pair]:
    """Each place once; two patterns may find the same setting."""
    out: dict[int, Pair] = {}
    for pair in found:
        out.setdefault(pair.end, pair)
    return sorted(out.values(), key=lambda pair: pair.start)
