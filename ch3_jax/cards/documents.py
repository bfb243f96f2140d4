"""Files of any kind -> text: plain text, Markdown, HTML, PDF, model cards, configurations.

What cannot be read is refused with a reason; it is never read as if it were empty. A file larger than `LIMIT`
is read up to there, and the note says so.
"""

import io
import re
from pathlib import Path
from typing import NamedTuple

from ch3_jax.errors import InputError

LIMIT = 500_000  # bytes of text, about 150 pages; what a paper says of its loss stands before that
PDF_LIMIT = 100_000_000
PDF_PAGES = 200
_FEWEST_LETTERS = 20


class Document(NamedTuple):
    """A text that can be read.

    Attributes:
      text: what was extracted; offsets of a reading count in it.
      kind: "text", "html", "pdf" or "settings".
      notes: what was left out.
    """

    text: str
    kind: str
    notes: tuple[str, ...] = ()


def load(path: str | Path) -> Document:
    """The text of a file.

    Args:
      path: of a file.

    Raises:
      InputError: no such file, a folder, empty, binary, or a PDF without text.
    """
    file = Path(path).expanduser()
    if file.is_dir() or not file.exists():
        raise InputError(
            f"{file} cannot be read",
            got="a folder" if file.is_dir() else "no such file",
            expected="a text, Markdown, HTML, PDF, YAML, JSON or Python file, or a card's name",
            cause="the path is mistyped, or a folder was given",
            fix="give one file, or - to read from the standard input",
        )
    try:
        with file.open("rb") as stream:
            head = stream.read(PDF_LIMIT if file.suffix.lower() == ".pdf" else LIMIT + 1)
            size = file.stat().st_size
    except OSError as error:
        raise InputError(
            f"{file} cannot be read",
            got=error.strerror or error,
            expected="a file that you may read",
            cause="missing rights, or no regular file",
            fix="give yourself the right to read it, or copy it",
        ) from error
    return decode(head, str(file), size)


def decode(data: bytes, name: str = "the text", size: int | None = None) -> Document:
    """The text of bytes.

    Args:
      data: at least the beginning of the file.
      name: for messages.
      size: of the whole file, bytes.

    Raises:
      InputError: empty, binary, or a PDF without text.

    Example:
      >>> decode(b"Trained with L1.").text
      'Trained with L1.'
      >>> decode(b"")
      Traceback (most recent call last):
      ...
      ch3_jax.errors.InputError: the text is empty...
    """
    if data[:5] == b"%PDF-" or b"%PDF-" in data[:1024]:
        return _pdf(data, name)
    size = len(data) if size is None else size
    notes = ()
    if size > LIMIT:
        data = data[:LIMIT]
        notes = (f"only the first {LIMIT / 1e6:g} MB of {size / 1e6:.1f} MB were read",)
    text = _text(data, name)
    if not text.strip():
        raise _empty(name, f"{size} bytes, no letters")
    kind = "html" if re.search(r"<html|<!doctype html", text[:2000], re.I) else "text"
    return Document(text, kind, notes)


def _text(data: bytes, name: str) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    if b"\x00" in data[:100_000]:
        raise _binary(name, "zero bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # A character cut in two at the limit, or another encoding.
        text = (
            data.decode("utf-8-sig", errors="ignore")
            if error.start > len(data) - 4
            else data.decode("latin-1")
        )
    strange = sum(not (c.isprintable() or c in "\n\r\t\f\v\xa0\xad\u200b\ufeff") for c in text[:20_000])
    if strange > 0.02 * min(len(text), 20_000):
        raise _binary(name, f"{strange} unprintable characters")
    return text


def _pdf(data: bytes, name: str) -> Document:
    import pypdf

    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise InputError(
                f"{name} is encrypted",
                got="a PDF that asks for a password",
                expected="a PDF that can be read",
                cause="its owner protects it",
                fix="save a copy without the password, or paste its text",
            )
        total = len(reader.pages)
        pages = [page.extract_text() or "" for page in reader.pages[:PDF_PAGES]]
    except InputError:
        raise
    except Exception as error:  # pypdf raises a dozen kinds for damaged files.
        raise InputError(
            f"{name} is a damaged PDF",
            got=f"{type(error).__name__}: {error}",
            expected="a PDF that a viewer opens",
            cause="an interrupted download",
            fix="download it again",
        ) from error
    # A word that is broken at the end of a line is one word; a compound keeps its hyphen.
    text = re.sub(r"(?<=[a-z]{3})-\n(?=[a-z]{2})", "", "\n\n".join(pages))
    letters = sum(c.isalpha() for c in text)
    if letters < _FEWEST_LETTERS * max(1, min(total, 5)):
        raise InputError(
            f"{name} holds no text",
            got=f"{total} pages with {letters} letters",
            expected="a PDF with a text layer",
            cause="scanned pages are pictures",
            fix="run it through text recognition (ocrmypdf in.pdf out.pdf), or paste the text",
        )
    notes = (f"only the first {PDF_PAGES} of {total} pages were read",) if total > PDF_PAGES else ()
    return Document(text, "pdf", notes)


def parts(text: str) -> list[tuple[int, str]]:
    """(offset, text) of each document in a text that holds several, by their abstracts or front matters.

    Example:
      >>> two = "A policy\\n\\nAbstract\\n\\nOne.\\n\\nAnother policy\\n\\nAbstract\\n\\nTwo.\\n"
      >>> [text.split()[0] for _, text in parts(two)]
      ['A', 'Another']
    """
    marks = [
        m.start()
        for m in re.finditer(r"(?im)^[ \t]*(?:#{1,3}[ \t]*)?(?:\d\.?[ \t]+)?abstract\b[ \t:.—-]*", text)
    ]
    if len(marks) < 2:
        marks = [
            m.start()
            for m in re.finditer(r"(?m)^---\n(?=(?:[\w-]+:.*\n|[ \t]*-.*\n|[ \t]+.*\n)+---\n)", text)
        ]
        starts = marks
    else:
        starts = [_title_before(text, mark) for mark in marks]
    if len(starts) < 2:
        return [(0, text)]
    starts[0] = 0
    ends = [*starts[1:], len(text)]
    return [(start, text[start:end]) for start, end in zip(starts, ends, strict=True)]


def _title_before(text: str, mark: int) -> int:
    """Where the title and the authors above an abstract begin: the block after the last long paragraph."""
    at = mark
    for match in reversed(list(re.finditer(r"\n[ \t]*\n", text[:mark]))):
        block = text[match.end() : at].strip()
        if len(block) > 400 or block.endswith((".", "!", "?")) or re.match(r"\[\d+\]", block):
            break
        at = match.end()
        if mark - at > 1500:
            break
    return at


def _empty(name: str, got: str) -> InputError:
    return InputError(
        f"{name} is empty",
        got=got,
        expected="text that says how a policy was trained",
        cause="a failed download or an empty pipe",
        fix="check the file; `-` reads the standard input",
    )


def _binary(name: str, got: str) -> InputError:
    return InputError(
        f"{name} is no text",
        got=got,
        expected="text, Markdown, HTML, PDF, YAML, JSON or Python",
        cause="weights, an archive or an image was given instead of its description",
        fix="give the README, the paper or the configuration that comes with it",
    )
