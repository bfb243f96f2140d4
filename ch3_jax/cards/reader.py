"""Reads what a text commits itself to: family, loss, output, numbers, each with the words that say it.

  text -> clean text (markup) -> sentences, rows, settings (segments)
       -> mentions with status and role (losses, scope) -> family and forms (decide)
       -> numbers (pairs, keys, phrases)

Nothing is remembered about any system, and nothing is guessed: what no words say is not stated.
"""

import re

from ch3_jax.cards import decide, identifiers, keys, losses, markup, pairs, phrases, scope
from ch3_jax.cards.language import looks_english
from ch3_jax.cards.number_rules import NUMERALS
from ch3_jax.cards.records import Evidence, Form, Found, Reading, SetAside
from ch3_jax.cards.segments import Line, Segment, segments

NAMES = (
    *(
        "bins",
        "chunk",
        "executed",
        "observations",
        "schedule",
        "train_timesteps",
        "prediction",
        "sampler",
        "inference_steps",
    ),
    *(
        "optimizer",
        "learning_rate",
        "end_learning_rate",
        "lr_schedule",
        "warmup_steps",
        "warmup_ratio",
        "decay_steps",
    ),
    *(
        "weight_decay",
        "b1",
        "b2",
        "batch_size",
        "accumulate",
        "steps",
        "epochs",
        "clip_norm",
        "dtype",
        "ema_decay",
    ),
    *("lora_rank", "gamma", "reward", "control_hz", "action_dims"),
)
_QUOTE = 160
_WORTH = re.compile(r"\d|schedul|adam|sgd|precision|constant|reward|" + "|".join(NUMERALS), re.I)
_TOKENS = re.compile(
    r"\b(?:action|discrete|FAST)[-\s]tokens?\b|\b(?:discreti[sz]|tokeni[sz])\w*|"
    r"\bautoregressive\w*|\bnext[-\s]token\b|\bas (?:discrete )?tokens\b|\baction token\w*",
    re.I,
)
_LATENT = re.compile(r"\blatent (?:actions?|codes?|space|vectors?|tokens?)\b|\bcodebook\b", re.I)
_CHUNK = re.compile(
    r"\baction[-\s](?:chunk\w*|sequences?|horizon)\b|\bchunk(?:s|ing|_size)?\b|\b(?:future|next "
    r"\w+) actions\b|\bn_action_steps\b",
    re.I,
)
_CONTINUOUS = re.compile(
    r"\bcontinuous (?:actions?|control|joint|end-effector|training target)\b|(?:^|"
    r"\W)continuous(?:\W|$)|\bregress\w*\b|\ba_t - \\pi",
    re.I,
)
_DENOISED = (
    "flow_matching",
    "epsilon_mse",
    "x0_mse",
    "v_mse",
    "diffusion_unspecified",
    "score_matching",
    "consistency",
)


def read(text: str) -> Reading:
    """What `text` says about how a policy is trained and what it puts out.

    Args:
      text: plain text, Markdown, HTML, a model card or a configuration, at most a few megabytes.

    Returns:
      a `Reading`; family "unknown" with the reason where the text does not decide it.

    Raises:
      TypeError: `text` is no string.

    Example:
      >>> found = read(
      ...     "Unlike Zorbo, which uses tokens, our policy is trained with an L1 loss on 8-step chunks."
      ... )
      >>> found.family.value, found.forms_as("main"), found.settings["chunk"].value
      ('supervised', ('l1',), 8)
      >>> found.forms[0].evidence.words, found.forms[0].evidence.column
      ('L1 loss', 64)
      >>> read("The robot has seven joints.").family.value
      'unknown'
    """
    if not isinstance(text, str):
        raise TypeError(f"read takes a string, got {type(text).__name__}; use documents.load for a file")
    clean = markup.clean(text)
    parts = segments(clean)
    lines = markup.Lines(text)

    def evidence(start: int, end: int) -> Evidence:
        words = " ".join(text[start:end].split())
        return Evidence(
            words if len(words) <= _QUOTE else words[: _QUOTE - 4] + " ...",
            start,
            end,
            *lines.position(start),
        )

    notes: tuple[str, ...] = ()
    if not looks_english(clean):
        # Keys of a configuration mean the same in every language; sentences do not.
        parts = [part for part in parts if part.kind in ("setting", "row")]
        notes = ("the sentences are not in English and were not read; settings were",)
    found = losses.mentions(clean, parts)
    decision = decide.decide(found)
    settings = _settings(clean, parts, evidence)
    forms = tuple(
        Form(form, role, round(weight, 2), evidence(mention.start, mention.end), of)
        for form, role, weight, mention, of in decision.forms
    )
    forms, settings = _predicted(forms, settings)
    where = (
        evidence(decision.mention.start, decision.mention.end)
        if decision.mention
        else Evidence("", 0, 0, 1, 1)
    )
    family = Found(decision.family, round(decision.confidence, 2), where)
    aside = tuple(
        SetAside(m.term.form or m.term.family, f"{m.status}: {m.because}", evidence(m.start, m.end))
        for m in found
        if m.status in ("negated", "other", "compared", "perhaps", "metric")
    )
    output = _output(clean, parts, decision, settings, evidence)
    reason = (
        decision.reason
        if not (notes and decision.family == "unknown")
        else f"{notes[0]}; no loss in the settings"
    )
    return Reading(family, reason, forms, output, settings, aside, notes)


def _settings(clean: str, parts: list[Segment], evidence) -> dict[str, Found]:
    """The plainest statement of each number; keys before sentences, nothing where two disagree."""
    candidates: dict[str, list[Found]] = {}
    for pair in pairs.pairs(clean, parts):
        part = _part_at(parts, pair.start)
        if part is None or (meant := keys.meaning(pair)) is None:
            continue
        line = Line(clean, part.start, part.end)
        state, why = scope.status(scope.scopes(line.text), line.at(pair.start), line.at(pair.end - 1) + 1)
        others = state in ("negated", "other", "compared") or why.lower().startswith("if ")
        if pair.loose and (others or scope.explains_choices(line.text)):
            continue
        candidates.setdefault(meant[0], []).append(
            Found(meant[1], 0.9 if pair.loose else 0.95, evidence(pair.start, pair.end))
        )
    for part in parts:
        if part.kind != "heading" and (
            part.kind != "row" or clean[part.start : part.end].strip("| ").count("|") == 1
        ):
            for name, found in _stated(Line(clean, part.start, part.end), part, evidence):
                candidates.setdefault(name, []).append(found)
    return {name: chosen for name in NAMES if (chosen := _agreed(candidates.get(name, [])))}


def _stated(line: Line, part: Segment, evidence):
    """(name, value) of the numbers that a sentence states of its own system."""
    if not _WORTH.search(line.text) or (losses.is_elsewhere(part) and not losses.is_own(line.text)):
        return
    scopes = None
    for said in phrases.said(line.text):
        scopes = scope.scopes(line.text) if scopes is None else scopes
        state, _ = scope.status(scopes, said.start, said.end)
        if state == "asserted" and not identifiers.is_import(line.source, line.start(said.start)):
            yield (
                said.name,
                Found(said.value, said.confidence, evidence(line.start(said.start), line.end(said.end))),
            )


def _agreed(found: list[Found]) -> Found | None:
    """The first of the surest; None where equally sure statements disagree."""
    if not found:
        return None
    best = max(f.confidence for f in found)
    top = [f for f in found if f.confidence >= best - 0.051]
    values = {f.value for f in top}
    if len(values) > 1:
        exact = [f for f in top if f.confidence == best]
        if len({f.value for f in exact}) > 1:
            return None
        return exact[0]._replace(confidence=0.6)
    return top[0]


def _part_at(parts: list[Segment], offset: int) -> Segment | None:
    low, high = 0, len(parts)
    while low < high:
        middle = (low + high) // 2
        if parts[middle].end <= offset:
            low = middle + 1
        else:
            high = middle
    return parts[low] if low < len(parts) and parts[low].start <= offset else None


def _predicted(forms, settings):
    """A stated prediction type says which error a diffusion loss is."""
    kind = settings.get("prediction")
    exact = {"epsilon": "epsilon_mse", "sample": "x0_mse", "v": "v_mse", "velocity": "flow_matching"}.get(
        kind.value if kind else ""
    )
    if exact and any(f.value == "diffusion_unspecified" and f.role == "main" for f in forms):
        there = any(f.value == exact and f.role == "main" for f in forms)
        forms = tuple(
            f._replace(value=exact, evidence=kind.evidence)
            if f.value == "diffusion_unspecified" and f.role == "main"
            else f
            for f in forms
            if not (there and f.value == "diffusion_unspecified" and f.role == "main")
        )
    if not kind:
        told = next(
            (
                f
                for f in forms
                if f.role == "main" and f.value in ("epsilon_mse", "x0_mse", "v_mse", "flow_matching")
            ),
            None,
        )
        if told:
            word = {"epsilon_mse": "epsilon", "x0_mse": "sample", "v_mse": "v", "flow_matching": "velocity"}[
                told.value
            ]
            settings = {**settings, "prediction": Found(word, round(0.9 * told.confidence, 2), told.evidence)}
    return forms, settings


def _output(clean: str, parts: list[Segment], decision, settings, evidence) -> Found | None:
    """How actions leave the network, from the forms and the words for it."""
    main = {form for form, role, *_ in decision.forms if role == "main"}
    first = {}
    for name, pattern in (
        ("tokens", _TOKENS),
        ("latent", _LATENT),
        ("chunk", _CHUNK),
        ("continuous", _CONTINUOUS),
    ):
        first[name] = _first_asserted(pattern, clean, parts)

    def said(value: str, word: str, sure: float) -> Found:
        where = first[word]
        return Found(value, sure, evidence(*where))

    denoised = next(
        (m for form, role, _, m, _ in decision.forms if role == "main" and form in _DENOISED), None
    )
    chunk = settings.get("chunk")
    if denoised:
        chunked = first["chunk"] or (chunk and (chunk.evidence.start, chunk.evidence.end))
        where = evidence(*chunked) if chunked else evidence(denoised.start, denoised.end)
        return Found("denoised_chunk" if chunked else "denoised", 0.8, where)
    if main & {"focal", "offset"} and "offset" in main | {f for f, *_ in decision.forms}:
        where = next(m for form, _, _, m, _ in decision.forms if form == "offset")
        return Found("tokens+offset", 0.8, evidence(where.start, where.end))
    if first["tokens"] or "bins" in settings:
        return (
            said("tokens", "tokens", 0.8)
            if first["tokens"]
            else settings["bins"]._replace(value="tokens", confidence=0.7)
        )
    if first["latent"]:
        return said("latent", "latent", 0.6)
    if chunk or (first["chunk"] and not main & {"cross_entropy"}):
        return chunk._replace(value="chunk", confidence=0.8) if chunk else said("chunk", "chunk", 0.7)
    if first["continuous"]:
        return said("continuous", "continuous", 0.7)
    regressed = next(
        (m for form, role, _, m, _ in decision.forms if role == "main" and form in ("mse", "l1", "huber")),
        None,
    )
    return Found("continuous", 0.6, evidence(regressed.start, regressed.end)) if regressed else None


def _first_asserted(pattern: re.Pattern, clean: str, parts: list[Segment]):
    for match in pattern.finditer(clean):
        part = _part_at(parts, match.start())
        if part is None or part.kind == "heading":
            continue
        state, _ = scope.status(
            scope.scopes(clean[part.start : part.end]), match.start() - part.start, match.end() - part.start
        )
        if state == "asserted":
            return match.start(), match.end()
    return None
