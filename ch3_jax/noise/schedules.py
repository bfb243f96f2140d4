r"""How much of the action is left at every step of a diffusion: the noise schedule.

A step t of T keeps a share of the signal and adds Gaussian noise,

  x_t = \sqrt{\bar\alpha_t} x_0 + \sqrt{1 - \bar\alpha_t} \epsilon,
  \bar\alpha_t = \prod_{s \le t} (1 - \beta_s),

and everything that training and sampling need follows from the one sequence abar. It is computed once, on the
host, in float64, and rounded where it meets an array: in float32 already 1 - abar of the first of 1,000 steps
is wrong by a part in a thousand.

Two numbers say whether a schedule fits. The first step must still be nearly clean, and the last must be
nearly pure noise, because a sampler starts from pure noise: a network that was never shown that start answers
wrongly. Both are signal-to-noise ratios, so they move with the standard deviation of the actions:
`scaled_to_std`.

References:
  Ho et al. 2020, arXiv:2006.11239 (linear). Nichol and Dhariwal 2021, arXiv:2102.09672 (squared cosine).
  Karras et al. 2022, arXiv:2206.00364, equation 5. Lin et al. 2023, arXiv:2305.08891 (terminal signal).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ch3_jax.errors import InputError

TERMINAL_SIGNAL = 0.05


class Schedule(NamedTuple):
    """A discrete diffusion schedule; step 0 is nearly clean, step T - 1 nearly noise.

    Attributes:
      name: key of `SCHEDULES`, with what was changed.
      betas: (T,) float64, share of the variance that a step replaces by noise, in (0, 1).
      alpha_bar: (T,) float64, share of the variance that is still signal, decreasing.
    """

    name: str
    betas: np.ndarray
    alpha_bar: np.ndarray

    @property
    def steps(self) -> int:
        """T, the number of training steps."""
        return len(self.betas)

    @property
    def signal(self) -> np.ndarray:
        """(T,) float64, sqrt(abar): what multiplies the clean action."""
        return np.sqrt(self.alpha_bar)

    @property
    def noise(self) -> np.ndarray:
        """(T,) float64, sqrt(1 - abar): what multiplies the noise."""
        return np.sqrt(1 - self.alpha_bar)


def linear(steps: int, *, beta_start: float = 1e-4, beta_end: float = 0.02) -> np.ndarray:
    """Betas in equal steps, made for T = 1,000: after 100 of them a third of the variance is still signal."""
    return np.linspace(beta_start, beta_end, steps)


def scaled_linear(steps: int, *, beta_start: float = 1e-4, beta_end: float = 0.02) -> np.ndarray:
    """Square roots of the betas in equal steps (latent diffusion)."""
    return np.linspace(beta_start**0.5, beta_end**0.5, steps) ** 2


def squaredcos_cap_v2(steps: int, *, offset: float = 0.008, cap: float = 0.999) -> np.ndarray:
    r"""abar falls as a squared cosine; betas are capped so that the last is not 1 (Diffusion Policy, Octo).

    \bar\alpha(u) = \cos^2( (u + 0.008) / 1.008 \cdot \pi / 2 )
    \beta_t = \min(1 - \bar\alpha((t+1)/T) / \bar\alpha(t/T), 0.999)
    """
    u = np.arange(steps + 1) / steps
    level = np.cos((u + offset) / (1 + offset) * np.pi / 2) ** 2
    return np.minimum(1 - level[1:] / level[:-1], cap)


def sigmoid(
    steps: int, *, beta_start: float = 1e-4, beta_end: float = 0.02, reach: float = 6.0
) -> np.ndarray:
    """Betas that rise along a logistic curve from -reach to reach."""
    curve = 1 / (1 + np.exp(-np.linspace(-reach, reach, steps)))
    return curve * (beta_end - beta_start) + beta_start


SCHEDULES: dict[str, Callable[..., np.ndarray]] = {
    "linear": linear,
    "scaled_linear": scaled_linear,
    "squaredcos_cap_v2": squaredcos_cap_v2,
    "sigmoid": sigmoid,
}


def make_schedule(name: str, steps: int, **options: float) -> Schedule:
    """The schedule of a name.

    Args:
      name: one of `SCHEDULES`.
      steps: T, at least 1; 100 in Diffusion Policy, 20 in Octo.
      **options: of the function in `SCHEDULES`, such as `beta_end`.

    Returns:
      A `Schedule` of float64 arrays.

    Raises:
      InputError: an unknown name or option, steps under 1, betas outside (0, 1).

    >>> schedule = make_schedule("squaredcos_cap_v2", 100)
    >>> round(float(schedule.betas[0]), 8), round(float(schedule.alpha_bar[50]), 6)
    (0.00063128, 0.478265)
    """
    if name not in SCHEDULES:
        raise InputError(
            f"unknown schedule {name!r}",
            got=name,
            expected="one of " + ", ".join(SCHEDULES),
            cause="a misspelt name",
            fix='"squaredcos_cap_v2" is what most policies use',
        )
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 1:
        raise InputError(
            "`steps` of a schedule must be a whole number of 1 or more",
            got=steps,
            expected="1 or more; 100 in Diffusion Policy, 20 in Octo",
            cause="a count that was computed, or a flag of 0",
            fix="pass the number of training steps of the diffusion",
        )
    allowed = SCHEDULES[name].__kwdefaults__
    if unknown := sorted(set(options) - set(allowed)):
        raise InputError(
            f"the schedule {name!r} has no option `{unknown[0]}`",
            got=", ".join(unknown),
            expected="some of " + ", ".join(allowed),
            cause="an option of another schedule; elsewhere squaredcos_cap_v2 ignores beta_start silently",
            fix="leave it out",
        )
    label = ", ".join([name, *(f"{option} {value:g}" for option, value in sorted(options.items()))])
    return _from_betas(label, SCHEDULES[name](int(steps), **options))


def _from_betas(name: str, betas: np.ndarray) -> Schedule:
    betas = np.asarray(betas, np.float64)
    if not ((betas > 0) & (betas < 1)).all():
        raise InputError(
            f"`betas` of the schedule {name!r} leave (0, 1)",
            got=betas,
            expected="numbers above 0 and under 1",
            cause="beta_start or beta_end out of range",
            fix="beta is the share of the variance that one step replaces: 1e-4 to 0.02 for 1,000 steps",
        )
    return Schedule(name, betas, np.cumprod(1 - betas))


def karras_sigmas(steps: int, *, sigma_min: float, sigma_max: float, rho: float = 7.0) -> np.ndarray:
    r"""Noise levels that are dense where the noise is small.

    \sigma_i = ( \sigma_{max}^{1/\rho} + \frac{i}{n-1} (\sigma_{min}^{1/\rho} - \sigma_{max}^{1/\rho}) )^\rho

    Args:
      steps: n, at least 1.
      sigma_min: last level, above 0; 0.002 in EDM, with unit-variance data.
      sigma_max: first level; 80 in EDM.
      rho: 7 in EDM; 1 gives equal steps.

    Returns:
      (n,) float64, decreasing; a single level is `sigma_max`.

    Raises:
      InputError: steps under 1, or levels that are not 0 < sigma_min < sigma_max.

    >>> karras_sigmas(3, sigma_min=0.01, sigma_max=1.0).round(4).tolist()
    [1.0, 0.1451, 0.01]
    """
    if steps < 1:
        raise InputError(
            "`steps` must be 1 or more",
            got=steps,
            expected="a whole number of 1 or more",
            cause="a flag of 0",
            fix="pass the number of network calls, 20 in drill 3",
        )
    require_levels(sigma_min, sigma_max)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return (high + np.linspace(0, 1, int(steps)) * (low - high)) ** rho


def require_levels(sigma_min: float, sigma_max: float) -> None:
    """Refuses noise levels that are not 0 < sigma_min < sigma_max."""
    if not 0 < sigma_min < sigma_max < np.inf:
        raise InputError(
            "`sigma_min` and `sigma_max` are not a range",
            got=f"{sigma_min} to {sigma_max}",
            expected="0 < sigma_min < sigma_max",
            cause="the two swapped, or a level of 0, at which the noise cannot be predicted",
            fix="sigma_min=0.01, sigma_max=1.0 is the chapter's range",
        )


def snr(schedule: Schedule, std: float = 1.0) -> np.ndarray:
    r"""Signal-to-noise ratio of every step, std^2 \bar\alpha_t / (1 - \bar\alpha_t).

    Args:
      schedule: the schedule.
      std: standard deviation of the actions as the network sees them; 1 after z-scoring.

    Returns:
      (T,) float64, decreasing.

    >>> snr(Schedule("half", np.array([0.5]), np.array([0.5]))).tolist()
    [1.0]
    """
    _require_std(std)
    # Never a division by 0: every beta is above 0, and so is 1 - abar.
    return std**2 * schedule.alpha_bar / (1 - schedule.alpha_bar)


def terminal_snr(schedule: Schedule, std: float = 1.0) -> float:
    """Signal-to-noise ratio at the last step, 0 for a sampler that starts from pure noise.

    >>> terminal_snr(make_schedule("squaredcos_cap_v2", 100)) < 1e-6
    True
    """
    return float(snr(schedule, std)[-1])


def require_no_signal(schedule: Schedule, *, step: int = -1, limit: float = TERMINAL_SIGNAL) -> None:
    r"""Refuses to sample from pure noise where training never went that far: \sqrt{\bar\alpha} >= 0.05.

    Args:
      schedule: of the training.
      step: first step of the sampler; the last of the schedule by default.
      limit: smallest signal that is refused.

    Raises:
      InputError: signal is left at that step.

    Reference: Lin et al. 2023, arXiv:2305.08891, section 3.1.
    """
    left = float(schedule.signal[step])
    if left < limit:
        return
    first = step % schedule.steps
    early = first < schedule.steps - 1
    raise InputError(
        f"`schedule` {schedule.name!r} still has signal at step {first}, where sampling begins from noise",
        got=f"sqrt(abar) = {left:.3f}",
        expected=f"under {limit}",
        cause="leading spacing skips the noisiest steps"
        if early
        else "betas made for 1,000 steps used with fewer",
        fix='spacing="trailing"; or allow_signal=True to start there all the same'
        if early
        else '"squaredcos_cap_v2", or more steps; or allow_signal=True to start there all the same',
    )


def scaled_to_std(schedule: Schedule, std: float) -> Schedule:
    r"""The schedule that does to actions of standard deviation `std` what this one does to unit ones.

    std^2 SNR'_t = SNR_t,    so    \bar\alpha'_t = \bar\alpha_t / (\bar\alpha_t + std^2 (1 - \bar\alpha_t))

    Actions of std 0.1 drown in a schedule made for std 1 after a few steps, and the rest of the network's
    capacity goes into steps where there is nothing left to learn.

    Args:
      schedule: made for unit variance.
      std: standard deviation of the actions as the network sees them, above 0.

    Returns:
      A `Schedule` of as many steps.

    Raises:
      InputError: a std that is not above 0.

    >>> half = scaled_to_std(make_schedule("squaredcos_cap_v2", 100), 0.5)
    >>> bool(np.allclose(snr(half, 0.5), snr(make_schedule("squaredcos_cap_v2", 100))))
    True
    """
    _require_std(std)
    kept = schedule.alpha_bar / (schedule.alpha_bar + std**2 * (1 - schedule.alpha_bar))
    betas = 1 - kept / np.concatenate([[1.0], kept[:-1]])
    return Schedule(f"{schedule.name}, std {std:g}", betas, kept)


def _require_std(std: float) -> None:
    if not (np.isfinite(std) and std > 0):
        raise InputError(
            "`std` of the actions must be above 0",
            got=std,
            expected="a finite number above 0",
            cause="a constant action dimension in the statistics",
            fix="normalise the actions first, or leave that dimension out",
        )
