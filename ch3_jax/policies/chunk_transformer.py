r"""A chunk of actions from a latent style: ACT's two transformers.

  style encoder   (o_1 .. o_W, a_1 .. a_H) -> mean, log std of z       in training alone
  chunk decoder   (z, o_1 .. o_W) -> a_1 .. a_H, all in one pass       acts, with z = 0

Layers are DETR's, normed behind each sum, with the places p added to what is asked and looked at and not to
what is said:

  x <- norm(x + attention(x + p, m + p_m, m)),    x <- norm(x + W_2 relu(W_1 x))

The style encoder reads [CLS, o_1 .. o_W, a_1 .. a_H] at fixed places, sees no action behind the end of its
episode, and speaks through CLS. The chunk decoder encodes the memory [z, o_1 .. o_W], then asks it H
questions: they start as zeros, so that their learned places alone tell one action of the chunk from another.

The original builds a decoder of seven layers, keeps the output of each and acts by hs[0], the first one's, so
that six layers are never used nor trained (`hs[-1]` would be the last). Its function is that of one layer and
the norm behind it, and the published size has one here. In one layer the H questions cannot hear one another:
all they could say is still zero, the self-attention gives each the same constant, and its queries and keys
never get a gradient.

Where this is not ACT: each observation is one token through one layer (there: the joints, and images through
a ResNet-18); places of the style encoder have sines first, not in turns; no dropout (there 0.1); no second
head that foretells the padding, which no loss of ACT's looks at. ACT's log variance is halved to a log std.

References: Zhao et al. 2023, arXiv:2304.13705 (ACT), and its code; Carion et al. 2020, arXiv:2005.12872
(DETR).
"""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from ch3_jax.base import Array, Params
from ch3_jax.policies.layers import Feedforward, require_heads, sinusoidal, size_of
from ch3_jax.policies.policy import Conditioned

_EPSILON = 1e-5  # of PyTorch's norm
_NORMAL = nn.initializers.normal(1.0)  # places and CLS start as PyTorch's embeddings do


class Size(NamedTuple):
    """Width D, heads, width between, layers of each encoder and of the decoder."""

    width: int
    heads: int
    hidden: int
    encoder_depth: int
    decoder_depth: int


SIZES = {"tiny": Size(32, 2, 64, 1, 1), "small": Size(128, 4, 256, 2, 1), "paper": Size(512, 8, 3200, 4, 1)}


class Layer(nn.Module):
    """One of DETR's layers: hear oneself, hear a memory if there is one, think; a norm behind each.

    Attributes:
      size: of the layer.
      dtype, param_dtype: of the computation and of the parameters.
    """

    size: Size
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Array,
        place: Array,
        mask: Array | None = None,
        memory: Array | None = None,
        memory_place: Array | None = None,
    ) -> Array:
        """Tokens (B, N, D) at (1, N, D), who is heard (B, N), memory (B, M, D) at (1, M, D) -> (B, N, D)."""
        kind = {"dtype": self.dtype, "param_dtype": self.param_dtype}

        def hear(name: str, query: Array, key: Array, value: Array, allowed: Array | None) -> Array:
            return nn.MultiHeadDotProductAttention(
                self.size.heads, kernel_init=nn.initializers.xavier_uniform(), force_fp32_for_softmax=True,
                name=name, **kind,
            )(query, key, value, mask=allowed)  # fmt: skip

        def norm(name: str, both: Array) -> Array:
            return nn.LayerNorm(_EPSILON, name=name, **kind)(both)

        allowed = None if mask is None else mask[:, None, None]
        placed = x + place
        x = norm("norm_1", x + hear("itself", placed, placed, x, allowed))
        if memory is not None:
            heard = hear("memory", x + place, memory + memory_place, memory, None)
            x = norm("norm_2", x + heard)
        return norm("norm_out", x + Feedforward(self.size.hidden, name="feedforward", **kind)(x))


class StyleEncoder(nn.Module):
    """Observations and actions -> mean and log std of the style.

    Attributes:
      size: of the layers.
      latent: Z.
      dtype, param_dtype: of the computation and of the parameters.
      remat: whether the backward pass computes the layers anew instead of keeping them.
    """

    size: Size
    latent: int
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, observation: Array, action: Array, mask: Array) -> Array:
        """(B, W, S), (B, H, A), (B, H) bool -> (B, 2, Z) float32."""
        kind, width = {"dtype": self.dtype, "param_dtype": self.param_dtype}, self.size.width
        cls = self.param("cls", _NORMAL, (1, 1, width), self.param_dtype).astype(self.dtype)
        # As a key it is masked out below; zeroed as well, so that no NaN that stands there can spread.
        action = jnp.where(mask[..., None], action, 0)
        x = jnp.concatenate([
            jnp.broadcast_to(cls, (len(observation), 1, width)),
            nn.Dense(width, name="observation", **kind)(observation),
            nn.Dense(width, name="action", **kind)(action),
        ], axis=1)  # fmt: skip
        seen = jnp.concatenate([jnp.ones((len(mask), 1 + observation.shape[1]), bool), mask], axis=1)
        place = sinusoidal(jnp.arange(x.shape[1]), width)[None].astype(self.dtype)
        layer = nn.remat(Layer) if self.remat else Layer
        for i in range(self.size.encoder_depth):
            x = layer(self.size, name=f"layer_{i}", **kind)(x, place, seen)
        both = nn.Dense(2 * self.latent, name="head", **kind)(x[:, 0]).astype(jnp.float32)
        mean, log_variance = jnp.split(both, 2, axis=-1)
        return jnp.stack([mean, 0.5 * log_variance], axis=1)


class ChunkDecoder(nn.Module):
    """A style and observations -> a chunk of actions.

    Attributes:
      size: of the layers.
      action_shape: (H, A).
      dtype, param_dtype: of the computation and of the parameters.
      remat: whether the backward pass computes the layers anew instead of keeping them.
    """

    size: Size
    action_shape: tuple[int, int]
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, observation: Array, z: Array) -> Array:
        """(B, W, S), (B, Z) -> (B, H, A) float32."""
        kind, width = {"dtype": self.dtype, "param_dtype": self.param_dtype}, self.size.width
        horizon, numbers = self.action_shape

        def places(name: str, count: int) -> Array:
            return self.param(name, _NORMAL, (count, width), self.param_dtype)[None].astype(self.dtype)

        layer = nn.remat(Layer) if self.remat else Layer
        style = nn.Dense(width, name="style", **kind)(z)[:, None]
        seen = nn.Dense(width, name="observation", **kind)(observation)
        memory = jnp.concatenate([style, seen], axis=1)
        memory_place, place = places("memory_place", memory.shape[1]), places("place", horizon)
        for i in range(self.size.encoder_depth):
            memory = layer(self.size, name=f"encoder_{i}", **kind)(memory, memory_place)
        x = jnp.zeros((len(z), horizon, width), self.dtype)
        for i in range(self.size.decoder_depth):
            x = layer(self.size, name=f"decoder_{i}", **kind)(x, place, None, memory, memory_place)
        x = nn.LayerNorm(_EPSILON, name="norm", **kind)(x)
        return nn.Dense(numbers, name="head", **kind)(x).astype(jnp.float32)


def chunk_transformer(
    observation_shape: tuple[int, int],
    action_shape: tuple[int, int],
    latent: int,
    size: str | Size = "small",
    *,
    dtype=jnp.float32,
    param_dtype=jnp.float32,
    remat: bool = False,
) -> tuple[Conditioned, Conditioned]:
    """ACT's style encoder and chunk decoder as pure functions; each with parameters of its own.

    Args:
      observation_shape: (W, S).
      action_shape: (H, A).
      latent: Z; 32 in ACT.
      size: a name in `SIZES`, or a `Size`.
      dtype, param_dtype: of the computation and of the parameters.
      remat: whether the backward pass computes the layers anew.

    Returns:
      The encoder, (params, observation, action (B, H, A), mask (B, H)) -> (B, 2, Z), the mean and the log std
      of z; and the decoder, (params, observation, z (B, Z)) -> (B, H, A). Both float32.

    Raises:
      InputError: an unknown size, a width that does not divide into heads.

    >>> import jax
    >>> encoder, decoder = chunk_transformer((1, 3), (2, 2), 4, Size(8, 2, 8, 1, 1))
    >>> o, a, mask = jnp.zeros((5, 1, 3)), jnp.zeros((5, 2, 2)), jnp.ones((5, 2), bool)
    >>> key = jax.random.key(0)
    >>> style = jax.eval_shape(encoder.apply, jax.eval_shape(encoder.init, key), o, a, mask)
    >>> style.shape
    (5, 2, 4)
    >>> jax.eval_shape(decoder.apply, jax.eval_shape(decoder.init, key), o, jnp.zeros((5, 4))).shape
    (5, 2, 2)
    """
    made = size_of(size, SIZES)
    require_heads(made.width, made.heads)
    encoder = StyleEncoder(made, latent, dtype, param_dtype, remat)
    decoder = ChunkDecoder(made, action_shape, dtype, param_dtype, remat)
    seen, done = jnp.zeros((1, *observation_shape)), jnp.zeros((1, *action_shape))
    valid, z = jnp.ones((1, action_shape[0]), bool), jnp.zeros((1, latent))

    def encode(params: Params, observation: Array, action: Array, mask: Array) -> Array:
        return encoder.apply({"params": params}, observation, action, mask.astype(bool))

    def decode(params: Params, observation: Array, z: Array) -> Array:
        return decoder.apply({"params": params}, observation, z)

    return (
        Conditioned(lambda key: encoder.init(key, seen, done, valid)["params"], encode),
        Conditioned(lambda key: decoder.init(key, seen, z)["params"], decode),
    )
