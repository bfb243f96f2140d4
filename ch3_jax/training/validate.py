"""The loss on data that is not trained on, in one compiled pass.

Every sample counts once: the last block is filled up with copies whose mask is off, and blocks are
weighted by what is valid in them, so the result does not depend on the block size.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ch3_jax.base import Array, Batch, Key, Metrics, Params, PyTree
from ch3_jax.training.update import LossFn


def make_validate(
    loss_fn: LossFn, fetch: Callable[[PyTree, Array], Batch], samples: int, block: int = 1024
) -> Callable[[Params, PyTree, Key], Metrics]:
    """A function that scores parameters on all samples of a data set.

    Args:
      loss_fn: (params, batch, key) -> (loss, metrics), averages over the valid elements of the batch.
      fetch: (data, (B,) indices) -> batch.
      samples: N, how many there are.
      block: samples per pass of the network.

    Returns:
      validate(params, data, key) -> metrics, `loss` among them, averaged over the N samples.
    """
    block = min(block, samples)
    index = jnp.arange(-(-samples // block) * block).reshape(-1, block)

    def validate(params: Params, data: PyTree, key: Key) -> Metrics:
        def score(i_and_key):
            i, key = i_and_key
            batch = fetch(data, jnp.minimum(i, samples - 1))
            batch = batch._replace(mask=batch.mask & (i < samples)[:, None])
            loss, metrics = loss_fn(params, batch, key)
            return {**metrics, "loss": loss}, jnp.sum(batch.mask)

        values, weights = jax.lax.map(score, (index, jax.random.split(key, len(index))))
        share = weights / jnp.sum(weights)
        return jax.tree.map(lambda v: jnp.tensordot(share, v, 1), values)

    return jax.jit(validate)
