"""What an iteration says about itself, the same names for every algorithm.

| name | meaning |
| --- | --- |
| episodes | ended in the rollout |
| return_sum, success_sum, length_sum | over them; a share is a sum by `episodes` |
| rewarded | share of the steps whose reward is not 0 |
| reward_mean, reward_std | of a step, raw |
| reward_scale | what rewards were divided by |
| value_target_p95, value_target_max | of absolute value targets, in units of the critic |
| zero_advantage | share of the samples that teach nothing |
| losses, norms | (updates,) of the last iterations, what the loop watches |
"""

import jax
import jax.numpy as jnp

from ch3_jax.base import Array, Metrics
from ch3_jax.reinforcement.rollout import Rollout

_ROWS = 8  # steps of a rollout, of which a quantile is taken: it sorts


def episodes(data: Rollout) -> Metrics:
    """Of the episodes that ended."""
    over = data.ended

    def total(x: Array) -> Array:
        return jnp.sum(jnp.where(over, x, 0))

    return {
        "episodes": jnp.sum(over),
        "return_sum": total(data.total),
        "success_sum": total(data.success),
        "length_sum": total(data.length.astype(jnp.float32)),
    }


def rewards(data: Rollout, scale: Array) -> Metrics:
    """Of the rewards."""
    return {
        "rewarded": jnp.mean((data.reward != 0).astype(jnp.float32)),
        "reward_mean": jnp.mean(data.reward),
        "reward_std": jnp.std(data.reward),
        "reward_scale": scale,
    }


def targets(target: Array, advantage: Array) -> Metrics:
    """Of the critic's targets (T, ...) and of what the policy is taught by."""
    rows = jnp.ravel(jnp.abs(target[:: max(target.shape[0] // _ROWS, 1)]))
    return {
        "value_target_p95": jnp.quantile(rows[: 1 << 13], 0.95),
        "value_target_max": jnp.max(jnp.abs(target)),
        "zero_advantage": jnp.mean((advantage == 0).astype(jnp.float32)),
    }


def over_updates(metrics: Metrics) -> Metrics:
    """Means over the leading axes of what `training.update` said; of norms by leaf the last ones."""
    metrics = dict(metrics)
    metrics.pop("finite")
    norms = metrics.pop("gradient_norms")
    axes = metrics["loss"].ndim
    last = jax.tree.map(lambda x: jnp.reshape(x, (-1, *x.shape[axes:]))[-1], norms)
    return {**jax.tree.map(jnp.mean, metrics), "gradient_norms": last}
