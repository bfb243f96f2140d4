"""Normalisers: E11 of the fact sheet to its digits, exact inverses, constants by their named rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ch3_jax.data import normalize as nz
from ch3_jax.data.statistics import of_array

X = np.array([[-1, 0, 5], [0, 0, 5], [2, 0.01, 5], [3, -0.01, 5]])
STATISTICS = of_array(X, ("x", "y", "z"))


def apply(rule, x=X, statistics=STATISTICS, **changes):
    made = nz.make_normalizer(statistics, rule, **changes)
    return np.asarray(nz.normalize(made, x.astype(np.float32)))


def test_e11_openvla():
    # q01 = -.97, q99 = 2.97: 2 (0 + .97) / 3.94 - 1 = -.507614; the ends are clipped; z is constant.
    y = apply("openvla")
    np.testing.assert_allclose(y[:, 0], [-1, -0.507614, 0.507614, 1], atol=1e-6)
    np.testing.assert_array_equal(y[:, 2], 0)


def test_e11_openpi_quantile():
    y = apply("openpi")
    np.testing.assert_allclose(y[[0, 3], 0], [-1.015228, 1.015228], atol=1e-6)
    np.testing.assert_array_equal(y[:, 2], -1)


def test_e11_lerobot_minmax():
    y = apply("lerobot_minmax")
    np.testing.assert_allclose(y[:, 0], [-1, -0.5, 0.5, 1], atol=1e-6)
    np.testing.assert_array_equal(y[:, 2], -1)


def test_e11_diffusion_policy_limits():
    y = apply("diffusion_policy")
    np.testing.assert_allclose(y[:, 0], [-1, -0.5, 0.5, 1], atol=1e-6)
    np.testing.assert_array_equal(y[:, 2], 0)


def test_e11_diffusion_policy_range_eps():
    # A range of .9e-4 < range_eps is only shifted by its lower end, one of 1.1e-4 is scaled.
    x = np.array([[1, 0], [1 + 0.9e-4, 1.1e-4]])
    y = apply("diffusion_policy", x, of_array(x, ("a", "b")))
    np.testing.assert_allclose(y, [[0, -1], [0.9e-4, 1]], atol=2e-7)


def test_e11_openpi_zscore():
    np.testing.assert_allclose(
        apply("openpi_zscore")[:, 0], [-1.26491, -0.632455, 0.632455, 1.26491], atol=1e-5
    )


def test_e11_octo():
    # std = .00707107 and epsilon 1e-8: .01 / .00707108 = 1.414212.
    np.testing.assert_allclose(apply("octo")[:, 1], [0, 0, 1.414212, -1.414212], atol=1e-6)


def test_e11_act():
    # ddof 1: std of y = sqrt(2e-4 / 3) = .0082 < .01, the floor; of x: sqrt(10 / 3), -2 / 1.8257.
    y = apply("act")
    np.testing.assert_allclose(y[2:, 1], [1, -1], atol=1e-6)
    assert y[0, 0] == pytest.approx(-1.095445, abs=1e-6)


def test_e11_openpi_issue_814():
    # The issue's own q01 and q99 of action 4; a delta action of 0 lies 1600 widths away.
    q01, q99 = 1.568642928333805, 1.5696224851423788
    assert (0 - q01) / (q99 - q01 + 1e-6) * 2 - 1 == pytest.approx(-3200.494, abs=5e-4)
    x = np.array([[q01], [q99]])
    s = of_array(x, ("wrist",))
    s = type(s)(**{**{f: getattr(s, f) for f in s.__dataclass_fields__}, "q01": x[0], "q99": x[1]})
    y = nz.normalize(nz.make_normalizer(s, "openpi"), np.zeros((1, 1), np.float32))
    assert float(y[0, 0]) == pytest.approx(-3200.494, abs=1e-3)  # float32 steps there are 2.4e-4


FORMULAS = {
    # The peers' own lines, in float64; (forward, inverse).
    "openpi": lambda s: (
        lambda x: (x - s.q01) / (s.q99 - s.q01 + 1e-6) * 2 - 1,
        lambda y: (y + 1) / 2 * (s.q99 - s.q01 + 1e-6) + s.q01,
    ),
    "openpi_zscore": lambda s: (
        lambda x: (x - s.mean) / (s.std + 1e-6),
        lambda y: y * (s.std + 1e-6) + s.mean,
    ),
    "lerobot": lambda s: (lambda x: (x - s.mean) / (s.std + 1e-8), lambda y: y * (s.std + 1e-8) + s.mean),
    "lerobot_minmax": lambda s: (
        lambda x: 2 * (x - s.min) / (s.max - s.min) - 1,
        lambda y: (y + 1) / 2 * (s.max - s.min) + s.min,
    ),
    "lerobot_quantile": lambda s: (
        lambda x: 2 * (x - s.q01) / (s.q99 - s.q01) - 1,
        lambda y: (y + 1) * (s.q99 - s.q01) / 2 + s.q01,
    ),
    "openvla": lambda s: (
        lambda x: np.clip(2 * (x - s.q01) / (s.q99 - s.q01 + 1e-8) - 1, -1, 1),
        lambda y: 0.5 * (y + 1) * (s.q99 - s.q01 + 1e-8) + s.q01,
    ),
    "openvla_minmax": lambda s: (
        lambda x: np.clip(2 * (x - s.min) / (s.max - s.min + 1e-8) - 1, -1, 1),
        lambda y: 0.5 * (y + 1) * (s.max - s.min + 1e-8) + s.min,
    ),
    "octo_quantile": lambda s: (
        lambda x: np.clip(2 * (x - s.q01) / (s.q99 - s.q01 + 1e-8) - 1, -1, 1),
        lambda y: 0.5 * (y + 1) * (s.q99 - s.q01 + 1e-8) + s.q01,
    ),
    "octo": lambda s: (lambda x: (x - s.mean) / (s.std + 1e-8), lambda y: y * (s.std + 1e-8) + s.mean),
    "act": lambda s: (
        lambda x: (x - s.mean) / np.maximum(s.std * np.sqrt(s.count / (s.count - 1)), 1e-2),
        lambda y: y * np.maximum(s.std * np.sqrt(s.count / (s.count - 1)), 1e-2) + s.mean,
    ),
    "diffusion_policy": lambda s: (
        lambda x: (x - s.min) * 2 / (s.max - s.min) - 1,
        lambda y: (y + 1) * (s.max - s.min) / 2 + s.min,
    ),
}


@pytest.mark.parametrize("name", sorted(nz.PRESETS))
def test_presets_against_the_peers_formulas(name):
    x = np.random.default_rng(0).normal([0, 3, -100], [1, 0.05, 20], size=(500, 3)).astype(np.float32)
    s = of_array(x, ("a", "b", "c"))
    forward, inverse = FORMULAS[name](s)
    made = nz.make_normalizer(s, name)
    np.testing.assert_allclose(nz.normalize(made, x), forward(x.astype(np.float64)), atol=2e-5, rtol=2e-6)
    y = np.random.default_rng(1).uniform(-1, 1, (50, 3)).astype(np.float32)
    np.testing.assert_allclose(nz.denormalize(made, y), inverse(y.astype(np.float64)), rtol=2e-6, atol=2e-5)


@settings(max_examples=60, deadline=None)
@given(
    rule=st.sampled_from([n for n in nz.NAMES if nz.recipe(n).clip is None]),
    centre=st.floats(-1e4, 1e4),
    width=st.floats(1e-3, 1e4),
    seed=st.integers(0, 5),
)
def test_the_inverse_gives_the_value_back(rule, centre, width, seed):
    x = (centre + width * np.random.default_rng(seed).normal(size=(40, 1))).astype(np.float32)
    s = of_array(x, ("a",))
    made = nz.make_normalizer(s, rule)
    back = np.asarray(nz.denormalize(made, nz.normalize(made, x)))
    reach = np.maximum(np.abs(x), np.maximum(np.abs(made.offset), made.scale))
    assert np.all(np.abs(back - x) <= 7e-7 * reach)  # the docstring's promise


@pytest.mark.parametrize(
    ("rule", "constant", "inside", "off"),
    [
        # x = 5 and x = 6 where the data was always 5.
        ("zscore", "zero", 0, 0),
        ("minmax", "zero", 0, 0),
        ("quantile", "offset", 0, 1),
        ("minmax", "keep", 5, 6),
        ("minmax", "epsilon", -1, 2 / 0.5 - 1),
        ("quantile", "formula", -1, 2 / 0.5 - 1),
        ("zscore", "formula", 0, 1 / 0.5),
    ],
)
def test_constant_rules(rule, constant, inside, off):
    made = nz.make_normalizer(STATISTICS, rule, constant=constant, epsilon=0.5)
    y = np.asarray(nz.normalize(made, np.array([[0, 0, 5], [0, 0, 6]], np.float32)))
    assert y[:, 2].tolist() == [inside, off]
    assert float(nz.denormalize(made, y)[0, 2]) == 5


@pytest.mark.parametrize("value", [5.0, 0.1, -1e6, 1e-30])
@pytest.mark.parametrize("name", nz.NAMES)
def test_every_rule_gives_a_constant_back(name, value):
    x = np.full((7, 2), value, np.float32)
    x[:, 1] = np.arange(7)
    made = nz.make_normalizer(of_array(x, ("a", "b")), name)
    y = nz.normalize(made, x)
    assert np.isfinite(np.asarray(y)).all()
    np.testing.assert_allclose(nz.denormalize(made, y)[:, 0], x[:, 0], rtol=1.2e-7)
    if nz.recipe(name).constant == "zero" and name != "identity":
        assert float(nz.denormalize(made, jnp.array([[0.7, 0.0]]))[0, 0]) == np.float32(value)


def test_a_dimension_that_rarely_moves_is_not_deleted():
    # A gripper that closes in 5 of 1000 steps has q01 = q99 = 0. The plain rule takes min and max.
    x = np.zeros((1000, 1))
    x[:5] = 1
    s = of_array(x, ("gripper",))
    y = apply("quantile", x, s)
    assert sorted(set(y[:, 0].tolist())) == [-1, 1]
    assert "q01 = q99 = 0" in nz.describe(s, "quantile")[0]
    # OpenVLA's own formula divides by 1e-8 and clips.
    assert sorted(set(apply("openvla", x, s)[:, 0].tolist())) == [-1, 1]


def test_clip_and_mask():
    y = apply("quantile", clip=0.5)
    assert (y.min(), y.max()) == (-0.5, 0.5)
    y = apply("openvla", mask=np.array([True, False, True]))
    np.testing.assert_array_equal(y[:, 1], X[:, 1].astype(np.float32))
    made = nz.make_normalizer(STATISTICS, "openvla", mask=[True, True, False])
    assert float(nz.denormalize(made, jnp.full((1, 3), 9.0))[0, 2]) == 9
    assert nz.describe(STATISTICS, "openvla", mask=[True, True, False]) == ()


def test_a_mean_of_a_million_keeps_its_deviation():
    # Float32 steps are 1/16 here, and the mean, 1e6 + 9/32, is not one of them.
    x = (1e6 + np.arange(4)[:, None] * 0.0625 * 3).astype(np.float32)
    s = of_array(x, ("encoder",))
    exact = (x.astype(np.float64) - s.mean) / s.std
    np.testing.assert_allclose(apply("zscore", x, s), exact, atol=1e-6)


def test_jit_vmap_and_leading_axes_agree():
    made = nz.make_normalizer(STATISTICS, "openpi")
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32))
    loop = np.stack([[np.asarray(nz.normalize(made, v)) for v in row] for row in x])
    np.testing.assert_allclose(nz.normalize(made, x), loop, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(nz.normalize)(made, x), loop, rtol=1e-5)
    np.testing.assert_allclose(
        jax.vmap(lambda v: nz.denormalize(made, v))(x), nz.denormalize(made, x), rtol=1e-6
    )
    assert all(leaf.dtype == np.float32 and leaf.shape == (3,) for leaf in jax.tree.leaves(made))


def test_describe():
    assert nz.describe(STATISTICS, "zscore") == ("dimension 2 (z) is constant: mapped to 0 (rule 'zero')",)
    assert "only shifted to 0" in nz.describe(STATISTICS, "diffusion_policy")[0]
    openpi = nz.describe(STATISTICS, "openpi")[0]
    assert openpi.startswith("dimension 2 (z) is constant: mapped to -1 with gain 2e+06")
    assert nz.describe(STATISTICS, "identity") == ()
    x = np.concatenate([np.random.default_rng(0).normal(size=(1000, 1)), [[9000.0]]])
    assert "reaches" in nz.describe(of_array(x, ("a",)), "quantile")[0]
    nearly = of_array(np.array([[0.0], [1e-5]]), ("b",))
    assert "moves by only 1e-05: only shifted" in nz.describe(nearly, "diffusion_policy")[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"rule": "z-score"}, "'z-score' is not one of: zscore, minmax, quantile, identity, openvla"),
        ({"rule": "zscore", "constant": "one"}, "'one' is not one of: zero, offset, keep"),
        ({"rule": "zscore", "eps": 1}, "'eps' is not one of: clip, constant"),
        ({"rule": "zscore", "clip": 0}, "`clip` is 0"),
        ({"rule": "zscore", "epsilon": -1}, "`epsilon` is -1"),
        ({"rule": "zscore", "ddof": 2}, "`ddof` is 2"),
        ({"rule": "zscore", "mask": [True]}, "expected bool"),
        ({"rule": "minmax", "constant": "formula"}, r"dimension 2 \(z\).*0 wide"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        nz.make_normalizer(STATISTICS, **arguments)


def test_bad_shapes():
    made = nz.make_normalizer(STATISTICS)
    for function in (nz.normalize, nz.denormalize):
        with pytest.raises(ValueError, match=r"expected \(\.\.\., 3\)"):
            function(made, jnp.zeros((4, 2)))
        with pytest.raises(ValueError, match=r"expected \(\.\.\., 3\)"):
            function(made, jnp.zeros(()))
    with pytest.raises(ValueError, match="ddof 1"):
        nz.make_normalizer(of_array(X[:1], ("a", "b", "c")), "act")
