r"""Losses where a person chose the target.

  cross-entropy   -\log q(a^* | o)          over bins of each action dimension
  squared error   (f(o) - a^*)^2            Gaussian maximum likelihood: averages modes
  absolute error  |f(o) - a^*|              Laplace maximum likelihood: the median
  Huber           between the two           squared near the target, absolute far from it
  Gaussian NLL    -\log N(a^*; f(o), s(o))  the spread is predicted too
  mixture NLL     -\log \sum_m w_m N_m(a^*) several answers (BC-GMM)

Nothing here reduces: a loss has one number per sample and dimension, and the objective says how
they are averaged (`ch3_jax.numerics.masked_mean`). Published systems differ in exactly that step.
"""

import jax
import jax.numpy as jnp

from ch3_jax import checks
from ch3_jax.base import Array
from ch3_jax.errors import InputError
from ch3_jax.probability import categorical, mixture
from ch3_jax.probability.gaussian import HALF_LOG_2PI
from ch3_jax.probability.values import known, require_inside, require_probabilities


def cross_entropy(logits: Array, target: Array, *, label_smoothing: float = 0.0) -> Array:
    """Cross-entropy of integer targets against logits.

    With smoothing e the target is (1 - e) one-hot + e / K: the best logits stay finite, and the floor rises
    to the entropy of that target.

    Args:
      logits: (..., K) float, unnormalised log-probabilities; the softmax is in here and nowhere else.
      target: (...) integer in [0, K).
      label_smoothing: e in [0, 1), the share of the target spread evenly over all K.

    Returns:
      (...) nats: log K where the logits are equal. Inside a compiled step a target outside the bins gives
      NaN rather than a clamped class.

    Raises:
      ValueError: shapes that would broadcast; a target outside the bins, outside `jit`; a smoothing outside
        its range. TypeError: float targets or integer logits.

    >>> round(float(cross_entropy(jnp.array([2.0, 1.0, 0.0]), jnp.array(0))), 6)
    0.407606

    Reference: Szegedy et al. 2016, arXiv:1512.00567, section 7 (label smoothing).
    """
    checks.floating(logits=logits)
    checks.integer(target=target)
    checks.shapes(target=(target, "..."), logits=(logits, "... K"))
    require_inside("target", target, logits.shape[-1])
    chosen = categorical.chosen(logits, target)
    inside = (target >= 0) & (target < logits.shape[-1])
    if label_smoothing != 0:
        _require_share("label_smoothing", label_smoothing)
        chosen = (1 - label_smoothing) * chosen + label_smoothing * jnp.mean(logits, axis=-1)
    return jnp.where(inside, jax.nn.logsumexp(logits, axis=-1) - chosen, jnp.nan)


def soft_target_cross_entropy(logits: Array, target: Array) -> Array:
    """Cross-entropy of whole distributions against logits: smoothed labels, a teacher, a histogram.

    -sum_k p_k log q_k; its floor is the entropy of p, not 0, and its gradient in the logits is q - p.

    Args:
      logits: (..., K) float.
      target: (..., K) probabilities that sum to one.

    Returns:
      (...) nats.

    Raises:
      ValueError: shapes that would broadcast; a target that does not sum to one, outside `jit`.
        TypeError: integers.

    >>> p = jnp.array([0.7, 0.2, 0.1])
    >>> round(float(soft_target_cross_entropy(jnp.array([2.0, 1.0, 0.0]), p)), 6)
    0.807606
    """
    checks.floating(logits=logits, target=target)
    checks.shapes(target=(target, "... K"), logits=(logits, "... K"))
    require_probabilities(target=target)
    return -jnp.sum(target * jax.nn.log_softmax(logits), axis=-1)


def masked_vocabulary_cross_entropy(logits: Array, token: Array, allowed: Array) -> Array:
    """Cross-entropy over the action tokens of a language model's vocabulary, all others masked.

    Equal in value and gradient to `cross_entropy` on the K allowed columns alone: a masked logit
    has no probability and receives no gradient.

    Args:
      logits: (..., V) float over the whole vocabulary (32,000 in OpenVLA).
      token: (...) integer ids.
      allowed: (V,) bool, True for the action tokens.

    Returns:
      (...) nats. Inside a compiled step a token that is not allowed gives NaN.

    Raises:
      ValueError: shapes that would broadcast; a token that is not allowed or no token allowed, outside `jit`.
        TypeError: float tokens or integer logits.

    Reference: Kim et al. 2024, OpenVLA, arXiv:2406.09246, section 3.2.
    """
    checks.floating(logits=logits)
    checks.integer(token=token)
    checks.shapes(token=(token, "..."), logits=(logits, "... V"), allowed=(allowed, "V"))
    _require_allowed(token, allowed)
    allowed = jnp.broadcast_to(allowed, logits.shape)
    # The most negative float, not -inf: exp gives exact zeros all the same, and no inf - inf can arise.
    masked = jnp.where(allowed, logits, jnp.finfo(logits.dtype).min)
    valid = jnp.take_along_axis(allowed, token[..., None], axis=-1, mode="fill", fill_value=False)[..., 0]
    return jnp.where(valid, cross_entropy(masked, token), jnp.nan)


def squared_error(prediction: Array, target: Array) -> Array:
    """(prediction - target)^2, elementwise.

    >>> squared_error(jnp.array([1.0, 2.0]), jnp.array([0.0, 4.0])).tolist()
    [1.0, 4.0]
    """
    checks.floating(prediction=prediction, target=target)
    checks.shapes(target=(target, "..."), prediction=(prediction, "..."))
    return jnp.square(prediction - target)


def absolute_error(prediction: Array, target: Array) -> Array:
    """|prediction - target|, elementwise.

    >>> absolute_error(jnp.array([1.0, 2.0]), jnp.array([0.0, 4.0])).tolist()
    [1.0, 2.0]
    """
    checks.floating(prediction=prediction, target=target)
    checks.shapes(target=(target, "..."), prediction=(prediction, "..."))
    return jnp.abs(prediction - target)


def huber_error(prediction: Array, target: Array, *, delta: float = 1.0) -> Array:
    r"""Huber's error, elementwise: squared within delta of the target, linear beyond.

    \tfrac12 d^2  for |d| \le \delta,    \delta (|d| - \tfrac12 \delta)  beyond

    A poisoned action pulls with a force of at most delta. Near 0 it is *half* the squared error.

    Args:
      prediction: any shape, float.
      target: shape of `prediction`.
      delta: above 0, in the units of the action.

    Returns:
      Shape of `prediction`.

    Raises:
      ValueError: shapes that would broadcast, a delta of 0 or less. TypeError: integers.

    >>> huber_error(jnp.array([0.5, 3.0]), jnp.zeros(2)).tolist()
    [0.125, 2.5]

    Reference: Huber 1964, Robust estimation of a location parameter.
    """
    checks.floating(prediction=prediction, target=target)
    checks.shapes(target=(target, "..."), prediction=(prediction, "..."))
    if not delta > 0:
        raise InputError(
            "`delta` must be above 0",
            got=delta,
            expected="a number above 0, in the units of the action",
            cause="a switch given where a distance is meant",
            fix="delta=1.0, one standard deviation of a z-scored action",
        )
    distance = jnp.abs(prediction - target)
    # d^2 / 2 for the part within delta, slope delta for the rest: no branch, and so no branch's gradient.
    within = jnp.minimum(distance, delta)
    return 0.5 * jnp.square(within) + delta * (distance - within)


def gaussian_nll(mean: Array, log_std: Array, target: Array) -> Array:
    r"""Negative log-likelihood of a predicted Gaussian, elementwise.

    \tfrac12 ((a^* - \mu) / \sigma)^2 + \log \sigma + \tfrac12 \log 2 \pi

    At a fixed sigma it is the squared error, divided by 2 sigma^2, and a constant. With sigma learned it has
    no lower bound: on a constant action dimension sigma goes to 0 and the loss to minus infinity.

    Args:
      mean: any shape, float.
      log_std: shape of `mean`.
      target: shape of `mean`.

    Returns:
      Shape of `mean`, nats.

    Raises:
      ValueError: shapes that would broadcast. TypeError: integers.

    >>> round(float(gaussian_nll(jnp.array(0.0), jnp.array(0.0), jnp.array(1.0))), 6)
    1.418939
    """
    checks.floating(mean=mean, log_std=log_std, target=target)
    checks.shapes(target=(target, "..."), mean=(mean, "..."), log_std=(log_std, "..."))
    return 0.5 * jnp.square((target - mean) * jnp.exp(-log_std)) + log_std + HALF_LOG_2PI


def mixture_nll(logits: Array, mean: Array, log_std: Array, target: Array) -> Array:
    """Negative log-likelihood of a predicted mixture of Gaussians (BC-GMM), joint over the action.

    Args:
      logits: (..., M) unnormalised log-weights.
      mean: (..., M, A).
      log_std: (..., M, A).
      target: (..., A).

    Returns:
      (...) nats: one number per action, not per dimension.

    Raises:
      ValueError: shapes that would broadcast. TypeError: integers.

    >>> two = mixture_nll(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.full((2, 1), -3.0), jnp.array([1.0]))
    >>> round(float(two), 4)  # log 2 for the choice, and the single Gaussian's -3 + log(2 pi) / 2
    -1.3879

    Reference: Mandlekar et al. 2021, arXiv:2108.03298, section 4.
    """
    checks.floating(target=target)
    checks.shapes(
        target=(target, "... A"),
        mean=(mean, "... M A"),
        log_std=(log_std, "... M A"),
        logits=(logits, "... M"),
    )
    return -mixture.log_prob(logits, mean, log_std, target)


def binary_gripper(logit: Array, target: Array) -> Array:
    """Cross-entropy of a gripper that is either closed (0) or open (1), elementwise.

    -t log s(z) - (1 - t) log s(-z),    s the logistic function

    Args:
      logit: any shape, float; the probability of 1 before the logistic function.
      target: shape of `logit`, float in [0, 1] or bool. A value between is a soft target.

    Returns:
      Shape of `logit`, nats: log 2 at a logit of 0. Inside a compiled step a target outside gives NaN.

    Raises:
      ValueError: shapes that would broadcast; a target outside [0, 1], outside `jit`. TypeError: integers.

    >>> round(float(binary_gripper(jnp.array(0.0), jnp.array(1.0))), 6)
    0.693147
    """
    if target.dtype == bool:
        target = target.astype(logit.dtype)
    checks.floating(logit=logit, target=target)
    checks.shapes(target=(target, "..."), logit=(logit, "..."))
    inside = (target >= 0) & (target <= 1)
    if known(target) and not bool(inside.all()):
        raise InputError(
            "`target` of a gripper is outside [0, 1]",
            got=f"{float(target.min()):g} to {float(target.max()):g}",
            expected="0 for closed to 1 for open",
            cause="a gripper stored as -1 and 1, or a normalised one",
            fix="(target + 1) / 2, and leave the gripper out of the normalisation",
        )
    # softplus(z) - t z: both logarithms at once, without an overflow at either end.
    return jnp.where(inside, jax.nn.softplus(logit) - target * logit, jnp.nan)


def _require_share(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise InputError(
            f"`{name}` is outside its range",
            got=value,
            expected="0 (off) or more, under 1",
            cause="a percentage given as a number",
            fix=f"{name}=0.1",
        )


def _require_allowed(token: Array, allowed: Array) -> None:
    """Refuses tokens that the mask of the vocabulary forbids."""
    require_inside("token", token, allowed.shape[0])
    if not (known(token) and known(allowed)):
        return
    if not bool(jnp.take(allowed, token).all()):
        raise InputError(
            "`token` holds an id that `allowed` forbids",
            got=f"ids {int(token.min())} to {int(token.max())}, {int(allowed.sum())} of "
            f"{allowed.shape[0]} allowed",
            expected="ids of action tokens alone",
            cause="bins 0 .. 255 that were never moved to the end of the vocabulary",
            fix="add the first action token's id to the bins, 31,744 in OpenVLA",
        )
