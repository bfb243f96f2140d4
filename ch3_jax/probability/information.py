r"""How far one distribution is from another, in nats.

  H(p)    = - \sum_k p_k \log p_k
  H(p, q) = - \sum_k p_k \log q_k  =  H(p) + KL(p || q)

A policy is trained by H(p, q) with p the demonstrator and q itself; H(p) is the floor that no
policy can pass, and KL is the excess that training removes.
"""

import jax
import jax.numpy as jnp

from ch3_jax import checks
from ch3_jax.base import Array


def entropy(p: Array) -> Array:
    """Entropy of categorical distributions.

    Args:
      p: (..., K) probabilities that sum to one over the last axis.

    Returns:
      (...) nats: 0 for a one-hot, log K for the uniform.

    >>> round(float(entropy(jnp.array([0.7, 0.2, 0.1]))), 6)
    0.801819
    """
    checks.floating(p=p)
    return -jnp.sum(jax.scipy.special.xlogy(p, p), axis=-1)


def cross_entropy(p: Array, q_logits: Array) -> Array:
    """Cross-entropy H(p, q) of a distribution against logits.

    Args:
      p: (..., K) probabilities.
      q_logits: (..., K) unnormalised log-probabilities of q.

    Returns:
      (...) nats. Its gradient with respect to the logits is q - p.

    >>> round(float(cross_entropy(jnp.array([0.7, 0.2, 0.1]), jnp.array([2.0, 1.0, 0.0]))), 6)
    0.807606
    """
    checks.floating(p=p, q_logits=q_logits)
    checks.shapes(p=(p, "... K"), q_logits=(q_logits, "... K"))
    return -jnp.sum(p * jax.nn.log_softmax(q_logits), axis=-1)


def kl_divergence(p: Array, q_logits: Array) -> Array:
    """Forward KL(p || q): the mass-covering direction, and the excess of `cross_entropy` over `entropy`.

    Args:
      p: (..., K) probabilities.
      q_logits: (..., K) unnormalised log-probabilities of q.

    Returns:
      (...) nats, at least 0.
    """
    return cross_entropy(p, q_logits) - entropy(p)
