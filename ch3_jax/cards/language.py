"""Is a text English? Decided by how often the commonest words occur."""

import re

_COMMON = (
    "the of and a to in is for with by on as that are we it this from be at or an our which not can use used "
    "using each into trained training over per has have its all model policy action actions loss steps"
)
_OTHER = (
    "der die das und ist mit wird werden eine den von für nicht auf le la les des est une dans pour "
    "avec par que qui sur el los las una con por para del se di il che sono non van het een met voor "
    "niet wordt em uma não com são och att är som på för inte os dos da"
)
_ENGLISH = frozenset(re.findall(r"\w+", _COMMON))
_FOREIGN = frozenset(re.findall(r"\w+", _OTHER)) - _ENGLISH


def looks_english(text: str) -> bool:
    """Whether the sentences of a text can be read; short texts and bare settings pass.

    Example:
      >>> looks_english("We train the policy with a loss on the actions of each step, and it is used in all.")
      True
      >>> looks_english("Wir trainieren die Strategie mit einem Verlust auf den Aktionen und das ist es.")
      False
    """
    sample = text[:20_000]
    words = re.findall(r"[^\W\d_]+", sample.lower())
    letters = sum(len(word) for word in words)
    foreign = len(
        re.findall(
            r"[\u0370-\u03ff\u0400-\u04ff\u0590-\u06ff\u0900-\u0dff\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]",
            sample,
        )
    )
    if letters and foreign > 0.2 * letters and foreign > 10:
        return False
    if len(words) < 12:
        return True
    english = sum(word in _ENGLISH for word in words)
    others = sum(word in _FOREIGN for word in words)
    return not (others > english and others >= 0.08 * len(words))
