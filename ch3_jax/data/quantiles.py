"""Quantiles of a stream too large to sort: a mergeable sketch with a rank error that is a theorem.

Rows are gathered into blocks of k = `size`, and a full block is sorted per dimension. Two sorted
blocks whose items each stand for w rows are merged into 2k items, of which every second one is
kept and stands for 2w rows: the k survivors carry the weight of all. So the blocks behave like the
digits of a binary counter, and n rows need at most log2(n / k) + 1 blocks (Munro and Paterson's
scheme, the ancestor of KLL). Keeping every second item moves the rank of any value by at most one
item, that is by w rows; summed over all mergers of all levels,

  |estimated rank - true rank| <= sum over levels h of mergers_h 2^h <= n / (2 k) log2(n / k),

which `rank_error` returns for the mergers that really happened, as a share of n. Below k rows
nothing is thrown away and the quantiles are exact. Whether the odd or the even items are kept
alternates, so that the errors cancel in practice: three to five times under the bound was seen.

The state is a function of the sequence of rows, not of how it was cut into updates.

References: Munro and Paterson 1980, "Selection and sorting with limited storage"; Karnin, Lang
and Liberty 2016, arXiv:1603.05346; Agarwal et al. 2012, "Mergeable summaries".
"""

import dataclasses

import numpy as np

SIZE = 16384


@dataclasses.dataclass(frozen=True)
class Sketch:
    """A summary of the rows seen so far. Never changed: every function returns a new one.

    Attributes:
      size: k, rows of a block; even.
      count: n, rows seen.
      pending: arrays (rows, D) in order of arrival, fewer than k rows together.
      levels: levels[h] is a (D, k) array sorted along its rows whose items stand for 2^h rows
        each, or None.
      mergers: mergers[h] blocks of level h + 1 were made from two of level h.
    """

    size: int
    dims: int
    count: int = 0
    pending: tuple[np.ndarray, ...] = ()
    levels: tuple[np.ndarray | None, ...] = ()
    mergers: tuple[int, ...] = ()


def empty(dims: int, size: int = SIZE) -> Sketch:
    """A sketch of no rows.

    Args:
      dims: D, columns that are summarised independently.
      size: k, even. The memory is about 4 k D log2(n / k) bytes for float32.

    Raises:
      ValueError: dims below 1, or a size that is odd or below 2.
    """
    if dims < 1:
        raise ValueError(f"`dims` is {dims}, expected at least 1.")
    if size < 2 or size % 2:
        raise ValueError(f"`size` is {size}, expected an even number of at least 2.")
    return Sketch(size, dims)


def update(sketch: Sketch, x: np.ndarray) -> Sketch:
    """The sketch after the rows `x` (N, D), which are copied.

    >>> sketch = update(empty(1), np.array([[3.0], [1.0], [2.0]]))
    >>> quantile(sketch, [0.0, 0.5, 1.0]).tolist()
    [[1.0, 2.0, 3.0]]
    """
    x = np.asarray(x)
    if x.ndim != 2 or x.shape[1] != sketch.dims:
        raise ValueError(f"`x` has shape {x.shape}, expected (N, {sketch.dims}): rows of the stream.")
    blocks, pending = cut(sketch.pending, x, sketch.size)
    levels, mergers = list(sketch.levels), list(sketch.mergers)
    for block in blocks:
        _carry(levels, mergers, np.sort(columns(block), axis=1), 0)
    return dataclasses.replace(
        sketch,
        count=sketch.count + len(x),
        pending=pending,
        levels=tuple(levels),
        mergers=tuple(mergers),
    )


def merge(a: Sketch, b: Sketch) -> Sketch:
    """The sketch of the rows of `a` followed by those of `b`: the addition of two binary counters.

    Raises:
      ValueError: the sketches differ in dimension or size.
    """
    if (a.dims, a.size) != (b.dims, b.size):
        raise ValueError(
            f"sketches of {a.dims} dimensions, size {a.size} and of {b.dims}, size {b.size} do not merge."
        )
    height = max(len(a.levels), len(b.levels), len(a.mergers), len(b.mergers))
    levels = list(a.levels) + [None] * (height - len(a.levels))
    mergers = [_at(a.mergers, h) + _at(b.mergers, h) for h in range(height)]
    for h, block in enumerate(b.levels):
        if block is not None:
            _carry(levels, mergers, block, h)
    left_over = sum(map(len, b.pending))
    merged = Sketch(a.size, a.dims, a.count + b.count - left_over, a.pending, tuple(levels), tuple(mergers))
    for rows in b.pending:
        merged = update(merged, rows)
    return merged


def weighted(sketch: Sketch) -> tuple[np.ndarray, np.ndarray]:
    """The surviving items, sorted, and how many rows each stands for.

    Returns:
      items (D, M) ascending along the rows, and weight (D, M) int64; each row of weights sums to n.

    Raises:
      ValueError: the sketch has seen no rows.
    """
    if not sketch.count:
        raise ValueError("no rows have been seen, so there are no quantiles; call `update` first.")
    parts = [(columns(rows), 1) for rows in sketch.pending]
    parts += [(block, 2**h) for h, block in enumerate(sketch.levels) if block is not None]
    items = np.concatenate([block for block, _ in parts], axis=1)
    weight = np.concatenate([np.full(block.shape[1], w, np.int64) for block, w in parts])
    order = np.argsort(items, axis=1, kind="stable")
    return np.take_along_axis(items, order, axis=1), weight[order]


def quantile(sketch: Sketch, q) -> np.ndarray:
    """The q-quantiles of every dimension, interpolated linearly between ranks.

    With t = q (n - 1), the result lies between the items of ranks floor(t) and floor(t) + 1, as in
    numpy's "linear" rule, which it equals as long as nothing was thrown away.

    Args:
      q: (Q,) in [0, 1].

    Returns:
      (D, Q) float64.

    Raises:
      ValueError: no rows, or a q outside [0, 1].
    """
    q = np.atleast_1d(np.asarray(q, np.float64))
    if not np.all((q >= 0) & (q <= 1)):
        raise ValueError(f"`q` is {q.tolist()}, expected values in [0, 1].")
    items, weight = weighted(sketch)
    above = np.cumsum(weight, axis=1)
    target = q * (sketch.count - 1)
    low = np.floor(target)
    result = np.empty((sketch.dims, len(q)))
    for d in range(sketch.dims):
        # Ranks start at 0, so the item of rank r is the first with more than r rows up to it.
        i = np.searchsorted(above[d], low, side="right")
        j = np.searchsorted(above[d], np.minimum(low + 1, sketch.count - 1), side="right")
        a, b = items[d, i].astype(np.float64), items[d, j].astype(np.float64)
        result[d] = a + (b - a) * (target - low)
    return result


def rank_error(sketch: Sketch) -> float:
    """The bound on |estimated - true rank| / n that no input can exceed; 0.0 means exact.

    >>> rank_error(update(empty(1, size=4), np.arange(3.0)[:, None]))
    0.0
    >>> rank_error(update(empty(1, size=4), np.arange(8.0)[:, None]))  # one merger: 1 row of 8
    0.125
    """
    return sum(m * 2**h for h, m in enumerate(sketch.mergers)) / sketch.count if sketch.count else 0.0


def cut(
    pending: tuple[np.ndarray, ...], x: np.ndarray, size: int
) -> tuple[list[np.ndarray], tuple[np.ndarray, ...]]:
    """Appends the rows `x` to `pending` and cuts full blocks of `size` rows off the front.

    Returns:
      The full blocks, and what is left: copies, so that the caller may overwrite `x`.
    """
    have = sum(map(len, pending))
    if have + len(x) < size:
        if not len(x):
            return [], pending
        rest = [*pending, np.array(x)]
        # Neighbours of like length are joined, so tiny updates cost O(log) copies per row.
        while len(rest) > 1 and len(rest[-2]) <= 2 * len(rest[-1]):
            rest[-2:] = [np.concatenate(rest[-2:])]
        return [], tuple(rest)
    first = size - have
    blocks = [np.concatenate([*pending, x[:first]])]
    whole = first + (len(x) - first) // size * size
    blocks += [x[i : i + size] for i in range(first, whole, size)]
    return blocks, (np.array(x[whole:]),) if whole < len(x) else ()


def columns(x: np.ndarray) -> np.ndarray:
    """`x` (N, D) as a contiguous (D, N), turned in pieces that fit the cache (3x faster)."""
    out = np.empty(x.shape[::-1], x.dtype)
    for i in range(0, len(x), 4096):
        out[:, i : i + 4096] = x[i : i + 4096].T
    return out


def _carry(levels: list, mergers: list, block: np.ndarray, h: int) -> None:
    """Adds a sorted block of level `h` to the counter, carrying as long as the place is taken."""
    while True:
        if h == len(levels):
            levels.append(None)
        if levels[h] is None:
            levels[h] = block
            return
        both = np.concatenate([levels[h], block], axis=1)
        both.sort(axis=1)
        if h == len(mergers):
            mergers.append(0)
        # Alternately the lower and the upper of each pair: their errors have opposite signs.
        block = np.ascontiguousarray(both[:, mergers[h] % 2 :: 2])
        mergers[h] += 1
        levels[h] = None
        h += 1


def _at(counts: tuple[int, ...], h: int) -> int:
    return counts[h] if h < len(counts) else 0
