"""Numbers that a sentence states: bins, chunk, sampling steps, schedules, the optimizer's settings.

Each rule is a pattern around one number and what its sentence must and must not speak about: "100 steps"
samples an action, corrupts one in training, or warms a learning rate up.
"""

import re
from typing import NamedTuple

from ch3_jax.cards import keys
from ch3_jax.cards.pairs import NUMBER, number

_WORDS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9}
_WORDS |= {"ten": 10, "twelve": 12, "sixteen": 16, "twenty": 20, "thirty": 30, "thirty-two": 32, "forty": 40}
_WORDS |= {"fifty": 50, "hundred": 100}
_N = r"(?P<n>\d[\d,]*(?!\.\d)|" + "|".join(sorted(_WORDS, key=len, reverse=True)) + r")"
_D = r"(?P<n>\d[\d,]*(?!\.\d))"
_F = rf"(?P<n>{NUMBER.pattern})"
_IS = r"\s*(?:\w+\s)?(?:is|are|of|to|=|:|as|at|was|set to|fixed at|equals)?\s*(?:\$?[A-Za-z]\w?\$?\s*=\s*)?"


class Rule(NamedTuple):
    """A pattern whose group n is the number, and patterns that its clause must and must not hold."""

    name: str
    pattern: re.Pattern
    needs: re.Pattern | None = None
    bans: re.Pattern | None = None
    confidence: float = 0.85


class Said(NamedTuple):
    """One value in a sentence, with its place there."""

    name: str
    value: object
    confidence: float
    start: int
    end: int


def _rule(name, pattern, needs="", bans="", confidence=0.85):
    make = lambda text: re.compile(text, re.I) if text else None  # noqa: E731
    return Rule(name, make(pattern), make(needs), make(bans), confidence)


_SAMPLED = (
    r"denois|integrat|euler|sampl|generat|inference|ode\b|flow|diffusion|refine|solver|test time|deploy"
)
_TRAINED = r"\btrain|corrupt|forward process|noise levels|per example|warm"
_AT_TEST = r"inference|test time|sampl|deploy|generat|euler|integrat|at run ?time|rollout|decod"
_NOT_ACTIONS = r"reward|\bvalue\b|\breturns?\b|critic|two-hot|histogram|depth|atoms|parts|objects in"
_BIN = r"(?:bins|buckets|intervals|discrete levels|quanti[sz]ation levels)\b"

RULES: tuple[Rule, ...] = (
    _rule(
        "bins",
        rf"{_D}[-\s](?:[\w-]+\s){{0,3}}?{_BIN}",
        r"action|discreti|token|dimension|uniform|quanti|class",
        _NOT_ACTIONS,
    ),
    _rule("bins", rf"{_D}-(?:bin|way)\b", r"action|discreti|token|dimension", _NOT_ACTIONS),
    _rule(
        "bins",
        rf"\bbins\b[^.|\d]{{0,60}}?(?:defaults? to|set to|equals?|is|=|:)\s*{_D}",
        r"discreti|action|token|dimension",
        _NOT_ACTIONS,
    ),
    _rule(
        "bins",
        rf"\b(?:discreti[sz]|tokeni[sz]|quanti[sz])\w*\s(?:[\w-]+\s){{0,6}}?(?:into|to|in|with|"
        rf"as)\s(?:one\sof\s)?{_D}\s(?:[\w-]+\s){{0,2}}?(?:values|tokens|classes|categories|parts|"
        rf"levels)",
        "",
        _NOT_ACTIONS,
    ),
    _rule(
        "chunk",
        rf"\b(?:action[-\s])?chunk(?:s|ing)?\b(?:\s(?:of\s)?(?:size|length|"
        rf"horizon)s?)?{_IS}{_N}(?!\s*(?:hz|%|demos|episodes|videos))(?=\s|[.,;)]|$)",
        "",
        r"video|buffer|text|audio|past|history",
    ),
    _rule(
        "chunk",
        rf"{_N}[-\s](?:time)?(?:step|action)s?[-\s](?:long\s)?(?:action\s)?(?:chunk|action sequence|"
        rf"sequence of actions)",
        "",
        r"past|history",
    ),
    _rule(
        "chunk",
        rf"\b(?:next|future)\s{_N}\s(?:\w+\s)?(?:actions|action steps|joint)",
        "",
        r"past|video|frames",
    ),
    _rule(
        "chunk",
        rf"{_N}\s(?:future|consecutive|subsequent|upcoming)\s(?:\w+\s)?(?:actions|action steps)",
        "",
        r"execut",
    ),
    _rule(
        "chunk",
        rf"\b(?:action|prediction|pred)[-\s]horizon\b(?:\s\(?T_?\{{?[a-z]?\}}?\)?)?{_IS}{_N}",
        "",
        r"observ|episode",
    ),
    _rule("chunk", rf"\bsequences?\sof\s{_N}\s(?:\w+\s)?actions", "", r"past|history|demonstr"),
    _rule(
        "chunk",
        rf"\b(?:predict|output|generat|produc|emit|denois|"
        rf"decod)\w*\s(?:\w+\s)?{_N}\s(?:\w+\s)?actions?\s(?:at once|at a time|per (?:call|inference|"
        rf"forward|query|pass|step)|in parallel|jointly|ahead|simultaneously|with|in)\b",
        "",
        r"past|history",
    ),
    _rule("executed", rf"\bexecut\w+\s(?:only\s)?(?:the\s)?(?:first\s)?{_N}\s(?:of|actions?|steps)"),
    _rule(
        "inference_steps",
        rf"{_N}[-\s](?:(?!train|gradient|optim|environment|warm|"
        rf"update)[\w-]+[\s-]){{0,2}}?(?:denoising|integration|sampling|inference|euler|ode|ddim|"
        rf"solver|flow[-\s]matching|refinement|generation)"
        r"[-\s](?:(?:integration|denoising|solver|matching|sampling)[-\s])?(?:steps?|iterations?|"
        r"timesteps?)\b",
        "",
        r"per example|per sample|training steps|\bduring training(?! and)",
    ),
    _rule(
        "chunk", rf"\baction\s(?:sequences?|trajector\w+|blocks?)\sof\s(?:length|size)\s(?:\w\s?=\s?)?{_N}"
    ),
    _rule(
        "inference_steps",
        rf"\b(?:i\.e\.|hence|thus|so)[,\s]+{_N}\s(?:[\w-]+\s)?(?:steps|iterations)\b",
        r"denois|integrat|euler|\bode\b|diffusion sampl",
        _TRAINED,
    ),
    _rule(
        "inference_steps",
        rf"{_N}\s(?:function evaluations|NFEs?\b|network evaluations|forward passes of the (?:action|"
        rf"flow|denois))",
    ),
    _rule("inference_steps", rf"\bNFEs?\s*(?:of|=|is|:)?\s*{_N}"),
    _rule(
        "inference_steps",
        rf"\b(?:steps|iterations)\sof\s(?:\w+\s)?(?:denoising|integration|euler|ddim|"
        rf"flow)[^.\d]{{0,12}}?\b(?:is|=|:|to)\s{_N}",
    ),
    _rule(
        "inference_steps",
        rf"{_N}\s(?:steps|iterations)\sof\s(?:\w+\s){{0,2}}?(?:denoising|integration|euler|ddim|ddpm "
        rf"sampling|iterative|the flow|sampling|refinement)",
        "",
        r"during training",
    ),
    _rule(
        "inference_steps",
        rf"\b(?:denoising|inference|sampling|integration|euler|solver|ddim)\s(?:diffusion\s)?(?:steps|"
        rf"iterations|timesteps)\b{_IS}{_N}",
        "",
        r"per example",
    ),
    _rule(
        "inference_steps",
        rf"\b(?:denois|integrat|sampl|generat|infer|solv|refin)\w*\b[^.;]{{0,60}}?\b(?:in|with|for|"
        rf"over|using|takes?)\s(?:only\s|just\s|as few as\s|merely\s)?{_N}\s(?:[\w-]+\s)?(?:steps|"
        rf"iterations)\b",
        _SAMPLED,
        rf"{_TRAINED}|episode|rollout|environment",
        0.8,
    ),
    _rule(
        "inference_steps",
        rf"\b(?:needs?|takes?|requires?|uses?|runs?)\s(?:only\s|just\s|as few as\s)?{_N}\s(?:steps|"
        rf"iterations)\b",
        r"flow|diffusion|denois|integrat|euler|\bode\b",
        rf"{_TRAINED}|episode|rollout|environment",
        0.7,
    ),
    _rule(
        "inference_steps",
        rf"\b(?:euler|ddim|ddpm|ode|dpm)[^.;\d]{{0,40}}?\b(?:with|for|using|"
        rf"in)\s{_N}\s(?:[\w-]+\s){{0,2}}?(?:steps|iterations)\b",
        "",
        r"during training|\btrained with",
    ),
    _rule(
        "inference_steps",
        rf"{_N}\s(?:diffusion|noise)[-\s](?:steps|iterations|timesteps)\b",
        _AT_TEST,
        r"\b(?:for|during|in) (?:both )?training\b(?! and)|\btraining (?:uses|diffusion)|\btrain\w* "
        r"(?:with|using|over|on)\b",
    ),
    _rule(
        "train_timesteps",
        rf"{_N}\s(?:[\w-]+\s)?(?:diffusion|noise|noising|corruption|ddpm)[-\s](?:steps|timesteps|"
        rf"levels|iterations)\b",
    ),
    _rule(
        "train_timesteps",
        rf"\b(?:diffusion|noising) (?:steps|timesteps)\b{_IS}{_N}",
        "",
        r"inference|sampling",
    ),
    _rule("learning_rate", rf"\blearning[-\s]rate\b[^.;,\d]{{0,40}}?{_F}", "", "", 0.9),
    _rule("learning_rate", rf"\bLR\b\s*(?:of|=|:|is)?\s*{_F}"),
    _rule("learning_rate", rf"{_F}\s(?:peak\s|initial\s|constant\s|base\s)?learning[-\s]rate"),
    _rule(
        "weight_decay",
        rf"\bweight[-\s]decay\b(?:\s*(?:of|=|:|is|to|coefficient|factor|set)){{0,2}}\s*{_F}",
        "",
        "",
        0.9,
    ),
    _rule(
        "batch_size",
        r"\bbatch[-\s]sizes?\b(?:\s*(?:of|=|:|is|to|set)){0,2}\s*(?P<n>\d[\d,]*)",
        "",
        "",
        0.9,
    ),
    _rule(
        "batch_size",
        r"(?P<n>\d[\d,]*)\s(?:samples|sequences|transitions|examples)\sper\s(?:batch|update|step)",
    ),
    _rule(
        "warmup_steps",
        r"(?P<n>\d[\d,]*k?)\s(?:\w+\s)?warm-?\s?up\s(?:steps|iterations|updates)|"
        r"\bwarm-?\s?up\b[^.;\d]{0,30}?(?P<m>\d[\d,]*k?)\s(?:steps|iterations|updates)",
    ),
    _rule(
        "clip_norm",
        rf"\b(?:gradient|grad)(?:ient)?[-\s](?:norm\s)?(?:clip\w*|norms?)[^.;,\d]{{0,40}}?{_F}|"
        rf"\bclip\w*\s(?:the\s)?(?:global\s)?grad\w*[^.;,\d]{{0,40}}?(?P<m>{NUMBER.pattern})|"
        rf"\bgradients?\s(?:is|are)\sclipped\s[^.;,\d]{{0,40}}?(?P<k>{NUMBER.pattern})",
    ),
    _rule("ema_decay", r"\b(?:EMA|exponential moving average)\b[^.;\d]{0,60}?(?P<n>0?\.\d+)"),
    _rule("epochs", r"(?P<n>\d[\d,]*)\s(?:training\s)?epochs\b", "", r"ppo|per (?:update|iteration)"),
    _rule(
        "steps",
        r"\b(?:for|total of|trained for|after)\s(?:about\s)?(?P<n>\d[\d,.]*\s?[kKM]?)\s(?:gradient\s|"
        r"training\s|optimi[sz]\w+\s|update\s)?(?:steps|iterations|updates)\b",
        r"train|optimi|gradient|fine-?tun|updat",
        r"denois|sampl|environment|episode|horizon",
    ),
    _rule(
        "gamma",
        r"\bdiscount(?:\s(?:factor|rate))?\b[^.;\d]{0,20}?(?P<n>0?\.\d+)|(?:γ|\\gamma)\s*=\s*(?P<m>0?\.\d+)",
    ),
    _rule("lora_rank", r"\brank[-\s]?(?:of|=|:)?\s?(?P<n>\d+)", r"lora|low-rank|adapter"),
    _rule("control_hz", r"(?P<n>\d+(?:\.\d+)?)\s?Hz\b", r"control|command|frequency|polic|action|robot|run"),
    _rule(
        "action_dims",
        r"(?P<n>\d+)[-\s](?:dimensional|dim|dof|d)\b(?:\s\w+)?\s(?:action|joint|arm|robot)|"
        r"(?P<m>\d+)\s(?:action\s)(?:dimensions|tokens per)|\bone token per dimension of (?P<k>\d+)",
        "",
        "",
    ),
)

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
_NUMERAL = re.compile(r"\d|\b(?:" + "|".join(_WORDS) + r")\b", re.I)
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
_RANGE = re.compile(r"^\s*(?:-|–|to|or|and|/|,)\s*(?:\d|(?:" + "|".join(_WORDS) + r")\b)|^\s*[-–]\s*\d", re.I)
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
            value = _WORDS.get(match[group].lower(), number(match[group]))
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
