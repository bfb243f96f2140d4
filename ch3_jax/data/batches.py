"""Batches made on the host and sent ahead, for data that does not fit on the accelerator.

The data stays in the memory of the host; a thread gathers the windows of the next dispatch and starts
their transfer while the device still computes the last one. Which samples a step sees is the same
function of the step as on the device, so both pipelines train on the same batches.
"""

import queue
import threading
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array, Batch
from ch3_jax.data.windows import DeviceSteps, gather

_AHEAD = 2


def host_batches(
    steps: DeviceSteps,
    order: Callable[[Array], Array],
    lengths: Iterator[tuple[int, int]],
    *,
    window: int = 1,
    horizon: int = 1,
    device: jax.Device | jax.sharding.Sharding | None = None,
    share: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """Stacked batches for `training.dispatch.host_advance`, prefetched.

    Args:
      steps: on the CPU device (`jax.default_device` while they were made).
      order: (T,) step numbers -> (T, B) sample indices.
      lengths: (first step, K) of each dispatch to come.
      window, horizon: W and H.
      device: where batches go, or how they are divided; None for JAX's default device.
      share: (i, n), where n processes make the i-th part of every batch each; needs a sharding.

    Yields:
      `Batch` with leaves (K, B, ...), on the device.

    Raises:
      Whatever the thread met, in the place where its batch was asked for.
    """

    @jax.jit
    def stacked(steps: DeviceSteps, index: Array) -> Batch:
        flat = gather(steps, jnp.reshape(index, -1), window=window, horizon=horizon)
        return jax.tree.map(lambda x: jnp.reshape(x, (*index.shape, *x.shape[1:])), flat)

    ready: queue.Queue = queue.Queue(_AHEAD)
    closed = threading.Event()

    def offer(item: object) -> bool:
        """Waits for room, but not for a reader that has gone."""
        while not closed.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            with jax.default_device(jax.local_devices(backend="cpu")[0]):
                for first, length in lengths:
                    index = order(first + jnp.arange(length))
                    if not offer(_sent(stacked(steps, _part(index, share)), device, share)):
                        return
            offer(None)
        except BaseException as error:  # handed to the reader, who would otherwise wait for ever
            offer(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        closed.set()
        thread.join()


def _part(index: Array, share: tuple[int, int]) -> Array:
    """(K, B) sample indices -> this process's columns."""
    rows = index.shape[1] // share[1]
    return index[:, share[0] * rows : (share[0] + 1) * rows]


def _sent(batch: Batch, device, share: tuple[int, int]) -> Batch:
    """A batch, or this process's part of it, where it belongs."""
    if share[1] == 1:
        return jax.device_put(batch, device)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(device, np.asarray(x)), batch)
