"""What a commitment entails, in numbers: what to check first, what will fail, what to ask.

A loss is a promise about data and hardware. The mean of two demonstrated modes is half their distance away
from both; a reward at the end of n steps is worth gamma^n at the start; n network calls cost n head times; K
bins over a range r leave r / K. Each function below is one such sentence.

  squared error, two equal modes d apart:  prediction d/2 from both, floor d^2/4 in that dimension
  absolute error, the same:                every point between them costs d/2: the loss does not choose
  flow, diffusion:                         latency = backbone + calls * head, to fit in the executed actions
  bins:                                    width r/K, largest error r/2K, rms r/(K sqrt 12)
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from ch3_jax.cards.terms import FAMILY_OF

_DENOISERS = (
    "flow_matching",
    "epsilon_mse",
    "x0_mse",
    "v_mse",
    "diffusion_unspecified",
    "score_matching",
    "consistency",
)


class Setup(NamedTuple):
    """What the text cannot know about the reader's robot; None where it was not given.

    Attributes:
      backbone_ms: time of one pass of the backbone, ms.
      head_ms: time of one call of the action head, or of one token, ms.
      control_hz: commands per second.
      value_range: (low, high) of an action dimension, in its physical unit.
      unit: of that dimension.
      mode_distance: between two ways of doing it, in the unit of the (normalised) action.
      episode_steps: steps until a reward at the end.
      action_dims: action dimensions, where the text does not say.
    """

    backbone_ms: float | None = None
    head_ms: float | None = None
    control_hz: float | None = None
    value_range: tuple[float, float] | None = None
    unit: str = ""
    mode_distance: float = 1.0
    episode_steps: int = 500
    action_dims: int | None = None


class Check(NamedTuple):
    """A check to run, the command, and why first."""

    name: str
    command: str
    why: str


class Question(NamedTuple):
    """An architectural question, its answer in a sentence, and the numbers in it by name."""

    question: str
    answer: str
    numbers: Mapping[str, float]


class Consequences(NamedTuple):
    """Checks in the order to run them, failure modes to expect, questions with numbers."""

    checks: tuple[Check, ...]
    failures: tuple[str, ...]
    questions: tuple[Question, ...]


def consequences(found: Mapping[str, Any], setup: Setup = Setup()) -> Consequences:  # noqa: B008 - a frozen record
    """What follows from commitments.

    Args:
      found: from `ch3_jax.cards.commitments`.
      setup: the reader's robot and data.

    Returns:
      empty where no family is stated: nothing follows from nothing.

    Example:
      >>> seen = consequences({"family": "supervised", "form": ["mse"]}, Setup(mode_distance=1.0))
      >>> seen.questions[0].numbers
      {'distance_to_each_mode': 0.5, 'floor': 0.25}
    """
    family, forms = found.get("family"), list(found.get("form", ()))
    if family is None and not forms:
        return Consequences((), (), ())
    family = family or FAMILY_OF[forms[0]]
    questions = []
    if {"mse", "l1", "huber"} & set(forms) and not set(forms) & {*_DENOISERS}:
        questions.append(
            averaging("l1" if forms[0] == "l1" else "mse", setup.mode_distance, _dims(found, setup))
        )
    if family == "reinforcement":
        questions.append(
            discounting(found.get("gamma", 0.99), setup.episode_steps, "gamma" in found, found.get("reward"))
        )
        if "grpo" in forms:
            questions.append(silent_groups(found.get("group", 8), "group" in found))
    if set(forms) & {*_DENOISERS}:
        questions.append(latency(found, setup))
        if isinstance(found.get("train_timesteps"), int) and found.get("schedule") == "cosine":
            questions.append(last_level(found["train_timesteps"]))
    if isinstance(found.get("bins"), int):
        questions.append(resolution(found["bins"], setup))
    if found.get("output") == "tokens" or isinstance(found.get("bins"), int):
        questions.append(decoding(found, setup))
    if loss := first_loss(found):
        questions.append(loss)
    return Consequences(_checks(family, forms), _failures(family, forms, found), tuple(questions))


def averaging(form: str, distance: float, dims: int | None = None) -> Question:
    """A deterministic head between two equally likely demonstrations.

    Example:
      >>> averaging("mse", 1.0).numbers["floor"], averaging("l1", 1.0).numbers["floor"]
      (0.25, 0.5)
    """
    half = distance / 2
    if form == "l1":
        floor = half
        text = (
            f"two equal modes {distance:g} apart: every point between them costs {floor:g}, so the "
            f"loss does not "
            "choose; with unequal shares the more frequent mode wins"
        )
    else:
        floor = distance**2 / 4
        text = (
            f"two equal modes {distance:g} apart: it predicts the middle, {half:g} from both, and the "
            f"loss cannot fall "
            f"below {distance:g}^2/4 = {floor:g} in that dimension"
        )
        if dims:
            text += f" ({floor / dims:.4g} as a mean over {dims})"
    return Question(
        "How are bimodal demonstrations handled?", text, {"distance_to_each_mode": half, "floor": floor}
    )


def discounting(gamma: float, steps: int, stated: bool, reward: str | None = None) -> Question:
    """What a reward at the end of an episode is worth at its start.

    Example:
      >>> round(discounting(0.99, 500, True).numbers["value_at_start"], 4)
      0.0066
    """
    value = gamma**steps
    reach = 1 / (1 - gamma) if gamma < 1 else math.inf
    needed = 0.5 ** (1 / steps)
    kinds = {None: "reward not stated: ask which and how often", "dense": "a dense reward, by the text"}
    kind = kinds.get(reward, "a sparse reward, by the text")
    every = max(1, round(math.log(0.5) / math.log(gamma))) if gamma < 1 else steps
    guess = "" if stated else " (not stated; the usual value)"
    text = (
        f"{kind}; gamma {gamma:g}{guess}: a success after {steps} steps is worth "
        f"{gamma:g}^{steps} = {value:.2g} at the start; credit reaches about {reach:.0f} steps back; "
        f"to keep half of it, gamma {needed:.5f} or a reward every {every} steps"
    )
    numbers = {"value_at_start": value, "reach_steps": reach, "gamma_for_half": needed}
    return Question("Which reward, how dense, and what is it worth at the start?", text, numbers)


def silent_groups(group: int, stated: bool) -> Question:
    """How often all rollouts of a group succeed or fail alike, so that every advantage is zero.

    Example:
      >>> round(silent_groups(8, True).numbers["silent_at_10_percent"], 3)
      0.43
    """
    low, high = (p**group + (1 - p) ** group for p in (0.1, 0.5))
    text = (
        f"groups of {group}{'' if stated else ' (not stated; 8 is usual)'}: at 10 % success {low:.0%} "
        f"of the groups are "
        f"all alike and teach nothing, at 50 % {high:.1%}"
    )
    return Question(
        "How many groups carry a signal?", text, {"silent_at_10_percent": low, "silent_at_50_percent": high}
    )


def latency(found: Mapping[str, Any], setup: Setup) -> Question:
    """Network calls of one prediction, their time, and whether it fits in what is executed meanwhile.

    Example:
      >>> found = {"form": ["flow_matching"], "inference_steps": 10, "chunk": 50}
      >>> latency(found, Setup(backbone_ms=40, head_ms=4, control_hz=50)).numbers["latency_ms"]
      80
    """
    question = "How many network calls, what latency, does it fit the control period?"
    calls = found.get("inference_steps")
    if not isinstance(calls, int):
        return Question(question, "the number of steps is not stated: ask, latency is proportional to it", {})
    numbers: dict[str, float] = {"calls": calls}
    text = f"{calls} head calls per prediction"
    if found.get("form", [""])[0] == "flow_matching":
        text += f" (Euler's error falls as 1/{calls} = {1 / calls:.2g} where the field is curved)"
    hz = setup.control_hz or found.get("control_hz")
    actions = found.get("executed") or found.get("chunk") or 1
    if hz:
        numbers |= {"period_ms": 1000 / hz, "chunk_ms": 1000 * actions / hz}
        text += f"; {actions} actions at {hz:g} Hz last {numbers['chunk_ms']:g} ms"
    if setup.head_ms is None:
        return Question(
            question, text + "; latency = backbone + calls x head: give --backbone_ms and --head_ms", numbers
        )
    backbone = setup.backbone_ms or 0.0
    total = backbone + calls * setup.head_ms
    numbers["latency_ms"] = total
    text += f"; {backbone:g} + {calls} x {setup.head_ms:g} = {total:g} ms"
    if hz:
        fits = total <= numbers["chunk_ms"]
        most = math.floor((numbers["chunk_ms"] - backbone) / setup.head_ms) if setup.head_ms > 0 else calls
        numbers |= {
            "fits": float(fits),
            "most_calls": max(0, most),
            "late_actions": math.ceil(total * hz / 1000),
        }
        text += (
            f": {'fits the chunk' if fits else 'does NOT fit the chunk'}"
            f"{'' if total <= numbers['period_ms'] else ', longer than one control period'}; "
            f"{numbers['late_actions']:g} actions pass meanwhile, at most {numbers['most_calls']:g} calls fit"
        )
    return Question(question, text, numbers)


def last_level(timesteps: int) -> Question:
    """How much of the action is left at the last level of the squared-cosine schedule.

    Example:
      >>> f"{last_level(100).numbers['alpha_bar_last']:.3e}"
      '2.429e-07'
    """
    product, law = 1.0, lambda t: math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    for i in range(timesteps):
        product *= 1 - min(1 - law((i + 1) / timesteps) / law(i / timesteps), 0.999)
    left = math.sqrt(product)
    text = (
        f"cosine schedule, {timesteps} levels: sqrt(alpha_bar) = {left:.2g} of the action is left at the last"
    )
    return Question("Does sampling start where training ended?", text, {"alpha_bar_last": product})


def resolution(bins: int, setup: Setup) -> Question:
    """Width of a bin and the error that it leaves.

    Example:
      >>> resolution(256, Setup(value_range=(-0.05, 0.05), unit="m")).numbers["width"]
      0.000390625
    """
    low, high = setup.value_range or (-1.0, 1.0)
    width = (high - low) / bins
    unit = f" {setup.unit}" if setup.unit else ("" if setup.value_range else " of the normalised action")
    text = (
        f"{bins} bins over [{low:g}, {high:g}]: width {width:.3g}{unit}, error at most {width / 2:.3g}, "
        f"rms {width / math.sqrt(12):.3g}"
        + ("" if setup.value_range else "; give --range for physical units")
    )
    numbers = {"width": width, "largest_error": width / 2, "rms_error": width / math.sqrt(12)}
    return Question("What resolution do the bins leave?", text, numbers)


def decoding(found: Mapping[str, Any], setup: Setup) -> Question:
    """Tokens of one prediction, decoded one after another.

    Example:
      >>> decoding({"bins": 256, "action_dims": 7}, Setup(head_ms=25)).numbers
      {'tokens': 7, 'latency_ms': 175.0}
    """
    dims, chunk = _dims(found, setup), found.get("chunk") or 1
    question = "How long is a prediction to decode?"
    if not dims:
        text = f"action dimensions x {chunk} tokens, unless decoded in parallel; give --action_dims"
        return Question(question, text, {})
    tokens = dims * chunk
    numbers: dict[str, float] = {"tokens": tokens}
    text = (
        f"{dims} dimensions x {chunk} actions = {tokens} tokens, one after another unless decoded in parallel"
    )
    if setup.head_ms is not None:
        numbers["latency_ms"] = (setup.backbone_ms or 0.0) + tokens * setup.head_ms
        text += f": {numbers['latency_ms']:g} ms"
        hz = setup.control_hz or found.get("control_hz")
        if hz:
            numbers["period_ms"] = 1000 / hz
            fits = numbers["latency_ms"] <= chunk * 1000 / hz
            text += f", which {'fits' if fits else 'does NOT fit'} {chunk * 1000 / hz:g} ms"
    return Question(question, text, numbers)


def first_loss(found: Mapping[str, Any]) -> Question | None:
    """What the loss of an untrained network must be near.

    Example:
      >>> first_loss({"form": ["cross_entropy"], "bins": 256}).numbers["first_loss"]
      5.545177444479562
    """
    form = (found.get("form") or [None])[0]
    unit = found.get("normalisation") in (None, "zscore")
    if form == "cross_entropy" and isinstance(found.get("bins"), int):
        value, text = math.log(found["bins"]), f"ln {found['bins']} = {math.log(found['bins']):.4f} nats"
    elif form == "epsilon_mse":
        value, text = 1.0, "1, the variance of the noise"
    elif form == "flow_matching" and unit:
        value, text = 2.0, "1 + E[a^2] = 2 for actions of unit variance"
    elif form in ("mse", "x0_mse") and unit:
        value, text = 1.0, "E[a^2] = 1 for actions of unit variance"
    else:
        return None
    return Question("What must the first loss be?", text, {"first_loss": value})


def _dims(found: Mapping[str, Any], setup: Setup) -> int | None:
    dims = setup.action_dims or found.get("action_dims")
    return int(dims) if dims else None


def _checks(family: str, forms: list[str]) -> tuple[Check, ...]:
    run, data = "python -m experiments.doctor --run=RUN", "python -m experiments.doctor --data=DATA"
    word = doctor_family(family, forms)
    log = "python -m experiments.doctor --curve=metrics.csv" + (f" --family={word}" if word else "")
    one = Check(
        "1 action statistics", data, "ranges, outliers and constant dimensions decide every loss below"
    )
    two = Check("2 timestamps", data, "an action one step late is learnt as it stands")
    three = Check("3 ten steps on a batch of 4", run, "the loss must fall, whatever the data")
    norms = Check("4 gradient norms", run, "per layer: vanishing, exploding, never reached")
    curve = Check("6 the loss curve", log, "floor, plateau, oscillation")
    own = Check("7 the family's own", run, _own(family, forms))
    nan = Check("5 NaN and Inf", run, "ratios and log-probabilities overflow first")
    if family == "reinforcement":
        return own, nan, norms, curve, three, one
    if family == "self_supervised":
        return one, own, three, two, norms, curve
    return one, two, own, three, curve, norms


def doctor_family(family: str, forms: list[str]) -> str:
    """The word for `--family` of `experiments.doctor`, "" where it has none.

    Example:
      >>> doctor_family("self_supervised", ["flow_matching"]), doctor_family("self_supervised", ["vq"])
      ('flow', '')
    """
    if family != "self_supervised":
        return family
    if "flow_matching" in forms:
        return "flow"
    return "diffusion" if set(forms) & {*_DENOISERS} else ""


def _own(family: str, forms: list[str]) -> str:
    if family == "reinforcement":
        return "reward density and scale, share of zero advantages, clipped share, approximate KL"
    if family == "self_supervised":
        return "schedule against the actions' deviation, sign and time of train and sampler, sampled actions"
    if "cross_entropy" in forms:
        return "bin occupancy, round trip of the tokenizer, fewer than 100 demonstrations"
    return "two-mode probe: inconsistent demonstrators, fewer than 100 demonstrations, label noise"


def _failures(family: str, forms: list[str], found: Mapping[str, Any]) -> tuple[str, ...]:
    out = []
    names = set(forms)
    if names & {"mse", "huber"} and family == "supervised":
        out.append("modes are averaged: the arm goes between two grasps; plateau at d^2/4 above the noise")
    if "l1" in names and family == "supervised":
        out.append("a minority way of doing it disappears; a low loss does not mean success")
    if "cross_entropy" in names or isinstance(found.get("bins"), int):
        out.append("most of the data in few bins; last bins decode alike; off-by-one in token ids or labels")
    if names & {"epsilon_mse", "x0_mse", "v_mse", "diffusion_unspecified", "score_matching"}:
        out.append("a falling noise loss says little about sampled actions: compare samples with data")
        out.append(
            "actions outside [-1, 1] are clipped by the sampler; schedule not matched to their deviation"
        )
    if "flow_matching" in names:
        out.append("train and sampler disagree on the direction of time or the sign of the velocity")
        out.append("padded dimensions and steps in the mean make the loss look lower than it is")
    if "consistency" in names:
        out.append("one step inherits the teacher's bias: compare with the teacher's samples")
    if "cvae" in names or "kl" in found.get("auxiliary", ()):
        out.append("the posterior collapses to the prior (weight too high) or is a look-up table (weight 0)")
    if family == "reinforcement":
        out.append("no success, no gradient: sparse reward; reward hacking; advantages all zero")
        if names & {"ppo", "grpo"}:
            out.append("ratios explode after many epochs on one batch: watch the clipped share and the KL")
        if names & {"td", "sac", "q_learning", "cql", "expectile"}:
            out.append("Q-values grow without bound: over-estimation beyond the data")
    if found.get("output") in ("chunk", "denoised_chunk") or (found.get("chunk") or 1) > 1:
        out.append("padding at the end of an episode is trained on; chunk and mask disagree by a step")
    return tuple(out)
