"""Statistics: exact against numpy, streams that do not depend on how they are cut, honest tables."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ch3_jax.data import moments, statistics
from ch3_jax.data.table import number
from ch3_jax.errors import InputError

FIELDS = ("mean", "std", "min", "max", "q01", "q99", "outlier_share")


def names(dims):
    return tuple(f"d{d}" for d in range(dims))


def stream(x, cuts=(), size=64):
    state = statistics.empty(x.shape[1], size)
    for part in np.split(x, sorted(cuts)):
        state = statistics.update(state, part)
    return state


def test_by_hand():
    # x: 0 0 2 3 -> mean 5/4; squares about it 25/16 + 25/16 + 9/16 + 49/16 = 108/16, / 4 = 27/16.
    # q01: rank .03 between 0 and 0; q99: rank 2.97 between 2 and 3 = 2.97.
    # Bins of width 3/256: 0 -> 0, 2 -> 170, 3 -> the last: 3 used. y never moves.
    s = statistics.of_array(np.array([[0, 7], [0, 7], [2, 7], [3, 7]], np.float32), ("x", "y"))
    assert s.count == 4
    assert s.mean.tolist() == [1.25, 7]
    np.testing.assert_allclose(s.std, [np.sqrt(27 / 16), 0], rtol=1e-15)
    assert (s.min.tolist(), s.max.tolist()) == ([0, 7], [3, 7])
    np.testing.assert_allclose(s.q01, [0, 7], atol=1e-15)
    np.testing.assert_allclose(s.q99, [2.97, 7], rtol=1e-15)
    assert s.bins_used.tolist() == [3, 1]
    assert s.constant.tolist() == [False, True]
    assert (s.rank_error, s.estimated) == (0.0, ())


def test_e11_quantiles():
    # systems.md E11: q01 = [-.97, -.0097, 5], q99 = [2.97, .0097, 5].
    x = np.array([[-1, 0, 5], [0, 0, 5], [2, 0.01, 5], [3, -0.01, 5]])
    s = statistics.of_array(x, names(3))
    np.testing.assert_allclose(s.q01, [-0.97, -0.0097, 5], rtol=1e-12)
    np.testing.assert_allclose(s.q99, [2.97, 0.0097, 5], rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
@pytest.mark.parametrize("rows", [1, 2, 3, 100, 10_007])
def test_as_numpy(rows, dtype):
    x = (np.random.default_rng(rows).normal(size=(rows, 3)) * [1, 50, 1000] + [0, 5, -9]).astype(dtype)
    y = x.astype(np.float64)
    s = statistics.of_array(x, names(3))
    np.testing.assert_allclose(s.mean, y.mean(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(s.std, y.std(0), rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(s.min, y.min(0))
    np.testing.assert_array_equal(s.max, y.max(0))
    np.testing.assert_allclose(s.q01, np.quantile(y, 0.01, axis=0), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(s.q99, np.quantile(y, 0.99, axis=0), rtol=1e-13, atol=1e-13)
    if rows > 1:
        used = [np.count_nonzero(np.histogram(c, 256, (c.min(), c.max()))[0]) for c in y.T]
        assert np.abs(s.bins_used - used).max() <= 1  # a value on an edge may round to either side


def test_the_input_is_left_alone():
    x = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    copy = x.copy()
    statistics.of_array(x, names(2))
    np.testing.assert_array_equal(x, copy)


def test_no_cancellation_at_a_large_mean():
    # Mean 1e6, deviation 1: E[x^2] - mean^2 would lose 12 of 16 digits, all of them in float32.
    x = np.random.default_rng(0).normal(1e6, 1, size=(200_000, 1)).astype(np.float32)
    exact = np.std(x.astype(np.longdouble))
    assert statistics.of_array(x, names(1)).std[0] == pytest.approx(float(exact), rel=1e-12)
    s = statistics.finish(stream(x, range(0, 200_000, 7919), 16384), names(1))
    assert s.std[0] == pytest.approx(float(exact), rel=1e-12)
    assert s.mean[0] == pytest.approx(float(np.mean(x.astype(np.longdouble))), rel=1e-15)


@pytest.mark.parametrize("value", [0.1, 1e6 + 0.0625, -3.3e-9, 0.0])
def test_a_constant_has_a_deviation_of_exactly_zero(value):
    x = np.full((100_003, 2), value, np.float32)
    x[0, 1] = 1
    for s in (statistics.of_array(x, names(2)), statistics.finish(stream(x, (3, 4000), 4096), names(2))):
        assert s.constant.tolist() == [True, False]
        assert (s.std[0], s.outlier_share[0], s.bins_used[0]) == (0, 0, 1)
        assert s.mean[0] == s.min[0] == s.q01[0] == np.float32(value)
        assert s.std[1] > 0


def test_outliers_beyond_ten_sigma():
    # 9,999 zeros and one 1: mean 1e-4, std about .01, so the one lies 100 std out: share 1e-4.
    x = np.zeros((10_000, 1), np.float32)
    x[77] = 1
    assert statistics.of_array(x, names(1)).outlier_share.tolist() == [1e-4]
    # 99 zeros and one 1: std .0995, distance .99 = 9.95 std: none.
    assert statistics.of_array(x[:100], names(1)).outlier_share.tolist() == [0]


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 1000), max_size=30), seed=st.integers(0, 3))
def test_cutting_the_stream_changes_no_digit(cuts, seed):
    x = np.random.default_rng(seed).normal(size=(1000, 2)).astype(np.float32)
    a, b = (statistics.finish(stream(x, c), names(2)) for c in (cuts, ()))
    assert a == b
    assert a.sha256() == b.sha256()


@settings(max_examples=25, deadline=None)
@given(cut=st.integers(0, 3000), seed=st.integers(0, 99), flip=st.booleans())
def test_merge_and_order(cut, seed, flip):
    x = np.random.default_rng(seed).normal([0, 1e4], [1, 3], size=(3000, 2)).astype(np.float32)
    parts = [stream(x[:cut]), stream(x[cut:])]
    s = statistics.finish(statistics.merge(*(parts[::-1] if flip else parts)), names(2))
    exact = statistics.of_array(x, names(2))
    assert s.count == 3000
    for field in ("mean", "std", "min", "max"):
        np.testing.assert_allclose(getattr(s, field), getattr(exact, field), rtol=1e-11, atol=1e-13)
    assert 0 < s.rank_error < 0.05
    for d in range(2):
        ordered = np.sort(x[:, d])
        for q, value in ((0.01, s.q01[d]), (0.99, s.q99[d])):
            rank = np.searchsorted(ordered, value) / 3000
            assert abs(rank - q) <= s.rank_error + 1 / 1000
    assert np.all(s.bins_used <= exact.bins_used)
    assert np.all(np.abs(s.outlier_share - exact.outlier_share) <= 2 * s.rank_error)


def test_merge_with_nothing_is_the_same():
    x = np.random.default_rng(0).normal(size=(300, 2))
    s = stream(x)
    for merged in (
        statistics.merge(s, statistics.empty(2, 64)),
        statistics.merge(statistics.empty(2, 64), s),
    ):
        assert statistics.finish(merged, names(2)) == statistics.finish(s, names(2))


def test_a_short_stream_is_exact():
    x = np.random.default_rng(0).normal(size=(5000, 3)).astype(np.float32)
    s = statistics.finish(stream(x, (10, 99), 16384), names(3))
    exact = statistics.of_array(x, names(3))
    assert s.estimated == ()
    np.testing.assert_array_equal(s.bins_used, exact.bins_used)
    np.testing.assert_allclose(s.q01, exact.q01, rtol=1e-14)


def test_second_pass_is_exact():
    x = np.random.default_rng(0).normal(size=(20_000, 3)).astype(np.float32)
    x[5, 0] = 500
    blocks = [x[i : i + 999] for i in range(0, len(x), 999)]
    first = statistics.finish(stream(x), names(3))
    assert first.estimated == ("q01", "q99", "outlier_share", "bins_used")
    second = statistics.second_pass(first, blocks)
    exact = statistics.of_array(x, names(3))
    np.testing.assert_array_equal(second.bins_used, exact.bins_used)
    np.testing.assert_array_equal(second.outlier_share, exact.outlier_share)
    assert second.estimated == ("q01", "q99")
    assert statistics.of_stream(lambda: iter(blocks), names(3)).bins_used.tolist() == exact.bins_used.tolist()
    with pytest.raises(ValueError, match="19001 rows, the first 20000"):
        statistics.second_pass(first, [x[999:]])
    with pytest.raises(ValueError, match="outside the range"):
        statistics.second_pass(first, [x + 1])


def test_moments_by_hand():
    # {1, 3}: mean 2, M2 2. {7}: mean 7, M2 0. Joined: delta 5, mean 2 + 5/3, M2 2 + 25 * 2 / 3.
    joined = moments.join(moments.of_rows(np.array([[1.0], [3.0]])), moments.of_rows(np.array([[7.0]])))
    assert joined.count == 3
    np.testing.assert_allclose(joined.mean, [11 / 3], rtol=1e-15)
    np.testing.assert_allclose(joined.m2, [2 + 50 / 3], rtol=1e-15)
    assert moments.join(None, joined) is joined
    with pytest.raises(ValueError, match="no rows"):
        moments.of_rows(np.zeros((0, 1)))
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="dimension 0.*too large"):
        statistics.of_array(np.array([[-1e200], [1e200]]), names(1))


def test_json_keeps_every_digit(tmp_path):
    x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32) / 3
    s = statistics.of_array(x, ("a", "b", "Gelenk drei"))
    path = tmp_path / "statistics.json"
    path.write_text(json.dumps(s.to_json(), indent=1))
    back = statistics.from_json(json.loads(path.read_text()))
    assert back == s
    assert back.sha256() == s.sha256() == json.loads(path.read_text())["sha256"]
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(back, field), getattr(s, field))
        assert getattr(back, field).dtype == np.float64


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r["mean"].__setitem__(0, r["mean"][0] + 1e-15), "do not match their hash"),
        (lambda r: r.update(names=["a", "c"]), "do not match their hash"),
        (lambda r: r.pop("q99"), "incomplete"),
        (lambda r: r.update(format="other 3"), "not saved statistics"),
        (lambda r: r.update(std=["x", "y"]), "something else than numbers"),
        (lambda r: r.update(mean=[float("nan"), 0.0]), "something else than numbers"),
    ],
)
def test_damaged_json_is_refused(change, words):
    record = statistics.of_array(np.random.default_rng(0).normal(size=(9, 2)), ("a", "b")).to_json()
    change(record)
    with pytest.raises(InputError, match=words):
        statistics.from_json(record)
    with pytest.raises(InputError, match="not saved statistics"):
        statistics.from_json([1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_named(bad):
    x = np.zeros((70_000, 3), np.float32)
    x[66_000, 2] = bad
    with pytest.raises(ValueError, match=rf"dimension 2 \(d2\) is {bad} at row 66000"):
        statistics.of_array(x, names(3))
    state = statistics.update(statistics.empty(3), x[:50_000])
    with pytest.raises(ValueError, match=rf"dimension 2 is {bad} at row 66000"):
        statistics.update(state, x[50_000:])


def test_bad_shapes():
    with pytest.raises(ValueError, match=r"expected \(N, 2\)"):
        statistics.of_array(np.zeros((4, 3)), names(2))
    with pytest.raises(ValueError, match=r"expected \(N, 1\)"):
        statistics.of_array(np.zeros(4), names(1))
    with pytest.raises(ValueError, match="no rows"):
        statistics.of_array(np.zeros((0, 2)), names(2))
    with pytest.raises(ValueError, match="no rows"):
        statistics.finish(statistics.empty(2), names(2))
    with pytest.raises(ValueError, match="3 names for 2"):
        statistics.finish(stream(np.zeros((4, 2))), names(3))


def test_table():
    x = np.random.default_rng(0).normal(size=(1000, 3)) * [1, 1e-7, 1e12]
    x[:, 1] = -0.25
    labels = ("kLeftShoulderPitchAndMore", "wrist\n", "z")
    s = statistics.of_array(x, labels)
    text = statistics.table(s, "action, 3 dimensions", ("rad", "rad", None))
    lines = text.splitlines()
    assert lines[0] == "action, 3 dimensions"
    assert all(len(line) <= 80 for line in lines)
    assert " 0 kLe...ore [rad]" in lines[2]
    assert lines[3].startswith("=  1 wrist? [rad]")
    assert lines[3].split()[-1] == "1"
    assert "-0.25" in lines[3]
    assert "1 of 3 dimensions never move" in text
    assert "sketch" not in text
    assert statistics.table(s, "action", ("rad",) * 3).splitlines()[0] == "action [rad]"
    with pytest.raises(ValueError, match="2 units for 3"):
        statistics.table(s, "", ("rad", "rad"))


def test_table_of_many_dimensions_and_of_a_sketch():
    x = np.random.default_rng(0).normal(size=(300, 55))
    x[:, 50] = 1
    text = statistics.table(statistics.finish(stream(x), names(55)), "t" * 200)
    assert "... and 15 more dimensions" in text
    assert "1 of 55 dimensions never move (1 of them not shown)" in text
    assert "from a sketch" in text
    assert all(len(line) <= 80 for line in text.splitlines())
    assert len(text.splitlines()) == 2 + 40 + 4


@settings(max_examples=300, deadline=None)
@given(st.floats(-1e307, 1e307))
def test_table_numbers_fit_and_keep_their_size(value):
    text = number(value)
    assert len(text) <= 7
    assert float(text) == pytest.approx(value, rel=0.5)


def test_the_g1_actions(real_data):
    """36 k rows of a real robot: exact against numpy, some hand joints never move."""
    parquet = pytest.importorskip("pyarrow.parquet")
    files = sorted((real_data / "g1" / "data" / "chunk-000").glob("*.parquet"))[:20]
    if not files:
        pytest.skip("no G1 episodes")
    tables = [parquet.read_table(file, columns=["action"])["action"].to_pylist() for file in files]
    x = np.concatenate([np.array(rows, np.float32) for rows in tables])
    exact = statistics.of_array(x, names(x.shape[1]))
    np.testing.assert_array_equal(exact.constant, x.min(0) == x.max(0))
    np.testing.assert_allclose(
        exact.q01, np.quantile(x.astype(np.float64), 0.01, axis=0), rtol=1e-12, atol=1e-12
    )
    blocks = [np.array(rows, np.float32) for rows in tables]
    s = statistics.of_stream(lambda: iter(blocks), names(x.shape[1]))
    np.testing.assert_allclose(s.std, exact.std, rtol=1e-12)
    np.testing.assert_array_equal(s.bins_used, exact.bins_used)
