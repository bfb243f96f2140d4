r"""A consistency model: from any point of a path straight to its clean end, in one call.

On a path x = a x_0 + s \epsilon the network F is wrapped so that at the smallest noise it changes nothing,

  f(x) = c_{skip} x + c_{out} F(x),
  c_{skip} = \frac{d^2 a}{(s - \sigma_{min} a)^2 + d^2 a^2},
  c_{out} = \frac{d (s - \sigma_{min} a)}{\sqrt{s^2 + d^2 a^2}},

with d the std of the actions. For a = 1 these are the paper's; on other paths they are the paper's of x / a
and s / a, and nothing divides by a, so a flow may begin where no signal is left. At s / a = \sigma_{min} the
wrapping returns x / a: the boundary condition, without which a constant would be consistent.

Two neighbouring times of one path are needed. *Distillation* asks a trained teacher for the step between
them (`teacher_step`, one step of DDIM); *training* knows x_0 and \epsilon and mixes both anew
(`corruption.corrupt` at either time). The loss is `self_supervised.consistency`.

Reference: Song et al. 2023, arXiv:2303.01469, equation 5, appendix C and algorithm 2.
"""

import jax.numpy as jnp

from ch3_jax import checks
from ch3_jax.base import Array
from ch3_jax.errors import InputError
from ch3_jax.noise.corruption import Mix, ends, per_sample


def clean(output: Array, x: Array, mix: Mix, *, data_std: float = 1.0, sigma_min: float = 0.0) -> Array:
    """The clean action that the wrapped network says.

    Args:
      output: (B, ...) F(x), what the network itself returns.
      x: shape of `output`, the noisy action that it saw.
      mix: coefficients of its time, scalars or (B,).
      data_std: d, of the actions as the network sees them; 1 after z-scoring.
      sigma_min: smallest noise per signal at which the network is asked, 0.002 in the paper; 0 on a path
        that ends without noise.

    Returns:
      Shape of x.

    Raises:
      ValueError: shapes that would broadcast, a data_std of 0 or less. TypeError: integers.

    >>> mix = Mix(jnp.array(1.0), jnp.array(0.0))
    >>> clean(jnp.array([7.0]), jnp.array([0.3]), mix).tolist() == jnp.array([0.3]).tolist()
    True
    """
    checks.floating(output=output, x=x)
    checks.shapes(x=(x, "..."), output=(output, "..."))
    if not data_std > 0:
        raise InputError(
            "`data_std` must be above 0",
            got=data_std,
            expected="a number above 0, 1 for z-scored actions",
            cause="a constant action dimension in the statistics",
            fix="data_std=1.0",
        )
    a, s = per_sample(mix.signal, x), per_sample(mix.noise, x)
    excess, scale = s - sigma_min * a, data_std * a
    skip = data_std * scale / (jnp.square(excess) + jnp.square(scale))
    return skip * x + data_std * excess / jnp.sqrt(jnp.square(s) + jnp.square(scale)) * output


def teacher_step(prediction: str, predicted: Array, x: Array, mix: Mix, cleaner: Mix) -> Array:
    """One step of the teacher along its own path, from one time to a cleaner one (DDIM).

    x' = a' x0 + s' eps, with both ends as the teacher sees them

    Args:
      prediction: what `predicted` is: "eps", "x0", "v" or "velocity".
      predicted: (B, ...) the teacher's answer at x.
      x: shape of `predicted`.
      mix: coefficients at x, scalars or (B,).
      cleaner: at the time to go to.

    Returns:
      Shape of x.

    Raises:
      ValueError: shapes that would broadcast, an unknown prediction. TypeError: integers.

    >>> now, later = Mix(jnp.array(1.0), jnp.array(1.0)), Mix(jnp.array(1.0), jnp.array(0.5))
    >>> teacher_step("x0", jnp.array([1.0]), jnp.array([3.0]), now, later).tolist()  # 1 + 0.5 x 2
    [2.0]
    """
    checks.floating(predicted=predicted, x=x)
    x0, eps = ends(prediction, predicted, x, mix)
    return per_sample(cleaner.signal, x) * x0 + per_sample(cleaner.noise, x) * eps
