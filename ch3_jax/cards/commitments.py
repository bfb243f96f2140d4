"""One flat record of what trains a policy, whatever it was read from: a text, a card, or the flags of a run.

Consequences and differences are drawn from this record alone. What a source does not say is absent; None
means "there is none" (a gradient that is not clipped).
"""

from collections.abc import Mapping
from typing import Any

from ch3_jax.cards.facts import Card
from ch3_jax.cards.records import Reading
from ch3_jax.cards.terms import FAMILY_OF

# The loss names of this project's runs -> forms.
RUN_FORMS = {
    "ce": "cross_entropy",
    "mse": "mse",
    "l1": "l1",
    "huber": "huber",
    "gmm": "nll",
    "cvae": "cvae",
    "denoising": "epsilon_mse",
    "ddpm": "epsilon_mse",
    "flow": "flow_matching",
    "consistency": "consistency",
    "infonce": "contrastive",
    "ppo": "ppo",
    "sac": "sac",
    "grpo": "grpo",
    "reinforce": "reinforce",
}
_PREDICTIONS = {"eps": "epsilon", "x0": "sample", "v": "v", "velocity": "velocity"}
_EXACT = {"epsilon": "epsilon_mse", "sample": "x0_mse", "v": "v_mse", "velocity": "flow_matching"}
_NORMALISERS = {
    "zscore": "zscore",
    "minmax": "minmax",
    "quantile": "quantile",
    "identity": "none",
    "openvla": "quantile_clip",
    "openvla_minmax": "minmax",
    "openpi": "quantile",
    "openpi_zscore": "zscore",
    "lerobot": "zscore",
    "lerobot_minmax": "minmax",
    "lerobot_quantile": "quantile",
    "diffusion_policy": "minmax",
    "octo": "zscore",
    "octo_quantile": "quantile_clip",
    "act": "zscore",
}
_SAME = {
    "batch_size": "batch_size",
    "weight_decay": "weight_decay",
    "b1": "b1",
    "b2": "b2",
    "dtype": "dtype",
    "accumulate": "accumulate",
    "steps": "steps",
    "epochs": "epochs",
    "learning_rate": "learning_rate",
    "window": "window",
    "horizon": "chunk",
    "warmup": "warmup_steps",
    "sampler": "sampler",
    "sampling_steps": "inference_steps",
    "noise_steps": "train_timesteps",
}
_DENOISED = (
    "flow_matching",
    "epsilon_mse",
    "x0_mse",
    "v_mse",
    "diffusion_unspecified",
    "score_matching",
    "consistency",
)


def from_reading(reading: Reading) -> dict[str, Any]:
    """What a text states.

    Example:
      >>> from ch3_jax.cards import read
      >>> from_reading(read("Trained with cross-entropy over 64 bins per action dimension."))
      {'family': 'supervised', 'form': ['cross_entropy'], 'output': 'tokens', 'bins': 64}
    """
    out: dict[str, Any] = {}
    if reading.family.value != "unknown":
        out["family"] = reading.family.value
    if form := list(reading.forms_as("main") or reading.forms_as("option")):
        out["form"] = form
    if beside := list(reading.forms_as("auxiliary")):
        out["auxiliary"] = beside
    if reading.output:
        out["output"] = reading.output.value
    names = {"observations": "window"}
    return {**out, **{names.get(name, name): found.value for name, found in reading.settings.items()}}


def from_card(card: Card) -> dict[str, Any]:
    """What runs, by the card.

    Example:
      >>> from ch3_jax.cards import facts
      >>> found = from_card(facts.load("act"))
      >>> found["form"], found["chunk"], found["clip_norm"]
      (['l1'], 100, None)
    """
    return {field: fact.value for field, fact in card.facts.items()}


def from_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    """What a run of this project was started with, from the flags in its config.json.

    Example:
      >>> from_flags({"loss": "ce", "bins": 64, "clip": 0.0})
      {'form': ['cross_entropy'], 'family': 'supervised', 'output': 'tokens', 'bins': 64, 'clip_norm': None}
    """
    loss = str(flags.get("loss", ""))
    out: dict[str, Any] = {}
    if form := _run_form(loss, flags.get("prediction")):
        out |= {
            "form": [form],
            "family": FAMILY_OF[form],
            "output": _run_output(form, flags.get("horizon") or 1),
        }
        if form == "cross_entropy" and flags.get("bins"):
            out["bins"] = flags["bins"]
    for flag, name in _SAME.items():
        if flags.get(flag) is not None:
            out.setdefault(name, flags[flag])
    if kind := _PREDICTIONS.get(str(flags.get("prediction"))):
        out["prediction"] = kind
    if law := flags.get("noise_schedule"):
        out["schedule"] = {"squaredcos_cap_v2": "cosine"}.get(law, law)
    if flags.get("schedule"):
        out["lr_schedule"] = {"openpi": "cosine", "lerobot": "cosine"}.get(
            flags["schedule"], flags["schedule"]
        )
    if flags.get("normalize"):
        out["normalisation"] = _NORMALISERS.get(flags["normalize"], flags["normalize"])
    if out.get("bins") and flags.get("bins_rule"):
        out["bin_rule"] = flags["bins_rule"]
    if "clip" in flags:
        out["clip_norm"] = flags["clip"] or None
    if "weight_decay" in flags:
        out["optimizer"] = "adamw"
    if ema := flags.get("ema"):
        out["ema"] = ema if ema in ("none", "power") else "constant"
        if out["ema"] == "constant":
            out["ema_decay"] = float(ema)
    return out


def _run_form(loss: str, prediction: Any) -> str | None:
    """The form of a loss; what a denoiser predicts says which error it is."""
    form = RUN_FORMS.get(loss)
    return _EXACT.get(_PREDICTIONS.get(str(prediction), ""), form) if form == "epsilon_mse" else form


def _run_output(form: str, horizon: int) -> str:
    if form in _DENOISED:
        return "denoised_chunk" if horizon > 1 else "denoised"
    if form == "cross_entropy":
        return "tokens"
    return "chunk" if horizon > 1 else "continuous"
