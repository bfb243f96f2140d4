"""Where several processes train as one: how a run begins, who writes, what is said when one is gone.

  python -m experiments.train ... --coordinator=host:12345 --num_processes=2 --process_id=0    (and 1)

Every process is given the same flags but for --process_id. Process 0 owns the run folder and says what a run
says; the others write to a folder that is thrown away, and read checkpoints where process 0 has written them:
--out must be on a disk that all of them see.
"""

import contextlib
import dataclasses
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
from absl import flags

from ch3_jax.errors import InputError
from ch3_jax.training import hosts
from experiments import run_folder
from experiments.flags import HOSTS, Options
from experiments.run_folder import RunFolder

LOST = 4


def meet(options: Options) -> Options:
    """Meets the other processes, if there are any, and settles how many devices there are.

    Raises:
      InputError: half of the three flags, or what `training.hosts.join` refuses.
    """
    f = flags.FLAGS
    given = {name: f[name].value for name in HOSTS}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given):
        if options.devices:  # Before anything is computed; without effect where there is an accelerator.
            jax.config.update("jax_num_cpu_devices", options.devices)
        return options
    if missing or not options.out:
        wanted = f"--{missing[0]}" if missing else "--out"
        raise InputError(
            f"several processes need {wanted}",
            got=" ".join(f"--{name}={value}" for name, value in given.items() if value is not None),
            expected="--coordinator, --num_processes, --process_id, and one --out for all",
            cause="a flag left out",
            fix="--coordinator=127.0.0.1:12345 --num_processes=2 --process_id=0 --out=runs/x",
        )
    processes = given["num_processes"]
    devices = options.devices or processes
    jax.config.update("jax_num_cpu_devices", max(devices // processes, 1))
    hosts.join(given["coordinator"], processes, given["process_id"])
    if jax.process_index():
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - one process speaks, to its end
    return dataclasses.replace(options, devices=options.devices or jax.device_count())


@contextlib.contextmanager
def folder(out: Path, resume: bool) -> Iterator[RunFolder]:
    """The run folder, held; in every process but the first one that is thrown away."""
    if jax.process_index() == 0:
        with run_folder.acquire(out, resume, absent="start") as held:
            yield held
        return
    with tempfile.TemporaryDirectory() as name:
        yield RunFolder(Path(name), lock=os.open(os.devnull, os.O_RDONLY))


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Ends this process, with a sentence, when another one is gone."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        print(
            InputError(
                f"process {jax.process_index()} of {jax.process_count()} stops: another one is gone",
                got=first,
                expected="all processes, to the end of the run",
                cause="a process that was killed, a host that failed, or a network that was cut",
                fix="start all of them again with --resume: the last checkpoint is whole",
            ),
            file=sys.stderr,
            flush=True,
        )
        # Not by `sys.exit`: at the end of the interpreter JAX would wait for the one that is gone.
        os._exit(LOST)
