"""What a configuration key means, read from the words that it is made of.

No list of anybody's keys: `n_inference_steps`, `policy.num_denoise_steps` and `sampler.euler_steps` are all
"a number of steps" of "something that samples", and `num_train_timesteps` is not.
"""

import re

from ch3_jax.cards.pairs import Pair, number

SCHEDULES = {
    "squaredcos_cap_v2": "cosine",
    "squaredcos": "cosine",
    "squared cosine": "cosine",
    "cosine": "cosine",
    "linear": "linear",
    "scaled_linear": "scaled_linear",
    "exponential": "exponential",
    "karras": "karras",
    "sigmoid": "sigmoid",
    "polynomial": "polynomial",
    "vp": "vp",
}
LR_SCHEDULES = {
    "cosine": "cosine",
    "constant": "constant",
    "constant_with_warmup": "constant",
    "linear": "linear",
    "step": "step",
    "multistep": "step",
    "multisteplr": "step",
    "rsqrt": "rsqrt",
    "inverse_sqrt": "rsqrt",
    "polynomial": "polynomial",
    "exponential": "exponential",
    "none": "constant",
}
PREDICTIONS = {
    "epsilon": "epsilon",
    "eps": "epsilon",
    "noise": "epsilon",
    "pred_noise": "epsilon",
    "sample": "sample",
    "x0": "sample",
    "x_0": "sample",
    "pred_x0": "sample",
    "clean": "sample",
    "v_prediction": "v",
    "v": "v",
    "pred_v": "v",
    "velocity": "velocity",
    "flow": "velocity",
}
SAMPLERS = {
    "ddpm": "ddpm",
    "ddim": "ddim",
    "euler": "euler",
    "heun": "heun",
    "dpm": "dpm-solver",
    "midpoint": "midpoint",
    "rk4": "rk4",
}
DTYPES = {
    "bf16": "bfloat16",
    "bfloat16": "bfloat16",
    "fp16": "float16",
    "float16": "float16",
    "fp32": "float32",
    "float32": "float32",
}
OPTIMIZERS = ("adamw", "adam", "sgd", "adafactor", "lion", "muon", "rmsprop", "lamb")

_STEPS = {"steps", "step", "timesteps", "timestep", "iters", "iterations", "nfe", "evaluations"}
_SAMPLES = {
    "inference",
    "infer",
    "denoising",
    "denoise",
    "sampling",
    "integration",
    "ode",
    "euler",
    "ddim",
    "solver",
    "nfe",
    "eval",
}
_TRAINS = {"train", "training", "repeated", "repeat", "repeats", "warmup", "decay", "ft", "per"}
_SAID = re.compile(r"denois|integrat|euler|\bflow\b|\bode\b|diffusion|sampl|solver|refinement")
_IN_TRAINING = re.compile(r"\b(?:during|in|for|at) training\b|\btrained|per example|per sample|augment")
_AT_TEST = re.compile(r"infer|test[- ]time|during sampling|sampling steps")
_OTHER_HORIZON = re.compile(
    r"episode|rollout|discount|planning|environment|max(?:imum)? (?:number of )?steps|observ|history"
)
_OTHER_CHUNK = {
    "buf",
    "buffer",
    "attention",
    "text",
    "audio",
    "overlap",
    "video",
    "shuffle",
    "state",
    "obs",
    "file",
    "prefill",
    "weight",
}


def words(key: str) -> list[str]:
    """The words of a key, lower case.

    Example:
      >>> words("policy.numInferenceSteps"), words("n_bins"), words("--lr-warmup")
      (['policy', 'num', 'inference', 'steps'], ['n', 'bins'], ['lr', 'warmup'])
    """
    key = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key)
    return [word for word in re.split(r"[^A-Za-z0-9]+", key.lower()) if word]


_ALONE = (
    ({"gamma", "discount"}, "gamma"),
    ({"accumulate", "accumulation"}, "accumulate"),
    ({"rank"}, "lora_rank"),
    ({"beta1", "b1"}, "b1"),
    ({"beta2", "b2"}, "b2"),
)


def meaning(pair: Pair) -> tuple[str, object] | None:
    """(name, value) of a setting, None for one that says nothing about the loss, the output or the optimizer.

    Args:
      pair: from `pairs.pairs`.

    Example:
      >>> meaning(Pair("policy.num_denoise_steps", "10", "during sampling", 0, 0))
      ('inference_steps', 10)
      >>> meaning(Pair("num_flow_timesteps", "8", "sampled per example during training", 0, 0)) is None
      True
      >>> meaning(Pair("lr_scheduler", "cosine", "", 0, 0))
      ('lr_schedule', 'cosine')
      >>> meaning(Pair("beta_schedule", "squaredcos_cap_v2", "", 0, 0))
      ('schedule', 'cosine')
    """
    path = pair.key.rsplit(".", 1)
    own = words(path[-1])
    parents = set(words(path[0])) if len(path) > 1 else set()
    if not own:
        return None
    value = number(pair.value)
    if pair.loose and own == ["steps"]:
        return None  # Between words it may count anything.
    if value is not None:
        return _of_number(own, parents, pair.about.lower(), value)
    return _of_word(own, parents, pair.value.strip().strip("\"'").lower())


def _of_number(own: list[str], parents: set[str], about: str, value) -> tuple[str, object] | None:
    has = set(own)
    whole = isinstance(value, int) and value > 0
    if whole:
        for rule in (_bins, _chunk, _sampling):
            if name := rule(own, has, parents, about, value):
                return (name, value) if name != "nothing" else None
    return _optimizer_number(own, has, parents, value)


def _bins(own, has, parents, about, value):
    if not has & {"bins", "bin", "nbins"} and not (
        "bins" in about and has & {"vocab", "tokens", "num", "n"} and "discreti" in about
    ):
        return None
    if parents & {"noise", "scheduler", "diffusion", "sampler"}:
        return "nothing"
    if has & {"depth", "histogram", "value", "reward", "critic", "orientation", "size", "width"} or value < 2:
        return "nothing"
    return "bins"


def _chunk(own, has, parents, about, value):
    joined = " ".join(own)
    if (
        has & {"obs", "observation", "history", "window"}
        and has & {"steps", "window", "horizon", "size", "length", "history"}
        and value < 100
    ):
        return "observations"
    if has & _OTHER_CHUNK or value > 1000:
        return None
    if "chunk" in joined and (
        has & {"size", "len", "length", "horizon", "actions", "action", "steps"}
        or has <= {"chunk", "action", "k", "h"}
    ):
        return "chunk"
    ahead = has & {"action", "pred", "prediction", "act", "policy"}
    if "future" in has:
        return None  # Some count the current action, some do not.
    ahead = ahead or (own == ["horizon"] and not parents & {"env", "rl", "mpc", "task"})
    if "horizon" in has and ahead and not _OTHER_HORIZON.search(about):
        return "chunk"
    if has & {"action", "actions"} and has & {"sequence", "seq"} and has & {"length", "len", "size"}:
        return "chunk"
    if joined in ("num queries", "n queries") and value > 1:
        return "chunk"
    if (
        has & {"action", "actions"}
        and has & {"steps", "execute", "executed", "exec"}
        and not has & {"pred", "prediction", "obs", "train", "total", "max"}
    ):
        return "executed"
    return None


def _sampling(own, has, parents, about, value):
    if not has & _STEPS:
        return None
    said = _SAID.search(about)
    trained = _IN_TRAINING.search(about) and not _AT_TEST.search(about)
    if (
        has & {"diffusion", "noise", "ddpm", "flow", *_SAMPLES}
        and (has & {"repeated", "repeat", "repeats"} or trained)
        and "train" not in has
    ):
        return "nothing"
    if (
        has & _SAMPLES
        and not has & _TRAINS
        and value <= 1000
        and not has & {"freq", "every", "interval", "rate"}
    ):
        # `eval_steps` counts evaluations unless something is being sampled.
        return None if "eval" in has and not said and not has & (_SAMPLES - {"eval"}) else "inference_steps"
    if has & {"flow", "sample"} and not has & _TRAINS and value <= 200 and ("flow" in has or said):
        return "inference_steps"
    if has & {"timesteps", "timestep"} and has & {"train", "training"} and value <= 10_000:
        return "train_timesteps"
    if has & {"diffusion", "ddpm", "noise"} and not has & {"train"} and value <= 10_000:
        return "train_timesteps"
    in_sampler = parents & {"sampler", "sampling", "inference", "scheduler", "diffusion", "flow", "ode"}
    if has <= {"num", "n", *_STEPS} and value <= 200 and (said or in_sampler) and not trained:
        return "inference_steps"
    return None


def _optimizer_number(own, has, parents, value):
    joined = " ".join(own)
    if has & {"frequency", "freq", "every", "interval", "log", "save", "seed"}:
        return None
    if has & {"warmup"} or "warm up" in joined:
        return ("warmup_ratio" if has & {"ratio", "frac", "fraction"} else "warmup_steps"), value
    if (has & {"lr"} or "learning rate" in joined) and not has & {
        "decay",
        "backbone",
        "min",
        "end",
        "final",
        "steps",
        "scheduler",
        "critic",
        "warmup",
        "multiplier",
    }:
        return ("learning_rate", value) if 0 < value < 10 else None
    if (
        (has & {"lr"} or "learning rate" in joined)
        and has & {"min", "end", "final", "decay"}
        and not has & {"steps"}
        and 0 < value < 1
    ):
        return "end_learning_rate", value
    if has & {"decay"} and has & {"steps"} and value >= 10:
        return "decay_steps", value
    if has & {"wd"} or "weight decay" in joined:
        return "weight_decay", value
    if (
        (has | parents) & {"ema"}
        and has & {"decay", "rate", "max", "value", "momentum", "ema"}
        and 0.5 < value < 1
    ):
        return "ema_decay", value
    if (has & {"clip", "clipping", "max"} and has & {"grad", "gradient", "norm"}) and not has & {
        "eps",
        "param",
    }:
        return "clip_norm", value
    if "batch" in joined and not has & {"eval", "val", "test", "sample", "num", "mini", "inference"}:
        return ("batch_size", value) if isinstance(value, int) and value > 0 else None
    if has & {"epochs", "epoch"} and not has & {"ppo", "update", "critic", "warmup"}:
        return "epochs", value
    if (
        has & {"steps", "iterations", "iters"}
        and has & {"train", "training", "max", "total", "gradient"}
        and value >= 100
    ):
        return "steps", value
    if own == ["steps"] and value >= 1000:
        return "steps", value
    for names, name in _ALONE:
        if has & names and not has & {"inv", "lr", "world"}:
            return name, value
    return None


def _of_word(own: list[str], parents: set[str], value: str) -> tuple[str, object] | None:
    has = set(own)
    joined = " ".join(own)
    noise = has & {
        "beta",
        "betas",
        "noise",
        "diffusion",
        "variance",
        "alpha",
        "sigma",
        "mask",
        "masking",
    } or parents & {
        "noise",
        "diffusion",
        "ddpm",
        "ddim",
    }
    if has & {"schedule", "scheduler", "schedules"} or ("lr" in has and "type" in has):
        if noise and not has & {"lr", "learning"}:
            if value in SCHEDULES:
                return "schedule", SCHEDULES[value]
            return _sampler(value)
        kind = next((name for key, name in LR_SCHEDULES.items() if re.search(rf"(?:^|_){key}", value)), None)
        return ("lr_schedule", kind) if kind else None
    if "prediction" in has or joined in ("pred type", "parameterization", "parametrization", "predict type"):
        return ("prediction", PREDICTIONS[value]) if value in PREDICTIONS else None
    if "predict" in has and has & {"epsilon", "noise"} and value in ("true", "1"):
        return "prediction", "epsilon"
    if has & {"sampler", "solver"} or (own[-1] in ("type", "target") and parents & {"scheduler", "sampler"}):
        return _sampler(value)
    if has & {"optimizer", "optim", "optimiser"} or (
        own[-1] in ("type", "name", "target") and parents & {"optimizer", "optim"}
    ):
        kind = next(
            (
                name
                for name in OPTIMIZERS
                if re.search(rf"(?<![a-z]){name}(?![a-z])", value.replace("_", " "))
            ),
            None,
        )
        return ("optimizer", kind) if kind else None
    if has & {"dtype", "precision", "bf16", "fp16"}:
        if value in ("true", "1") and has & {"bf16", "fp16"}:
            return "dtype", DTYPES[(has & {"bf16", "fp16"}).pop()]
        return ("dtype", DTYPES[value]) if value in DTYPES else None
    return None


def _sampler(value: str) -> tuple[str, str] | None:
    kind = next((name for key, name in SAMPLERS.items() if key in value), None)
    return ("sampler", kind) if kind else None
