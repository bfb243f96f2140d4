"""Scores of bins against the bins of the demonstrated actions: loss and metrics, whoever scored them."""

import jax.numpy as jnp

from ch3_jax.base import Array, Batch, Metrics
from ch3_jax.losses import supervised
from ch3_jax.numerics import masked_mean
from ch3_jax.tokens import bins as tokens


def classified(logits: Array, target: Array, bins: tokens.Bins, batch: Batch) -> tuple[Array, Metrics]:
    """Cross-entropy, mean over valid steps and dimensions, and how far the likeliest bin is off.

    Args:
      logits: (B, H, A, K).
      target: (B, H, A) int, of `batch.action`.
      bins: K of them for each dimension.
      batch: actions in normalised units, and their mask.

    Returns:
      The loss in nats; `loss_per_dimension` and `l1` (A,), `accuracy` ().
    """
    losses = supervised.cross_entropy(logits, target)
    chosen = jnp.argmax(logits, axis=-1)
    decoded = jnp.abs(tokens.decode(bins, chosen) - batch.action)
    return masked_mean(losses, batch.mask), {
        "loss_per_dimension": masked_mean(losses, batch.mask, (0, 1)),
        "accuracy": masked_mean((chosen == target).astype(jnp.float32), batch.mask),
        "l1": masked_mean(decoded, batch.mask, (0, 1)),
    }
