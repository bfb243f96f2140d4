r"""Losses whose targets are made from the data itself: hide something, and ask for it back.

| loss | hidden | asked for |
| --- | --- | --- |
| `denoising` | the action, under noise | the action: \|f(x + \sigma \epsilon) - x\|^2 |
| `ddpm` | the same, x_t = a x_0 + s \epsilon | eps, x0 or v, weighted |
| `flow_matching` | the same, on a straight line | the velocity |
| `denoising_score_matching` | the same | the score, \nabla \log p(x_t) = -E[\epsilon \| x_t] / s |
| `consistency` | the same, at two neighbouring times | the same answer at both |
| `masked_prediction` | some positions | what stands there |

Noise, times and mixing belong to `ch3_jax.noise`; here the (x_0, eps, mix) that a batch was made of meets
what a network said. Everything is un-reduced. (InfoNCE has a file of its own, `contrastive`.)

References: Vincent et al. 2008 (denoising autoencoders); Ho et al. 2020, arXiv:2006.11239, equation 14;
  Hang et al. 2023, arXiv:2303.09556 (min-SNR); Lipman et al. 2023, arXiv:2210.02747; Vincent 2011 (score
  matching); Song et al. 2023, arXiv:2303.01469 (consistency); Devlin et al. 2019, arXiv:1810.04805 (masks).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ch3_jax import checks
from ch3_jax.base import Array, Key
from ch3_jax.errors import InputError
from ch3_jax.losses.contrastive import info_nce as info_nce
from ch3_jax.losses.supervised import squared_error
from ch3_jax.noise import corruption
from ch3_jax.noise.corruption import Mix, per_sample
from ch3_jax.numerics import masked_mean
from ch3_jax.probability.values import known, require_any

METRICS = ("squared", "pseudo_huber")


def denoising(restored: Array, clean: Array) -> Array:
    r"""The chapter's denoising, \|f(x + \sigma \epsilon) - x\|^2, elementwise.

    Its floor is not 0 but the posterior variance of the clean action given the noisy one.

    Args:
      restored: (B, ...) what the network makes of the noisy action.
      clean: shape of `restored`.

    Returns:
      Shape of `restored`.

    Raises:
      ValueError: shapes that would broadcast. TypeError: integers.

    >>> denoising(jnp.array([0.5]), jnp.array([1.0])).tolist()
    [0.25]
    """
    checks.floating(restored=restored, clean=clean)
    checks.shapes(clean=(clean, "..."), restored=(restored, "..."))
    return squared_error(restored, clean)


def ddpm(
    predicted: Array, x0: Array, eps: Array, mix: Mix, *, prediction: str = "eps", gamma: float | None = None
) -> Array:
    """Squared error of a diffusion network in whichever of its predictions, elementwise.

    w(snr) (predicted - target)^2,    target = `corruption.target(prediction, x0, eps, mix)`

    Args:
      predicted: (B, ...) what the network says of `corruption.corrupt(x0, eps, mix)`.
      x0: (B, ...) clean actions.
      eps: (B, ...) the noise that was mixed in.
      mix: coefficients of the times, scalars or (B,).
      prediction: "eps", "x0" or "v".
      gamma: of min-SNR weighting, 5 in its paper; None weights every time alike.

    Returns:
      Shape of x0. A network that says 0 has a mean of 1 for eps.

    Raises:
      ValueError: shapes that would broadcast, an unknown prediction. TypeError: integers.

    >>> mix = Mix(jnp.array(0.6), jnp.array(0.8))
    >>> ddpm(jnp.zeros(1), jnp.array([1.0]), jnp.array([2.0]), mix).tolist()
    [4.0]
    """
    checks.floating(predicted=predicted)
    checks.shapes(predicted=(predicted, "..."), x0=(x0, "..."), eps=(eps, "..."))
    signal, noise = per_sample(mix.signal, x0), per_sample(mix.noise, x0)
    losses = squared_error(predicted, corruption.target(prediction, x0, eps, mix))
    if gamma is None:
        return losses
    return min_snr_weight(jnp.square(signal / noise), gamma, prediction) * losses


def min_snr_weight(snr: Array, gamma: float = 5.0, prediction: str = "eps") -> Array:
    r"""Weight of a time that makes every prediction the clean action's error, cut at gamma.

    | prediction | weight |
    | --- | --- |
    | x0 | min(snr, \gamma) |
    | eps | min(snr, \gamma) / snr |
    | v | min(snr, \gamma) / (snr + 1) |

    The errors of one and the same answer obey |eps|^2 = snr |x0|^2 and |v|^2 = (snr + 1) |x0|^2, so all
    three weighted losses are equal.

    Args:
      snr: (...) signal-to-noise ratio a^2 / s^2, above 0.
      gamma: above 0.
      prediction: "eps", "x0" or "v".

    Returns:
      (...).

    Raises:
      InputError: an unknown prediction, a gamma of 0 or less.

    >>> [float(min_snr_weight(jnp.array(10.0), 5.0, p)) for p in ("x0", "eps")]
    [5.0, 0.5]

    Reference: Hang et al. 2023, arXiv:2303.09556, section 3.4.
    """
    if not gamma > 0:
        raise InputError(
            "`gamma` must be above 0",
            got=gamma,
            expected="a number above 0, or None for no weighting",
            cause="a switch given where a bound is meant",
            fix="gamma=5.0",
        )
    snr = jnp.asarray(snr)
    # gamma / snr is cut from above and never divided by a small number: at no signal the weight of eps is 1.
    relative = jnp.where(snr > gamma, gamma / jnp.maximum(snr, gamma), 1)
    if prediction == "x0":
        return jnp.minimum(snr, gamma)
    if prediction == "eps":
        return relative
    if prediction == "v":
        return relative / (1 + 1 / snr)  # and not snr / (snr + 1), which is NaN where there is no noise
    raise InputError(
        f"min-SNR weighting knows no `prediction` {prediction!r}",
        got=prediction,
        expected="eps, x0 or v",
        cause="a flow's prediction, whose path has no weighting of this kind",
        fix="gamma=None for a flow",
    )


def flow_matching(predicted: Array, x0: Array, eps: Array, mix: Mix) -> Array:
    """Squared error of a velocity, elementwise.

    (predicted - (a' x0 + s' eps))^2: the target is x0 - eps in the chapter's direction of time.

    Args:
      predicted: (B, ...) velocity that the network says at `corruption.corrupt(x0, eps, mix)`.
      x0: (B, ...) clean actions.
      eps: (B, ...) the noise that was mixed in.
      mix: coefficients with rates, of `flow.linear_path(direction).mix(t)`: they carry the direction.

    Returns:
      Shape of x0. A network that says 0 has a mean of 1 + E[x0^2].

    Raises:
      ValueError: shapes that would broadcast, a discrete schedule. TypeError: integers.

    >>> from ch3_jax.noise.flow import linear_path
    >>> mix = linear_path().mix(jnp.array([0.25]))
    >>> flow_matching(jnp.zeros((1, 1)), jnp.array([[0.5]]), jnp.array([[1.0]]), mix).tolist()
    [[0.25]]
    """
    checks.floating(predicted=predicted)
    checks.shapes(predicted=(predicted, "..."), x0=(x0, "..."), eps=(eps, "..."))
    return squared_error(predicted, corruption.target("velocity", x0, eps, mix))


def denoising_score_matching(score: Array, eps: Array, mix: Mix, *, weighted: bool = True) -> Array:
    r"""Squared error of a score, elementwise.

    \lambda (score + \epsilon / s)^2,    \lambda = s^2 (weighted) or 1

    Unweighted, small noise dominates: the target is of size 1 / s. With s^2 it is the error of eps, since
    score = -eps / s.

    Args:
      score: (B, ...) what the network says of the noisy action.
      eps: (B, ...) the noise that was mixed in.
      mix: coefficients, scalars or (B,), with noise above 0.
      weighted: whether to multiply by s^2.

    Returns:
      Shape of `score`. A network that says 0 has a weighted mean of 1.

    Raises:
      ValueError: shapes that would broadcast. TypeError: integers.

    >>> mix = Mix(jnp.array(1.0), jnp.array(0.5))
    >>> denoising_score_matching(jnp.zeros(1), jnp.array([2.0]), mix).tolist()
    [4.0]

    Reference: Vincent 2011; Song and Ermon 2019, arXiv:1907.05600, equation 6.
    """
    checks.floating(score=score, eps=eps)
    checks.shapes(score=(score, "..."), eps=(eps, "..."))
    noise = per_sample(mix.noise, score)
    return jnp.square(noise * score + eps) if weighted else jnp.square(score + eps / noise)


def consistency(online: Array, target: Array, *, metric: str = "pseudo_huber") -> Array:
    r"""Distance between the answers at two neighbouring times of one path, per sample.

    squared       \sum_a d_a^2
    pseudo_huber  \sqrt{ \sum_a d_a^2 + c^2 } - c,    c = 0.00054 \sqrt{A}

    The answer at the cleaner time is the target and receives no gradient: with it, answering a constant
    everywhere would be a solution that is reached at once. (`losses.consistency_model` has the pair and
    the parametrisation.)

    Args:
      online: (B, ...) the student's clean action at the noisier time.
      target: (B, ...) at the cleaner time, by the student's slow average or the student itself.
      metric: one of `METRICS`.

    Returns:
      (B,), summed over the action as the metric says.

    Raises:
      ValueError: shapes that would broadcast, an unknown metric. TypeError: integers.

    >>> consistency(jnp.ones((1, 2)), jnp.zeros((1, 2)), metric="squared").tolist()
    [2.0]

    References: Song et al. 2023, arXiv:2303.01469, algorithm 2; Song and Dhariwal 2023, arXiv:2310.14189,
      section 3.3 (pseudo-Huber and its c).
    """
    checks.floating(online=online, target=target)
    checks.shapes(target=(target, "..."), online=(online, "..."))
    if metric not in METRICS:
        raise InputError(
            f"unknown `metric` {metric!r}",
            got=metric,
            expected="one of " + ", ".join(METRICS),
            cause="LPIPS, which compares images, or a misspelt name",
            fix='"pseudo_huber"',
        )
    difference = online - jax.lax.stop_gradient(target)
    flat = difference.reshape(difference.shape[:1] + (-1,)) if difference.ndim else difference[None, None]
    squares = jnp.sum(jnp.square(flat), axis=-1)
    if metric == "squared":
        return squares
    c = 0.00054 * flat.shape[-1] ** 0.5
    # squares / (root + c), not root - c: near 0 the difference of the two would be rounding.
    return squares / (jnp.sqrt(squares + c**2) + c)


def masked_prediction(
    prediction: Array,
    target: Array,
    hidden: Array,
    *,
    error: Callable[[Array, Array], Array] = squared_error,
) -> Array:
    """Mean error at the positions that were hidden from the network, per sequence.

    What it was shown does not count: copying it is no achievement.

    Args:
      prediction: (B, T, ...) as `error` wants it, logits for `supervised.cross_entropy`.
      target: as `error` wants it, (B, T, ...).
      hidden: (B, T) bool, True where the network could not see.
      error: (prediction, target) -> (B, T, ...).

    Returns:
      (B,). Inside a compiled step NaN where nothing was hidden.

    Raises:
      ValueError: shapes that would broadcast; a sequence with nothing hidden, outside `jit`.

    >>> hidden = jnp.array([[True, False]])
    >>> masked_prediction(jnp.array([[2.0, 9.0]]), jnp.zeros((1, 2)), hidden).tolist()
    [4.0]
    """
    if hidden.ndim != 2 or hidden.dtype != bool:
        raise ValueError(
            f"`hidden` has shape {hidden.shape} and dtype {hidden.dtype}, expected (B, T) of bool; B batch, "
            "T time. Usual fix: one True or False for each position, hidden != 0."
        )
    for row in hidden if known(hidden) else ():
        require_any("hidden", row)
    losses = error(prediction, target)
    checks.shapes(hidden=(hidden, "B T"), error=(losses[(..., *(0,) * (losses.ndim - 2))], "B T"))
    return masked_mean(losses, hidden, tuple(range(1, losses.ndim)))


def draw_hidden(key: Key, batch: int, length: int, *, share: float = 0.15) -> Array:
    """Positions to hide, as many in every sequence: round(share T), at least one.

    Args:
      key: consumed.
      batch: B.
      length: T.
      share: in (0, 1], 0.15 in BERT; 0.75 for images.

    Returns:
      (B, T) bool.

    Raises:
      InputError: a share outside its range.

    >>> draw_hidden(jax.random.key(0), 3, 8, share=0.25).sum(-1).tolist()
    [2, 2, 2]

    Reference: Devlin et al. 2019, arXiv:1810.04805, section 3.1; He et al. 2021, arXiv:2111.06377.
    """
    if not 0 < share <= 1:
        raise InputError(
            "`share` of hidden positions is outside its range",
            got=share,
            expected="above 0, at most 1",
            cause="a percentage given as a number, or nothing hidden",
            fix="share=0.15",
        )
    count = max(1, round(share * length))
    rank = jnp.argsort(jnp.argsort(jax.random.uniform(key, (batch, length)), axis=-1), axis=-1)
    return rank < count
