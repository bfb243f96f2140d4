"""A `History` from whatever a run left behind: a table, events, JSON lines, or the text of a terminal.

  read("runs/a/metrics.csv"), read("runs/a"), read("events.out.tfevents.1"), read("log.jsonl")

A file that was cut in half is read up to the cut, and a note says so: a run that died is the one that a
doctor is asked about. What holds no number at all is refused.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ch3_jax.doctor.events import read_events
from ch3_jax.doctor.history import History
from ch3_jax.doctor.text_logs import number, records_of_text
from ch3_jax.errors import InputError
from ch3_jax.metrics import Series

STEP_NAMES = (
    "step",
    "global_step",
    "_step",
    "steps",
    "iteration",
    "iter",
    "update",
    "updates",
    "trainer/global_step",
)
_DERIVED = ("__min", "__max")
_NOT_FINITE = ("NaN", "nan", "inf", "-inf", "Infinity", "-Infinity")
_OWN = ("metrics.csv", "metrics.jsonl", "log.csv", "progress.csv")


def read(path: str | Path) -> History:
    """The history in a file, or in a folder that holds one.

    Args:
      path: a CSV (ours, Lightning's, a W&B export, anybody's), TensorBoard events, JSON lines, a JSON array
        of records, a `trainer_state.json`, or a text log of LeRobot, openpi, Octo or any loop that prints
        names and numbers; or a folder with `metrics.csv` or events in it.

    Returns:
      A `History`; its notes say what could not be read.

    Raises:
      InputError: no such file, or not one number with a name in it.
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path)
    try:
        head = path.open("rb").read(4096)
    except OSError as error:
        raise _unreadable(path, error.strerror or error) from error
    if "tfevents" in path.name:
        return _built(path, *read_events(path))
    text, notes = path.read_bytes().decode("utf-8", "replace"), []
    if b"\0" in head:
        raise _unreadable(path, "a binary file that is no TensorBoard events")
    suffix, first = path.suffix.lower(), text.lstrip("\ufeff \r\n\t")[:1]
    if suffix in (".json", ".jsonl", ".ndjson") or (
        first in ("{", "[") and suffix not in (".csv", ".log", ".txt")
    ):
        return _built(path, _json_records(text, notes), notes)
    if suffix in (".csv", ".tsv") or _looks_like_table(text):
        return _built(path, _table_records(text, notes), notes)
    return _built(path, records_of_text(text, notes), notes)


def _folder(path: Path) -> History:
    for name in _OWN:
        if (path / name).is_file():
            return read(path / name)
    events = sorted(path.rglob("*tfevents*"), key=lambda p: p.name)
    if not events:
        raise _unreadable(path, "a folder without metrics.csv and without TensorBoard events")
    records: list[tuple[int, dict[str, float]]] = []
    notes: list[str] = []
    for file in events:
        found, said = read_events(file, before=records)
        records, notes = found, [*notes, *said]
    return _built(path, records, notes)


def _built(
    path: Path, records: Iterable[tuple[float | None, Mapping[str, float]]], notes: list[str]
) -> History:
    """Records of (step or None, name -> number) as one series per name."""
    columns: dict[str, tuple[list[int], list[float]]] = {}
    for index, (step, values) in enumerate(records):
        at = index if step is None or not math.isfinite(step) else int(step)
        for name, value in values.items():
            steps, numbers = columns.setdefault(name, ([], []))
            steps.append(at)
            numbers.append(value)
    if not columns:
        raise _unreadable(path, f"{path.stat().st_size:,} bytes without a named number")
    series = {
        name: Series(np.array(steps, np.int64), np.array(values, np.float64))
        for name, (steps, values) in columns.items()
        if not name.lower().endswith(_DERIVED)
    }
    return History(series, tuple(notes), str(path))


def _looks_like_table(text: str) -> bool:
    lines = [line for line in text.splitlines()[:5] if line.strip()]
    if len(lines) < 2:
        return False
    delimiter = _delimiter(lines[0])
    cells = {line.count(delimiter) for line in lines[:-1]}
    return (
        len(cells) == 1
        and cells.pop() > 0
        and number(lines[1].split(delimiter)[-1].strip() or "0") is not None
    )


def _delimiter(line: str) -> str:
    return max(",\t;", key=line.count)


def _table_records(text: str, notes: list[str]) -> Iterator[tuple[float | None, dict[str, float]]]:
    complete = text.endswith(("\n", "\r"))
    text = text.lstrip("\ufeff")
    rows = list(
        csv.reader(io.StringIO(text.replace("\0", "")), delimiter=_delimiter(text.partition("\n")[0]))
    )
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    if not rows:
        return
    header = [cell.strip() for cell in rows[0]]
    if all(number(cell) is not None for cell in header):  # numbers from the first line on: no header
        header = _headless(len(header))
        notes.append(f"the table has no header; its columns are taken for {', '.join(header)}")
    else:
        rows = rows[1:]
    if rows and (len(rows[-1]) < len(header) or (not complete and len(rows) > 1)):
        rows = rows[:-1]
        notes.append(f"the last row was not written to its end and is left out; {len(rows):,} rows are read")
    step_at = _step_column(header)
    ragged = 0
    for row in rows:
        ragged += len(row) != len(header)
        values = {}
        for j, (name, cell) in enumerate(zip(header, row, strict=False)):
            if j != step_at and name and (value := number(cell)) is not None:
                values[name] = value
        step = number(row[step_at]) if step_at is not None and step_at < len(row) else None
        yield step, values
    if ragged:
        notes.append(f"{ragged:,} rows have another number of cells than the header")


def _headless(count: int) -> list[str]:
    if count == 1:
        return ["loss"]
    return ["step", "loss", "val_loss", *(f"column_{j}" for j in range(3, count))][:count]


def _step_column(header: list[str]) -> int | None:
    lower = [name.lower() for name in header]
    found = [lower.index(name) for name in STEP_NAMES if name in lower]
    if found:
        return found[0]
    # A table with one row for each epoch counts those.
    return next((lower.index(name) for name in ("epoch", "epochs", "") if name in lower), None)


def _json_records(text: str, notes: list[str]) -> Iterator[tuple[float | None, dict[str, float]]]:
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        whole = _json_lines(text, notes)
    if isinstance(whole, Mapping):
        whole = whole.get("log_history", whole.get("history", whole))
    if isinstance(whole, Mapping):
        columns = {k: v for k, v in whole.items() if isinstance(v, list)}
        lengths = {len(v) for v in columns.values()}
        if len(lengths) == 1 and columns:  # name -> list of numbers, as Keras saves it
            whole = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        else:
            whole = [whole]
    for record in whole:
        if not isinstance(record, Mapping):
            continue
        flat = flatten(record)
        lower = {name.lower(): name for name in reversed(flat)}
        step_name = next((lower[name] for name in STEP_NAMES if name in lower), None)
        step = flat.pop(step_name) if step_name else None
        yield step, flat


def _json_lines(text: str, notes: list[str]) -> list[Any]:
    records, broken, lines = [], [], text.splitlines()
    for index, line in enumerate(lines):
        if line.strip().rstrip(","):
            try:
                records.append(json.loads(line.strip().rstrip(",")))
            except json.JSONDecodeError:
                broken.append(index)
    if broken and broken[-1] == len(lines) - 1:
        notes.append(f"the last line is cut off and is left out; {len(records):,} records are read")
        broken.pop()
    if broken:
        notes.append(f"{len(broken):,} lines are no JSON and are left out")
    return records


def flatten(record: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a nested record, by their path.

    >>> flatten({"training": {"loss": 0.5, "note": "x"}, "step": 3})
    {'training/loss': 0.5, 'step': 3.0}
    """
    flat = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}/")
        elif not isinstance(value, bool) and (isinstance(value, int | float) or value in _NOT_FINITE):
            flat[f"{prefix}{name}"] = float(value)
    return flat


def _unreadable(path: Path, got: object) -> InputError:
    return InputError(
        f"{path} holds no curve",
        got=got,
        expected="a CSV, JSON lines, TensorBoard events or a text log with a loss",
        cause="a mistyped path, or the log of another program",
        fix='give a table with a header, such as "step,loss"',
    )
