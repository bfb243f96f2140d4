r"""The numbers in the text of a terminal.

| project | a line |
| --- | --- |
| LeRobot | INFO 2025-05-28 12:13:14 ts/train.py:232 step:1K smpl:8K ep:16 loss:2.1 grdn:60.0 lr:1.0e-05 |
| openpi | Step 100: grad_norm=0.1234, loss=0.0123, param_norm=1802.1234 |
| openpi, PyTorch | step=100 loss=0.0123 lr=2.50e-05 grad_norm=0.52 time=61.0s |
| Octo | {'training/loss': 0.5, 'training/grad_norm': 1.2} after "step 100", as its records are printed |
| Keras, others | Epoch 3/50 - loss: 0.12 - val_loss: 0.15 |

LeRobot writes 1,200 steps as "1K". Where a step is shortened so, it goes on by the interval between the steps
that were written in full, and a note says that steps are counted.
"""

import re

_NUMBER = r"[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:nan|inf(?:inity)?)"
_PAIR = re.compile(
    r"""['"]?(?P<name>[A-Za-z_∑][\w/.\-∑]*)['"]?\s*[=:]\s*
        (?:tensor\(|np\.float(?:32|64)\(|Array\()?(?P<value>"""
    + _NUMBER
    + r")(?P<unit>[KMBQ%])?(?![\w.:])",
    re.IGNORECASE | re.VERBOSE,
)
_STEP = re.compile(
    r"""\b(?:global[_ ]?step|step|iteration|iter|update)s?\s*[=:\#]?\s*\[?\s*
        (?P<value>\d[\d,_]*(?:\.\d+)?)(?P<unit>[KMB])?\b""",
    re.IGNORECASE | re.VERBOSE,
)
_EPOCH = re.compile(r"\bepoch\s*[=:#]?\s*\[?\s*(?P<value>\d+)\b", re.IGNORECASE)
_UNITS = {"": 1, "k": 1e3, "m": 1e6, "b": 1e9, "q": 1e12, "%": 0.01}
_STEPS = {"step", "steps", "global_step", "iter", "iteration", "update"}
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_WRAPPED = re.compile(r"\s*(?:tensor|np\.float(?:32|64)|Array|\[)[\s(\[]*(" + _NUMBER + r")", re.IGNORECASE)


def number(cell: str) -> float | None:
    """The number in a cell, or None; knows what PyTorch, NumPy and JAX print around one.

    >>> number(" 1e-3"), number("tensor(0.5, device='cuda:0')"), number("loss"), number("nan")
    (0.001, 0.5, None, nan)
    """
    try:
        return float(cell)
    except ValueError:
        found = _WRAPPED.match(cell)
        return float(found[1]) if found else None


def records_of_text(text: str, notes: list[str]) -> list[tuple[float | None, dict[str, float]]]:
    """The records of a text log.

    Args:
      text: of a terminal, with progress bars and colours or without.
      notes: sentences about what was read are added to it.

    Returns:
      (step or None, name -> number) for each line that names a loss, or a step and a number.
    """
    records, rounded = [], []
    for line in re.split(r"[\r\n]+", _ESCAPE.sub("", text)):
        values = _pairs(line)
        found = _STEP.search(line)
        if not values or not (found or any("loss" in name.lower() for name in values)):
            continue
        step = None
        if found:
            step = float(found["value"].replace(",", "").replace("_", ""))
            step *= _UNITS[(found["unit"] or "").lower()]
        elif epoch := _EPOCH.search(line):
            step = float(epoch["value"])
        records.append((step, values))
        rounded.append(bool(found and found["unit"]))
    if any(rounded):
        notes.append(f"{sum(rounded):,} steps are written as thousands; they are counted on by the interval")
        return _counted_on(records, rounded)
    return records


def _pairs(line: str) -> dict[str, float]:
    values = {}
    for pair in _PAIR.finditer(line):
        name = pair["name"].strip(".-")
        if name.lower() not in _STEPS and not name.lower().endswith(".py"):
            values[name] = float(pair["value"].replace("_", "")) * _UNITS[(pair["unit"] or "").lower()]
    return values


def _counted_on(records: list, rounded: list[bool]) -> list:
    """Steps written as "1K" replaced by the last one plus the usual interval."""
    trained = [i for i, (step, values) in enumerate(records) if step is not None and _has_loss(values)]
    full = [records[i][0] for i in trained if not rounded[i]]
    if len(full) > 1:
        interval = full[-1] - full[-2]
    elif len(trained) > 1:
        interval = (records[trained[-1]][0] - records[trained[0]][0]) / (len(trained) - 1)
    else:
        return records
    result, last = [], None
    for i, (step, values) in enumerate(records):
        if rounded[i] and last is not None:
            step = last + interval if _has_loss(values) else last
        last = step if step is not None and _has_loss(values) else last
        result.append((step, values))
    return result


def _has_loss(values: dict[str, float]) -> bool:
    return any("loss" in name.lower() for name in values)
