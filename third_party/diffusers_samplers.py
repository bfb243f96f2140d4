"""The schedulers of diffusers around a network, as a peer to measure samplers against.

The loop is that of their documentation and of Diffusion Policy,

  for t in scheduler.timesteps:
      x = scheduler.step(model(x, t), t, x).prev_sample

around the MLP observation, x, time -> 256 -> 256 -> action. This file needs torch, diffusers and numpy and
nothing of this project:

  python third_party/diffusers_samplers.py inputs.npz answers --threads=1 --cores=0

It reads weights, observations, starting noise and DDPM's draws, writes what each scheduler makes of them
into the folder `answers`, says "ready", and then answers one line of JSON to lines such as "ddim-64 100": a
hundred times 64 actions. `set_timesteps` is called once where the scheduler keeps no state of a walk (DDPM,
DDIM) and before every walk where it does. The workload "network" is as many calls of the network and nothing
else.

diffusers: https://github.com/huggingface/diffusers, Apache-2.0.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

STEPS, TRAINED = 20, 100
SAMPLERS = ("ddpm", "ddim", "dpmpp_2m", "euler", "heun")
BATCHES = (1, 64)


def make_scheduler(name):
    """(scheduler, function that prepares a walk, whether a walk leaves state behind, scale of its times)."""
    import diffusers
    import numpy as np

    diffusion = {
        "num_train_timesteps": TRAINED,
        "beta_schedule": "squaredcos_cap_v2",
        "prediction_type": "v_prediction",
        "timestep_spacing": "trailing",
    }
    if name == "ddpm":
        scheduler = diffusers.DDPMScheduler(**diffusion, clip_sample=False)
    elif name == "ddim":
        scheduler = diffusers.DDIMScheduler(**diffusion, clip_sample=False, set_alpha_to_one=True)
    elif name == "dpmpp_2m":
        scheduler = diffusers.DPMSolverMultistepScheduler(**diffusion, final_sigmas_type="zero")
    elif name == "euler":
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
        levels = np.linspace(1, 1 / STEPS, STEPS).tolist()
        return scheduler, lambda: scheduler.set_timesteps(sigmas=levels), True, 1000
    else:
        scheduler = diffusers.FlowMatchHeunDiscreteScheduler()
        return scheduler, lambda: scheduler.set_timesteps(STEPS), True, 1000
    return scheduler, lambda: scheduler.set_timesteps(STEPS), name == "dpmpp_2m", TRAINED


def make_network(arrays):
    """The MLP with the given weights: kernels (in, out) there, (out, in) in torch."""
    import torch
    from torch import nn

    layers = []
    for name in ("hidden_1", "hidden_2", "heads"):
        kernel, bias = (torch.tensor(arrays[f"{name}/{part}"]) for part in ("kernel", "bias"))
        layer = nn.Linear(*kernel.shape)
        layer.weight.data, layer.bias.data = kernel.T.contiguous(), bias
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def make_walk(name, network, observation):
    """x (B, A) -> actions (B, A)."""
    import torch

    if name == "network":
        columns = [torch.full((len(observation), 1), share) for share in torch.linspace(0, 1, STEPS).tolist()]

        def bare(x):
            for column in columns:
                x = network(torch.cat([observation, x, column], 1))
            return x

        return bare
    scheduler, prepare, stateful, scale = make_scheduler(name)
    column = torch.ones(len(observation), 1)
    prepare()

    def walk(x):
        if stateful:
            prepare()
        for t in scheduler.timesteps:
            predicted = network(torch.cat([observation, x, column * (t / scale)], 1))
            x = scheduler.step(predicted, t, x).prev_sample
        return x

    return walk


def with_draws(walk, draws, x):
    """One DDPM walk with the noise of somebody else, draw for draw."""
    import torch
    from diffusers.schedulers import scheduling_ddpm

    original, draws = scheduling_ddpm.randn_tensor, iter(draws)
    scheduling_ddpm.randn_tensor = lambda shape, **_: torch.tensor(next(draws))
    try:
        return walk(x)
    finally:
        scheduling_ddpm.randn_tensor = original


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("inputs", type=Path, help="weights, observations, noise (.npz)")
    parser.add_argument("answers", type=Path, help="folder for the samples")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cores", default="", help="comma-separated processor numbers to stay on")
    arguments = parser.parse_args()
    if arguments.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in arguments.cores.split(",")})
    import diffusers
    import numpy as np
    import torch

    torch.set_num_threads(arguments.threads)
    torch.set_grad_enabled(False)
    with np.load(arguments.inputs) as file:
        arrays = {name: file[name] for name in file.files}
    network = make_network(arrays)
    start = {b: torch.tensor(arrays[f"start/{b}"]) for b in BATCHES}
    walks = {
        (name, b): make_walk(name, network, torch.tensor(arrays[f"observation/{b}"]))
        for name in (*SAMPLERS, "network")
        for b in BATCHES
    }
    for (name, b), walk in walks.items():
        found = with_draws(walk, arrays[f"draws/{b}"], start[b]) if name == "ddpm" else walk(start[b])
        np.save(arguments.answers / f"{name}-{b}.npy", found.numpy())
    version = f"diffusers {diffusers.__version__}, torch {torch.__version__}"
    print(json.dumps({"ready": "diffusers", "version": version}), flush=True)
    for line in sys.stdin:
        workload, count = line.split()
        name, b = workload.split("-")
        walk, x = walks[name, int(b)], start[int(b)]
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(int(count)):
            walk(x)
        answer = {"steps": int(count), "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
