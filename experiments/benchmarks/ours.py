"""This project's own step as a process that can be asked for steps: the other side of every comparison.

  python -m experiments.benchmarks.ours small_policy --cores=0

speaks the protocol of `third_party/chapter_loop.py`: "ready" once everything is imported and compiled, then
for each line with a number of steps one line of JSON with the steps made and the seconds they took. The step
is the one that `experiments.train` runs: `make_update` and `clipped_adamw`, 100 steps per dispatch, the data
and the shuffling on the device. The workload `matmul` is the yardstick: its "step" is one product of
two 1024 x 1024 float32 matrices, and its rate is taken as the peak of the machine.
"""

import argparse
import json
import os
import sys
import time
from typing import Any, NamedTuple

DISPATCH = 100
BATCH = 64
MATMUL = 1024
WORKLOADS = ("small_policy", "drill_1", "matmul")


class Training(NamedTuple):
    """Everything that a run of ours consists of.

    Attributes:
      state: the state before the first step.
      advance: (state, data) -> (state, metrics), `DISPATCH` steps.
      data: the arrays that stay on the device.
      order: (T,) step numbers -> (T, B) rows of the data.
    """

    state: Any
    advance: Any
    data: Any
    order: Any


def training(workload: str, seed: int = 0, length: int = DISPATCH) -> Training:
    """Section 3.3 (`small_policy`) or drill 1 (`drill_1`) with the chapter's settings."""
    import jax
    import jax.numpy as jnp

    from ch3_jax import objectives
    from ch3_jax.base import Batch
    from ch3_jax.data import shuffle, synthetic
    from ch3_jax.tokens import bins
    from ch3_jax.training.dispatch import device_advance
    from ch3_jax.training.optimizers import clipped_adamw, make_schedule
    from ch3_jax.training.update import init_state, make_update

    if workload == "small_policy":
        dataset, name = synthetic.random_bins(seed), "ce"
        edges = bins.uniform([-1.0] * 7, [1.0] * 7, 256)  # the bins that the set is made of
        optimizer = clipped_adamw(make_schedule("cosine", 1e-4, steps=1_000_000))
    else:
        dataset, name, edges = synthetic.inverse_dynamics(seed, pairs=10_000), "mse", None
        optimizer = clipped_adamw(1e-3, clip=None, weight_decay=0.0)
    split = dataset.splits["train"]
    data = jnp.asarray(split.observation)[:, None], jnp.asarray(split.action)[:, None]
    rows, state_size = data[0].shape[0], data[0].shape[-1]
    shapes = objectives.Shapes(window=1, state=state_size, horizon=1, action=data[1].shape[-1])
    objective = objectives.make_objective(name, shapes, edges)
    key = jax.random.key(seed)

    def order(steps):
        return shuffle.indices(key, steps, BATCH, rows)

    def fetch(arrays, index):
        return Batch(arrays[0][index], arrays[1][index], jnp.ones((BATCH, 1), bool))

    advance = device_advance(make_update(objective.loss, optimizer), order, fetch, length)
    return Training(init_state(objective.init(key), optimizer, key), advance, data, order)


def _runner(workload: str):
    """A function (steps) -> steps really made, which trains on for about that many."""
    import jax
    import jax.numpy as jnp

    if workload == "matmul":
        square = jax.random.normal(jax.random.key(0), (MATMUL, MATMUL))
        product = jax.jit(jnp.dot)

        def multiply(steps: int) -> int:
            for _ in range(steps):
                answer = product(square, square)
            jax.block_until_ready(answer)
            return steps

        return multiply
    job = training(workload)
    states = [job.state]

    def train(steps: int) -> int:
        dispatches = -(-steps // DISPATCH)
        for _ in range(dispatches):
            states[0], metrics = job.advance(states[0], job.data)
        jax.block_until_ready((states[0], metrics))
        return dispatches * DISPATCH

    return train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--cores", default="", help="comma-separated processor numbers to stay on")
    arguments = parser.parse_args()
    # Before jax is imported: it makes as many threads as there are processors that it may use.
    if arguments.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in arguments.cores.split(",")})
    import jax

    run = _runner(arguments.workload)
    run(1)
    print(json.dumps({"ready": arguments.workload, "version": jax.__version__}), flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        steps = run(int(line))
        answer = {"steps": steps, "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
