r"""Actions as words: a language model that reads the observation and says the action, one word per number.

  p(a | o) = \prod_{j=1}^{HA} p(w_j | o, w_1 .. w_{j-1}),    w_j = V - 1 - (bin of number j)

The last K words of a vocabulary of V = 32,000 stand for the bins, downwards, as in OpenVLA; words that are no
bin get no probability. The sequence is [begin, o_1 .. o_W, w_1 .. w_L], each token sees itself and what came
before, and the scores of w_j are read one place to its left. Blocks are Llama's:

  x <- x + attention(rms(x)),    x <- x + W_3 (silu(W_1 rms(x)) * W_2 rms(x)),    places by rotation

Training sees all words at once (teacher forcing); `decode` keeps keys and values of what has been read in a
cache, so that a word costs one column of the triangle instead of the triangle, and is one `lax.scan`.

Where this is not OpenVLA: each observation is one token through two layers with a GELU (there: patches of two
image encoders through such a projector, then a prompt), and a word that is no bin has no probability and
cannot be said, where the original trains on all words and clips what is none to a bin.

References: Kim et al. 2024, arXiv:2406.09246 (OpenVLA); Touvron et al. 2023, arXiv:2307.09288 (Llama 2: 32
layers of width 4096 and 32,000 words, 6,738,415,616 parameters); Su et al. 2021, arXiv:2104.09864 (rotation).
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ch3_jax.base import Array, Key, Params
from ch3_jax.errors import InputError
from ch3_jax.policies.layers import SMALL_NORMAL, require_heads, rotate, size_of

BEGIN, END = 1, 2  # Llama's ids; 0 is its unknown word and stands here for what is padded
PADDED = 0
_EPSILON = 1e-5  # of Llama 2's norm
Cache = tuple[tuple[Array, Array], ...]


class Size(NamedTuple):
    """Width D, layers, heads and the width of the gated layers."""

    width: int
    depth: int
    heads: int
    hidden: int


SIZES = {"tiny": Size(64, 2, 4, 192), "small": Size(256, 4, 8, 704), "paper": Size(4096, 32, 32, 11008)}


class TokenPolicy(NamedTuple):
    """A token decoder as pure functions.

    Attributes:
      init: key -> params.
      apply: (params, observation (B, W, S), words (B, L) int) -> logits (B, L, V) of each word given those
        before it; words that are no bin at the most negative float.
      scores: the same for the bins alone, in their order, (B, L, K), and the end last where there is one.
      decode: (params, observation, key or None) -> words (B, H A) and their scores (B, H A, K): greedy
        without a key, drawn with one.
    """

    init: Callable[[Key], Params]
    apply: Callable[[Params, Array, Array], Array]
    scores: Callable[[Params, Array, Array], Array]
    decode: Callable[[Params, Array, Key | None], tuple[Array, Array]]


class Block(nn.Module):
    """One of Llama's layers, over all tokens or over new ones beside a cache.

    Attributes:
      size: of the layer.
      dtype, param_dtype: of the computation and of the parameters.
    """

    size: Size
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Array, first: Array, cache: tuple[Array, Array] | None = None
    ) -> tuple[Array, tuple[Array, Array]]:
        """New tokens (B, N, D) from place `first` on, keys and values (B, M, heads, d) -> both, updated."""
        heads, kind = self.size.heads, {"dtype": self.dtype, "param_dtype": self.param_dtype}

        def dense(features: int, name: str) -> nn.Dense:
            return nn.Dense(features, use_bias=False, kernel_init=SMALL_NORMAL, name=name, **kind)

        def split(name: str, seen: Array) -> Array:
            return jnp.reshape(dense(self.size.width, name)(seen), (*seen.shape[:2], heads, -1))

        place = first + jnp.arange(x.shape[1])
        seen = nn.RMSNorm(_EPSILON, name="norm_1", **kind)(x)
        query, key = rotate(split("query", seen), place), rotate(split("key", seen), place)
        value = split("value", seen)
        if cache is not None:
            key, value = (
                jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), first, axis=1)
                for old, new in zip(cache, (key, value), strict=True)
            )
        # What a cache has not been given yet stands to the right of every token.
        stored = jnp.arange(key.shape[1]) + (first if cache is None else 0)
        seen_by = stored[None] <= place[:, None]
        heard = jax.nn.dot_product_attention(query, key, value, mask=seen_by[None, None])
        x = x + dense(self.size.width, "out")(jnp.reshape(heard, (*x.shape[:2], -1)))
        seen = nn.RMSNorm(_EPSILON, name="norm_2", **kind)(x)
        gated = nn.silu(dense(self.size.hidden, "gate")(seen)) * dense(self.size.hidden, "up")(seen)
        return x + dense(self.size.width, "down")(gated), (key, value)


class TokenDecoder(nn.Module):
    """Observation and words -> scores of the next words.

    Attributes:
      size: of the layers.
      count: K, bins.
      vocabulary: V.
      end: whether the end of the sentence is among the words.
      dtype, param_dtype: of the computation and of the parameters.
      remat: whether the backward pass computes the layers anew instead of keeping them.
    """

    size: Size
    count: int
    vocabulary: int = 32_000
    end: bool = False
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    remat: bool = False

    def setup(self):
        kind = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        width, vocabulary = self.size.width, self.vocabulary
        self.embedding = nn.Embed(vocabulary, width, embedding_init=SMALL_NORMAL, **kind)
        self.projector_1 = nn.Dense(width, **kind)
        self.projector_2 = nn.Dense(width, **kind)
        block = nn.remat(Block) if self.remat else Block
        self.layers = [block(self.size, **kind) for _ in range(self.size.depth)]
        self.norm = nn.RMSNorm(_EPSILON, **kind)
        self.head = self.param("head", SMALL_NORMAL, (width, vocabulary), self.param_dtype)

    def __call__(self, observation: Array, words: Array, whole: bool = False) -> Array:
        """(B, W, S), (B, L) -> (B, L, K), or (B, L, V) if `whole`."""
        x = jnp.concatenate([self.read(observation), self.embedding(words[:, :-1])], axis=1)
        for layer in self.layers:
            x, _ = layer(x, 0)
        x = self.norm(x[:, observation.shape[1] :])  # the last token read foretells the first word
        return self._all(x) if whole else self._bins(x)

    def read(self, observation: Array) -> Array:
        """(B, W, S) -> the tokens before the words, (B, 1 + W, D)."""
        seen = self.projector_2(nn.gelu(self.projector_1(observation)))
        begin = self.embedding(jnp.full((len(observation), 1), BEGIN))
        return jnp.concatenate([begin, seen], axis=1)

    def start(self, observation: Array, places: int) -> tuple[Array, Cache]:
        """Scores (B, K) of the first word, and a cache of so many places that has seen the observation."""
        shape = (len(observation), places, self.size.heads, self.size.width // self.size.heads)
        empty = tuple((jnp.zeros(shape, self.dtype), jnp.zeros(shape, self.dtype)) for _ in self.layers)
        return self._advance(self.read(observation), 0, empty)

    def step(self, word: Array, place: Array, cache: Cache) -> tuple[Array, Cache]:
        """A word (B,) at its place -> scores (B, K) of the next, and the cache that has seen it."""
        return self._advance(self.embedding(word[:, None]), place, cache)

    def _advance(self, x: Array, first: Array, cache: Cache) -> tuple[Array, Cache]:
        kept = []
        for layer, old in zip(self.layers, cache, strict=True):
            x, new = layer(x, first, old)
            kept.append(new)
        return self._bins(self.norm(x[:, -1]))[..., : self.count], tuple(kept)

    def _bins(self, x: Array) -> Array:
        """(..., D) -> (..., K), bin 0 first, and the end last: the columns that can be asked for."""
        columns = self.head[:, : -self.count - 1 : -1]
        if self.end:
            columns = jnp.concatenate([columns, self.head[:, END : END + 1]], axis=-1)
        return (x.astype(self.dtype) @ columns.astype(self.dtype)).astype(jnp.float32)

    def _all(self, x: Array) -> Array:
        logits = (x.astype(self.dtype) @ self.head.astype(self.dtype)).astype(jnp.float32)
        word = jnp.arange(self.vocabulary)
        allowed = (word >= self.vocabulary - self.count) | (self.end & (word == END))
        allowed = jnp.broadcast_to(allowed, logits.shape)
        return jnp.where(allowed, logits, jnp.finfo(logits.dtype).min)


def token_decoder(
    observation_shape: tuple[int, int],
    action_shape: tuple[int, int],
    count: int,
    size: str | Size = "small",
    dtype=jnp.float32,
    *,
    param_dtype=jnp.float32,
    remat: bool = False,
    vocabulary: int = 32_000,
    end: bool = False,
) -> TokenPolicy:
    """A token decoder as pure functions.

    Args:
      observation_shape: (W, S).
      action_shape: (H, A); a sentence has H A words, step by step.
      count: K, bins of a number.
      size: a name in `SIZES`, or a `Size`.
      dtype, param_dtype: of the computation and of the parameters.
      remat: whether the backward pass computes the layers anew.
      vocabulary: V, at least K + 3.
      end: whether the words of training close with `END`; what is decoded has a known length and needs none.

    Raises:
      InputError: an unknown size, a vocabulary without room, a width that does not divide into heads.

    >>> policy = token_decoder((1, 3), (1, 2), 4, Size(8, 1, 2, 16), vocabulary=16)
    >>> params = policy.init(jax.random.key(0))
    >>> policy.apply(params, jnp.zeros((5, 1, 3)), jnp.full((5, 2), 15)).shape
    (5, 2, 16)
    >>> policy.decode(params, jnp.zeros((5, 1, 3)), None)[0].shape
    (5, 2)
    """
    made = size_of(size, SIZES)
    require_heads(made.width, made.heads, turned=True)
    if vocabulary < count + 3:
        raise InputError(
            "The vocabulary has no room for the bins.",
            got=f"{vocabulary} words, {count} bins",
            expected=f"at least {count + 3}: the bins, the padding, the begin and the end",
            cause="more bins than words",
            fix="vocabulary=32_000, as in OpenVLA",
        )
    module = TokenDecoder(made, count, vocabulary, end, dtype, param_dtype, remat)
    length, read = action_shape[0] * action_shape[1], 1 + observation_shape[0]
    example = jnp.zeros((1, *observation_shape)), jnp.zeros((1, length), jnp.int32)

    def decode(params: Params, observation: Array, key: Key | None = None) -> tuple[Array, Array]:
        def choose(scores: Array, index: Array) -> Array:
            if key is None:
                chosen = jnp.argmax(scores, axis=-1)
            else:
                chosen = jax.random.categorical(jax.random.fold_in(key, index), scores)
            return (vocabulary - 1 - chosen).astype(jnp.int32)

        def say(carry: tuple, index: Array) -> tuple[tuple, tuple]:
            word, cache = carry
            scores, cache = module.apply({"params": params}, word, read + index, cache, method="step")
            following = choose(scores, index + 1)
            return (following, cache), (following, scores)

        # The last word needs no place in the cache: nothing comes after it.
        scores, cache = module.apply({"params": params}, observation, read + length - 1, method="start")
        word = choose(scores, jnp.int32(0))
        _, (words, more) = jax.lax.scan(say, (word, cache), jnp.arange(length - 1))
        words = jnp.concatenate([word[None], words])
        return jnp.swapaxes(words, 0, 1), jnp.swapaxes(jnp.concatenate([scores[None], more]), 0, 1)

    return TokenPolicy(
        init=lambda key: module.init(key, *example)["params"],
        apply=lambda params, observation, words: module.apply({"params": params}, observation, words, True),
        scores=lambda params, observation, words: module.apply({"params": params}, observation, words),
        decode=decode,
    )
