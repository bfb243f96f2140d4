r"""Do sampled actions look like the data, one dimension at a time?

For observations that were not trained on the policy draws an action each; per dimension the distance of all
draws to the actions that were demonstrated there is

  W_1 / (max - min),    W_1 = \int | F_drawn(x) - F_data(x) | dx,

a share of the data's range. It sees what a loss hides: a sampler that stops too early, walks the wrong way or
leaves the range. It does not see whether an action fits its observation; a closed loop does.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ch3_jax.base import Array, Batch, Key
from ch3_jax.evaluation.distances import wasserstein_1


def marginal_distances(act: Callable[[Array, Key], Array], batch: Batch, width: Array, key: Key) -> Array:
    """1-Wasserstein distance of sampled to demonstrated actions, as a share of the range.

    Args:
      act: (observation (B, W, S), key) -> action (B, H, A), normalised.
      batch: of B windows; the first action of the horizon is compared, which is the one that is executed.
      width: (A,) max - min of the data, normalised.
      key: of the samples.

    Returns:
      (A,); 0 where the data stand still and the policy does too.

    >>> batch = Batch(jnp.zeros((4, 1, 1)), jnp.arange(4.0)[:, None, None], jnp.ones((4, 1), bool))
    >>> shifted = lambda observation, key: batch.action + 0.3
    >>> round(float(marginal_distances(shifted, batch, jnp.array([3.0]), jax.random.key(0))[0]), 3)
    0.1
    """
    drawn, shown = act(batch.observation, key)[:, 0], batch.action[:, 0]
    apart = jax.vmap(wasserstein_1, in_axes=1)(drawn, shown)
    return apart / jnp.where(width > 0, width, 1)
