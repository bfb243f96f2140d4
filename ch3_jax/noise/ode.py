r"""Solvers of the differential equation that a network's velocity defines: Euler, midpoint, Heun, RK4.

  dx/dt = v(x, t),    v = a'(t) x_0 + s'(t) \epsilon

A flow's network says v itself; another prediction is converted. On the chapter's denoising, where t is sigma,
v is the predicted noise. A method is a pure function (field, x, t, t_next) -> x_next; its error over the
whole walk falls as (1/n)^order:

| method | order | network calls per step |
| --- | --- | --- |
| euler | 1 | 1 |
| midpoint | 2 | 2 |
| heun | 2 | 2 |
| rk4 | 4 | 4 |

Reference: Hairer, Norsett and Wanner 1993, Solving Ordinary Differential Equations I, section II.1.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ch3_jax.base import Array, Key
from ch3_jax.errors import InputError
from ch3_jax.noise.corruption import Mix, convert
from ch3_jax.noise.denoiser import Denoiser
from ch3_jax.noise.processes import Grid, Process
from ch3_jax.noise.steppers import Walk

Field = Callable[[Array, Array], Array]


def euler_step(field: Field, x: Array, t: Array, t_next: Array) -> Array:
    """x + h v(x, t)."""
    return x + (t_next - t) * field(x, t)


def midpoint_step(field: Field, x: Array, t: Array, t_next: Array) -> Array:
    """x + h v(x + h/2 v(x, t), t + h/2)."""
    h, middle = t_next - t, (t + t_next) / 2
    return x + h * field(x + h / 2 * field(x, t), middle)


def heun_step(field: Field, x: Array, t: Array, t_next: Array) -> Array:
    """x + h/2 (v_1 + v_2), v_2 at the end of an Euler step."""
    h = t_next - t
    first = field(x, t)
    return x + h / 2 * (first + field(x + h * first, t_next))


def rk4_step(field: Field, x: Array, t: Array, t_next: Array) -> Array:
    """x + h/6 (v_1 + 2 v_2 + 2 v_3 + v_4), the classical Runge-Kutta method."""
    h, middle = t_next - t, (t + t_next) / 2
    first = field(x, t)
    second = field(x + h / 2 * first, middle)
    third = field(x + h / 2 * second, middle)
    fourth = field(x + h * third, t_next)
    return x + h / 6 * (first + 2 * second + 2 * third + fourth)


class Method(NamedTuple):
    """A solver: its step, its order, its network calls per step."""

    step: Callable[[Field, Array, Array, Array], Array]
    order: int
    calls: int


METHODS = {
    "euler": Method(euler_step, 1, 1),
    "midpoint": Method(midpoint_step, 2, 2),
    "heun": Method(heun_step, 2, 2),
    "rk4": Method(rk4_step, 4, 4),
}


def velocity_field(denoiser: Denoiser, grid: Grid) -> Field:
    """(x (B, ...), t ()) -> dx/dt, whatever the network predicts.

    Args:
      denoiser: the network.
      grid: its first and last time bound t, so that rounding never asks the network beyond them.
    """
    low, high = float(grid.time.min()), float(grid.time.max())

    def field(x: Array, t: Array) -> Array:
        t = jnp.clip(t, low, high)
        predicted = denoiser.at(x, t)
        mix = Mix(*(jnp.asarray(c, x.dtype) for c in denoiser.process.mix(t)))
        return convert(predicted, x, source=denoiser.prediction, to="velocity", mix=mix)

    return field


def require_continuous(process: Process) -> None:
    """Refuses a process whose time is a step number."""
    if not process.continuous:
        raise InputError(
            "`sampler` solves a differential equation, and this process has discrete time",
            got=process.name,
            expected="a flow or the chapter's denoising",
            cause="a flow's sampler on a diffusion schedule",
            fix="--sampler=ddim, or dpmpp_2m for few steps",
        )


def ends_untrained(process: Process, grid: Grid) -> bool:
    """Whether the walk ends at a time that the network never saw, such as sigma = 0."""
    return not process.lowest <= grid.time[-1] <= process.highest


def solver(name: str, process: Process, steps: int) -> Walk:
    """A walk of `steps` steps of a method.

    Where the process ends outside the trained times (sigma = 0), the last step is Euler's, which asks only at
    its start.

    Args:
      name: one of `METHODS`.
      process: of the training, in continuous time.
      steps: n.

    Returns:
      (denoiser, x, key) -> (x at the end, (n, B, ...) states after each step).

    Raises:
      InputError: a process in discrete time.
    """
    require_continuous(process)
    grid = process.grid(steps)
    careful = ends_untrained(process, grid)
    method = METHODS[name].step

    def walk(denoiser: Denoiser, x: Array, key: Key | None) -> tuple[Array, Array]:
        del key
        field = velocity_field(denoiser, grid)
        times = jnp.asarray(grid.time, x.dtype)

        def step(x, pair):
            x = method(field, x, *pair)
            return x, x

        last = steps - 1 if careful else steps
        x, states = jax.lax.scan(step, x, (times[:last], times[1 : last + 1]))
        if careful:
            x = euler_step(field, x, times[-2], times[-1])
            states = jnp.concatenate([states, x[None]])
        return x, states

    return walk


def network_calls(name: str, process: Process, steps: int) -> int:
    """Network calls per action of `solver`.

    >>> from ch3_jax.noise.flow import linear_path
    >>> network_calls("rk4", linear_path(), 5)
    20
    """
    calls = METHODS[name].calls
    return calls * (steps - 1) + 1 if ends_untrained(process, process.grid(steps)) else calls * steps
