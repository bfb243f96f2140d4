"""Several processes that train as one: how they meet, agree, and part.

Every process runs the same program on the same data and makes the same calls in the same order; XLA speaks
between them where an array lies on devices of several. Process 0 alone writes. On a CPU they speak over gloo.

| what is asked | answered |
| --- | --- |
| nobody at the coordinator's address | after `patience` seconds, with the address |
| other flags in another process | before the first step, by a digest |
| whether to stop | if any process was asked to |
| a process that is gone | by an error in the next exchange, or by the coordinator's heartbeat |

Reference: jax.distributed, "Introduction to multi-controller JAX".
"""

import hashlib
import json
import socket
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ch3_jax.base import PyTree
from ch3_jax.errors import InputError

HEARTBEAT_S = 10
_PATIENCE_S = 60


def join(coordinator: str, processes: int, process: int, *, patience: int = _PATIENCE_S) -> None:
    """Meets the others; before anything is computed.

    Args:
      coordinator: "host:port" of process 0.
      processes: how many there are.
      process: which one this is.
      patience: seconds to wait for the others.

    Raises:
      InputError: an address that is none, a number outside, or others that do not come.
    """
    host, _, port = coordinator.rpartition(":")
    if not (host and port.isdigit() and 0 < int(port) < 2**16):
        raise InputError(
            "the coordinator's address cannot be used",
            got=f"--coordinator={coordinator}",
            expected="host:port of process 0, the same in every process",
            cause="a missing port, or a misspelt name",
            fix="--coordinator=127.0.0.1:12345",
        )
    if not 0 <= process < processes:
        raise InputError(
            f"there is no process {process} among {processes}",
            got=f"--process_id={process} --num_processes={processes}",
            expected=f"--process_id from 0 to {processes - 1}, another in each process",
            cause="numbers that start at 1, or a flag left out",
            fix=f"--process_id={processes - 1}",
        )
    if process:
        _wait_for(host, int(port), coordinator, patience)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            initialization_timeout=patience,
            heartbeat_timeout_seconds=HEARTBEAT_S,
        )
    except (RuntimeError, ValueError) as error:
        raise _not_met(coordinator, f"{str(error).splitlines()[0][:120]}", patience) from error


def _wait_for(host: str, port: int, coordinator: str, patience: int) -> None:
    """Until somebody listens: the runtime itself would end the process without a word to read."""
    until = time.monotonic() + patience
    while True:
        try:
            socket.create_connection((host, port), timeout=2).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise _not_met(coordinator, str(error), patience) from error
            time.sleep(0.2)


def _not_met(coordinator: str, got: str, patience: int) -> InputError:
    return InputError(
        f"the processes did not meet at {coordinator}",
        got=got,
        expected=f"all of --num_processes at --coordinator={coordinator} within {patience} s",
        cause="process 0 was not started, another address, or a port that is closed between the hosts",
        fix="start all processes with the same --coordinator, --process_id=0 on its host",
    )


def require_same(flags: Mapping[str, Any]) -> None:
    """Refuses processes that were started with other flags.

    Args:
      flags: all that decides what the run does, as plain JSON.

    Raises:
      InputError: in every process, saying which differ from process 0.
    """
    if jax.process_count() == 1:
        return
    from jax.experimental import multihost_utils

    digest = hashlib.sha256(json.dumps(flags, sort_keys=True, default=str).encode()).digest()
    mine = np.frombuffer(digest[:16], np.int32)
    every = np.asarray(multihost_utils.process_allgather(mine))
    other = [i for i, row in enumerate(every) if not np.array_equal(row, every[0])]
    if other:
        raise InputError(
            "the processes were started with different flags",
            got=f"process {', '.join(map(str, other))} differs from process 0; this one is "
            f"{jax.process_index()}",
            expected="the same flags everywhere, but for --process_id",
            cause="a flag given to one of them only, or another version of the code",
            fix="start all of them with one command line, --process_id apart",
        )


def anyone(flag: bool) -> bool:
    """Whether any process says so; all of them must ask."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


def spread(tree: PyTree, shardings: PyTree) -> PyTree:
    """Values that every process has, alike, as arrays over the devices of all.

    Args:
      tree: of arrays and typed keys on this process.
      shardings: where each belongs, a prefix of `tree`.
    """
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)
    is_key = jax.tree.map(lambda x: jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key), tree)
    # Numbers of the host are taken to be the same everywhere; an array of this process's device is not.
    plain = jax.tree.map(lambda x, key: np.asarray(jax.random.key_data(x) if key else x), tree, is_key)
    again = jax.jit(
        lambda data: jax.tree.map(lambda x, key: jax.random.wrap_key_data(x) if key else x, data, is_key),
        out_shardings=shardings,
    )
    return again(plain)
