"""From mentions to one family: where does the training signal come from?

Order of the argument: forms that train the policy decide; then words that tell a family alone; comparisons
count only where nothing else is said; options that disagree, and losses of components, decide nothing.
"""

from typing import NamedTuple

from ch3_jax.cards.losses import Mention
from ch3_jax.cards.records import FORMS
from ch3_jax.cards.roles import LAST_STAGE
from ch3_jax.cards.vocabulary import FAMILY_OF, IMPLIED

_PLAIN = ("mse", "l1", "huber", "cross_entropy", "bce", "nll")
# What is "similar to PPO" is of its kind; what "outperforms PPO" may be anything.
_KIN = ("differ", "similar", "like", "same", "akin", "analog")
_MOST = 5  # main losses of one system; a text with more of them, of several families, is about several
_REPRESENTS = ("vq", "contrastive", "jepa", "reconstruction")
_WORDS = {"supervised": "supervised", "reinforcement": "reinforcement", "self_supervised": "self-supervised"}


class Decision(NamedTuple):
    """A family, how sure, which mention says it, why; and the forms as (value, role, weight, mention, of)."""

    family: str
    confidence: float
    mention: Mention | None
    reason: str
    forms: tuple[tuple[str, str, float, Mention, str], ...]


def decide(mentions: list[Mention]) -> Decision:
    """Weighs the mentions of one text.

    Args:
      mentions: from `losses.mentions`.
    """
    asserted = [m for m in mentions if m.status == "asserted"]
    main = _forms([m for m in asserted if m.role == "main" and m.term.form])
    early = _forms([m for m in asserted if m.role == "earlier_stage" and m.term.form])
    words = [m for m in asserted if not m.term.form and m.role in ("main", "earlier_stage", "auxiliary")]
    later = {m.term.family for m in words if m.role == "main"}
    if not main and early and later <= {f[3] for f in early}:
        # The only stage that is spoken of, or the only loss that is named of what goes on later.
        main, early = early, []
    beside = _forms([m for m in asserted if m.role == "auxiliary" and m.term.form], keep_all=True)
    parts = _forms([m for m in asserted if m.role == "component" and m.term.form], keep_all=True)
    offered = [m for m in mentions if m.status == "option"]
    options = _forms([m for m in offered if m.term.form])
    main, parts = _critics(main, parts, words)
    main = _without_implied(main)
    named = main
    main, parts = _representations(main, parts)
    main, beside = _beside_reward(main, beside)
    main, parts = _parameterised(main, parts)
    taken = {f[0] for f in main}
    early = [f for f in early if f[0] not in taken]
    beside = [f for f in beside if f[0] not in taken or f[4]]
    options = [f for f in _without_implied(options) if f[0] not in taken]
    kin = [
        m for m in mentions if m.status == "compared" and m.term.form and m.because.lower().startswith(_KIN)
    ]
    weak = [] if main or options or words else _forms([m for m in kin if m.weight >= 0.8])
    forms = tuple(
        (form, role, weight, mention, of)
        for role, rows in (
            ("main", main),
            ("earlier_stage", early),
            ("auxiliary", beside),
            ("component", parts),
            ("option", options),
        )
        for form, weight, mention, _, of in rows
    )
    family, confidence, mention, reason = _of_many(named) or _family(
        main, options, offered, words, parts, beside, weak
    )
    if not forms and not mentions:
        reason = "no loss, target or reward is named"
    elif (
        family == "unknown"
        and not main
        and not options
        and mentions
        and all(m.status in ("negated", "other", "metric", "compared", "perhaps") for m in mentions)
    ):
        why = mentions[0]
        named = FORMS.get(why.term.form, why.term.family)
        reason = f"losses are named only to set them aside ({named}: {why.status}, {why.because!r})"
    return Decision(family, confidence, mention, reason, forms)


def _forms(mentions: list[Mention], keep_all: bool = False):
    """(form, weight, mention, family, of), each form once, by its plainest mention, in order."""
    best: dict[tuple[str, str], Mention] = {}
    for mention in mentions:
        key = (mention.term.form, mention.of if keep_all else "")
        if key not in best or mention.weight > best[key].weight + 0.05:
            best[key] = mention
    order = {key: min(m.start for m in mentions if m.term.form == key[0]) for key in best}
    return [
        (key[0], m.weight, m, FAMILY_OF[key[0]], m.of)
        for key, m in sorted(best.items(), key=lambda kv: order[kv[0]])
    ]


def _critics(main, parts, words):
    """A squared error of a critic is the Bellman error, where values are learnt."""
    values = any(m.term.family == "reinforcement" for m in words) or any(
        f[3] == "reinforcement" for f in main
    )
    if not values:
        return main, parts
    kept = [p for p in parts if p[4] != "critic"]
    return main, kept


def _beside_reward(main, beside):
    """Where a reward drives the policy, a plain error is beside it: of a value, or a pull to the data."""
    if not any(f[3] == "reinforcement" for f in main):
        return main, beside
    plain = [f for f in main if f[0] in _PLAIN]
    return [f for f in main if f[0] not in _PLAIN], beside + plain


def _parameterised(main, parts):
    """Where a policy gradient trains a diffusion policy, denoising is how it acts, not its loss."""
    if not any(f[0] in ("ppo", "grpo", "reinforce", "sac") for f in main):
        return main, parts
    acts = [f for f in main if f[0] == "diffusion_unspecified"]
    return [f for f in main if f not in acts], parts + [(*f[:4], "parameterisation") for f in acts]


def _representations(main, parts):
    """What is learnt beside an action loss to represent the input, or alone to represent anything."""
    acting = [f for f in main if f[0] not in _REPRESENTS]
    if acting:
        return acting, parts + [(*f[:4], f[4] or "representation") for f in main if f[0] in _REPRESENTS]
    alone = not main and parts and all(f[0] in _REPRESENTS for f in parts)
    return (parts, []) if alone else (main, parts)


def _without_implied(forms):
    """Drops what a more telling form implies: the squared error of a flow, the actor and critic of SAC."""
    names = {form for form, *_ in forms}
    implied = {less for form in names for less in IMPLIED.get(form, ())}
    # Cross-entropy beside a flow loss is a loss of its own and stays.
    return [f for f in forms if f[0] not in implied]


def _of_many(named):
    """No family where so many losses are used that several systems must be meant."""
    if len(named) <= _MOST or len({f[3] for f in named}) < 2:
        return None
    names = ", ".join(FORMS[f[0]] for f in named[:_MOST])
    return "unknown", 0.6, named[0][2], f"it speaks of several systems, and no loss stands out: {names} ..."


def _family(main, options, offered, words, parts, beside, weak):
    spoken = _by_family(words)
    if main and all(f[0] == "cvae" for f in main) and "reinforcement" in spoken:
        # It models the data's behaviour for a policy that a reward drives.
        return (
            "reinforcement",
            spoken["reinforcement"][0],
            spoken["reinforcement"][1],
            "reinforcement: it says so",
        )
    if main:
        families = {f[3] for f in main}
        family = _leading(main, families, spoken)
        best = max((f for f in main if f[3] == family), key=lambda f: f[1], default=None)
        if best is None:
            mention = spoken[family][1]
            return family, mention.weight * 0.9, mention, f"{_WORDS[family]}: it says {_quoted(mention)}"
        confidence = best[1] * (1 if len(families) == 1 else 0.8)
        return (
            family,
            confidence,
            best[2],
            f"{_WORDS[family]}: the target comes from {_source(family)}; {FORMS[best[0]]} is stated",
        )
    if offered:
        return _of_options(options, offered, spoken)
    if spoken:
        family = max(
            spoken, key=lambda name: (spoken[name][0] + (0.2 if name == "reinforcement" else 0), name)
        )
        weight, mention = spoken[family]
        others = [w for name, (w, _) in spoken.items() if name != family]
        only_reward = family == "reinforcement" and weight <= 0.5
        if parts and weight < 0.8:
            return _component_only(parts)
        if not only_reward or not others:
            return (
                family,
                weight * (0.8 if others else 0.95),
                mention,
                f"{_WORDS[family]}: it says {_quoted(mention)}, and names no loss",
            )
    if weak:
        best = weak[0]
        return best[3], best[1] * 0.5, best[2], f"{_WORDS[best[3]]}: only by comparison with {FORMS[best[0]]}"
    if parts or beside:
        return _component_only(parts or beside)
    return "unknown", 0.5, None, "no loss of the policy is named"


def _component_only(parts):
    part = parts[0][4] or "an auxiliary loss"
    return (
        "unknown",
        0.6,
        parts[0][2],
        f"only the loss of a part is named ({part}: {FORMS[parts[0][0]]}), not the policy's",
    )


def _of_options(options, offered, spoken):
    families = {m.term.family for m in offered}
    best = max(offered, key=lambda m: m.weight)
    names = ", ".join(FORMS[f[0]] for f in options) or "words for a family"
    if len(families) == 1:
        family = best.term.family
        return (
            family,
            best.weight * 0.6,
            best,
            f"{_WORDS[family]}: every option is ({names}); which one is used is not said",
        )
    if len(spoken) == 1:
        family = next(iter(spoken))
        return (
            family,
            spoken[family][0] * 0.6,
            spoken[family][1],
            f"{_WORDS[family]}: {_quoted(spoken[family][1])}; the loss is one of: {names}",
        )
    return "unknown", 0.7, best, f"options are listed and none is chosen: {names}"


def _leading(main, families, spoken) -> str:
    """Which family wins where several are used.

    A reward that trains the policy makes it reinforcement, whatever the network looks like; a flow or a
    diffusion head beside a token loss is where the actions come from.
    """
    if len(families) == 1:
        only = next(iter(families))
        loud = {name: w for name, (w, _) in spoken.items() if name != only and w >= 0.8}
        # "Reinforcement learning as a contrastive problem": the words say where the signal comes from.
        late = "reinforcement" in loud and spoken["reinforcement"][1].of == LAST_STAGE
        if only != "reinforcement" and late:
            return "reinforcement"
        if (
            only != "reinforcement"
            and "reinforcement" in loud
            and not any(f[1] >= 0.95 for f in main if f[0] != "contrastive")
        ):
            return "reinforcement"
        return only
    weight = {name: max(f[1] for f in main if f[3] == name) for name in families}
    if "reinforcement" in families and weight["reinforcement"] >= 0.8:
        return "reinforcement"
    if "self_supervised" in families and weight["self_supervised"] >= 0.7:
        return "self_supervised"
    return max(weight, key=lambda name: (weight[name], name))


def _by_family(words) -> dict[str, tuple[float, Mention]]:
    best: dict[str, tuple[float, Mention]] = {}
    for mention in words:
        name = mention.term.family
        if name not in best or mention.weight > best[name][0]:
            best[name] = (mention.weight, mention)
    return best


def _quoted(mention: Mention) -> str:
    return f"{mention.term.family.replace('_', '-')} words"


def _source(family: str) -> str:
    return {"supervised": "demonstrations", "reinforcement": "reward", "self_supervised": "the data itself"}[
        family
    ]
