"""The `History`: what a run wrote down while it trained, whatever it called the columns.

Every project has its own names for the same five curves. A role is found by its exact name first and then by
the names that PyTorch, LeRobot, openpi, Octo, Lightning and Hugging Face give it, so that a check asks for
"the loss" and not for "train/loss_epoch".
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ch3_jax.metrics import Series

ROLES = {
    "loss": ("loss", "train_loss", "training_loss", "train/loss", "training/loss", "loss/train", "trainloss"),
    "val_loss": (
        "val_loss",
        "valid_loss",
        "validation_loss",
        "eval_loss",
        "test_loss",
        "val/loss",
        "valid/loss",
        "validation/loss",
        "eval/loss",
        "loss/val",
        "loss/validation",
    ),
    "gradient_norm": ("gradient_norm", "grad_norm", "grdn", "gradnorm", "global_grad_norm", "gnorm"),
    "learning_rate": ("learning_rate", "lr", "learningrate", "rate"),
    "update_ratio": ("update_ratio", "update_to_weight", "update_to_param"),
    "update_norm": ("update_norm",),
    "param_norm": ("param_norm", "parameter_norm", "weight_norm"),
    "reward": ("reward", "return", "episode_return", "episode_reward", "ep_rew_mean", "rwrd", "returns"),
    "success": ("success", "success_rate", "eval_success", "is_success"),
    "epoch": ("epoch", "epch", "epochs"),
}
"""role -> names of columns that mean it, the likeliest first; compared in lower case."""

_SPLITS = ("train/", "training/", "train_", "training_", "optim/", "opt/")


@dataclasses.dataclass(frozen=True)
class History:
    """Curves of one run.

    Attributes:
      series: column -> `Series`, in the order of the source; steps need not agree between columns.
      notes: true sentences about the source ("cut off after record 1,204"), for the report.
      source: where it was read.
    """

    series: Mapping[str, Series]
    notes: tuple[str, ...] = ()
    source: str = ""

    def role(self, name: str) -> Series | None:
        """The curve that plays a role of `ROLES`, or None.

        >>> history = from_arrays(**{"train/loss": [2.0, 1.0]})
        >>> history.role("loss").values.tolist(), history.role("val_loss")
        ([2.0, 1.0], None)
        """
        column = self.column(name)
        return None if column is None else self.series[column]

    def column(self, name: str) -> str | None:
        """The name of the column that plays a role of `ROLES`, or None."""
        # Of "loss_step" and "loss_epoch" the one with more values counts, of equals the first.
        ordered = [*self.series][::-1]
        ordered.sort(key=lambda column: len(self.series[column].values))
        lower = {_plain(column): column for column in ordered}
        names = ROLES[name]
        for candidate in (*names, *(split + n for n in names for split in _SPLITS)):
            if candidate in lower:
                return lower[candidate]
        # "policy/loss", "train/loss_step", "my-run - loss": the last part of a path decides.
        for column, original in lower.items():
            parts = column.split("/")
            held_out = any(part.startswith(("val", "eval", "test")) for part in parts)
            if parts[-1] in names and held_out == (name in ("val_loss", "success")):
                return original
            if name == "val_loss" and held_out and parts[-1] == "loss":
                return original
        return None


def from_arrays(
    steps: Sequence[int] | None = None, *, source: str = "", notes: Sequence[str] = (), **columns
) -> History:
    """A history from numbers in memory.

    Args:
      steps: of all the columns, or None for 0, 1, 2, ...
      source: where they come from, for the report.
      notes: sentences for the report.
      **columns: name -> values, or (steps, values).

    Returns:
      A `History`.

    Raises:
      ValueError: values that are no row of numbers, or steps of another length.

    >>> from_arrays(loss=[1.0, 0.5]).role("loss").steps.tolist()
    [0, 1]
    """
    series = {}
    for name, column in columns.items():
        own, values = column if isinstance(column, tuple) else (steps, column)
        values = np.asarray(values, np.float64)
        if values.ndim != 1:
            raise ValueError(f"`{name}` has shape {values.shape}, expected one number for each step.")
        at = np.arange(len(values)) if own is None else np.asarray(own, np.int64)
        if at.shape != values.shape:
            raise ValueError(f"`{name}` has {len(values)} values and {len(at)} steps. They must agree.")
        series[name] = Series(at, values)
    return History(series, tuple(notes), source)


def _plain(column: str) -> str:
    """A column's name in lower case, without the run's name before it (W&B) and the period after it."""
    name = column.rsplit(" - ", 1)[-1].strip().lower()
    for old, new in (("-", "_"), (" ", "_"), (".", "/")):
        name = name.replace(old, new)
    return name.removesuffix("_step").removesuffix("_epoch")
