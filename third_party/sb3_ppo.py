"""Stable-Baselines3's PPO on `panda_reach`, as a peer to measure against.

The environment is written here anew in NumPy from its description (Franka's published DH table, velocity
commands for a twentieth of a second, 80 steps), so that this file needs stable-baselines3 and nothing of this
project:

  python third_party/sb3_ppo.py vectorised inputs.npz answers.npz --threads=1 --cores=0

| contender | the environments |
| --- | --- |
| one by one | a `gymnasium.Env` each, stepped in turn: SB3's DummyVecEnv |
| vectorised | one `gymnasium.vector.VectorEnv` that steps all of them in one NumPy call |

It writes where given actions lead to, then reads one number of iterations per line on stdin and answers one
line of JSON: the iterations made, the seconds that they took by the wall and by the processor. An iteration
is a rollout of 32 steps of all environments and 8 updates, each with an eighth of it.
"""

import argparse
import json
import os
import sys
import time

CONTENDERS = ("one by one", "vectorised")
ROLLOUT, MINIBATCHES, STEPS, STEP_S = 32, 8, 80, 0.05
# Modified DH of the Panda, Franka's documentation: a, d, alpha / (pi / 2); the flange is 0.107 m further.
A = (0.0, 0.0, 0.0, 0.0825, -0.0825, 0.0, 0.088)
D = (0.333, 0.0, 0.316, 0.0, 0.384, 0.0, 0.0)
ALPHA = (0, -1, 1, 1, -1, 1, 1)
FLANGE = 0.107


def flange(q):
    """Positions (N, 3) of the flange for joint angles (N, 7)."""
    import numpy as np

    count = len(q)
    rotation, position = np.broadcast_to(np.eye(3), (count, 3, 3)), np.zeros((count, 3))
    cos, sin = np.cos(q), np.sin(q)
    for j in range(7):
        ca, sa = (1.0, 0.0) if ALPHA[j] == 0 else (0.0, float(ALPHA[j]))
        step = np.empty((count, 3, 3))
        step[:, 0] = np.stack([cos[:, j], -sin[:, j], np.zeros(count)], -1)
        step[:, 1] = np.stack([sin[:, j] * ca, cos[:, j] * ca, np.full(count, -sa)], -1)
        step[:, 2] = np.stack([sin[:, j] * sa, cos[:, j] * sa, np.full(count, ca)], -1)
        position = position + rotation @ np.array([A[j], -sa * D[j], ca * D[j]])
        rotation = rotation @ step
    return position + FLANGE * rotation[:, :, 2]


class World:
    """N robots; what both kinds of environment are made of."""

    def __init__(self, count, limits, seed):
        import numpy as np

        self.lower, self.upper, self.velocity, self.rest = limits
        self.rng = np.random.default_rng(seed)
        self.q, self.v = np.zeros((count, 7)), np.zeros((count, 7))
        self.target, self.t = np.zeros((count, 3)), np.zeros(count, int)
        self.begin(np.ones(count, bool))

    def begin(self, rows):
        count = int(rows.sum())
        self.q[rows] = self.rest + 0.3 * self.rng.uniform(-1, 1, (count, 7))
        self.target[rows] = flange(self.rest + 0.5 * self.rng.uniform(-1, 1, (count, 7)))
        self.v[rows], self.t[rows] = 0, 0

    def step(self, unit):
        import numpy as np

        move = STEP_S * np.clip(unit, -1, 1) * self.velocity
        after = np.clip(self.q + move, self.lower, self.upper)
        self.v, self.q, self.t = (after - self.q) / STEP_S, after, self.t + 1
        return -np.linalg.norm(flange(after) - self.target, axis=-1)

    def observe(self):
        import numpy as np

        return np.concatenate([self.q, self.v, self.target], -1).astype(np.float32)


def make(contender, count, limits):
    """SB3's view of the environments."""
    import gymnasium
    import numpy as np
    from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

    seen = gymnasium.spaces.Box(-np.inf, np.inf, (17,), np.float32)
    acts = gymnasium.spaces.Box(-1, 1, (7,), np.float32)

    class Single(gymnasium.Env):
        observation_space, action_space = seen, acts

        def __init__(self, seed):
            self.world = World(1, limits, seed)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.world.begin(np.ones(1, bool))
            return self.world.observe()[0], {}

        def step(self, action):
            reward = self.world.step(action[None])
            return self.world.observe()[0], float(reward[0]), False, bool(self.world.t[0] >= STEPS), {}

    class Vector(gymnasium.vector.VectorEnv):
        num_envs = count
        single_observation_space, single_action_space = seen, acts

        def __init__(self):
            self.world = World(count, limits, 0)
            self.world.t = self.world.rng.integers(0, STEPS, count)

        def reset(self, *, seed=None, options=None):
            return self.world.observe(), {}

        def step(self, action):
            reward = self.world.step(action)
            over, reached = self.world.t >= STEPS, self.world.observe()
            if over.any():
                self.world.begin(over)
            info = {"final_obs": reached}
            return self.world.observe(), reward, np.zeros(count, bool), over, info

    class Bridge(VecEnv):
        """A Gymnasium vector environment as SB3 wants it."""

        def __init__(self, vector):
            self.vector = vector
            super().__init__(vector.num_envs, seen, acts)

        def reset(self):
            return self.vector.reset()[0]

        def step_async(self, actions):
            self.actions = actions

        def step_wait(self):
            observation, reward, died, over, info = self.vector.step(self.actions)
            infos = [{} for _ in range(count)]
            for i in np.flatnonzero(over):
                infos[i] = {"terminal_observation": info["final_obs"][i], "TimeLimit.truncated": True}
            return observation, reward, died | over, infos

        def close(self):
            pass

        def get_attr(self, name, indices=None):
            return [None] * count

        def set_attr(self, name, value, indices=None):
            pass

        def env_method(self, name, *args, indices=None, **kwargs):
            return [None] * count

        def env_is_wrapped(self, wrapper_class, indices=None):
            return [False] * count

    if contender == "one by one":
        return DummyVecEnv([lambda i=i: Single(i) for i in range(count)])
    return Bridge(Vector())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("inputs", help="limits and a path of actions (.npz)")
    parser.add_argument("answers", help="where to write where they lead (.npz)")
    parser.add_argument("--envs", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cores", default="", help="comma-separated processor numbers to stay on")
    arguments = parser.parse_args()
    if arguments.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in arguments.cores.split(",")})
    import numpy as np
    import stable_baselines3
    import torch

    torch.set_num_threads(arguments.threads)
    with np.load(arguments.inputs) as file:
        limits = [file[name].astype(float) for name in ("lower", "upper", "velocity", "rest")]
        path, q, target = file["actions"], file["q"], file["target"]
    world = World(1, limits, 0)
    world.q, world.target = q[None].astype(float), target[None].astype(float)
    rewards, seen = zip(*[(world.step(a[None])[0], world.observe()[0]) for a in path], strict=True)
    np.savez(arguments.answers, reward=np.stack(rewards), observation=np.stack(seen))
    fresh = ROLLOUT * arguments.envs
    model = stable_baselines3.PPO(
        "MlpPolicy",
        make(arguments.contender, arguments.envs, limits),
        learning_rate=2e-3,
        n_steps=ROLLOUT,
        batch_size=fresh // MINIBATCHES,
        n_epochs=1,
        gamma=0.95,
        device="cpu",
        policy_kwargs={
            "net_arch": {"pi": [64, 64], "vf": [32, 32]},
            "activation_fn": torch.nn.ReLU,
            "log_std_init": -0.5,
        },
    )
    model.learn(fresh)
    version = f"stable-baselines3 {stable_baselines3.__version__}, torch {torch.__version__}"
    print(json.dumps({"ready": arguments.contender, "version": version}), flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        model.learn(fresh * int(line), reset_num_timesteps=False)
        answer = {"steps": int(line), "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
