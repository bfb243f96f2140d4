r"""Layers that several networks share: attention, conditioning, tables of places and of time.

  attention   softmax(q k^T / \sqrt d + mask) v        who may look at whom is the caller's mask
  FiLM        (1 + \gamma(c)) x + \beta(c)             a condition scales and shifts channels
  adaptive    (1 + \gamma(c)) norm(x) + \beta(c)       the same behind a norm, with a gate (AdaLN)
  sinusoidal  sin, cos of 2 \pi t / period             periods in a geometric row

References: Vaswani et al. 2017, arXiv:1706.03762; Perez et al. 2018, arXiv:1709.07871 (FiLM); Peebles and Xie
2023, arXiv:2212.09748 (AdaLN); Su et al. 2021, arXiv:2104.09864 (rotation).
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array
from ch3_jax.errors import InputError

SMALL_NORMAL = nn.initializers.normal(0.02)
# torch.nn.Linear's own start.
TORCH_UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
LONGEST = 2 * math.pi * 10_000


def sinusoidal(
    position: Array, width: int, *, shortest: float = 2 * math.pi, longest: float = LONGEST
) -> Array:
    """Places or times as waves, sines first.

    Args:
      position: (N,), any number.
      width: D, even, at least 4.
      shortest, longest: periods; the defaults are those of Transformers and of Diffusion Policy's steps, 4e-3
        and 4 those of pi0's times in [0, 1].

    Returns:
      (N, D) float32.

    >>> [round(x, 4) for x in sinusoidal(jnp.array([1.0]), 4).ravel().tolist()]
    [0.8415, 0.0001, 0.5403, 1.0]
    """
    half = width // 2
    # In NumPy's double precision: the shortest of pi0's periods turns 250 times while t goes from 0 to 1.
    period = shortest * (longest / shortest) ** (np.arange(half) / (half - 1))
    angle = jnp.outer(position.astype(jnp.float32), jnp.asarray(2 * np.pi / period, jnp.float32))
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def rotate(x: Array, place: Array) -> Array:
    r"""Places as rotation: numbers i and i + d/2 of a head turn by place / 10000^{2 i / d}, in float32.

    Args:
      x: (B, N, heads, d), d even.
      place: (N,) integers.

    Returns:
      Shape and dtype of `x`; the product of two rotated vectors knows their distance alone.

    >>> [round(x, 4) for x in rotate(jnp.array([[[[1.0, 0.0]]]]), jnp.array([1])).ravel().tolist()]
    [0.5403, 0.8415]
    """
    half = x.shape[-1] // 2
    rate = 10_000.0 ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = jnp.outer(place.astype(jnp.float32), rate)[None, :, None]
    low, high = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1).astype(x.dtype)


def causal(count: int) -> np.ndarray:
    """(N, N) bool: row i may look at columns 0 to i.

    >>> causal(2).tolist()
    [[True, False], [True, True]]
    """
    return np.tril(np.ones((count, count), bool))


def by_blocks(blocks: np.ndarray) -> np.ndarray:
    """(N, N) bool: tokens see their own block and those before it.

    Args:
      blocks: (N,) integers, the block of each token.

    >>> by_blocks(np.array([0, 0, 1])).tolist()
    [[True, True, False], [True, True, False], [True, True, True]]
    """
    return blocks[:, None] >= blocks[None]


class Attention(nn.Module):
    """Many-headed attention of some tokens to others, or to themselves.

    Attributes:
      heads: that share the width.
      use_bias: whether the four projections have one.
      dtype, param_dtype: of the computation and of the parameters.
    """

    heads: int
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, memory: Array, mask: Array | np.ndarray | None = None) -> Array:
        """Queries from (B, N, D), keys and values from (B, M, D), mask (N, M) or (B, N, M) -> (B, N, D)."""
        width = x.shape[-1]

        def dense(name: str) -> nn.Dense:
            return nn.Dense(
                width, self.use_bias, self.dtype, self.param_dtype,
                kernel_init=nn.initializers.xavier_uniform(), name=name,
            )  # fmt: skip

        def split(name: str, seen: Array) -> Array:
            return jnp.reshape(dense(name)(seen), (*seen.shape[:2], self.heads, width // self.heads))

        allowed = None
        if mask is not None:
            allowed = jnp.asarray(mask)
            allowed = jnp.reshape(allowed, (1,) * (4 - allowed.ndim) + allowed.shape)
            if jnp.ndim(mask) == 3:
                allowed = jnp.asarray(mask)[:, None]
        heard = jax.nn.dot_product_attention(
            split("query", x), split("key", memory), split("value", memory), mask=allowed
        )
        return dense("out")(jnp.reshape(heard, (*x.shape[:2], width)))


class Feedforward(nn.Module):
    """(..., D) -> hidden -> (..., D), by ReLU or the function given.

    Attributes:
      hidden: width between.
      activation: elementwise.
      dtype, param_dtype: of the computation and of the parameters.
    """

    hidden: int
    activation: object = nn.relu
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kind = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        inner = self.activation(nn.Dense(self.hidden, name="in", **kind)(x))
        return nn.Dense(x.shape[-1], name="out", **kind)(inner)


class Film(nn.Module):
    """A condition scales and shifts the last axis.

    Attributes:
      at_rest: start as the identity, as in RT-1; without it like any other layer, as in Diffusion Policy.
      dtype, param_dtype: of the computation and of the parameters.
    """

    at_rest: bool = True
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, condition: Array) -> Array:
        """(B, ..., C), (B, D) -> (B, ..., C)."""
        start = nn.initializers.zeros if self.at_rest else nn.initializers.lecun_normal()
        both = nn.Dense(
            2 * x.shape[-1], dtype=self.dtype, param_dtype=self.param_dtype, kernel_init=start, name="both"
        )(condition)
        scale, shift = jnp.split(jnp.reshape(both, (len(x), *(1,) * (x.ndim - 2), -1)), 2, axis=-1)
        return (1 + scale) * x + shift


class AdaptiveNorm(nn.Module):
    """RMS norm whose scale, shift and gate are a condition's, as pi0.5's adaRMS.

    Starts as the bare norm behind a closed gate, so that a layer starts by letting its input pass by.

    Attributes:
      dtype, param_dtype: of the computation and of the parameters.
      epsilon: of the norm.
    """

    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Array, condition: Array) -> tuple[Array, Array]:
        """(B, N, D), (B, C) -> (B, N, D) and the gate (B, 1, D)."""
        bare = nn.RMSNorm(self.epsilon, self.dtype, self.param_dtype, use_scale=False, name="norm")(x)
        made = nn.Dense(
            3 * x.shape[-1], dtype=self.dtype, param_dtype=self.param_dtype,
            kernel_init=nn.initializers.zeros, name="all",
        )(condition)[:, None]  # fmt: skip
        scale, shift, gate = jnp.split(made, 3, axis=-1)
        return (1 + scale) * bare + shift, gate


def size_of(size, sizes):
    """The size of a name, or the size itself.

    Args:
      size: a key of `sizes`, or one of its values.
      sizes: name -> size.

    Raises:
      InputError: an unknown name.
    """
    if not isinstance(size, str):
        return size
    if size not in sizes:
        raise InputError(
            f"unknown size {size!r} of a network",
            got=size,
            expected="one of " + ", ".join(sizes),
            cause="a misspelt name",
            fix='"small" trains on two cores, "paper" is the published size',
        )
    return sizes[size]


def require_heads(width: int, heads: int, *, turned: bool = False) -> None:
    """Refuses a width that the heads cannot share.

    Args:
      width: D.
      heads: that share it.
      turned: whether places are rotations, which turn numbers in pairs.

    Raises:
      InputError: it does not divide.
    """
    each = 2 * heads if turned else heads
    if width % each:
        raise InputError(
            "The width does not divide into its heads.",
            got=f"width {width}, heads {heads}",
            expected="an even width for every head" if turned else "an equal width for every head",
            cause="each head takes an equal share" + (", and turns its numbers in pairs" if turned else ""),
            fix=f"choose a multiple of {each}",
        )
