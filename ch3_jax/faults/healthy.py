"""The healthy runs that faults are planted in: small, quick, and each learns its task."""

from collections.abc import Callable

from ch3_jax.data.synthetic import inverse_dynamics
from ch3_jax.faults.robots import robots
from ch3_jax.faults.run import Run

_PAIRS = {"pairs": 4_096, "validation_pairs": 1_024}


def robot(seed: int, **settings) -> Run:
    """A policy of pick-and-place demonstrations by squared error; `settings` are those of `robots`."""
    data = robots(seed, **settings)
    meaning = {"action_meaning": data.facts.action_meaning, "rate_hz": data.facts.rate_hz}
    return Run(data, normalize="zscore", seed=seed, steps=1_500, declared=meaning)


def robot_bins(seed: int) -> Run:
    """The same by cross-entropy on 64 bins between minimum and maximum."""
    return robot(seed)._replace(loss="ce", normalize="minmax")


def robot_chunks(seed: int) -> Run:
    """The same, predicting eight actions."""
    return robot(seed)._replace(horizon=8)


def robot_camera(seed: int) -> Run:
    """The same, with the goal seen by a camera at the hand."""
    return robot(seed, camera=True)


def pairs(seed: int) -> Run:
    """Inverse dynamics by squared error, as in drill 1."""
    return Run(inverse_dynamics(seed, **_PAIRS), seed=seed, floor=0.09)


def pairs_bins(seed: int) -> Run:
    """Inverse dynamics by cross-entropy on 64 bins."""
    return Run(inverse_dynamics(seed, **_PAIRS), loss="ce", normalize="minmax", seed=seed)


def flow(seed: int) -> Run:
    """Two demonstrators by flow matching, ten Euler steps."""
    data = inverse_dynamics(seed, bimodal=True, **_PAIRS)
    return Run(data, loss="flow", normalize="zscore", seed=seed)


def diffusion(seed: int) -> Run:
    """Two demonstrators by DDPM with the cosine schedule, 20 steps."""
    data = inverse_dynamics(seed, bimodal=True, **_PAIRS)
    return Run(data, loss="ddpm", normalize="zscore", seed=seed)


BASES: dict[str, Callable[[int], Run]] = {
    "robot": robot,
    "robot_bins": robot_bins,
    "robot_chunks": robot_chunks,
    "robot_camera": robot_camera,
    "pairs": pairs,
    "pairs_bins": pairs_bins,
    "flow": flow,
    "diffusion": diffusion,
}
"""name -> (seed -> healthy run)."""
