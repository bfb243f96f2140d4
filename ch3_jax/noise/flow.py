r"""Flow matching: a straight line from noise to action, walked in one of two directions.

Ours is the chapter's and the pi0 paper's, "noise_at_0": time runs from noise to action,

  x_t = (1 - t) \epsilon + t a^*,    velocity v = dx/dt = a^* - \epsilon.

openpi and SmolVLA have "noise_at_1", the same line the other way: t' = 1 - t, v' = -v,

  x_t = t \epsilon + (1 - t) a^*,    velocity u = \epsilon - a^*.

Both train equally well. What matters is that sampling walks in the direction of training, since a network
asked in the other one moves away from the action at full speed; `samplers` refuses the mixture.

Time laws draw the *share of noise* tau, which is t for "noise_at_1" and 1 - t for "noise_at_0", so that a law
means the same in both:

| law | tau |
| --- | --- |
| uniform | U[0, 1] |
| pi0_beta | 0.999 Beta(1.5, 1) + 0.001: more time on noisy actions, where an action is decided |
| logit_normal | sigmoid(N(0, 1)): more time in the middle |

The target does not depend on t and nothing here divides by t. Only the conversions of a velocity's relatives
do (`corruption`).

References:
  Lipman et al. 2023, arXiv:2210.02747; Liu et al. 2023, arXiv:2209.03003 (the straight line).
  Black et al. 2024, arXiv:2410.24164, appendix B (the law of pi0). Esser et al. 2024, arXiv:2403.03206
  (logit-normal).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array, Key
from ch3_jax.errors import InputError
from ch3_jax.noise.corruption import Mix
from ch3_jax.noise.processes import Grid, Process, require_steps, require_time

DIRECTIONS = ("noise_at_0", "noise_at_1")


def uniform(key: Key, count: int) -> Array:
    """Shares of noise tau ~ U[0, 1), (count,)."""
    return jax.random.uniform(key, (count,))


def pi0_beta(key: Key, count: int) -> Array:
    r"""Shares of noise tau = 0.999 b + 0.001 with b ~ Beta(1.5, 1), (count,); mean 0.6004.

    The distribution function of Beta(1.5, 1) is b^{1.5}, so b = u^{2/3} with u uniform: exact, without
    rejection.
    """
    return 0.999 * jax.random.uniform(key, (count,)) ** (2 / 3) + 0.001


def logit_normal(key: Key, count: int) -> Array:
    """Shares of noise tau = sigmoid(n) with n ~ N(0, 1), (count,)."""
    return jax.nn.sigmoid(jax.random.normal(key, (count,)))


def _logistic_of_normal(share: np.ndarray) -> np.ndarray:
    from scipy import special

    return special.expit(special.ndtri(share))


TIME_LAWS: dict[str, Callable[[Key, int], Array]] = {
    "uniform": uniform,
    "pi0_beta": pi0_beta,
    "logit_normal": logit_normal,
}
# The same laws on the host, by the inverse of their distribution functions.
_QUANTILES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "uniform": lambda share: share,
    "pi0_beta": lambda share: 0.999 * share ** (2 / 3) + 0.001,
    "logit_normal": _logistic_of_normal,
}


def linear_path(direction: str = "noise_at_0", *, time_law: str = "uniform") -> Process:
    """The straight line between noise and action as a process.

    Args:
      direction: "noise_at_0" (ours, the pi0 paper, GR00T, FQL) or "noise_at_1" (openpi, SmolVLA).
      time_law: one of `TIME_LAWS`, of the share of noise.

    Returns:
      A `Process` with t in [0, 1]; its time law is not part of its name, since sampling does not depend on
      it.

    Raises:
      InputError: an unknown direction or law; when sampling: steps under 1.

    >>> x0, eps = jnp.array([0.5]), jnp.array([1.0])
    >>> from ch3_jax.noise.corruption import corrupt, target
    >>> path = linear_path("noise_at_1")
    >>> corrupt(x0, eps, path.mix(0.25)).tolist(), target("velocity", x0, eps, path.mix(0.25)).tolist()
    ([0.625], [0.5])
    """
    if direction not in DIRECTIONS:
        raise InputError(
            f"unknown `direction` of time {direction!r}",
            got=direction,
            expected="one of " + ", ".join(DIRECTIONS),
            cause="a misspelt name",
            fix='"noise_at_0" is the chapter\'s, "noise_at_1" openpi\'s',
        )
    if time_law not in TIME_LAWS:
        raise InputError(
            f"unknown `time_law` {time_law!r}",
            got=time_law,
            expected="one of " + ", ".join(TIME_LAWS),
            cause="a misspelt name",
            fix='"uniform", or "pi0_beta" to do as pi0 does',
        )
    forward = direction == "noise_at_0"

    def mix(t: Array) -> Mix:
        t = require_time(t, 0.0, 1.0)
        one = jnp.where(jnp.isnan(t), t, 1)
        return Mix(t, 1 - t, one, -one) if forward else Mix(1 - t, t, -one, one)

    def draw_time(key: Key, count: int) -> Array:
        share = TIME_LAWS[time_law](key, count)
        # Clipped, because a compiler may fuse law and difference and end a rounding outside.
        return jnp.clip(1 - share if forward else share, 0, 1)

    def quantile(share: np.ndarray) -> np.ndarray:
        share = np.asarray(share, np.float64)
        return 1 - _QUANTILES[time_law](1 - share) if forward else _QUANTILES[time_law](share)

    def grid(steps: int) -> Grid:
        require_steps(steps)
        share = np.linspace(1, 0, steps + 1)
        return Grid(1 - share if forward else share, 1 - share, share)

    return Process(
        name=f"flow, {direction}",
        direction=direction,
        predictions=("velocity", "x0", "eps", "v"),
        mix=mix,
        draw_time=draw_time,
        grid=grid,
        start=lambda key, shape, dtype=jnp.float32: jax.random.normal(key, shape, dtype),
        lowest=0.0,
        highest=1.0,
        continuous=True,
        quantile=quantile,
    )
