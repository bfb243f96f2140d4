"""Our samplers as a process that can be asked for actions: the other side of `samplers`.

  python -m experiments.benchmarks.own_samplers inputs.npz answers --cores=0

reads weights, observations and starting noise, writes what each sampler makes of them into the folder
`answers`, says "ready", and then answers lines such as "ddim-64 100": a hundred times 64 actions, one
dispatch each, waited for. The protocol is that of `third_party/diffusers_samplers.py`. The workload "network"
is as many calls of the network as a sampler makes and nothing else: what no sampler around it can beat.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

STEPS, TRAINED = 20, 100
SAMPLERS = ("ddpm", "ddim", "dpmpp_2m", "euler", "heun")
BATCHES = (1, 64)
KEY = 1  # of the noise that DDPM draws


def make(name: str):
    """(sampler, process) of a name: the diffusion ones on a squared cosine, the solvers on a flow.

    The network predicts v or the velocity, because with weights that were never trained a conversion from
    eps would divide by sqrt(abar) = 5e-4 and compare huge numbers. Heun walks diffusers' own times: levels
    from 1 to 0.001 and then to 0, that last step being Euler's.
    """
    import numpy as np

    from ch3_jax.noise.flow import linear_path
    from ch3_jax.noise.processes import Grid, diffusion
    from ch3_jax.noise.samplers import make_sampler
    from ch3_jax.noise.schedules import make_schedule

    if name in ("ddpm", "ddim", "dpmpp_2m"):
        process = diffusion(make_schedule("squaredcos_cap_v2", TRAINED))
        return make_sampler(name, process, steps=STEPS, prediction="v"), process
    process = linear_path("noise_at_1")
    if name == "heun":
        levels = np.append(np.linspace(1, 1e-3, STEPS), 0.0)
        process = process._replace(grid=lambda n: Grid(levels, 1 - levels, levels), lowest=1e-3)
    return make_sampler(name, process, steps=STEPS), process


def runner(name: str, params, observation) -> Callable:
    """x (B, A) -> actions (B, A), compiled."""
    import jax
    import jax.numpy as jnp

    from ch3_jax.noise.denoiser import Denoiser
    from ch3_jax.policies.small import small_policy

    inputs, width = params["hidden_1"]["kernel"].shape
    policy = small_policy((1, inputs), (params["heads"]["bias"].size,), width)

    def network(params, observation, x, share):
        column = jnp.broadcast_to(share, x.shape[:1]).astype(x.dtype)[:, None]
        return policy.apply(params, jnp.concatenate([observation, x, column], 1)[:, None])

    @jax.jit
    def bare(params, observation, x):
        shares = jnp.linspace(0, 1, STEPS)
        # Each call reads the last one's answer, or the compiler would merge them.
        return jax.lax.scan(lambda x, share: (network(params, observation, x, share), None), x, shares)[0]

    @jax.jit
    def sampled(params, observation, x):
        sampler, process = make(name)
        scale = 1 if process.continuous else TRAINED
        denoiser = Denoiser(
            lambda x, t: network(params, observation, x, t / scale), sampler.prediction, process
        )
        return sampler.run(denoiser, x, jax.random.key(KEY) if sampler.random else None)

    run = bare if name == "network" else sampled
    return lambda x: run(params, observation, x).block_until_ready()


def load(path: Path):
    """(params, {batch: observation}, {batch: starting noise}) as device arrays."""
    import jax.numpy as jnp
    import numpy as np

    with np.load(path) as file:
        arrays = {name: jnp.asarray(file[name]) for name in file.files}
    params = {
        layer: {part: arrays[f"{layer}/{part}"] for part in ("kernel", "bias")}
        for layer in ("hidden_1", "hidden_2", "heads")
    }
    seen, start = ({b: arrays[f"{what}/{b}"] for b in BATCHES} for what in ("observation", "start"))
    return params, seen, start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("inputs", type=Path, help="weights, observations, starting noise (.npz)")
    parser.add_argument("answers", type=Path, help="folder for the samples")
    parser.add_argument("--cores", default="", help="comma-separated processor numbers to stay on")
    arguments = parser.parse_args()
    # Before jax is imported: it makes as many threads as there are processors that it may use.
    if arguments.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in arguments.cores.split(",")})
    import jax
    import numpy as np

    params, seen, start = load(arguments.inputs)
    runs = {(name, b): runner(name, params, seen[b]) for name in (*SAMPLERS, "network") for b in BATCHES}
    for (name, b), run in runs.items():
        np.save(arguments.answers / f"{name}-{b}.npy", run(start[b]))
    print(json.dumps({"ready": "ours", "version": f"jax {jax.__version__}"}), flush=True)
    for line in sys.stdin:
        workload, count = line.split()
        name, b = workload.split("-")
        run, x = runs[name, int(b)], start[int(b)]
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(int(count)):
            run(x)
        answer = {"steps": int(count), "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
