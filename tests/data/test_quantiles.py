"""The sketch: exact while small, inside its bound when large, the same however the stream is cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ch3_jax.data import quantiles

QS = (0.0, 0.01, 0.25, 0.5, 0.99, 1.0)


def fill(x, cuts=(), size=64):
    sketch = quantiles.empty(x.shape[1], size)
    for part in np.split(x, sorted(cuts)):
        sketch = quantiles.update(sketch, part)
    return sketch


def rank_distance(x, values, qs):
    """How far q (n - 1) lies from the ranks that each value really has in `x`, in rows."""
    ordered = np.sort(x)
    below = np.searchsorted(ordered, values, side="left")
    upto = np.searchsorted(ordered, values, side="right") - 1
    target = np.asarray(qs) * (len(x) - 1)
    return np.maximum(np.maximum(below - 1 - target, target - upto - 1), 0)


def same(a, b):
    assert a.count == b.count
    assert a.mergers == b.mergers
    for one, other in zip(quantiles.weighted(a), quantiles.weighted(b), strict=True):
        np.testing.assert_array_equal(one, other)


def test_by_hand():
    # k = 2. Rows 4 1 | 3 2 make the blocks [1 4] and [2 3]; together 1 2 3 4, of which the first
    # merger keeps 1 and 3, each for 2 rows. The median target .5 * 3 = 1.5 lies between rank 1,
    # which is 1, and rank 2, which is 3: 1 + .5 * 2 = 2. True quantile 2.5, one merger of weight 1
    # in 4 rows: bound .25.
    sketch = fill(np.array([[4.0], [1.0], [3.0], [2.0]]), size=2)
    items, weight = quantiles.weighted(sketch)
    assert items.tolist() == [[1.0, 3.0]]
    assert weight.tolist() == [[2, 2]]
    assert quantiles.quantile(sketch, 0.5).tolist() == [[2.0]]
    assert quantiles.rank_error(sketch) == 0.25


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exact_below_a_block_as_numpy(dtype):
    x = np.random.default_rng(0).normal(size=(63, 3)).astype(dtype)
    sketch = fill(x, (5, 6, 30))
    assert quantiles.rank_error(sketch) == 0
    expected = np.quantile(x.astype(np.float64), QS, axis=0).T
    np.testing.assert_allclose(quantiles.quantile(sketch, QS), expected, rtol=1e-14)


@pytest.mark.parametrize("kind", ["normal", "sorted", "reversed", "ties", "heavy"])
def test_rank_error_stays_inside_the_bound(kind):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20011, 2)).astype(np.float32)
    if kind == "sorted":
        x = np.sort(x, axis=0)
    elif kind == "reversed":
        x = np.sort(x, axis=0)[::-1]
    elif kind == "ties":
        x = np.round(x)
    elif kind == "heavy":
        x = x**5
    qs = np.linspace(0, 1, 101)
    sketch = fill(x)
    bound = quantiles.rank_error(sketch) * len(x)
    assert bound <= len(x) / (2 * 64) * np.log2(len(x) / 64)  # the promise of the docstring
    estimate = quantiles.quantile(sketch, qs)
    for d in range(2):
        # Interpolated values lie between two items, each inside the bound; one row for the gap.
        error = rank_distance(x[:, d], estimate[d], qs).max()
        assert error <= bound + 1
        if kind in ("normal", "heavy"):
            assert error < bound / 2  # lower and upper items are kept in turns, so errors cancel


def test_the_bound_shrinks_with_the_size():
    x = np.random.default_rng(2).normal(size=(30000, 1))
    errors = [quantiles.rank_error(fill(x, size=size)) for size in (16, 256, 4096)]
    assert errors[0] > 10 * errors[1] > 100 * errors[2] > 0


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, 1000), max_size=40), seed=st.integers(0, 3))
def test_cutting_the_stream_changes_nothing(cuts, seed):
    x = np.random.default_rng(seed).normal(size=(1000, 2)).astype(np.float32)
    same(fill(x, cuts, size=32), fill(x, size=32))


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 3000), min_size=1, max_size=6), seed=st.integers(0, 9))
def test_merging_and_order_stay_inside_the_bound(cuts, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(3000, 1))
    parts = np.split(x, sorted(cuts))
    rng.shuffle(parts)
    merged = quantiles.empty(1, 32)
    for part in parts:
        merged = quantiles.merge(merged, fill(part, size=32))
    assert merged.count == len(x)
    assert quantiles.weighted(merged)[1].sum() == len(x)
    bound = quantiles.rank_error(merged) * len(x)
    assert rank_distance(x[:, 0], quantiles.quantile(merged, QS)[0], QS).max() <= bound + 1


def test_states_are_not_changed_and_do_not_alias_the_input():
    x = np.arange(40.0)[:, None]
    before = fill(x, size=16)
    copy = quantiles.weighted(before)
    quantiles.update(before, x)
    quantiles.merge(before, before)
    x[:] = -1
    for one, other in zip(quantiles.weighted(before), copy, strict=True):
        np.testing.assert_array_equal(one, other)


def test_memory_grows_with_the_logarithm():
    sketch = quantiles.empty(1, 64)
    for _ in range(100):
        sketch = quantiles.update(sketch, np.random.default_rng(0).normal(size=(1000, 1)))
    blocks = [level for level in sketch.levels if level is not None]
    assert len(sketch.levels) <= np.log2(100_000 / 64) + 1
    assert sum(block.size for block in blocks) <= 64 * len(sketch.levels)


def test_columns_turn():
    x = np.random.default_rng(0).normal(size=(9001, 3)).astype(np.float32)
    np.testing.assert_array_equal(quantiles.columns(x), x.T)


def test_bad_input():
    with pytest.raises(ValueError, match="`dims` is 0"):
        quantiles.empty(0)
    with pytest.raises(ValueError, match="even"):
        quantiles.empty(1, 3)
    with pytest.raises(ValueError, match=r"expected \(N, 2\)"):
        quantiles.update(quantiles.empty(2), np.zeros((3, 1)))
    with pytest.raises(ValueError, match="no rows"):
        quantiles.quantile(quantiles.empty(2), 0.5)
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        quantiles.quantile(fill(np.zeros((2, 1))), [0.5, 1.5])
    with pytest.raises(ValueError, match="do not merge"):
        quantiles.merge(quantiles.empty(1), quantiles.empty(2))
