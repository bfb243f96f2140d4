"""pi0's experts: blocks by gradients, a layer in NumPy, the time's two ways in, Gemma's sizes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.errors import InputError
from ch3_jax.policies.action_expert import JointLayer, Size, action_expert
from ch3_jax.policies.layers import by_blocks, rotate

quick = functools.partial(
    jax.jit,
    compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True},
)
DRAW = np.random.default_rng(0)
SIZE = Size(8, 6, 12, 10, 2, 2, 4)
GIVEN = tuple(
    jnp.asarray(x, jnp.float32)
    for x in (DRAW.normal(size=(2, 2, 3)), DRAW.normal(size=(2, 4, 2)), [0.3, 1.2])
)


def filled(policy, scale=0.4):
    draw = np.random.default_rng(1)
    shapes = jax.eval_shape(policy.init, jax.random.key(0))
    return jax.tree.map(lambda x: draw.normal(0, scale, x.shape).astype(x.dtype), shapes)


@pytest.mark.parametrize("adaptive", [False, True])
def test_all_of_a_row_reaches_every_action_and_nobody_elses(adaptive):
    policy = action_expert((2, 3), (4, 2), SIZE, adaptive=adaptive)
    params = filled(policy)
    for jacobian in quick(jax.jacrev(lambda *given: policy.apply(params, *given), (0, 1, 2)))(*GIVEN):
        size = np.abs(jacobian)  # (B, H, A, B, ...)
        for row in range(2):
            assert size[row, :, :, row].min() > 1e-9
            assert size[row, :, :, 1 - row].max() == 0


def test_blocks_see_themselves_and_those_before_them():
    order = np.array([0, 0, 1, 2, 2])
    seen, done = (jnp.asarray(DRAW.normal(size=(1, n, d)), jnp.float32) for n, d in ((2, 8), (3, 6)))
    module = JointLayer(SIZE)
    init = lambda key: module.init(key, seen, done, jnp.zeros((1, 6)), by_blocks(order))["params"]  # noqa: E731
    params = filled(type("P", (), {"init": staticmethod(init)}))

    def all_of(seen, done):
        out = module.apply({"params": params}, seen, done, jnp.zeros((1, 6)), by_blocks(order))
        return jnp.concatenate([x[0].sum(-1) for x in out])

    by_seen, by_done = quick(jax.jacrev(all_of, (0, 1)))(seen, done)
    reached = np.concatenate([np.abs(by_seen[:, 0]).max(-1), np.abs(by_done[:, 0]).max(-1)], axis=1)
    assert ((reached > 1e-7) == by_blocks(order)).all()


def test_a_layer_is_its_formula():
    """Weights of their own on both sides, one key and value for two heads, gated by GELU."""
    seen, done = (DRAW.normal(size=(1, n, d)).astype(np.float32) for n, d in ((2, 8), (2, 6)))
    mask = by_blocks(np.array([0, 0, 1, 2]))
    module = JointLayer(SIZE)
    params = module.init(jax.random.key(0), seen, done, np.zeros((1, 6)), mask)["params"]
    params = jax.tree.map(np.asarray, params)

    def norm(x):
        return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + 1e-6)

    def made(what):
        both = [norm(x[0]) @ params[f"{n}_{what}"]["kernel"] for n, x in (("seen", seen), ("done", done))]
        return np.concatenate(both).reshape(4, -1, 4)

    turn = lambda x: np.asarray(rotate(x[None], np.arange(4))[0])  # noqa: E731
    query, key, value = turn(made("query")), turn(made("key")), made("value")
    heard = np.zeros((4, 2, 4))
    for head in range(2):
        scores = np.where(mask, query[:, head] @ key[:, 0].T / 2, -np.inf)
        weight = np.exp(scores - scores.max(-1, keepdims=True))
        heard[:, head] = weight / weight.sum(-1, keepdims=True) @ value[:, 0]
    heard = heard.reshape(4, 8)
    found = module.apply({"params": params}, seen, done, np.zeros((1, 6)), mask)
    for name, x, share, out in (("seen", seen, heard[:2], found[0]), ("done", done, heard[2:], found[1])):
        y = x[0] + share @ params[f"{name}_out"]["kernel"]
        inner = np.asarray(jax.nn.gelu(norm(y) @ params[f"{name}_gate"]["kernel"]))
        y = y + (inner * (norm(y) @ params[f"{name}_up"]["kernel"])) @ params[f"{name}_down"]["kernel"]
        np.testing.assert_allclose(out[0], y, atol=1e-5)


def test_adaptive_norms_start_by_letting_everything_pass_by():
    """Gates start at 0: a fresh pi0.5 expert is its way in and its way out."""
    policy = action_expert((2, 3), (4, 2), SIZE, adaptive=True)
    params = quick(policy.init)(jax.random.key(0))
    other, apply = GIVEN[0] + 1.0, quick(policy.apply)
    np.testing.assert_array_equal(apply(params, *GIVEN), apply(params, other, *GIVEN[1:]))


def test_the_published_sizes():
    """Gemma 2B without its words: 18 x (2 x 2048^2 + 2 x 2048 x 256 + 3 x 2048 x 16384 + 2 x 2048), and the
    expert of "300M": 18 x (2 x 1024 x 2048 + 2 x 1024 x 256 + 3 x 1024 x 4096 + 2 x 1024) and a last norm."""
    policy = action_expert((1, 32), (50, 32), "paper")
    shapes = jax.eval_shape(policy.init, jax.random.key(0))
    sides = {"seen": 0, "done": 0, "rest": 0}
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        names = [part.key for part in path]
        side = names[1][:4] if names[0].startswith("layer_") else "done" if names[0] == "norm" else "rest"
        sides[side] += leaf.size
    assert sides["seen"] == 1_981_882_368
    assert sides["done"] == 311_464_960
    # In: 32 -> 2048, 32 -> 1024 twice, 2048 -> 1024 -> 1024; out: 1024 -> 32; each with a bias.
    assert sides["rest"] == 33 * 2048 + 2 * 33 * 1024 + 2049 * 1024 + 1025 * 1024 + 1025 * 32


def test_half_precision_and_less_memory():
    whole = action_expert((2, 3), (4, 2), SIZE)
    params = filled(whole)
    expected = quick(whole.apply)(params, *GIVEN)
    loss = lambda p, policy: jnp.sum(policy.apply(p, *GIVEN) ** 2)  # noqa: E731
    again = action_expert((2, 3), (4, 2), SIZE, remat=True)
    for a, b in zip(
        jax.tree.leaves(quick(jax.grad(functools.partial(loss, policy=whole)))(params)),
        jax.tree.leaves(quick(jax.grad(functools.partial(loss, policy=again)))(params)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-5)
    half = action_expert((2, 3), (4, 2), SIZE, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
    found = quick(half.apply)(jax.tree.map(lambda x: x.astype(jnp.bfloat16), params), *GIVEN)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, atol=0.1 * float(jnp.abs(expected).max()))


def test_odd_widths_are_refused():
    with pytest.raises(InputError, match="odd"):
        action_expert((1, 3), (4, 2), SIZE._replace(head=3))
