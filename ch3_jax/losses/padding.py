r"""Three ways to average a chunk that runs past the end of its episode.

Where a chunk of H actions begins near the end of an episode its last actions are padding. Published code
averages in three ways, and the same model then reports losses that differ two- to threefold:

| rule | mean | who |
| --- | --- | --- |
| valid | sum of the valid / number of the valid | LeRobot after 0.4.4, SmolVLA, Octo; ours |
| all | sum of the valid / number of all | ACT's code, LeRobot up to 0.4.4, RT-1 |
| none | mean of all, padding included | Diffusion Policy, openpi, OpenVLA-OFT |

References: Zhao et al. 2023, arXiv:2304.13705 (code, policy.py); LeRobot 0.4.4, modeling_act.py.
"""

import jax.numpy as jnp

from ch3_jax.base import Array
from ch3_jax.errors import InputError
from ch3_jax.numerics import masked_mean
from ch3_jax.probability.values import require_any

RULES = ("valid", "all", "none")


def padded_mean(x: Array, mask: Array | None = None, *, rule: str = "valid") -> Array:
    """Mean of a loss over everything, with the padding as a named rule counts it.

    Args:
      x: (B, H, ...) a loss, un-reduced.
      mask: (B, H) bool, False where padded; None is a chunk without padding.
      rule: one of `RULES`.

    Returns:
      (); inside a compiled step NaN for an empty mask under "valid".

    Raises:
      InputError: an unknown rule, or an empty mask. ValueError: a mask that is not of x's leading axes.

    >>> x, mask = jnp.array([[1.0, 2.0, 9.0]]), jnp.array([[True, True, False]])
    >>> [float(padded_mean(x, mask, rule=rule)) for rule in RULES]
    [1.5, 1.0, 4.0]
    """
    if rule not in RULES:
        raise InputError(
            f"unknown `rule` of padding {rule!r}",
            got=rule,
            expected="one of " + ", ".join(RULES),
            cause="a misspelt name",
            fix='"valid" divides by the number of valid elements, "all" does as ACT does',
        )
    if mask is None:
        return jnp.mean(x)
    require_any("mask", mask)
    valid = masked_mean(x, mask)
    if rule == "valid":
        return valid
    if rule == "none":
        return jnp.mean(x)
    return valid * jnp.mean(mask, dtype=x.dtype)
