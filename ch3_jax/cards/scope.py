"""Which part of a sentence is denied, somebody else's, an option or a number in a report.

A loss that is named is not a loss that is used: "unlike A, which predicts tokens, we regress". As in NegEx,
words that turn a statement around (triggers) open a scope, other words close it, and what lies inside takes
the status:

  negated    "does not use X", "without X", "X is dropped", "replace X with ..."
  other      "prior work uses X", "the baseline is trained with X", "while X is common, we ..."
  compared   "compared to X", "better than X", "similar to X"
  perhaps    "could use X", "optionally X", "X may be omitted"

References:
  Chapman et al., A simple algorithm for identifying negated findings and diseases (2001): NegEx.
  Harkema et al., ConText (2009): the same for who, when and whether.
"""

import functools
import re
from typing import NamedTuple


class Scope(NamedTuple):
    """[start, end) of a sentence has this status, because of these words."""

    start: int
    end: int
    status: str
    because: str


_NOT_NEGATED = re.compile(
    r"\bnot (?:only|just|merely|simply|solely|limited|necessarily|surprising\w*)\b|\bno (?:less|"
    r"more|fewer|matter|doubt)\b"
    r"|\bwithout (?:loss of generality|further|any doubt)\b|\bcannot but\b",
    re.I,
)
_DENIES = re.compile(
    r"\b(?:not|never|cannot|neither|nor|no longer|no|do(?:es)?n't|did ?n't|is ?n't|are ?n't|was "
    r"?n't|were ?n't|wo ?n't|ca ?n't|need ?n't|"
    r"avoid(?:s|ed|ing)?|eliminat\w+|remov(?:e|es|ed|ing)|drop(?:s|ped|ping)?|discard\w*|omit\w*|"
    r"skip(?:s|ped|ping)?|disabl\w+|"
    r"forgo\w*|circumvent\w*|bypass\w*|sidestep\w*|abandon\w*|lacks?|dispens\w+ with|do(?:es)? "
    r"away with|gets? rid of)\b",
    re.I,
)
_CLAUSE_END = re.compile(
    r"[;.!?:](?=\s|$)|\s[–—-]{1,3}\s|[()]|,\s+(?:but|and (?:we|it|instead|then|uses?|is|are)|we|it|"
    r"instead|so|while|rather|thus|only|just)\b"
    r"|\b(?:but|however|instead|because|since|although|rather than)\b"
    r"|\band (?:(?:we|it|instead|rather|then|simply|directly) )?(?:we|uses?|is|are|trains?|"
    r"predicts?|minimi[sz]es?|optimi[sz]es?|relies|employs?|adopts?|"
    r"applies|learns?|regress\w*|directly)\b",
    re.I,
)
_VERB = re.compile(r"\b(?:is|are|was|were|has|have|needs?|can|must)\b", re.I)
_AWAY = re.compile(
    r"\b(?:instead of|rather than|in place of|in lieu of|as opposed to|without|in contrast (?:to|"
    r"with)|contrary to|unlike|"
    r"different(?:ly)? (?:from|than)|departs? from|(?:as an? )?alternatives? to|as a substitute "
    r"for|substitutes? for|"
    r"free (?:of|from)|no need (?:for|of)|moves? away from|absence of)\b",
    re.I,
)
_COMPARED = re.compile(
    r"\b(?:compar(?:ed|es|ing|able) (?:(?:it|this|them|our \w+) )?(?:to|with|against)|in "
    r"comparison (?:to|with)|relative to|"
    r"versus|vs\.?|outperform\w*|(?:matched|matches|rivals|on par with)(?= \w)|surpass\w*|than|"
    r"beats?|superior to|(?:absent|missing) (?:in|from)|similar(?:ly)? to|"
    r"analogous(?:ly)? to|akin to|resembl\w+|reminiscent of|"
    r"same (?:way|manner|fashion|spirit) (?:that|as|in which)|differences? (?:from|between|to|"
    r"with)|differs? from|related to|cf\.?|"
    r"(?<!such as )(?<!would )(?<!objectives )(?<!losses )(?<!methods )(?<!algorithms )like)\b",
    re.I,
)
_PHRASE_END = re.compile(
    r"[;:.!?](?=\s|$)|[()]|\b(?:we|it|they|our|but|because|since|while|whereas|is that|"
    r"and (?:uses?|is|are|we|it|has|have))\b"
    r"|,(?!\s*(?:and |or |nor )?[\w\- ]{1,30}(?:,| (?:or|and|nor) ))(?!\s*(?:or|and|"
    r"nor)\s[\w\- ]{1,30}(?:,|$|\.))",
    re.I,
)
_MAIN_SUBJECT = re.compile(
    r",\s+(?=(?:we|our|ours|it|its|this|these|the|here|i)\b|[A-Z][\w\-+.π]*\s+(?!and\b|or\b|nor\b|"
    r"et\b)(?:\w+ly\s+)?[a-z]{2,}|(?!which\b|that\b|who\b|where\b)(?:\S+\s+){1,3}?(?:uses?|is|are|trains?|"
    r"predicts?|learns?|regress\w*|minimi[sz]es?)\b)"
)
_OTHERS = re.compile(
    r"\b(?:prior|previous(?:ly)?|earlier|existing|past|other|most|many|traditional|conventional|"
    r"classical|typical|recent|popular|competing|"
    r"contemporary|alternative|concurrent|early|standard|common|state-of-the-art|much|related|the "
    r"original)\s+(?:[\w-]+\s+){0,3}?"
    r"(?:works?|methods?|approach(?:es)?|polic(?:y|ies)|models?|systems?|baselines?|vlas?|efforts?|"
    r"studies|literature|papers?|frameworks?|"
    r"techniques?|attempts?|generalists?|implementations?|agents?|recipes?)\b"
    r"|\b(?:the |our |all )?baselines?(?=\s+(?:\w+\s+)?(?:is|are|was|were|uses?|used|trains?|"
    r"trained|that|policy|method|model))"
    r"|\b[A-Z][a-z]+ et al\.?|\bothers (?:have|use|train)|\bwas originally\b|\boriginally\b"
    r"|\b(?:it|this) (?:is|was) (?:common|customary|usual|typical|standard) to\b",
    re.I,
)
_CITED_SUBJECT = re.compile(
    r"[^()\[\]]*[)\]]\s+(?:\w+ly\s)?(?:uses?|trains?|predicts?|learns?|models?|applies|apply|is|was|are|were|"
    r"rel(?:y|ies)|employs?|discreti[sz]es?|minimi[sz]es?|generates?|denoises?)\b",
    re.I,
)
_WHILE = re.compile(
    r"\b(?:while|whereas|although|though|even though)\s+(?!train|learn|the (?:policy|model|"
    r"network)|we\b|our\b|it\b|this\b|keeping|\w+ing\b)",
    re.I,
)
_GENERIC = re.compile(
    r"(?!the\b|our\b|this\b|a\b|its\b)(?:[\w-]+\s){0,3}?(?:policies|methods?|models|approaches|"
    r"vlas|systems|baselines?|"
    r"others|algorithms)\b|[A-Z][\w\-+.π]*[A-Z0-9]|[A-Z][a-z]+ (?:uses?|trains?|predicts?|relies|"
    r"discreti)"
)
_CRITICISED = re.compile(
    r"\b(?:suffers?|struggles?|fails?|is prone|are prone|tends? to|averages|collapses|cannot|can't|"
    r"(?:has|have) (?:\w+ly )?(?:become|emerged|gained|been shown)|(?:is|are) (?:widely|commonly|"
    r"often|typically) used|"
    r"(?:is|are) popular|needs? many|requires? (?:many|costly|careful)|"
    r"(?:is|are|can be|remains?) (?:\w+ly |too |very |often |still |quite )?(?:hard|difficult|"
    r"expensive|slow|unstable|impractical|costly|intractable|"
    r"ill-suited|insufficient|limited|brittle|inefficient|infeasible|unsafe|dangerous|challenging|"
    r"cumbersome))\b",
    re.I,
)
_NOT_OURS = (
    r"(?!,\s(?:but|we|our|it|the|which|while)\b|\b(?:but|however)\b|"
    r"\band (?:we|is|are|uses?|trains?|adds?)\b)[^.;]"
)
_CODE = re.compile(
    r"\b(?:based on|built on|builds (?:up)?on|(?:forked|adapted|modified|sourced|taken|derived|ported) from|"
    r"borrow\w* from|thanks to|(?:codes?|environments?|envs?) (?:is |are )?(?:\w+ )?from)\b"
    rf"(?:(?:{_NOT_OURS})*?\b(?:codes?|codebase|repos?|repository|repositories|environments?|"
    rf"envs?)\b(?:{_NOT_OURS})*|[^.,;]{{0,60}}\b(?:implementations?|library)\b)|"
    rf"\b(?:uses?|utili[sz]es?)\s(?:[\w-]+ ){{0,3}}?codes?\s(?:\w+ )?from\b(?:{_NOT_OURS})*",
    re.I,
)
_DATA = re.compile(
    r"\b(?:data(?:sets?)?|demonstrations?|demos|trajector(?:y|ies)|rollouts|episodes|"
    r"experts?)\b[^.,;]{0,40}?\b(?:comes?|collected|generated|gathered|obtained|produced|"
    r"recorded|provided|sampled)\b\s+(?:from|by|with|using)\b",
    re.I,
)
_ABLATION = re.compile(
    r"\b(?:we ablate|ablations? (?:with|of|over|using)|we also (?:tried|experiment\w*|explored?|"
    r"test\w*|compare)|we (?:tried|explored|found that)|variants? (?:of|with|that|without|such as|like)|"
    r"preliminary experiments|in early experiments|for comparison|as a baseline|baselines? include|"
    r"we compare (?:to|with|against))\b",
    re.I,
)
_PERHAPS = re.compile(
    r"\b(?:could|might|would(?! be (?:that|to)\b| otherwise\b)|can also be|may also be|may be|alternatively|"
    r"(?<![,(]\s)(?<![,(]\s\s)optional(?:ly)?(?!\s?,)|if (?:you|desired|needed|preferred)|future "
    r"work|in principle|"
    r"one (?:can|may|could)|is possible|it is also possible|users? (?:can|may)|you (?:can|may)|"
    r"we (?:will|plan to|intend to) (?:\w+ )?(?:add|update|support|release|integrate|explore|include|provide|"
    r"implement)|for example,? (?:if|when)|when (?:enabled|set)|experiment with|"
    r"fall(?:ing)? back (?:to|on)|consider (?:using|trying)|try|"
    r"set (?:it|this) to)\b",
    re.I,
)
_CHOICE = re.compile(
    r"\b(?:(?:strategy|type|mode|method|head|objective|loss|target|variant)s?:\s+[\w-]+\s+or\b|"
    r"either|one of|any of|options? (?:are|include|for)|choose|chosen (?:from|between|among)|"
    r"choices?|select(?:s|ed|able)? (?:from|between|among)|"
    r"configurable|supports?|supported|such as|e\.g\.|including|several|multiple|various|different|"
    r"variants?:|variants of|(?:two|three|four|five) (?:variants|versions|flavou?rs)|versions:|"
    r"available|implement(?:s|ed)\b|"
    r"provid(?:e|es|ed)|offers?|(?:are|is) compared|compar(?:es?|ing) (?:two|three|four|several)|"
    r"comparison (?:of|between)|we compare (?!to|with|against)|we benchmark|algorithms:|losses:)",
    re.I,
)
_MEANS = re.compile(
    r"\b(?:represents?|means|stands for|denotes?|selects|refers to|corresponds to|indicates)\b", re.I
)
_FROZEN = re.compile(r"\bfrozen\b|\bkeep\w* fixed\b", re.I)
_REPLACED = re.compile(
    r"\b(?:replac(?:e|es|ed|ing)|substitut(?:e|es|ed|ing)|swap(?:s|ped|ping)?(?: out)?|switch(?:es|"
    r"ed|ing)? (?:away )?from|chang(?:e|es|ed|ing) from|mov(?:e|es|ed|ing) (?:away )?from)\b",
    re.I,
)
_FROZEN_END = re.compile(r"[;.,:()]|\b(?:with|by|to|for|and|via|using|is|are|on|from|at)\b", re.I)
_REPLACED_END = re.compile(r"\b(?:with|by|to|for|in favou?r of)\b|[;.,]", re.I)
_UNDONE = re.compile(
    r"\b(?:is|are|was|were|be|been|being|gets?)\s+(?:\w+ly\s+|then\s+|"
    r"also\s+)?(?:not\s+(?:\w+ly\s+)?(?:used|needed|required|necessary|applied|trained|included|"
    r"computed|available)"
    r"|omitted|dropped|removed|discarded|skipped|replaced|disabled|unnecessary|absent(?! in| from)|avoided|"
    r"eliminated|turned off|unused)\b"
    r"|\b(?:remains?|stays?|is|are|was|were|kept|keeps?|keeping)\s+(?:kept |completely |fully "
    r")?(?:frozen|untouched)\b"
    r"|\b(?:isn't|aren't|wasn't|weren't) (?:used|needed|required|applied|included)\b|\bis set to "
    r"(?:0|zero)\b",
    re.I,
)
_OFFERED = re.compile(
    r"\b(?:is|are) (?:also |still )?(?:available|supported|possible|provided|offered|implemented) "
    r"(?:as|for|too|instead|via|through|by|if|when|in)\b|"
    r"\b(?:is|are) (?:also |still |currently )?(?:in progress|planned|coming soon|under development|underway|"
    r"work in progress|on the roadmap|left for future)\b",
    re.I,
)
_BUT = re.compile(r"[;.](?=\s|$)|\bbut\b|\bfinal(?:ly)?\b", re.I)
_CLAUSE_START = re.compile(
    r"[;.:(]\s|,\s+(?:and|but|so|while|whereas|we|it|the)\b|\b(?:but|while|whereas|although)\b", re.I
)


@functools.lru_cache(maxsize=1024)  # Losses, numbers and output ask about the same sentences.
def scopes(sentence: str) -> tuple[Scope, ...]:
    """Every scope that the triggers of one sentence open.

    Args:
      sentence: clean text.

    Returns:
      scopes in offsets of the sentence; they may overlap.

    Example:
      >>> text = "Unlike A, which predicts tokens, we regress with L1 instead of MSE."
      >>> [(text[s.start : s.end], s.status) for s in scopes(text)]
      [(' A, which predicts tokens', 'negated'), (' MSE', 'negated')]
    """
    return (
        *_prepositions(sentence),
        *_denials(sentence),
        *_replacements(sentence),
        *_undone(sentence),
        *_offered(sentence),
        *_subjects(sentence),
        *_perhaps(sentence),
    )


def status(sentence_scopes: tuple[Scope, ...], start: int, end: int) -> tuple[str, str]:
    """(status, the trigger) of [start, end); ("asserted", "") outside every scope.

    The strongest scope wins: a denial over a comparison over an option.
    """
    order = ("negated", "other", "compared", "perhaps", "option")
    inside = [s for s in sentence_scopes if s.start <= start and end <= s.end + 1]
    if not inside:
        return "asserted", ""
    best = min(inside, key=lambda s: order.index(s.status))
    return best.status, best.because


def _first(pattern: re.Pattern, sentence: str, start: int) -> int:
    match = pattern.search(sentence, start)
    return match.start() if match else len(sentence)


def _prepositions(sentence: str):
    for pattern, name in ((_AWAY, "negated"), (_COMPARED, "compared")):
        for match in pattern.finditer(sentence):
            if _NOT_NEGATED.match(sentence, match.start()):
                continue
            opening = not sentence[: match.start()].strip(" \"'(-*#")
            follows = re.search(r"\b(?:unlike|in contrast)", match.group(), re.I)
            if opening or follows:
                # "Unlike A, which ..., we": up to the subject of the main clause.
                subject = _MAIN_SUBJECT.search(sentence, match.end()) or re.compile(
                    r"\s(?=(?:we|it)\s)"
                ).search(sentence, match.end())
                end = (
                    subject.start()
                    if subject
                    else (len(sentence) if follows else _first(_PHRASE_END, sentence, match.end()))
                )
            else:
                end = _first(_PHRASE_END, sentence, match.end() + 1)
            yield Scope(match.end(), end, name, match.group())


def _denials(sentence: str):
    for match in _DENIES.finditer(sentence):
        passive = match.group().lower().endswith("ed") and re.search(
            r"\b(?:is|are|was|were|be|been|being)\s+(?:\w+ly\s)?$", sentence[: match.start()]
        )
        if passive or _NOT_NEGATED.match(sentence, match.start()):
            continue
        end = _first(_CLAUSE_END, sentence, match.end() + 1)
        if match.group().lower() == "no":
            end = min(end, _first(_VERB, sentence, match.end()))  # "No X is needed for Y" says nothing of Y.
        yield Scope(match.end(), end, "negated", match.group())


def _replacements(sentence: str):
    for match in _FROZEN.finditer(sentence):
        if re.match(r"[\s-]+\w", sentence[match.end() :]):  # "a frozen X", not "X is frozen ."
            yield Scope(match.end(), _first(_FROZEN_END, sentence, match.end()), "negated", match.group())
    for match in _REPLACED.finditer(sentence):
        yield Scope(match.end(), _first(_REPLACED_END, sentence, match.end() + 1), "negated", match.group())


def _undone(sentence: str):
    for match in _UNDONE.finditer(sentence):
        begins = [m.end() for m in _CLAUSE_START.finditer(sentence, 0, match.start())]
        perhaps = re.search(r"\b(?:can|may|could|might)\s*$", sentence[: match.start()], re.I)
        yield Scope(
            begins[-1] if begins else 0, match.start(), "perhaps" if perhaps else "negated", match.group()
        )


def _offered(sentence: str):
    for match in _OFFERED.finditer(sentence):
        begins = [m.end() for m in _CLAUSE_START.finditer(sentence, 0, match.start())]
        yield Scope(begins[-1] if begins else 0, match.start(), "perhaps", match.group())


def _subjects(sentence: str):
    for match in _OTHERS.finditer(sentence):
        if sentence[match.start() - 1 : match.start()] in ("(", "[") and not _CITED_SUBJECT.match(
            sentence, match.end()
        ):
            continue  # "flow matching (Li et al.) trains": the citation names a source, not a subject.
        rest = sentence[match.end() :]
        # "the prior work of A": a name for what is compared with. "by previous methods": theirs as well.
        end = match.end() + _first(
            re.compile(
                r"[;!?](?=\s|$)|\.\s|\b(?:but|however|instead|whereas|in contrast)\b|,\s+(?:we|our|this|it)\b"
            ),
            rest,
            0,
        )
        yield Scope(match.start(), end, "other", match.group())
    for match in _ABLATION.finditer(sentence):
        yield Scope(match.start(), _first(_BUT, sentence, match.end()), "other", match.group())
    for match in _CODE.finditer(sentence):
        yield Scope(match.start(), match.end(), "other", "whose code it is")
    for match in _DATA.finditer(sentence):
        yield Scope(
            match.end(),
            _first(re.compile(r"[,;]|\.\s|\b(?:and|we|while|but)\b"), sentence, match.end()),
            "other",
            "source of the data",
        )
    for match in _CRITICISED.finditer(sentence):
        begins = [m.end() for m in _CLAUSE_START.finditer(sentence, 0, match.start())]
        begin = begins[-1] if begins else 0
        if not re.search(r"\b(?:we|our|ours)\b", sentence[begin : match.start()], re.I):
            yield Scope(begin, match.start(), "other", match.group())
    for match in _WHILE.finditer(sentence):
        if sentence[: match.start()].strip() and not _GENERIC.match(sentence, match.end()):
            continue
        end = (
            _first(_MAIN_SUBJECT, sentence, match.end())
            if not sentence[: match.start()].strip()
            else _first(re.compile(r"[.;](?=\s|$)"), sentence, match.end())
        )
        yield Scope(match.end(), end, "other", match.group().strip())


def _perhaps(sentence: str):
    for match in _PERHAPS.finditer(sentence):
        yield Scope(
            match.end(),
            _first(re.compile(r"[;.!?](?=\s|$)|\b(?:but|however)\b"), sentence, match.end()),
            "perhaps",
            match.group(),
        )


def explains_choices(sentence: str) -> bool:
    """Whether a sentence says what several values of a setting stand for."""
    return len(_MEANS.findall(sentence)) > 1


def offers_choice(sentence: str) -> str:
    """The words by which a sentence, or a list's lead-in, offers alternatives; "" if it does not."""
    if explains_choices(sentence):
        return _MEANS.search(sentence).group()
    match = _CHOICE.search(sentence)
    if match and match.group().lower() in ("such as", "including", "e.g."):
        # "models such as A use X" names examples of models, not of losses.
        return match.group() if re.match(r"[^.;]{0,80}(?:,|\band\b|\bor\b)", sentence[match.end() :]) else ""
    return match.group() if match else ""
