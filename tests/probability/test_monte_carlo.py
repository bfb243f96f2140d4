"""Standard errors that mean what they say, and two gradient estimators with the variance of theory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.probability import gaussian
from ch3_jax.probability.estimators import reparameterised, score_function, variance_ratio
from ch3_jax.probability.monte_carlo import estimate, expectation

COUNT = 20_000
PARAMS = {"mean": jnp.array([1.0]), "log_std": jnp.array([0.0])}


def test_by_hand():
    # mean 2, s^2 = (1 + 0 + 1) / 2 = 1, over sqrt 3
    found = estimate(jnp.array([1.0, 2.0, 3.0]))
    assert found.mean == 2.0
    assert found.standard_error == pytest.approx(3**-0.5)


def test_the_standard_error_is_the_spread_over_repetitions():
    repeated = jax.jit(jax.vmap(lambda k: expectation(k, lambda k: jax.random.uniform(k), jnp.square, 100)))(
        jax.random.split(jax.random.key(0), 2000)
    )
    # E[u^2] = 1/3, var(u^2) = 1/5 - 1/9 = 4/45, so the error of 100 draws is .029814
    assert repeated.mean.mean() == pytest.approx(1 / 3, abs=4 * 0.029814 / 2000**0.5)
    assert repeated.mean.std() == pytest.approx(0.029814, rel=0.08)
    assert repeated.standard_error.mean() == pytest.approx(0.029814, rel=0.02)


@pytest.fixture(scope="module")
def gradients():
    """d/d(mean, log_std) of E[x^2] = mean^2 + std^2 at mean 1, std 1: 2 and 2."""

    def draw(key, p):
        return gaussian.sample(key, p["mean"], p["log_std"])

    def log_prob(p, x):
        return gaussian.log_prob(p["mean"], p["log_std"], x)

    def square(x):
        return jnp.sum(jnp.square(x))

    @jax.jit
    def all_of_them(key):
        return {
            "score": score_function(key, draw, log_prob, square, PARAMS, count=COUNT),
            "baseline": score_function(key, draw, log_prob, square, PARAMS, count=COUNT, baseline=2.0),
            "path": reparameterised(key, draw, square, PARAMS, count=COUNT),
        }

    return jax.tree.map(np.asarray, all_of_them(jax.random.key(0)))


@pytest.mark.parametrize("name", ["score", "baseline", "path"])
@pytest.mark.parametrize("parameter", ["mean", "log_std"])
def test_all_three_are_unbiased(name, parameter, gradients):
    found, error = (part[parameter][0] for part in gradients[name])
    assert abs(found - 2.0) < 4 * error
    assert error < 0.1


@pytest.mark.parametrize(
    ("name", "variance"),
    # per sample, at mean = std = 1, of the gradient in the mean:
    # path 4 std^2 = 4; score mean^4 / std^2 + 14 mean^2 + 15 std^2 = 30;
    # with a baseline b = 2: E[(x^2 - b)^2 n^2] - 2^2 with E[x^4 n^2] = 34 and E[x^2 n^2] = 4, so
    # 34 - 2 x 2 x 4 + 2^2 - 2^2 = 18
    [("path", 4.0), ("score", 30.0), ("baseline", 18.0)],
)
def test_the_variance_is_that_of_theory(name, variance, gradients):
    assert COUNT * gradients[name].standard_error["mean"][0] ** 2 == pytest.approx(variance, rel=0.12)


def test_the_ratio_of_variances(gradients):
    ratio = variance_ratio(gradients["score"], gradients["path"])["mean"][0]
    assert ratio == pytest.approx(30 / 4, rel=0.12)
    assert variance_ratio(gradients["baseline"], gradients["path"])["mean"][0] == pytest.approx(
        18 / 4, rel=0.12
    )


def test_refusals():
    with pytest.raises(ValueError, match="`values` gives no standard error"):
        estimate(jnp.ones((1, 3)))
    with pytest.raises(ValueError, match="`count` gives no standard error"):
        expectation(jax.random.key(0), jax.random.normal, jnp.square, 1)
    with pytest.raises(TypeError, match="`values` has dtype"):
        estimate(jnp.arange(3))
