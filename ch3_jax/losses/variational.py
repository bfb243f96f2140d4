r"""A latent variable that says which of several answers a demonstrator gave.

  \log p(a | o)  \ge  E_{z \sim q}[ \log p(a | z, o) ] - \beta KL( q(z | a, o) || N(0, I) )

At beta = 0 the latent is a look-up table of the training set, and what is drawn from the prior means
nothing. At a beta too high the posterior is the prior, the latent carries nothing, and the decoder averages
the modes as a squared error does. ACT has beta = 10 and an absolute error in place of the log-likelihood:
a Laplace likelihood of scale 1, up to a constant.

References:
  Kingma and Welling 2014, arXiv:1312.6114, appendix B. Higgins et al. 2017, beta-VAE.
  Zhao et al. 2023, arXiv:2304.13705 (ACT; the code has L1, the paper's algorithm 1 says MSE).
"""

from typing import NamedTuple

import jax.numpy as jnp

from ch3_jax import checks
from ch3_jax.base import Array
from ch3_jax.losses.padding import padded_mean
from ch3_jax.losses.supervised import absolute_error
from ch3_jax.probability import gaussian


def kl_to_standard_normal(mean: Array, log_std: Array) -> Array:
    r"""KL( N(\mu, \sigma) || N(0, I) ) = \tfrac12 \sum_z (\sigma^2 + \mu^2 - 1) - \log \sigma.

    Args:
      mean: (..., Z) of the posterior.
      log_std: shape of `mean`; half of the "logvar" of other libraries.

    Returns:
      (...) nats, summed over the latent.

    Raises:
      ValueError: shapes that would broadcast. TypeError: integers.

    >>> float(kl_to_standard_normal(jnp.array([1.0, 0.0]), jnp.zeros(2)))
    0.5
    """
    return gaussian.kl(mean, log_std, jnp.zeros_like(mean), jnp.zeros_like(log_std))


def elbo(log_likelihood: Array, mean: Array, log_std: Array, *, beta: float = 1.0) -> Array:
    """Evidence lower bound of each sample; at beta = 1 never above the log-evidence in expectation.

    log p(a | z, o) - beta KL(q(z) || N(0, I))

    Args:
      log_likelihood: (...) log p(a | z, o) at a z drawn from the posterior.
      mean, log_std: (..., Z) of the posterior.
      beta: weight of the KL, 0 or more.

    Returns:
      (...) nats. To be maximised.

    Raises:
      ValueError: shapes that would broadcast. TypeError: integers.

    >>> float(elbo(jnp.array(-1.0), jnp.array([1.0]), jnp.zeros(1), beta=2.0))  # -1 - 2 x 0.5
    -2.0
    """
    checks.floating(log_likelihood=log_likelihood)
    checks.shapes(log_likelihood=(log_likelihood, "..."), mean=(mean, "... Z"), log_std=(log_std, "... Z"))
    return log_likelihood - beta * kl_to_standard_normal(mean, log_std)


class Terms(NamedTuple):
    """The two parts of a CVAE's loss, un-reduced: they live on different axes.

    Attributes:
      error: (B, H, A) absolute error of the decoded chunk.
      kl: (B,) nats, of the latent.
    """

    error: Array
    kl: Array

    def total(self, mask: Array | None = None, *, beta: float = 10.0, padding: str = "valid") -> Array:
        """mean error + beta x mean KL, the number that is trained on.

        Args:
          mask: (B, H) bool, False where padded; None keeps everything.
          beta: weight of the KL, 10 in ACT.
          padding: see `padding.padded_mean`; "all" is ACT's own.

        Returns:
          ().
        """
        return padded_mean(self.error, mask, rule=padding) + beta * jnp.mean(self.kl)


def cvae(prediction: Array, target: Array, mean: Array, log_std: Array) -> Terms:
    """ACT's loss in its two parts: the absolute error of the chunk and the KL of its latent.

    |prediction - target|,    KL(q(z | a, o) || N(0, I))

    Args:
      prediction: (B, H, A) decoded with a latent drawn from the posterior.
      target: (B, H, A).
      mean: (B, Z) of the posterior.
      log_std: (B, Z).

    Returns:
      `Terms`; `.total(mask)` adds them up.

    Raises:
      ValueError: shapes that would broadcast. TypeError: integers.

    >>> one = jnp.ones((1, 1, 1))
    >>> float(cvae(one, 0 * one, jnp.array([[1.0]]), jnp.array([[0.0]])).total())  # 1 + 10 x 0.5
    6.0
    """
    checks.shapes(
        prediction=(prediction, "B H A"),
        target=(target, "B H A"),
        mean=(mean, "B Z"),
        log_std=(log_std, "B Z"),
    )
    return Terms(absolute_error(prediction, target), kl_to_standard_normal(mean, log_std))
