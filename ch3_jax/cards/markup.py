"""Takes the markup out of a text without moving a character.

Every tag, emphasis mark, link target, citation and bibliography is overwritten with as many blanks, so an
offset in the clean text is the same offset in the text that was given, and words can be quoted with their
true position.
"""

import bisect
import html
import re

_HTML = re.compile(r"<!DOCTYPE|<html|<body|<div|<p>|<p\s|<table|<h[1-6]|<br|<li>", re.I)
_DROPPED = re.compile(r"<!--.*?-->|<(script|style|svg|head)\b.*?</\1\s*>", re.I | re.S)
_TAG = re.compile(r"</?([a-zA-Z][a-zA-Z0-9]*)\b[^<>]*>")
_ENTITY = re.compile(r"&(?:[a-zA-Z]+\d*|#\d+|#x[0-9a-fA-F]+);")
_BLOCKS = {
    "p",
    "div",
    "li",
    "ul",
    "ol",
    "table",
    "tr",
    "section",
    "article",
    "br",
    "pre",
    "blockquote",
    "dt",
    "dd",
}
_LINK = re.compile(r"(!?\[)([^\[\]\n]*)(\]\([^()\s]*(?:\s+\"[^\"]*\")?\))")
_URL = re.compile(r"https?://[^\s)>\]]+")
_ROLE = re.compile(r":[a-z]+:(?=`)")
_CITED = (
    re.compile(
        r"\((?:[^()\n]{0,80}?\bet al\.?,?[^()\n]{0,80}?|"
        r"[A-Z][\w\-& ,.]{1,60}?,?\s*)\d{4}[a-z]?[^()\n]{0,80}\)"
    ),
    re.compile(r"\[[^\[\]\n]{0,60}\bet al\.?[^\[\]\n]{0,40}\]"),
    re.compile(r"\[\d+(?:\s*[,;–-]\s*\d+)*\]"),
    re.compile(r"\[@[\w:.\-; @]+\]|\\cite[tp]?\{[^}]*\}"),
)
_BIBTEX = re.compile(r"^@[a-zA-Z]+\s*\{.*?^\}", re.M | re.S)
_INLINE_BIBTEX = re.compile(r"^@[a-zA-Z]+\s*\{[^\n]*\}\s*$", re.M)
_END_MATTER = re.compile(
    r"^[ \t]*(?:#{1,6}[ \t]*|\d+\.?[ \t]+)?(?:References|Bibliography|BibTeX|REFERENCES|"
    r"Acknowledge?ments?|Citing[^\n]{0,30})"
    r"[ \t]*:?[ \t]*$",
    re.M,
)
_NEXT_PART = re.compile(
    r"^[ \t]*(?:#{1,6}[ \t]+\S|(?:Appendix|APPENDIX|Supplementary|Abstract|ABSTRACT)\b)", re.M
)


def blank(text: str, start: int, end: int, first: str = "") -> str:
    """`text` with [start, end) overwritten by blanks, line breaks kept, `first` at its beginning."""
    middle = re.sub(r"[^\n]", " ", text[start:end])
    return text[:start] + first + middle[len(first) :] + text[end:]


def _blank_all(pattern: re.Pattern, text: str, first=lambda match: "") -> str:
    def gap(match):
        start = first(match)
        return start + re.sub(r"[^\n]", " ", match.group())[len(start) :]

    return pattern.sub(gap, text)


def is_html(text: str) -> bool:
    """Whether the text is marked up as HTML, judged by its first thousand characters."""
    return (
        bool(re.search(r"<!DOCTYPE html|<html|<body", text[:1000], re.I))
        or len(_HTML.findall(text[:4000])) >= 3
    )


def clean(text: str) -> str:
    """The text without markup, character for character in the same place.

    Args:
      text: plain text, Markdown, reStructuredText or HTML.

    Returns:
      a string of the same length.

    Example:
      >>> clean("a **deep** net[^1] of [size](http://x.y)")
      'a   deep   net[^1] of  size             '
      >>> clean("<p>noise</p> & more")
      '\\n  noise\\n    & more'
    """
    text = text.replace("\r\n", " \n").replace("\r", "\n").replace("\t", " ").replace("\xa0", " ")
    if is_html(text) or _TAG.search(text):
        text = _blank_all(_DROPPED, text)
        text = _TAG.sub(_gap_of_tag, text)
        text = _ENTITY.sub(lambda m: (html.unescape(m.group())[:1] or " ").ljust(len(m.group())), text)
    text = _BIBTEX.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)
    text = _blank_all(_INLINE_BIBTEX, text)
    text = _blank_end_matter(text)
    for _ in range(2):  # A picture inside a link.
        text = _LINK.sub(
            lambda m: " " * len(m[1]) + (m[2] if m[1] == "[" else " " * len(m[2])) + " " * len(m[3]), text
        )
    text = _blank_all(_URL, text)
    text = _blank_all(_ROLE, text)
    for pattern in _CITED:
        text = _blank_all(pattern, text)
    text = re.sub(r"\$(?=\s*~?\d[\d.,]*\s*\$)|(?<=\d)\s?\$", lambda m: " " * len(m.group()), text)
    text = text.replace("**", "  ").replace("`", " ").replace("’", "'").replace("‐", "-").replace("‑", "-")
    text = re.sub(r"(?<![\w*\s])\*(?=\s)|(?<=\s)\*(?=\w)|(?<=\w)\*(?=[\s.,;:!?)])", " ", text)
    # "_so_", but not a key such as `_target_:`.
    return re.sub(r"(?<![^\s(])_([A-Za-z][^_\n]*?[\w.!?])_(?=[\s.,;!?)]|$)", r" \1 ", text)


def _gap_of_tag(match: re.Match) -> str:
    name, size = match[1].lower(), len(match.group())
    closing = match.group().startswith("</")
    if re.fullmatch(r"h[1-6]", name):
        first = "\n" if closing else "\n# "
    elif name in ("td", "th"):
        first = "" if closing else "| "
    elif name in _BLOCKS:
        first = "\n"
    else:
        first = ""
    return first.ljust(size)[:size]


def _blank_end_matter(text: str) -> str:
    """Bibliographies name other people's losses by the dozen."""
    at = 0
    while match := _END_MATTER.search(text, at):
        following = _NEXT_PART.search(text, match.end())
        end = following.start() if following else len(text)
        text = blank(text, match.start(), end)
        at = max(end, match.end())
    return text


class Lines:
    """Turns offsets into lines and columns.

    Example:
      >>> Lines("ab\\ncd").position(4)
      (2, 2)
    """

    def __init__(self, text: str):
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def position(self, offset: int) -> tuple[int, int]:
        """(line, column) of an offset, both from 1."""
        line = bisect.bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1
