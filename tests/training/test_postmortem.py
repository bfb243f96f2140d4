"""The replay names what went wrong: leaf, place, operation, line."""

import jax
import jax.numpy as jnp
import pytest

from ch3_jax.base import Batch
from ch3_jax.training.optimizers import clipped_adamw
from ch3_jax.training.postmortem import explain
from ch3_jax.training.update import init_state


def state(params):
    return init_state(params, clipped_adamw(1e-3), jax.random.key(0))


def batch(observation, action=0.0):
    return Batch(jnp.full((2, 1, 1), observation), jnp.full((2, 1, 1), action), jnp.ones((2, 1), bool))


def exponential(params, batch, key):
    del key
    losses = jnp.exp(batch.observation * params["w"])
    return jnp.mean(losses), {"loss_per_dimension": jnp.mean(losses, (0, 1))}


def test_an_overflow_is_named_where_it_happens():
    # exp(100) = 2.7e43 is over float32's 3.4e38
    blame = explain(exponential, state({"w": jnp.ones(())}), batch(100.0))
    assert (blame.step, blame.leaf, blame.operation, blame.dimensions) == (0, "loss", "exp", (0,))
    assert blame.source.startswith("test_postmortem.py:")
    assert (blame.largest, blame.largest_at) == (100, "observation[0, 0, 0]")
    assert "made by `exp`" in str(blame)


def test_a_nan_in_the_data_is_the_data():
    blame = explain(exponential, state({"w": jnp.ones(())}), batch(jnp.nan))
    assert blame.leaf == "batch/observation"
    assert blame.index == (0, 0, 0)
    assert blame.operation is None


def test_a_gradient_alone():
    def root(params, batch, key):
        del batch, key
        return jnp.sum(jnp.sqrt(params["w"])), {}  # value 0, slope infinite at 0

    blame = explain(root, state({"w": jnp.zeros(2), "x": jnp.ones(1)}), batch(1.0))
    assert blame.leaf == "gradient/w"
    assert blame.operation in ("div", "rsqrt", "pow")


def test_a_norm_that_overflows_though_every_gradient_is_finite():
    def steep(params, batch, key):
        del batch, key
        return jnp.sum(params["w"] * 1e25), {}  # 1e25 squared is 1e50

    blame = explain(steep, state({"w": jnp.zeros(2)}), batch(1.0))
    assert blame.leaf == "squared norm of gradient/w"
    assert blame.operation in ("square", "integer_pow", "mul")


def test_the_minus_infinity_inside_logsumexp_is_no_fault():
    def softmax(params, batch, key):
        del batch, key
        return jnp.mean(jax.nn.logsumexp(jnp.where(jnp.arange(3) > 0, params["w"], -jnp.inf))), {}

    blame = explain(softmax, state({"w": jnp.zeros(3)}), batch(1.0))
    assert blame.leaf is None
    assert blame.operation is None
    assert "finite when replayed alone" in str(blame)


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint])
def test_inner_programs_are_entered(wrap):
    def inner(params, batch, key):
        return wrap(lambda w: jnp.sum(jnp.log(w - 1)))(params["w"]), {}

    assert explain(inner, state({"w": jnp.ones(())}), batch(1.0)).operation == "log"
