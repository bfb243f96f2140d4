"""InfoNCE against a known law: the best scores are density ratios, and sampling by them gives the density
back."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.base import Batch
from ch3_jax.objectives import Shapes, Spread, make_objective
from ch3_jax.probability.floors_contrastive import contrastive_floor

# Programs that run once: what would be spent on making them fast is more than they take.
quick = functools.partial(
    jax.jit,
    compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True},
)
SHAPES = Shapes(window=1, state=1, horizon=1, action=1)
SPREAD = Spread(np.array([-2], np.float32), np.array([4], np.float32), 1.0)


@functools.cache
def programs():
    objective = make_objective("infonce", SHAPES, width=8, spread=SPREAD)

    def score(params, batch, keys):
        return jnp.mean(jax.lax.map(lambda key: objective.loss(params, batch, key)[0], keys))

    return quick(score), quick(objective.act), jax.eval_shape(objective.init, jax.random.key(0))


def gaussian(mean=1.5, std=0.4):
    """Parameters whose scores are log N(a; mean, std) + const: possible exactly, with u and u^2."""
    params = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), programs()[2])
    middle, half = 1.0, 3.3  # of [-2, 4], a twentieth of 6 wider on both sides
    scale = 50**-0.5  # of the features
    m, s = (mean - middle) / half, std / half
    params["scores"]["heads"]["bias"][:2] = m / s**2 / scale, -0.5 / s**2 / scale
    return params


def test_samples_follow_the_density_that_the_scores_are():
    act, params = programs()[1], gaussian()
    drawn = np.asarray(act(params, jnp.zeros((2_000, 1, 1)), jax.random.key(1)))
    # standard errors 0.4 / sqrt(2,000) = 0.009 and 0.006
    assert abs(drawn.mean() - 1.5) < 0.04
    assert abs(drawn.std() - 0.4) < 0.025
    # cells of 6.6 / 1,024 = 0.0064
    assert abs(float(act(params, jnp.zeros((1, 1, 1)), None)[0, 0, 0]) - 1.5) < 0.01


def test_no_score_beats_the_density_ratio_and_that_one_is_on_the_floor():
    score = programs()[0]
    action = 1.5 + 0.4 * np.random.default_rng(2).normal(size=(512, 1, 1))
    b = Batch(jnp.zeros((512, 1, 1)), jnp.asarray(action, jnp.float32), jnp.ones((512, 1), bool))
    keys = jax.random.split(jax.random.key(3), 64)
    laws = (1.5, 0.4), (1.6, 0.4), (1.5, 0.5), (1.5, 0.3)
    losses = [float(score(gaussian(*law), b, keys)) for law in laws]
    assert losses[0] < min(losses[1:]) - 0.01
    # 512 actions of a spread of 0.7 nats: a standard error of 0.03
    assert losses[0] == pytest.approx(contrastive_floor(0.4, (0.0,), 6.6, 255), abs=0.1)
    blank = jax.tree.map(np.zeros_like, gaussian())
    assert float(score(blank, b, keys)) == pytest.approx(np.log(256), abs=1e-3)
