"""Networks by name: each fits its losses, the others are refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.base import Batch
from ch3_jax.errors import InputError
from ch3_jax.objectives import Shapes, Spread, make_objective
from ch3_jax.policies import networks
from ch3_jax.tokens import bins as tokens

quick = functools.partial(
    jax.jit,
    compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True},
)
SHAPES = Shapes(2, 3, 4, 2)
SPREAD = Spread(-np.ones(2, np.float32), np.ones(2, np.float32), 1.0)
LOSSES = {
    **dict.fromkeys(networks.DENOISERS, "flow"),
    **dict.fromkeys(networks.AUTOENCODERS, "cvae"),
    **dict.fromkeys({**networks.CLASSIFIERS, **networks.SPEAKERS}, "ce"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", networks.NETWORKS)
def test_every_network_learns_a_batch_and_acts(name):
    objective = make_objective(
        LOSSES[name], SHAPES, tokens.uniform([-1.0] * 2, [1.0] * 2, 8), network=f"{name}:tiny", spread=SPREAD
    )
    draw = np.random.default_rng(0)
    batch = Batch(
        jnp.asarray(draw.normal(size=(5, 2, 3)), jnp.float32),
        jnp.asarray(draw.uniform(-1, 1, size=(5, 4, 2)), jnp.float32),
        jnp.ones((5, 4), bool),
    )
    params = objective.init(jax.random.key(0))

    @quick
    def step(params):
        (loss, _), slope = jax.value_and_grad(objective.loss, has_aux=True)(params, batch, jax.random.key(1))
        return loss, jax.tree.map(lambda p, g: p - 1e-3 * jnp.sign(g), params, slope)

    losses = []
    for _ in range(20):
        loss, params = step(params)
        losses.append(float(loss))
    assert losses[-1] < 0.95 * losses[0]
    action = jax.eval_shape(objective.act, params, batch.observation, jax.random.key(2))
    assert action.shape == (5, 4, 2)


@pytest.mark.parametrize(
    ("loss", "network", "words"),
    [
        ("mse", "unet:tiny", "one network only"),
        ("ce", "unet:tiny", "rt1:tiny"),
        ("flow", "rt1:tiny", "unet:small"),
        ("flow", "unet", "without its size"),
        ("flow", "unet:huge", "unet:paper"),
        ("cvae", "expert:tiny", "act:small"),
    ],
)
def test_what_a_loss_cannot_use_is_refused(loss, network, words):
    with pytest.raises(InputError) as refused:
        make_objective(loss, SHAPES, tokens.uniform([-1.0] * 2, [1.0] * 2, 8), network=network, spread=SPREAD)
    assert words in str(refused.value)
