r"""Diffusion Policy's network: a U-Net along the steps of a chunk, told by FiLM what was seen.

  block(x, c)  = r(x) + conv_2( (1 + \gamma(c)) conv_1(x) + \beta(c) ),    conv: taps, group norm, Mish
  down         two blocks, then every other step;   middle: two blocks;   up: two blocks, then twice the steps

The condition c is the level of the noise and all observations, flattened. A convolution along time knows that
neighbouring actions are alike wherever they stand in the chunk, which an MLP has to learn place by place; it
sees nothing outside of the chunk, so the two ends are padded with zeros.

Where this is not the original: the level enters as its angle on a scale of 100, where the original has the
number of the step in 100; \gamma is counted from 1, which is the same function. What the finest depth
keeps for the way up is not used, as there.

Convolutions are written as one matrix product over shifted copies, several times faster on a CPU at these
lengths than a convolution.

Reference: Chi et al. 2023, arXiv:2303.04137, section 3; sizes of its low-dimensional configuration.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ch3_jax.base import Array
from ch3_jax.errors import InputError
from ch3_jax.policies.conditioned import as_conditioned, step_of
from ch3_jax.policies.layers import TORCH_UNIFORM, Film, sinusoidal, size_of


class Size(NamedTuple):
    """Channels of each depth, width of the level's embedding, taps of a convolution, groups of a norm."""

    channels: tuple[int, ...]
    level: int
    taps: int = 5
    groups: int = 8


SIZES = {
    "tiny": Size((16, 32), 16, 3, 4),
    "small": Size((64, 128, 256), 64),
    "paper": Size((256, 512, 1024), 256),
}


class Convolution(nn.Module):
    """(B, T, C) -> (B, T', features) along T, padded with zeros.

    Attributes:
      features: of the output.
      taps: odd.
      stride: 1 keeps T, 2 halves it.
      dtype, param_dtype: of the computation and of the parameters.
    """

    features: int
    taps: int
    stride: int = 1
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        side = self.taps // 2
        padded = jnp.pad(x, ((0, 0), (side, side), (0, 0)))
        count = (x.shape[1] - 1) // self.stride + 1
        last = self.stride * (count - 1) + 1
        shifted = [padded[:, i : i + last : self.stride] for i in range(self.taps)]
        dense = nn.Dense(
            self.features, dtype=self.dtype, param_dtype=self.param_dtype,
            kernel_init=TORCH_UNIFORM, name="taps",
        )  # fmt: skip
        return dense(jnp.concatenate(shifted, axis=-1))


class Twice(nn.Module):
    """(B, T, C) -> (B, 2 T, C): a transposed convolution of four taps, stride 2.

    Even steps come from a step and the one before it, odd ones from a step and the one after it.

    Attributes:
      dtype, param_dtype: of the computation and of the parameters.
    """

    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        batch, time, channels = x.shape
        kind = {"dtype": self.dtype, "param_dtype": self.param_dtype, "kernel_init": TORCH_UNIFORM}
        before = jnp.pad(x, ((0, 0), (1, 0), (0, 0)))[:, :-1]
        after = jnp.pad(x, ((0, 0), (0, 1), (0, 0)))[:, 1:]
        even = nn.Dense(channels, use_bias=False, name="even", **kind)(jnp.concatenate([before, x], -1))
        odd = nn.Dense(channels, use_bias=False, name="odd", **kind)(jnp.concatenate([x, after], -1))
        bias = self.param("bias", nn.initializers.zeros, (channels,), self.param_dtype).astype(self.dtype)
        both = jnp.stack([even, odd], axis=2) + bias[None, None, None]
        return jnp.reshape(both, (batch, 2 * time, channels))


class Block(nn.Module):
    """Two convolutions with a condition between them, and a way around.

    Attributes:
      features: of the output.
      size: taps and groups.
      dtype, param_dtype: of the computation and of the parameters.
    """

    features: int
    size: Size
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, condition: Array) -> Array:
        """(B, T, C), (B, D) -> (B, T, features)."""
        kind = {"dtype": self.dtype, "param_dtype": self.param_dtype}

        def convolved(x: Array, index: int) -> Array:
            x = Convolution(self.features, self.size.taps, name=f"conv_{index}", **kind)(x)
            return mish(nn.GroupNorm(self.size.groups, epsilon=1e-5, name=f"norm_{index}", **kind)(x))

        inner = Film(at_rest=False, name="film", **kind)(convolved(x, 1), mish(condition))
        around = x
        if x.shape[-1] != self.features:
            around = nn.Dense(self.features, kernel_init=TORCH_UNIFORM, name="around", **kind)(x)
        return convolved(inner, 2) + around


class UNet(nn.Module):
    """Observations (B, W, S), noisy actions (B, H, A), angles (B,) -> (B, H, A), float32.

    Attributes:
      size: of the layers.
      dtype, param_dtype: of the computation and of the parameters.
      remat: whether the backward pass computes the blocks anew instead of keeping them.
    """

    size: Size
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, observation: Array, x: Array, angle: Array) -> Array:
        kind = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        made = nn.remat(Block) if self.remat else Block
        channels, level = self.size.channels, self.size.level

        def block(x: Array, features: int, name: str) -> Array:
            return made(features, self.size, name=name, **kind)(x, condition)

        def dense(features: int, name: str) -> nn.Dense:
            return nn.Dense(features, kernel_init=TORCH_UNIFORM, name=name, **kind)

        waves = sinusoidal(step_of(angle), level)
        told = dense(level, "level_2")(mish(dense(4 * level, "level_1")(waves)))
        seen = jnp.reshape(observation, (len(observation), -1)).astype(told.dtype)
        condition = jnp.concatenate([told, seen], axis=-1)
        actions = x.shape[-1]
        kept = []
        for depth, features in enumerate(channels):
            x = block(x, features, f"down_{depth}_1")
            x = block(x, features, f"down_{depth}_2")
            kept.append(x)
            if depth < len(channels) - 1:
                x = Convolution(features, 3, 2, name=f"half_{depth}", **kind)(x)
        x = block(x, channels[-1], "middle_1")
        x = block(x, channels[-1], "middle_2")
        for depth in range(len(channels) - 1, 0, -1):
            x = jnp.concatenate([x, kept[depth]], axis=-1)
            x = block(x, channels[depth - 1], f"up_{depth}_1")
            x = block(x, channels[depth - 1], f"up_{depth}_2")
            x = Twice(name=f"twice_{depth}", **kind)(x)
        x = Convolution(channels[0], self.size.taps, name="last_conv", **kind)(x)
        x = mish(nn.GroupNorm(self.size.groups, epsilon=1e-5, name="last_norm", **kind)(x))
        return dense(actions, "head")(x).astype(jnp.float32)


def mish(x: Array) -> Array:
    r"""x \tanh(\ln(1 + e^x)), elementwise.

    >>> round(float(mish(jnp.array(1.0))), 4)
    0.8651
    """
    return x * jnp.tanh(jax.nn.softplus(x))


def unet(
    observation_shape: tuple[int, int],
    action_shape: tuple[int, int],
    size: str | Size = "small",
    *,
    dtype=jnp.float32,
    param_dtype=jnp.float32,
    remat: bool = False,
):
    """The U-Net as pure functions, a `Conditioned`.

    Args:
      observation_shape: (W, S).
      action_shape: (H, A); H a multiple of 2 for each depth after the first, so 4 for three of them.
      size: a name in `SIZES`, or a `Size`.
      dtype, param_dtype: of the computation and of the parameters.
      remat: whether the backward pass computes the blocks anew.

    Raises:
      InputError: an unknown size, a chunk that cannot be halved as often, channels without equal groups.

    >>> policy = unet((2, 5), (16, 2), "paper")
    >>> sum(x.size for x in jax.tree.leaves(jax.eval_shape(policy.init, jax.random.key(0))))
    65353218
    """
    made = size_of(size, SIZES)
    halved = 2 ** (len(made.channels) - 1)
    if action_shape[0] % halved:
        raise InputError(
            "the chunk cannot be halved as often as the U-Net is deep",
            got=f"--horizon={action_shape[0]}",
            expected=f"a multiple of {halved}",
            cause=f"{len(made.channels)} depths, each with half the steps of the one above",
            fix=f"--horizon={-(-action_shape[0] // halved) * halved}",
        )
    if bad := [c for c in made.channels if c % made.groups]:
        raise InputError(
            "the channels do not divide into the groups of their norm",
            got=f"{bad[0]} channels, {made.groups} groups",
            expected=f"multiples of {made.groups}",
            cause="every group takes an equal share",
            fix=f"{-(-bad[0] // made.groups) * made.groups} channels",
        )
    return as_conditioned(UNet(made, dtype, param_dtype, remat), observation_shape, action_shape)
