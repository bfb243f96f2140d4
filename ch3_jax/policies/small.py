"""The chapter's SmallPolicy: two ReLU layers of 256 and one linear head per action dimension.

  h = relu(W2 relu(W1 o + b1) + b2),    head_j = V_j h + c_j    for j = 1..A

The heads are one projection D -> outputs, which is the same function as A separate layers and one
matrix product instead of A.
"""

import math

import flax.linen as nn
import jax.numpy as jnp

from ch3_jax.base import Array
from ch3_jax.policies.policy import Policy


class SmallPolicy(nn.Module):
    """Observations (B, W, S) -> (B, *outputs), float32.

    Attributes:
      outputs: trailing shape of the prediction: (H, A, K) for logits over bins, (H, A) for actions.
      width: of the two hidden layers.
      dtype: of the computation; parameters stay float32.
    """

    outputs: tuple[int, ...]
    width: int = 256
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, observation: Array) -> Array:
        # torch.nn.Linear's own initialisation, so that the chapter's loop and this one start alike.
        init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")

        def dense(features: int, name: str) -> nn.Dense:
            return nn.Dense(features, dtype=self.dtype, kernel_init=init, name=name)

        x = jnp.reshape(observation, (observation.shape[0], -1))
        x = nn.relu(dense(self.width, "hidden_1")(x))
        x = nn.relu(dense(self.width, "hidden_2")(x))
        x = dense(math.prod(self.outputs), "heads")(x)
        return jnp.reshape(x, (x.shape[0], *self.outputs)).astype(jnp.float32)


def small_policy(
    observation_shape: tuple[int, int], outputs: tuple[int, ...], width: int = 256, dtype=jnp.float32
) -> Policy:
    """SmallPolicy as pure functions.

    Args:
      observation_shape: (W, S).
      outputs: trailing shape of the prediction.
      width: of the hidden layers.
      dtype: of the computation.

    Returns:
      A `Policy`; 64 observations, 7 actions and 256 bins make 542,976 parameters.

    >>> import jax
    >>> policy = small_policy((1, 64), (1, 7, 256))
    >>> sum(x.size for x in jax.tree.leaves(jax.eval_shape(policy.init, jax.random.key(0))))
    542976
    """
    module = SmallPolicy(outputs=outputs, width=width, dtype=dtype)
    return Policy(
        init=lambda key: module.init(key, jnp.zeros((1, *observation_shape)))["params"],
        apply=lambda params, observation: module.apply({"params": params}, observation),
    )
