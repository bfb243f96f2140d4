r"""InfoNCE as a policy: pick the demonstrated number out of others drawn from a known law.

  loss = -\log \frac{ \exp f(o, a^*) }{ \exp f(o, a^*) + \sum_{n=1}^{N} \exp f(o, a_n) },    a_n ~ U[low,
  high]

The best scores are the density ratio, f = log p(a | o) / q(a) + const. With q known - uniform over the
range of the data and a twentieth beyond, as in Implicit BC - p can be sampled from: candidates weighted by
exp(f). Negatives from the batch would teach p(a | o) / p(a), from which nobody can sample who does not
know p(a).

Each dimension of the action has its own question, as with bins: the loss is comparable over dimensions, and
the candidates that are needed do not multiply. With 255 negatives not knowing costs ln 256.

References: van den Oord et al. 2018, arXiv:1807.03748; Florence et al. 2021, arXiv:2109.00137 (Implicit BC).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array, Batch, Key, Metrics, Params
from ch3_jax.errors import InputError
from ch3_jax.losses import supervised
from ch3_jax.losses.contrastive import learned_temperature
from ch3_jax.numerics import masked_mean
from ch3_jax.objectives.objective import Objective, Shapes, Spread
from ch3_jax.policies.energy import energy_policy

MARGIN = 0.05  # of the range, on both sides, as in Implicit BC
_CANDIDATES = 1024  # from which an action is drawn
_TEMPERATURE = 0.07  # CLIP's first


def infonce(
    shapes: Shapes,
    bins: object,
    *,
    width: int = 256,
    dtype=jnp.float32,
    spread: Spread | None = None,
    negatives: int = 255,
) -> Objective:
    """Contrast of the demonstrated action with others, dimension by dimension.

    Args:
      shapes: what the network must fit.
      bins: not looked at.
      width, dtype: of the network.
      spread: where the actions lie; None takes [-1, 1].
      negatives: N, drawn anew for every batch and shared by it.

    Returns:
      An `Objective` in nats; its metrics have `accuracy`, how often the demonstrated action scores highest.
    """
    del bins
    if negatives < 1:
        raise InputError(
            "--negatives must be 1 or more",
            got=negatives,
            expected="a whole number of 1 or more; 255 make ln 256 of not knowing",
            cause="a flag of 0: without others there is no choice",
            fix="leave --negatives out",
        )
    middle, half = law(spread, shapes.action)
    policy = energy_policy((shapes.window, shapes.state), (shapes.horizon, shapes.action), width, dtype)

    def init(key: Key) -> Params:
        return {"scores": policy.init(key), "log_scale": jnp.float32(math.log(1 / _TEMPERATURE))}

    def logits(params: Params, observation: Array, own: Array | None, others: Array) -> Array:
        return policy.apply(params["scores"], observation, own, others) / learned_temperature(
            params["log_scale"]
        )

    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        shape = (negatives, shapes.horizon, shapes.action)
        others = jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)
        own = (batch.action - _row(middle, batch.action)) / _row(half, batch.action)
        scores = logits(params, batch.observation, own, others)
        losses = supervised.cross_entropy(scores, jnp.zeros(scores.shape[:-1], jnp.int32))
        won = jnp.argmax(scores, axis=-1) == 0
        return masked_mean(losses, batch.mask), {
            "loss_per_dimension": masked_mean(losses, batch.mask, (0, 1)),
            "accuracy": masked_mean(won.astype(jnp.float32), batch.mask),
        }

    def act(params: Params, observation: Array, key: Key | None = None) -> Array:
        cell = 2 / _CANDIDATES
        centres = cell * (jnp.arange(_CANDIDATES, dtype=jnp.float32) + 0.5) - 1
        shape = (_CANDIDATES, shapes.horizon, shapes.action)
        scores = logits(params, observation, None, jnp.broadcast_to(centres[:, None, None], shape))
        if key is None:
            u = centres[jnp.argmax(scores, axis=-1)]
        else:
            which, where = jax.random.split(key)
            u = centres[jax.random.categorical(which, scores)]
            u = u + cell * (jax.random.uniform(where, u.shape) - 0.5)
        return _row(middle, u) + _row(half, u) * u

    asked = {"negatives": negatives, "width": 2 * half}
    return Objective(init, loss, act, samples=True, unit="nats", asked=asked)


def law(spread: Spread | None, action: int) -> tuple[np.ndarray, np.ndarray]:
    """Middle and half width (A,) of the uniform law of the negatives.

    >>> [x.tolist() for x in law(Spread(np.array([-1.0]), np.array([3.0]), 1.0), 1)]
    [[1.0], [2.2]]
    """
    if spread is None:
        return np.zeros(action, np.float32), np.ones(action, np.float32)
    half = (spread.high - spread.low) / 2
    # A dimension that never moves still needs a width to scale by.
    return (spread.low + spread.high) / 2, np.where(half > 0, half * (1 + 2 * MARGIN), 1).astype(
        spread.low.dtype
    )


def _row(values: np.ndarray, like: Array) -> Array:
    return jnp.broadcast_to(jnp.asarray(values, like.dtype), like.shape)
