"""A patient from a run folder of training by reward: curves, returns and successes, value targets."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ch3_jax.doctor.histories import read
from ch3_jax.doctor.patient import Declared, Patient

BY_REWARD = ("ppo", "a2c", "reinforce", "grpo", "sac", "awr", "iql")
_OFFLINE = ("awr", "iql")


def patient_of_rewards(folder: str | Path, flags: Mapping[str, Any]) -> Patient:
    """A run by reward as a patient, from what it wrote.

    Args:
      folder: of the run, with its metrics.csv.
      flags: of its config.json.

    Returns:
      A `Patient`: `rewards` and `success` are means over the episodes of a row, in the order of training; for
      awr and iql, whose episodes are a recording, those of the evaluations.
    """
    folder = Path(folder)
    history = read(folder)
    prefix = "best_" if flags["loss"] in _OFFLINE else ""

    def column(name: str) -> np.ndarray | None:
        series = history.series.get(name)
        return None if series is None or not len(series.values) else np.asarray(series.values)

    try:
        status = json.loads((folder / "summary.json").read_text()).get("status")
    except (OSError, ValueError):
        status = None
    return Patient(
        folder.name,
        history=history,
        rewards=column(f"{prefix}return"),
        success=column(f"{prefix}success"),
        declared=Declared(
            family="reinforcement",
            loss_name=flags["loss"],
            steps=flags["steps"],
            learning_rate=flags["learning_rate"],
            clip=flags["clip"] or None,
        ),
        extra={
            "value_targets": column("value_target_p95"),
            "returns_normalized": bool(flags["normalize_reward"]),
            "status": status,
        },
    )
