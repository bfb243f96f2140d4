r"""A noise process: when there is how much noise, which way time runs, where sampling starts.

  x_t = a(t) x_0 + s(t) \epsilon

| process | t | a | s | cleanest | noisiest |
| --- | --- | --- | --- | --- | --- |
| `diffusion` | integer, 0 .. T - 1 | sqrt(abar_t) | sqrt(1 - abar_t) | 0 | T - 1 |
| `flow.linear_path("noise_at_0")`, ours | [0, 1] | t | 1 - t | 1 | 0 |
| `flow.linear_path("noise_at_1")`, openpi | [0, 1] | 1 - t | t | 0 | 1 |
| `denoising`, the chapter's | sigma, [0.01, 1] | 1 | sigma | 0.01 | 1 |

Training draws a time and mixes; a sampler walks a `Grid` of times from noise to action. Both read the same
record, so they cannot disagree, and a sampler that was made for another process than the network is refused.

*Where denoising starts.* The chapter trains on sigma up to 1 and normalised actions have variance 1, so at
the noisiest training level half of the variance is still signal: x_1 = x_0 + n has variance 2, not that of
sigma_max n alone. `denoising` starts from the Gaussian of variance 2. This is right over all observations
together but not for each: given an observation, x_1 is centred on that observation's action, which sampling
does not know. For Gaussian conditionals of std d, a start whose centre is off by m gives actions that are off
by

  m d / \sqrt{d^2 + \sigma_{max}^2}    (DDIM, Euler),    m d^2 / (d^2 + \sigma_{max}^2)    (DDPM: ancestral),

small where the action is nearly determined, not small between two modes: the one nearer to 0 is chosen too
often, less so by the ancestral sampler, which forgets more of its start. Only a larger `sigma_max` in
training (80 in EDM) takes the bias away.

References: as in `schedules` and `flow`; Song et al. 2021, arXiv:2011.13456 (variance exploding).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array, Key
from ch3_jax.errors import InputError
from ch3_jax.noise.corruption import Mix
from ch3_jax.noise.schedules import Schedule, karras_sigmas, require_levels, require_no_signal

SPACINGS = ("trailing", "leading")


class Grid(NamedTuple):
    """Times that a sampler visits, noisiest first, on the host.

    Attributes:
      time: (n + 1,) float64; the network is called at the first n.
      signal, noise: (n + 1,) float64, a and s there; the last row is the result.
    """

    time: np.ndarray
    signal: np.ndarray
    noise: np.ndarray

    @property
    def steps(self) -> int:
        """n."""
        return len(self.time) - 1


class Process(NamedTuple):
    """What training and sampling must agree on.

    Attributes:
      name: says everything that changes what a network learns.
      direction: "noise_at_1" where noise grows with time (also for step numbers and sigmas), or "noise_at_0".
      predictions: those that make sense here, the usual one first.
      mix: t (...) -> `Mix` of t's shape; NaN outside the range.
      draw_time: (key, count) -> (count,) times for training.
      grid: number of steps -> `Grid`.
      start: (key, shape, dtype) -> where sampling begins.
      lowest, highest: range of t in which the network is trained.
      continuous: whether there is a velocity, so that solvers of differential equations apply.
      quantile: (n,) shares in (0, 1) -> times, the law that `draw_time` draws from, on the host: floors are
        averaged with it.
    """

    name: str
    direction: str
    predictions: tuple[str, ...]
    mix: Callable[[Array], Mix]
    draw_time: Callable[[Key, int], Array]
    grid: Callable[[int], Grid]
    start: Callable[..., Array]
    lowest: float
    highest: float
    continuous: bool
    quantile: Callable[[np.ndarray], np.ndarray]


def diffusion(
    schedule: Schedule,
    *,
    spacing: str = "trailing",
    set_alpha_to_one: bool = True,
    allow_signal: bool = False,
) -> Process:
    r"""Diffusion in T steps, x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) eps.

    Args:
      schedule: of `schedules.make_schedule`.
      spacing: which steps a shorter sampler visits. For n = 10 of T = 100: "trailing" 99, 89, ..., 9 starts
        at the noisiest; "leading" 90, 80, ..., 0, as Diffusion Policy and diffusers have it, leaves out the
        noisiest.
      set_alpha_to_one: the last step ends at the clean action; False ends at the noise of step 0.
      allow_signal: sample from pure noise although the first step visited has sqrt(abar) of 0.05 or more.

    Returns:
      A `Process` with integer times.

    Raises:
      InputError: an unknown spacing; when sampling: steps under 1 or over T, or signal left at the first
        step.

    References: Ho et al. 2020, arXiv:2006.11239; Lin et al. 2023, arXiv:2305.08891, table 2 (spacings).

    >>> from ch3_jax.noise.schedules import make_schedule
    >>> diffusion(make_schedule("squaredcos_cap_v2", 100)).grid(10).time.astype(int).tolist()
    [99, 89, 79, 69, 59, 49, 39, 29, 19, 9, -1]
    """
    if spacing not in SPACINGS:
        raise InputError(
            f"unknown `spacing` {spacing!r}",
            got=spacing,
            expected="one of " + ", ".join(SPACINGS),
            cause="a misspelt name",
            fix='"trailing", or "leading" to do as diffusers does',
        )
    total = schedule.steps

    def mix(t: Array) -> Mix:
        t = require_time(t, 0, total - 1, whole=True)
        return Mix(*(_lookup(table, t) for table in (schedule.signal, schedule.noise)))

    def grid(steps: int) -> Grid:
        require_steps(steps, total)
        visited = _trailing(total, steps) if spacing == "trailing" else _leading(total, steps)
        if not allow_signal:
            require_no_signal(schedule, step=int(visited[0]))
        end = (1.0, 0.0) if set_alpha_to_one else (schedule.signal[0], schedule.noise[0])
        return grid_at(schedule, visited, end)

    return Process(
        name=f"diffusion, {schedule.name}, {total} steps",
        direction="noise_at_1",
        predictions=("eps", "x0", "v"),
        mix=mix,
        draw_time=lambda key, count: jax.random.randint(key, (count,), 0, total),
        grid=grid,
        start=_standard_normal,
        lowest=0,
        highest=total - 1,
        continuous=False,
        quantile=lambda share: np.floor(np.asarray(share) * total).astype(np.int32),
    )


def grid_at(schedule: Schedule, visited: np.ndarray, end: tuple[float, float] = (1.0, 0.0)) -> Grid:
    """The grid that visits given steps of a schedule.

    Args:
      schedule: the schedule.
      visited: (n,) decreasing steps in [0, T).
      end: (a, s) after the last.
    """
    visited = np.asarray(visited, int)
    return Grid(
        np.append(visited, -1.0),
        np.append(schedule.signal[visited], end[0]),
        np.append(schedule.noise[visited], end[1]),
    )


def denoising(
    sigma_min: float = 0.01, sigma_max: float = 1.0, *, data_std: float = 1.0, rho: float = 7.0
) -> Process:
    r"""The chapter's denoising, x = x0 + sigma eps with sigma ~ U[0.01, 1]; time is sigma.

    Sampling walks Karras levels from sigma_max to sigma_min and then to 0: n steps are n network calls, all
      of them at
    levels of the training. It starts from N(0, data_std^2 + sigma_max^2), see the top of this file.

    Args:
      sigma_min, sigma_max: range of the training.
      data_std: of the normalised actions; 0 starts from sigma_max n alone, which is right only where
        sigma_max is far above the data's own spread.
      rho: spacing of the levels, 7 in EDM.

    Returns:
      A `Process` whose t is sigma.

    Raises:
      InputError: levels that are not a range, or a negative data_std; when sampling: steps under 1.

    Reference: Karras et al. 2022, arXiv:2206.00364.

    >>> denoising().grid(3).noise.round(4).tolist()
    [1.0, 0.1451, 0.01, 0.0]
    """
    require_levels(sigma_min, sigma_max)
    if not (np.isfinite(data_std) and data_std >= 0):
        raise InputError(
            "`data_std` must be 0 or more",
            got=data_std,
            expected="a finite number, 1 for z-scored actions",
            cause="statistics with a constant dimension",
            fix="data_std=1.0",
        )
    spread = float(np.hypot(data_std, sigma_max))

    def mix(t: Array) -> Mix:
        t = require_time(t, 0.0, sigma_max)
        one = jnp.where(jnp.isnan(t), t, 1)
        return Mix(one, t, one * 0, one)

    def grid(steps: int) -> Grid:
        require_steps(steps)
        levels = np.append(karras_sigmas(steps, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho), 0.0)
        return Grid(levels, np.ones_like(levels), levels)

    return Process(
        name=f"denoising, sigma {sigma_min:g} to {sigma_max:g}",
        direction="noise_at_1",
        predictions=("eps", "x0", "velocity"),
        mix=mix,
        draw_time=lambda key, count: jax.random.uniform(key, (count,), minval=sigma_min, maxval=sigma_max),
        grid=grid,
        start=lambda key, shape, dtype=jnp.float32: spread * _standard_normal(key, shape, dtype),
        lowest=sigma_min,
        highest=sigma_max,
        continuous=True,
        quantile=lambda share: sigma_min + np.asarray(share) * (sigma_max - sigma_min),
    )


def require_steps(steps: int, trained: int | None = None) -> None:
    """Refuses sampling steps under 1, and more of them than there are training steps."""
    whole = isinstance(steps, int | np.integer) and not isinstance(steps, bool)
    if not whole or steps < 1:
        raise InputError(
            "`steps` of a sampler must be a whole number of 1 or more",
            got=steps,
            expected="1 or more; 10 in pi0, 20 in drill 3",
            cause="a flag of 0, or a number that was computed",
            fix="--sampling_steps=20",
        )
    if trained is not None and steps > trained:
        raise InputError(
            "more sampling `steps` than the network was trained with",
            got=steps,
            expected=f"at most {trained}",
            cause="a schedule shorter than the sampler's default",
            fix=f"--sampling_steps={trained} or fewer, or train with a longer schedule",
        )


def require_time(t: Array, lowest: float, highest: float, *, whole: bool = False) -> Array:
    """Times that lie in a range, as an array.

    Args:
      t: (...) times.
      lowest, highest: the range, both ends in it.
      whole: whether times are step numbers.

    Returns:
      t; a time that is only known when the compiled step runs is replaced by NaN (-1 for step numbers) where
      it is out of range.

    Raises:
      ValueError: a known time is out of range. TypeError: the wrong kind of number.
    """
    t = jnp.asarray(t)
    kind = jnp.integer if whole else jnp.floating
    if not jnp.issubdtype(t.dtype, kind):
        expected = "integer step numbers" if whole else "floating point"
        raise TypeError(f"`t` has dtype {t.dtype}, expected {expected}. Usual fix: the process's draw_time.")
    inside = (t >= lowest) & (t <= highest)
    if not isinstance(t, jax.core.Tracer) and not bool(jnp.all(inside)):
        raise InputError(
            "`t` is outside its range",
            got=f"{float(jnp.min(t)):g} to {float(jnp.max(t)):g}",
            expected=f"{lowest:g} to {highest:g}",
            cause="time of another process: step numbers for a flow, or a step counted from 1",
            fix="draw times with the process's draw_time",
        )
    return jnp.where(inside, t, -1 if whole else jnp.nan)


def _lookup(table: np.ndarray, t: Array) -> Array:
    """Rows of a table; NaN for the -1 of a time out of range."""
    values = jnp.asarray(table)
    return jnp.where(t >= 0, values[jnp.maximum(t, 0)], jnp.nan)


def _leading(total: int, steps: int) -> np.ndarray:
    return np.arange(steps)[::-1] * (total // steps)


def _trailing(total: int, steps: int) -> np.ndarray:
    return np.round(np.linspace(total, 0, steps, endpoint=False)).astype(int) - 1


def _standard_normal(key: Key, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
    return jax.random.normal(key, shape, dtype)
