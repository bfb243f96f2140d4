"""What a named loss is for: the policy itself, something beside it, a part of the system, an earlier stage.

The words nearest to the name decide: "the critic minimises the squared error" speaks of a critic, "an L1 loss
with a weight of 0.1" of something beside the main loss, "pre-trained with" of a stage that came before.
"""

import re

from ch3_jax.cards.segments import Segment
from ch3_jax.cards.vocabulary import Term

PLAIN_ERRORS = {"mse", "l1", "cross_entropy", "nll", "bce", "huber"}
_PART = re.compile(
    r"\b(?P<part>reward (?:loss|prediction|head|model|function|network|classifier|predictor)|world[-\s]"
    r"model|dynamics "
    r"(?:model|network)|(?:action |image |text )?tokeni[sz]er|image (?:encoder|decoder)|"
    r"vision (?:encoder|backbone|tower)|visual (?:encoder|representation|backbone|features)|"
    r"visuomotor representation|text encoder|language encoder|"
    r"(?<!variational )autoencoder|auto-encoder|encoder pre-?training|representation learning|"
    r"inverse dynamics(?: "
    r"model)?|behaviou?r (?:policy|model)(?: function)?|(?:dynamics|value|consistency|language|"
    r"depth|embedding) loss|forward model|success (?:classifier|detector)|"
    r"video (?:model|generation|prediction|diffusion|generator)|subgoal (?:generator|model)|depth "
    r"(?:head|prediction|estimat\w+)|segmentation|"
    r"goal (?:generator|classifier)|preference (?:model|comparison)|language (?:head|loss)|"
    r"high-level planner|object detect\w+|VLM backbone|pose estimat\w+)s?\b",
    re.I,
)
_CRITIC = re.compile(
    r"\b(?:critics?|Q-?(?:functions?|networks?|values?|targets?)|value (?:functions?|networks?|"
    r"heads?|distributions?)|distributions? (?:over|of) returns|action-values?|Bellman|TD)\b",
    re.I,
)
_POLICY = re.compile(
    r"\b(?:polic(?:y|ies)|actions?|actor|behaviou?r|controls?|joints?|motor|trajector\w+)\b", re.I
)
_BESIDE = re.compile(
    r"\b(?:auxiliary|additional(?:ly)?|regulari[sz](?:er|ing|ation|es?|ed)|penalty|bonus|alongside|"
    r"in addition(?: to)?|added to|adds? an?|plus an?|co-?train\w*|"
    r"weighted by|weight of|loss[-\s_]?weight|coefficient|side objective|is added|also (?:train|"
    r"predict|optimi)\w*|extra|combined with an?)\b",
    re.I,
)
# "adds a term to the flow loss": what it is added to is no addition.
_ADDED_TO = re.compile(r"adds?\b.*\bto (?:the|its|our|an?)\b", re.I)
# "a term appended to the L1 loss": the loss that it is appended to is the one that trains.
_APPENDED_TO = re.compile(
    r"\b(?:(?:added|appended|attached) to|on top of)"
    r"(?: (?:the|its|our|an?|usual|standard|original|plain))*\W*$",
    re.I,
)
_NAMED_SO = re.compile(r"\bas an? (?:auxiliary|additional|extra)\b", re.I)
_FIRST_STAGE = re.compile(
    r"\b(?:pre-?train\w*|first stage|stage (?:1|one|I)\b|initial(?:ly|ized| stage)|warm-?start\w*|"
    r"first(?:,)? (?:train|we)|before (?:RL|fine-?tuning|reinforcement))\b",
    re.I,
)
_LAST_STAGE = re.compile(
    r"\b(?:fine-?tun\w*|post-?train\w*|second stage|final stage|stage (?:2|3|two|three|II)\b|then|"
    r"afterwards|subsequently|finally|followed by)\b",
    re.I,
)
LAST_STAGE = "last stage"
_WEIGHED = re.compile(r"weight(?!ed)|coef|lambda|auxiliary", re.I)


def _is_weighed(setting: str) -> bool:
    """Whether a setting is the weight of a term: `l1_loss_weight: 0.1`, not `loss = l1 + weight * kl`."""
    key = re.split(r"[=:|]", setting.strip("| "), maxsplit=1)[0]
    return bool(_WEIGHED.search(key) or re.search(r"#.*\bauxiliary\b", setting))


def _is_frozen(clause: str, part: re.Match) -> bool:
    """Whether a part is said to stand still: then no loss trains it, whatever stands beside it."""
    after = re.match(r"(?: (?:is|are|was|were|kept|stays?|remains?|being))*:? frozen\b", clause[part.end() :])
    return bool(after or re.search(r"\b(?:frozen|freez\w+)(?: the)? $", clause[: part.start()]))


def role_of(body: str, clause: str, at: int, part: Segment, term: Term) -> tuple[str, str]:
    """(role, of): what a named loss trains, read from the words around it.

    Args:
      body: the whole segment.
      clause: the part of it that names the loss.
      at: offset of the name in the clause.
      part: the segment, for its kind.
      term: the row of the vocabulary.

    Returns:
      a role of `records.ROLES`, and the part of the system that is meant, "" for the policy.
    """
    parts = [m for m in _PART.finditer(clause) if not _is_frozen(clause, m)]
    if parts and term.family != "reinforcement":
        nearest = min(parts, key=lambda m: abs(m.start() - at))
        distance = abs(nearest.start() - at)
        policy = [
            abs(m.start() - at)
            for m in _POLICY.finditer(clause)
            if not nearest.start() <= m.start() < nearest.end()
        ]
        if not policy or distance <= min(policy):
            return ("auxiliary" if _BESIDE.search(body) else "component"), nearest["part"].lower()
    if term.form in ("jepa", "reconstruction"):
        return "auxiliary", "representation"
    if (
        term.form in PLAIN_ERRORS
        and _CRITIC.search(clause)
        and not re.search(r"\b(?:polic(?:y|ies)|actor)\b", clause, re.I)
    ):
        return "component", "critic"
    # The offset from a bin's centre is half of an action, whatever its weight.
    if part.kind in ("setting", "row") and _is_weighed(body) and term.form != "offset":
        return "auxiliary", ""
    beside = _BESIDE.search(clause)
    if beside and (_ADDED_TO.match(clause[beside.start() : at]) or _APPENDED_TO.search(clause[:at])):
        beside = None
    whole = term.family == "reinforcement" and term.form not in ("bc_term", "mmd", "adversarial")
    if beside and beside.start() >= at:
        # "L1 with a weight of 0.1" is weighed; a weight further on belongs to another term.
        near = beside.start() - at < 40 and re.search(r"is added|weight", beside.group(), re.I)
        beside = beside if near else _NAMED_SO.search(clause)
    if beside and term.form and not whole:
        return "auxiliary", ""
    if _FIRST_STAGE.search(clause) and not _LAST_STAGE.search(clause):
        return "earlier_stage", ""
    # A family word in "... afterwards RL improves it" tells the last stage.
    return "main", LAST_STAGE if not term.form and _LAST_STAGE.search(clause) else ""
