"""Two recipes side by side: every hyperparameter of one beside the other's, and what the difference is likely
to do.

The effects are rules of thumb, said as such ("likely"), with the ratio where there is one: they are where to
look first, not a prediction.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

NOT_STATED = "not stated"

# The order of the rows; what neither side states is left out.
ORDER = (
    *(
        "family",
        "form",
        "auxiliary",
        "output",
        "bins",
        "bin_centres",
        "bin_rule",
        "normalisation",
        "reduction",
        "mask",
    ),
    *(
        "chunk",
        "executed",
        "window",
        "prediction",
        "schedule",
        "train_timesteps",
        "sampler",
        "inference_steps",
    ),
    *(
        "optimizer",
        "learning_rate",
        "lr_schedule",
        "warmup_steps",
        "warmup_ratio",
        "decay_steps",
        "end_learning_rate",
    ),
    *(
        "weight_decay",
        "b1",
        "b2",
        "adam_eps",
        "clip_norm",
        "batch_size",
        "accumulate",
        "steps",
        "epochs",
        "dtype",
    ),
    *("ema", "ema_decay", "lora_rank", "gamma", "clip_ratio", "kl_weight"),
)


class Row(NamedTuple):
    """One hyperparameter.

    Attributes:
      name: field.
      theirs: value, or "not stated"; None is "none".
      yours: the same.
      same: True where both state the same.
      effect: what the difference is likely to do; "" where there is none, or one side does not state it.
    """

    name: str
    theirs: Any
    yours: Any
    same: bool
    effect: str


def difference(theirs: Mapping[str, Any], yours: Mapping[str, Any]) -> tuple[Row, ...]:
    """The table of two recipes.

    Args:
      theirs: commitments of the text or card.
      yours: commitments of your run.

    Returns:
      rows in the order of `ORDER`, each with both values.

    Example:
      >>> rows = difference({"learning_rate": 2e-5}, {"learning_rate": 1e-3})
      >>> rows[0].name, rows[0].effect
      ('learning_rate', '50 x larger: watch for oscillation, spikes and update ratios above 1e-2')
    """
    rows = []
    for name in ORDER:
        if name not in theirs and name not in yours:
            continue
        a, b = theirs.get(name, NOT_STATED), yours.get(name, NOT_STATED)
        stated = a is not NOT_STATED and b is not NOT_STATED
        same = stated and _equal(a, b)
        rows.append(Row(name, a, b, same, _effect(name, a, b, theirs, yours) if stated and not same else ""))
    return tuple(rows)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, int | float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=1e-9)
    return a == b


def _effect(name: str, a: Any, b: Any, theirs: Mapping[str, Any], yours: Mapping[str, Any]) -> str:
    """Yours against theirs, in words."""
    if name in _RATIOS:
        return _of_ratio(name, a, b)
    if name in ("form", "family"):
        return _of_form(a, b) if name == "form" else "another source of the signal: other checks come first"
    said = _WORDS.get(name)
    return said(a, b) if said else "different"


def _of_ratio(name: str, a: Any, b: Any) -> str:
    larger, smaller = _RATIOS[name]
    if not a or not b or not isinstance(a, int | float) or not isinstance(b, int | float):
        none, some = ("yours", "theirs") if not b else ("theirs", "yours")
        return f"{some} has it, {none} does not: {larger if none == 'theirs' else smaller}"
    ratio = b / a
    times = f"{ratio:.3g} x larger" if ratio > 1 else f"{1 / ratio:.3g} x smaller"
    return f"{times}: {larger if ratio > 1 else smaller}"


# field -> (what more of it does, what less of it does)
_RATIOS = {
    "learning_rate": (
        "watch for oscillation, spikes and update ratios above 1e-2",
        "slower; an early plateau may be the rate, not the model",
    ),
    "end_learning_rate": ("noisier at the end", "settles further at the end"),
    "batch_size": (
        "steadier gradients, fewer updates per epoch; theirs bore a rate for its own batch",
        "noisier gradients, more updates per epoch; a rate tuned for theirs may be too large",
    ),
    "weight_decay": ("pulls weights to zero harder", "less regularised: memorises small data sooner"),
    "warmup_steps": ("slower start", "early spikes more likely, above all at a high rate"),
    "warmup_ratio": ("slower start", "early spikes more likely"),
    "decay_steps": ("the rate stays high for longer", "the rate falls earlier"),
    "clip_norm": (
        "lets larger steps through",
        "a bad batch can move the weights further where there is no bound",
    ),
    "bins": ("finer actions, a longer tail of empty bins, a higher first loss (ln K)", "coarser actions"),
    "bin_centres": ("finer actions", "coarser actions"),
    "chunk": ("fewer decisions, longer open loop", "reacts sooner, compounds more small errors"),
    "executed": ("longer open loop", "replans more often"),
    "window": ("sees more history: may copy the last action", "may miss velocity or occlusion"),
    "inference_steps": ("slower, closer to the learnt law", "faster, larger integration error"),
    "train_timesteps": ("finer noise levels", "coarser noise levels"),
    "steps": ("longer training: look for overfitting", "stopped earlier: compare at equal updates"),
    "epochs": ("sees each sample more often: look for overfitting", "sees each sample less often"),
    "accumulate": ("larger effective batch", "smaller effective batch"),
    "ema_decay": ("averages over more steps: evaluates late", "averages over fewer steps: noisier"),
    "b1": ("more momentum", "less momentum"),
    "b2": ("slower estimate of the scale", "quicker estimate of the scale: for short runs and rare tokens"),
    "adam_eps": ("damps small gradients", "amplifies tiny gradients"),
    "lora_rank": ("more capacity to change", "less capacity to change"),
    "gamma": ("credit reaches further back, more variance", "short-sighted: late rewards vanish"),
    "clip_ratio": ("bolder policy updates", "more cautious policy updates"),
    "kl_weight": ("held closer to the reference or prior", "freer: may collapse or drift"),
}


def _named(words: Mapping[Any, str]):
    def say(a: Any, b: Any) -> str:
        return words.get(b, "different")

    return say


def _dtype(a: Any, b: Any) -> str:
    if b == "float32":
        return "yours is more exact and slower; small updates are not rounded away"
    return "yours rounds to 3 digits (bfloat16) or overflows at 65,504 (float16): keep losses in float32"


def _lr_schedule(a: Any, b: Any) -> str:
    if a == "constant":
        return (
            f"yours ends by {b}: a lower, smoother end of the curve; the two losses compare at the end alone"
        )
    return f"{a} against {b}: compare losses at the end, not on the way"


_WORDS = {
    "output": _named(
        {
            "tokens": "yours chooses a bin: no averaging, resolution of a bin",
            "continuous": "yours gives one number per dimension: averages modes",
            "chunk": "yours gives numbers, many steps at once: averages modes",
            "denoised": "yours samples: keeps modes, needs several calls",
            "denoised_chunk": "yours samples whole chunks: keeps modes, needs several calls",
        }
    ),
    "normalisation": _named(
        {
            "zscore": "outliers stretch yours; values reach beyond [-1, 1]",
            "minmax": "one outlier squeezes everything else in yours",
            "quantile": "yours leaves 2 % of the values outside [-1, 1]",
            "quantile_clip": "yours cuts 2 % of the values off",
            "none": "yours trains on raw units: scales of dimensions differ",
        }
    ),
    "reduction": lambda a, b: "the same model reports another number: do not compare the losses",
    "mask": lambda a, b: "other elements count: do not compare the losses",
    "bin_rule": lambda a, b: "bins lie elsewhere: the same action is another token",
    "prediction": lambda a, b: "another target and another weight of the noise levels",
    "schedule": lambda a, b: "other noise levels are trained on; check what is left at the last one",
    "sampler": lambda a, b: "another path from noise to action: compare sampled actions",
    "optimizer": lambda a, b: "decoupled decay or not, momentum or not: the rates do not compare",
    "lr_schedule": _lr_schedule,
    "dtype": _dtype,
    "ema": _named(
        {
            "none": "yours evaluates the last weights: noisier from checkpoint to checkpoint",
            "constant": "yours evaluates an average: smoother, late after changes",
            "power": "yours evaluates a growing average: smoother, late after changes",
        }
    ),
    "auxiliary": lambda a, b: "another term pulls on the same weights: log each on its own",
}


def _of_form(a: Any, b: Any) -> str:
    ours = set(b or ())
    if ours & {"mse", "huber"}:
        return "yours averages two ways of doing it"
    if ours & {"l1"}:
        return "yours takes the median: a minority way disappears"
    if ours & {"cross_entropy"}:
        return "yours keeps modes apart in each dimension, not across dimensions"
    return "other units: the losses do not compare"
