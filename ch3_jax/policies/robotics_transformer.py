r"""Actions as bins, all at once: RT-1's transformer, in which no token can see an action.

  p(a | o_1 .. o_W) = \prod_{j=1}^{HA} p(bin of number j | o_1 .. o_W)

Each observation becomes tokens, which TokenLearner squeezes into a few: one map for each, a softmax over the
tokens t_i, says how much of every token it takes,

  s_l = \sum_i \alpha_{li} t_i,    \alpha_l = softmax_i (W_2 gelu(W_1 norm(t_i)))_l

Behind the tokens of each observation stand HA places for its actions. Blocks are normed in front, with one
linear layer where others have two and a ReLU; places are learned; the norm in front of the head is missing:

  x <- x + attention(norm(x)),    x <- x + W norm(x)

A token looks at itself and at the observations' tokens to its left. Action places carry nothing but their
place (the original embeds the actions, then multiplies by zero) and nobody looks at them, so that no number
can depend on another: given the observations they are independent, and one pass gives them all. RT-1's code
still calls the network once for every number when it acts, and each call gives what the first already gave.
The scores of a number are read one place to the left of its own, as of a next token: the first at the last
token of its observation, the last at the last place but one, and what comes out of the last place is never
read.

Where this is not RT-1: the S numbers of an observation are S tokens, each its value times a learned direction
plus a learned embedding (there: 81 places of an image through EfficientNet-B3, turned by the instruction); an
action place looks at itself (there it does not), and tokens of observations do not look at the action places
to their left (there they do, and find zeros and a place); no dropout (there 0.1).

References: Brohan et al. 2022, arXiv:2212.06817 (RT-1; a transformer of 19M parameters, TokenLearner of 34K),
and its code; Ryoo et al. 2021, arXiv:2106.11297 (TokenLearner).
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array
from ch3_jax.errors import InputError
from ch3_jax.policies.layers import SMALL_NORMAL, causal, size_of
from ch3_jax.policies.policy import Policy

_EPSILON = 1e-6  # of RT-1's norms
_BOTTLENECK = 64  # of TokenLearner


class Size(NamedTuple):
    """Width of the tokens, layers, heads, width of each head, width D of the layers, tokens learned."""

    width: int
    depth: int
    heads: int
    key_width: int
    hidden: int
    learned: int


SIZES = {
    "tiny": Size(32, 1, 2, 16, 32, 4),
    "small": Size(128, 4, 4, 32, 128, 8),
    "paper": Size(512, 8, 8, 128, 512, 8),
}


def visible(window: int, learned: int, actions: int) -> np.ndarray:
    """Who may look at whom: rows at themselves and at observations' tokens to their left.

    Args:
      window: W, observations.
      learned: tokens of each.
      actions: H A, places behind each observation.

    Returns:
      (N, N) bool, N = W (learned + H A).

    >>> visible(2, 1, 1).astype(int).tolist()
    [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 1]]
    """
    seen = np.tile(np.arange(learned + actions) < learned, window)
    return (causal(len(seen)) & seen[None]) | np.eye(len(seen), dtype=bool)


class TokenLearner(nn.Module):
    """Many tokens -> a few, each an average of the many with weights that depend on them.

    Attributes:
      learned: how many.
      dtype, param_dtype: of the computation and of the parameters.
    """

    learned: int
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, tokens: Array) -> tuple[Array, Array]:
        """(..., M, D) -> (..., learned, D) and the maps (..., learned, M) float32, which sum to 1."""
        kind = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        inner = nn.LayerNorm(_EPSILON, name="norm", **kind)(tokens)
        inner = nn.gelu(nn.Dense(_BOTTLENECK, name="in", **kind)(inner))
        scores = nn.Dense(self.learned, name="out", **kind)(inner).astype(jnp.float32)
        maps = jnp.swapaxes(jax.nn.softmax(scores, axis=-2), -1, -2)
        return maps.astype(self.dtype) @ tokens.astype(self.dtype), maps


class Block(nn.Module):
    """One of RT-1's layers.

    Attributes:
      size: of the layer.
      dtype, param_dtype: of the computation and of the parameters.
    """

    size: Size
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> Array:
        """(B, N, D), (N, N) bool -> (B, N, D)."""
        kind, width = {"dtype": self.dtype, "param_dtype": self.param_dtype}, x.shape[-1]
        seen = nn.LayerNorm(_EPSILON, name="norm_1", **kind)(x)
        x = x + nn.MultiHeadDotProductAttention(
            self.size.heads,
            qkv_features=self.size.heads * self.size.key_width,
            out_features=width,
            kernel_init=nn.initializers.xavier_uniform(),
            force_fp32_for_softmax=True,
            name="attention",
            **kind,
        )(seen, mask=mask[None, None])
        return x + nn.Dense(width, name="linear", **kind)(nn.LayerNorm(_EPSILON, name="norm_2", **kind)(x))


class RoboticsTransformer(nn.Module):
    """A window of observations -> scores of the bins behind each of them.

    Attributes:
      size: of the layers.
      outputs: (H, A, K).
      dtype, param_dtype: of the computation and of the parameters.
      remat: whether the backward pass computes the layers anew instead of keeping them.
    """

    size: Size
    outputs: tuple[int, int, int]
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, observation: Array) -> Array:
        """(B, W, S) -> (B, W, H, A, K) float32; what stands at w has seen observations 1 to w alone."""
        kind = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        (batch, window, numbers), size = observation.shape, self.size
        actions, learned = self.outputs[0] * self.outputs[1], min(size.learned, numbers)

        def table(name: str, init: object, *shape: int) -> Array:
            return self.param(name, init, shape, self.param_dtype).astype(self.dtype)

        direction = table("direction", nn.initializers.normal(1.0), numbers, size.width)
        embedding = table("embedding", SMALL_NORMAL, numbers, size.width)
        value = observation.astype(self.dtype)[..., None]
        tokens = value * direction[None, None] + embedding[None, None]
        few, _ = TokenLearner(learned, name="token_learner", **kind)(tokens)
        nothing = jnp.zeros((batch, window, actions, size.width), self.dtype)
        x = jnp.reshape(jnp.concatenate([few, nothing], axis=2), (batch, -1, size.width))
        x = nn.Dense(size.hidden, name="token", **kind)(x)
        x = x + table("place", SMALL_NORMAL, x.shape[1], size.hidden)[None]
        mask = jnp.asarray(visible(window, learned, actions))
        block = nn.remat(Block) if self.remat else Block
        for i in range(size.depth):
            x = block(size, name=f"layer_{i}", **kind)(x, mask)
        # A number's scores stand one place to the left of its own.
        x = jnp.reshape(x, (batch, window, learned + actions, -1))[:, :, learned - 1 : -1]
        logits = nn.Dense(self.outputs[2], name="head", **kind)(x).astype(jnp.float32)
        return jnp.reshape(logits, (batch, window, *self.outputs))


def robotics_transformer(
    observation_shape: tuple[int, int],
    outputs: tuple[int, int, int],
    size: str | Size = "small",
    *,
    dtype=jnp.float32,
    param_dtype=jnp.float32,
    remat: bool = False,
) -> Policy:
    """RT-1's transformer as pure functions.

    Args:
      observation_shape: (W, S); W is 6 in RT-1.
      outputs: (H, A, K); 1, 11 and 256 in RT-1.
      size: a name in `SIZES`, or a `Size`.
      dtype, param_dtype: of the computation and of the parameters.
      remat: whether the backward pass computes the layers anew.

    Returns:
      init: key -> params; apply: (params, observation (B, W, S)) -> logits (B, H, A, K) float32, those behind
      the last observation.

    Raises:
      InputError: an unknown size, a number in it that is not positive.

    >>> policy = robotics_transformer((2, 3), (1, 2, 5), Size(8, 1, 2, 4, 8, 2))
    >>> params = jax.eval_shape(policy.init, jax.random.key(0))  # or the parameters: policy.init(key)
    >>> jax.eval_shape(policy.apply, params, jnp.zeros((4, 2, 3))).shape
    (4, 1, 2, 5)
    """
    made = size_of(size, SIZES)
    if min(made) < 1:
        raise InputError(
            "A number in a network's size is not positive.",
            got=str(made),
            expected="at least 1 of everything",
            cause="a size of no layers, heads, widths or learned tokens",
            fix='"small" trains on two cores, "paper" is the published size',
        )
    module = RoboticsTransformer(made, tuple(outputs), dtype, param_dtype, remat)
    example = jnp.zeros((1, *observation_shape))
    return Policy(
        init=lambda key: module.init(key, example)["params"],
        apply=lambda params, observation: module.apply({"params": params}, observation)[:, -1],
    )
