"""The words for losses that a reward drives."""

from ch3_jax.cards.terms import Term, terms

TERMS: tuple[Term, ...] = (
    *terms(
        "ppo",
        (
            0.9,
            r"\bproximal policy optimi[sz]ation\b|\b(?:clamp|clip)\(\s*ratio|"
            r"\bclipped[-\s](?:surrogate|policy|objective|ratio)|"
            r"\bsurrogate objective\b|\bclip\w* in the objective|\bKL-constrained (?:policy )?update|"
            r"\bpenali[sz]es? the KL[-\s]divergence|\bclip_?frac(?:s|tion)?\b",
        ),
    ),
    *terms("ppo", (0.95, r"\bPPO\w*"), exact=True),
    *terms("ppo", (0.9, r"(?<![a-z])ppo(?![a-z])"), exact=True),
    *terms("grpo", (0.95, r"\bgroup[-\s]relative\b|(?<![a-z])grpo(?![a-z])")),
    *terms(
        "reinforce",
        (0.85, r"\blog_?prob\w*\s*\*\s*\(?\s*(?:adv\w*|returns?)\b|\b(?:adv\w*|returns?)\s*\*\s*log_?prob"),
        (
            0.85,
            r"(?<!deterministic )(?<!deterministic-)\bpolicy[-\s]gradients?\b|"
            r"\bpg_loss\b|\bscore[-\s]function estimator|\bleave-one-out baseline",
        ),
    ),
    *terms("reinforce", (0.9, r"\bREINFORCE\b|\bRLOO\b|\bTRPO\b"), exact=True),
    *terms(
        "sac",
        (
            0.9,
            r"\bsoft[-\s]actor[-\s]critic\b|\bmaximum[-\s]entropy (?:reinforcement|RL)\b|"
            r"(?<![A-Za-z])sac(?=_| algorithm|-based)",
        ),
        # The entropy-weighted objective as code writes it: `alpha * log_prob - q`.
        (
            0.85,
            r"(?:alpha|temp\w*|ent_coef)\s*\*\s*(?:next_)?log_?p\w*\s*-\s*(?:\w+_)?q|"
            r"\blog_?p\w*\s*\*\s*[\w.]*(?:alpha|temp|ent_coef)[^\n]{0,60}?-\s*(?:\w+_)?q",
        ),
    ),
    *terms("sac", (0.9, r"\bSAC\b"), exact=True),
    *terms(
        "td",
        (
            0.9,
            r"\btemporal[-\s]difference\b|(?<![a-z])td_(?:loss|error|target)s?\b|\bBellman\b|\b(?:r|rewards?)\s*\+\s*(?:self\.)?(?:gamma|γ|"
            r"\\gamma|discount)\b|\bfitted[-\s]Q\b|\btwo Q-functions?\b|\btwin "
            r"(?:critics?|Q)|\bdouble[-\s]Q\b|"
            r"\bdeterministic[-\s]policy[-\s]gradients?\b|\btarget policy smoothing\b|"
            r"\bdelayed policy updates?\b",
        ),
    ),
    *terms(
        "td",
        (0.9, r"\bTD3?\b(?![-\s]?MPC)|\bTD\((?:λ|lambda|\d)\)|\b(?:DQN|DDPG|SARSA|D4PG)\b"),
        exact=True,
    ),
    *terms(
        "q_learning",
        (
            0.85,
            r"\bQ[-\s]learning\b|\bQ (?:is|are) maximi[sz]ed\b|\bQ[-\s]loss\b|\bmaximi[sz]\w+ (?:the "
            r")?Q[-\s]?(?:values?|"
            r"function)?\b|\bQ-guid\w+",
        ),
    ),
    *terms(
        "cql",
        (
            0.9,
            r"\bconservative[-\s]Q\w*|\b(?:\W?conservative\W? )(?:component|penalty|regulari[sz]\w*|"
            r"term)|\bminimi[sz]\w+ (?:the )?(?:action-values?|"
            r"Q-values?)[^.]{0,60}\bmaximi[sz]\w+[^.]{0,40}\bdata\b",
        ),
    ),
    *terms("cql", (0.95, r"\bCQL\b|\bCal-QL\b"), exact=True),
    *terms("expectile", (0.9, r"\bexpectile(?=\b|_)"), (0.85, r"\bimplicit Q[-\s]learning\b")),
    *terms("expectile", (0.8, r"\bIQL\b"), exact=True),
    *terms(
        "awr",
        (
            0.9,
            r"\badvantage[-\s](?:weight\w+|conditioned regression|filtered)|"
            r"\bcritic[-\s]regulari[sz]ed\b|\bweighted by (?:the |their |its )?(?:exponentiated |"
            r"exponential )?advantages?\b|\bexponential(?:ly|ted)? advantage",
        ),
    ),
    *terms("awr", (0.9, r"\bAWR\b|\bAWAC\b|\bCRR\b"), exact=True),
    *terms(
        "bc_term",
        (
            0.9,
            r"\b(?:behaviou?r(?:al)?[-\s]cloning|BC)[-\s](?:term|regulari[sz]\w+|constraint|penalty|"
            r"loss term)\b|\bTD3\s?\+\s?BC\b|\bRL\s?\+\s?BC\b|\badd\w* (?:a |an "
            r")?(?:behaviou?r(?:al)?[-\s]cloning|BC)\b",
        ),
    ),
    *terms(
        "adversarial",
        (0.85, r"\badversarial(?:ly)?\b(?! (?:robust|attack|example|perturb))|\bdiscriminators?\b"),
    ),
    *terms("adversarial", (0.9, r"\bGAIL\b|\bAMP\b(?! autocast)"), exact=True),
    *terms(
        "actor_critic",
        (
            0.8,
            r"\bactor[-\s/]critic\b|\bboth the value and policy networks?\b|\bvalue and policy "
            r"(?:networks?|losses)\b|\bpolicy and value (?:networks?|losses|functions?)\b|\b(?:policy|"
            r"actor) loss\b[^.]{0,40}\bvalue loss\b",
        ),
    ),
    *terms("mmd", (0.95, r"\bmaximum mean discrepancy\b|\bMMD\b")),
    *terms("preference", (0.85, r"\bdirect preference optimi[sz]ation\b|\bDPO\b")),
)
