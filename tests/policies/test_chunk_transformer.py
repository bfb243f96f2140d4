"""ACT's networks: what the padding reaches, who sees whom, DETR's layer by hand, the published size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.errors import InputError
from ch3_jax.policies.chunk_transformer import Layer, Size, chunk_transformer

quick = functools.partial(
    jax.jit,
    compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True},
)
SIZE = Size(8, 2, 12, 2, 2)
DRAW = np.random.default_rng(0)
OBSERVATION = DRAW.normal(size=(3, 2, 3)).astype(np.float32)
ACTION = DRAW.normal(size=(3, 4, 2)).astype(np.float32)
Z = DRAW.normal(size=(3, 5)).astype(np.float32)
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]], bool)


def make(size=SIZE, **options):
    return chunk_transformer((2, 3), (4, 2), 5, size, **options)


def filled(policy, scale=0.5):
    draw = np.random.default_rng(1)
    shapes = jax.eval_shape(policy.init, jax.random.key(0))
    return jax.tree.map(lambda x: draw.normal(0, scale, x.shape).astype(x.dtype), shapes)


@pytest.fixture(scope="module")
def made():
    encoder, decoder = make()
    return encoder, filled(encoder), decoder, filled(decoder)


def test_padded_actions_reach_nothing_and_the_others_do(made):
    encoder, params, *_ = made
    jacobian = quick(jax.jacrev(lambda a: encoder.apply(params, OBSERVATION, a, MASK)))(ACTION)
    reached = np.abs(jacobian).max((1, 2, 5))  # (B, B, H)
    for row in range(3):
        assert (reached[row, row] > 1e-6).tolist() == MASK[row].tolist()
        assert reached[row][np.arange(3) != row].max() == 0


def test_not_even_a_nan_reaches_through_the_padding(made):
    encoder, params, *_ = made
    spoilt = np.where(MASK[..., None], ACTION, np.nan)
    style = quick(encoder.apply)
    np.testing.assert_array_equal(
        style(params, OBSERVATION, spoilt, MASK), style(params, OBSERVATION, ACTION, MASK)
    )


def test_a_padded_place_is_not_an_action_of_zeros(made):
    # The place, the bias and a key of its own would shift the style if the padding were zeroed alone.
    encoder, params, *_ = made
    style = quick(encoder.apply)
    zeros = np.where(MASK[..., None], ACTION, 0)
    hidden, shown = (np.asarray(style(params, OBSERVATION, zeros, m)) for m in (MASK, np.ones_like(MASK)))
    assert np.abs(hidden - shown)[1:].max((1, 2)).min() > 1e-3
    np.testing.assert_allclose(hidden[0], shown[0], rtol=1e-5)
    # A shorter chunk is the same as a padded one: the places of what is valid stay.
    short = chunk_transformer((2, 3), (2, 2), 5, SIZE)[0]
    np.testing.assert_allclose(
        quick(short.apply)(params, OBSERVATION[1:2], ACTION[1:2, :2], MASK[1:2, :2])[0], hidden[1], rtol=1e-4
    )


def test_observations_reach_their_own_row_alone(made):
    encoder, style, decoder, params = made
    by_encoder = quick(jax.jacrev(lambda o: encoder.apply(style, o, ACTION, MASK)))(OBSERVATION)
    by_decoder = quick(jax.jacrev(lambda o: decoder.apply(params, o, Z)))(OBSERVATION)
    for jacobian in (by_encoder, by_decoder):
        reached = np.abs(jacobian).max((2, 5))  # (B, outputs, B, W)
        for row in range(3):
            assert reached[row][:, row].min() > 1e-6
            assert reached[row][:, np.arange(3) != row].max() == 0


def test_the_style_reaches_every_action_of_its_row(made):
    *_, decoder, params = made
    reached = np.abs(quick(jax.jacrev(lambda z: decoder.apply(params, OBSERVATION, z)))(Z)).max((2, 4))
    for row in range(3):
        assert reached[row, :, row].min() > 1e-6
        assert reached[row][:, np.arange(3) != row].max() == 0


def test_places_alone_tell_actions_apart(made):
    *_, decoder, params = made
    apply = quick(decoder.apply)
    chunk = np.asarray(apply(params, OBSERVATION, Z))
    for i in range(4):
        for j in range(i):
            assert np.abs(chunk[:, i] - chunk[:, j]).max() > 1e-3
    same = {**params, "place": np.broadcast_to(params["place"][:1], (4, 8))}
    still = np.asarray(apply(same, OBSERVATION, Z))
    np.testing.assert_allclose(still, np.broadcast_to(still[:, :1], still.shape), rtol=1e-4, atol=1e-5)


def test_in_one_layer_questions_do_not_hear_one_another(made):
    # What they could say is zero; in a second layer it no longer is.
    for depth, heard in ((1, False), (2, True)):
        _, decoder = make(SIZE._replace(decoder_depth=depth))
        params = filled(decoder)

        def chunk(place, decoder=decoder, params=params):
            return decoder.apply({**params, "place": place}, OBSERVATION[:1], Z[:1])[0].sum(-1)

        reached = np.abs(quick(jax.jacrev(chunk))(params["place"])).max(-1)  # (H, H)
        assert (np.diag(reached) > 1e-6).all()
        assert (reached[~np.eye(4, dtype=bool)].max() > 1e-6) == heard


def norm(x, p):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * p["scale"] + p["bias"]


def attention(p, query, key, value, seen=None):
    q, k, v = (
        np.einsum("nd,dhe->hne", x, p[name]["kernel"]) + p[name]["bias"][:, None]
        for name, x in (("query", query), ("key", key), ("value", value))
    )
    weight = np.exp(np.einsum("hne,hme->hnm", q, k) / 2)  # sqrt(8 / 2 heads)
    if seen is not None:
        weight = weight * seen
    heard = np.einsum("hnm,hme->nhe", weight / weight.sum(-1, keepdims=True), v)
    return np.einsum("nhe,hed->nd", heard, p["out"]["kernel"]) + p["out"]["bias"]


@pytest.mark.parametrize("remembers", [False, True])
def test_the_layer_is_detrs(remembers):
    layer, double = Layer(SIZE), np.float64
    x, place, memory, memory_place = (DRAW.normal(size=(1, n, 8)).astype(np.float32) for n in (4, 4, 3, 3))
    seen = np.array([[True, False, True, True]])
    inputs = (x, place, seen, memory, memory_place)[: 5 if remembers else 3]
    params = filled(type("", (), {"init": staticmethod(lambda key: layer.init(key, *inputs)["params"])}))
    p = jax.tree.map(double, params)
    h, at, m, m_at = (a[0].astype(double) for a in (x, place, memory, memory_place))
    h = norm(h + attention(p["itself"], h + at, h + at, h, seen[0]), p["norm_1"])
    if remembers:
        h = norm(h + attention(p["memory"], h + at, m + m_at, m), p["norm_2"])
    f = p["feedforward"]
    inner = np.maximum(h @ f["in"]["kernel"] + f["in"]["bias"], 0)
    h = norm(h + inner @ f["out"]["kernel"] + f["out"]["bias"], p["norm_out"])
    np.testing.assert_allclose(quick(layer.apply)({"params": params}, *inputs)[0], h, rtol=1e-4, atol=1e-5)


def test_the_second_number_is_half_the_log_variance(made):
    encoder, params, *_ = made
    style = quick(encoder.apply)(params, OBSERVATION, ACTION, MASK)
    swapped = jax.tree.map(lambda x: np.roll(x, 5, axis=-1), params["head"])
    other = quick(encoder.apply)({**params, "head": swapped}, OBSERVATION, ACTION, MASK)
    assert style.shape == (3, 2, 5)
    np.testing.assert_allclose(other[:, 0], 2 * style[:, 1], rtol=1e-5)
    np.testing.assert_allclose(other[:, 1], 0.5 * style[:, 0], rtol=1e-5)


def test_the_published_size():
    encoder, decoder = chunk_transformer((1, 14), (100, 14), 32, "paper")
    shapes = [jax.eval_shape(policy.init, jax.random.key(0)) for policy in (encoder, decoder)]
    counts = [sum(x.size for x in jax.tree.leaves(tree)) for tree in shapes]
    # attention 4 (512^2 + 512) = 1,050,624; feed-forward 2 x 512 x 3200 + 3200 + 512 = 3,280,512; norm 1,024
    # encoder layer 1,050,624 + 3,280,512 + 2 x 1,024; decoder layer 2 x 1,050,624 + 3,280,512 + 3 x 1,024
    layer, asking = 4_333_184, 5_384_832
    for tree, name, count in ((shapes[0], "layer_0", layer), (shapes[1], "decoder_0", asking)):
        assert sum(x.size for x in jax.tree.leaves(tree[name])) == count
    # Style: CLS 512, two layers 14 x 512 + 512 = 7,680, head 512 x 64 + 64 = 32,832.
    assert counts[0] == 4 * layer + 512 + 2 * 7_680 + 32_832 == 17_381_440
    # Chunk: z 32 x 512 + 512, observation 7,680, places (2 + 100) 512, norm 1,024, head 512 x 14 + 14.
    assert counts[1] == 4 * layer + asking + 16_896 + 7_680 + 52_224 + 1_024 + 7_182 == 22_802_574


def test_rematerialised_gradients_are_the_same(made):
    for index, more in ((0, (ACTION, MASK)), (1, (Z,))):
        params = made[2 * index + 1]
        gradients = [
            quick(jax.grad(lambda p, f=f, more=more: jnp.sum(jnp.square(f(p, OBSERVATION, *more)))))(params)
            for f in (make()[index].apply, make(remat=True)[index].apply)
        ]
        for a, b in zip(*map(jax.tree.leaves, gradients), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_bfloat16_is_near_and_not_equal(made):
    for index, more in ((0, (ACTION, MASK)), (1, (Z,))):
        exact_policy, params = made[2 * index], made[2 * index + 1]
        policy = make(dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)[index]
        shapes = jax.eval_shape(policy.init, jax.random.key(0))
        assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype("bfloat16")}
        rough = np.asarray(quick(policy.apply)(params, OBSERVATION, *more))
        exact = np.asarray(quick(exact_policy.apply)(params, OBSERVATION, *more))
        assert rough.dtype == np.float32
        assert 0 < np.abs(rough - exact).max() < 0.1 * np.abs(exact).max()


def test_what_cannot_be_built_is_refused_in_words():
    with pytest.raises(InputError, match="tiny, small, paper"):
        make("large")
    with pytest.raises(InputError, match="heads"):
        make(Size(10, 4, 16, 1, 1))
