"""The words for losses whose target a person gave: demonstrated actions, labels, a teacher."""

from ch3_jax.cards.terms import Term, terms

TERMS: tuple[Term, ...] = (
    *terms(
        "cross_entropy",
        (
            0.95,
            r"\b(?<!binary )(?<!binary_)(?:categorical |softmax )?cross[-_\s]*entropy(?! "
            r"method)(?:[-_\s]*(?:loss|objective))?\b|CrossEntropyLoss|(?<![a-z])(?:sparse)?_?categorical_?cross_?entropy",
        ),
        (
            0.85,
            r"\bnext[-\s](?:action[-\s]|discrete[-\s])?token[-\s]prediction\b|\b(?:predicts?|"
            r"predicting) the next (?:action )?token",
        ),
        (
            0.8,
            r"\b(?:causal |autoregressive )?language[-\s]model(?:l?ing)? (?:loss|objective)|"
            r"\bautoregressive (?:loss|objective|cross)|\bclassification (?:loss|objective)\b",
        ),
        (0.7, r"\bsoftmax loss\b|\bteacher[-\s]forc\w+"),
    ),
    *terms("cross_entropy", (0.8, r"\bCE\b(?= loss| objective|\b)"), exact=True),
    *terms("bce", (0.95, r"\bbinary[-_\s]?cross[-_\s]*entropy|BCE(?:WithLogits)?Loss|\bBCE\b")),
    *terms("focal", (0.95, r"\bfocal[-\s]loss\b|\bfocal\b(?= |-)")),
    *terms(
        "offset",
        (
            0.85,
            r"\b(?:residual |action |continuous |"
            r"regression )?offsets?\b(?=[^.]{0,60}\b(?:loss|"
            r"predict\w*|regress\w*|head|bin|cluster|cent(?:er|re)|action)\w*)|\bmulti-?task (?:offset "
            r")?loss\b|\boffset[ _](?:loss|head|prediction)|\b(?:predict\w*|regress\w*|"
            r"loss)[^.]{0,40}\boffsets?\b",
        ),
    ),
    *terms(
        "mse",
        (
            0.95,
            r"\bmean[-_\s]squared?[-_\s]error\b|\bmse_loss\b|MSELoss|\bsquared[-\s]error (?:loss)?|"
            r"\b(?:l2|ℓ2|ℓ_2|L_2)[-\s](?:loss|regression|norm loss|error|objective|distance)\b|"
            r"\bleast[-\s]squares\b",
        ),
        (
            0.8,
            r"\(\s*a(?:_\{?[\w,]+\}?)?\s*-\s*\\?(?:pi|hat|mu|"
            r"f)[^()]*?(?:\([^()]*\))?[^()]*\)\s*\^\s*\{?2|\\?\|\s*(?:f|\\?pi|\\?mu|"
            r"\\hat)[^|]{1,60}-\s*a[^|]{0,20}\\?\|(?:_2)?\^\s*\{?2",
        ),
    ),
    *terms(
        "mse", (0.75, r"(?<![\w-])L2(?![\w-])(?! (?:regulari|penalt|norm|weight|decay|distance))"), exact=True
    ),
    *terms("mse", (0.9, r"\bMSE\b"), exact=True),
    *terms("mse", (0.9, r"(?<![A-Za-z_])mse(?![A-Za-z])"), exact=True),
    *terms(
        "l1",
        (
            0.95,
            r"\b(?<!smooth )(?<!smooth-)(?:l1|ℓ1|ℓ_1|L_1|L_\{1\})[-_\s](?:loss|regression|objective|"
            r"norm|error|distance|reconstruction)\b|(?<!Smooth)L1Loss|\bl1_loss\b|"
            r"\bmean[-\s]absolute[-\s]error\b|\babsolute[-\s]error loss",
        ),
    ),
    *terms("l1", (0.8, r"(?<![\w])[Ll]1(?![\w-])"), exact=True),
    *terms("huber", (0.95, r"\bhuber\b|\bsmooth[-\s_]?l1\b|SmoothL1Loss")),
    *terms(
        "nll",
        (
            0.9,
            r"\bnegative[-\s]log[-\s]likelihood\b|(?:maximi[sz]\w*|optimi[sz]\w*|trained (?:by|with|"
            r"to))[^.]{0,40}\b(?:(?:log[-\s])?likelihood|probability of (?:the )?(?:expert|"
            r"demonstrat\w+|recorded))\b|\bmaximum[-\s]likelihood\b|-\s*\\log\s*\\?pi|"
            r"loss\s*=\s*-\s*\(?\s*(?:\w+\.)*(?:predictions\W+)?log_?probs?\b(?![^\n]*\*)",
        ),
        (
            0.6,
            r"\b(?:gaussian mixture|mixture density|GMM)[-\s](?:model )?(?:head|output|policy|network|loss)",
        ),
    ),
    *terms("nll", (0.9, r"\bNLL\b"), exact=True),
    *terms(
        "cvae",
        (
            0.9,
            r"\bconditional (?:variational auto-?encoder|VAE)\b|\bevidence lower bound\b|\bELBO\b|"
            r"\bvariational auto-?encoder",
        ),
    ),
    *terms("cvae", (0.9, r"\bC?VAE\b"), exact=True),
    *terms("distillation", (0.85, r"\bdistill\w*|\bstudent[-\s]teacher\b|\bteacher[-\s]student\b")),
    *terms(
        "weighted_bc",
        (
            0.9,
            r"\b(?:re-?)?weighted[-\s](?:behaviou?r(?:al)?[-\s]cloning|BC|imitation|regression|supervised)\b",
        ),
    ),
)
