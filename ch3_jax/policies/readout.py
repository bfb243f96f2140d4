r"""Octo: a transformer over observations, read by tokens that nobody reads, and a small head that denoises.

  tokens    o_1 r_1 o_2 r_2 .. o_W r_W      observation w through a linear map; r_w learned
  a block   h <- h + attention(ln(h)),  h <- h + W_2 gelu(W_1 ln(h))
  reading   e = ln(h) at r_W
  head      f(o, x, \theta) = resnet([mlp(wave(\tau)), e, x])

Block-causal: an observation sees observations of its own step and of earlier ones; a readout sees the same
and itself, and is seen by itself alone. So what is read changes nothing of what is there to be read, and a
readout can be added to a trained transformer. The head is all that knows x and the level: the transformer
says the same for all steps of a denoising process.

  resnet    z <- W z,    z <- z + W'' swish(W' ln(z))  some times,    W swish(z)

The level comes as an angle in [0, pi/2], 0 clean and pi/2 pure noise, because every noise process has one. It
is turned into \tau = 100 \theta / (\pi / 2), which stands in for the number of a step of the original's
process: the waves are made for numbers of that size.

Where this is not Octo: one token for an observation of numbers (there: patches of images, and a prefix of the
task's words); a head on the last readout alone, because what is asked for is the chunk from the newest
observation, while Octo trains a head on every step of the window; a readout that does not see earlier ones
(there those of its own name); and waves of fixed periods, where Octo learns its 16 frequencies, before the
same two layers of 64 and 32.

References: Octo Model Team 2024, arXiv:2405.12213 (its small transformer has the 12 layers, width 384 and 6
heads of ViT-S, its base those of ViT-B; a head of 3 blocks of width 256); Dosovitskiy et al. 2020,
arXiv:2010.11929 (the blocks).
"""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array
from ch3_jax.policies.conditioned import as_conditioned, step_of
from ch3_jax.policies.layers import (
    SMALL_NORMAL,
    Attention,
    Feedforward,
    by_blocks,
    require_heads,
    sinusoidal,
    size_of,
)
from ch3_jax.policies.policy import Conditioned

TIME = 32  # numbers that say it
_XAVIER = nn.initializers.xavier_uniform()


class Size(NamedTuple):
    """Width D, layers, heads and the width between of the transformer; width and blocks of the head."""

    width: int
    depth: int
    heads: int
    hidden: int
    head_width: int
    head_blocks: int


SIZES = {
    "tiny": Size(32, 1, 2, 64, 32, 1),
    "small": Size(128, 4, 4, 512, 128, 3),
    "paper": Size(384, 12, 6, 1536, 256, 3),
    "base": Size(768, 12, 12, 3072, 256, 3),
}


def passive(window: int) -> np.ndarray:
    """(2 W, 2 W) bool: who sees whom among observations and readouts in turn.

    Args:
      window: W.

    >>> passive(2).astype(int).tolist()
    [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 1]]
    """
    token = np.arange(2 * window)
    observed = token % 2 == 0
    return by_blocks(token // 2) & (observed[None] | np.eye(2 * window, dtype=bool))


class Block(nn.Module):
    """One of ViT's layers, norms first.

    Attributes:
      heads: of the attention.
      hidden: width between.
      dtype, param_dtype: of the computation and of the parameters.
    """

    heads: int
    hidden: int
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> Array:
        """(B, N, D), who sees whom (N, N) -> (B, N, D)."""
        kind = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        seen = nn.LayerNorm(name="norm_1", **kind)(x)
        x = x + Attention(self.heads, name="attention", **kind)(seen, seen, mask)
        seen = nn.LayerNorm(name="norm_2", **kind)(x)
        return x + Feedforward(self.hidden, nn.gelu, name="feedforward", **kind)(seen)


class Reader(nn.Module):
    """The transformer: observations (B, W, S) -> all its tokens (B, 2 W, D), each readout after its step.

    Attributes:
      size: of the layers.
      dtype, param_dtype: of the computation and of the parameters.
      remat: whether the backward pass computes the layers anew instead of keeping them.
    """

    size: Size
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, observation: Array) -> Array:
        kind = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        (batch, window, _), width = observation.shape, self.size.width

        def learned(name: str) -> Array:
            return self.param(name, SMALL_NORMAL, (window, width), self.param_dtype)[None].astype(self.dtype)

        seen = nn.Dense(width, name="observation", **kind)(observation) + learned("place")
        reading = jnp.broadcast_to(learned("readout"), seen.shape)
        h = jnp.reshape(jnp.stack([seen, reading], axis=2), (batch, 2 * window, width))
        block = nn.remat(Block) if self.remat else Block
        for index in range(self.size.depth):
            h = block(self.size.heads, self.size.hidden, name=f"block_{index}", **kind)(h, passive(window))
        return nn.LayerNorm(name="norm", **kind)(h)


class ResidualBlock(nn.Module):
    """A norm, four times the width, swish, and back: (B, D) -> (B, D).

    Attributes:
      dtype, param_dtype: of the computation and of the parameters.
    """

    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kind = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        seen = nn.LayerNorm(name="norm", **kind)(x)
        return x + Feedforward(4 * x.shape[-1], nn.swish, name="feedforward", **kind)(seen)


class Head(nn.Module):
    """What was read (B, D), noisy actions (B, H, A), angles (B,) -> (B, H, A), float32.

    Attributes:
      width, blocks: of the layers, and how many.
      dtype, param_dtype: of the computation and of the parameters.
    """

    width: int
    blocks: int
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, read: Array, x: Array, angle: Array) -> Array:
        kind = {"dtype": self.dtype, "param_dtype": self.param_dtype}

        def dense(features: int, name: str) -> nn.Dense:
            return nn.Dense(features, kernel_init=_XAVIER, name=name, **kind)

        time = sinusoidal(step_of(angle), TIME).astype(self.dtype)
        time = dense(TIME, "time_2")(nn.swish(dense(2 * TIME, "time_1")(time)))
        flat = jnp.reshape(x, (len(x), -1))
        z = dense(self.width, "in")(jnp.concatenate([time, read, flat.astype(self.dtype)], axis=-1))
        for index in range(self.blocks):
            z = ResidualBlock(name=f"block_{index}", **kind)(z)
        return jnp.reshape(dense(flat.shape[-1], "out")(nn.swish(z)), x.shape).astype(jnp.float32)


class Readout(nn.Module):
    """Observations (B, W, S), noisy actions (B, H, A), angles (B,) -> (B, H, A), float32.

    Attributes:
      size: of transformer and head.
      dtype, param_dtype: of the computation and of the parameters.
      remat: whether the backward pass computes the transformer's layers anew instead of keeping them.
    """

    size: Size
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, observation: Array, x: Array, angle: Array) -> Array:
        tokens = Reader(self.size, self.dtype, self.param_dtype, self.remat, name="reader")(observation)
        head = Head(self.size.head_width, self.size.head_blocks, self.dtype, self.param_dtype, name="head")
        return head(tokens[:, -1], x, angle)


def readout_policy(
    observation_shape: tuple[int, int],
    action_shape: tuple[int, int],
    size: str | Size = "small",
    *,
    dtype=jnp.float32,
    param_dtype=jnp.float32,
    remat: bool = False,
) -> Conditioned:
    """Octo's transformer and its head as pure functions.

    Args:
      observation_shape: (W, S).
      action_shape: (H, A).
      size: a name in `SIZES`, of which "paper" is Octo-Small and "base" Octo-Base, or a `Size`.
      dtype, param_dtype: of the computation and of the parameters.
      remat: whether the backward pass computes the transformer's layers anew.

    Returns:
      `apply`: (params, observations (B, W, S), noisy actions (B, H, A), angles (B,) in [0, pi/2]) ->
      (B, H, A) float32, of the meaning that the loss gives it.

    Raises:
      InputError: an unknown size, a width that does not divide into heads.

    >>> import jax
    >>> policy = readout_policy((2, 14), (4, 7), "tiny")
    >>> params = jax.eval_shape(policy.init, jax.random.key(0))  # or the parameters: policy.init(key)
    >>> given = jnp.zeros((3, 2, 14)), jnp.zeros((3, 4, 7)), jnp.zeros(3)
    >>> jax.eval_shape(policy.apply, params, *given).shape
    (3, 4, 7)
    """
    made = size_of(size, SIZES)
    require_heads(made.width, made.heads)
    module = Readout(made, dtype, param_dtype, remat)
    return as_conditioned(module, observation_shape, action_shape)
