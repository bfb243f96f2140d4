"""Devices that train together, as a mesh of two axes.

| axis | its devices hold |
| --- | --- |
| `data` | the same parameters |
| `fsdp` | a part of every large parameter, of its moments and of its average each (`training.sharding`) |

A batch is divided over all of them: B rows over D devices are B / D rows each, and the update that they make
together is that of one device with B rows, since the compiler averages the gradients. So `--batch_size` is
the global one, however many devices there are. It equals one device's up to the order of sums in float32.

Reference: Zhao et al. 2023, arXiv:2304.11277 (fully sharded data parallel); jax.sharding.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ch3_jax.base import PyTree
from ch3_jax.errors import InputError

DATA, FSDP = "data", "fsdp"
ROWS = (DATA, FSDP)


def make_mesh(devices: int, fsdp: int = 1, *, batch_size: int, accumulate: int = 1) -> Mesh:
    """The first devices as a mesh, `devices / fsdp` by `fsdp`.

    Args:
      devices: how many, of all processes together.
      fsdp: how many of them share the parameters.
      batch_size: rows of an update, which must divide.
      accumulate: micro-batches of an update, each of which must divide.

    Raises:
      InputError: fewer devices than asked for, an `fsdp` or a batch that does not divide.

    >>> dict(make_mesh(1, batch_size=64).shape)
    {'data': 1, 'fsdp': 1}
    """
    there = jax.devices()
    if devices > len(there):
        raise InputError(
            f"a mesh of {devices} devices does not fit",
            got=f"{len(there)} {there[0].platform} devices",
            expected=f"{devices} devices",
            cause="fewer devices than asked for",
            fix=f"--devices={len(there)}",
        )
    if jax.process_count() > 1 and devices != len(there):
        raise InputError(
            "several processes train on all of their devices",
            got=f"--devices={devices}",
            expected=f"{len(there)}, {jax.local_device_count()} in each of {jax.process_count()} processes",
            cause="a process whose devices are left out would wait for the others",
            fix=f"--devices={len(there)}",
        )
    if devices % fsdp:
        raise InputError(
            f"{devices} devices do not divide into groups of {fsdp}",
            got=f"--devices={devices} --fsdp={fsdp}",
            expected="an --fsdp that divides --devices",
            cause="each group holds the parameters once",
            fix=f"--fsdp={max(f for f in range(1, fsdp) if devices % f == 0)}",
        )
    least = devices * accumulate
    if batch_size % least:
        raise InputError(
            f"a batch of {batch_size} does not divide over {devices} devices",
            got=f"--batch_size={batch_size}, --accumulate={accumulate}",
            expected=f"a multiple of {least}: the same rows on each device in each micro-batch",
            cause="--batch_size is that of all devices together",
            fix=f"--batch_size={max(round(batch_size / least), 1) * least}",
        )
    return Mesh(np.array(there[:devices]).reshape(devices // fsdp, fsdp), ROWS)


def everywhere(mesh: Mesh) -> NamedSharding:
    """The whole on every device."""
    return NamedSharding(mesh, P())


def by_rows(mesh: Mesh, before: int = 0) -> NamedSharding:
    """Rows divided over all devices, behind `before` axes that are not."""
    return NamedSharding(mesh, P(*[None] * before, ROWS))


def gathered(mesh: Mesh, loss_fn: Callable) -> Callable:
    """A loss that asks for the whole parameters before it uses them, as fully sharded data parallelism does.

    Left to itself the compiler divides the outputs of layers as their kernels are divided, and moves
    activations between devices that have rows of their own.
    """

    def loss(params: PyTree, *given: Any) -> Any:
        whole = jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, everywhere(mesh)), params)
        return loss_fn(whole, *given)

    return loss


def share_rows(mesh: Mesh, batch: PyTree) -> PyTree:
    """Inside a compiled step: each device makes, and keeps, its own rows of a batch."""
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, by_rows(mesh)), batch)
