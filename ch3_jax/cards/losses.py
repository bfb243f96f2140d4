"""From the losses that a text mentions to the losses that it uses, and for what.

Every mention takes a status from its sentence (`scope`) and a role from what stands around it: the policy's
main loss, an auxiliary one, a component's (a reward model, a tokenizer), one of several options, an earlier
stage.
"""

import re
from typing import NamedTuple

from ch3_jax.cards import identifiers, scope
from ch3_jax.cards.roles import PLAIN_ERRORS, role_of
from ch3_jax.cards.segments import Line, Segment
from ch3_jax.cards.vocabulary import FAMILY_OF, Term, present

_CLAUSE = re.compile(
    r"[;:]\s|,\s+(?:and|but|while|whereas|which|so|where|then|we|followed by|with)\b|\s(?:but|"
    r"while|whereas|however|instead)\s|[()]|(?<=\w)\.\s"
)
_ITSELF = re.compile(
    r"(?:\bis an? (?:[\w-]+\s){0,5}?|\A\W*(?:(?:this|the|our|a|"
    r"an)\s)?(?:[\w-]+\s){0,3}?)(?P<part>reward model|tokeni[sz]er|dataset|data set|benchmark|"
    r"simulator|"
    r"success (?:classifier|detector)|video (?:model|generator))\b(?=\s(?:is an?|contains|provides|"
    r"consists|comprises|with|of)\b|[:.,;]|$)(?! (?:of|for) (?:training|polic))",
    re.I,
)
# An action may be an offset from the arm's pose as well; a loss has it only beside what it is an offset from.
_OF_A_BIN = re.compile(
    r"\b(?:bins?|clusters?|cent(?:er|re)s?|centroids?|codes?|codebook|modes?|class\w*|categor\w+|focal|loss\w*|"
    r"heads?|tokens?|discret\w+|residuals?|k-?means)\b|offset_loss",
    re.I,
)
_TRAINS = re.compile(
    r"\b(?:train\w*|minimi[sz]\w*|optimi[sz]\w*|loss(?:es)?|objectives?|supervis\w*|regress\w*|"
    r"learn\w*|fine-?tun\w*|pre-?train\w*|criterion|update)\b",
    re.I,
)
_MEASURES = re.compile(
    r"\b(?:evaluat\w*|metrics?|report\w*|measur\w*|track\w*|logg\w+|monitor\w*|benchmark\w*|"
    r"validation|held-out|test (?:set|error|split)|success rates?|"
    r"correlat\w*|early stopping|checkpoint selection|(?:is|are|was) computed (?:on|over)|scor(?:e|"
    r"es|ing)\b(?! match))\b",
    re.I,
)
_UNTRAINED = re.compile(
    r"\b(?:no (?:fine-?tuning|training|gradient)|training-free|zero-?shot|without (?:any "
    r")?(?:fine-?tuning|training)|is not trained|frozen)\b",
    re.I,
)
_LOOKED_AT = re.compile(
    r"\bfor (?:logging|monitoring|reporting|plotting|debugging|visuali[sz]\w+|diagnos\w+)\b|"
    r"\b(?:logged|tracked) (?:only|alone)\b|\b(?:only|just) (?:logged|tracked|monitored)\b",
    re.I,
)
_TRAINED_VAE = re.compile(
    r"\b(?:polic(?:y|ies)|actions?|actor|behaviou?r|trajector\w+|BC|train\w*|loss\w*|objective|learn\w*)\b",
    re.I,
)
_ELSEWHERE = re.compile(
    r"related work|baseline|comparison|prior work|evaluation|results|benchmark|ablation|acknowledg|"
    r"citation|limitations|future|see also|news|changelog",
    re.I,
)
_CITED = re.compile(r"\bcit(?:e|ation|ing)\b|acknowledg|licen[sc]e", re.I)
_TO_DO = re.compile(r"\s*(?:[-*+]\s*)?\[\s*\]\s")
_BACKGROUND = re.compile(r"background|preliminar|introduction|motivation", re.I)
_LONG = 1500
_OURS = re.compile(
    r"\b(?:we|our|ours|this (?:model|policy|method|work|checkpoint)|the (?:proposed|final|"
    r"resulting)|the (?:model|policy|network|"
    r"action expert|action head|training objective|loss)(?= (?:is|are|was|uses|minimi|predict|"
    r"learn|consists)))\b",
    re.I,
)
_OWN = re.compile(r"\b(?:we|our|ours)\b", re.I)
# Names of algorithms are written small in configurations.
_ALGORITHM = re.compile(
    r"\b\w*(?:algo|algorithm|agent|method|objective|loss|loss_type)\s*(?::\s*str\s*=|[:=\s])\s*[\"']?"
    r"([a-z0-9_+\-]+)",
    re.I,
)
# `loss = "ce"  # one of "ce", "mse"`: the value is chosen, the comment lists what else there is.
_ALTERNATIVES = re.compile(r"#[^\n]*?(?:\b(?:one of|or|options?|choices?|choose|alternatives?)\b|\|)", re.I)
_PICK = re.compile(
    r"\b(?:choose|either|one of|any of|select (?:one|from|between)|pick one)\b|"
    r"\bsupports?\b(?=[^.;]*,[^.;]*\b(?:and|or)\b)",
    re.I,
)


class Mention(NamedTuple):
    """Words that name a loss or a family.

    Attributes:
      term: the row of the vocabulary.
      status: "asserted", "negated", "other", "compared", "perhaps", "option", "metric".
      because: the trigger of that status.
      role: as in `records.ROLES`.
      of: the part, "" for the policy.
      weight: of the term, lowered for what is only implied.
      start: offset in the text.
      end: offset behind it.
      sentence: index of its segment.
    """

    term: Term
    status: str
    because: str
    role: str
    of: str
    weight: float
    start: int
    end: int
    sentence: int


def mentions(text: str, parts: list[Segment]) -> list[Mention]:
    """Every mention of a loss in a clean text, with status and role."""
    out: list[Mention] = []
    name = own_name(text)
    itself = _ITSELF.search(text[:800])
    for index, part in enumerate(parts):
        line = Line(text, part.start, part.end)
        if not (part.kind == "heading" and _ELSEWHERE.search(line.text)):
            found = list(_in_sentence(line, part, index, name))
            if found and identifiers.is_unused(line.text, text):
                found = [m._replace(status="metric", because="not in the loss") for m in found]
            found = [
                m._replace(status="other", because="an import") if identifiers.is_import(text, m.start) else m
                for m in found
            ]
            out.extend(_of_itself(found, line.text, itself))
    return _own_first(out, text, parts, name) if len(text) > _LONG else out


def _own_first(found: list[Mention], text: str, parts: list[Segment], name: str) -> list[Mention]:
    """In a long text that names losses of several families, those that it says of its own system.

    A paper speaks of everybody's losses before it comes to its own: "we train", "our policy", its name.
    """
    main = [m for m in found if m.status == "asserted" and m.role == "main" and m.term.form]
    if len({m.term.family for m in main}) < 2:
        return found

    def own(mention: Mention) -> bool:
        part = parts[mention.sentence]
        said = text[part.start : part.end]
        return part.kind == "setting" or bool(_OURS.search(said)) or (len(name) > 2 and name in said)

    kept = {m.term.form for m in main if own(m)}
    if not kept:
        return found
    return [
        m._replace(status="other", because="not said of the text's own system")
        if m.status == "asserted"
        and m.role == "main"
        and (m.term.form or not own(m))
        and m.term.form not in kept
        else m
        for m in found
    ]


def is_elsewhere(part: Segment) -> bool:
    """Whether a segment stands under a heading that is about others: related work, baselines, results."""
    return bool(_ELSEWHERE.search(part.heading))


def is_own(sentence: str) -> bool:
    """Whether a sentence says "we" or "our"."""
    return bool(_OWN.search(sentence))


def _of_itself(found, body: str, itself):
    """Where the text is about a reward model or a data set, so are its losses, unless it names a policy."""
    for mention in found:
        if (
            itself
            and mention.status == "asserted"
            and mention.role == "main"
            and mention.term.form
            and FAMILY_OF[mention.term.form] != "reinforcement"
            and not re.search(r"\b(?:polic(?:y|ies)|actor|agent)\b", body, re.I)
        ):
            mention = mention._replace(role="component", of=itself["part"].lower())
        elif (
            itself
            and mention.status == "asserted"
            and not mention.term.form
            and re.search(r"data|benchmark|simulator", itself["part"], re.I)
        ):
            mention = mention._replace(status="other", because=f"about a {itself['part'].lower()}")
        yield mention


def own_name(text: str) -> str:
    """What the text calls its own system: the subject of its first definition, or its title's first word.

    Example:
      >>> own_name("# Zorbo: a robot policy\\n\\nIt moves."), own_name("We present Arm-X, a policy.")
      ('Zorbo', 'Arm-X')
    """
    head = text[:3000]
    for pattern in (
        r"\b(?:[Ww]e|[Tt]his paper|[Tt]his work)\s+(?:introduces?|presents?|proposes?|describes?|"
        r"releases?)\s+(?:the\s+)?([A-Z][\w\-+.π]*\w)",
        r"(?m)^\s*#{1,2}\s+([A-Z][\w\-+.π]*\w)",
        r"(?m)^\s*(?:\*\s*)?([A-Z][\w\-+.π]*\w)(?:\s+\([A-Za-z ]+\))?\s+is\s+(?:an?|the|trained|based)\b",
    ):
        if match := re.search(pattern, head):
            return match[1]
    return ""


def _in_sentence(line: Line, part: Segment, index: int, name: str):
    """The mentions of one segment; where two overlap, the longer one stands."""
    body = line.text
    hits = _hits(body, part)
    hits = [h for h in hits if not any(_covers(o, h) for o in hits if o is not h)]
    listed = _ALTERNATIVES.search(body) if part.kind == "setting" else None
    if listed and any(h[0] < listed.start() for h in hits):
        hits = [h for h in hits if h[0] < listed.start()]
        body = body[: listed.start()]
    if not hits:
        return
    found = scope.scopes(body)
    cuts = [0, *(m.start() + 1 for m in _CLAUSE.finditer(body)), len(body)]
    options = _options(body, part, hits)
    spelt = (0, "asserted", "")
    for start, end, term in sorted(hits, key=lambda h: (h[0], -h[1])):
        begin = max(cut for cut in cuts if cut <= start)
        clause = body[begin : min(cut for cut in cuts if cut > start)]
        if part.kind in ("setting", "row"):
            begin, clause = 0, body
        state, because = scope.status(found, start, end)
        state, because = _status(state, because, clause, body, part, term, start, name)
        if body[spelt[0] : start].strip() == "(" and body[end : end + 1] == ")":
            state, because = spelt[1:]  # "not reinforcement learning (RL)": the short name of the same.
        spelt = (end, state, because)
        if options and state == "asserted":
            # One known alternative of several is a possibility; several are a list.
            state, because = ("perhaps", options[1:]) if options[0] == "?" else ("option", options)
        role, of = role_of(body, clause, start - begin, part, term)
        weight = term.weight * (0.6 if _BACKGROUND.search(part.heading) else 1.0)
        yield Mention(term, state, because, role, of, weight, line.start(start), line.end(end), index)


def _hits(body: str, part: Segment):
    """(start, end, term) of all words that name a loss, as written and as the names of code say them."""

    def found(words):
        return [(m.start(), m.end(), term) for term in present(words) for m in term.pattern.finditer(words)]

    plain = identifiers.without_paths(body)
    hits = [h for h in found(plain) if h[2].form != "offset" or _OF_A_BIN.search(plain)]
    if part.kind in ("setting", "row") and "_" in plain:
        hits += found(plain.replace("_", " "))
    if part.kind == "setting" and (named := _ALGORITHM.search(plain)):
        hits += found(plain[: named.start(1)] + named[1].upper() + plain[named.end(1) :])
    if part.kind == "setting" or plain.startswith("class "):
        for start, end, words in identifiers.class_names(plain):
            if not any(start <= s < end for s, _, _ in hits):
                hits += [(start, end, term) for _, _, term in found(words)]
    return hits


def _covers(other, one) -> bool:
    """Whether `other` is the longer reading of the same words."""
    (a, b, first), (c, d, second) = other, one
    if not (a <= c and d <= b):
        return False
    if (a, b) != (c, d):
        # A family word inside a form's words adds nothing; two forms may share words.
        if first.form == second.form:
            return first.weight >= second.weight
        return not second.form or (b - a) > (d - c)
    return first.weight > second.weight


def _status(state, because, clause, body, part, term, start, name):
    if part.kind in ("row", "setting"):
        if identifiers.is_off(body):
            return "negated", "switched off"
        if identifiers.is_conditional(body):
            return "perhaps", "under a condition"
    if state == "asserted" and _TO_DO.match(body):
        return "perhaps", "not done yet"
    if state == "asserted" and (_CITED.search(part.heading) or _CITED.search(body)):
        return "other", "a citation"
    if state == "asserted" and is_elsewhere(part) and not is_own(body):
        return "other", f"under the heading {part.heading!r}"
    if state == "asserted" and (whose := _other_subject(body, start, name)):
        return "other", f"said of {whose}"
    if (
        state == "asserted"
        and term.form in PLAIN_ERRORS
        and not _TRAINS.search(clause)
        and _MEASURES.search(body)
    ):
        return "metric", _MEASURES.search(body).group()
    if term.form == "cvae" and body[start : start + 3] == "VAE" and not _TRAINED_VAE.search(body):
        return "other", "an autoencoder of images"
    if state == "asserted" and term.form in PLAIN_ERRORS and (looked := _LOOKED_AT.search(body)):
        return "metric", looked.group()
    if term.form == "nll" and _UNTRAINED.search(body):
        return "metric", _UNTRAINED.search(body).group()
    return state, because


def _other_subject(body: str, start: int, name: str) -> str:
    """A capitalised subject that is not the text's own system, in a text that says "we" or has a name."""
    if not name:
        return ""
    subject = re.match(
        r"\s*(?:[-*•]\s+)?([A-Z][\w\-+.π]*[\w])\s+(?:\w+ly\s+)?(?:uses?|trains?|predicts?|learns?|"
        r"regress\w*|discreti[sz]es|minimi[sz]es?|optimi[sz]es?|employs?|adopts?|relies|is trained|was "
        r"trained|denoises|generates)\b",
        body,
    )
    if not subject or subject.start(1) > start:
        return ""
    who = subject[1]
    same = who.lower() in name.lower() or name.lower() in who.lower()
    generic = re.fullmatch(
        r"(?:The|This|It|Our|We|Training|Each|Here|Both|Policy|Model|Action|Actions|Inference|Stage)\w*", who
    )
    return "" if same or generic or not re.search(r"[A-Z].*[A-Z0-9]|\d", who) else who


def _options(body: str, part: Segment, hits) -> str:
    """The words that make this segment's losses a list to choose from, "" if they are used."""
    forms = sorted({(s, e, t.form or t.family) for s, e, t in hits})
    distinct = {form for _, _, form in forms}
    if (
        part.lead
        and scope.offers_choice(part.lead)
        and not re.search(
            r"\b(?:stages?|steps|phases|terms|components|sum|weighted|combin\w+|parts)\b", part.lead, re.I
        )
    ):
        return scope.offers_choice(part.lead)
    if len(distinct) < 2:
        pick = _PICK.search(body)
        named = any(t.form for _, _, t in hits)
        return f"?{pick.group()}" if pick and named and pick.start() < forms[0][0] else ""
    for (_, end, form), (start, _, after) in zip(forms, forms[1:], strict=False):
        if (
            form != after
            and re.fullmatch(r"[^.;]{0,40}?(?:\bor\b|/)[^.;,]{0,25}", body[end:start])
            and "and/or" not in body
        ):
            return "or"
    if scope.explains_choices(body):
        return scope.offers_choice(body)
    choice = scope.offers_choice(body)
    if choice and not re.search(r"\b(?:sum|total|combin\w+|weighted|joint\w*|plus)\b|\+", body):
        first = body.lower().find(choice.lower())
        return choice if first < forms[0][0] else ""
    return ""
