"""Objectives: the loss the chapter writes down, and actions that come out where they went in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.base import Batch
from ch3_jax.errors import InputError
from ch3_jax.objectives import OBJECTIVES, Shapes, make_objective
from ch3_jax.tokens import bins as tokens

SHAPES = Shapes(window=2, state=3, horizon=4, action=2)
BINS = tokens.uniform([-1.0, -2.0], [1.0, 2.0], 16)


def batch(n=6):
    o, a = jax.random.split(jax.random.key(0))
    action = jax.random.uniform(a, (n, 4, 2), minval=-1, maxval=1)
    return Batch(
        jax.random.normal(o, (n, 2, 3)), action, jnp.arange(4)[None, :] < jnp.arange(n)[:, None] % 4 + 1
    )


@pytest.mark.parametrize("name", OBJECTIVES)
def test_masked_actions_change_nothing(name):
    objective = make_objective(name, SHAPES, BINS, width=8)
    params, b = objective.init(jax.random.key(1)), batch()
    other = b._replace(action=jnp.where(b.mask[..., None], b.action, 0.77))
    for x, y in zip(
        jax.tree.leaves(objective.loss(params, b, jax.random.key(0))),
        jax.tree.leaves(objective.loss(params, other, jax.random.key(0))),
        strict=True,
    ):
        np.testing.assert_allclose(x, y, rtol=1e-6)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_loss_per_dimension_averages_to_the_loss(name):
    objective = make_objective(name, SHAPES, BINS, width=8)
    loss, metrics = objective.loss(objective.init(jax.random.key(1)), batch(), jax.random.key(0))
    np.testing.assert_allclose(jnp.mean(metrics["loss_per_dimension"]), loss, rtol=1e-5)


def test_untrained_cross_entropy_is_about_log_k():
    objective = make_objective("ce", Shapes(1, 64, 1, 7), tokens.uniform([-1.0] * 7, [1.0] * 7, 256))
    b = Batch(
        jax.random.normal(jax.random.key(0), (64, 1, 64)),
        jax.random.uniform(jax.random.key(1), (64, 1, 7), minval=-1, maxval=1),
        jnp.ones((64, 1), bool),
    )
    loss, _ = objective.loss(objective.init(jax.random.key(2)), b, jax.random.key(0))
    # section 3.3: log 256 = 5.545
    assert float(loss) == pytest.approx(5.545, rel=0.02)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_acting_has_the_shape_of_the_actions(name):
    objective = make_objective(name, SHAPES, BINS, width=8)
    action = objective.act(objective.init(jax.random.key(1)), batch().observation, None)
    assert action.shape == (6, 4, 2)
    assert bool(jnp.isfinite(action).all())


def test_argmax_is_steady_and_samples_follow_the_logits():
    objective = make_objective("ce", Shapes(1, 2, 1, 2), BINS, width=8)
    params, observation = objective.init(jax.random.key(1)), jnp.ones((1, 1, 2))
    np.testing.assert_array_equal(
        objective.act(params, observation, None), objective.act(params, observation, None)
    )
    draws = jax.vmap(lambda key: objective.act(params, observation, key))(
        jax.random.split(jax.random.key(0), 500)
    )
    assert len(np.unique(np.asarray(draws)[..., 0])) > 8  # an untrained head spreads over its 16 bins


def test_an_unknown_loss_names_the_known_ones():
    with pytest.raises(InputError, match="one of ce, mse, l1"):
        make_objective("cee", SHAPES, BINS)
