"""--recipe=NAME: how a published system is trained, from its card, as flags of `experiments.train`.

  python -m experiments.train --recipe=pi0 --explain         every value beside the card's, and why it differs
  python -m experiments.train --recipe=pi0 --data=...        trains by it

Facts stand once, in `third_party/cards`: loss, target, normaliser, chunk, window, sampler, Adam's numbers,
decay, schedule, clip, average and, at `--scale=paper`, batch, rate and length. Flags on the command line
win. At `tiny` and `small` the network has a hundredth of the parameters and trains for minutes, so rate,
batch and length are this project's own.
"""

import textwrap
from typing import Any, NamedTuple

from ch3_jax.cards import facts
from ch3_jax.cards.commitments import from_card, from_flags
from ch3_jax.cards.difference import NOT_STATED, difference
from ch3_jax.errors import InputError
from experiments.flags import RECIPES, SCALES

_LOSS = {"cross_entropy": "ce", "l1": "l1", "epsilon_mse": "ddpm", "flow_matching": "flow"}
_NOISE = {"cosine": "squaredcos_cap_v2"}
_DIRECTION = {"noise_minus_action": "noise_at_1", "action_minus_noise": "noise_at_0"}
_LAW = {"beta_1.5_1": "pi0_beta", "uniform": "uniform"}
# What a card's word for the network and its normaliser is called here.
_NETWORK = {
    "rt1": "rt1", "openvla": "openvla", "act": "act", "diffusion_policy": "unet", "pi0": "expert",
    "octo": "readout",
}  # fmt: skip
_NORMALIZE = {
    "rt1": "minmax", "openvla": "openvla", "act": "act", "diffusion_policy": "diffusion_policy",
    "pi0": "openpi_zscore", "octo": "octo",
}  # fmt: skip
# Of the two small scales: batch, rate, steps.
_OURS = {"tiny": (64, 1e-3, 2_000), "small": (128, 5e-4, 20_000)}

_EVERYWHERE = (
    "observations are states, not images and words: each is one token, or one vector",
    "padding behind an episode's end is masked, and errors are averaged over what is valid",
)
_DEVIATIONS = {
    "rt1": (
        "Adam without decay is AdamW with a decay of 0",
        "bins span the data's range, where RT-1 has the robot's specification",
        "the loss is a mean over action tokens; RT-1 also divides by its image tokens: a constant factor",
        "a gradient that is not finite stops the run; RT-1 replaces it by zeros and says nothing",
        "Adam's rate is constant: the original publishes no schedule",
    ),
    "openvla": (
        "a Llama from scratch, not one that has read the web; a word that is no bin cannot be said",
        "the stop token is not trained on: a sentence of known length needs none",
        "bfloat16 only on request (--dtype=bfloat16)",
    ),
    "act": (
        "one decoder layer: of the original's seven only the first one's answer is read",
        "no dropout",
        "errors of padded steps are left out of the mean, which ACT divides by all steps",
    ),
    "diffusion_policy": (
        "a chunk begins at the newest observation; there at the oldest, and the first action is not executed",
        "padded steps are not trained on, which the original does",
    ),
    "pi0": (
        "no padding to 32 numbers: the mean is over the robot's own",
        "the rate falls to 0, openpi's to a tenth of its peak",
        "padded steps are not trained on, which openpi does",
        "the noisy action is scaled to unit variance before the network sees it",
        "bfloat16 only on request (--dtype=bfloat16)",
    ),
    "octo": (
        "the loss is a mean over numbers; Octo's is that times their count: a constant factor",
        "one readout, of the newest observation",
        "decay acts on all parameters; Octo's on kernels only",
    ),
}


class Recipe(NamedTuple):
    """A system at a scale.

    Attributes:
      name, scale: which.
      flags: of `experiments.train`.
      deviations: from the original, a sentence each.
    """

    name: str
    scale: str
    flags: dict[str, Any]
    deviations: tuple[str, ...]


def recipe(name: str, scale: str = "small") -> Recipe:
    """The recipe of a system.

    Args:
      name: one of `RECIPES`.
      scale: one of `SCALES`.

    Raises:
      InputError: an unknown name or scale.

    >>> recipe("pi0").flags["time_direction"], recipe("octo").flags["noise_steps"]
    ('noise_at_1', 20)
    """
    for what, given, known in (("recipe", name, RECIPES), ("scale", scale, SCALES)):
        if given not in known:
            raise InputError(
                f"--{what}={given} is unknown",
                got=given,
                expected=", ".join(known),
                cause="a misspelt name",
                fix=f"--{what}={known[0] if what == 'recipe' else 'small'}",
            )
    card = facts.load(name)
    value = card.value
    loss = _LOSS[value("form")[0]]
    if "kl" in (value("auxiliary") or ()):
        loss = "cvae"
    network = _NETWORK[name]
    flags = {
        "loss": loss,
        "network": f"{network}:{scale}",
        "normalize": _NORMALIZE[name],
        "window": value("window") or 1,
        "horizon": value("chunk") or 1,
        "weight_decay": value("weight_decay") or 0.0,
        "clip": value("clip_norm") or 0.0,
        "b1": value("b1") or 0.9,
        "b2": value("b2") or 0.999,
        "schedule": {"cosine": "openpi" if name == "pi0" else "cosine"}.get(
            value("lr_schedule") or "constant", value("lr_schedule") or "constant"
        ),
        "ema": {"power": "power", "constant": str(value("ema_decay"))}.get(value("ema"), "none"),
        **_of_loss(loss, value),
        **_length(name, scale, value),
    }
    return Recipe(name, scale, flags, (*_EVERYWHERE, *_DEVIATIONS[name], *_of_scale(network, scale)))


def _of_loss(loss: str, value) -> dict[str, Any]:
    if loss == "ce":
        return {"bins": value("bins"), "bins_rule": value("bin_rule")}
    if loss == "cvae":
        return {"beta": value("kl_weight")}
    sampling = {"sampler": value("sampler"), "sampling_steps": value("inference_steps")}
    if loss == "ddpm":
        return {
            **sampling,
            "prediction": "eps",
            "noise_schedule": _NOISE[value("schedule")],
            "noise_steps": value("train_timesteps"),
        }
    return {
        **sampling,
        "prediction": "velocity",
        "time_direction": _DIRECTION[value("flow_target")],
        "time_law": _LAW[value("time_law")],
    }


def _length(name: str, scale: str, value) -> dict[str, Any]:
    if scale == "paper":
        given = {"batch_size": value("batch_size"), "learning_rate": value("learning_rate")}
        given |= {"steps": value("steps"), "epochs": value("epochs"), "warmup": value("warmup_steps")}
        return {flag: number for flag, number in given.items() if number is not None}
    batch, rate, steps = _OURS[scale]
    warmup = steps // 40 if value("warmup_steps") else 0
    return {"batch_size": batch, "learning_rate": rate, "steps": steps, "warmup": warmup}


def _of_scale(network: str, scale: str) -> tuple[str, ...]:
    if scale == "paper":
        return ()
    batch, rate, steps = _OURS[scale]
    ours = (
        f"batch {batch}, rate {rate:g} and {steps:,} steps are this project's, for what two cores can train"
    )
    return (f"{ours}; --scale=paper has the system's own and {network}:paper",)


def explain(made: Recipe, parameters: int) -> str:
    """The page of --explain, at most 80 columns.

    Args:
      made: the recipe.
      parameters: of its network, for the shapes that the page names.
    """
    card = facts.load(made.name)
    lines = [f"{card.name}, --scale={made.scale}", ""]
    lines += [f"{'':<20}{'card':<28}here", "-" * 80]
    for row in difference(from_card(card), _commitments(made.flags)):
        mark = " " if row.same or NOT_STATED in (row.theirs, row.yours) else "*"
        lines.append(f"{mark} {row.name:<18}{_say(row.theirs):<28}{_say(row.yours)}")
    lines += ["", f"network {made.flags['network']}: {parameters:,} parameters", ""]
    lines.append("Not as the original")
    for sentence in made.deviations:
        lines += textwrap.wrap(sentence, 76, initial_indent="- ", subsequent_indent="  ")
    words = " ".join(f"--{name}={value}" for name, value in made.flags.items())
    lines += ["", "The same by flags"]
    lines += textwrap.wrap(words, 76, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(lines)


def _commitments(flags: dict[str, Any]) -> dict[str, Any]:
    """What the flags commit to, with what every run of this project does."""
    ours = {**from_flags(flags), "reduction": "mean_valid", "mask": "padding", "dtype": "float32"}
    if flags["loss"] == "cvae":
        ours |= {"form": ["l1"], "auxiliary": ["kl"], "output": "chunk", "kl_weight": flags["beta"]}
    return ours


def _say(value: Any) -> str:
    if value is None:
        return "none"
    if value is NOT_STATED:
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def objective(made: Recipe, state: int = 14, action: int = 7):
    """The recipe's policy bound to its loss, for actions within [-1, 1].

    Args:
      made: the recipe.
      state, action: numbers seen and done.
    """
    from ch3_jax.objectives import Shapes, make_objective, options_of
    from ch3_jax.tokens import bins

    shapes = Shapes(made.flags["window"], state, made.flags["horizon"], action)
    table = bins.uniform([-1.0] * action, [1.0] * action, made.flags.get("bins", 2))
    options = {name: made.flags[name] for name in options_of(made.flags["loss"]) if name in made.flags}
    return make_objective(made.flags["loss"], shapes, table, network=made.flags["network"], **options)


def count(made: Recipe) -> int:
    """Parameters of the recipe's network; its shapes alone are computed."""
    import jax

    shapes = jax.eval_shape(objective(made).init, jax.random.key(0))
    return sum(x.size for x in jax.tree.leaves(shapes))
