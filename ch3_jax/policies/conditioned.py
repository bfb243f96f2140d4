r"""Networks that also see a noisy action and how noisy it is: the function behind every denoiser.

  f(o, x, \theta),    \theta = \arctan(s / a)  in [0, \pi/2]   for x = a x_0 + s \epsilon

The level is given as an angle because every noise process has one, whatever its time means: 0 is clean, pi/2
is pure noise, and both directions of a flow's time are the same angle. It enters as sines and cosines of its
multiples and, since the targets change on the scale of s where s is small, as ln sin(theta).

What the layers see of x is its distance from a guess that is linear in the observation,

  x - \cos\theta \; (C o + c),    \cos\theta = a / \sqrt{a^2 + s^2} for an x of unit size,

because where the action is nearly known, what is asked depends on that distance alone, and the guess has to
be found once instead of by every unit at every level. The guess has its own way to the output, x has none: it
would copy x near pure noise, where the noise *is* x, but it would also take away the linear part of what is
asked, by which the layers find the directions that matter. The switch between two ways to act, an odd
function without a linear part, is then hardly learned: after 50 epochs of 10,000 pairs a flow put 13 to 20 %
of its samples between two modes with such a path, 6 % without.

Reference: Ben Arous, Gheissari and Jagannath 2021, arXiv:2003.10409 (how fast a direction is found).
"""

import math

import flax.linen as nn
import jax.numpy as jnp

from ch3_jax.base import Array
from ch3_jax.policies.policy import Conditioned

_HARMONICS = (1.0, 2.0, 4.0, 8.0)
_CLEANEST = 1e-3  # sine of the angle below which levels are not told apart by the logarithm


def level_features(angle: Array) -> Array:
    """(B,) angles -> (B, 9) features: sines, cosines and the logarithm.

    >>> level_features(jnp.zeros(2)).shape
    (2, 9)
    """
    multiples = angle[:, None] * jnp.asarray(_HARMONICS, angle.dtype)[None]
    logarithm = jnp.log(jnp.sin(angle) + _CLEANEST)[:, None] / math.log(1 / _CLEANEST)
    return jnp.concatenate([jnp.sin(multiples), jnp.cos(multiples), logarithm], axis=-1)


class ConditionedPolicy(nn.Module):
    """Observations (B, W, S), noisy actions (B, H, A), angles (B,) -> (B, H, A), float32.

    Attributes:
      width: of the hidden layers.
      depth: how many of them.
      dtype: of the computation; parameters stay float32.
    """

    width: int = 256
    depth: int = 3
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, observation: Array, x: Array, angle: Array) -> Array:
        init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")

        def dense(features: int, name: str) -> nn.Dense:
            return nn.Dense(features, dtype=self.dtype, kernel_init=init, name=name)

        batch = x.shape[0]
        flat, level = jnp.reshape(x, (batch, -1)), level_features(angle)
        seen = jnp.reshape(observation, (batch, -1))
        guess = dense(flat.shape[-1], "guess")(seen)
        h = jnp.concatenate([flat - jnp.cos(angle)[:, None] * guess, seen, level], axis=-1)
        for layer in range(1, self.depth + 1):
            h = nn.relu(dense(self.width, f"hidden_{layer}")(h))
        known = dense(flat.shape[-1], "gain")(level) * guess
        return jnp.reshape(dense(flat.shape[-1], "head")(h) + known, x.shape).astype(jnp.float32)


def conditioned_policy(
    observation_shape: tuple[int, int],
    action_shape: tuple[int, int],
    width: int = 256,
    dtype=jnp.float32,
    *,
    depth: int = 3,
) -> Conditioned:
    """ConditionedPolicy as pure functions.

    Args:
      observation_shape: (W, S).
      action_shape: (H, A).
      width, depth: of the hidden layers, and how many.
      dtype: of the computation.

    >>> import jax
    >>> policy = conditioned_policy((1, 14), (1, 7), width=8)
    >>> params = policy.init(jax.random.key(0))
    >>> policy.apply(params, jnp.zeros((2, 1, 14)), jnp.zeros((2, 1, 7)), jnp.zeros(2)).shape
    (2, 1, 7)
    """
    return as_conditioned(ConditionedPolicy(width, depth, dtype), observation_shape, action_shape)


def as_conditioned(
    module: nn.Module, observation_shape: tuple[int, int], action_shape: tuple[int, int]
) -> Conditioned:
    """A module of observations, noisy actions and angles as pure functions.

    Args:
      module: (B, W, S), (B, H, A), (B,) -> (B, H, A).
      observation_shape: (W, S).
      action_shape: (H, A).
    """
    example = jnp.zeros((1, *observation_shape)), jnp.zeros((1, *action_shape)), jnp.zeros(1)
    return Conditioned(
        init=lambda key: module.init(key, *example)["params"],
        apply=lambda params, observation, x, angle: module.apply({"params": params}, observation, x, angle),
    )


def step_of(angle: Array) -> Array:
    """An angle as the number of a step in 100, for networks whose levels are steps: 0 clean, 100 pure noise.

    >>> round(float(step_of(jnp.array(math.pi / 4))), 3)
    50.0
    """
    return angle * (200 / math.pi)
