"""What everyone outside this folder sees of a network: a pair of pure functions.

  params     = policy.init(key)
  prediction = policy.apply(params, observation)

Networks are Flax Linen modules and `flax.linen` is imported in this folder alone, so that the
rest of the project would not notice if they were written in anything else.
"""

from collections.abc import Callable
from typing import NamedTuple

from ch3_jax.base import Array, Key, Params


class Policy(NamedTuple):
    """A network as `(init, apply)`.

    Attributes:
      init: key -> params.
      apply: (params, observation (B, W, S)) -> prediction, its shape said by whoever made the policy.
    """

    init: Callable[[Key], Params]
    apply: Callable[[Params, Array], Array]


class Conditioned(NamedTuple):
    """A network that sees more than the observation.

    Attributes:
      init: key -> params.
      apply: (params, observation (B, W, S), *more) -> prediction; whoever made it says what more.
    """

    init: Callable[[Key], Params]
    apply: Callable[..., Array]
