"""Mixtures and latents: the density taken apart by dimension is the density; ACT's two terms; who is asked
what."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ch3_jax.base import Batch
from ch3_jax.objectives import Shapes, make_objective
from ch3_jax.objectives.likelihood import _by_dimension

# Programs that run once: what would be spent on making them fast is more than they take.
quick = functools.partial(
    jax.jit,
    compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True},
)
SHAPES = Shapes(window=1, state=3, horizon=2, action=2)
BATCH = Batch(
    *(
        jnp.asarray(np.random.default_rng(0).normal(size=(4, *rest)), jnp.float32)
        for rest in ((1, 3), (2, 2))
    ),
    jnp.asarray(np.arange(2)[None] < np.array([[1], [2], [2], [1]])),
)


def filled(objective):
    """Parameters of the right shapes, without compiling an initialisation."""
    draw = np.random.default_rng(0)
    shapes = jax.eval_shape(objective.init, jax.random.key(0))
    return jax.tree.map(lambda x: draw.normal(0, 0.3, x.shape).astype(np.float32), shapes)


def test_the_chain_rule_adds_up_to_the_joint_density():
    draw = np.random.default_rng(2)
    logits, mean = (jnp.asarray(draw.normal(size=size), jnp.float32) for size in ((3,), (3, 2)))
    log_std = jnp.asarray(0.3 * draw.normal(size=(3, 2)), jnp.float32)
    target = jnp.array([0.2, -0.4])
    weights = np.exp(logits) / np.exp(logits).sum()
    each = stats.norm.pdf(np.asarray(target), np.asarray(mean), np.exp(log_std))
    joint, first = weights @ each.prod(1), weights @ each[:, 0]
    found = np.asarray(quick(_by_dimension)(logits, mean, log_std, target))
    np.testing.assert_allclose(found, [-np.log(first), np.log(first) - np.log(joint)], rtol=1e-4)


def test_one_component_of_unit_spread_is_half_the_squared_error():
    objective = make_objective("gmm", SHAPES, width=8, components=1)
    params = jax.tree.map(jnp.zeros_like, filled(objective))
    # All parameters 0: mean 0 and std softplus(0) + 0.01 = 0.7031.
    std = np.log(2) + 0.01
    valid = np.asarray(BATCH.action)[np.asarray(BATCH.mask)]
    expected = -stats.norm.logpdf(valid, 0, std).mean()
    assert float(quick(objective.loss)(params, BATCH, jax.random.key(0))[0]) == pytest.approx(
        expected, rel=1e-4
    )


def test_the_latent_costs_beta_times_its_divergence():
    key = jax.random.key(3)
    objectives = [make_objective("cvae", SHAPES, width=8, beta=beta) for beta in (0.0, 2.0)]
    params = filled(objectives[0])
    (free, _), (paid, metrics) = (quick(o.loss)(params, BATCH, key) for o in objectives)
    assert float(metrics["kl"]) > 0
    assert float(paid - free) == pytest.approx(2 * float(metrics["kl"]), rel=1e-3)
    assert float(free) == pytest.approx(float(metrics["l1"].mean()), rel=1e-5)


def test_padded_windows_do_not_weigh_in_the_divergence():
    """Validation fills its last block with rows whose mask is off: they must not count."""
    objective = make_objective("cvae", SHAPES, width=8)
    params = filled(objective)
    off = BATCH._replace(mask=BATCH.mask.at[-1].set(False))
    other = off._replace(observation=off.observation.at[-1].set(9.0))
    loss = quick(objective.loss)
    assert float(loss(params, off, jax.random.key(0))[0]) == pytest.approx(
        float(loss(params, other, jax.random.key(0))[0]), rel=1e-6
    )
