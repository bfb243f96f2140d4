"""A patient from a run folder of training by reward: curves, returns and successes, value targets."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ch3_jax.doctor.histories import read
from ch3_jax.doctor.patient import Declared, Patient

BY_REWARD = ("ppo", "a2c", "reinforce", "grpo", "sac", "awr", "iql")
_OFFLINE = ("awr", "iql")
_CURVES = (
    *("truncated_error", "terminated_error", "return_with_success", "seen_mean", "seen_std"),
    *("advantage_between_envs", "advantage_between_steps", "entropy", "clip_fraction", "kl_k3"),
)


def patient_of_rewards(folder: str | Path, flags: Mapping[str, Any]) -> Patient:
    """A run by reward as a patient, from what it wrote.

    Args:
      folder: of the run, with its metrics.csv.
      flags: of its config.json.

    Returns:
      A `Patient`, see `patient_of_rows`; for awr and iql, whose episodes are a recording, returns and
      successes are those of the evaluations.
    """
    folder = Path(folder)
    history = read(folder)
    rows = {name: series.values for name, series in history.series.items() if len(series.values)}
    if flags["loss"] in _OFFLINE:
        rows |= {name: rows.get(f"best_{name}") for name in ("return", "success")}
    try:
        summary = json.loads((folder / "summary.json").read_text())
    except (OSError, ValueError):
        summary = {}
    made = patient_of_rows(
        folder.name,
        rows,
        loss=flags["loss"],
        normalized=bool(flags["normalize_reward"]),
        actions=(summary.get("extra") or {}).get("actions"),
    )
    declared = dataclasses.replace(
        made.declared,
        steps=flags["steps"],
        learning_rate=flags["learning_rate"],
        clip=flags["clip"] or None,
    )
    extra = {**made.extra, "status": summary.get("status")}
    return dataclasses.replace(made, history=history, declared=declared, extra=extra)


def patient_of_rows(
    name: str, rows: Mapping[str, Any], *, loss: str, normalized: bool, actions: int | None
) -> Patient:
    """Curves over training as a patient.

    Args:
      name: for the report.
      rows: column -> values; `return` and `success` are means over the episodes of a row, in the order of
        training.
      loss: of the run.
      normalized: whether rewards are divided by the deviation of the return.
      actions: numbers of an action, None where not known.
    """
    curves = {name: None if x is None else np.asarray(x) for name, x in rows.items()}
    success = curves.get("success")
    if success is not None and not np.isfinite(np.asarray(success, np.float64)).any():
        curves["success"] = None  # an environment that cannot tell
    return Patient(
        name,
        rewards=curves.get("return"),
        success=curves.get("success"),
        declared=Declared(family="reinforcement", loss_name=loss),
        extra={
            "value_targets": curves.get("value_target_p95"),
            "returns_normalized": normalized,
            "actions": actions,
            **{name: curves.get(name) for name in _CURVES},
        },
    )
