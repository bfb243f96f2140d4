"""The token decoder: who sees whom, the cache, the masked vocabulary, Llama's block, the published size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.errors import InputError
from ch3_jax.policies.layers import rotate
from ch3_jax.policies.token_decoder import END, Block, Size, token_decoder

quick = functools.partial(
    jax.jit,
    compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True},
)
SIZE, BINS, WORDS = Size(16, 2, 2, 24), 6, 24
DRAW = np.random.default_rng(0)
OBSERVATION = DRAW.normal(size=(3, 2, 3)).astype(np.float32)
SAID = np.array([[23, 22, 21, 20], [18, 19, 20, 21], [22, 22, 18, 19]], np.int32)


def make(**options):
    return token_decoder((2, 3), (2, 2), BINS, SIZE, vocabulary=WORDS, **options)


def filled(policy, scale=0.5):
    draw = np.random.default_rng(1)
    shapes = jax.eval_shape(policy.init, jax.random.key(0))
    return jax.tree.map(lambda x: draw.normal(0, scale, x.shape).astype(x.dtype), shapes)


@pytest.fixture(scope="module")
def made():
    policy = make()
    return policy, filled(policy), quick(policy.scores)


def test_a_word_is_foretold_by_the_words_before_it_alone(made):
    policy, params, _ = made

    def scores(table):
        return policy.scores({**params, "embedding": {"embedding": table}}, OBSERVATION[:1], SAID[:1])[0].sum(
            -1
        )

    reached = np.abs(quick(jax.jacrev(scores))(params["embedding"]["embedding"])).max(-1)
    # Rows: scores of words 1 to 4. Columns: the words 23, 22, 21, 20 that stand at places 1 to 4.
    assert ((reached[:, [23, 22, 21, 20]] > 1e-6) == np.tril(np.ones((4, 4), bool), -1)).all()
    assert (reached[:, 1] > 1e-6).all()  # the begin


def test_every_observation_is_seen_and_nobody_elses(made):
    policy, params, _ = made
    jacobian = quick(jax.jacrev(lambda o: policy.scores(params, o, SAID).sum(-1)))(OBSERVATION)
    size = np.abs(jacobian).max(-1)  # (B, L, B, W)
    for row in range(3):
        assert size[row, :, row].min() > 1e-6
        assert size[row][:, np.arange(3) != row].max() == 0


def test_the_cache_changes_nothing(made):
    policy, params, scores = made
    decode = quick(policy.decode)
    for key in (None, jax.random.key(3)):
        words, kept = decode(params, OBSERVATION, key)
        assert words.shape == (3, 4)
        np.testing.assert_allclose(kept, scores(params, OBSERVATION, words), rtol=1e-4, atol=1e-5)
        if key is None:
            np.testing.assert_array_equal(words, WORDS - 1 - np.argmax(kept, -1))


def test_words_are_drawn_as_often_as_their_scores_say(made):
    policy, params, _ = made
    many = np.broadcast_to(OBSERVATION[:1], (4000, 2, 3))
    words, scores = quick(policy.decode)(params, many, jax.random.key(0))
    share = np.bincount(WORDS - 1 - np.asarray(words)[:, 0], minlength=BINS) / 4000
    np.testing.assert_allclose(share, jax.nn.softmax(scores[0, 0]), atol=0.03)
    assert len(np.unique(np.asarray(words)[:, -1])) > 1


@pytest.mark.parametrize("end", [False, True])
def test_words_that_are_no_bin_have_no_probability(end):
    policy = make(end=end)
    params = filled(policy)
    words = np.concatenate([SAID, np.full((3, 1), END)], 1)
    whole, narrow = (np.asarray(quick(f)(params, OBSERVATION, words)) for f in (policy.apply, policy.scores))
    bins = WORDS - 1 - np.arange(BINS)  # bin 0 is the last word, as in OpenVLA
    allowed = [*bins, END] if end else bins
    np.testing.assert_allclose(whole[..., allowed], narrow, rtol=1e-5, atol=1e-6)
    chance = np.asarray(jax.nn.softmax(whole))
    assert np.delete(chance, allowed, axis=-1).max() == 0


def test_the_block_is_llamas():
    torch = pytest.importorskip("torch", reason="pip install -r third_party/requirements.txt")
    F = torch.nn.functional
    block = Block(SIZE)
    x = DRAW.normal(size=(2, 5, 16)).astype(np.float32)
    shapes = jax.eval_shape(block.init, jax.random.key(0), x, 0)["params"]
    params = jax.tree.map(lambda leaf: DRAW.normal(0, 0.3, leaf.shape).astype(np.float32), shapes)
    ours, _ = quick(block.apply)({"params": params}, x, 0)
    w = {k: torch.tensor(v["kernel"]).T for k, v in params.items() if "kernel" in v}
    norm = {k: torch.tensor(v["scale"]) for k, v in params.items() if "scale" in v}
    h = torch.tensor(x)
    seen = F.rms_norm(h, (16,), norm["norm_1"], 1e-5)
    turn = torch.polar(torch.ones(5, 4), torch.outer(torch.arange(5.0), 10_000.0 ** (-torch.arange(4) / 4)))

    def heads(name, turned=True):
        y = F.linear(seen, w[name]).reshape(2, 5, 2, 8).transpose(1, 2)
        if turned:
            z = torch.complex(y[..., :4].contiguous(), y[..., 4:].contiguous()) * turn
            y = torch.cat([z.real, z.imag], -1)
        return y

    heard = F.scaled_dot_product_attention(
        heads("query"), heads("key"), heads("value", False), is_causal=True
    )
    h = h + F.linear(heard.transpose(1, 2).reshape(2, 5, 16), w["out"])
    seen = F.rms_norm(h, (16,), norm["norm_2"], 1e-5)
    h = h + F.linear(F.silu(F.linear(seen, w["gate"])) * F.linear(seen, w["up"]), w["down"])
    np.testing.assert_allclose(ours, h.numpy(), rtol=1e-4, atol=1e-5)


def test_rotated_products_know_the_distance_alone():
    q, k = (jnp.asarray(DRAW.normal(size=(1, 1, 1, 8)), jnp.float32) for _ in range(2))

    def product(a, b):
        return float(jnp.sum(rotate(q, jnp.array([a])) * rotate(k, jnp.array([b]))))

    assert product(7, 4) == pytest.approx(product(3, 0), rel=1e-4)
    assert abs(product(7, 4) - product(7, 5)) > 1e-3


def test_the_published_size():
    policy = token_decoder((1, 14), (1, 7), 256, "paper")
    shapes = jax.eval_shape(policy.init, jax.random.key(0))
    count = sum(x.size for k, v in shapes.items() if "projector" not in k for x in jax.tree.leaves(v))
    # Llama 2 7B: 2 x 32000 x 4096 + 32 (4 x 4096^2 + 3 x 4096 x 11008 + 2 x 4096) + 4096
    assert count == 6_738_415_616


def test_rematerialised_gradients_are_the_same(made):
    policy, params, _ = made
    gradients = [
        quick(jax.grad(lambda p, f=f: jnp.sum(jnp.square(f(p, OBSERVATION, SAID)))))(params)
        for f in (policy.scores, make(remat=True).scores)
    ]
    for a, b in zip(*map(jax.tree.leaves, gradients), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_bfloat16_is_near_and_not_equal(made):
    _, params, scores = made
    policy = make(dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
    assert {x.dtype for x in jax.tree.leaves(jax.eval_shape(policy.init, jax.random.key(0)))} == {
        jnp.dtype("bfloat16")
    }
    rough = np.asarray(quick(policy.scores)(params, OBSERVATION, SAID))
    exact = np.asarray(scores(params, OBSERVATION, SAID))
    assert rough.dtype == np.float32
    assert 0 < np.abs(rough - exact).max() < 0.1 * np.abs(exact).max()


def test_what_cannot_be_built_is_refused_in_words():
    with pytest.raises(InputError, match="tiny, small, paper"):
        token_decoder((1, 3), (1, 2), 4, "large")
    with pytest.raises(InputError, match="no room"):
        token_decoder((1, 3), (1, 2), 256, vocabulary=256)
    with pytest.raises(InputError, match="heads"):
        token_decoder((1, 3), (1, 2), 4, Size(10, 1, 4, 16))
