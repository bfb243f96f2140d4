"""Training by reward, from flags to an exit code."""

import dataclasses
import os
from pathlib import Path

import jax

from ch3_jax import writers
from experiments import run_folder
from experiments.entry import Interrupt
from experiments.reinforce_parts import flags as own
from experiments.reinforce_parts import presets, session
from experiments.reinforce_parts.job import build_job
from experiments.run_folder import RunFolder


def main(interrupt: Interrupt, began: float) -> session.Ended:
    """Reads, refuses or prepares, trains; arguments as of `session.train`."""
    options = own.options()
    name = (options.env or "panda_reach").replace(":", "_")
    out = run_folder.prepare(
        options.out or run_folder.default_out(name, options.loss, options.seed),
        options.resume,
        absent="start",
    )
    if options.wandb:
        writers.require_wandb()  # Here, where nothing is written yet.
    before = RunFolder(Path(out), lock=-1).read_config() if options.resume else None
    options = own.options(before["flags"]) if before else options
    # A device for each core, before anything is computed; without effect where there is an accelerator.
    jax.config.update("jax_num_cpu_devices", options.devices or _cores())
    options = presets.settle(dataclasses.replace(options, out=str(out)))
    job = build_job(options)
    with run_folder.acquire(out, options.resume, absent="start") as folder:
        return session.train(options, job, folder, interrupt, began)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
