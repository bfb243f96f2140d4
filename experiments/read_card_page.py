"""The page and the JSON object of `read_card`: at most 80 columns, every value with its place."""

import textwrap
from typing import Any

from ch3_jax.cards.consequences import Consequences, Setup, consequences
from ch3_jax.cards.difference import NOT_STATED, difference
from ch3_jax.cards.reader import NAMES
from ch3_jax.cards.records import FORMS, OUTPUTS, Form, Found, Reading
from experiments.read_card_sources import Source, found_of, plain

WIDTH = 80
_LABELS = {
    "bins": "bins",
    "chunk": "chunk",
    "executed": "executed",
    "schedule": "noise schedule",
    "prediction": "predicts",
    "train_timesteps": "noise levels",
    "inference_steps": "sampling steps",
    "sampler": "sampler",
    "optimizer": "optimizer",
    "learning_rate": "rate",
    "lr_schedule": "rate schedule",
    "warmup_steps": "warm-up",
    "weight_decay": "weight decay",
    "batch_size": "batch",
    "steps": "steps",
    "epochs": "epochs",
    "clip_norm": "gradient clip",
    "dtype": "dtype",
    "gamma": "discount",
    "reward": "reward",
    "ema_decay": "EMA decay",
}
_FAMILY = {"supervised": "supervised", "reinforcement": "reinforcement", "self_supervised": "self-supervised"}


def page(source: Source, setup: Setup, other: Source | None) -> str:
    """What a person reads."""
    lines = [f"{source.name} ({source.kind})"]
    lines += [f"! {line}" for note in source.notes for line in _wrap(note, 2)]
    if source.card and other is None:
        lines += ["", *_card(source)]
    for index, reading in enumerate(source.readings):
        if len(source.readings) > 1:
            lines += ["", f"--- document {index + 1} of {len(source.readings)}"]
        lines += ["", *_reading(reading)]
        if other is None:
            lines += _follows(consequences(found_of(reading), setup))
    if source.card and other is None:
        lines += _follows(consequences(source.found, setup))
    if other is not None:
        lines += ["", *_difference(source, other)]
    return "\n".join(line.rstrip() for line in lines)


def as_json(source: Source, setup: Setup, other: Source | None) -> dict[str, Any]:
    """The same for a program; one document stands at the top, several under "documents"."""
    out: dict[str, Any] = {"source": source.name, "kind": source.kind, "notes": list(source.notes)}
    documents = [_document(reading, setup) for reading in source.readings]
    if len(documents) == 1:
        out |= documents[0]
    elif documents:
        out |= {"family": None, "reason": "several documents", "documents": documents}
    if source.card:
        out["facts"] = {name: fact._asdict() for name, fact in source.card.facts.items()}
        out["consequences"] = _consequences(consequences(source.found, setup))
    if other is not None:
        out["against"] = other.name
        out["difference"] = [row._asdict() for row in difference(source.found, other.found)]
    return out


def _document(reading: Reading, setup: Setup) -> dict[str, Any]:
    return {
        "labels": reading.labels(),
        "family": plain(reading.family),
        "reason": reading.reason,
        "forms": [
            {"value": f.value, "role": f.role, "of": f.of, "confidence": f.confidence, **f.evidence._asdict()}
            for f in reading.forms
        ],
        "output": plain(reading.output),
        "settings": {name: plain(reading.settings.get(name)) for name in NAMES},
        "set_aside": [
            {"value": s.value, "reason": s.reason, **s.evidence._asdict()} for s in reading.set_aside
        ],
        "reading_notes": list(reading.notes),
        "consequences": _consequences(consequences(found_of(reading), setup)),
    }


def _consequences(seen: Consequences) -> dict[str, Any]:
    return {
        "checks": [check._asdict() for check in seen.checks],
        "failures": list(seen.failures),
        "questions": [{**q._asdict(), "numbers": dict(q.numbers)} for q in seen.questions],
    }


def _reading(reading: Reading) -> list[str]:
    family = reading.family
    rows = [
        _row("family", None if family.value == "unknown" else family._replace(value=_FAMILY[family.value]))
    ]
    if family.value == "unknown":
        rows = [f"{'family':<15} unknown"]
    rows += _wrapped(f"  {reading.reason}", 4)
    main = [f for f in reading.forms if f.role == "main"]
    rows += [_row("loss", _as_found(form)) for form in main] or [_row("loss", None)]
    for form in reading.forms:
        if form.role != "main":
            rows.append(_row({"earlier_stage": "earlier stage"}.get(form.role, form.role), _as_found(form)))
    output = reading.output
    rows.append(
        _row("output", output._replace(value=OUTPUTS.get(output.value, output.value)) if output else None)
    )
    silent = []
    for name, label in _LABELS.items():
        found = reading.settings.get(name)
        if found is not None:
            rows.append(_row(label, found))
        else:
            silent.append(label)
    rows += _wrapped(f"{'not stated':<15} {', '.join(silent)}", 16)
    if reading.set_aside:
        rows += ["", "Named and not counted"]
        seen = dict.fromkeys(
            f"  {s.evidence.line}:{s.evidence.column} {FORMS.get(s.value, s.value)} - {s.reason}"
            for s in reading.set_aside
        )
        rows += [line for text in list(seen)[:8] for line in _wrapped(text, 6)]
    rows += [f"! {line}" for note in reading.notes for line in _wrap(note, 2)]
    return rows


def _as_found(form: Form) -> Found:
    words = FORMS[form.value] + (f" ({form.of})" if form.of else "")
    return Found(words, form.confidence, form.evidence)


def _row(label: str, found: Found | None) -> str:
    if found is None:
        return f"{label:<15} not stated"
    value = f"{found.value:g}" if isinstance(found.value, float) else str(found.value)
    place = f"{found.evidence.line}:{found.evidence.column}"
    words = found.evidence.words
    head = f"{label:<15} {value:<30} {found.confidence:.2f} {place:>6} "
    room = WIDTH - len(head) - 2
    if room < 12:
        room = WIDTH - 18
        head += "\n" + " " * 16
    return head + '"' + (words if len(words) <= room else words[: room - 3] + "...") + '"'


def _card(source: Source) -> list[str]:
    card = source.card
    lines = [
        *_wrap(
            f"{card.paper['title']} (arXiv {card.paper.get('arxiv', 'not stated')}); {card.repository}", 0
        ),
        "",
    ]
    for name, fact in card.facts.items():
        basis = "" if fact.basis == "code" else f" [{fact.basis.replace('_', ' ')}]"
        lines += _wrapped(f"{name:<20} {_say(fact.value):<18} {fact.source}{basis}", 40)
        if fact.paper:
            lines += _wrapped(
                f"{'':<20} paper: {_say(fact.paper[0])}; code: {_say(fact.value)}. {fact.paper[1]}", 21
            )
        if fact.note:
            lines += _wrapped(f"{'':<20} {fact.note}", 21)
    return lines


def _follows(seen: Consequences) -> list[str]:
    if not seen.checks:
        return ["", *_wrapped("What follows: nothing, as no loss is stated. Run all seven checks.", 2)]
    lines = ["", "Check first"]
    commands: dict[str, list[str]] = {}
    for check in seen.checks:
        commands.setdefault(check.command, []).append(check.name)
        lines += _wrapped(f"  {check.name}: {check.why}", 6)
    lines += [f"  $ {command}" for command in commands]
    lines += ["", "Expect"]
    lines += [line for failure in seen.failures for line in _wrapped(f"  - {failure}", 4)]
    lines += ["", "Ask"]
    for question in seen.questions:
        lines += _wrapped(f"  {question.question}", 4) + _wrapped(f"    {question.answer}", 4)
    return lines


def _difference(source: Source, other: Source) -> list[str]:
    rows = difference(source.found, other.found)
    lines = [
        f"{'':<18}{_cut(source.name, 17):<18}{_cut(other.name, 17):<18}likely effect in yours",
        "-" * WIDTH,
    ]
    for row in rows:
        effect = "same" if row.same else row.effect or "-"
        lines += _columns(row.name, _say(row.theirs), _say(row.yours), effect)
    stated = sum(row.theirs is not NOT_STATED and row.yours is not NOT_STATED for row in rows)
    same = sum(row.same for row in rows)
    lines += ["", f"{stated} stated by both: {same} the same, {stated - same} different"]
    return lines


def _columns(name: str, theirs: str, yours: str, effect: str) -> list[str]:
    cells = [
        textwrap.wrap(cell, width) or [""]
        for cell, width in ((name, 17), (theirs, 17), (yours, 17), (effect, 26))
    ]
    height = max(len(cell) for cell in cells)
    padded = [cell + [""] * (height - len(cell)) for cell in cells]
    return [f"{a:<18}{b:<18}{c:<18}{d}" for a, b, c, d in zip(*padded, strict=True)]


def _say(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return ", ".join(_say(v) for v in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else "..." + text[-(width - 3) :]


def _wrap(text: str, indent: int) -> list[str]:
    return textwrap.wrap(text, WIDTH - indent, break_long_words=True) or [""]


def _wrapped(text: str, hang: int) -> list[str]:
    lead = len(text) - len(text.lstrip())
    return textwrap.wrap(
        text.strip(), WIDTH, initial_indent=" " * lead, subsequent_indent=" " * hang, drop_whitespace=True
    )
