"""Numbers that a sentence states: bins, chunk, sampling steps, schedules, the optimizer's settings.

Each rule is a pattern around one number and what its sentence must and must not speak about: "100 steps"
samples an action, corrupts one in training, or warms a learning rate up.
"""

import re
from typing import NamedTuple

from ch3_jax.cards import keys
from ch3_jax.cards.number_rules import NUMERALS, RULES
from ch3_jax.cards.pairs import number


class Said(NamedTuple):
    """One value in a sentence, with its place there."""

    name: str
    value: object
    confidence: float
    start: int
    end: int


# What a sentence must hold before a rule of that name is tried.
_STEMS = {
    "bins": ("bin", "bucket", "interval", "level", "discret", "tokeni", "quanti", "way"),
    "chunk": ("action", "chunk", "horizon"),
    "executed": ("execut",),
    "inference_steps": ("step", "iteration", "evaluation", "nfe", "pass"),
    "train_timesteps": ("diffus", "noise", "noising", "corrupt", "ddpm"),
    "learning_rate": ("learning", "lr"),
    "weight_decay": ("weight",),
    "batch_size": ("batch", "per"),
    "warmup_steps": ("warm",),
    "clip_norm": ("clip", "norm"),
    "ema_decay": ("ema", "exponential moving"),
    "epochs": ("epoch",),
    "steps": ("steps", "iterations", "updates"),
    "gamma": ("discount", "γ", "gamma"),
    "lora_rank": ("rank",),
    "control_hz": ("hz",),
    "action_dims": ("action", "joint", "arm", "robot", "dimension"),
}
_NUMERAL = re.compile(r"\d|\b(?:" + "|".join(NUMERALS) + r")\b", re.I)
_NOISE_KINDS = (
    r"(?P<n>squaredcos_cap_v2|squared[-\s]cosine|cosine|linear|exponential|sigmoid|karras|polynomial)"
)
_SCHEDULED = (
    re.compile(
        rf"\b{_NOISE_KINDS}[-\s](?:[\w-]+[-\s]){{0,2}}?(?:noise|beta|β|variance|diffusion|mask(?:ing)?|"
        rf"corruption)[-\s](?:schedul\w+)",
        re.I,
    ),
    re.compile(
        rf"\b(?:noise|noising|beta|β|variance|diffusion|"
        rf"mask(?:ing)?)[-\s]schedul\w+[^.;,]{{0,30}}?\b{_NOISE_KINDS}\b",
        re.I,
    ),
    re.compile(rf"\b{_NOISE_KINDS}[-\s](?:beta\s|β\s)?schedul\w+", re.I),
    re.compile(r"(?P<n>squaredcos_cap_v2)", re.I),
)
_OF_NOISE = re.compile(r"noise|noising|diffus|denois|beta|β|ddpm|ddim|mask|corrupt", re.I)
_OF_RATE = re.compile(r"learning[-\s]rate|\blr\b|warm-?\s?up|anneal|decay|optimi[sz]er|adam", re.I)
_RATE = re.compile(
    r"\b(?P<n>cosine|constant|linear|step|inverse[-\s]square[-\s]root|polynomial|exponential|"
    r"fixed)(?:[-\s](?:decay|annealing|annealed))?[-\s]"
    r"(?:(?:learning[-\s]rate|LR|decay|annealing)\b(?:[-\s]schedul\w+)?|schedul\w+)"
    r"|\blearning[-\s]rate\b[^.;]{0,60}?\b(?P<m>cosine|constant|linear|inverse[-\s]square[-\s]root|"
    r"fixed)(?:ly)?\b(?=[^.;]{0,25}(?:schedul|decay|anneal|throughout|\.|,|$))",
    re.I,
)
_OPTIMIZER = re.compile(
    r"\b(?P<n>AdamW|Adam(?!W)|SGD|Adafactor|Lion(?= optim)|Muon|RMSprop|LAMB(?= optim))\b", re.I
)
_DTYPE = re.compile(
    r"\b(?P<n>bf16|bfloat16|fp16|float16|half[-\s]precision|fp32|float32)\b(?!\s*(?:inference|weights for))",
    re.I,
)
_SAMPLER = re.compile(
    r"\b(?P<n>DDIM|DDPM|Euler|Heun|DPM-?Solver\S*|midpoint)\b(?=[^.;]{0,50}\b(?:sampl\w+|"
    r"integrat\w+|solver|steps|inference|denois\w+|schedul\w+))",
    re.I,
)
_PREDICTS = re.compile(r"\b(?P<n>epsilon|noise|v|velocity|sample|x_?0)[-\s]prediction\b", re.I)
_REWARD = re.compile(
    r"\b(?P<n>sparse|binary|terminal|outcome|success|dense|shaped|"
    r"per-step)[-\s](?:[\w-]+\s){0,2}?(?:rewards?|success signal)\b",
    re.I,
)
_RANGE = re.compile(
    r"^\s*(?:-|–|to|or|and|/|,)\s*(?:\d|(?:" + "|".join(NUMERALS) + r")\b)|^\s*[-–]\s*\d", re.I
)
_RANGE_BEFORE = re.compile(r"(?:\d\s*(?:-|–|or|to|/|,|and)|between)\s*$", re.I)
_CLAUSE = re.compile(
    r"[;:]\s|,\s+(?:and|but|while|whereas|which|where|then)\b|\s(?:but|while|whereas|however)\s|"
    r"(?<=[a-z])\.\s|\sand\s(?=(?:sampl|infer|at |evaluat|deploy|execut|run|decod|generat|denois|"
    r"during))"
)


def said(sentence: str) -> list[Said]:
    """Every value that one sentence states, whoever it is about.

    Example:
      >>> [(s.name, s.value) for s in said("Each dimension has 128 discrete bins; chunks of 16 actions.")]
      [('bins', 128), ('chunk', 16)]
      >>> [(s.name, s.value) for s in said("Trained with 1000 diffusion steps, sampled with 10 DDIM steps.")]
      [('inference_steps', 10), ('train_timesteps', 1000), ('sampler', 'ddim')]
    """
    cuts = [0, *(m.start() + 1 for m in _CLAUSE.finditer(sentence)), len(sentence)]
    out: list[Said] = []
    low = sentence.lower()
    possible = (
        {name for name, stems in _STEMS.items() if any(stem in low for stem in stems)}
        if _NUMERAL.search(sentence)
        else set()
    )
    for rule in (rule for rule in RULES if rule.name in possible):
        for match in rule.pattern.finditer(sentence):
            group = next(name for name in ("n", "m", "k") if name in match.groupdict() and match[name])
            value = NUMERALS.get(match[group].lower(), number(match[group]))
            clause = _clause(sentence, cuts, match.start(group))
            if (
                value is None
                or (rule.needs and not rule.needs.search(sentence))
                or (rule.bans and rule.bans.search(clause))
            ):
                continue
            if not _plausible(rule.name, value) or _in_a_range(
                sentence, match.start(group), match.end(group), rule.name
            ):
                continue
            if not _taken(out, rule.name, match.start(group)):
                out.append(Said(rule.name, value, rule.confidence, match.start(), match.end()))
    return [*out, *_words(sentence, cuts)]


def _taken(out: list[Said], name: str, at: int) -> bool:
    """One number means one thing: a sampling step is no training step as well."""
    return any(
        s.start <= at < s.end and (s.name == name or {s.name, name} <= {"inference_steps", "train_timesteps"})
        for s in out
    )


def _clause(sentence: str, cuts: list[int], at: int) -> str:
    start = max(cut for cut in cuts if cut <= at)
    return sentence[start : min(cut for cut in cuts if cut > at)]


def _plausible(name: str, value) -> bool:
    low, high = {
        "bins": (2, 100_000),
        "chunk": (2, 1000),
        "executed": (1, 1000),
        "inference_steps": (1, 1000),
        "train_timesteps": (2, 10_000),
        "learning_rate": (1e-8, 1),
        "weight_decay": (0, 1),
        "batch_size": (1, 10**7),
        "clip_norm": (1e-4, 1e4),
        "control_hz": (0.1, 2000),
        "action_dims": (1, 100),
    }.get(name, (0, 10**10))
    return low <= value <= high


def _in_a_range(sentence: str, start: int, end: int, name: str) -> bool:
    """ "4 to 10 steps" states no number of steps."""
    if name in ("learning_rate", "weight_decay", "clip_norm", "ema_decay", "gamma", "control_hz"):
        return False
    after = sentence[end : end + 12]
    return bool(
        _RANGE_BEFORE.search(sentence[max(0, start - 12) : start])
        or (_RANGE.match(after) and not re.match(r"\s*,\s*\d{3}\b", after))
    )


def _words(sentence: str, cuts: list[int]) -> list[Said]:
    out: list[Said] = []
    for index, pattern in enumerate(_SCHEDULED):
        for match in pattern.finditer(sentence):
            clause = _clause(sentence, cuts, match.start())
            if index == 2 and (_OF_RATE.search(clause) or not _OF_NOISE.search(sentence)):
                continue
            if re.search(r"learning|\blr\b", match.group(), re.I) or any(s.name == "schedule" for s in out):
                continue
            if re.search(r"\b(?:or|and)\s*$|\b(?:or)\s+\w+\s*$", sentence[: match.start("n")], re.I):
                continue
            word = match["n"].lower().replace("-", " ")
            out.append(Said("schedule", keys.SCHEDULES.get(word, word), 0.9, match.start(), match.end()))
    for match in _REWARD.finditer(sentence):
        dense = re.match(r"dense|shaped|per-step", match["n"], re.I)
        out.append(Said("reward", "dense" if dense else "sparse", 0.8, match.start(), match.end()))
    for match in _RATE.finditer(sentence):
        clause = _clause(sentence, cuts, match.start())
        word = (match["n"] or match["m"]).lower()
        about_rate = _OF_RATE.search(match.group()) or (
            _OF_RATE.search(clause) and not _OF_NOISE.search(clause)
        )
        if about_rate and not any(s.name == "schedule" and s.start <= match.start() < s.end for s in out):
            kind = {"fixed": "constant", "inverse square root": "rsqrt"}.get(word.replace("-", " "), word)
            out.append(Said("lr_schedule", kind, 0.85, match.start(), match.end()))
    for name, pattern, table in (
        ("optimizer", _OPTIMIZER, {}),
        ("dtype", _DTYPE, keys.DTYPES),
        ("sampler", _SAMPLER, {}),
        ("prediction", _PREDICTS, keys.PREDICTIONS),
    ):
        for match in pattern.finditer(sentence):
            word = match["n"].lower()
            word = "float16" if word.startswith("half") else table.get(word, word)
            out.append(Said(name, word, 0.85, match.start(), match.end()))
    return out
