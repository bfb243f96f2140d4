"""Statistics as 80 columns of plain text, to be read before the first step."""

import textwrap
from collections.abc import Sequence

WIDTH = 80
MOST_ROWS = 40
_NAME = 15
_HEADS = ("mean", "std", "min", "max", "q01", "q99")


def table(statistics, title: str, units: Sequence[str] | None = None) -> str:
    """One line per dimension, constant ones marked "=", and a line that explains the columns.

    Args:
      statistics: a `Statistics`.
      title: the first line, "action, 7 dimensions".
      units: D units, shown behind the names, or behind the title if they are all the same; None
        where they are not known.

    Returns:
      Lines of at most 80 characters, without a final newline. Of more than 40 dimensions the first
      40 are shown and the rest is counted.

    Raises:
      ValueError: a number of units that is not the number of dimensions.
    """
    dims = len(statistics.names)
    if units is not None and len(units) != dims:
        raise ValueError(f"{len(units)} units for {dims} dimensions: {tuple(units)}.")
    if units is not None and len(set(units)) == 1 and units[0]:
        title, units = f"{_fit(title, WIDTH - 16)} [{_fit(units[0], 12)}]", None
    heads = "".join(f"{head:>8}" for head in _HEADS)
    lines = [_fit(title, WIDTH), f"{'':<{_NAME + 5}}{heads}{'>10s':>7}{'bins':>5}"]
    for d in range(min(dims, MOST_ROWS)):
        mark = "= " if statistics.constant[d] else "  "
        unit = f" [{units[d]}]" if units is not None and units[d] else ""
        numbers = (statistics.mean, statistics.std, statistics.min)
        numbers += (statistics.max, statistics.q01, statistics.q99)
        cells = "".join(f"{number(column[d]):>8}" for column in numbers)
        share = percent(statistics.outlier_share[d])
        label = _label(str(statistics.names[d]), unit)
        lines.append(f"{mark}{d:>2} {label}{cells}{share:>7}{int(statistics.bins_used[d]):>5}")
    if dims > MOST_ROWS:
        lines.append(f"  ... and {dims - MOST_ROWS} more dimensions")
    lines.append(f"  {statistics.count:,} rows; >10s: share beyond 10 std; bins: used of 256 from min to max")
    constants = int(sum(statistics.constant))
    if constants:
        lines.append(f"  = {constants} of {dims} dimensions never move{_hidden(statistics, dims)}")
    if statistics.estimated:
        bound = percent(statistics.rank_error)
        lines += _wrapped(f"from a sketch, ranks within {bound}: {', '.join(statistics.estimated)}")
    return "\n".join(lines)


def number(value: float) -> str:
    """`value` in at most 7 characters, as many digits as fit.

    >>> [number(v) for v in (0.0, -0.25, 1234567, -1.2345e-5, 3.14159265)]
    ['0', '-0.25', '1234567', '-1.2e-5', '3.14159']
    """
    value = float(value)
    for digits in range(7, 0, -1):
        text = f"{value:.{digits}g}"
        if "e" in text:
            mantissa, exponent = text.split("e")
            text = f"{mantissa}e{int(exponent)}"
        if len(text) <= 7:
            return text
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")


def percent(share: float) -> str:
    """A share in percent, in at most 6 characters; what is not zero never reads as zero.

    >>> [percent(v) for v in (0.0, 1.0, 0.0123, 1e-6, 1e-9)]
    ['0', '100%', '1.23%', '1e-4%', '1e-7%']
    """
    value = 100 * float(share)
    if value == 0:
        return "0"
    text = f"{value:.3g}" if value >= 0.01 else f"{value:.0e}".replace("e-0", "e-")
    return text[:5] + "%"


def _label(name: str, unit: str) -> str:
    """Name and unit in a column; the name gives way first, then the unit."""
    if len(unit) > _NAME - 8:
        unit = ""
    return f"{_fit(name, _NAME - len(unit))}{_fit(unit, len(unit))}".ljust(_NAME)


def _fit(text: str, width: int) -> str:
    """`text` in at most `width` printable characters, an ellipsis in the middle of a longer one.

    Both ends stay: kLeftShoulderPitch and kLeftShoulderRoll differ in the last letters.

    >>> _fit("kLeftShoulderPitch", 12)
    'kLef...Pitch'
    """
    text = "".join(c if c.isprintable() else "?" for c in text)
    if len(text) <= width:
        return text
    head = (width - 3) // 2
    return f"{text[:head]}...{text[len(text) - (width - 3 - head) :]}"


def _hidden(statistics, dims: int) -> str:
    hidden = int(sum(statistics.constant[MOST_ROWS:]))
    return f" ({hidden} of them not shown)" if dims > MOST_ROWS and hidden else ""


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ")
