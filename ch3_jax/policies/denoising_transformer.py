r"""Diffusion Policy's transformer: the noisy actions ask the observations, step by step.

  condition   c = W_2 mish(W_1 [wave(\tau), E o_1, .. E o_W] + places)      1 + W tokens
  actions     h = F x + places                                              H tokens
  a layer     h <- h + attention(ln(h), ln(h); steps up to its own)
              h <- h + attention(ln(h), c; the time, and observations up to its own step)
              h <- h + W_4 gelu(W_3 ln(h))
  answer      f(o, x, \theta) = G ln(h)

Each W_i, E, F and G with its bias. Nothing flows backwards in time: step t of the answer is made of steps 0
to t of the noisy actions, of the level, and of the observations that were there at step t. Which those are is
a matter of where the chunk begins. In Diffusion Policy it begins at the *oldest* observation, so token s of
the condition, of which token 0 is the time, is seen where t >= s - 1: by step 0 the first observation, by
step 1 the first two. Where a chunk begins at the newest instead, as in `ch3_jax.data.windows`, that rule
would hide the present from the first W - 1 actions; `first = W - 1` moves it, t + first >= s - 1, and all is
seen.

The level comes as an angle in [0, pi/2], 0 clean and pi/2 pure noise, because every noise process has one.
It is turned into \tau = 100 \theta / (\pi / 2), which stands in for the number of the step in the original,
whose process has 100 of them: the waves are made for numbers of that size.

Where this is not the original: no dropout (there 0.01 of the embeddings, 0.3 in the layers), and the matrices
start as Xavier's and LeCun's instead of at a deviation of 0.02.

Reference: Chi et al. 2023, arXiv:2303.04137 (its TransformerForDiffusion without layers for the condition: 8
layers of width 256 with 4 heads, a horizon of 10).
"""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array
from ch3_jax.policies.conditioned import as_conditioned, step_of
from ch3_jax.policies.layers import (
    SMALL_NORMAL,
    Attention,
    Feedforward,
    causal,
    require_heads,
    sinusoidal,
    size_of,
)
from ch3_jax.policies.policy import Conditioned

_EPSILON = 1e-5  # of PyTorch's norm


class Size(NamedTuple):
    """Width D, layers and heads; the layers between are four times as wide."""

    width: int
    depth: int
    heads: int


SIZES = {"tiny": Size(32, 1, 2), "small": Size(128, 4, 4), "paper": Size(256, 8, 4)}


def already_seen(horizon: int, window: int, first: int = 0) -> np.ndarray:
    """(H, 1 + W) bool: a step of the actions may look at the time and at what has been observed by then.

    Args:
      horizon: H.
      window: W.
      first: which of the W observations belongs to the first action; 0 in Diffusion Policy.

    >>> already_seen(3, 2).astype(int).tolist()
    [[1, 1, 0], [1, 1, 1], [1, 1, 1]]
    """
    return np.arange(horizon)[:, None] + first >= np.arange(1 + window)[None] - 1


class Layer(nn.Module):
    """A decoder layer, norms first.

    Attributes:
      heads: of both attentions.
      dtype, param_dtype: of the computation and of the parameters.
    """

    heads: int
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, condition: Array, among: Array, beyond: Array) -> Array:
        """(B, H, D), (B, M, D), masks (H, H) and (H, M) -> (B, H, D)."""
        kind = {"dtype": self.dtype, "param_dtype": self.param_dtype}

        def norm(name: str) -> nn.LayerNorm:
            return nn.LayerNorm(_EPSILON, name=name, **kind)

        seen = norm("norm_1")(x)
        x = x + Attention(self.heads, name="among", **kind)(seen, seen, among)
        x = x + Attention(self.heads, name="beyond", **kind)(norm("norm_2")(x), condition, beyond)
        exact = functools.partial(nn.gelu, approximate=False)
        return x + Feedforward(4 * x.shape[-1], exact, name="feedforward", **kind)(norm("norm_3")(x))


class DenoisingTransformer(nn.Module):
    """Observations (B, W, S), noisy actions (B, H, A), angles (B,) -> (B, H, A), float32.

    Attributes:
      size: of the layers.
      first: which observation belongs to the first action.
      dtype, param_dtype: of the computation and of the parameters.
      remat: whether the backward pass computes the layers anew instead of keeping them.
    """

    size: Size
    first: int = 0
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, observation: Array, x: Array, angle: Array) -> Array:
        kind = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        width, (_, window, _), (_, horizon, _) = self.size.width, observation.shape, x.shape

        def placed(tokens: Array, name: str) -> Array:
            place = self.param(name, SMALL_NORMAL, tokens.shape[1:], self.param_dtype)
            return tokens + place[None].astype(self.dtype)

        time = sinusoidal(step_of(angle), width)[:, None].astype(self.dtype)
        seen = nn.Dense(width, name="observation", **kind)(observation)
        condition = placed(jnp.concatenate([time, seen], axis=1), "place_condition")
        condition = Feedforward(4 * width, jax.nn.mish, name="condition", **kind)(condition)
        h = placed(nn.Dense(width, name="action", **kind)(x), "place_action")
        among, beyond = causal(horizon), already_seen(horizon, window, self.first)
        layer = nn.remat(Layer) if self.remat else Layer
        for index in range(self.size.depth):
            h = layer(self.size.heads, name=f"layer_{index}", **kind)(h, condition, among, beyond)
        h = nn.LayerNorm(_EPSILON, name="norm", **kind)(h)
        return nn.Dense(x.shape[-1], name="head", **kind)(h).astype(jnp.float32)


def denoising_transformer(
    observation_shape: tuple[int, int],
    action_shape: tuple[int, int],
    size: str | Size = "small",
    *,
    first: int = 0,
    dtype=jnp.float32,
    param_dtype=jnp.float32,
    remat: bool = False,
) -> Conditioned:
    """Diffusion Policy's transformer as pure functions.

    Args:
      observation_shape: (W, S).
      action_shape: (H, A).
      size: a name in `SIZES`, or a `Size`.
      first: which of the W observations belongs to the first action: 0, the oldest, as in Diffusion Policy;
        W - 1, the newest, for chunks that begin there, whose every step may then look at all of them.
      dtype, param_dtype: of the computation and of the parameters.
      remat: whether the backward pass computes the layers anew.

    Returns:
      `apply`: (params, observations (B, W, S), noisy actions (B, H, A), angles (B,) in [0, pi/2]) ->
      (B, H, A) float32, of the meaning that the loss gives it.

    Raises:
      InputError: an unknown size, a width that does not divide into heads.

    >>> policy = denoising_transformer((2, 14), (4, 7), "tiny")
    >>> params = jax.eval_shape(policy.init, jax.random.key(0))  # or the parameters: policy.init(key)
    >>> given = jnp.zeros((3, 2, 14)), jnp.zeros((3, 4, 7)), jnp.zeros(3)
    >>> jax.eval_shape(policy.apply, params, *given).shape
    (3, 4, 7)
    """
    made = size_of(size, SIZES)
    require_heads(made.width, made.heads)
    module = DenoisingTransformer(made, first, dtype, param_dtype, remat)
    return as_conditioned(module, observation_shape, action_shape)
