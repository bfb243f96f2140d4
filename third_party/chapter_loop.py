"""The chapter's training loop in PyTorch, written from its description, as a peer to measure against.

One step is the six lines of section 3.3,

  zero gradients, forward, loss, backward, (clip,) optimizer step, scheduler step,

and drill 1 is the same loop with another network, squared error and plain Adam. This file needs torch and
nothing of this project, so that any interpreter that has torch can run it:

  python third_party/chapter_loop.py small_policy eager --threads=1 --cores=0

It then reads one number of steps per line on stdin and answers one line of JSON: the steps made, the
seconds that they took by the wall and by the processor. Imports, compilation and the first steps
are over when it says "ready".

| contender | the loop |
| --- | --- |
| dataloader | the chapter's own: `DataLoader(TensorDataset(...), batch_size=64, shuffle=True)` |
| eager | batches by indexing tensors in memory, optimizer with one loop over parameters |
| foreach, fused | the same with these two implementations of the optimizer |
| compile, compile_fused | the same with `torch.compile` around the network and its loss |

The workload `matmul` (contender `eager`) is torch's product of two 1024 x 1024 float32 matrices per "step".
"""

import argparse
import json
import os
import sys
import time

CONTENDERS = ("dataloader", "eager", "foreach", "fused", "compile", "compile_fused")
WORKLOADS = ("small_policy", "drill_1", "matmul")
BATCH = 64
MATMUL = 1024
WARM_STEPS = 20


def define():
    """The two networks; inside a function so that the pinning to cores comes before the import of torch."""
    import torch
    from torch import nn

    class SmallPolicy(nn.Module):
        """Observation (B, 64) -> logits (B, 7, 256), one linear head per joint."""

        def __init__(self, observation=64, joints=7, bins=256, width=256):
            super().__init__()
            self.trunk = nn.Sequential(
                nn.Linear(observation, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
            )
            self.heads = nn.ModuleList(nn.Linear(width, bins) for _ in range(joints))

        def forward(self, observation):
            hidden = self.trunk(observation)
            return torch.stack([head(hidden) for head in self.heads], dim=1)

    class Regressor(nn.Module):
        """Observation (B, 14) -> action (B, 7): drill 1's three layers."""

        def __init__(self, observation=14, action=7, width=256):
            super().__init__()
            self.layers = nn.Sequential(
                nn.Linear(observation, width),
                nn.ReLU(),
                nn.Linear(width, width),
                nn.ReLU(),
                nn.Linear(width, action),
            )

        def forward(self, observation):
            return self.layers(observation)

    return SmallPolicy, Regressor


def cross_entropy(logits, bins):
    """Mean over the joints of the batch-mean cross-entropy: (B, J, K) logits, (B, J) integer bins."""
    from torch.nn import functional

    return functional.cross_entropy(logits.flatten(0, 1), bins.flatten())


def squared_error(prediction, action):
    """Mean over batch and dimensions."""
    from torch.nn import functional

    return functional.mse_loss(prediction, action)


def make_data(workload):
    """Observations and targets of section 3.3 (4,096 pairs) or of drill 1 (10,000 pairs)."""
    import torch

    torch.manual_seed(42)
    if workload == "small_policy":
        return torch.randn(4096, 64), torch.randint(0, 256, (4096, 7))
    observation = torch.randn(10_000, 14)
    return observation, observation @ torch.randn(14, 7) / 14**0.5 + 0.3 * torch.randn(10_000, 7)


def make_training(workload, implementation, schedule_steps=1_000_000):
    """(model, loss function, optimizer, scheduler, clip) as the chapter sets them."""
    import torch

    small_policy, regressor = define()
    # False for both is the plain loop over parameters; torch would otherwise choose for itself.
    how = {"foreach": implementation == "foreach", "fused": implementation == "fused"}
    if workload == "small_policy":
        model, loss, clip = small_policy(), cross_entropy, 1.0
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-5, **how)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=schedule_steps)
    else:
        model, loss, clip = regressor(), squared_error, None
        optimizer, scheduler = torch.optim.Adam(model.parameters(), lr=1e-3, **how), None
    return model, loss, optimizer, scheduler, clip


def train_step(score, parameters, optimizer, scheduler, clip, observation, target):
    """The six lines.

    Args:
      score: (observation, target) -> scalar loss.
      parameters: list of tensors that the optimizer changes.
      optimizer, scheduler: torch's; no scheduler is None.
      clip: bound of the gradient's global norm, or None.
      observation, target: one batch.

    Returns:
      The loss, a scalar tensor.
    """
    import torch

    optimizer.zero_grad()
    loss = score(observation, target)
    loss.backward()
    if clip is not None:
        torch.nn.utils.clip_grad_norm_(parameters, clip)
    optimizer.step()
    if scheduler is not None:
        scheduler.step()
    return loss


def _loaded(observation, target):
    """Batches for ever, from the chapter's DataLoader."""
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(observation, target), batch_size=BATCH, shuffle=True, drop_last=True)
    while True:
        yield from loader


def _indexed(observation, target):
    """Batches for ever, by indexing what is in memory."""
    import torch

    while True:
        order = torch.randperm(len(observation))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            rows = order[start : start + BATCH]
            yield observation[rows], target[rows]


def make_runner(workload, contender):
    """A function (steps) that trains on for that many steps, at least one, and returns the last loss."""
    import torch

    if workload == "matmul":
        square = torch.randn(MATMUL, MATMUL)

        def multiply(steps):
            for _ in range(steps):
                torch.mm(square, square)

        return multiply
    compiled, _, _ = contender.partition("_")
    implementation = contender.removeprefix("compile_")
    model, loss, optimizer, scheduler, clip = make_training(workload, implementation)
    parameters = list(model.parameters())
    batches = (_loaded if contender == "dataloader" else _indexed)(*make_data(workload))

    def score(observation, target):
        return loss(model(observation), target)

    if compiled == "compile":
        score = torch.compile(score)

    def run(steps):
        for _, (observation, target) in zip(range(steps), batches, strict=False):
            value = train_step(score, parameters, optimizer, scheduler, clip, observation, target)
            if contender == "dataloader":
                value.item()
        return value.item()

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cores", default="", help="comma-separated processor numbers to stay on")
    arguments = parser.parse_args()
    if arguments.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in arguments.cores.split(",")})
    import torch

    torch.set_num_threads(arguments.threads)
    run = make_runner(arguments.workload, arguments.contender)
    run(WARM_STEPS)
    print(json.dumps({"ready": arguments.contender, "version": torch.__version__}), flush=True)
    for line in sys.stdin:
        steps = int(line)
        wall, cpu = time.perf_counter(), time.process_time()
        run(steps)
        answer = {"steps": steps, "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
