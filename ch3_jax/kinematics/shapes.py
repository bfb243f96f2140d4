"""Contracts of this room: the trailing axes of a rotation, a pose, a twist; the same leading axes
everywhere."""

import jax
import jax.numpy as jnp

from ch3_jax import checks


def tails(**arguments: tuple) -> None:
    """Checks trailing shapes and that the leading axes agree; broadcasting is never implicit.

    Args:
      **arguments: name = (array, trailing shape, what it is).

    Raises:
      ValueError: a trailing shape or the leading axes differ.
      TypeError: not floating point.
    """
    leading = None
    for name, (array, tail, what) in arguments.items():
        got = tuple(jnp.shape(array))
        cut = len(got) - len(tail)
        if cut < 0 or got[cut:] != tail:
            raise ValueError(
                f"`{name}` has shape {got}, expected (..., {', '.join(map(str, tail))}): {what}. "
                "Usual fix: put the geometric axes last."
            )
        if leading is not None and got[:cut] != leading:
            raise ValueError(
                f"`{name}` has leading axes {got[:cut]}, the other arguments {leading}. "
                "Usual fix: jax.vmap, or jnp.broadcast_to."
            )
        leading = got[:cut]
    checks.floating(**{name: array for name, (array, _, _) in arguments.items()})


def concrete(*arrays: object) -> bool:
    """Whether the values can be read now, that is, outside jit, vmap and grad."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arrays))
