"""Brax's own PPO on a Brax environment, as a peer to compare returns with at equal steps.

  python third_party/brax_ppo.py inverted_pendulum --steps=2000000 --seeds=3

needs brax and nothing of this project; the numbers are those of Brax's training notebook for this one.
Prints the mean return of 128 evaluation episodes at the end for each seed, one line of JSON each.
"""

import argparse
import functools
import json
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("env")
    parser.add_argument("--steps", type=int, default=2_000_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--backend", default="generalized")
    arguments = parser.parse_args()
    import jax

    # Brax 0.14 asks for a function that newer versions of jax have taken away.
    if not hasattr(jax, "device_put_replicated"):
        jax.device_put_replicated = lambda tree, devices: jax.tree.map(
            lambda x: jax.numpy.stack([jax.numpy.asarray(x)] * len(devices)), tree
        )
    from brax import envs
    from brax.training.agents.ppo import train as ppo

    train = functools.partial(
        ppo.train,
        num_timesteps=arguments.steps,
        num_evals=5,
        reward_scaling=10,
        episode_length=1000,
        normalize_observations=True,
        unroll_length=5,
        num_minibatches=32,
        num_updates_per_batch=4,
        discounting=0.97,
        learning_rate=3e-4,
        entropy_cost=1e-2,
        num_envs=2048,
        batch_size=1024,
    )
    for seed in range(arguments.seeds):
        rows, began = [], time.monotonic()

        def note(step, metrics, rows=rows):
            rows.append((int(step), float(metrics["eval/episode_reward"])))

        train(
            environment=envs.get_environment(arguments.env, backend=arguments.backend),
            seed=seed,
            progress_fn=note,
        )
        seconds = time.monotonic() - began
        print(json.dumps({"seed": seed, "steps": rows[-1][0], "return": rows[-1][1], "seconds": seconds}))


if __name__ == "__main__":
    main()
