"""Training runs spread over processors: one process each, items handed out as processes become free.

The processes are in sessions of their own, so that Ctrl-C reaches the parent alone, which then decides. One
that loses its parent ends at its next word, since nobody reads it any more.
"""

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.bakeoff_parts.plan import Item, Settings

MOST = 5
_ROOT = Path(__file__).resolve().parents[2]
_PATIENCE_S = 0.2
_ONE_THREAD = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",  # networks this small run no faster on an accelerator
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
}
# A model's programs are the same for both data sets: compiled for the first, read for the second.
_CACHE = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


def processors(items: int) -> list[int]:
    """The processors to use, one process on each: at most as many as there are items, and `MOST`."""
    if hasattr(os, "sched_getaffinity"):
        own = sorted(os.sched_getaffinity(0), reverse=True)
    else:
        own = list(range(os.cpu_count() or 1))
    return own[: max(1, min(items, MOST))]


def command(settings: Settings, folder: Path, core: int) -> list[str]:
    """What a process is started with."""
    words = ["-m", "experiments.bakeoff_parts.worker", str(folder), json.dumps(settings._asdict())]
    return [sys.executable, *words, f"--core={core}"]


def run(
    items: Sequence[Item],
    settings: Settings,
    folder: Path,
    *,
    heard: Callable[[Item, dict[str, Any]], None],
    stop: Callable[[], bool],
) -> bool:
    """Has every item trained and scored.

    Args:
      items: in the order in which they are begun.
      settings: the same for all.
      folder: where each process writes its parts.
      heard: called with every message of a process: {"step": n}, then {"done": facts}.
      stop: asked several times a second.

    Returns:
      Whether all are done; False where `stop` said so, with what was not finished given up.

    Raises:
      OSError: a process could not write its part. ChildProcessError: a process died.
    """
    waiting = list(items)
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        compiled = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        busy = {}
        for core in processors(len(items)) if waiting else ():
            process = stack.enter_context(_Process(settings, folder, core, compiled))
            selector.register(process.output, selectors.EVENT_READ, process)
            busy[process] = process.begin(waiting.pop(0))
        while busy:
            if stop():
                return False
            for ready, _ in selector.select(_PATIENCE_S):
                process = ready.data
                for message in process.messages():
                    if "os_error" in message:
                        raise OSError(*message["os_error"])
                    heard(busy[process], message)
                    if "done" in message:
                        del busy[process]
                        if waiting:
                            busy[process] = process.begin(waiting.pop(0))
                        else:
                            selector.unregister(process.output)
    return True


class _Process:
    """One worker; leaving the `with` block ends it."""

    def __init__(self, settings: Settings, folder: Path, core: int, compiled: str):
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            command(settings, folder, core),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=_ROOT,
            env=_CACHE | {"JAX_COMPILATION_CACHE_DIR": compiled} | os.environ | _ONE_THREAD,
            start_new_session=True,
        )
        self.output = self._process.stdout
        self._rest = b""

    def __enter__(self) -> "_Process":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self.output.close()
        self._errors.close()

    def begin(self, item: Item) -> Item:
        """Hands it an item; a process that has died is found out when it is read."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(item).encode() + b"\n")
            self._process.stdin.flush()
        return item

    def messages(self) -> list[dict[str, Any]]:
        """What it has said since it was last asked."""
        read = os.read(self.output.fileno(), 1 << 16)
        if not read:
            self._process.wait()
            self._errors.seek(0)
            last = [line for line in self._errors.read().splitlines() if line.strip()][-1:]
            raise ChildProcessError(f"a training process ended: {last[0] if last else 'without a word'}")
        *lines, self._rest = (self._rest + read).split(b"\n")
        return [json.loads(line) for line in lines if line.startswith(b"{")]
