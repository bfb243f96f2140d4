"""Aliases and the shape alphabet that every room shares.

| letter | meaning |
| --- | --- |
| B | batch |
| T | time (steps of one episode) |
| W | window: observations that the policy sees, oldest first |
| H | action horizon: actions that the policy predicts, next first |
| S | state (observation) dimension |
| A | action dimension |
| J | joints |
| K | bins (categories of one action dimension) |
| M | components of a mixture |
| V | vocabulary |
| D | width of a layer |
| Z | dimension of a latent variable |
| N | steps of a whole data set |
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

Array = jax.Array
Key = jax.Array
PyTree = Any
Params = PyTree
Metrics = Mapping[str, Array]


class Batch(NamedTuple):
    """What a loss sees of B windows.

    Attributes:
      observation: (B, W, S) float32, normalised, oldest first.
      action: (B, H, A) float32, normalised, next first.
      mask: (B, H) bool, False where the horizon runs past the end of its episode.
    """

    observation: Array
    action: Array
    mask: Array
