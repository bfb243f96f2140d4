r"""Clean action, noise and what a network may predict: one linear system.

Every corruption of this room mixes a clean action with Gaussian noise,

  x = a x_0 + s \epsilon,

and every target is another mixture of the same two, p = c_x x_0 + c_e \epsilon:

| prediction | (c_x, c_e) | determinant a c_e - s c_x |
| --- | --- | --- |
| eps | (0, 1) | a |
| x0 | (1, 0) | -s |
| v | (-s, a) | a^2 + s^2, 1 for diffusion |
| velocity | (a', s'), rates of change in t | -1 or +1 on the linear path |

So a prediction and x together give x_0 and \epsilon by solving two equations in two unknowns,

  x_0 = (c_e x - s p) / det,    \epsilon = (a p - c_x x) / det,

and all conversions are this solution followed by a mixture. What divides by something small is visible: eps
where no signal is left, x0 where no noise is. There the determinant is clamped away from zero.

References:
  Ho et al. 2020, arXiv:2006.11239, equations 6 and 7. Salimans and Ho 2022, arXiv:2202.00512, section 4 and
  appendix D (v). Lipman et al. 2023, arXiv:2210.02747 (velocity).
"""

from typing import NamedTuple

import jax.numpy as jnp

from ch3_jax import checks
from ch3_jax.base import Array
from ch3_jax.errors import InputError

PREDICTIONS = ("eps", "x0", "v", "velocity")
SMALLEST = 1e-5  # under the last sqrt(abar) of a squared cosine with 1,000 steps, 4.9e-5


class Mix(NamedTuple):
    """Coefficients of one time, or of one time per sample.

    Attributes:
      signal: a, scalar or the leading axes of the action.
      noise: s, the same.
      signal_rate: a' = da/dt, None where time is discrete and there is no velocity.
      noise_rate: s' = ds/dt, the same.
    """

    signal: Array
    noise: Array
    signal_rate: Array | None = None
    noise_rate: Array | None = None


def corrupt(x0: Array, eps: Array, mix: Mix) -> Array:
    """A clean action with noise, x = a x0 + s eps.

    Args:
      x0: (B, ...) clean actions, normalised.
      eps: shape of x0, standard normal.
      mix: coefficients, scalars or (B,).

    Returns:
      Shape of x0.

    Raises:
      ValueError: shapes that would broadcast. TypeError: integer actions.

    >>> mixed = corrupt(jnp.array([1.0]), jnp.array([2.0]), Mix(jnp.array(0.6), jnp.array(0.8)))
    >>> round(float(mixed[0]), 3)
    2.2
    """
    _check(x0=x0, eps=eps)
    return per_sample(mix.signal, x0) * x0 + per_sample(mix.noise, x0) * eps


def target(prediction: str, x0: Array, eps: Array, mix: Mix) -> Array:
    """What a network that predicts `prediction` is asked for, c_x x0 + c_e eps.

    Args:
      prediction: one of `PREDICTIONS`.
      x0: (B, ...) clean actions.
      eps: shape of x0, the noise that was mixed in.
      mix: coefficients, scalars or (B,).

    Returns:
      Shape of x0.

    Raises:
      InputError: an unknown prediction, or a velocity where time is discrete.
    """
    _check(x0=x0, eps=eps)
    require_prediction(prediction, mix)
    if prediction == "eps":
        return eps
    if prediction == "x0":
        return x0
    c_x, c_e = _weights(prediction, mix)
    return per_sample(c_x, x0) * x0 + per_sample(c_e, x0) * eps


class Ends(NamedTuple):
    """Both ends of the line that a noisy action lies on.

    Attributes:
      x0: (B, ...) the clean action.
      eps: (B, ...) the noise.
    """

    x0: Array
    eps: Array


def ends(prediction: str, predicted: Array, x: Array, mix: Mix, smallest: float = SMALLEST) -> Ends:
    """The clean action and the noise that a prediction implies.

    Args:
      prediction: what `predicted` is, one of `PREDICTIONS`.
      predicted: (B, ...) output of the network.
      x: shape of `predicted`, the noisy action that it saw.
      mix: coefficients, scalars or (B,).
      smallest: the determinant's magnitude is kept above it.

    Returns:
      `Ends`, each of the shape of x.

    Raises:
      InputError: an unknown prediction, or a velocity where time is discrete. ValueError: shapes that would
        broadcast.

    >>> mix = Mix(jnp.array(0.6), jnp.array(0.8))
    >>> found = ends("eps", jnp.array([2.0]), jnp.array([2.2]), mix)
    >>> found.x0.round(3).tolist(), found.eps.tolist()
    ([1.0], [2.0])
    """
    _check(x=x, predicted=predicted)
    require_prediction(prediction, mix)
    signal, noise = per_sample(mix.signal, x), per_sample(mix.noise, x)
    # Where the network says one end itself, it is taken as it is: no rounding through the other.
    if prediction == "eps":
        return Ends((x - noise * predicted) / _clamped(signal, smallest), predicted)
    if prediction == "x0":
        return Ends(predicted, (x - signal * predicted) / _clamped(noise, smallest))
    c_x, c_e = (per_sample(c, x) for c in _weights(prediction, mix))
    determinant = _clamped(signal * c_e - noise * c_x, smallest)
    return Ends((c_e * x - noise * predicted) / determinant, (signal * predicted - c_x * x) / determinant)


def convert(
    predicted: Array, x: Array, *, source: str, to: str, mix: Mix, smallest: float = SMALLEST
) -> Array:
    """One kind of prediction as another.

    Args:
      predicted: (B, ...) output of the network.
      x: shape of `predicted`, the noisy action that it saw.
      source: what `predicted` is, one of `PREDICTIONS`.
      to: what it is to become, one of `PREDICTIONS`.
      mix: coefficients, scalars or (B,).
      smallest: see `ends`.

    Returns:
      Shape of x.

    Raises:
      InputError: an unknown prediction, or a velocity where time is discrete.

    >>> mix = Mix(jnp.array(0.6), jnp.array(0.8))
    >>> v = convert(jnp.array([2.0]), jnp.array([2.2]), source="eps", to="v", mix=mix)
    >>> round(float(v[0]), 3)  # 0.6 2 - 0.8 1
    0.4
    """
    require_prediction(to, mix)
    if source == to:
        _check(x=x, predicted=predicted)
        require_prediction(source, mix)
        return predicted
    return target(to, *ends(source, predicted, x, mix, smallest), mix)


class Posterior(NamedTuple):
    """Law of the next, cleaner action given this one and the clean one: a Gaussian.

    mean = x_weight x + x0_weight x0

    Attributes:
      x_weight, x0_weight, variance: shape of the coefficients.
      forward_variance: of the noise that the forward step added, the larger choice of variance.
    """

    x_weight: Array
    x0_weight: Array
    variance: Array
    forward_variance: Array


def posterior(now: Mix, later: Mix) -> Posterior:
    r"""Law of the action at a cleaner time, given the one now and the clean one.

    \sigma^2 = s^2 - (a / a_l)^2 s_l^2
    x\_weight = (a / a_l) s_l^2 / s^2,   x0\_weight = a_l \sigma^2 / s^2
    variance = \sigma^2 s_l^2 / s^2

    With a = sqrt(abar) and s = sqrt(1 - abar) these are the DDPM posterior's; with a = 1 those of a
    variance-exploding path. Works on numpy and on JAX arrays alike.

    Args:
      now: coefficients at the noisier time, s above 0.
      later: at the cleaner one, a above 0.

    Returns:
      `Posterior`.

    Reference: Ho et al. 2020, arXiv:2006.11239, equations 6 and 7.
    """
    ratio = now.signal / later.signal
    forward = now.noise**2 - ratio**2 * later.noise**2
    return Posterior(
        x_weight=ratio * later.noise**2 / now.noise**2,
        x0_weight=later.signal * forward / now.noise**2,
        variance=forward * later.noise**2 / now.noise**2,
        forward_variance=forward,
    )


def require_prediction(prediction: str, mix: Mix) -> None:
    """Refuses an unknown prediction, and a velocity where time is discrete."""
    if prediction not in PREDICTIONS:
        raise InputError(
            f"unknown `prediction` {prediction!r}",
            got=prediction,
            expected="one of " + ", ".join(PREDICTIONS),
            cause='a name of another library: "epsilon" is eps, "sample" x0, "v_prediction" v',
            fix='"eps" for diffusion, "velocity" for flow matching',
        )
    if prediction == "velocity" and mix.signal_rate is None:
        raise InputError(
            "`prediction` velocity needs a path in continuous time",
            got="a discrete schedule",
            expected="eps, x0 or v",
            cause="a flow's prediction on a diffusion schedule",
            fix="a flow path, or another prediction",
        )


def _weights(prediction: str, mix: Mix) -> tuple[Array, Array]:
    """(c_x, c_e) of v or of the velocity."""
    if prediction == "v":
        return -mix.noise, mix.signal
    return mix.signal_rate, mix.noise_rate


def _check(**arrays: Array) -> None:
    checks.floating(**arrays)
    checks.shapes(**{name: (array, "...") for name, array in arrays.items()})


def per_sample(coefficient: Array, x: Array) -> Array:
    """A coefficient per sample, () or the leading axes of x, shaped to multiply x and in its precision."""
    coefficient = jnp.asarray(coefficient, x.dtype)
    if coefficient.shape != x.shape[: coefficient.ndim]:
        raise ValueError(
            f"a coefficient of `mix` has shape {coefficient.shape}, expected () or the leading axes of the "
            f"action {x.shape}. Usual fix: one time per sample, shape {x.shape[:1]}."
        )
    return coefficient.reshape(coefficient.shape + (1,) * (x.ndim - coefficient.ndim))


def _clamped(x: Array, smallest: float) -> Array:
    return jnp.where(x < 0, -1, 1).astype(x.dtype) * jnp.maximum(jnp.abs(x), smallest)
