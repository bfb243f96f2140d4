"""Small numbers done right: one mean, one norm.

A masked mean divides by the number of *valid* elements,

  mean(x, m) = sum(m x) / sum(m),

and an empty mask gives NaN, not zero: the finite check of the step then stops the run, where a
silent zero would have looked like a solved task.
"""

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ch3_jax.base import Array, PyTree


def masked_mean(x: Array, mask: Array | None = None, axis: int | tuple[int, ...] | None = None) -> Array:
    """Mean of the valid elements.

    Args:
      x: any shape, floating point.
      mask: bool, shape of `x` or of its leading axes; None keeps everything.
      axis: axes of `x` to average over, None for all.

    Returns:
      The mean over `axis`; NaN where nothing is valid.

    >>> float(masked_mean(jnp.array([1.0, 2.0, 9.0]), jnp.array([True, True, False])))
    1.5
    """
    if mask is None:
        return jnp.mean(x, axis)
    if mask.shape != x.shape[: mask.ndim]:
        raise ValueError(f"`mask` has shape {mask.shape}, expected the leading axes of x {x.shape}.")
    valid = jnp.broadcast_to(jnp.reshape(mask, mask.shape + (1,) * (x.ndim - mask.ndim)), x.shape)
    # Invalid elements are replaced, not multiplied: 0 * NaN would poison the sum and its gradient.
    total = jnp.sum(jnp.where(valid, x, 0), axis)
    return total / jnp.sum(valid, axis, dtype=x.dtype)


def safe_norm(x: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """Euclidean norm whose gradient at zero is zero instead of NaN.

    >>> import jax
    >>> jax.grad(safe_norm)(jnp.zeros(3)).tolist()
    [0.0, 0.0, 0.0]
    """
    squares = jnp.sum(jnp.square(x), axis)
    positive = squares > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1)), 0)


def sums_of_squares(tree: PyTree) -> PyTree:
    """The squared Euclidean norm of every leaf, in float32: one pass that serves every norm."""
    return jax.tree.map(lambda x: jnp.sum(jnp.square(x.astype(jnp.float32))), tree)


def tree_norm(squares: PyTree) -> Array:
    """The global norm from `sums_of_squares`."""
    return jnp.sqrt(sum(jax.tree.leaves(squares), start=jnp.float32(0)))


def mean_over(tree: PyTree, axis: str) -> PyTree:
    """The mean of float leaves over devices, in one message: each message costs more than what is in it."""
    flat, back = ravel_pytree(tree)
    return back(jax.lax.pmean(flat, axis))


def in_front(x: Array, rank: int) -> Array:
    """`x` with leading axes of size 1 up to `rank`, so that nothing broadcasts by rank alone.

    >>> in_front(jnp.zeros(3), 2).shape
    (1, 3)
    """
    return jnp.reshape(x, (1,) * (rank - jnp.ndim(x)) + jnp.shape(x))
