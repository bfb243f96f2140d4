r"""Learning-rate schedules and the optimizer, both by name.

The chain is the chapter's: clip the global norm, then AdamW with decoupled decay,

  g <- g min(1, c / ||g||),
  theta <- theta - eta_t (m_hat / (sqrt(v_hat) + eps) + lambda theta).

The schedule sits inside the optimizer, so the "scheduler step" of a PyTorch loop is not a line of
its own. Two published cosine schedules differ after the warm-up and both are here by name.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ch3_jax.base import Array, Params
from ch3_jax.errors import InputError
from ch3_jax.numerics import sums_of_squares, tree_norm


def _constant(peak: float, steps: int, warmup: int, end: float) -> optax.Schedule:
    del steps, end
    return optax.linear_schedule(0.0, peak, warmup) if warmup else optax.constant_schedule(peak)


def _linear(peak: float, steps: int, warmup: int, end: float) -> optax.Schedule:
    """Linear warm-up, then a line down to the end (CleanRL's annealing)."""
    down = optax.linear_schedule(peak, end, max(steps - warmup, 1))
    rise = optax.linear_schedule(0.0, peak, max(warmup, 1))
    return optax.join_schedules([rise, down], [warmup]) if warmup else down


def _cosine(peak: float, steps: int, warmup: int, end: float) -> optax.Schedule:
    """Linear warm-up from 0, then a half cosine over the steps that are left (Diffusion Policy, optax)."""
    return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, max(steps, warmup + 1), end)


def _openpi(peak: float, steps: int, warmup: int, end: float) -> optax.Schedule:
    """As `cosine`, but starting at peak / (warmup + 1), so that the first step already learns."""
    return optax.warmup_cosine_decay_schedule(peak / (warmup + 1), peak, warmup, max(steps, warmup + 1), end)


def _lerobot(peak: float, steps: int, warmup: int, end: float) -> optax.Schedule:
    """LeRobot's cosine_decay_with_warmup: the cosine counts from step 0, not from the warm-up's end."""

    def schedule(step):
        share = jnp.minimum(step, steps) / steps
        decay = end + (peak - end) * 0.5 * (1 + jnp.cos(jnp.pi * share))
        first = 1 / (warmup + 1)
        rise = peak * (first + (1 - first) * step / jnp.maximum(warmup, 1))
        return jnp.where(step < warmup, rise, decay)

    return schedule


def _rsqrt(peak: float, steps: int, warmup: int, end: float, timescale: int = 10_000) -> optax.Schedule:
    """Linear warm-up, then peak / sqrt(1 + (t - warmup) / timescale), never under `end` (Octo)."""
    del steps

    def schedule(step):
        decay = peak / jnp.sqrt(1 + jnp.maximum(step - warmup, 0) / timescale)
        return jnp.where(step < warmup, peak * step / max(warmup, 1), jnp.maximum(decay, end))

    return schedule


def _step(peak: float, steps: int, warmup: int, end: float) -> optax.Schedule:
    """Linear warm-up, then peak, then a tenth of it from two thirds of the run on (OpenVLA-OFT)."""
    del end
    return optax.join_schedules(
        [
            optax.linear_schedule(0.0, peak, max(warmup, 1)),
            optax.piecewise_constant_schedule(peak, {steps * 2 // 3 - warmup: 0.1}),
        ],
        [warmup],
    )


SCHEDULES = {
    "constant": _constant,
    "linear": _linear,
    "cosine": _cosine,
    "openpi": _openpi,
    "lerobot": _lerobot,
    "rsqrt": _rsqrt,
    "step": _step,
}


def make_schedule(name: str, peak: float, *, steps: int, warmup: int = 0, end: float = 0.0) -> optax.Schedule:
    """A learning rate as a function of the step.

    Args:
      name: one of `SCHEDULES`.
      peak: the highest rate.
      steps: length of the whole run, warm-up included.
      warmup: steps of linear rise; 0 for none.
      end: the rate at the end of a decay.

    Returns:
      step -> rate.

    Raises:
      InputError: an unknown name, a rate or a length that is not positive.

    >>> round(float(make_schedule("cosine", 1e-4, steps=10_000, warmup=500)(5_250)), 9)
    5e-05
    """
    if name not in SCHEDULES:
        raise InputError(
            f"unknown learning-rate schedule {name!r}",
            got=name,
            expected="one of " + ", ".join(SCHEDULES),
            cause="a misspelt name",
            fix="choose one of these for --schedule",
        )
    for what, value in (("the learning rate", peak), ("the number of steps", steps)):
        if not value > 0:
            raise InputError(
                f"{what} must be positive",
                got=value,
                expected="a number over 0",
                cause="a sign or a unit slipped",
                fix="1e-3 suits SmallPolicy; 1e-4 is the chapter's rate",
            )
    return SCHEDULES[name](peak, steps, warmup, end)


class AdamState(NamedTuple):
    """Adam's memory: updates made, first and second moment of the clipped gradient."""

    count: Array
    mu: Params
    nu: Params


def clipped_adamw(
    schedule: optax.Schedule | float,
    *,
    clip: float | None = 1.0,
    weight_decay: float = 1e-5,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
) -> optax.GradientTransformation:
    """Global-norm clip, then AdamW: the chapter's chain, and its values.

    The numbers are those of `optax.chain(clip_by_global_norm(clip), adamw(...))`. It is written out
    because on a CPU the chain costs a seventh of the step: XLA makes one loop per output there, and
    the loop of the parameters would re-read the *old* moments, so that each moment is copied every
    step. The barrier lets it read the new ones, and all three are updated in place.

    Args:
      schedule: learning rate, or step -> learning rate.
      clip: bound of the gradient's global norm; None leaves gradients alone.
      weight_decay: decoupled, multiplied by the rate.
      b1, b2, eps: Adam's.

    Returns:
      An optax transformation; any other can take its place.

    References: Kingma & Ba 2015, arXiv:1412.6980; Loshchilov & Hutter 2019, arXiv:1711.05101.
    """
    rate = schedule if callable(schedule) else optax.constant_schedule(schedule)

    def init(params: Params) -> AdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AdamState(jnp.zeros((), jnp.int32), zeros, jax.tree.map(jnp.copy, zeros))

    def update(gradients: Params, state: AdamState, params: Params) -> tuple[Params, AdamState]:
        scale = jnp.float32(1)
        if clip is not None:
            norm = tree_norm(sums_of_squares(gradients))
            scale = jnp.minimum(scale, clip / jnp.maximum(norm, jnp.finfo(jnp.float32).tiny))
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * (scale * g), state.mu, gradients)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * jnp.square(scale * g), state.nu, gradients)
        mu, nu = jax.lax.optimization_barrier((mu, nu))
        t = (state.count + 1).astype(jnp.float32)
        eta, mu_scale, nu_scale = rate(state.count), 1 / (1 - b1**t), 1 / (1 - b2**t)

        def step(p: Array, m: Array, v: Array) -> Array:
            return -eta * (mu_scale * m / (jnp.sqrt(nu_scale * v) + eps) + weight_decay * p)

        return jax.tree.map(step, params, mu, nu), AdamState(state.count + 1, mu, nu)

    return optax.GradientTransformation(init, update)
