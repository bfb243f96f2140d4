"""A patient from a run folder of `experiments.train`: data, order, loss, optimizer, parameters, history.

Everything is made again from what the run wrote down, by the same functions: the batches are those that
the run saw, the parameters those of its newest intact checkpoint. What cannot be made again - no
checkpoint yet, data that have moved - is left out, and the examination says so.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ch3_jax.base import Batch
from ch3_jax.data import angles, synthetic
from ch3_jax.data.episodes import Dataset
from ch3_jax.data.load import load
from ch3_jax.data.prepare import held_out
from ch3_jax.data.shuffle import indices
from ch3_jax.data.windows import gather, to_device
from ch3_jax.doctor.from_reward import BY_REWARD, patient_of_rewards
from ch3_jax.doctor.history import History
from ch3_jax.doctor.patient import Declared, Patient
from ch3_jax.errors import InputError
from ch3_jax.evaluation import serve
from ch3_jax.noise.denoiser import Denoiser
from ch3_jax.training.optimizers import clipped_adamw, make_schedule

_FAMILIES = {"flow": "flow", "ddpm": "diffusion", "denoising": "diffusion", "consistency": "diffusion"}


def patient_of_run(run: str | Path) -> Patient:
    """A run folder as a patient.

    Args:
      run: folder with `config.json`; `metrics.csv`, `checkpoints` and `summary.json` where they are there.

    Returns:
      A `Patient`, with `extra["left_out"]`: sentences on what could not be made again.

    Raises:
      InputError: no such folder, or one that no run has written a `config.json` to.
    """
    folder = Path(run).expanduser()
    options = _flags(folder)
    if options.get("loss") in BY_REWARD:
        return patient_of_rewards(folder, options)
    left_out: list[str] = []
    history = _tried(left_out, "the history", lambda: _history(folder))
    rebuilt = _tried(left_out, "the policy", lambda: serve.rebuild(folder))
    dataset = _tried(left_out, "the data", lambda: _dataset(options))
    summary = _json(folder / "summary.json") or {}
    extra = {"left_out": tuple(left_out), "status": summary.get("status")}
    return patient_of(
        folder.name, options, rebuilt, dataset, history=history, floor=summary.get("floor"), extra=extra
    )


def patient_of(
    name: str,
    options: Mapping[str, Any],
    rebuilt: serve.Rebuilt | None,
    dataset: Dataset | None,
    *,
    history: History | None = None,
    floor: float | None = None,
    batches: Callable[[int], Batch] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Patient:
    """A run of `experiments.train` as a patient, from what is in memory.

    Args:
      name: that reports show.
      options: the run's flags.
      rebuilt: policy, parameters and normalisers; None where they are not known.
      dataset: raw, split as it was for the run.
      history: its curves.
      floor: the lowest loss that any policy can reach.
      batches: step -> the batch that the run saw; made from `dataset` where it is not given.
      extra: of the patient.
    """
    parts: dict[str, Any] = {} if rebuilt is None else _functions(rebuilt, dataset, options, batches)
    return Patient(
        name,
        dataset=dataset,
        history=history,
        floor=floor,
        declared=_declared(options, parts.pop("schedule", None), rebuilt),
        extra=extra or {},
        **parts,
    )


def _functions(rebuilt: serve.Rebuilt, dataset: Dataset | None, options: Mapping, batches) -> dict:
    objective = rebuilt.objective
    schedule = make_schedule(
        options["schedule"], options["learning_rate"], steps=options["steps"], warmup=options["warmup"]
    )
    parts: dict[str, Any] = {
        "init": objective.init,
        "loss": objective.loss,
        "params": rebuilt.params,
        "act": objective.act,
        "normalizers": rebuilt.normalizers,
        "statistics": {"observation": rebuilt.observation, "action": rebuilt.action},
        "schedule": schedule,
        "optimizer": clipped_adamw(
            schedule,
            clip=options["clip"] or None,
            weight_decay=options["weight_decay"],
            b1=options["b1"],
            b2=options["b2"],
        ),
    }
    if batches is not None:
        parts["batches"] = batches
    elif dataset is not None:
        parts["batches"] = _batches(dataset, rebuilt, options)
    if objective.denoiser is not None and objective.sampler is not None:
        parts["sampler"], parts["process"] = objective.sampler, objective.sampler.process
        if "batches" in parts:
            parts["denoiser"] = _conditioned(rebuilt, parts["batches"](0).observation[:1])
    return parts


def _batches(dataset: Dataset, rebuilt: serve.Rebuilt, options: Mapping):
    """step -> the batch that the run saw at that step."""
    steps = to_device(
        dataset.splits["train"], rebuilt.normalizers["observation"], rebuilt.normalizers["action"]
    )
    rows = len(steps.action)
    _, order_key, _ = jax.random.split(jax.random.key(options["seed"]), 3)
    window, horizon = options["window"], options["horizon"]

    @jax.jit
    def batch(step) -> Batch:
        index = indices(order_key, step[None], options["batch_size"], rows)[0]
        return gather(steps, index, window=window, horizon=horizon)

    return lambda step: batch(jnp.asarray(step, jnp.int32))


def _conditioned(rebuilt: serve.Rebuilt, observation) -> Denoiser:
    """The network as samplers see it, given one observation (1, W, S), for any number of actions."""

    def network(count: int) -> Denoiser:
        seen = jnp.broadcast_to(observation, (count, *observation.shape[1:]))
        return rebuilt.objective.denoiser(rebuilt.params, seen)

    return network(1)._replace(apply=lambda x, t: network(len(x)).apply(x, t))


def _dataset(options: Mapping) -> Dataset:
    """The data of the run, split as it was."""
    if options["data"] in synthetic.EMBEDDED:
        settings = {name: options[name] for name in ("pairs", "noise") if options.get(name) is not None}
        if options.get("bimodal"):
            settings["bimodal"] = True
        if options.get("smoke"):
            settings.setdefault("pairs", 2_000)
        whole = synthetic.embedded(options["data"], options["seed"], **settings)
    else:
        whole = load(options["data"])
    split = held_out(whole, options["validation"], options["seed"])
    if options.get("angles", "raw") == "raw":
        return split
    # Found again in the same data, as the run found them.
    return angles.encoded(split, angles.find(split.splits["train"], split.facts.observation_names))


def _declared(options: Mapping, schedule, rebuilt: serve.Rebuilt | None) -> Declared:
    ema = options.get("ema", "none")
    return Declared(
        family=_FAMILIES.get(options.get("loss", ""), "supervised"),
        loss_name=options.get("loss"),
        batch_size=options.get("batch_size"),
        steps=options.get("steps"),
        bins=None if rebuilt is None else rebuilt.bins,
        learning_rate=options.get("learning_rate"),
        schedule=schedule,
        clip=options.get("clip") or None,
        ema_decay=float(ema) if _is_number(ema) else None,
        steps_per_epoch=_steps_per_epoch(options),
        dtype="float32",
    )


def _steps_per_epoch(options: Mapping) -> int | None:
    steps, epochs = options.get("steps"), options.get("epochs")
    return max(round(steps / epochs), 1) if steps and epochs else None


def _history(folder: Path) -> History:
    from ch3_jax.doctor.histories import read

    return read(folder)


def _flags(folder: Path) -> dict[str, Any]:
    config = _json(folder / "config.json")
    if not isinstance(config, dict) or not isinstance(config.get("flags"), dict):
        found = (
            ", ".join(sorted(p.name for p in folder.iterdir())[:8]) if folder.is_dir() else "no such folder"
        )
        raise InputError(
            f"{folder} is no run folder",
            got=found or "an empty folder",
            expected="config.json, as experiments.train writes it",
            cause="the folder of a data set or of another program, or a run that was refused",
            fix="give the --out of a run; for a data set --data, for a table of losses --curve",
        )
    return config["flags"]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _tried(left_out: list[str], what: str, make) -> Any:
    """What `make` makes, or None and a sentence."""
    try:
        return make()
    except Exception as error:  # A damaged run is what a doctor is for.
        words = (str(error).strip().splitlines() or ["no words"])[0]
        left_out.append(f"{what} could not be made again: {words}")
        return None


def _is_number(text: str | None) -> bool:
    try:
        float(text)
    except (TypeError, ValueError):
        return False
    return True
