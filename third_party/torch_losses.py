"""The losses as one writes them in PyTorch, as a peer to measure against.

Each takes tensors by name and returns one number, the mean over the batch; where `torch.nn.functional` has
the loss it is taken from there, GAE is the backward loop of CleanRL. This file needs torch and numpy and
nothing of this project:

  python third_party/torch_losses.py inputs.npz answers.npz --threads=1 --cores=0

It reads "loss/batch/argument" arrays, writes "loss/batch/value" and the first rows of every gradient, says
"ready", and then answers one line of JSON to lines such as "huber-64-gradient 100": a hundred times value
and gradient, or with "forward" the value alone.

CleanRL (ppo_continuous_action.py): https://github.com/vwxyzjn/cleanrl, MIT.
"""

import argparse
import json
import math
import os
import sys
import time

# Loss -> what is differentiated, by name; GAE is not.
LOSSES = {
    "cross_entropy": ("logits",),
    "squared": ("prediction",),
    "huber": ("prediction",),
    "gaussian_nll": ("mean", "log_std"),
    "mixture_nll": ("logits", "mean", "log_std"),
    "gripper": ("logit",),
    "flow_matching": ("predicted",),
    "info_nce": ("scores",),
    "ppo": ("log_prob",),
    "gae": (),
}
TEMPERATURE, CLIP, LAMBDA = 0.5, 0.2, 0.95
ROWS = 64  # of a gradient that are compared


def formulas():
    """Loss -> function of tensors by name, one number."""
    import torch
    from torch.nn import functional

    half_log_2pi = 0.5 * math.log(2 * math.pi)

    def gaussian_nll(mean, log_std, target):
        return (0.5 * ((target - mean) / log_std.exp()) ** 2 + log_std + half_log_2pi).mean()

    def mixture_nll(logits, mean, log_std, target):
        z = (target[:, None] - mean) / log_std.exp()
        each = -(0.5 * z**2 + log_std + half_log_2pi).sum(-1)
        return -torch.logsumexp(torch.log_softmax(logits, -1) + each, -1).mean()

    def flow_matching(predicted, x0, eps):
        return functional.mse_loss(predicted, x0 - eps)

    def info_nce(scores):
        return functional.cross_entropy(scores / TEMPERATURE, torch.arange(len(scores)))

    def ppo(log_prob, old_log_prob, advantage):
        ratio = (log_prob - old_log_prob).exp()
        return torch.max(-advantage * ratio, -advantage * ratio.clamp(1 - CLIP, 1 + CLIP)).mean()

    def gae(reward, discount, value):
        advantages, last = torch.zeros_like(reward), 0.0
        for t in reversed(range(len(reward))):
            delta = reward[t] + discount[t] * value[t + 1] - value[t]
            advantages[t] = last = delta + LAMBDA * discount[t] * last
        return advantages.mean()

    return {
        "cross_entropy": lambda logits, target: functional.cross_entropy(logits, target.long()),
        "squared": lambda prediction, target: functional.mse_loss(prediction, target),
        "huber": lambda prediction, target: functional.huber_loss(prediction, target),
        "gaussian_nll": gaussian_nll,
        "mixture_nll": mixture_nll,
        "gripper": lambda logit, target: functional.binary_cross_entropy_with_logits(logit, target),
        "flow_matching": flow_matching,
        "info_nce": info_nce,
        "ppo": ppo,
        "gae": gae,
    }


def make_runs(arrays):
    """ "loss-batch-pass" -> function without arguments that returns (value, gradients)."""
    import torch

    given = {}
    for name, array in arrays.items():
        loss, batch, argument = name.split("/")
        given.setdefault((loss, batch), {})[argument] = torch.tensor(array)
    runs, table = {}, formulas()
    for (loss, batch), arguments in given.items():
        names = LOSSES[loss]
        for name in names:
            arguments[name].requires_grad_()

        def forward(loss=loss, arguments=arguments):
            with torch.no_grad():
                return table[loss](**arguments), ()

        def gradient(loss=loss, arguments=arguments, names=names):
            value = table[loss](**arguments)
            return value.detach(), torch.autograd.grad(value, [arguments[name] for name in names])

        runs[f"{loss}-{batch}-forward"] = forward
        if names:
            runs[f"{loss}-{batch}-gradient"] = gradient
    return runs


def answers(runs, to_numpy):
    """What the parent compares before anything is timed: values, and the first rows of the gradients."""
    found = {}
    for name, run in runs.items():
        value, gradients = run()
        found[f"{name}/value"] = to_numpy(value)
        for i, gradient in enumerate(gradients):
            found[f"{name}/gradient {i}"] = to_numpy(gradient[:ROWS])
    return found


def serve(runs, wait):
    """Answers "workload count" lines with the seconds that so many calls took."""
    for line in sys.stdin:
        workload, count = line.split()
        run = runs[workload]
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(int(count)):
            wait(run())
        answer = {"steps": int(count), "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(answer), flush=True)


def parse(description):
    """Arguments of a contender; pins the process before any library is imported."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("inputs", help="arrays (.npz)")
    parser.add_argument("answers", help="where to write what they give (.npz)")
    parser.add_argument("--library", default="", help="of several that a file can run")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cores", default="", help="comma-separated processor numbers to stay on")
    arguments = parser.parse_args()
    if arguments.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in arguments.cores.split(",")})
    return arguments


def main():
    arguments = parse(__doc__.splitlines()[0])
    import numpy as np
    import torch

    torch.set_num_threads(arguments.threads)
    with np.load(arguments.inputs) as file:
        runs = make_runs({name: file[name] for name in file.files})
    np.savez(arguments.answers, **answers(runs, lambda x: x.numpy()))
    print(json.dumps({"ready": "torch", "version": f"torch {torch.__version__}"}), flush=True)
    serve(runs, lambda result: None)


if __name__ == "__main__":
    main()
