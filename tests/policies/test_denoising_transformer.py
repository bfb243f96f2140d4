"""Diffusion Policy's transformer: who sees whom, a layer by hand, the published size."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.errors import InputError
from ch3_jax.policies.denoising_transformer import Layer, Size, already_seen, denoising_transformer
from ch3_jax.policies.layers import causal

quick = functools.partial(
    jax.jit,
    compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True},
)
SIZE = Size(8, 2, 2)
DRAW = np.random.default_rng(0)
OBSERVATION = DRAW.normal(size=(2, 3, 3)).astype(np.float32)
NOISY = DRAW.normal(size=(2, 4, 2)).astype(np.float32)
ANGLE = np.array([0.3, 1.2], np.float32)


def make(size=SIZE, **options):
    return denoising_transformer((3, 3), (4, 2), size, **options)


def filled(shapes, scale=0.5):
    draw = np.random.default_rng(1)
    return jax.tree.map(lambda x: draw.normal(0, scale, x.shape).astype(x.dtype), shapes)


def shapes_of(policy):
    return jax.eval_shape(policy.init, jax.random.key(0))


@pytest.fixture(scope="module")
def made():
    policy = make()
    return policy, filled(shapes_of(policy)), quick(policy.apply)


def reached_by(policy, params):
    """How much each step of the answer owes to the observations, the noisy actions and the levels."""

    def answer(*given):
        return policy.apply(params, *given).sum(-1)

    jacobian = quick(jax.jacrev(answer, argnums=(0, 1, 2)))(OBSERVATION, NOISY, ANGLE)
    of_observation, of_noisy, of_angle = (np.abs(x) for x in jacobian)
    return of_observation.max(-1), of_noisy.max(-1), of_angle  # (B, H, B, W), (B, H, B, H), (B, H, B)


def test_nothing_flows_backwards_in_time_nor_between_rows(made):
    of_observation, of_noisy, of_angle = reached_by(*made[:2])
    # Rows: steps 0 to 3 of the answer. Columns: observations 0 to 2.
    by_then = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1]], bool)
    for row in range(2):
        assert ((of_noisy[row, :, row] > 1e-6) == np.tril(np.ones((4, 4), bool))).all()
        assert ((of_observation[row, :, row] > 1e-6) == by_then).all()
        assert (of_angle[row, :, row] > 1e-6).all()
        for other in (of_observation, of_noisy, of_angle):
            assert other[row, :, 1 - row].max() == 0


def test_a_chunk_that_begins_at_the_newest_observation_sees_all(made):
    params = made[1]
    of_observation, of_noisy, _ = reached_by(make(first=2), params)
    for row in range(2):
        assert of_observation[row, :, row].min() > 1e-6
        assert ((of_noisy[row, :, row] > 1e-6) == np.tril(np.ones((4, 4), bool))).all()
    # One observation between: step 0 sees the first two, t + 1 >= s - 1.
    assert already_seen(2, 3, 1).tolist() == [[True, True, True, False], [True] * 4]


def test_the_level_enters_as_one_of_a_hundred_steps():
    """The waves of tau = 100 theta / (pi / 2): 25 of them at theta = pi / 8, D = 8."""
    policy = make()
    params = filled(shapes_of(policy))
    tau = 25.0
    rate = np.exp(-np.log(10_000) * np.arange(4) / 3)
    wave = np.concatenate([np.sin(tau * rate), np.cos(tau * rate)])
    # The same answer if the place of the time token carries its wave and the level is where all sines are 0
    # and all cosines 1.
    clean = np.concatenate([np.zeros(4), np.ones(4)])
    place = params["place_condition"].copy()
    place[0] += wave - clean
    moved = {**params, "place_condition": place}
    apply = quick(policy.apply)
    np.testing.assert_allclose(
        apply(params, OBSERVATION, NOISY, np.full(2, math.pi / 8, np.float32)),
        apply(moved, OBSERVATION, NOISY, np.zeros(2, np.float32)),
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_layer_is_the_formula():
    layer = Layer(2)
    x, condition = (DRAW.normal(size=(2, n, 8)).astype(np.float32) for n in (4, 3))
    among, beyond = causal(4), already_seen(4, 2)
    given = (x, condition, among, beyond)
    w = filled(jax.eval_shape(layer.init, jax.random.key(0), *given)["params"])
    found = quick(layer.apply)({"params": w}, *given)

    def norm(h, p):
        centred = h - h.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * p["scale"] + p["bias"]

    def dense(h, p):
        return h @ p["kernel"] + p["bias"]

    def attention(h, memory, mask, p):
        q, k, v = dense(h, p["query"]), dense(memory, p["key"]), dense(memory, p["value"])
        heard = np.zeros_like(q)
        for head in (slice(0, 4), slice(4, 8)):
            scores = q[..., head] @ k[..., head].swapaxes(1, 2) / np.sqrt(4)
            weight = np.exp(scores - scores.max()) * mask
            heard[..., head] = weight / weight.sum(-1, keepdims=True) @ v[..., head]
        return dense(heard, p["out"])

    h = x.astype(np.float64)
    seen = norm(h, w["norm_1"])
    h = h + attention(seen, seen, among, w["among"])
    h = h + attention(norm(h, w["norm_2"]), condition, beyond, w["beyond"])
    inner = dense(norm(h, w["norm_3"]), w["feedforward"]["in"])
    inner = inner * (1 + np.vectorize(math.erf)(inner / np.sqrt(2))) / 2
    np.testing.assert_allclose(found, h + dense(inner, w["feedforward"]["out"]), rtol=1e-4, atol=1e-5)


def test_the_published_size():
    shapes = shapes_of(denoising_transformer((2, 20), (10, 2), "paper"))
    # Push-T with key points: two observations of 20 numbers, ten actions of 2. D = 256, a linear map of m to
    # n is m n + n. Two attentions of four maps of 256^2 + 256, 256 to 1024 and back, three norms of 512:
    #   8 (8 x 65,792 + 263,168 + 262,400 + 1,536)                    = 8,427,520
    # the condition's 256 to 1024 and back                            =   525,568
    # in and out: 20 to 256, 2 to 256, 256 to 2, a norm               =     7,170  (5,376 + 768 + 514 + 512)
    # places: 3 of the condition, 10 of the actions, x 256            =     3,328
    assert sum(x.size for x in jax.tree.leaves(shapes)) == 8_963_586


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
    with pytest.raises(InputError, match="tiny, small, paper"):
        make("large")
    with pytest.raises(InputError, match="heads"):
        make(Size(10, 1, 4))
