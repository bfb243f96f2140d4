r"""Floor of InfoNCE against a known law: even who knows both laws sometimes picks a stranger.

The best score is the density ratio r(a) = p(a | o) / q(a). Among N strangers from q it still loses

  floor = E \log( 1 + S / r(a^*) ),    S = \sum_{n=1}^{N} r(a_n),  a_n ~ q,  a^* ~ p

which is no entropy but an expectation over N + 1 numbers. With log(1 + S/r) = \int_0^\infty e^{-r t} (1 -
e^{-S t}) dt / t the strangers separate, since they are independent:

  floor = \int_{-\infty}^{\infty} E_p[ e^{-r t} ] ( 1 - E_q[ e^{-r t} ]^N ) d \ln t,

two one-dimensional integrals inside a third, all of them smooth.

The floor does not depend on where p lies as long as q covers it, so one observation in the middle of the
range stands for all.

References: van den Oord et al. 2018, arXiv:1807.03748, section 2.3 (the optimal score). Frullani's integral.
"""

from collections.abc import Sequence

import numpy as np

from ch3_jax.probability.floors_errors import mixture_on_grid

_NODES_PER_STD = 16.0
_STEP = 0.1  # of ln t
_SMALLEST, _LARGEST = -25.0, 45.0  # of ln t, beyond which less than 1e-9 lies


def contrastive_floor(std: float, offsets: Sequence[float], width: float, negatives: int) -> float:
    """Smallest expected InfoNCE loss of one dimension.

    Args:
      std: s of the action given the observation, above 0.
      offsets: equally likely.
      width: of the uniform law of the strangers, which covers the action.
      negatives: N.

    Returns:
      Nats.

    An action that may be anywhere is one of N + 1 alike:

    >>> bool(abs(contrastive_floor(1.0, np.linspace(0, 400, 801), 400.0, 255) / np.log(256) - 1) < 0.02)
    True
    """
    x, density = mixture_on_grid(std, offsets, _NODES_PER_STD)
    step = x[1] - x[0]
    ratio = width * density
    t = np.exp(np.arange(_SMALLEST - np.log(negatives), _LARGEST, _STEP))
    lost = -np.expm1(-t[:, None] * ratio)  # 1 - exp(-r t), without cancellation where r t is small
    own = 1 - step * lost @ density
    # Outside the grid r is 0, and there a stranger adds nothing.
    strangers = np.minimum(step * lost.sum(-1) / width, 1.0)
    with np.errstate(divide="ignore"):
        return float(_STEP * np.sum(np.maximum(own, 0) * -np.expm1(negatives * np.log1p(-strangers))))
