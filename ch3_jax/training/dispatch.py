"""Many steps per dispatch: Python is asked once per hundred steps instead of once per step.

`lax.scan` carries the state through K updates inside one compiled, donated program; which samples
each step sees is computed inside it too, so an epoch costs no Python at all. The last of the K steps
returns every metric, the others only the loss and the gradient norm: what nobody reads, the compiler
does not compute.

Which batch comes next is read off `state.step`. A state that a non-finite step left frozen therefore
meets the same batch again and stays frozen: what comes out is the last good state, and its step says
how far it came.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ch3_jax.base import Array, Batch, Metrics, PyTree
from ch3_jax.training.update import TrainState, Update

Advance = Callable[[TrainState, PyTree], tuple[TrainState, Metrics]]


def device_advance(
    update: Update,
    order: Callable[[Array], Array],
    fetch: Callable[[PyTree, Array], Batch],
    length: int,
    *,
    out: PyTree = None,
) -> Advance:
    """K steps over data that lives on the device.

    Args:
      update: one step, from `make_update`.
      order: (T,) step numbers -> (T, B) sample indices.
      fetch: (data, (B,) indices) -> batch.
      length: K.
      out: shardings of what comes back, a prefix of (state, metrics); None leaves them to the compiler.

    Returns:
      advance(state, data) -> (state, metrics), jitted, its state donated. The metrics are those of the
      K-th step and `losses`, `norms`: (K,) one per step.
    """

    def advance(state: TrainState, data: PyTree) -> tuple[TrainState, Metrics]:
        rows = order(state.step + jnp.arange(length))
        return _scan(update, lambda i: fetch(data, rows[i]), state, length)

    return jax.jit(advance, donate_argnums=0, out_shardings=out)


def host_advance(update: Update, length: int, *, out: PyTree = None) -> Advance:
    """K steps over batches that the host has stacked: every leaf (K, B, ...).

    The same update on the same batches in the same order as `device_advance`, for data that does not fit
    on the device.
    """

    def advance(state: TrainState, batches: Batch) -> tuple[TrainState, Metrics]:
        return _scan(update, lambda i: jax.tree.map(lambda x: x[i], batches), state, length)

    return jax.jit(advance, donate_argnums=0, out_shardings=out)


def _scan(
    update: Update, batch_at: Callable[[Array], Batch], state: TrainState, length: int
) -> tuple[TrainState, Metrics]:
    first = state.step

    def body(state: TrainState, _: None) -> tuple[TrainState, tuple[Array, Array]]:
        state, metrics = update(state, batch_at(state.step - first))
        return state, (metrics["loss"], metrics["gradient_norm"])

    state, (losses, norms) = jax.lax.scan(body, state, length=length - 1)
    state, metrics = update(state, batch_at(state.step - first))
    return state, {
        **metrics,
        "losses": jnp.append(losses, metrics["loss"]),
        "norms": jnp.append(norms, metrics["gradient_norm"]),
    }
