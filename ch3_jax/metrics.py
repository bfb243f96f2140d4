"""The metrics of a run, read back: each column of its table as the steps and numbers that it holds.

A row of `metrics.csv` has the numbers of one kind of report, of training or of validation, and empty
cells for the rest. A column without its empty cells is a series (step_i, value_i), in which a NaN is a
number that the run really had.
"""

import csv
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ch3_jax.errors import InputError


class Series(NamedTuple):
    """One column of a table, without its empty cells.

    Attributes:
      steps: (n,) int64.
      values: (n,) float64; NaN where NaN was written.
    """

    steps: np.ndarray
    values: np.ndarray


def columns_of(rows: Sequence[tuple[int, Mapping[str, float]]]) -> dict[str, Series]:
    """Rows as they are written, each with the columns that it has, as one series per column.

    Args:
      rows: (step, column -> number), in the order of the steps.

    >>> columns_of([(0, {"val_loss": 2.0}), (10, {"loss": 1.5})])["loss"].steps.tolist()
    [10]
    """
    columns = {}
    for name in dict.fromkeys(name for _, values in rows for name in values):
        pairs = [(step, values[name]) for step, values in rows if name in values]
        steps, numbers = zip(*pairs, strict=True)
        columns[name] = Series(np.array(steps, np.int64), np.array(numbers, np.float64))
    return columns


def read_csv(path: str | Path, names: Collection[str] | None = None) -> dict[str, Series]:
    """The columns of a table that `csv_writer` wrote, each without its empty cells.

    Args:
      path: the file; a last row that was not written to its end is left out.
      names: columns to read; None for all. One that the table does not have is not in the result.

    Returns:
      Name -> `Series`, in the order of the table.

    Raises:
      InputError: no such file, or no table of numbers with a first column `step`.
    """
    path = Path(path)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    text = text[: text.rfind("\n") + 1]  # A row that was not written to its end has no line break.
    first, _, rows = text.partition("\n")
    if not first:
        return {}
    header = next(csv.reader([first]))
    if header[0] != "step":
        raise _unreadable(path, f"a first column {header[0]!r}")
    commas = enumerate((line.count(",") for line in rows.splitlines()), 2)
    wrong = next((line for line, count in commas if count != len(header) - 1), None)
    if wrong:
        raise _unreadable(path, f"line {wrong} with other than {len(header)} cells")
    # Row after row in one list: a list for each row would take three times as long.
    cells = rows.replace("\n", ",").split(",")[:-1]
    columns: dict[str, Series] = {}
    try:
        steps = np.array([int(cell) for cell in cells[:: len(header)]], np.int64)
        for j, name in enumerate(header[1:], 1):
            if names is None or name in names:
                column = cells[j :: len(header)]
                there = np.array([cell != "" for cell in column], bool)
                columns[name] = Series(steps[there], np.array([float(cell) for cell in column if cell]))
    except ValueError as error:
        raise _unreadable(path, error) from error
    return columns


def _unreadable(path: Path, got: object) -> InputError:
    return InputError(
        f"{path} is no table of metrics",
        got=got,
        expected="the metrics.csv of a run: a first column step, then numbers",
        cause="a mistyped path, or a file that was edited",
        fix="give the metrics.csv in a run folder",
    )
