"""Shared layers: waves and rotations by hand, masks by gradients, conditions that start as nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.errors import InputError
from ch3_jax.policies import layers

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(2, 4, 8)).astype(np.float32)


def test_waves_are_those_of_diffusion_policy_and_of_openpi():
    """Diffusion Policy: exp(-ln 10000 i / (half - 1)) t. openpi: periods 4e-3 to 4, of times in [0, 1]."""
    t = np.array([0.0, 1.0, 37.0])
    rate = np.exp(-np.log(10_000) * np.arange(4) / 3)
    expected = np.concatenate([np.sin(np.outer(t, rate)), np.cos(np.outer(t, rate))], -1)
    np.testing.assert_allclose(layers.sinusoidal(jnp.asarray(t), 8), expected, atol=1e-5)
    t = np.array([0.0, 0.25, 1.0])
    period = 4e-3 * (4 / 4e-3) ** np.linspace(0, 1, 4)
    turned = np.outer(t, 2 * np.pi / period)
    found = layers.sinusoidal(jnp.asarray(t), 8, shortest=4e-3, longest=4.0)
    np.testing.assert_allclose(found, np.concatenate([np.sin(turned), np.cos(turned)], -1), atol=2e-4)


def test_attention_is_the_formula_head_by_head():
    module = layers.Attention(2)
    memory = jnp.asarray(DRAW.normal(size=(2, 3, 8)), jnp.float32)
    params = jax.tree.map(np.asarray, module.init(jax.random.key(0), X, memory)["params"])
    mask = np.array([[1, 1, 0]] * 4, bool)
    found = module.apply({"params": params}, X, memory, mask)
    q, k, v = (
        (np.asarray(side) @ params[name]["kernel"] + params[name]["bias"]).reshape(2, -1, 2, 4)
        for name, side in (("query", X), ("key", memory), ("value", memory))
    )
    heard = np.zeros((2, 4, 2, 4))
    for b in range(2):
        for head in range(2):
            scores = q[b, :, head] @ k[b, :2, head].T / 2
            weight = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
            heard[b, :, head] = weight @ v[b, :2, head]
    expected = heard.reshape(2, 4, 8) @ params["out"]["kernel"] + params["out"]["bias"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("form", ["of all", "of each"])
@pytest.mark.parametrize(
    "mask", [layers.causal(4), layers.by_blocks(np.array([0, 0, 1, 2]))], ids=["causal", "blocks"]
)
def test_a_mask_is_what_gradients_see(mask, form):
    module = layers.Attention(2)
    params = module.init(jax.random.key(0), X, X)["params"]
    given = mask if form == "of all" else np.broadcast_to(mask, (2, 4, 4))
    jacobian = jax.jacrev(lambda x: module.apply({"params": params}, x, x, given).sum(-1))(jnp.asarray(X))
    reached = np.abs(jacobian).max(-1)  # (B, N, B, N)
    for row in range(2):
        assert ((reached[row, :, row] > 1e-7) == mask).all()
        assert reached[row, :, 1 - row].max() == 0


def test_conditions_start_as_nothing_and_act_on_each_row_alone():
    condition = jnp.asarray(DRAW.normal(size=(2, 5)), jnp.float32)
    film = layers.Film()
    params = film.init(jax.random.key(0), X, condition)
    np.testing.assert_array_equal(film.apply(params, X, condition), X)
    bare = layers.AdaptiveNorm()
    params = bare.init(jax.random.key(0), X, condition)
    rms = np.sqrt(np.mean(np.square(X), -1, keepdims=True))
    found, gate = bare.apply(params, X, condition)
    np.testing.assert_allclose(found, X / rms, rtol=1e-4)
    assert not np.asarray(gate).any() and gate.shape == (2, 1, 8)
    awake = layers.Film(at_rest=False)
    params = jax.tree.map(np.asarray, awake.init(jax.random.key(0), X, condition)["params"])
    both = np.asarray(condition) @ params["both"]["kernel"] + params["both"]["bias"]
    expected = (1 + both[:, None, :8]) * X + both[:, None, 8:]
    np.testing.assert_allclose(awake.apply({"params": params}, X, condition), expected, rtol=1e-5)


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="heads"):
        layers.require_heads(10, 4)
    with pytest.raises(InputError, match="pairs"):
        layers.require_heads(12, 4, turned=True)
    with pytest.raises(InputError, match="tiny, small"):
        layers.size_of("huge", {"tiny": 1, "small": 2})
