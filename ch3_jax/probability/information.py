r"""How far one distribution is from another, in nats.

  H(p)        = - \sum_k p_k \log p_k
  H(p, q)     = - \sum_k p_k \log q_k  =  H(p) + KL(p || q)
  KL(p || q)  = \sum_k p_k \log (p_k / q_k),    forward: q must cover every mode of p
  KL(q || p)                                    reverse: q may settle on one of them

A policy is trained by H(p, q) with p the demonstrator and q itself; H(p) is the floor that no
policy can pass, and KL is the excess that training removes.

What a network says are logits, what data say are probabilities, so both are taken: `cross_entropy` and
`kl_divergence` have p as probabilities and q as logits, as in training; the others say in their name what
they take. Probabilities of exactly 0 are allowed: 0 log 0 is 0, and KL is infinite where q has no
probability for what p does.

Reference: Cover and Thomas 2006, Elements of Information Theory, section 2.3.
"""

import jax
import jax.numpy as jnp

from ch3_jax import checks
from ch3_jax.base import Array
from ch3_jax.probability.values import require_probabilities


def entropy(p: Array) -> Array:
    """Entropy of categorical distributions.

    Args:
      p: (..., K) probabilities that sum to one over the last axis.

    Returns:
      (...) nats: 0 for a one-hot, log K for the uniform.

    Raises:
      ValueError: probabilities that do not sum to one, outside `jit`. TypeError: integers.

    >>> round(float(entropy(jnp.array([0.7, 0.2, 0.1]))), 6)
    0.801819
    """
    checks.floating(p=p)
    checks.shapes(p=(p, "... K"))
    require_probabilities(p=p)
    return -_expected_log(p, _log(p))


def entropy_from_logits(logits: Array) -> Array:
    """Entropy of softmax(logits).

    Args:
      logits: (..., K) unnormalised log-probabilities; -inf is a class that cannot be.

    Returns:
      (...) nats.

    Raises:
      TypeError: integers.

    >>> round(float(entropy_from_logits(jnp.zeros(4))), 6)  # log 4
    1.386294
    """
    checks.floating(logits=logits)
    checks.shapes(logits=(logits, "... K"))
    log_p = jax.nn.log_softmax(logits)
    return -_expected_log(jnp.exp(log_p), log_p)


def cross_entropy(p: Array, q_logits: Array) -> Array:
    """Cross-entropy H(p, q) of a distribution against logits.

    Args:
      p: (..., K) probabilities that sum to one over the last axis.
      q_logits: (..., K) unnormalised log-probabilities of q.

    Returns:
      (...) nats. Its gradient with respect to the logits is q - p.

    Raises:
      ValueError: shapes that would broadcast; probabilities that do not sum to one, outside `jit`.
        TypeError: integers.

    >>> round(float(cross_entropy(jnp.array([0.7, 0.2, 0.1]), jnp.array([2.0, 1.0, 0.0]))), 6)
    0.807606
    """
    _check(p=p, q_logits=q_logits)
    require_probabilities(p=p)
    return -_expected_log(p, jax.nn.log_softmax(q_logits))


def cross_entropy_from_probabilities(p: Array, q: Array) -> Array:
    """Cross-entropy H(p, q) of two sets of probabilities.

    Args:
      p: (..., K) probabilities that sum to one over the last axis.
      q: (..., K) likewise.

    Returns:
      (...) nats; inf where q has no probability for what p does.

    Raises:
      ValueError: as `cross_entropy`. TypeError: integers.

    >>> round(float(cross_entropy_from_probabilities(jnp.array([0.5, 0.5]), jnp.array([0.25, 0.75]))), 6)
    0.836988
    """
    _check(p=p, q=q)
    require_probabilities(p=p, q=q)
    return -_expected_log(p, _log(q))


def kl_divergence(p: Array, q_logits: Array) -> Array:
    """Forward KL(p || q): the mass-covering direction, and the excess of `cross_entropy` over `entropy`.

    Args:
      p: (..., K) probabilities that sum to one over the last axis.
      q_logits: (..., K) unnormalised log-probabilities of q.

    Returns:
      (...) nats, at least 0 up to rounding.

    Raises:
      ValueError: as `cross_entropy`. TypeError: integers.

    >>> round(float(kl_divergence(jnp.array([0.7, 0.2, 0.1]), jnp.array([2.0, 1.0, 0.0]))), 6)
    0.005787
    """
    _check(p=p, q_logits=q_logits)
    require_probabilities(p=p)
    return _divergence(_log(p), jax.nn.log_softmax(q_logits))


def forward_kl(p: Array, q: Array) -> Array:
    """KL(p || q) of two sets of probabilities, p the data and q the model: mass-covering.

    Args:
      p: (..., K) probabilities that sum to one over the last axis.
      q: (..., K) likewise.

    Returns:
      (...) nats; inf where q has no probability for what p does.

    Raises:
      ValueError: as `cross_entropy`. TypeError: integers.

    >>> round(float(forward_kl(jnp.array([0.5, 0.5]), jnp.array([0.25, 0.75]))), 6)
    0.143841
    """
    _check(p=p, q=q)
    require_probabilities(p=p, q=q)
    return _divergence(_log(p), _log(q))


def reverse_kl(p: Array, q: Array) -> Array:
    """KL(q || p) of two sets of probabilities, p the data and q the model: mode-seeking.

    Args:
      p: (..., K) probabilities that sum to one over the last axis.
      q: (..., K) likewise.

    Returns:
      (...) nats; inf where q does what p never does.

    Raises:
      ValueError: as `cross_entropy`. TypeError: integers.

    >>> round(float(reverse_kl(jnp.array([0.5, 0.5]), jnp.array([0.25, 0.75]))), 6)
    0.130812
    """
    return forward_kl(q, p)


def forward_kl_from_logits(p_logits: Array, q_logits: Array) -> Array:
    """KL(p || q) of softmax(p_logits) and softmax(q_logits).

    Args:
      p_logits: (..., K) unnormalised log-probabilities of p; -inf is a class that cannot be.
      q_logits: (..., K) of q.

    Returns:
      (...) nats.

    Raises:
      ValueError: shapes that would broadcast. TypeError: integers.

    >>> round(float(forward_kl_from_logits(jnp.zeros(2), jnp.log(jnp.array([1.0, 3.0])))), 6)
    0.143841
    """
    _check(p_logits=p_logits, q_logits=q_logits)
    return _divergence(jax.nn.log_softmax(p_logits), jax.nn.log_softmax(q_logits))


def reverse_kl_from_logits(p_logits: Array, q_logits: Array) -> Array:
    """KL(q || p) of softmax(p_logits) and softmax(q_logits).

    Args:
      p_logits: (..., K) unnormalised log-probabilities of p.
      q_logits: (..., K) of q.

    Returns:
      (...) nats.

    Raises:
      ValueError: shapes that would broadcast. TypeError: integers.

    >>> round(float(reverse_kl_from_logits(jnp.zeros(2), jnp.log(jnp.array([1.0, 3.0])))), 6)
    0.130812
    """
    return forward_kl_from_logits(q_logits, p_logits)


def _divergence(log_p: Array, log_q: Array) -> Array:
    """sum p (log p - log q), term by term: the difference of two entropies would be rounding near 0."""
    possible = log_p != -jnp.inf
    # Both wheres are needed: -inf must reach neither the value nor the gradient.
    ratio = jnp.where(possible, log_p, 0) - jnp.where(possible, log_q, 0)
    return jnp.sum(jnp.where(possible, jnp.exp(log_p) * ratio, 0), axis=-1)


def _expected_log(p: Array, log_q: Array) -> Array:
    """sum p log q with 0 log 0 = 0."""
    possible = p != 0  # and not p > 0, which a NaN would pass through unseen
    return jnp.sum(jnp.where(possible, p * jnp.where(possible, log_q, 0), 0), axis=-1)


def _log(p: Array) -> Array:
    """log p, -inf at 0, with no infinite gradient there; NaN stays NaN."""
    return jnp.where(p == 0, -jnp.inf, jnp.log(jnp.where(p == 0, 1, p)))


def _check(**arrays: Array) -> None:
    checks.floating(**arrays)
    checks.shapes(**{name: (array, "... K") for name, array in arrays.items()})
