"""Bins: E2 to E5 of the fact sheet to the integer, and float64's answer for every float32 value."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ch3_jax.tokens import bins as tb


def column(values):
    return jnp.asarray(np.asarray(values, np.float32)[:, None])


def encode(bins, values):
    return np.asarray(tb.encode(bins, column(values)))[:, 0].tolist()


def decode(bins, tokens):
    return np.asarray(tb.decode(bins, jnp.asarray(tokens)[:, None]))[:, 0]


def around(edges):
    """Float32 values on, just below and just above float64 edges; no subnormals, which XLA reads as 0."""
    near = np.asarray(edges).astype(np.float32)
    below, above = (np.nextafter(near, np.float32(end)) for end in (-np.inf, np.inf))
    x = np.concatenate([near, below, above])
    return np.where(np.abs(x) < np.finfo(np.float32).tiny, np.float32(0), x)


def uniform_sample(low, high, count):
    return np.random.default_rng(0).uniform(low, high, count).astype(np.float32)


def test_by_hand():
    # [0, 1] in 4: edges .25, .5, .75; centres .125, .375, .625, .875; the right end is in the last.
    b = tb.uniform([0.0], [1.0], 4)
    assert encode(b, [-5, 0, 0.2499, 0.25, 0.5, 0.99, 1, 7]) == [0, 0, 0, 1, 2, 3, 3, 3]
    np.testing.assert_array_equal(decode(b, [0, 1, 2, 3]), [0.125, 0.375, 0.625, 0.875])
    assert (b.count, b.dims, b.uniform) == (4, 1, True)


def test_e2_openvla():
    b = tb.openvla(1, 32000)
    values = [-1, -0.5, -0.073, 0, 0.25, 0.5, 0.999, 1, 2]
    tokens = [31999, 31936, 31881, 31872, 31840, 31808, 31745, 31744, 31744]
    assert encode(b, values) == tokens
    assert encode(b, [-1e-9, 1e-9]) == [31872, 31872]  # 0 is the middle of a bin
    decoded = [-0.9960784314, -0.5019607843, -0.0705882353, 0, 0.2509803922, 0.5019607843]
    np.testing.assert_allclose(decode(b, tokens), [*decoded, *[0.9960784314] * 3], atol=6e-8)
    x = uniform_sample(-1, 1, 200_000)
    error = np.asarray(tb.decode(b, tb.encode(b, column(x))))[:, 0].astype(np.float64) - x
    assert np.abs(error).max() <= 1 / 255 + 1e-7
    assert np.sqrt(np.mean(error**2)) == pytest.approx(0.00226413, rel=2e-3)


def test_e2_openvla_is_numpy_digitize_at_every_edge():
    edges = np.linspace(-1, 1, 256)
    x = np.concatenate([around(edges), uniform_sample(-1.2, 1.2, 50_000)])
    oracle = 32000 - np.digitize(np.clip(x.astype(np.float64), -1, 1), edges)
    np.testing.assert_array_equal(encode(tb.openvla(1), x), oracle)
    centres = (edges[1:] + edges[:-1]) / 2
    ids = np.arange(31744, 32000)
    np.testing.assert_allclose(
        decode(tb.openvla(1), ids), centres[np.clip(32000 - ids - 1, 0, 254)], atol=6e-8
    )


def test_e3_rt1():
    b = tb.rt1([-1.0], [1.0], 256)
    assert encode(b, [-0.5, 0, 0.5, 0.999, 1, -3, 3]) == [63, 127, 191, 254, 255, 0, 255]
    expected = [-0.5058823529, -0.0039215686, 0.4980392157, 0.9921568627, 1]
    np.testing.assert_allclose(decode(b, [63, 127, 191, 254, 255]), expected, atol=6e-8)
    x = uniform_sample(-1, 1, 200_000)
    error = np.asarray(tb.decode(b, tb.encode(b, column(x))))[:, 0].astype(np.float64) - x
    assert error.max() <= 0
    assert error.min() > -0.0078432
    assert error.mean() == pytest.approx(-0.0039215, rel=5e-3)


def test_e3_rt1_against_its_float32_arithmetic():
    x = np.random.default_rng(1).uniform(-1, 1, 200_000).astype(np.float32)
    one = np.float32(1)
    theirs = ((np.clip(x, -one, one) + one) / np.float32(2) * np.float32(255)).astype(np.int32)
    ours = np.asarray(encode(tb.rt1([-1.0], [1.0]), x))
    differ = ours != theirs
    assert differ.mean() < 1e-4
    # Only within a rounding of an edge, and by one.
    exact = (x[differ].astype(np.float64) + 1) / 2 * 255
    assert np.all(np.abs(exact - np.round(exact)) < 255 * 1.2e-7)
    assert np.all(np.abs(ours - theirs)[differ] == 1)


def test_e4_octo():
    b = tb.octo(1)
    assert encode(b, [-1, 0, 0.25, 1]) == [0, 128, 160, 255]
    expected = [-0.99609375, 0.00390625, 0.25390625, 0.99609375]
    np.testing.assert_array_equal(decode(b, [0, 128, 160, 255]), expected)


def test_e5_openpi_state():
    b = tb.pi05_state(1)
    assert encode(b, [-1.2, -1, -0.5, 0, 0.5, 0.999, 1, 1.2]) == [-1, 0, 64, 128, 192, 255, 255, 255]
    edges = np.linspace(-1, 1, 257)[:-1]
    x = np.concatenate([around(edges), uniform_sample(-2, 2, 20_000)])
    np.testing.assert_array_equal(encode(b, x), np.digitize(x.astype(np.float64), edges) - 1)
    np.testing.assert_array_equal(decode(b, [-1, 0, 255]), [-1, -0.99609375, 0.99609375])


@settings(max_examples=40, deadline=None)
@given(
    low=st.floats(-1e5, 1e5),
    width=st.floats(1e-6, 1e6),
    count=st.sampled_from([1, 2, 7, 256]),
    seed=st.integers(0, 3),
)
def test_uniform_is_float64_digitize_for_every_float32(low, width, count, seed):
    high = low + width
    b = tb.uniform([low], [high], count)
    inner = low + np.arange(1, count) * ((high - low) / count)
    x = np.random.default_rng(seed).uniform(low - width, high + width, 500).astype(np.float32)
    x = np.concatenate([around(inner), around([low, high]), x])
    np.testing.assert_array_equal(encode(b, x), np.digitize(x.astype(np.float64), inner))


@pytest.mark.parametrize("low", [0.0, -1.0, 1e6, -3e-5])
def test_narrow_ranges_far_from_zero_take_the_search(low):
    b = tb.uniform([low], [low + 1], 256)
    assert b.uniform == (abs(low) < 1e5)


def test_encode_of_decode_is_the_token():
    rng = np.random.default_rng(0)
    made = [tb.uniform(-rng.uniform(0, 9, 7), rng.uniform(0.01, 9, 7), 256)]
    made += [tb.equal_mass(rng.normal(size=(5000, 7)), 256), tb.rt1(-np.ones(7), np.ones(7) / 3)]
    for b in made:
        tokens = jnp.broadcast_to(jnp.arange(256)[:, None], (256, 7))
        np.testing.assert_array_equal(tb.encode(b, tb.decode(b, tokens)), tokens)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 99), count=st.sampled_from([2, 5, 256]))
def test_encode_is_monotone_and_the_round_trip_is_half_a_bin(seed, count):
    rng = np.random.default_rng(seed)
    low, high = np.sort(rng.normal(size=2) * 10)
    b = tb.uniform([low], [high], count)
    x = np.sort(rng.uniform(low, high, 300)).astype(np.float32)
    tokens = encode(b, x)
    assert np.all(np.diff(tokens) >= 0)
    assert np.abs(decode(b, tokens) - x).max() <= (high - low) / count / 2 + 2e-7 * max(abs(low), abs(high))


@pytest.mark.parametrize("value", [0.0, 5.0, -0.1, 1e6, -1e-8])
@pytest.mark.parametrize("count", [1, 2, 255, 256])
def test_a_constant_dimension_decodes_to_itself(value, count):
    b = tb.uniform([value, 0.0], [value, 1.0], count)
    x = jnp.array([[value, 0.5]], jnp.float32)
    token = tb.encode(b, x)
    assert int(token[0, 0]) == count // 2
    assert float(tb.decode(b, token)[0, 0]) == np.float32(value)
    # The documented width is max(|c|, 1) / K.
    if count > 2:
        width = np.diff(b.edge[0, 1:-1].astype(np.float64)).mean()
        assert width == pytest.approx(max(abs(value), 1) / count, rel=1e-4)


def test_equal_mass_by_hand_and_counts():
    # 0..7 in 4: quantiles 1.75, 3.5, 5.25; two values each, means .5, 2.5, 4.5, 6.5.
    b = tb.equal_mass(np.arange(8.0)[:, None], 4)
    np.testing.assert_array_equal(b.edge[0, 1:-1], np.array([1.75, 3.5, 5.25], np.float32))
    np.testing.assert_array_equal(decode(b, [0, 1, 2, 3]), [0.5, 2.5, 4.5, 6.5])
    x = np.random.default_rng(0).normal(size=(256 * 40, 2)).astype(np.float32) ** 3
    b = tb.equal_mass(x, 256)
    tokens = np.asarray(tb.encode(b, jnp.asarray(x)))
    for d in range(2):
        oracle = np.quantile(x[:, d].astype(np.float64), np.arange(1, 256) / 256)
        np.testing.assert_array_equal(tokens[:, d], np.digitize(x[:, d].astype(np.float64), oracle))
        counts = np.bincount(tokens[:, d], minlength=256)
        assert (counts.min(), counts.max()) == (40, 40)
        means = [x[tokens[:, d] == k, d].astype(np.float64).mean() for k in range(256)]
        np.testing.assert_allclose(b.centre[d], means, rtol=1e-6)


def test_equal_mass_with_ties():
    # A gripper: 3 of 4 values are 0, the rest 1. Quantiles of 4 bins: 0, 0, .25.
    x = np.array([0, 0, 0, 1.0])[:, None]
    b = tb.equal_mass(x, 4)
    tokens = encode(b, x[:, 0])
    assert tokens == [2, 2, 2, 3]
    np.testing.assert_array_equal(decode(b, tokens), x[:, 0])
    constant = tb.equal_mass(np.full((9, 1), 5.0), 4)
    np.testing.assert_array_equal(decode(constant, encode(constant, [5.0])), [5.0])


def test_make_bins():
    low, high, q01, q99 = [-2.0, 0.0], [2.0, 1.0], [-1.0, 0.0], [1.0, 0.0]
    np.testing.assert_array_equal(
        tb.make_bins("minmax", 8, minimum=low, maximum=high).edge, tb.uniform(low, high, 8).edge
    )
    b = tb.make_bins("quantile", 8, q01=q01, q99=q99, minimum=low, maximum=high)
    # The gripper has q01 = q99 but moves between 0 and 1: it keeps its range.
    np.testing.assert_array_equal(b.edge, tb.uniform([-1.0, 0.0], [1.0, 1.0], 8).edge)
    sample = np.random.default_rng(0).normal(size=(99, 2))
    np.testing.assert_array_equal(
        tb.make_bins("equal_mass", 8, sample=sample).edge, tb.equal_mass(sample, 8).edge
    )
    with pytest.raises(ValueError, match="'minimax' is not one of: minmax, quantile, equal_mass"):
        tb.make_bins("minimax", minimum=low, maximum=high)
    with pytest.raises(ValueError, match="needs `q01` and `q99`"):
        tb.make_bins("quantile", minimum=low, maximum=high)


def test_jit_vmap_and_leading_axes_agree():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32))
    for b in (tb.uniform(-np.ones(3), np.ones(3), 16), tb.equal_mass(np.asarray(x).reshape(-1, 3), 5)):
        plain = tb.encode(b, x)
        loop = np.stack([np.asarray(tb.encode(b, v)) for v in x[0]])
        np.testing.assert_array_equal(plain[0], loop)
        np.testing.assert_array_equal(jax.jit(tb.encode)(b, x), plain)
        np.testing.assert_array_equal(jax.vmap(lambda v, b=b: tb.encode(b, v))(x), plain)
        np.testing.assert_array_equal(jax.jit(tb.decode)(b, plain), tb.decode(b, plain))
        assert plain.dtype == jnp.int32
        assert tb.decode(b, plain).dtype == jnp.float32
        assert len(jax.tree.leaves(b)) == 4


@pytest.mark.parametrize("name", ["uniform", "equal_mass", "openvla", "pi05_state"])
def test_what_has_no_bin(name):
    b = {
        "uniform": tb.uniform([-1.0], [1.0], 4),
        "equal_mass": tb.equal_mass(np.arange(9.0)[:, None], 4),
        "openvla": tb.openvla(1),
        "pi05_state": tb.pi05_state(1),
    }[name]
    assert encode(b, [np.nan, np.inf, -np.inf]) == [b.invalid] * 3
    first, last = b.first, b.first + b.step * (b.count - 1)
    for token in (b.invalid, first - b.step, 10**6, -(10**6)):
        with pytest.raises(ValueError, match=f"token {token} belongs to no bin"):
            tb.decode(b, jnp.array([[first], [token], [last]]))
        compiled = jax.jit(tb.decode)(b, jnp.array([[first], [token], [last]]))
        assert np.isnan(compiled[:, 0]).tolist() == [False, True, False]


def test_unsigned_tokens():
    b = tb.openvla(1)
    assert float(tb.decode(b, jnp.array([[31872]], jnp.uint16))[0, 0]) == 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: tb.uniform([0.0], [1.0], 0), "bins is 0, expected at least 1"),
        (lambda: tb.uniform([0.0, 2.0], [1.0, 1.0]), "dimension 1 has low 2 above high 1"),
        (lambda: tb.uniform([0.0, np.nan], [1.0, 1.0]), "`low` is nan in dimension 1"),
        (lambda: tb.uniform([0.0], [np.inf]), "`high` is inf in dimension 0"),
        (lambda: tb.uniform(0.0, 1.0), r"two arrays \(A,\)"),
        (lambda: tb.equal_mass(np.zeros((0, 2))), "at least one row"),
        (lambda: tb.equal_mass(np.array([[0.0], [np.nan]])), "dimension 0 at row 1"),
        (lambda: tb.rt1([1.0], [1.0]), "divides by the range"),
        (lambda: tb.openvla(1, 100), "100, expected at least 257"),
        (lambda: tb.encode(tb.uniform([0.0], [1.0]), jnp.zeros((3, 2))), r"expected \(\.\.\., 1\)"),
        (lambda: tb.encode(tb.uniform([0.0], [1.0]), jnp.float32(0)), r"expected \(\.\.\., 1\)"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_bad_types():
    with pytest.raises(TypeError, match="expected an integer"):
        tb.uniform([0.0], [1.0], 2.5)
    with pytest.raises(TypeError, match="expected integers"):
        tb.decode(tb.uniform([0.0], [1.0]), jnp.zeros((1, 1)))
