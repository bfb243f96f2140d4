"""One row of the vocabulary: a pattern, the form that it names, and how plainly it says so."""

import re
from typing import NamedTuple

FAMILY_OF = {
    **dict.fromkeys(
        (
            "cross_entropy",
            "focal",
            "offset",
            "bce",
            "mse",
            "l1",
            "huber",
            "nll",
            "cvae",
            "distillation",
            "weighted_bc",
        ),
        "supervised",
    ),
    **dict.fromkeys(
        (
            *(
                "flow_matching",
                "epsilon_mse",
                "x0_mse",
                "v_mse",
                "diffusion_unspecified",
                "score_matching",
                "consistency",
            ),
            *("contrastive", "vq", "reconstruction", "jepa", "masked_cross_entropy"),
        ),
        "self_supervised",
    ),
    **dict.fromkeys(
        (
            *(
                "ppo",
                "grpo",
                "reinforce",
                "actor_critic",
                "sac",
                "td",
                "q_learning",
                "cql",
                "expectile",
                "awr",
                "bc_term",
            ),
            *("adversarial", "mmd", "preference"),
        ),
        "reinforcement",
    ),
}


class Term(NamedTuple):
    """A pattern, the form that it names ("" for the family alone), the family, its weight."""

    pattern: re.Pattern
    form: str
    family: str
    weight: float


def terms(form: str, *rows: tuple[float, str], exact: bool = False, family: str = "") -> list[Term]:
    """Rows of one form, each (weight, pattern).

    Args:
      form: a key of `records.FORMS`, "" for words that tell a family alone.
      *rows: weight from 0 to 1, and the pattern.
      exact: whether upper and lower case differ, as they must for acronyms.
      family: of rows without a form.

    Example:
      >>> terms("mse", (0.9, "squared error"))[0].family
      'supervised'
    """
    return [
        Term(re.compile(text, 0 if exact else re.I), form, family or FAMILY_OF[form], weight)
        for weight, text in rows
    ]
