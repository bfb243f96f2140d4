"""What a run says to a person: the data before the first step, the verdict after the last."""

import math
import textwrap

from ch3_jax.data.audit import audit
from ch3_jax.data.episodes import Dataset
from ch3_jax.data.prepare import Prepared
from ch3_jax.data.table import table
from ch3_jax.objectives import Objective
from experiments.flags import Options

_CLOSE = 0.005  # of the floor: what a few thousand held-out samples leave uncertain, five times over
_GAP = 0.05


def describe_data(dataset: Dataset, data: Prepared) -> tuple[str, tuple[str, ...]]:
    """The data set as a page of text, and its findings as sentences."""
    facts = dataset.facts
    sizes = ", ".join(
        f"{name} {len(steps):,} steps in {steps.episodes:,} episodes"
        for name, steps in dataset.splits.items()
    )
    rate = f", {facts.rate_hz:g} Hz" if facts.rate_hz else ""
    findings = (*(finding.sentence for finding in audit(dataset)), *data.warnings)
    meaning = (
        f"action: {facts.action_meaning}" if facts.action_meaning else "action: the files do not say what"
    )
    page = [
        *textwrap.wrap(f"{facts.name} ({facts.format}{rate}): {sizes}", 79),
        *textwrap.wrap(meaning, 79),
        "",
        table(data.observation, "observation (training split)", facts.observation_units),
        "",
        table(data.action, "action (training split)", facts.action_units),
        "",
        *map(remark, findings),
    ]
    return "\n".join(page), findings


def ways(objective: Objective) -> tuple[str, ...]:
    """What a policy can be asked for, in words: its likeliest action, a sample, or the one that it has."""
    if not objective.samples:
        return ("prediction",)
    return ("most likely action", "sampled action") if objective.likeliest else ("sampled action",)


def describe_plan(options: Options, parameters: int, floor: float | None) -> str:
    """One paragraph: what is about to be trained, how, and what it cannot pass."""
    known = "unknown" if floor is None else f"{floor:.4f}"
    return (
        f"\n{options.loss}: {parameters:,} parameters, {options.steps:,} steps of {options.batch_size} "
        f"({options.epochs:.3g} epochs),\n{options.schedule} rate {options.learning_rate:g}, floor {known}"
    )


def describe_mesh(options: Options) -> str:
    """What each device has of a batch."""
    rows, micro = options.batch_size // options.devices, options.accumulate
    shared = f", each {options.fsdp} of them with the parameters once" if options.fsdp > 1 else ""
    pieces = f" in {micro} micro-batches" if micro > 1 else ""
    return f"{options.devices} devices{shared}: {rows} of {options.batch_size} rows on each{pieces}"


def remark(sentence: str) -> str:
    """A sentence that a person should not miss, wrapped for 80 columns."""
    return textwrap.fill(sentence, 79, initial_indent="! ", subsequent_indent="  ")


def describe_distances(apart: dict[str, float]) -> str:
    """How far sampled actions are from the data, as a sentence.

    >>> describe_distances({"x": 0.004, "y": 0.0061})
    'sampled actions: 1-Wasserstein distance to the data at most 0.61% of the range (y)'
    """
    worst = max(apart, key=apart.get)
    where = f"at most {apart[worst]:.2%} of the range ({worst})"
    return f"sampled actions: 1-Wasserstein distance to the data {where}"


def floor_name(loss: str) -> str:
    """What the floor of a loss is, for the legend of its curve."""
    return {
        "mse": "floor (conditional variance)",
        "l1": "floor (error of the median)",
        "gmm": "floor (conditional entropy)",
        "cvae": "floor (rate-distortion)",
        "denoising": "floor (posterior variance of the noise)",
        "ddpm": "floor (posterior variance)",
        "flow": "floor (posterior variance of the velocity)",
        "consistency": "floor (of the flow)",
        "infonce": "floor (true density ratio)",
    }.get(loss, "floor")


def verdict(
    options: Options, rows: int, train: float | None, validation: float | None, floor: float | None
) -> tuple[str, ...]:
    """Sentences on where a run ended: beside its floor, and whether it memorised.

    Args:
      options: of the run.
      rows: training steps in the data.
      train, validation: final losses on equally many training and held-out rows.
      floor: the smallest expected loss, or None.
    """
    if train is None or validation is None or not (math.isfinite(train) and math.isfinite(validation)):
        return ()
    sentences = []
    if floor:
        away = f"{validation / floor - 1:+.2%}" if floor > 0 else f"{validation - floor:+.4f}"
        sentences.append(f"validation {validation:.4f} is {away} from the floor {floor:.4f}")
    below_floor = floor is not None and train < floor - _CLOSE * abs(floor)
    close = floor is not None and validation < floor + _GAP * abs(floor)
    apart = validation - train > _GAP * abs(validation) and not close
    if below_floor or apart:
        text = f"memorising: training loss {train:.4f}, validation {validation:.4f}"
        if below_floor:
            text += f"; no policy that generalises can pass the floor {floor:.4f}"
        if options.loss == "ce":
            text += (
                f". {rows:,} pairs are {rows / options.bins:.3g} for each of {options.bins} bins: "
                "too few pairs for so many bins, or too many epochs"
            )
        sentences.append(text)
    return tuple(sentences)


def describe_end(summary, notes) -> str:
    """The last paragraph of a run: what came out, where it lies, how to go on."""

    def number(value):
        return "not known" if value is None or not math.isfinite(value) else f"{value:.4f}"

    rate = f", {summary.steps_per_second:,.0f} steps/s" if summary.steps_per_second else ""
    lines = [
        "",
        f"{summary.status}: {summary.steps:,} steps in {summary.wall_seconds:.0f} s{rate}",
        f"  training loss    {number(summary.train_loss)}",
        f"  validation loss  {number(summary.val_loss)}",
        f"  floor            {number(summary.floor)}",
        *map(remark, notes),
        f"run folder: {summary.out}",
    ]
    if summary.status == "interrupted":
        lines.append(f"go on with: python -m experiments.train --resume --out={summary.out}")
    if summary.status == "non_finite":
        lines.append(
            f"the last good state is saved; to leave such steps out: python -m experiments.train --resume "
            f"--on_nonfinite=skip --out={summary.out}"
        )
    return "\n".join(lines)
