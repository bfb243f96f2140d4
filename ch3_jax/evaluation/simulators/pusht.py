"""Push-T in gym-pusht, by state: a disc pushes a T onto its outline.

    coverage = area(goal and T) / area(T),    score = min(coverage / 0.95, 1),    success: coverage > 0.95

A policy commands where the disc should be, in pixels of a 512 x 512 window, at 10 Hz for 300 steps; the score
of an episode is the largest on its way. Starts are gym-pusht's own random ones, one per seed.

The simulator turns the T about its centre of mass, not about the point that `position` names. gym-pusht's
`reset_to_state` sets the position and then the angle, which moves the T by up to 90 px; a recorded state is
restored by the angle first (gym-pusht issue 16). Its angle is taken modulo 2 pi, as in the recorded data.
"""

import numpy as np

from ch3_jax.evaluation.simulators.task import Seen, Task, World

RATE_HZ, STEPS, COVERAGE = 10.0, 300, 0.95
_PICTURE = 240


def make() -> World:
    """One gym-pusht environment in state mode."""
    import gym_pusht  # noqa: F401 - registers the environment
    import gymnasium

    env = gymnasium.make(
        "gym_pusht/PushT-v0",
        obs_type="state",
        render_mode="rgb_array",
        visualization_width=_PICTURE,
        visualization_height=_PICTURE,
        max_episode_steps=STEPS,
        disable_env_checker=True,
    )

    def reset(seed: int) -> tuple[np.ndarray, dict]:
        return _wrapped(env.reset(seed=seed)[0]), {}

    def step(action: np.ndarray) -> Seen:
        observation, reward, terminated, truncated, info = env.step(np.asarray(action, np.float64))
        score, success = judge(float(info["coverage"]))
        return Seen(
            _wrapped(observation), float(reward), score, success, bool(terminated), bool(truncated),
            {"coverage": float(info["coverage"])},
        )  # fmt: skip

    def reset_to(state: np.ndarray) -> np.ndarray:
        env.reset(seed=0)
        inner = env.unwrapped
        inner.agent.position = [float(v) for v in state[:2]]
        inner.block.angle = float(state[4])  # before the position, which it would move
        inner.block.position = [float(v) for v in state[2:4]]
        inner.space.step(inner.dt)
        return _wrapped(inner.get_obs())

    return World(reset, step, env.render, env.close, reset_to)


def judge(coverage: float) -> tuple[float, bool]:
    """(score, success) of a coverage.

    >>> judge(0.475), judge(0.95), judge(0.96)
    ((0.5, False), (1.0, False), (1.0, True))
    """
    return min(max(coverage / COVERAGE, 0.0), 1.0), coverage > COVERAGE


def _wrapped(observation: np.ndarray) -> np.ndarray:
    """The angle in [0, 2 pi), as the demonstrations have it."""
    observation = np.array(observation, np.float64)
    observation[4] %= 2 * np.pi
    return observation


PUSHT = Task(
    name="pusht",
    packages=("gymnasium", "gym_pusht"),
    observation_names=("agent_x", "agent_y", "block_x", "block_y", "block_angle"),
    action_names=("target_x", "target_y"),
    observation_units=("px", "px", "px", "px", "rad"),
    action_units=("px", "px"),
    action_meaning="absolute target position of the agent",
    rate_hz=RATE_HZ,
    steps=STEPS,
    bounds=((0.0, 0.0), (512.0, 512.0)),
    held=False,
    score="largest min(coverage / 0.95, 1) of the episode",
    make=make,
)
