r"""Floor of a conditional autoencoder: what an action costs to describe.

  loss = \frac{1}{D} E|a - f(o, z)| + \beta KL( q(z | o, a) || N(0, I) )

The KL is at least the information that z has of a given o, so nothing beats the rate-distortion function of
the action at the slope beta. With D numbers that are independent given the observation it falls apart into
one problem for each,

  floor = mean over d of  F_d(\lambda),    \lambda = D \beta,
  F(\lambda) = min over q(y | a) of  E|a - y| + \lambda I(a; y)
             = min over r of  -\lambda E \log \sum_y r(y) \exp(-|a - y| / \lambda),

which Blahut and Arimoto's iteration solves on a grid. At a large slope the best description is none: y is the
median and the floor is that of the absolute error. Below, the floor is a bound that Gaussian posteriors and a
Gaussian prior come near and need not reach.

References: Blahut, 1972; Cover and Thomas, 2006, chapter 10. Alemi et al. 2018, arXiv:1711.00464
(autoencoders as rate and distortion).
"""

from collections.abc import Sequence

import numpy as np
from scipy import special

from ch3_jax.probability.floors_errors import mixture_on_grid

_NODES_PER_STD = 12.0
_ROUNDS = 2000
_CLOSE = 5e-4  # of the floor: where the iteration ends


def latent_floor(slope: float, std: float, offsets: Sequence[float] = (0.0,)) -> float:
    """F for a mixture of Gaussians.

    Args:
      slope: lambda, what a nat costs in units of the error, 0 or more.
      std: s, above 0.
      offsets: equally likely.

    Returns:
      The floor, in the action's units.

    >>> round(latent_floor(1e6, 1.0), 2)  # the absolute error of the median, sqrt(2 / pi)
    0.8
    """
    x, density = mixture_on_grid(std, offsets, _NODES_PER_STD)
    likely = density > density.max() * 1e-9  # the far tail costs iterations and weighs nothing
    return atoms_latent_floor(slope, x[likely], density[likely] / density[likely].sum())


def atoms_latent_floor(slope: float, values: np.ndarray, share: np.ndarray | None = None) -> float:
    """F for values with given probabilities, each of which may also be the answer.

    Args:
      slope: lambda, 0 or more.
      values: (K,).
      share: (K,) probabilities, None for equal ones.

    Wrong with probability p, a fair coin costs 2 p + lambda (ln 2 - h(p)), at its best p = 0.45:

    >>> round(atoms_latent_floor(10.0, np.array([-1.0, 1.0])), 3)
    0.95
    """
    values = np.asarray(values, float)
    share = np.full(len(values), 1 / len(values)) if share is None else share
    if slope == 0:
        return 0.0
    distance = np.abs(values[:, None] - values) / slope
    one = int(np.argmin(share @ distance))
    silent = float(slope * share @ distance[:, one])
    # One answer for everything is best where no other answer would gain on it (Kuhn and Tucker).
    gained = special.logsumexp(distance[:, [one]] - distance, axis=0, b=share[:, None])
    if slope * gained.max() <= _CLOSE * silent:
        return silent
    kernel = np.exp(-distance)
    answers = np.full(len(values), 1 / len(values))
    floor = silent
    for _ in range(_ROUNDS):
        reached = kernel @ answers
        gain = (share / reached) @ kernel
        floor, gap = float(-slope * share @ np.log(reached)), slope * np.log(gain.max())
        if gap <= _CLOSE * floor:
            break
        answers = answers * gain
    return min(floor, silent)
