r"""Integration whose steps follow the error: diffrax.

The solver estimates its error in every step and keeps

  ||error|| <= atol + rtol ||x||

(root mean square over the whole batch), so a tolerance is asked for instead of a number of steps. What it
costs depends on the network: the calls are counted and returned.

References: Kidger 2022, On Neural Differential Equations, chapter 5; Tsitouras 2011 (the 5(4) pair).
"""

from typing import NamedTuple

import jax.numpy as jnp

from ch3_jax.base import Array
from ch3_jax.errors import InputError
from ch3_jax.noise.denoiser import Denoiser
from ch3_jax.noise.ode import ends_untrained, euler_step, require_continuous, velocity_field
from ch3_jax.noise.processes import Process


class Integrated(NamedTuple):
    """What the integration found.

    Attributes:
      x: (B, ...) the actions; NaN where it did not finish.
      calls: () int32, network calls.
      ok: () bool, whether the end was reached within `max_steps`.
    """

    x: Array
    calls: Array
    ok: Array


def integrate(
    denoiser: Denoiser,
    process: Process,
    x: Array,
    *,
    rtol: float = 1e-4,
    atol: float = 1e-4,
    max_steps: int = 256,
) -> Integrated:
    """Integrates the network's velocity from noise to action with Tsitouras' 5(4) pair.

    Args:
      denoiser: the network.
      process: of its training, in continuous time.
      x: (B, ...) the start. One step size serves the batch.
      rtol, atol: tolerances, above 0; in float32 not under 1e-5. At 1e-3 the estimate of one long step was
        seen 40 times too small, hence the default of 1e-4.
      max_steps: accepted and rejected steps after which it gives up.

    Returns:
      `Integrated`.

    Raises:
      InputError: diffrax is missing, a process in discrete time, a tolerance of 0 or less.
    """
    diffrax = _diffrax()
    require_continuous(process)
    if not (rtol > 0 and atol > 0):
        raise InputError(
            "`rtol` and `atol` must be above 0",
            got=f"rtol {rtol}, atol {atol}",
            expected="numbers above 0",
            cause="a tolerance of 0 asks for infinitely many steps",
            fix="rtol=1e-4, atol=1e-4",
        )
    grid = process.grid(2)
    careful = ends_untrained(process, grid)
    field = velocity_field(denoiser, grid)
    first, last = float(grid.time[0]), float(process.lowest if careful else grid.time[-1])
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, _: field(y, t)),
        diffrax.Tsit5(),
        t0=first,
        t1=last,
        dt0=None,
        y0=x,
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
        max_steps=max_steps,
        throw=False,
    )
    ok = solution.result == diffrax.RESULTS.successful
    found = solution.ys[-1]
    if careful:
        found = euler_step(field, found, jnp.asarray(last, x.dtype), jnp.asarray(grid.time[-1], x.dtype))
    # The first step asks twice more (choice of its size), every step 6 times: the pair reuses its last stage.
    calls = 6 * solution.stats["num_steps"] + 2 + int(careful)
    return Integrated(jnp.where(ok, found, jnp.nan), calls.astype(jnp.int32), ok)


def _diffrax():
    try:
        import diffrax
    except ImportError as error:
        raise InputError(
            "the adaptive sampler needs the package diffrax",
            got=str(error),
            expected="diffrax 0.7 or newer",
            cause="it is optional and not installed",
            fix="pip install diffrax, or --sampler=heun",
        ) from error
    return diffrax
