r"""InfoNCE: which of the others in the batch is mine?

With scores s_ij of how well row i fits column j, and the pairs on the diagonal, each row is a classification
among the N columns of the batch,

  L_i = -\log \frac{ \exp(s_{ii} / \tau) }{ \sum_j \exp(s_{ij} / \tau) },

one-sided; the symmetric form averages it with the same over columns (CLIP). log N - L bounds the mutual
information of the two sides from below, so a batch of N can show at most log N nats.

References: van den Oord et al. 2018, arXiv:1807.03748, equations 4 and 5; Radford et al. 2021,
  arXiv:2103.00020, figure 3 (symmetric, learned temperature).
"""

import jax
import jax.numpy as jnp

from ch3_jax import checks
from ch3_jax.base import Array
from ch3_jax.errors import InputError
from ch3_jax.numerics import safe_norm
from ch3_jax.probability.values import known, require_any


def info_nce(
    scores: Array, *, temperature: Array | float = 0.1, symmetric: bool = False, mask: Array | None = None
) -> Array:
    """InfoNCE of every pair of a batch against the others as negatives.

    Args:
      scores: (N, N) similarity of row i with column j, pairs on the diagonal; in [-1, 1] of
        `cosine_scores`.
      temperature: tau above 0, a number or a scalar of `learned_temperature`, to which gradients flow.
      symmetric: average rows and columns.
      mask: (N,) bool, False for pairs that are padding: they are nobody's negatives, and their own number is
        to be left out of the mean (`numerics.masked_mean`).

    Returns:
      (N,) nats: log of the number of valid columns where all scores are equal.

    Raises:
      ValueError: scores that are not square, a mask of another length or empty, a temperature of 0 or less.
        TypeError: integers.

    >>> info_nce(jnp.zeros((2, 2)))  # log 2
    Array([0.6931472, 0.6931472], dtype=float32)
    """
    checks.floating(scores=scores)
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1]:
        raise ValueError(
            f"`scores` has shape {scores.shape}, expected (N, N) with the pairs on its diagonal; N pairs of "
            "the batch. Usual fix: cosine_scores(left, right) of two (N, D) arrays."
        )
    temperature = jnp.asarray(temperature, scores.dtype)
    if temperature.ndim or (known(temperature) and not temperature > 0):
        raise InputError(
            "`temperature` must be one number above 0",
            got=f"shape {temperature.shape}" if temperature.ndim else f"{float(temperature):g}",
            expected="a scalar above 0",
            cause="the logarithm of a learned temperature, passed as it is stored",
            fix="learned_temperature(log_scale)",
        )
    logits = scores / temperature
    if mask is not None:
        checks.shapes(scores=(scores[:, 0], "N"), mask=(mask, "N"))
        require_any("mask", mask)
        own = jnp.eye(scores.shape[0], dtype=bool)
        keep = own | (mask[None, :] & mask[:, None])
        logits = jnp.where(keep, logits, jnp.finfo(logits.dtype).min)
    rows = jax.nn.logsumexp(logits, axis=1) - jnp.diagonal(logits)
    if not symmetric:
        return rows
    return 0.5 * (rows + jax.nn.logsumexp(logits, axis=0) - jnp.diagonal(logits))


def cosine_scores(left: Array, right: Array) -> Array:
    """Cosine of every row of one side with every row of the other.

    Args:
      left: (N, D).
      right: (N, D).

    Returns:
      (N, N) in [-1, 1]; 0 for a row of zeros.

    Raises:
      ValueError: shapes that differ. TypeError: integers.

    >>> cosine_scores(jnp.eye(2), 3 * jnp.eye(2)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    checks.floating(left=left, right=right)
    checks.shapes(left=(left, "N D"), right=(right, "N D"))
    left, right = (x / jnp.maximum(jax.vmap(safe_norm)(x)[:, None], 1e-12) for x in (left, right))
    return jnp.einsum("id,jd->ij", left, right)


def learned_temperature(log_scale: Array, *, largest_scale: float = 100.0) -> Array:
    r"""A temperature from its stored form, \tau = 1 / \min(\exp(log\_scale), 100).

    Stored as a logarithm it stays positive under any update. The bound keeps a batch that is already told
    apart from driving tau to 0; beyond it the gradient is 0.

    Args:
      log_scale: () the parameter; CLIP begins at log(1 / 0.07).
      largest_scale: 100 in CLIP.

    Returns:
      () above 0.

    >>> [round(float(learned_temperature(jnp.array(s))), 4) for s in (2.6593, 9.0)]
    [0.07, 0.01]
    """
    checks.floating(log_scale=log_scale)
    # The bound is taken before exp: a large log_scale would be inf, and its gradient NaN.
    return jnp.exp(-jnp.minimum(log_scale, jnp.log(jnp.asarray(largest_scale, log_scale.dtype))))
