"""The parts of anybody's batch: what goes in, what is asked for, what is masked.

A batch is any tree of arrays with one leading axis of samples. Ours is a `Batch`; of others the names of the
leaves decide, and of a plain pair (x, y) the order. What no rule knows is an input.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import PyTree

_TARGET = re.compile(
    r"(?:^|[/_])(?:actions?|targets?|labels?|y|act|reward|rewards|returns?)(?:$|[/_])", re.IGNORECASE
)
_MASK = re.compile(r"mask|pad|valid", re.IGNORECASE)


class Leaf(NamedTuple):
    """One array of a batch.

    Attributes:
      path: "observation", "obs/image", "0".
      role: "input", "target" or "mask"; "" for what has no row per sample.
      shape, dtype: of the array.
    """

    path: str
    role: str
    shape: tuple[int, ...]
    dtype: Any


def path_name(path) -> str:
    """A path of `jax.tree_util` as "encoder/0/kernel".

    >>> path_name((jax.tree_util.DictKey("a"), jax.tree_util.SequenceKey(0)))
    'a/0'
    """
    return "/".join(str(getattr(p, "key", getattr(p, "idx", getattr(p, "name", p)))) for p in path)


def rows_of(batch: PyTree) -> int:
    """Number of samples: the leading axis that most leaves share."""
    sizes = [np.shape(x)[0] for x in jax.tree.leaves(batch) if np.ndim(x) > 0]
    if not sizes:
        raise ValueError("the batch holds no array with a row per sample, so there is nothing to examine.")
    return max(sizes, key=sizes.count)


def leaves_of(batch: PyTree) -> list[Leaf]:
    """The leaves of a batch, in the order of the tree, with their roles.

    >>> [leaf.role for leaf in leaves_of({"obs": jnp.zeros((4, 3)), "action": jnp.zeros((4, 2))})]
    ['target', 'input']
    """
    count = rows_of(batch)
    pair = isinstance(batch, tuple) and not hasattr(batch, "_fields") and len(batch) in (2, 3)
    found = []
    for path, x in jax.tree_util.tree_flatten_with_path(batch)[0]:
        name, shape = path_name(path), tuple(np.shape(x))
        if shape[:1] != (count,):
            role = ""
        elif _MASK.search(name) and len(shape) < 3:
            role = "mask"
        elif _TARGET.search(name) or (pair and name.split("/")[0] == "1"):
            role = "target"
        else:
            role = "input" if not (pair and name == "2") else "mask"
        found.append(Leaf(name, role, shape, getattr(x, "dtype", np.asarray(x).dtype)))
    return found


def take(batch: PyTree, rows: Any) -> PyTree:
    """The samples `rows` of every leaf that has one row per sample."""
    count = rows_of(batch)
    return jax.tree.map(lambda x: x[rows] if np.shape(x)[:1] == (count,) else x, batch)


def change(batch: PyTree, role: str, function: Callable[[Any], Any]) -> PyTree:
    """The batch with `function` applied to every leaf of a role.

    >>> zeroed = change((jnp.ones((2, 1)), jnp.ones((2, 1))), "input", jnp.zeros_like)
    >>> zeroed[0].tolist(), zeroed[1].tolist()
    ([[0.0], [0.0]], [[1.0], [1.0]])
    """
    roles = [leaf.role for leaf in leaves_of(batch)]
    values, tree = jax.tree.flatten(batch)
    new = [function(x) if r == role else x for x, r in zip(values, roles, strict=True)]
    return jax.tree.unflatten(tree, new)


def part(batch: PyTree, role: str) -> np.ndarray | None:
    """All floating-point leaves of a role side by side, (B, D) float64; None where there are none."""
    values = jax.tree.leaves(batch)
    chosen = [
        np.asarray(x, np.float64).reshape(len(x), -1)
        for x, leaf in zip(values, leaves_of(batch), strict=True)
        if leaf.role == role and jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]
    return np.concatenate(chosen, axis=1) if chosen else None
