"""Which part of a training state lies on which device: named rules, from a leaf's path to a PartitionSpec.

| rule | leaves | divided over `fsdp` |
| --- | --- | --- |
| matrix | `kernel`, `embedding`, `pos_embedding`, ... : two axes and more | the longest axis that divides |
| small | under `SMALLEST` numbers, wherever they stand | no: asking for them costs more than keeping them |
| vector | one axis: biases, scales | no |
| scalar | counters, keys | no |
| odd | matrices of which no axis divides | no |

Adam's moments and the average of the parameters have the shapes of their parameters, so they lie where these
lie. Every leaf falls under exactly one rule, and `table` says under which.
"""

import math
from typing import NamedTuple

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ch3_jax.base import PyTree
from ch3_jax.training.mesh import FSDP

SMALLEST = 2**12  # numbers


class Placed(NamedTuple):
    """Where one leaf lies.

    Attributes:
      path: as `jax.tree_util.keystr` says it.
      shape: of the whole.
      rule: of the table above.
      spec: how it is divided.
      bytes: of a device's part.
    """

    path: str
    shape: tuple[int, ...]
    rule: str
    spec: P
    bytes: int


def rule_of(shape: tuple[int, ...], fsdp: int) -> tuple[str, P]:
    """The rule that a leaf falls under, and its spec.

    Args:
      shape: of the leaf.
      fsdp: devices that share the parameters.

    >>> rule, spec = rule_of((64, 256), 4)
    >>> rule, tuple(spec)
    ('matrix', (None, 'fsdp'))
    >>> [rule_of(shape, 4)[0] for shape in ((), (256,), (8, 8), (127, 129))]
    ['scalar', 'vector', 'small', 'odd']
    """
    if len(shape) < 2:
        return ("vector" if shape else "scalar"), P()
    if math.prod(shape) < SMALLEST:
        return "small", P()
    fitting = [axis for axis, size in enumerate(shape) if size % fsdp == 0]
    if not fitting:
        return "odd", P()
    longest = max(fitting, key=lambda axis: (shape[axis], axis))
    return "matrix", P(*[None] * longest, FSDP)


def shardings(mesh: Mesh, state: PyTree) -> PyTree:
    """Where each leaf of a state belongs.

    Args:
      mesh: of `training.mesh`.
      state: values or shapes of a `TrainState`, or of any pytree.

    Returns:
      A pytree like it, of `NamedSharding`.
    """
    return jax.tree.map(lambda x: NamedSharding(mesh, rule_of(x.shape, mesh.shape[FSDP])[1]), state)


def placed(mesh: Mesh, state: PyTree) -> list[Placed]:
    """The same for a person to read, a record for every leaf, in the order of the tree."""
    fsdp = mesh.shape[FSDP]
    found = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        rule, spec = rule_of(leaf.shape, fsdp)
        whole = math.prod(leaf.shape) * _width(leaf)
        part = whole // fsdp if FSDP in spec else whole
        found.append(Placed(jax.tree_util.keystr(path), tuple(leaf.shape), rule, spec, part))
    return found


def _width(leaf) -> int:
    """Bytes of a number; of a key those of its data."""
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = jax.eval_shape(jax.random.key_data, leaf)
        return math.prod(data.shape[len(leaf.shape) :]) * data.dtype.itemsize
    return leaf.dtype.itemsize


def table(leaves: list[Placed]) -> str:
    """At most 80 columns: path, shape, rule, bytes on a device; the sum below."""
    lines = [f"{'leaf':<38}{'shape':<18}{'rule':<8}{'a device, bytes':>16}", "-" * 80]
    for leaf in leaves:
        shape = "x".join(map(str, leaf.shape)) or "-"
        path = leaf.path if len(leaf.path) < 38 else "..." + leaf.path[-34:]
        lines.append(f"{path:<38}{_shown(shape, leaf.spec):<18}{leaf.rule:<8}{leaf.bytes:>16,}")
    return "\n".join([*lines, "-" * 80, f"{'':<64}{sum(leaf.bytes for leaf in leaves):>16,}"])


def _shown(shape: str, spec: P) -> str:
    """The divided axis with a slash behind it."""
    sizes = shape.split("x")
    return "x".join(f"{size}/" if i < len(spec) and spec[i] else size for i, size in enumerate(sizes))
