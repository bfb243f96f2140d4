r"""How well a number fits, without saying which: a score for every candidate of every action dimension.

  f_d(o, a) = \sum_k g_{dk}(o) \phi_k(a),    \phi = (u, u^2, \cos \pi k u, \sin \pi k u),   u = a scaled to
  [-1, 1]

The trunk sees the observation once; the features of the candidates are fixed functions and shared by the
batch, so a thousand candidates cost one matrix product. A Gaussian's log-density is exactly u and u^2,
several modes need the waves.
"""

import jax.numpy as jnp

from ch3_jax.base import Array, Key, Params
from ch3_jax.policies.policy import Conditioned
from ch3_jax.policies.small import small_policy

_WAVES = 24


def features(u: Array) -> Array:
    """(...) numbers, mostly in [-1, 1] -> (..., 50) features.

    >>> features(jnp.zeros(3)).shape
    (3, 50)
    """
    angle = u[..., None] * jnp.reshape(
        jnp.pi * jnp.arange(1, _WAVES + 1, dtype=u.dtype), (1,) * u.ndim + (-1,)
    )
    powers = jnp.stack([u, jnp.square(u)], axis=-1)
    # Divided by the root of their number, so that untrained scores are small.
    return jnp.concatenate([powers, jnp.cos(angle), jnp.sin(angle)], axis=-1) / (2 + 2 * _WAVES) ** 0.5


def energy_policy(
    observation_shape: tuple[int, int], action_shape: tuple[int, int], width: int = 256, dtype=jnp.float32
) -> Conditioned:
    """Scores of candidates as pure functions.

    Args:
      observation_shape: (W, S).
      action_shape: (H, A).
      width: of the hidden layers.
      dtype: of the trunk.

    Returns:
      `apply`: (params, observation, own (B, H, A), shared (N, H, A)), both scaled to [-1, 1] -> scores
      (B, H, A, 1 + N), own candidate first. `own` None leaves it out.

    >>> import jax
    >>> policy = energy_policy((1, 3), (1, 2), width=8)
    >>> params = policy.init(jax.random.key(0))
    >>> policy.apply(params, jnp.zeros((5, 1, 3)), jnp.zeros((5, 1, 2)), jnp.zeros((7, 1, 2))).shape
    (5, 1, 2, 8)
    """
    count = 2 + 2 * _WAVES
    trunk = small_policy(observation_shape, (*action_shape, count), width, dtype)

    def init(key: Key) -> Params:
        return trunk.init(key)

    def apply(params: Params, observation: Array, own: Array | None, shared: Array) -> Array:
        weights = trunk.apply(params, observation)
        scores = jnp.einsum("bhak,nhak->bhan", weights, features(shared))
        if own is None:
            return scores
        fit = jnp.sum(weights * features(own), axis=-1, keepdims=True)
        return jnp.concatenate([fit, scores], axis=-1)

    return Conditioned(init, apply)
