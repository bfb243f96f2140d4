r"""A conditional autoencoder: the encoder sees the action, the decoder only what the encoder lets through.

encoder   (o, a) -> mean, log std of z in R^Z      used in training alone
decoder   (o, z) -> a                              acts, with z = 0 or z ~ N(0, I)
"""

import math

import flax.linen as nn
import jax.numpy as jnp

from ch3_jax.base import Array, Params
from ch3_jax.policies.policy import Conditioned


class _Layers(nn.Module):
    """Two ReLU layers and a linear one over everything that is given, flattened; float32 out."""

    outputs: int
    width: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, *inputs: Array) -> Array:
        init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")

        def dense(features: int, name: str) -> nn.Dense:
            return nn.Dense(features, dtype=self.dtype, kernel_init=init, name=name)

        x = jnp.concatenate([jnp.reshape(part, (part.shape[0], -1)) for part in inputs], axis=-1)
        x = nn.relu(dense(self.width, "hidden_1")(x))
        x = nn.relu(dense(self.width, "hidden_2")(x))
        return dense(self.outputs, "head")(x).astype(jnp.float32)


def latent_policy(
    observation_shape: tuple[int, int],
    action_shape: tuple[int, int],
    latent: int,
    width: int = 256,
    dtype=jnp.float32,
) -> tuple[Conditioned, Conditioned]:
    """Encoder and decoder as pure functions; each with parameters of its own.

    Args:
      observation_shape: (W, S).
      action_shape: (H, A).
      latent: Z.
      width: of the hidden layers.
      dtype: of the computation.

    Returns:
      The encoder, (params, observation, action (B, H, A), mask (B, H)) -> (B, 2, Z), the mean and the log std
      of z; and the decoder, (params, observation, z (B, Z)) -> (B, H, A).

    >>> import jax
    >>> encoder, decoder = latent_policy((1, 3), (2, 2), latent=4, width=8)
    >>> o, a, mask = jnp.zeros((5, 1, 3)), jnp.zeros((5, 2, 2)), jnp.ones((5, 2), bool)
    >>> z = encoder.apply(encoder.init(jax.random.key(0)), o, a, mask)[:, 0]
    >>> decoder.apply(decoder.init(jax.random.key(1)), o, z).shape
    (5, 2, 2)
    """
    encoder, decoder = _Layers(2 * latent, width, dtype), _Layers(math.prod(action_shape), width, dtype)
    seen, done = jnp.zeros((1, *observation_shape)), jnp.zeros((1, *action_shape))
    valid, z = jnp.zeros((1, action_shape[0])), jnp.zeros((1, latent))

    def encode(params: Params, observation: Array, action: Array, mask: Array) -> Array:
        mask = mask.astype(action.dtype)
        # What stands behind the end of an episode must not reach the latent.
        action = jnp.where(mask[..., None] > 0, action, 0)
        return jnp.reshape(encoder.apply({"params": params}, observation, action, mask), (-1, 2, latent))

    def decode(params: Params, observation: Array, z: Array) -> Array:
        return jnp.reshape(decoder.apply({"params": params}, observation, z), (-1, *action_shape))

    return (
        Conditioned(lambda key: encoder.init(key, seen, done, valid)["params"], encode),
        Conditioned(lambda key: decoder.init(key, seen, z)["params"], decode),
    )
