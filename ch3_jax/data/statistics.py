"""What a data set's numbers are like, per dimension: the table that is read before the first step.

`of_array` is exact and for what fits in memory. The stream - `empty`, `update`, `merge`, `finish` -
is for what does not: count, mean, std, min and max are exact (`moments`), q01 and q99 come from
the sketch of `quantiles` with a known rank error, and the two shares that need the final range
(`outlier_share`, `bins_used`) are estimated from the sketch until `second_pass` counts them.

With x_n the rows, mean = sum x_n / N and std^2 = sum (x_n - mean)^2 / N; the q-quantile is the
value at rank q (N - 1), interpolated linearly between neighbours.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from ch3_jax.data import moments, quantiles
from ch3_jax.data.table import table as table
from ch3_jax.errors import InputError

FORMAT = "ch3_jax statistics 1"
BINS = 256
OUTLIER_SIGMAS = 10.0

_FLOATS = ("mean", "std", "min", "max", "q01", "q99", "outlier_share")


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
    """The numbers of N rows of D dimensions.

    Attributes:
      names: D names.
      count: N rows.
      mean, std, min, max, q01, q99: (D,) float64, in the data's units; std with ddof 0, quantiles
        by numpy's "linear" rule.
      outlier_share: (D,) float64, share of rows farther than 10 std from the mean.
      bins_used: (D,) int64, how many of 256 uniform bins between min and max hold a row.
      constant: (D,) bool, min == max.
      rank_error: 0.0 if the quantiles are exact, else the bound on their error as a share of N.
      estimated: names of the fields that a sketch estimated; empty if all are exact.
    """

    names: tuple[str, ...]
    count: int
    mean: np.ndarray
    std: np.ndarray
    min: np.ndarray
    max: np.ndarray
    q01: np.ndarray
    q99: np.ndarray
    outlier_share: np.ndarray
    bins_used: np.ndarray
    constant: np.ndarray
    rank_error: float = 0.0
    estimated: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Statistics) and self._content() == other._content()

    def __hash__(self) -> int:
        return hash(self.sha256())

    def _content(self) -> dict:
        arrays = {name: [float(v) for v in getattr(self, name)] for name in _FLOATS}
        return {
            "format": FORMAT,
            "names": list(self.names),
            "count": int(self.count),
            **arrays,
            "bins_used": [int(v) for v in self.bins_used],
            "constant": [bool(v) for v in self.constant],
            "rank_error": float(self.rank_error),
            "estimated": list(self.estimated),
        }

    def sha256(self) -> str:
        """The hash of the content in canonical JSON: equal exactly where every digit is equal."""
        return _digest(self._content())

    def to_json(self) -> dict:
        """A dict that `json.dump` takes and `from_json` turns back without losing a digit."""
        return {**self._content(), "sha256": self.sha256()}


def from_json(record: Mapping) -> Statistics:
    """The `Statistics` that `Statistics.to_json` wrote.

    Raises:
      InputError: not such a record, or one that does not match its own hash.
    """

    def refuse(problem: str, got: object, cause: str) -> InputError:
        return InputError(
            problem,
            got=got,
            expected=f"a record written by `Statistics.to_json` ({FORMAT!r})",
            cause=cause,
            fix="compute the statistics again from the data and save them anew",
        )

    fields = {field.name for field in dataclasses.fields(Statistics)}
    if not isinstance(record, Mapping) or record.get("format") != FORMAT:
        got = record.get("format") if isinstance(record, Mapping) else type(record).__name__
        raise refuse("these are not saved statistics of this version", got, "another file or version")
    missing = sorted((fields | {"sha256"}) - set(record))
    if missing:
        raise refuse("saved statistics are incomplete", f"no {', '.join(missing)}", "a truncated file")
    content = {key: value for key, value in record.items() if key != "sha256"}
    try:
        digest = _digest(content)
        statistics = Statistics(
            names=tuple(str(name) for name in record["names"]),
            count=int(record["count"]),
            bins_used=np.asarray(record["bins_used"], np.int64),
            constant=np.asarray(record["constant"], bool),
            rank_error=float(record["rank_error"]),
            estimated=tuple(str(name) for name in record["estimated"]),
            **{name: np.asarray(record[name], np.float64) for name in _FLOATS},
        )
    except (TypeError, ValueError) as error:
        raise refuse("saved statistics hold something else than numbers", error, "an edited file") from None
    if digest != record["sha256"]:
        raise refuse("saved statistics do not match their hash", f"sha256 {digest}", "edited or damaged")
    for name in (*_FLOATS, "bins_used", "constant"):
        if getattr(statistics, name).shape != (len(statistics.names),):
            shape = getattr(statistics, name).shape
            raise refuse(f"saved statistics: `{name}` has shape {shape}", shape, "an edited file")
    return statistics


def of_array(x: np.ndarray, names: Sequence[str]) -> Statistics:
    """The exact statistics of an array.

    Args:
      x: (N, D) finite numbers.
      names: D names.

    Raises:
      ValueError: no rows, a number of names that is not D, or a value that is not finite; the
        message names its dimension and row.

    >>> s = of_array(np.array([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0]]), ("x", "y"))
    >>> s.mean.tolist(), s.max.tolist(), s.constant.tolist(), s.bins_used.tolist()
    ([1.0, 5.0], [2.0, 5.0], [False, True], [3, 1])
    """
    x = _rows(x, len(names))
    if not len(x):
        raise ValueError("`x` has no rows, so there are no statistics.")
    _finite(x, names, 0)
    total = moments.of_rows(x)
    mean, std = moments.mean_and_std(total)
    count, dims = x.shape
    q = np.empty((2, dims))
    outliers, used = np.empty(dims, np.int64), np.empty(dims, np.int64)
    turned = quantiles.columns(x)
    for d, column in enumerate(turned):
        outliers[d] = _outliers(column, mean[d], std[d])
        used[d] = np.count_nonzero(_occupied(column, total.min[d], total.max[d]))
        q[:, d] = _quantiles_in_place(column, (0.01, 0.99))
    return Statistics(
        names=tuple(names),
        count=count,
        mean=mean,
        std=std,
        min=total.min,
        max=total.max,
        q01=q[0],
        q99=q[1],
        outlier_share=outliers / count,
        bins_used=used,
        constant=total.min == total.max,
    )


@dataclasses.dataclass(frozen=True)
class Stream:
    """The statistics of the rows seen so far. Never changed: every function returns a new one.

    Attributes:
      pending: rows that do not fill a block yet.
      moments: of the full blocks; None before the first.
      sketch: of the full blocks.
    """

    pending: tuple[np.ndarray, ...]
    moments: moments.Moments | None
    sketch: quantiles.Sketch

    @property
    def count(self) -> int:
        return self.sketch.count + sum(map(len, self.pending))


def empty(dims: int, size: int = quantiles.SIZE) -> Stream:
    """A stream of no rows of `dims` dimensions; `size` as in `quantiles.empty`."""
    return Stream((), None, quantiles.empty(dims, size))


def update(state: Stream, x: np.ndarray, names: Sequence[str] | None = None) -> Stream:
    """The stream after the rows `x` (N, D), which are copied.

    The result depends on the sequence of rows alone, not on how it is cut into updates. Blocks of
    thousands of rows are the fast way: a tiny update costs about 20 us.

    Args:
      x: (N, D) finite numbers; N may be 0.
      names: D names, for the message.

    Raises:
      ValueError: not D columns, or a value that is not finite: names dimension and row of the stream.
    """
    x = _rows(x, state.sketch.dims)
    _finite(x, names, state.count)
    blocks, pending = quantiles.cut(state.pending, x, state.sketch.size)
    total, sketch = state.moments, state.sketch
    for block in blocks:
        total = moments.join(total, moments.of_rows(block))
        sketch = quantiles.update(sketch, block)
    return Stream(pending, total, sketch)


def merge(a: Stream, b: Stream) -> Stream:
    """The stream of the rows of `a` followed by those of `b`, as two readers in parallel need it."""
    merged = Stream(a.pending, moments.join(a.moments, b.moments), quantiles.merge(a.sketch, b.sketch))
    for rows in b.pending:
        merged = update(merged, rows)
    return merged


def finish(state: Stream, names: Sequence[str]) -> Statistics:
    """The statistics of the stream.

    Count, mean, std, min and max are exact; everything is while the stream is shorter than the
    sketch's block. Beyond, q01 and q99 have ranks within `rank_error` of .01 and .99;
    `outlier_share` is within twice that; `bins_used` is never too large, and too small by the bins
    that hold next to nothing. `second_pass` makes those two exact.

    Raises:
      ValueError: no rows, or a number of names that is not D.
    """
    if len(names) != state.sketch.dims:
        raise ValueError(f"{len(names)} names for {state.sketch.dims} dimensions: {tuple(names)}.")
    if not state.count:
        raise ValueError("no rows have been seen, so there are no statistics.")
    total, sketch = state.moments, state.sketch
    if state.pending:
        rest = np.concatenate(state.pending)
        total = moments.join(total, moments.of_rows(rest))
        sketch = quantiles.update(sketch, rest)
    mean, std = moments.mean_and_std(total)
    q01, q99 = quantiles.quantile(sketch, (0.01, 0.99)).T
    items, weight = quantiles.weighted(sketch)
    far = (np.abs(items - mean[:, None]) > OUTLIER_SIGMAS * std[:, None]) & (std > 0)[:, None]
    used = np.zeros((sketch.dims, BINS), bool)
    for d, column in enumerate(items):
        # The extremes are known exactly even where the sketch has dropped them.
        ends = np.array([total.min[d], total.max[d]])
        used[d] = _occupied(column, *ends) | _occupied(ends, *ends)
    error = quantiles.rank_error(sketch)
    return Statistics(
        names=tuple(names),
        count=sketch.count,
        mean=mean,
        std=std,
        min=total.min,
        max=total.max,
        q01=np.clip(q01, total.min, total.max),
        q99=np.clip(q99, total.min, total.max),
        outlier_share=np.sum(far * weight, axis=1) / sketch.count,
        bins_used=np.count_nonzero(used, axis=1).astype(np.int64),
        constant=total.min == total.max,
        rank_error=error,
        estimated=("q01", "q99", "outlier_share", "bins_used") if error else (),
    )


def second_pass(statistics: Statistics, blocks: Iterable[np.ndarray]) -> Statistics:
    """`statistics` with `outlier_share` and `bins_used` counted over the same rows once more.

    Raises:
      ValueError: the blocks do not hold as many rows as the statistics, or reach past their range.
    """
    dims = len(statistics.names)
    outliers, used, count = np.zeros(dims, np.int64), np.zeros((dims, BINS), bool), 0
    for block in blocks:
        block = _rows(block, dims)
        _finite(block, statistics.names, count)
        if len(block) and (np.any(block.min(0) < statistics.min) or np.any(block.max(0) > statistics.max)):
            raise ValueError("the second pass met values outside the range of the first: other rows.")
        count += len(block)
        for d, column in enumerate(quantiles.columns(block)):
            outliers[d] += _outliers(column, statistics.mean[d], statistics.std[d])
            used[d] |= _occupied(column, statistics.min[d], statistics.max[d])
    if count != statistics.count:
        raise ValueError(f"the second pass met {count} rows, the first {statistics.count}: other rows.")
    return dataclasses.replace(
        statistics,
        outlier_share=outliers / count,
        bins_used=np.count_nonzero(used, axis=1).astype(np.int64),
        estimated=tuple(n for n in statistics.estimated if n in ("q01", "q99")),
    )


def of_stream(start: Callable[[], Iterable[np.ndarray]], names: Sequence[str]) -> Statistics:
    """The statistics of any number of rows in two passes, exact but for q01 and q99.

    Args:
      start: begins a new pass over the same blocks, each (rows, D).
      names: D names.

    >>> s = of_stream(lambda: iter([np.zeros((2, 1)), np.ones((2, 1))]), ("x",))
    >>> s.count, s.mean.tolist(), s.estimated
    (4, [0.5], ())
    """
    state = empty(len(names))
    for block in start():
        state = update(state, block, names)
    statistics = finish(state, names)
    return second_pass(statistics, start()) if statistics.estimated else statistics


def _quantiles_in_place(column: np.ndarray, qs: Sequence[float]) -> list[float]:
    """numpy's "linear" quantiles with the interpolation in float64; reorders `column`."""
    targets = [q * (len(column) - 1) for q in qs]
    ranks = sorted({r for t in targets for r in (int(t), min(int(t) + 1, len(column) - 1))})
    column.partition(ranks)
    results = []
    for t in targets:
        a, b = float(column[int(t)]), float(column[min(int(t) + 1, len(column) - 1)])
        results.append(a + (b - a) * (t - int(t)))
    return results


def _outliers(column: np.ndarray, mean: float, std: float) -> int:
    """How many values lie farther than 10 std from the mean; none of a constant."""
    if std == 0:
        return 0
    low, high = mean - OUTLIER_SIGMAS * std, mean + OUTLIER_SIGMAS * std
    return int(np.count_nonzero(column < np.float64(low)) + np.count_nonzero(column > np.float64(high)))


def _occupied(column: np.ndarray, low: float, high: float) -> np.ndarray:
    """(256,) bool: which uniform bins between `low` and `high` hold a value; the last includes `high`."""
    used = np.zeros(BINS, bool)
    if low == high:
        used[0] = True
        return used
    scale = BINS / (high - low)
    for i in range(0, len(column), 65536):
        index = ((column[i : i + 65536] - np.float64(low)) * scale).astype(np.int64)
        used[np.minimum(index, BINS - 1)] = True
        if used.all():
            break
    return used


def _rows(x: np.ndarray, dims: int) -> np.ndarray:
    x = np.asarray(x)
    if x.ndim != 2 or x.shape[1] != dims or dims < 1:
        raise ValueError(f"`x` has shape {x.shape}, expected (N, {dims}): a row per step, a name per column.")
    return x if x.dtype in (np.float32, np.float64) else x.astype(np.float64)


def _finite(x: np.ndarray, names: Sequence[str] | None, before: int) -> None:
    for i in range(0, len(x), 65536):
        good = np.isfinite(x[i : i + 65536])
        if not good.all():
            row, d = np.argwhere(~good)[0]
            name = f" ({names[d]})" if names is not None else ""
            raise ValueError(
                f"dimension {d}{name} is {x[i + row, d]} at row {before + i + row}: statistics need finite "
                "numbers. Usual fix: drop or repair the episode that holds this row."
            )


def _digest(content: Mapping) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
