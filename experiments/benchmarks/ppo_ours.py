"""This project's PPO as a process that can be asked for iterations: `third_party/sb3_ppo.py`'s other side.

  python -m experiments.benchmarks.ppo_ours --envs=1024 --cores=0

The iteration is the one that `experiments.train --loss=ppo` runs, compiled, its state donated.
"""

import argparse
import json
import os
import sys
import time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--envs", type=int, default=1024)
    parser.add_argument("--cores", default="", help="comma-separated processor numbers to stay on")
    arguments = parser.parse_args()
    # Before jax is imported: it makes as many threads as there are processors that it may use.
    if arguments.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in arguments.cores.split(",")})
    import jax

    devices = len(arguments.cores.split(",")) if arguments.cores else 1
    jax.config.update("jax_num_cpu_devices", devices)
    from ch3_jax.environments.reach import reach
    from ch3_jax.reinforcement.build import build
    from ch3_jax.reinforcement.settings import Settings
    from ch3_jax.reinforcement.spread import compiler_options
    from ch3_jax.training.optimizers import clipped_adamw
    from third_party.sb3_ppo import MINIBATCHES, ROLLOUT

    settings = Settings(
        envs=arguments.envs, rollout=ROLLOUT, update_epochs=1, minibatches=MINIBATCHES, gamma=0.95
    )
    optimizer = clipped_adamw(2e-3, clip=0.5, weight_decay=0.0, eps=1e-5)
    made = build(reach("dense"), settings, optimizer, devices=devices)
    iteration = jax.jit(made.iteration, donate_argnums=0, compiler_options=compiler_options())
    state, metrics = iteration(made.start(jax.random.key(0)))
    jax.block_until_ready(metrics)
    print(json.dumps({"ready": "ours", "version": f"jax {jax.__version__}"}), flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(int(line)):
            state, metrics = iteration(state)
            if devices > 1:
                jax.block_until_ready(state)  # See `reinforcement.spread`.
        jax.block_until_ready((state, metrics))
        answer = {"steps": int(line), "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
