"""Words that tell a family and name no loss."""

from ch3_jax.cards.terms import Term, terms

TERMS: tuple[Term, ...] = (
    *terms(
        "",
        (
            0.85,
            r"\breinforcement[-\s](?:learn\w*|algorithms?|methods?|fine-?tun\w*)|"
            r"\binverse RL\b|\brecovers? a reward",
        ),
        family="reinforcement",
    ),
    *terms("", (0.8, r"\b(?<![A-Za-z]-)RL\b(?!HF)"), family="reinforcement", exact=True),
    *terms("", (0.8, r"\bAIRL\b"), family="reinforcement", exact=True),
    *terms("", (0.8, r"\bDAgger\b|\bdataset aggregation\b"), family="supervised"),
    *terms(
        "",
        (
            0.55,
            r"\bQ-?(?:functions?|values?|networks?|targets?)\b|\bcritics?\b|\badvantages? "
            r"(?:estimat\w+|function)|\bvalue (?:function|loss|network)s?\b|\bdiscounted (?:return|"
            r"reward|sum)|\baction-values?\b|\bexperience replay|\breplay buffer\b",
        ),
        family="reinforcement",
    ),
    *terms(
        "",
        (
            0.7,
            r"\b(?:maximi[sz]\w+|ascent on) (?:the )?(?:expected |discounted |cumulative |total "
            r")?(?:returns?|rewards?)\b|"
            r"\b(?:expected|cumulative) returns?\b|\bon-policy\b|\boff-policy\b|\bvalue gradients?\b|"
            r"\bimagin\w+ (?:rollouts?|trajector\w+)|\bpolicy search\b|\bevolution\w* strateg\w+|"
            r"\bepisod\w+ returns?\b|\bvalue estimation\b|\bover-?estimation\b|"
            r"\bbootstrap\w*",
        ),
        family="reinforcement",
    ),
    *terms("", (0.5, r"\breward(?:s|ed)?\b(?! model)"), family="reinforcement"),
    *terms(
        "",
        (
            0.85,
            r"\bbehaviou?r(?:al)?[-\s]clon\w+|\bimitation[-\s]learning\b|\b(?:by|through|via|pure|"
            r"purely) imitation\b|\bsupervised[-\s](?:imitation "
            r")?(?:learning|fine-?tuning|regression|training|objective|loss|policy)|\blearning from "
            r"demonstrations?\b|\b(?:lifelong )?imitation learning\b",
        ),
        family="supervised",
    ),
    *terms(
        "",
        (
            0.7,
            r"\btargets? (?:of|for) the (?:network|model|policy)[^.]{0,60}\b(?:actual|measured|"
            r"observed|demonstrated|ground[- ]truth|recorded)\b|\bactions? supervised\b|"
            r"(?<!self-)(?<!self )(?<!un)(?<!semi-)\bsupervised\b|\b(?:direct |action |continuous "
            r")regression\b(?! test)|\b(?<!value )(?<!return )(?<!quantile )regression "
            r"(?:loss|objective|head|"
            r"target)s?\b|\bregress\w*\s+(?:\w+\s){0,4}actions?\b|\bimitat\w+ (?:the "
            r")?(?:expert|demonstrat\w+|actions?)|\bclon(?:es?|ed|ing) (?:from )?(?:the |human "
            r")?(?:expert|demonstrat\w+)",
        ),
        family="supervised",
    ),
    *terms("", (0.75, r"\b(?:BC|SFT)\b(?!-?Z)"), family="supervised", exact=True),
    *terms("", (0.75, r"\bself-?\s?supervis\w+"), family="self_supervised"),
)
