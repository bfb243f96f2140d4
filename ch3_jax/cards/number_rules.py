"""Patterns for one number each: what stands around it, and what its sentence must and must not speak about.

"100 steps" samples an action, corrupts one in training, or warms a learning rate up; the words around decide.
"""

import re
from typing import NamedTuple

from ch3_jax.cards.pairs import NUMBER

NUMERALS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9}
NUMERALS |= {
    "ten": 10,
    "twelve": 12,
    "sixteen": 16,
    "twenty": 20,
    "thirty": 30,
    "thirty-two": 32,
    "forty": 40,
}
NUMERALS |= {"fifty": 50, "hundred": 100}
_COUNT = r"\d[\d,]*(?!\d)(?!\.\d)(?!\s?(?:hz|ms|fps|%|gb|mb|seconds?)\b)"
_N = rf"(?P<n>{_COUNT}|" + "|".join(sorted(NUMERALS, key=len, reverse=True)) + r")"
_D = rf"(?P<n>{_COUNT})"
_F = rf"(?P<n>{NUMBER.pattern})"
_IS = r"\s*(?:\w+\s)?(?:is|are|of|to|=|:|as|at|was|set to|fixed at|equals)?\s*(?:\$?[A-Za-z]\w?\$?\s*=\s*)?"


class Rule(NamedTuple):
    """A pattern whose group n is the number, and patterns that its clause must and must not hold."""

    name: str
    pattern: re.Pattern
    needs: re.Pattern | None = None
    bans: re.Pattern | None = None
    confidence: float = 0.85


def _rule(name, pattern, needs="", bans="", confidence=0.85):
    make = lambda text: re.compile(text, re.I) if text else None  # noqa: E731
    return Rule(name, make(pattern), make(needs), make(bans), confidence)


_DENOISED = r"denois|integrat|euler|\bode\b|\bflow|diffus|ddim|ddpm|noise"
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
        rf"\bbins\b[^.|\d]{{0,60}}?(?:defaults?(?: to)?|set to|equals?|is|as|=|:)\s*{_D}",
        r"discreti|action|token|dimension",
        rf"{_NOT_ACTIONS}|noise|diffusion|timestep",
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
        rf"\b(?:next|future|following)\s{_N}\s(?:\w+\s)?(?:actions|action steps|joint)",
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
        rf"\b(?:predict|output|generat|produc|emit|yield|denois|"
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
        r"per example|per sample|\bduring training(?! and)",
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
    _rule(
        "inference_steps",
        rf"{_N}\s(?:[\w-]+\s)?(?:steps|iterations)\sfor\s(?:the\s)?actions?\b",
        _DENOISED,
        _TRAINED,
        0.95,
    ),
    _rule(
        "inference_steps",
        rf"\baction\s(?:stream|branch|expert|head|chunk|sequence|"
        rf"tokens?)s?\s\(\D{{0,12}}{_N}\s(?:[\w-]+\s)?steps\)",
        _DENOISED,
        _TRAINED,
    ),
    _rule(
        "inference_steps",
        rf"\b(?:for|at|during) (?:inference|sampling|test(?: time)?)\s*[:=]\s*{_N}\b",
        r"(?:denois|diffus|flow|ddim|sampl)\w*[^.]*\b(?:steps|iterations|timesteps)",
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
        rf"iterations|timesteps)\b(?:\s(?:at|during|for)\s(?:inference|test time|sampling|"
        rf"deployment))?{_IS}{_N}",
        "",
        r"per example",
    ),
    _rule(
        "inference_steps",
        rf"{_N}(?:-step|\ssteps(?:\sof)?)\s(?:denoising|diffusion sampl\w+|euler|ddim|sampling|"
        rf"inference|integration|generation|flow)\b",
    ),
    _rule(
        "inference_steps",
        rf"\b(?:denois|integrat|sampl|generat|infer|solv|refin)\w*\b[^.;]{{0,60}}?\b(?:in|with|for|"
        rf"over|using|takes?)\s(?:only\s|just\s|as few as\s|merely\s)?{_N}\s(?:[\w-]+\s)?(?:steps|"
        rf"iterations)\b",
        _DENOISED,
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
        rf"in)\s{_N}\s(?:(?!diffusion|nois|train)[\w-]+\s){{0,2}}?(?:steps|iterations|timesteps)\b",
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
