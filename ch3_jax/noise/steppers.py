r"""Samplers that use both ends of the line: DDPM, DDIM, DPM-Solver++(2M).

Each asks the network once per step, solves its answer for the clean action x_0 and the noise \epsilon
(`corruption.ends`), and mixes them anew at the next, cleaner time (a', s'):

  DDIM              x' = a' x_0 + \sqrt{s'^2 - \eta^2 V} \epsilon + \eta \sqrt{V} n
  DDPM              x' = w_x x + w_0 x_0 + \sqrt{V} n,    with the posterior's mean and variance V
  DPM-Solver++(2M)  x' = (s'/s) x + a' (1 - e^{-h}) D,    h = \ln(a'/s') - \ln(a/s),
                    D = x_0 + (x_0 - x_0^{previous}) / (2 r),    r = h_{previous} / h

In (a, s) they are the same for diffusion, for the chapter's denoising (DDPM is then known as ancestral, DDIM
as Euler's method in sigma) and for flows. All weights are computed on the host in float64, one row per step,
and the walk is one `lax.scan`.

References:
  Ho et al. 2020, arXiv:2006.11239, algorithm 2. Song et al. 2021, arXiv:2010.02502, equation 12.
  Lu et al. 2022, arXiv:2211.01095, algorithm 2. Karras et al. 2022, arXiv:2206.00364.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array, Key
from ch3_jax.errors import InputError
from ch3_jax.noise.corruption import Ends, Mix, ends, posterior
from ch3_jax.noise.denoiser import Denoiser
from ch3_jax.noise.processes import Grid, Process

Walk = Callable[[Denoiser, Array, Key | None], tuple[Array, Array]]
# [-clip, clip], or the ends (A,) of each dimension: where the data lie.
Clip = float | tuple[np.ndarray, np.ndarray] | None


def ddpm(process: Process, steps: int, *, variance: str = "small", clip: Clip = None) -> Walk:
    """Samples the posterior step by step (ancestral sampling).

    Args:
      process: of the training.
      steps: n.
      variance: "small", of the posterior (diffusers' fixed_small, Diffusion Policy), or "large", of the
        forward step (Octo); the last step adds none.
      clip: keeps every x0 in [-clip, clip]: 1 for actions scaled to [-1, 1], 5 in Octo. On z-scored actions 1
        would cut at one standard deviation; (low, high) are ends for each action dimension.

    Returns:
      (denoiser, x, key) -> (x at the end, (n, B, ...) states after each step).

    Raises:
      InputError: an unknown variance, a clip of 0 or less.
    """
    if variance not in ("small", "large"):
        raise InputError(
            f"unknown `variance` {variance!r}",
            got=variance,
            expected="small or large",
            cause='a name of another library: "fixed_small" is small, "fixed_large" large',
            fix='"small"',
        )
    _require_clip(clip)
    grid = process.grid(steps)
    law = _posterior(grid)
    spread = law.variance if variance == "small" else law.forward_variance * (grid.noise[1:] > 0)
    rows = _rows(grid, x_weight=law.x_weight, x0_weight=law.x0_weight, std=np.sqrt(spread))

    def walk(denoiser: Denoiser, x: Array, key: Key | None) -> tuple[Array, Array]:
        def step(x, row):
            x0 = _clipped(_ends(denoiser, x, row).x0, clip)
            x = row["x_weight"] * x + row["x0_weight"] * x0 + row["std"] * _noise(key, row, x)
            return x, x

        return _scan(step, x, x, rows)

    return walk


def ddim(process: Process, steps: int, *, eta: float = 0.0, clip: Clip = None) -> Walk:
    """Moves along the line through both ends; `eta` says how much of the noise is fresh.

    Args:
      process: of the training.
      steps: n.
      eta: 0 deterministic, 1 as random as `ddpm` (and equal to it).
      clip: keeps every x0 in [-clip, clip] or (low, high); the noise stays that of the unclipped answer, as
        in diffusers.

    Returns:
      (denoiser, x, key) -> (x at the end, (n, B, ...) states after each step).

    Raises:
      InputError: an eta outside [0, 1], a clip of 0 or less.
    """
    if not 0 <= eta <= 1:
        raise InputError(
            "`eta` is outside its range",
            got=eta,
            expected="0 (deterministic) to 1 (as DDPM)",
            cause="a standard deviation where a share is meant",
            fix="eta=0.0",
        )
    _require_clip(clip)
    grid = process.grid(steps)
    fresh = eta * np.sqrt(_posterior(grid).variance)
    kept = np.sqrt(np.maximum(grid.noise[1:] ** 2 - fresh**2, 0))
    rows = _rows(grid, next_signal=grid.signal[1:], kept=kept, fresh=fresh)

    def walk(denoiser: Denoiser, x: Array, key: Key | None) -> tuple[Array, Array]:
        def step(x, row):
            found = _ends(denoiser, x, row)
            x = row["next_signal"] * _clipped(found.x0, clip) + row["kept"] * found.eps
            if eta > 0:
                x = x + row["fresh"] * _noise(key, row, x)
            return x, x

        return _scan(step, x, x, rows)

    return walk


def dpmpp_2m(process: Process, steps: int, *, clip: Clip = None, lower_order_final: bool = True) -> Walk:
    """DPM-Solver++(2M): second order from one network call per step, by remembering the last answer.

    Args:
      process: of the training.
      steps: n.
      clip: keeps every x0 in [-clip, clip] or (low, high).
      lower_order_final: the last of fewer than 15 steps is of first order, as in diffusers; it always is
        where the walk ends without noise.

    Returns:
      (denoiser, x, key) -> (x at the end, (n, B, ...) states after each step).

    Raises:
      InputError: a clip of 0 or less.
    """
    _require_clip(clip)
    grid = process.grid(steps)
    a, s = grid.signal, grid.noise
    # exp(-h) without logarithms, which are infinite at both ends of a flow.
    decay = s[1:] * a[:-1] / (s[:-1] * a[1:])
    with np.errstate(divide="ignore"):
        h = -np.log(decay)
    correction = np.zeros(steps)
    # An infinite h has no second-order term: at a start without signal, and at an end without noise.
    second = np.isfinite(h[1:]) & np.isfinite(h[:-1])
    correction[1:][second] = h[1:][second] / (2 * h[:-1][second])
    if lower_order_final and steps < 15:
        correction[-1] = 0
    rows = _rows(grid, x_weight=s[1:] / s[:-1], x0_weight=a[1:] * (1 - decay), correction=correction)

    def walk(denoiser: Denoiser, x: Array, key: Key | None) -> tuple[Array, Array]:
        del key

        def step(carry, row):
            x, previous = carry
            x0 = _clipped(_ends(denoiser, x, row).x0, clip)
            slope = x0 + row["correction"] * (x0 - previous)
            x = row["x_weight"] * x + row["x0_weight"] * slope
            return (x, x0), x

        (x, _), states = _scan(step, (x, jnp.zeros_like(x)), x, rows)
        return x, states

    return walk


def _posterior(grid: Grid) -> Any:
    law = posterior(Mix(grid.signal[:-1], grid.noise[:-1]), Mix(grid.signal[1:], grid.noise[1:]))
    # Rounding may leave -1e-17 where two neighbouring steps are alike.
    return law._replace(
        variance=np.maximum(law.variance, 0), forward_variance=np.maximum(law.forward_variance, 0)
    )


def _rows(grid: Grid, **weights: np.ndarray) -> dict[str, np.ndarray]:
    return {"time": grid.time[:-1], "signal": grid.signal[:-1], "noise": grid.noise[:-1]} | weights


def _scan(step: Callable, carry: Any, x: Array, rows: dict[str, np.ndarray]) -> tuple[Any, Array]:
    """The walk: weights in the precision of x, step numbers for the keys."""
    count = len(rows["time"])
    arrays = {name: jnp.asarray(values, x.dtype) for name, values in rows.items()}
    return jax.lax.scan(step, carry, arrays | {"index": jnp.arange(count)})


def _ends(denoiser: Denoiser, x: Array, row: dict[str, Array]) -> Ends:
    predicted = denoiser.at(x, row["time"])
    mix = Mix(row["signal"], row["noise"])
    if denoiser.prediction == "velocity":
        mix = Mix(*(jnp.asarray(c, x.dtype) for c in denoiser.process.mix(row["time"])))
    return ends(denoiser.prediction, predicted, x, mix)


def _noise(key: Key | None, row: dict[str, Array], x: Array) -> Array:
    return jax.random.normal(jax.random.fold_in(key, row["index"]), x.shape, x.dtype)


def _clipped(x0: Array, clip: Clip) -> Array:
    if clip is None:
        return x0
    ends = clip if isinstance(clip, tuple) else (-clip, clip)
    return jnp.clip(x0, *(jnp.broadcast_to(jnp.asarray(end, x0.dtype), x0.shape) for end in ends))


def _require_clip(clip: Clip) -> None:
    fits = clip is None or (
        np.all(np.asarray(clip[0]) <= np.asarray(clip[1])) if isinstance(clip, tuple) else clip > 0
    )
    if not fits:
        raise InputError(
            "`clip` must be above 0, or a pair (low, high)",
            got=clip,
            expected="None, 1 for actions in [-1, 1], 5 for z-scored ones, or the ends of the data",
            cause="a switch given where a bound is meant",
            fix="clip=1.0 or clip=None",
        )
