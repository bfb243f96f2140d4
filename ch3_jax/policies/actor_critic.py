r"""Small networks for reinforcement learning, where a step of the world costs less than a look at it.

  actor    o -> relu -> relu -> output       output starts near 0: the first policy is the same everywhere
  critic   o -> relu -> relu -> V(o)

Hidden layers start orthogonal with gain sqrt 2, the actor's output with 0.01, the critic's with 1, as in most
implementations of PPO. ReLU because on a CPU a tanh costs as much as the layer that it follows.

Reference: Engstrom et al. 2020, arXiv:2005.12729 and Andrychowicz et al. 2021, arXiv:2006.05990 (both: a
small last layer of the actor matters).
"""

import math

import flax.linen as nn
import jax.numpy as jnp

from ch3_jax.base import Array
from ch3_jax.policies.policy import Policy


class Layers(nn.Module):
    """(..., S) -> (..., outputs), float32.

    Attributes:
      outputs: size of the last layer.
      width: of the two hidden layers.
      gain: of the last layer's orthogonal start.
    """

    outputs: int
    width: int
    gain: float

    @nn.compact
    def __call__(self, observation: Array) -> Array:
        x = observation
        for layer in (1, 2):
            start = nn.initializers.orthogonal(math.sqrt(2))
            x = nn.relu(nn.Dense(self.width, kernel_init=start, name=f"hidden_{layer}")(x))
        return nn.Dense(self.outputs, kernel_init=nn.initializers.orthogonal(self.gain), name="head")(x)


def layers_policy(state: int, outputs: int, width: int, *, gain: float = 0.01) -> Policy:
    """Two hidden layers over one observation, or over any batch of them.

    Args:
      state: S.
      outputs: size of the last layer.
      width: of the hidden layers.
      gain: of the last layer's start; 0.01 for an actor, 1 for a critic.

    Returns:
      A `Policy` whose `apply` takes (..., S) and gives (..., outputs).

    >>> import jax
    >>> actor = layers_policy(17, 7, width=64)
    >>> sum(x.size for x in jax.tree.leaves(jax.eval_shape(actor.init, jax.random.key(0))))
    5767
    """
    module = Layers(outputs, width, gain)
    return Policy(
        init=lambda key: module.init(key, jnp.zeros((1, state)))["params"],
        apply=lambda params, observation: module.apply({"params": params}, observation),
    )
