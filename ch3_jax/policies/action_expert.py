r"""pi0's two experts: what is seen and what is done are tokens of one attention, with weights of their own.

  tokens    [ o_1 .. o_W | state | a_1 .. a_H ]      blocks 0, 1, 2: each sees itself and those before
  a layer   x <- x + W_o attention(q, k, v),   x <- x + W_3 (gelu(W_1 n(x)) * W_2 n(x)),   n an RMS norm

q, k and v of the first block are made by the first expert's weights, those of the others by the second's, and
then all attend together. What was seen never looks at an action, so its keys and values are the same at every
denoising step. All heads share one key and one value; places are rotations. The time enters each action's
token through a small network (pi0), or scales, shifts and gates every norm of the second expert, which then
has no token for the state (pi0.5, `adaptive`).

Where this is not the original: each observation is one token through a linear layer, where pi0 has the
patches of images and the words of a prompt through PaliGemma; the time is the share of noise s / (a + s),
which for a flow is openpi's t itself; the action comes scaled to unit variance.

References: Black et al. 2024, arXiv:2410.24164 (pi0); Physical Intelligence 2025, arXiv:2504.16054 (pi0.5).
Sizes: Gemma's, 18 layers, of width 2048 with 16384 for what is seen and 1024 with 4096 for what is done.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array
from ch3_jax.errors import InputError
from ch3_jax.policies.conditioned import as_conditioned
from ch3_jax.policies.layers import AdaptiveNorm, by_blocks, rotate, sinusoidal, size_of
from ch3_jax.policies.policy import Conditioned

_SHORTEST, _LONGEST = 4e-3, 4.0  # periods of the time, as in openpi


class Size(NamedTuple):
    """Widths of what is seen and done, and of their gated layers; layers; heads and the width of each."""

    seen: int
    done: int
    seen_hidden: int
    done_hidden: int
    depth: int
    heads: int
    head: int


SIZES = {
    "tiny": Size(32, 32, 64, 64, 1, 2, 16),
    "small": Size(128, 128, 256, 256, 4, 4, 32),
    "paper": Size(2048, 1024, 16384, 4096, 18, 8, 256),
}


def blocks(window: int, horizon: int, state: bool = True) -> np.ndarray:
    """The block of each token: 0 for what is seen, 1 for the state, 2 for actions.

    >>> blocks(2, 3).tolist()
    [0, 0, 1, 2, 2, 2]
    """
    return np.array([0] * window + [1] * state + [2] * horizon)


class JointLayer(nn.Module):
    """One layer of both experts.

    Attributes:
      size: of the layer.
      adaptive: whether the second expert's norms are the time's.
      dtype, param_dtype: of the computation and of the parameters.
    """

    size: Size
    adaptive: bool = False
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, seen: Array, done: Array, time: Array, mask: np.ndarray) -> tuple[Array, Array]:
        """(B, W, D_seen), (B, M, D_done), (B, D_done), (W + M, W + M) -> both, updated."""
        kind = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        window, (heads, head) = seen.shape[1], (self.size.heads, self.size.head)

        def dense(features: int, name: str) -> nn.Dense:
            return nn.Dense(features, use_bias=False, name=name, **kind)

        def norm(x: Array, name: str) -> tuple[Array, Array | float]:
            if self.adaptive and name.startswith("done"):
                return AdaptiveNorm(name=name, **kind)(x, time)
            return nn.RMSNorm(1e-6, name=name, **kind)(x), 1.0

        sides = {"seen": seen, "done": done}
        gates, parts = {}, {"query": [], "key": [], "value": []}
        for side, x in sides.items():
            normed, gates[side] = norm(x, f"{side}_norm_1")
            for what, count in (("query", heads), ("key", 1), ("value", 1)):
                made = dense(count * head, f"{side}_{what}")(normed)
                parts[what].append(jnp.reshape(made, (*made.shape[:2], count, head)))
        query, key, value = (jnp.concatenate(part, axis=1) for part in parts.values())
        place = jnp.arange(query.shape[1])
        heard = jax.nn.dot_product_attention(
            rotate(query, place), rotate(key, place), value, mask=jnp.asarray(mask)[None, None]
        )
        heard = jnp.reshape(heard, (*heard.shape[:2], heads * head))
        shares = {"seen": heard[:, :window], "done": heard[:, window:]}
        hidden = {"seen": self.size.seen_hidden, "done": self.size.done_hidden}
        for side, x in sides.items():
            x = x + gates[side] * dense(x.shape[-1], f"{side}_out")(shares[side])
            normed, gate = norm(x, f"{side}_norm_2")
            inner = nn.gelu(dense(hidden[side], f"{side}_gate")(normed))
            inner = inner * dense(hidden[side], f"{side}_up")(normed)
            sides[side] = x + gate * dense(x.shape[-1], f"{side}_down")(inner)
        return sides["seen"], sides["done"]


class ActionExpert(nn.Module):
    """Observations (B, W, S), noisy actions (B, H, A), angles (B,) -> (B, H, A), float32.

    Attributes:
      size: of the layers.
      adaptive: pi0.5's way of telling the time, see above.
      dtype, param_dtype: of the computation and of the parameters.
      remat: whether the backward pass computes the layers anew instead of keeping them.
    """

    size: Size
    adaptive: bool = False
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, observation: Array, x: Array, angle: Array) -> Array:
        kind = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        width, horizon = self.size.done, x.shape[1]

        def dense(features: int, name: str) -> nn.Dense:
            return nn.Dense(features, name=name, **kind)

        share = jnp.sin(angle) / (jnp.sin(angle) + jnp.cos(angle))
        waves = sinusoidal(share, width, shortest=_SHORTEST, longest=_LONGEST).astype(self.dtype)
        seen = dense(self.size.seen, "observation_in")(observation)
        done = dense(width, "action_in")(x)
        if self.adaptive:
            time = nn.swish(dense(width, "time_out")(nn.swish(dense(width, "time_in")(waves))))
        else:
            time = waves
            beside = jnp.broadcast_to(waves[:, None], done.shape)
            done = nn.swish(dense(width, "action_time_in")(jnp.concatenate([done, beside], -1)))
            done = dense(width, "action_time_out")(done)
            state = dense(width, "state_in")(observation[:, -1:])
            done = jnp.concatenate([state, done], axis=1)
        mask = by_blocks(blocks(observation.shape[1], horizon, not self.adaptive))
        layer = nn.remat(JointLayer) if self.remat else JointLayer
        for index in range(self.size.depth):
            seen, done = layer(self.size, self.adaptive, name=f"layer_{index}", **kind)(
                seen, done, time, mask
            )
        if self.adaptive:
            done, _ = AdaptiveNorm(name="norm", **kind)(done, time)
        else:
            done = nn.RMSNorm(1e-6, name="norm", **kind)(done)
        return dense(x.shape[-1], "action_out")(done[:, -horizon:]).astype(jnp.float32)


def action_expert(
    observation_shape: tuple[int, int],
    action_shape: tuple[int, int],
    size: str | Size = "small",
    *,
    adaptive: bool = False,
    dtype=jnp.float32,
    param_dtype=jnp.float32,
    remat: bool = False,
) -> Conditioned:
    """pi0's network as pure functions.

    Args:
      observation_shape: (W, S).
      action_shape: (H, A); 50 and 32 in pi0.
      size: a name in `SIZES`, or a `Size`.
      adaptive: the time by adaptive norms, as in pi0.5.
      dtype, param_dtype: of the computation and of the parameters.
      remat: whether the backward pass computes the layers anew.

    Raises:
      InputError: an unknown size, a head or a time of odd width.

    >>> policy = action_expert((2, 14), (4, 7), "tiny")
    >>> given = jnp.zeros((3, 2, 14)), jnp.zeros((3, 4, 7)), jnp.zeros(3)
    >>> jax.eval_shape(policy.apply, jax.eval_shape(policy.init, jax.random.key(0)), *given).shape
    (3, 4, 7)
    """
    made = size_of(size, SIZES)
    if made.head % 2 or made.done % 2:
        raise InputError(
            "a width is odd",
            got=f"heads of {made.head}, actions' tokens of {made.done}",
            expected="even numbers",
            cause="places turn numbers in pairs, and a time has a sine for each cosine",
            fix=f"{made.head + made.head % 2} and {made.done + made.done % 2}",
        )
    module = ActionExpert(made, adaptive, dtype, param_dtype, remat)
    return as_conditioned(module, observation_shape, action_shape)
