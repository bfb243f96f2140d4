"""What an iteration says about itself, the same names for every algorithm.

| name | meaning |
| --- | --- |
| episodes | ended in the rollout |
| return_sum, success_sum, length_sum | over them; a share is a sum by `episodes` |
| return_with_success | correlation of the two among them, NaN where one is constant |
| rewarded | share of the steps whose reward is not 0 |
| reward_mean, reward_std | of a step, raw |
| reward_scale | what rewards were divided by |
| value_target_p95, value_target_max | of absolute value targets, in units of the critic |
| terminated_error, truncated_error | of targets at such ends, by the value behind; NaN without ends |
| zero_advantage | share of the samples that teach nothing |
| advantage_between_envs, _steps | share of the variance between their means: 0 where each was normalised |
| seen_mean, seen_std | largest absolute mean, largest deviation of a number as the agent is shown it |
| losses, norms | (updates,) of the last iterations, what the loop watches |
"""

import jax
import jax.numpy as jnp

from ch3_jax.base import Array, Metrics
from ch3_jax.reinforcement.rollout import Rollout

SUMS = ("episodes", "return_sum", "success_sum", "length_sum")
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
        "return_with_success": correlation(data.total, data.success, over),
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
        "advantage_between_envs": _between(advantage, 0),
        "advantage_between_steps": _between(advantage, 1),
    }


def _between(x: Array, axis: int) -> Array:
    """Share of the variance that lies between the means along an axis; NaN where there is but one mean."""
    means = jnp.mean(x, axis)
    return jnp.var(means) / jnp.var(x) if len(means) > 1 else jnp.float32(jnp.nan)


def ends(data: Rollout, scale: Array, gamma: float, target: Array, v_t: Array) -> Metrics:
    """How far the targets of last steps are from r + gamma V (truncated) and from r (terminated)."""
    reward, behind = data.reward / scale, gamma * v_t
    size = jnp.abs(behind) + 1e-6

    def mean(error: Array, rows: Array) -> Array:
        return jnp.sum(jnp.where(rows, jnp.abs(error) / size, 0)) / jnp.where(
            rows.any(), jnp.sum(rows), jnp.nan
        )

    return {
        "terminated_error": mean(target - reward, data.terminated),
        "truncated_error": mean(target - reward - behind, data.truncated),
    }


def shown(seen: Array) -> Metrics:
    """Moments of observations (T, N, S) as the agent is shown them."""
    return {
        "seen_mean": jnp.max(jnp.abs(jnp.mean(seen, (0, 1)))),
        "seen_std": jnp.max(jnp.std(seen, (0, 1))),
    }


def correlation(x: Array, y: Array, rows: Array | None = None) -> Array:
    """Pearson's, over the chosen rows; NaN where one of the two is constant.

    >>> float(correlation(jnp.array([1.0, 2.0, 3.0]), jnp.array([2.0, 4.0, 6.0])))
    1.0
    """
    rows = jnp.ones(x.shape, bool) if rows is None else rows
    count = jnp.sum(rows)

    def centred(z: Array) -> Array:
        z = jnp.where(rows, z, 0)
        return jnp.where(rows, z - jnp.sum(z) / count, 0)

    a, b = centred(x), centred(y)
    return jnp.sum(a * b) / jnp.sqrt(jnp.sum(a * a) * jnp.sum(b * b))


def of_all(metrics: Metrics, axis: str) -> Metrics:
    """Of all devices along `axis`: sums are summed, the rest is averaged over those that have it."""

    own = jnp.stack([x.astype(jnp.float32) for x in metrics.values()])
    summed = jnp.array([name in SUMS for name in metrics])
    known = jnp.isfinite(own) | summed  # a sum of what nobody knows stays NaN
    total, count = jax.lax.psum(jnp.stack([jnp.where(known, own, 0), known.astype(jnp.float32)]), axis)
    mean = total / jnp.where(count > 0, count, jnp.nan)
    return {name: (total if name in SUMS else mean)[i] for i, name in enumerate(metrics)}


def over_updates(metrics: Metrics) -> Metrics:
    """Means over the leading axes of what `training.update` said; of norms by leaf the last ones."""
    metrics = dict(metrics)
    metrics.pop("finite")
    norms = metrics.pop("gradient_norms")
    axes = metrics["loss"].ndim
    last = jax.tree.map(lambda x: jnp.reshape(x, (-1, *x.shape[axes:]))[-1], norms)
    return {**jax.tree.map(jnp.mean, metrics), "gradient_norms": last}
