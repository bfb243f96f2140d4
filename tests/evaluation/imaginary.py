"""A task made up for tests: a point on a line, in a module that other processes can import."""

import os

import numpy as np

from ch3_jax.evaluation.simulators.task import Seen, Task, World

LIMIT = 12


def make() -> World:
    """A point that moves by its action, from 0.1 x seed; done while within 0.05 of 1.

    A seed of 66 raises at its fourth step, 67 at its reset, 68 ends its process at the third.
    """
    state = {"x": 0.0, "t": 0, "seed": 0}

    def seen():
        done = abs(state["x"] - 1) < 0.05
        score = max(0.0, 1 - abs(state["x"] - 1))
        observation = np.array([state["x"], state["t"]])
        return Seen(observation, score, score, done, False, state["t"] >= LIMIT, {"x": state["x"]})

    def reset(seed):
        if seed == 67:
            raise OSError("no such scene")
        state.update(x=0.1 * seed, t=0, seed=seed)
        return seen().observation, {"x": state["x"]}

    def step(action):
        if state["t"] >= LIMIT:
            raise ValueError("stepped after its end")
        state["t"] += 1
        if state["seed"] == 66 and state["t"] == 4:
            raise RuntimeError("the block fell through the table")
        if state["seed"] == 68 and state["t"] == 3:
            os._exit(9)
        state["x"] += float(action[0])
        return seen()

    def draw():
        return np.full((8, 8, 3), min(max(int(100 * state["x"]), 0), 255), np.uint8)

    return World(reset, step, draw, lambda: None)


def broken() -> World:
    """A simulator that does not start."""
    raise RuntimeError("cannot open display")


TASK = Task(
    name="imaginary",
    packages=(),
    observation_names=("x", "t"),
    action_names=("dx",),
    observation_units=("m", "1"),
    action_units=("m",),
    action_meaning="step",
    rate_hz=10.0,
    steps=LIMIT + 5,
    bounds=((-0.1,), (0.1,)),
    held=False,
    score="nearness",
    make=make,
)
