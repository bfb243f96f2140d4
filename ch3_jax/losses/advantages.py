r"""Advantages on one scale, and how much of the returns a critic explains.

  normalised   (A - mean(A)) / (std(A) + \epsilon)             over all steps of a batch
  of a group   (R - mean(R)) / (std(R) + \epsilon)             over the G episodes of one task
  explained    1 - Var(G - v) / Var(G)

Here a batch is looked at as a whole, so these functions take all streams at once instead of one under `vmap`.

Peers divide by different deviations, and none is a default: `ddof=1` divides the squares by N - 1 (torch:
CleanRL, DPPO, SimpleVLA-RL), `ddof=0` by N (numpy and JAX: purejaxrl). On a group of 8 they differ by 7 %.
"""

import jax.numpy as jnp

from ch3_jax import checks
from ch3_jax.base import Array
from ch3_jax.errors import InputError
from ch3_jax.losses.streams import require_number
from ch3_jax.numerics import masked_mean


def normalize_advantages(
    advantage: Array, *, ddof: int, eps: float = 1e-8, mask: Array | None = None
) -> Array:
    """Advantages with mean 0 and deviation 1 over everything that is valid.

    Args:
      advantage: any shape, float.
      ddof: 1 as CleanRL and DPPO, 0 as purejaxrl.
      eps: added to the deviation, at least 0.
      mask: bool, shape of `advantage`, False for steps that are not to be looked at; None keeps all.

    Returns:
      Shape of `advantage`; NaN where no more than `ddof` elements are valid.

    Raises:
      ValueError: a ddof that is neither, fewer than 1 + ddof elements, a mask of another shape.
        TypeError: integers.

    >>> a = jnp.array([1.0, -1.0, 2.0, 0.5])
    >>> [round(float(x), 6) for x in normalize_advantages(a, ddof=1)]
    [0.3, -1.3, 1.1, -0.1]

    References:
      vwxyzjn/cleanrl, ppo_continuous_action.py. luchris429/purejaxrl, ppo.py.
    """
    checks.floating(advantage=advantage)
    _deviation(ddof, eps, advantage.size, "advantage")
    if mask is not None:
        _same_shape(mask, advantage)
    centred = _centred(advantage, mask)
    valid = jnp.asarray(advantage.size if mask is None else jnp.sum(mask), advantage.dtype)
    variance = masked_mean(jnp.square(centred), mask) * valid / jnp.maximum(valid - ddof, 0)
    return centred / (jnp.sqrt(variance) + eps)


def group_advantages(reward: Array, *, ddof: int, eps: float = 1e-6) -> Array:
    """GRPO's advantage: how much better an episode did than the others of its group.

    Where all did equally well nothing can be learned, and the answer is exactly zero.

    Args:
      reward: (..., G) float, one number per episode; a group is G episodes of one task, from one state.
      ddof: 1 as SimpleVLA-RL, 0 for the deviation of numpy.
      eps: added to the deviation, above 0.

    Returns:
      (..., G).

    Raises:
      ValueError: a ddof that is neither, a group of 1, an eps of 0. TypeError: integers.

    >>> [round(float(x), 6) for x in group_advantages(jnp.array([1.0, 0.0, 0.0, 1.0]), ddof=1)]
    [0.866024, -0.866024, -0.866024, 0.866024]

    References:
      Shao et al. 2024, arXiv:2402.03300, section 4.1.2. SimpleVLA-RL, verl/trainer/ppo/core_algos.py.
    """
    checks.floating(reward=reward)
    checks.shapes(fix="the last axis holds the episodes of a group", reward=(reward, "... G"))
    _deviation(ddof, eps, reward.shape[-1], "reward")
    require_number("eps", eps, 0.0, ends="()")
    if reward.shape[-1] < 2:
        raise InputError(
            "a group of `reward` has one episode",
            got=f"shape {reward.shape}",
            expected="(..., G) with G of 2 or more",
            cause="the axes exchanged: episodes of one task belong on the last axis",
            fix="reward.reshape(tasks, episodes_per_task)",
        )
    apart = reward - reward[..., :1]  # as in `_centred`
    centred = apart - jnp.mean(apart, axis=-1, keepdims=True)
    variance = jnp.sum(jnp.square(centred), axis=-1, keepdims=True) / (reward.shape[-1] - ddof)
    return centred / (jnp.sqrt(variance) + eps)


def explained_variance(v_tm1: Array, return_tm1: Array, *, mask: Array | None = None) -> Array:
    """The share of the returns' variance that the values explain, 1 - Var(G - v) / Var(G).

    Args:
      v_tm1: any shape, float values.
      return_tm1: shape of `v_tm1`, the returns that came.
      mask: bool, shape of `v_tm1`, False for steps that are not to be looked at.

    Returns:
      () at most 1; 0 for a constant critic, negative for a worse one, NaN where all returns are equal.

    Raises:
      ValueError: shapes that would broadcast. TypeError: integers.

    >>> v, g = jnp.array([1.1, 1.9, 3.2, 3.7]), jnp.array([1.0, 2.0, 3.0, 4.0])
    >>> round(float(explained_variance(v, g)), 4)
    0.9705

    Reference: vwxyzjn/cleanrl, ppo_continuous_action.py.
    """
    checks.floating(v_tm1=v_tm1, return_tm1=return_tm1)
    checks.shapes(v_tm1=(v_tm1, "..."), return_tm1=(return_tm1, "..."))
    if mask is not None:
        _same_shape(mask, v_tm1)
    left = masked_mean(jnp.square(_centred(return_tm1 - v_tm1, mask)), mask)
    whole = masked_mean(jnp.square(_centred(return_tm1, mask)), mask)
    # 0 / 0 would be NaN by itself, but a critic that does vary would get -inf.
    return jnp.where(whole > 0, 1 - left / jnp.where(whole > 0, whole, 1), jnp.nan)


def _centred(x: Array, mask: Array | None) -> Array:
    """`x` minus its mean, exactly zero where all valid elements are equal.

    Differences from one of them come first: the mean of equal numbers is rounded, and that rounding divided
    by its own deviation plus an eps of 1e-8 looks like an advantage.
    """
    first = 0 if mask is None else jnp.argmax(jnp.ravel(mask))
    apart = x - jnp.ravel(x)[first]
    return apart - masked_mean(apart, mask)


def _deviation(ddof: int, eps: float, size: int, name: str) -> None:
    if ddof not in (0, 1):
        raise InputError(
            "`ddof` is neither of the two that peers use",
            got=ddof,
            expected="1 (CleanRL, DPPO, SimpleVLA-RL) or 0 (purejaxrl)",
            cause="another argument in its place",
            fix="ddof=1 to agree with torch, ddof=0 to agree with numpy",
        )
    require_number("eps", eps, 0.0, ends="[)")
    if size <= ddof:
        raise InputError(
            f"`{name}` has too few elements for a deviation",
            got=f"{size}, with ddof={ddof}",
            expected=f"{ddof + 1} or more",
            cause="vmap over a function that looks at a batch as a whole",
            fix="call it on all streams at once",
        )


def _same_shape(mask: Array, x: Array) -> None:
    if mask.dtype != jnp.bool_:
        raise TypeError(f"`mask` has dtype {mask.dtype}, expected bool. Usual fix: mask.astype(bool).")
    checks.shapes(advantage=(x, "..."), mask=(mask, "..."))
