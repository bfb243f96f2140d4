"""Octo: readouts that nobody reads, steps in order, the head by hand, the published sizes."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.errors import InputError
from ch3_jax.policies.readout import Block, Reader, Readout, ResidualBlock, Size, passive, readout_policy

quick = functools.partial(
    jax.jit,
    compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True},
)
SIZE = Size(8, 2, 2, 12, 8, 2)
DRAW = np.random.default_rng(0)
OBSERVATION = DRAW.normal(size=(2, 3, 3)).astype(np.float32)
NOISY = DRAW.normal(size=(2, 2, 2)).astype(np.float32)
ANGLE = np.array([0.3, 1.2], np.float32)
EVEN, ODD = slice(0, None, 2), slice(1, None, 2)  # observations, readouts


def make(size=SIZE, **options):
    return readout_policy((3, 3), (2, 2), size, **options)


def filled(shapes, scale=0.5):
    draw = np.random.default_rng(1)
    return jax.tree.map(lambda x: draw.normal(0, scale, x.shape).astype(x.dtype), shapes)


def shapes_of(policy):
    return jax.eval_shape(policy.init, jax.random.key(0))


@pytest.fixture(scope="module")
def made():
    policy = make()
    return policy, filled(shapes_of(policy)), quick(policy.apply)


@pytest.fixture(scope="module")
def reached(made):
    """How much each token owes to each observation (B, 2 W, B, W) and to each learned readout (B, 2 W, W)."""
    params = made[1]["reader"]

    # Squares, because the numbers that leave a norm without scale and shift would sum to nothing.
    def tokens(observation, readout):
        given = {**params, "readout": readout}
        return jnp.square(Reader(SIZE).apply({"params": given}, observation)).sum(-1)

    of_observation, of_readout = quick(jax.jacrev(tokens, argnums=(0, 1)))(OBSERVATION, params["readout"])
    return np.abs(of_observation).max(-1), np.abs(of_readout).max(-1)


def test_a_readout_is_read_by_itself_alone(reached):
    _, of_readout = reached
    assert of_readout[:, EVEN].max() == 0
    for row in range(2):
        assert ((of_readout[row, ODD] > 1e-6) == np.eye(3, dtype=bool)).all()


def test_steps_see_themselves_and_what_came_before(reached):
    of_observation, _ = reached
    for row in range(2):
        for kind in (EVEN, ODD):
            assert ((of_observation[row, kind, row] > 1e-6) == np.tril(np.ones((3, 3), bool))).all()
        assert of_observation[row, :, 1 - row].max() == 0


def test_every_number_reaches_the_answer_and_nobody_elses(made):
    policy, params, _ = made
    jacobian = quick(jax.jacrev(lambda *given: policy.apply(params, *given), argnums=(0, 1, 2)))(
        OBSERVATION, NOISY, ANGLE
    )
    for x in jacobian:  # (B, H, A, B, ...)
        for row in range(2):
            assert np.abs(x[row, :, :, row]).min() > 1e-7
            assert np.abs(x[row, :, :, 1 - row]).max() == 0


def test_the_transformer_knows_neither_the_actions_nor_the_level(made):
    """What it hands to the head is the same for other actions and levels; the answer is not."""
    _, params, apply = made

    @quick
    def read(*given):
        _, state = Readout(SIZE).apply({"params": params}, *given, capture_intermediates=True)
        return state["intermediates"]["reader"]["__call__"][0]

    one, other = (OBSERVATION, NOISY, ANGLE), (OBSERVATION, NOISY + 1, ANGLE / 2)
    np.testing.assert_array_equal(read(*one), read(*other))
    assert np.abs(apply(params, *one) - apply(params, *other)).max() > 1e-2


def test_the_head_reads_the_last_step(made):
    policy, params, _ = made

    def answer(readout):
        given = {**params, "reader": {**params["reader"], "readout": readout}}
        return jnp.sum(policy.apply(given, OBSERVATION, NOISY, ANGLE))

    gradient = np.abs(quick(jax.grad(answer))(params["reader"]["readout"])).max(-1)
    assert ((gradient > 1e-6) == [False, False, True]).all()


def norm(h, p):
    centred = h - h.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]


def dense(h, p):
    return h @ p["kernel"] + p["bias"]


def swish(h):
    return h / (1 + np.exp(-h))


def test_a_block_of_the_head_is_the_formula():
    x = DRAW.normal(size=(3, 8)).astype(np.float32)
    w = filled(jax.eval_shape(ResidualBlock().init, jax.random.key(0), x)["params"])
    assert w["feedforward"]["in"]["kernel"].shape == (8, 32)
    h = x.astype(np.float64)
    inner = swish(dense(norm(h, w["norm"]), w["feedforward"]["in"]))
    expected = h + dense(inner, w["feedforward"]["out"])
    np.testing.assert_allclose(quick(ResidualBlock().apply)({"params": w}, x), expected, rtol=1e-4, atol=1e-5)


def test_the_head_is_the_formula(made):
    _, params, apply = made
    w = params["head"]
    tokens = quick(Reader(SIZE).apply)({"params": params["reader"]}, OBSERVATION)
    rate = np.exp(-np.log(10_000) * np.arange(16) / 15)
    turned = np.outer(100 * ANGLE.astype(np.float64) / (np.pi / 2), rate)
    wave = np.concatenate([np.sin(turned), np.cos(turned)], -1)
    time = dense(swish(dense(wave, w["time_1"])), w["time_2"])
    z = dense(np.concatenate([time, tokens[:, -1], NOISY.reshape(2, 4)], -1), w["in"])
    for block in (w["block_0"], w["block_1"]):
        inner = swish(dense(norm(z, block["norm"]), block["feedforward"]["in"]))
        z = z + dense(inner, block["feedforward"]["out"])
    expected = dense(swish(z), w["out"]).reshape(2, 2, 2)
    np.testing.assert_allclose(apply(params, OBSERVATION, NOISY, ANGLE), expected, rtol=1e-3, atol=1e-4)


def test_a_block_of_the_transformer_is_the_formula():
    block, mask = Block(2, 12), passive(2)
    x = DRAW.normal(size=(2, 4, 8)).astype(np.float32)
    w = filled(jax.eval_shape(block.init, jax.random.key(0), x, mask)["params"])
    h = x.astype(np.float64)
    seen, a = norm(h, w["norm_1"]), w["attention"]
    q, k, v = (dense(seen, a[name]) for name in ("query", "key", "value"))
    heard = np.zeros_like(q)
    for head in (slice(0, 4), slice(4, 8)):
        scores = q[..., head] @ k[..., head].swapaxes(1, 2) / np.sqrt(4)
        weight = np.exp(scores - scores.max()) * mask
        heard[..., head] = weight / weight.sum(-1, keepdims=True) @ v[..., head]
    h = h + dense(heard, a["out"])
    inner = dense(norm(h, w["norm_2"]), w["feedforward"]["in"])
    # The GELU of ViT in JAX is the one by the hyperbolic tangent.
    inner = inner * (1 + np.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3))) / 2
    expected = h + dense(inner, w["feedforward"]["out"])
    np.testing.assert_allclose(quick(block.apply)({"params": w}, x, mask), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "size, blocks, whole",
    # Twelve blocks and the last norm, d = 384, m = 1,536 in Octo-Small, d = 768, m = 3,072 in Octo-Base:
    #   12 (4 (d^2 + d) + 2 d m + m + d + 4 d) + 2 d             = 21,294,336 and 85,056,000
    # S = 14, W = 2: the map 15 d, places and readouts 4 d       =      7,296 and     14,592
    # time: 32 to 64 to 32                                       =      4,192
    # the head's in, 32 + d + 4 x 7 to 256                       =    113,920 and    212,224
    # its blocks, 3 (512 + 263,168 + 262,400)                    =  1,578,240
    # out: 256 to 28                                             =      7,196
    [("paper", 21_294_336, 23_005_180), ("base", 85_056_000, 86_872_444)],
)
def test_the_published_sizes(size, blocks, whole):
    shapes = shapes_of(readout_policy((2, 14), (4, 7), size))
    transformer = {k: v for k, v in shapes["reader"].items() if k.startswith(("block", "norm"))}
    assert sum(x.size for x in jax.tree.leaves(transformer)) == blocks
    assert sum(x.size for x in jax.tree.leaves(shapes)) == whole


def test_rematerialised_gradients_are_the_same(made):
    policy, params, _ = made
    gradients = [
        quick(jax.grad(lambda p, f=f: jnp.sum(jnp.square(f(p, OBSERVATION, NOISY, ANGLE)))))(params)
        for f in (policy.apply, make(remat=True).apply)
    ]
    for a, b in zip(*map(jax.tree.leaves, gradients), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_bfloat16_is_near_and_not_equal(made):
    _, params, apply = made
    policy = make(dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
    assert {x.dtype for x in jax.tree.leaves(shapes_of(policy))} == {jnp.dtype("bfloat16")}
    kept = {x.dtype for x in jax.tree.leaves(shapes_of(make(dtype=jnp.bfloat16)))}
    assert kept == {jnp.dtype("float32")}
    rough = np.asarray(quick(policy.apply)(params, OBSERVATION, NOISY, ANGLE))
    exact = np.asarray(apply(params, OBSERVATION, NOISY, ANGLE))
    assert rough.dtype == np.float32
    assert 0 < np.abs(rough - exact).max() < 0.1 * np.abs(exact).max()


def test_what_cannot_be_built_is_refused_in_words():
    with pytest.raises(InputError, match="tiny, small, paper, base"):
        make("large")
    with pytest.raises(InputError, match="heads"):
        make(Size(10, 1, 4, 12, 8, 1))
