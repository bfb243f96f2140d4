"""Cards of published systems: how each is really trained, each value with its source.

A card is one JSON file of `third_party/cards`. JSON, because it is read by the standard library alone and has
one meaning; what a comment would say stands in a `note`. A fact is

  {"value": 100, "basis": "code", "source": "imitate_episodes.py", "note": "...", "paper": {"value": ...,
  "source": ...}}

`value` is what runs; `paper` is there where the paper says something else. `basis` is "code" (read in the
source at the path named), "documentation", "paper", or "not_checked" for what nobody has looked up. None as a
value means "there is none", as for a gradient that is not clipped.

`FIELDS` is the schema: a fact that is not in it, or has another type, is refused.
"""

import functools
import importlib.resources
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from ch3_jax.cards.records import FAMILIES, FORMS, OUTPUTS
from ch3_jax.errors import InputError

BASES = ("code", "documentation", "paper", "not_checked")
_AUXILIARY = (*FORMS, "kl", "entropy", "value")

# field -> (type of its value, or the words that it may be; meaning)
FIELDS: dict[str, tuple[Any, str]] = {
    "family": (FAMILIES[:3], "where the training signal comes from"),
    "form": ([*FORMS], "main losses"),
    "auxiliary": ([*_AUXILIARY], "losses beside the main one"),
    "alternative": ([*FORMS], "another head that the same code offers"),
    "starts_from": ([*FORMS], "loss of the policy that is tuned further"),
    "reduction": (
        (
            *("mean_all", "mean_valid", "mean_valid_example", "mean_valid_times_action_dim"),
            *("mean_tokens_and_images", "sum"),
        ),
        "how the elements become one number",
    ),
    "mask": (
        ("none", "padding", "valid_steps", "action_tokens", "action_tokens_and_stop", "inpainting"),
        "what the loss leaves out",
    ),
    "output": (tuple(OUTPUTS), "action representation"),
    "bins": (int, "bins of an action dimension"),
    "bin_centres": (int, "values that can come out"),
    "bin_rule": (("rt1", "openvla", "octo", "minmax", "quantile"), "where the bins lie"),
    "tokenizer": (("fast",), "of action chunks"),
    "vocabulary": (int, "tokens of that tokenizer"),
    "normalisation": (
        ("none", "spec_range", "quantile", "quantile_clip", "minmax", "zscore", "clip"),
        "of the actions",
    ),
    "chunk": (int, "actions of one prediction"),
    "executed": (int, "actions executed before the next prediction"),
    "window": (int, "observations"),
    "action_dims": (int, "action dimensions of the network"),
    "ensembling": (float, "decay of the temporal ensemble's weights"),
    "control_hz": (float, "control frequency, 1/s"),
    "prediction": (("epsilon", "sample", "v", "velocity"), "what a denoiser predicts"),
    "flow_target": (("noise_minus_action", "action_minus_noise"), "direction of the velocity"),
    "time_law": (("uniform", "beta_1.5_1"), "distribution of the flow time"),
    "schedule": (("cosine", "linear"), "of the noise"),
    "train_timesteps": (int, "noise levels in training"),
    "sampler": (("ddpm", "ddim", "dpm-solver", "euler", "greedy", "prior_mean", "one_step"), "at inference"),
    "inference_steps": (int, "network calls of one prediction"),
    "tuned_steps": (int, "denoising steps that reinforcement tunes"),
    "optimizer": (("adam", "adamw", "sgd"), ""),
    "learning_rate": (float, "peak"),
    "learning_rate_lora": (float, "peak, low-rank adapters"),
    "learning_rate_critic": (float, "peak, critic"),
    "end_learning_rate": (float, "at the end of the decay"),
    "lr_schedule": (("constant", "cosine", "linear", "rsqrt", "step"), "of the rate"),
    "warmup_steps": (int, "updates of rising rate"),
    "warmup_ratio": (float, "share of the run"),
    "decay_steps": (int, "updates until the rate has fallen"),
    "weight_decay": (float, "decoupled"),
    "b1": (float, "Adam's first decay"),
    "b2": (float, "Adam's second decay"),
    "adam_eps": (float, ""),
    "clip_norm": (float, "bound of the gradient's global norm"),
    "batch_size": (int, "samples of an update"),
    "batch_size_lora": (int, "samples of an update, low-rank adapters"),
    "lora_rank": (int, ""),
    "accumulate": (int, "micro-batches of an update"),
    "steps": (int, "updates"),
    "epochs": (int, "passes over the data"),
    "dtype": (("float32", "bfloat16", "float16"), "of the computation"),
    "ema": (("none", "constant", "power", "pretraining"), "average of the parameters"),
    "ema_decay": (float, "or its maximum"),
    "nonfinite": (("replaced_by_zero", "stop"), "what happens to NaN gradients"),
    "kl_weight": (float, ""),
    "clip_ratio": (float, "of the policy ratio"),
    "clip_ratio_high": (float, "of the policy ratio, upwards"),
    "target_kl": (float, "stops the updates of an iteration"),
    "update_epochs": (int, "passes over a collected batch"),
    "group": (int, "rollouts that share a baseline"),
    "temperature": (float, "of sampled tokens"),
    "minimum_std": (float, "of a sampled action"),
    "reward": (("binary_success", "dense"), ""),
    "keep_accuracy": ([float], "bounds of the success rate of a group that is kept"),
}


class Fact(NamedTuple):
    """One value of a card; see the file's docstring."""

    value: Any
    basis: str
    source: str
    note: str = ""
    paper: tuple[Any, str] | None = None


class Card(NamedTuple):
    """A system: key, name, paper, repository and its facts by field."""

    key: str
    name: str
    paper: Mapping[str, Any]
    repository: str
    facts: Mapping[str, Fact]

    def value(self, field: str) -> Any:
        """What runs, None if the card does not say or there is none."""
        return self.facts[field].value if field in self.facts else None


def names() -> tuple[str, ...]:
    """Keys of all cards, sorted.

    Example:
      >>> "openvla" in names()
      True
    """
    folder = importlib.resources.files("third_party") / "cards"
    return tuple(
        sorted(path.name.removesuffix(".json") for path in folder.iterdir() if path.name.endswith(".json"))
    )


@functools.cache
def load(name: str) -> Card:
    """The card of a system, checked against the schema.

    Args:
      name: key or name, in any case: "openvla", "OpenVLA-OFT", "pi0.5".

    Raises:
      InputError: no such card, or a card that does not keep to the schema.

    Example:
      >>> card = load("OpenVLA")
      >>> card.value("learning_rate"), card.facts["bin_centres"].value, card.facts["bin_centres"].paper[0]
      (2e-05, 255, 256)
    """
    wanted = _plain(name)
    folder = importlib.resources.files("third_party") / "cards"
    for key in names():
        content = json.loads((folder / f"{key}.json").read_text())
        if wanted in (_plain(key), _plain(content.get("name", ""))):
            return parse(content)
    raise InputError(
        f"there is no card {name!r}",
        got=name,
        expected="one of " + ", ".join(names()),
        cause="a mistyped name, or a system that has no card yet",
        fix="choose a name from the list",
    )


def parse(content: Mapping[str, Any]) -> Card:
    """A card from the content of its file.

    Raises:
      InputError: names every field that breaks the schema, and how.
    """
    problems = [*_problems_of_head(content)]
    facts = {}
    for field, fact in content.get("facts", {}).items():
        wrong = list(_problems_of_fact(field, fact))
        problems += wrong
        if not wrong:
            paper = fact.get("paper")
            facts[field] = Fact(
                fact["value"],
                fact["basis"],
                fact["source"],
                fact.get("note", ""),
                (paper["value"], paper["source"]) if paper else None,
            )
    problems += [
        f"{field} is missing"
        for field in ("family", "form", "output")
        if field not in content.get("facts", {})
    ]
    if problems:
        raise InputError(
            f"the card {content.get('key', '?')!r} does not keep to the schema",
            got="; ".join(problems),
            expected="facts of ch3_jax.cards.facts.FIELDS, each with value, basis and source",
            cause="a mistyped field or a value without its source",
            fix="correct third_party/cards/<key>.json",
        )
    return Card(content["key"], content["name"], content["paper"], content["code"]["repository"], facts)


def _problems_of_head(content: Mapping[str, Any]):
    if content.get("schema") != 1:
        yield "schema is not 1"
    for field in ("key", "name"):
        if not isinstance(content.get(field), str) or not content[field]:
            yield f"{field} is missing"
    if not content.get("paper", {}).get("title"):
        yield "paper.title is missing"
    for field in ("repository", "licence"):
        if not content.get("code", {}).get(field):
            yield f"code.{field} is missing"


def _problems_of_fact(field: str, fact: Any):
    if field not in FIELDS:
        yield f"{field} is no field of a card"
        return
    if not isinstance(fact, Mapping) or not {"value", "basis", "source"} <= set(fact):
        yield f"{field} needs value, basis and source"
        return
    if unknown := set(fact) - {"value", "basis", "source", "note", "paper"}:
        yield f"{field} has unknown keys {sorted(unknown)}"
    if fact["basis"] not in BASES:
        yield f"{field}: basis {fact['basis']!r} is none of {', '.join(BASES)}"
    if not isinstance(fact["source"], str) or len(fact["source"]) < 3:
        yield f"{field} has no source"
    if not _fits(fact["value"], FIELDS[field][0]):
        yield f"{field}: {fact['value']!r} is not what the field holds"
    paper = fact.get("paper")
    if paper is None:
        return
    if not isinstance(paper, Mapping) or set(paper) != {"value", "source"} or not paper["source"]:
        yield f"{field}: paper needs value and source"
    elif not _fits(paper["value"], FIELDS[field][0]):
        yield f"{field}: {paper['value']!r} of the paper is not what the field holds"


def _fits(value: Any, kind: Any) -> bool:
    if value is None:
        return True
    if isinstance(kind, tuple):
        return value in kind
    if isinstance(kind, list):
        many = isinstance(value, list) and len(value) > 0
        return many and all(_fits(v, kind[0]) if kind[0] is float else v in kind for v in value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and (kind is float or isinstance(value, int))


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())
