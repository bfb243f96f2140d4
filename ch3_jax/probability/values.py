"""Contracts on values: probabilities that sum to one, targets inside the bins, masks that keep something.

Shapes and dtypes are known while JAX traces, values are not. So these checks act where the numbers are at
hand, outside `jit`, `vmap` and `grad`, and raise there; inside a compiled step they cost nothing and say
nothing, and the functions that use them answer with NaN instead, which the step's finite check stops.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array
from ch3_jax.errors import InputError

_ROUNDING = 8.0  # of an addition of K numbers, in units of sqrt(K) and of the precision


def known(x: Array) -> bool:
    """Whether the numbers of `x` are at hand, so that a check may look at them.

    >>> known(jnp.zeros(2)), bool(jax.jit(lambda x: known(x))(jnp.zeros(2)))
    (True, False)
    """
    return not isinstance(x, jax.core.Tracer)


def require_probabilities(**arguments: Array) -> None:
    """Refuses distributions that have a negative entry or do not sum to one over the last axis.

    Args:
      **arguments: name = (..., K) probabilities.

    Raises:
      InputError: names the argument, and the sum that was found.

    >>> require_probabilities(p=jnp.array([0.25, 0.75]))
    """
    for name, p in arguments.items():
        if not known(p) or not p.size:
            continue
        values = np.asarray(p, np.float64)
        sums = values.sum(-1)
        tolerance = _ROUNDING * float(jnp.finfo(p.dtype).eps) * max(1.0, p.shape[-1] ** 0.5)
        off = np.abs(sums - 1)
        if (off <= tolerance).all() and (values >= 0).all():
            continue
        worst = sums.flat[np.argmax(np.where(np.isnan(off), np.inf, off))]
        raise InputError(
            f"`{name}` is not a distribution over its last axis",
            got=f"a sum of {worst:.6g}, a smallest entry of {values.min():.6g}",
            expected="entries of 0 or more that sum to one",
            cause="logits where probabilities are meant, or counts that were never divided",
            fix=f"jax.nn.softmax({name}), or {name} / {name}.sum(-1, keepdims=True)",
        )


def require_inside(name: str, target: Array, count: int) -> None:
    """Refuses class indices outside [0, count).

    Raises:
      InputError: names the argument, and the range that was found.

    >>> require_inside("target", jnp.array([0, 2]), 3)
    """
    if not known(target) or not target.size:
        return
    values = np.asarray(target)
    if (values >= 0).all() and (values < count).all():
        return
    raise InputError(
        f"`{name}` lies outside the bins",
        got=f"{values.min()} to {values.max()}",
        expected=f"0 to {count - 1}, one of the {count} classes that the logits have",
        cause="bins counted from 1, ids of a vocabulary, or an encoder with more bins than the head",
        fix="encode the actions with the same bins that the head was made for",
    )


def require_any(name: str, mask: Array) -> None:
    """Refuses a mask that keeps nothing: a mean over it has no value.

    Raises:
      InputError: names the argument.

    >>> require_any("mask", jnp.array([False, True]))
    """
    if known(mask) and not np.asarray(mask).any():
        raise InputError(
            f"`{name}` is empty",
            got=f"no True among {np.asarray(mask).size}",
            expected="at least one valid element",
            cause="every step of the batch is padding, or the mask means the opposite (True where padded)",
            fix=f"leave that batch out, or pass ~{name}",
        )
