"""Files of every kind, and those that cannot be read."""

import io

import pypdf
import pytest

from ch3_jax.cards import documents
from ch3_jax.errors import InputError


def pdf(*lines: str) -> bytes:
    """A PDF of one page with one line of text per argument, written by hand."""
    words = (
        b"BT /F1 12 Tf 72 720 Td " + b"".join(b"(%s) Tj 0 -14 Td " % line.encode() for line in lines) + b"ET"
    )
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(words), words),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    trailer = b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % len(out)
    return out + b"xref\n0 6\n0000000000 65535 f \n" + table + trailer


def written(writer: pypdf.PdfWriter) -> bytes:
    stream = io.BytesIO()
    writer.write(stream)
    return stream.getvalue()


def test_pdf_is_text_and_broken_words_are_joined():
    document = documents.decode(
        pdf("The policy is trained with flow", "matching and the actions are discre-", "tized.")
    )
    assert document.kind == "pdf"
    assert "flow\nmatching" in document.text
    assert "discretized" in document.text


def test_a_scanned_pdf_is_refused():
    writer = pypdf.PdfWriter()
    writer.add_blank_page(200, 200)
    with pytest.raises(InputError, match="holds no text"):
        documents.decode(written(writer), "scan.pdf")


def test_an_encrypted_pdf_is_refused():
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf("Trained with cross-entropy on action tokens.")))
    writer.encrypt("secret", algorithm="RC4-128")
    with pytest.raises(InputError, match="encrypted"):
        documents.decode(written(writer), "locked.pdf")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"  \n\t\n", "is empty"),
        (b"\x7fELF\x00\x00\x01", "is no text"),
        (bytes(range(1, 32)) * 20, "is no text"),
        (b"%PDF-1.7 garbage", "damaged PDF"),
    ],
)
def test_what_cannot_be_read_is_refused(data, words):
    with pytest.raises(InputError, match=words) as caught:
        documents.decode(data, "the file")
    assert "next step" in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_encodings(encoding):
    assert documents.decode("naïve training".encode(encoding)).text == "naïve training"


def test_a_huge_file_is_read_in_part_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "LIMIT", 1000)
    path = tmp_path / "big.txt"
    path.write_text("Trained with an L1 loss. " * 1000)
    document = documents.load(path)
    assert len(document.text) == 1000
    assert "only the first" in document.notes[0]


def test_a_character_cut_at_the_limit_is_no_other_encoding(monkeypatch):
    monkeypatch.setattr(documents, "LIMIT", 11)
    assert documents.decode("0123456789é and more".encode()).text == "0123456789"


def test_missing_and_folder(tmp_path):
    for path in (tmp_path / "nothing.md", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            documents.load(path)


def test_three_papers_in_one_file():
    paper = "{title}\n\nA. Author\n\nAbstract\n\n{body}\n\nReferences\n\n[1] B. Other. A paper, 2020.\n\n"
    text = "".join(
        paper.format(title=title, body=body)
        for title, body in (
            ("Kestrel", "We train with an L1 loss."),
            ("Tern", "We train with flow matching."),
            ("Plover", "We train with PPO."),
        )
    )
    parts = documents.parts(text)
    assert len(parts) == 3
    assert [part.split()[0] for _, part in parts] == ["Kestrel", "Tern", "Plover"]
    assert "".join(part for _, part in parts) == text


def test_one_paper_is_one_part():
    assert documents.parts("Title\n\nAbstract\n\nText.") == [(0, "Title\n\nAbstract\n\nText.")]
