r"""A state as bytes with names: what of it is written, compared and digested.

A leaf x at path p of a pytree becomes an array of plain numbers (typed keys become their key data, Python
numbers become scalars), a description (shape, dtype) and a digest

  d_p = SHA-256(dtype | shape | bytes of x),

so that equal digests mean equal bits: 0.0 and -0.0, or two NaNs of other payload, differ.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from ch3_jax.base import PyTree

_SCALARS = (bool, int, float, complex)


class Leaf(NamedTuple):
    """One leaf: its numbers, None where only described, and its entry in the record."""

    data: np.ndarray | None
    entry: dict[str, Any]


def described(tree: PyTree, data: bool = True) -> dict[str, Leaf]:
    """Path -> numbers with shape, dtype and digest.

    Args:
      tree: any pytree of arrays, typed keys and Python numbers.
      data: False leaves numbers and digests out; `jax.ShapeDtypeStruct`s are enough then.

    Raises:
      TypeError: a leaf is something else.
      ValueError: two leaves have one path.
    """
    leaves: dict[str, Leaf] = {}
    for path, value in jax.tree_util.tree_leaves_with_path(tree):
        name = "state" + jax.tree_util.keystr(path)
        if name in leaves:
            raise ValueError(f"two leaves of the state have the path {name}")
        entry: dict[str, Any] = {"shape": list(np.shape(value)), "dtype": _dtype(name, value)}
        if not data:
            leaves[name] = Leaf(None, entry)
            continue
        if _is_key(value):
            entry["key"] = str(jax.random.key_impl(value))
            value = jax.random.key_data(value)
        array = np.asarray(value)
        leaves[name] = Leaf(array, {**entry, "sha256": digest(entry, array)})
    return leaves


def tree_sha256(tree: PyTree) -> str:
    """One digest of a whole tree: SHA-256 over (path, d_p), in the order of the paths.

    Args:
      tree: any pytree of arrays, typed keys and Python numbers.

    Returns:
      64 hexadecimal digits; equal for two trees exactly when paths, dtypes, shapes and bytes are.

    Example:
      >>> tree_sha256({"w": np.zeros(2, np.float32)})[:12]
      'af04a24b802d'
    """
    whole = hashlib.sha256()
    for path, leaf in sorted(described(tree).items()):
        whole.update(f"{path}\0{leaf.entry['sha256']}\n".encode())
    return whole.hexdigest()


def _dtype(name: str, value: Any) -> str:
    """The dtype's name; a Python number has the name of its type, so that it comes back as one."""
    if isinstance(value, _SCALARS) and not isinstance(value, np.generic):
        dtype, shown = np.asarray(value).dtype, type(value).__name__
    else:
        dtype = getattr(value, "dtype", np.dtype(object))
        shown = str(dtype)
    if dtype == np.dtype(object) or getattr(dtype, "kind", "f") in "USMm":
        raise TypeError(f"{name} is {type(value).__name__}; a checkpoint holds arrays, keys and numbers")
    return shown


def _is_key(value: Any) -> bool:
    return hasattr(value, "dtype") and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)


def digest(entry: Mapping[str, Any], array: np.ndarray) -> str:
    """d_p; the shape of a key is that of the keys, its bytes those of the key data."""
    whole = hashlib.sha256(f"{entry['dtype']}|{tuple(entry['shape'])}|".encode())
    whole.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return whole.hexdigest()


def rebuilt(target: PyTree, data: Mapping[str, np.ndarray], entries: Mapping[str, Any]) -> PyTree:
    """`data` in the structure, and on the devices, of `target`."""

    def value(path, like):
        name = "state" + jax.tree_util.keystr(path)
        array = data[name]
        if isinstance(like, np.generic):
            return array[()]
        if isinstance(like, _SCALARS):
            return type(like)(array.item())
        if isinstance(like, np.ndarray):
            return array
        sharding = getattr(like, "sharding", None)
        if not _is_key(like):
            return jax.device_put(array, sharding)
        keys = jax.random.wrap_key_data(jax.device_put(array), impl=entries[name]["key"])
        return jax.device_put(keys, sharding)

    return jax.tree_util.tree_map_with_path(value, target)


def stored(entry: Mapping[str, Any]) -> np.ndarray:
    """An array, of any values, with the shape and dtype that the leaf has on disk."""
    shape = tuple(entry["shape"])
    if "key" not in entry:
        return np.empty(shape, np.dtype(entry["dtype"]))  # "int" and "float" are names of numpy, too.
    data = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0, impl=entry["key"])))
    return np.empty(shape + data.shape, data.dtype)


def kind(entry: Mapping[str, Any]) -> str:
    """Shape and dtype in words, which two leaves must have alike to stand for each other."""
    return f"shape {tuple(entry['shape'])}, {entry['dtype']}"
