r"""Bins that are said one after another: OpenVLA's objective.

  -\frac{1}{HA} \sum_j \log p(w_j | o, w_1 .. w_{j-1})

The words before are the demonstrated ones while training (teacher forcing) and the model's own while acting,
so a number may depend on those before it: where two demonstrators turn left or right, the second number
follows the first, which classifiers side by side cannot do.

Reference: Kim et al. 2024, arXiv:2406.09246.
"""

import jax
import jax.numpy as jnp

from ch3_jax.base import Array, Batch, Key, Metrics, Params
from ch3_jax.objectives.classified import classified
from ch3_jax.objectives.objective import Objective, Shapes
from ch3_jax.policies.token_decoder import TokenPolicy
from ch3_jax.tokens import bins as tokens


def spoken(shapes: Shapes, bins: tokens.Bins, policy: TokenPolicy, vocabulary: int = 32_000) -> Objective:
    """Cross-entropy of the words of an action, mean over valid steps and dimensions, in nats.

    Args:
      shapes: what the network fits.
      bins: of the normalised actions; bin k is the word vocabulary - 1 - k.
      policy: that says them.
      vocabulary: V of the policy.

    Returns:
      An `Objective` without `logits`: scores of a word exist beside given words only.
    """
    chunk = (shapes.horizon, shapes.action)

    def words_of(token: Array) -> Array:
        return (vocabulary - 1 - jnp.reshape(token, (len(token), -1))).astype(jnp.int32)

    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        del key
        # What stands behind an episode's end is said too, but nothing that counts comes after it.
        target = jax.lax.optimization_barrier(tokens.encode(bins, batch.action))
        scores = policy.scores(params, batch.observation, words_of(target))
        logits = jnp.reshape(scores, (*target.shape, bins.count))
        return classified(logits, target, bins, batch)

    def act(params: Params, observation: Array, key: Key | None = None) -> Array:
        words, _ = policy.decode(params, observation, key)
        return tokens.decode(bins, jnp.reshape(vocabulary - 1 - words, (len(words), *chunk)))

    return Objective(policy.init, loss, act, samples=True, unit="nats")
