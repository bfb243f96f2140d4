r"""Losses where the environment scored what the policy did: policy gradients.

  REINFORCE        -\log \pi(a) (G - b)
  actor-critic     -\log \pi(a) A
  PPO, GRPO        -\min(\rho A, clip(\rho, 1 - \epsilon, 1 + \epsilon') A),   \rho = \pi(a) / \pi_{old}(a)

The gradient of the expected return is E[\nabla \log \pi(a) A]: of A only its value enters. So everything here
stops the gradient of advantages, baselines, targets and of all that an older network said; a loss through
which they learn would train the critic to please the actor.

Every function takes log-probabilities instead of a distribution, so that bins, Gaussians and tokens share it,
and gives one number per step of a stream (`ch3_jax.losses.streams`): the reducer is the caller's.
`ch3_jax.losses.returns` makes the advantages, `ch3_jax.losses.advantages` scales them, and the functions in
`ch3_jax.losses.value_learning` learn from values of actions instead.
"""

import jax
import jax.numpy as jnp

from ch3_jax import checks
from ch3_jax.base import Array
from ch3_jax.errors import InputError
from ch3_jax.losses.streams import FIX, require_number, require_stream


def reinforce(log_prob_tm1: Array, return_tm1: Array, baseline_tm1: Array) -> Array:
    r"""REINFORCE with a baseline, -\log \pi(a) (G - b).

    A baseline that does not depend on the action leaves the mean of the gradient alone and takes away
    variance: zeros for none, the critic's values, or the mean return of the other streams.

    Args:
      log_prob_tm1: (T,) float, log-probabilities of the actions taken, differentiable.
      return_tm1: (T,) float, returns from the actions on; no gradient.
      baseline_tm1: (T,) float; no gradient.

    Returns:
      (T,).

    Raises:
      ValueError: shapes that differ or are no stream. TypeError: integers.

    >>> reinforce(jnp.array([-1.0]), jnp.array([3.0]), jnp.array([1.0])).tolist()
    [2.0]

    Reference: Williams 1992, Simple statistical gradient-following algorithms, theorem 1.
    """
    require_stream(log_prob_tm1=log_prob_tm1, return_tm1=return_tm1, baseline_tm1=baseline_tm1)
    return policy_gradient(log_prob_tm1, return_tm1 - baseline_tm1)


def policy_gradient(log_prob_tm1: Array, advantage_tm1: Array) -> Array:
    r"""The policy's loss in an actor-critic, -\log \pi(a) A.

    Args:
      log_prob_tm1: (T,) float, log-probabilities of the actions taken, differentiable.
      advantage_tm1: (T,) float; no gradient.

    Returns:
      (T,). Its value means nothing, only its gradient does.

    Raises:
      ValueError: shapes that differ or are no stream. TypeError: integers.

    >>> policy_gradient(jnp.array([-1.0, -2.0]), jnp.array([1.0, -0.5])).tolist()
    [1.0, -1.0]

    Reference: Sutton et al. 2000, Policy gradient methods with function approximation, theorem 1.
    """
    require_stream(log_prob_tm1=log_prob_tm1, advantage_tm1=advantage_tm1)
    return -log_prob_tm1 * jax.lax.stop_gradient(advantage_tm1)


def entropy_loss(logits_tm1: Array) -> Array:
    r"""Minus the entropy of categorical policies, \sum_k p_k \log p_k: minimised by the uniform one.

    Args:
      logits_tm1: (T, K) float; -inf for an action that is not allowed.

    Returns:
      (T,) nats, from -log K to 0. A policy of another kind takes minus its own entropy.

    Raises:
      ValueError: not (T, K). TypeError: integers.

    >>> round(float(entropy_loss(jnp.zeros((1, 2)))[0]), 6)
    -0.693147

    Reference: Mnih et al. 2016, arXiv:1602.01783, section 4.
    """
    checks.floating(logits_tm1=logits_tm1)
    checks.shapes(fix=FIX, logits_tm1=(logits_tm1, "T K"))
    allowed = logits_tm1 > -jnp.inf
    log_p = jax.nn.log_softmax(logits_tm1)
    # 0 log 0 = 0, also in the gradient: -inf must not be multiplied by anything.
    return jnp.sum(jnp.where(allowed, jnp.exp(log_p) * jnp.where(allowed, log_p, 0), 0), axis=-1)


def a2c(
    log_prob_tm1: Array,
    entropy_tm1: Array,
    v_tm1: Array,
    return_tm1: Array,
    *,
    value_cost: float = 0.5,
    entropy_cost: float = 0.01,
) -> Array:
    r"""The advantage actor-critic in one loss.

    -\log \pi(a) (G - v) + c_v \tfrac12 (v - G)^2 - c_e H(\pi)

    The critic learns by the second term only, the actor by the first and the third.

    Args:
      log_prob_tm1: (T,) float, log-probabilities of the actions taken, differentiable.
      entropy_tm1: (T,) nats, differentiable.
      v_tm1: (T,) float values, differentiable.
      return_tm1: (T,) float, n-step or lambda returns; no gradient.
      value_cost: c_v, at least 0.
      entropy_cost: c_e, at least 0.

    Returns:
      (T,).

    Raises:
      ValueError: shapes that differ or are no stream, a negative cost. TypeError: integers.

    >>> x = jnp.ones(1)
    >>> float(a2c(-x, x, 2 * x, 3 * x, value_cost=0.5, entropy_cost=0.25)[0])
    1.0

    Reference: Mnih et al. 2016, arXiv:1602.01783, section 4 and algorithm 3.
    """
    require_stream(log_prob_tm1=log_prob_tm1, entropy_tm1=entropy_tm1, v_tm1=v_tm1, return_tm1=return_tm1)
    require_number("value_cost", value_cost, 0.0, ends="[)")
    require_number("entropy_cost", entropy_cost, 0.0, ends="[)")
    policy = policy_gradient(log_prob_tm1, return_tm1 - v_tm1)
    return policy + value_cost * value_loss(v_tm1, return_tm1) - entropy_cost * entropy_tm1


def clipped_surrogate(
    log_prob_tm1: Array,
    old_log_prob_tm1: Array,
    advantage_tm1: Array,
    *,
    clip: float = 0.2,
    clip_high: float | None = None,
) -> Array:
    r"""PPO's loss of the policy, -\min(\rho A, clip(\rho, 1 - \epsilon, 1 + \epsilon') A).

    An action has no gradient any more once its probability moved by the clip to where A wants it.

    Args:
      log_prob_tm1: (T,) float, of the actions under the policy that learns, differentiable.
      old_log_prob_tm1: (T,) float, under the policy that acted; no gradient.
      advantage_tm1: (T,) float; no gradient.
      clip: epsilon in (0, 1].
      clip_high: epsilon' above 0, None for `clip`; 0.28 in SimpleVLA-RL ("clip higher").

    Returns:
      (T,).

    Raises:
      ValueError: shapes that differ or are no stream, a clip outside its range. TypeError: integers.

    >>> log_ratio = jnp.log(jnp.array([1.3, 0.7, 1.0]))
    >>> loss = clipped_surrogate(log_ratio, jnp.zeros(3), jnp.array([1.0, -1.0, 2.0]))
    >>> [round(float(x), 6) for x in loss]
    [-1.2, 0.8, -2.0]

    References:
      Schulman et al. 2017, arXiv:1707.06347, equation 7. Yu et al. 2025, arXiv:2503.14476 (clip higher).
    """
    arguments = {"log_prob_tm1": log_prob_tm1, "old_log_prob_tm1": old_log_prob_tm1}
    require_stream(**arguments, advantage_tm1=advantage_tm1)
    low, high = _band(clip, clip_high)
    advantage = jax.lax.stop_gradient(advantage_tm1)
    ratio = jnp.exp(log_prob_tm1 - jax.lax.stop_gradient(old_log_prob_tm1))
    return -jnp.minimum(ratio * advantage, jnp.clip(ratio, low, high) * advantage)


def value_loss(
    v_tm1: Array, target_tm1: Array, *, old_v_tm1: Array | None = None, clip: float | None = None
) -> Array:
    r"""The critic's loss, \tfrac12 (v - G)^2, or PPO's with a clip.

    \tfrac12 \max((v - G)^2, (v_{old} + clip(v - v_{old}, -\epsilon, \epsilon) - G)^2)

    Args:
      v_tm1: (T,) float, differentiable.
      target_tm1: (T,) float returns; no gradient.
      old_v_tm1: (T,) float values when the stream was recorded, with `clip`; no gradient.
      clip: epsilon above 0, in the units of the return, with `old_v_tm1`.

    Returns:
      (T,).

    Raises:
      ValueError: shapes that differ or are no stream, one of `old_v_tm1` and `clip` without the other, a clip
        outside its range. TypeError: integers.

    >>> v, target = jnp.array([0.5]), jnp.array([1.0])
    >>> float(value_loss(v, target)[0])
    0.125
    >>> round(float(value_loss(v, target, old_v_tm1=jnp.array([0.0]), clip=0.2)[0]), 6)
    0.32

    References:
      Schulman et al. 2016, arXiv:1506.02438, equation 29. The clip: openai/baselines, ppo2; Engstrom et al.
      2020, arXiv:2005.12729, section 3, find no use in it.
    """
    require_stream(v_tm1=v_tm1, target_tm1=target_tm1)
    target = jax.lax.stop_gradient(target_tm1)
    plain = jnp.square(v_tm1 - target)
    if old_v_tm1 is None and clip is None:
        return 0.5 * plain
    if old_v_tm1 is None or clip is None:
        raise InputError(
            "the value clip needs `old_v_tm1` and `clip` together",
            got=f"old_v_tm1 {'missing' if old_v_tm1 is None else 'given'}, clip={clip}",
            expected="both, or neither for the plain squared error",
            cause="a clip that was switched on without the values of the time of recording, or the reverse",
            fix="pass both or neither",
        )
    require_stream(v_tm1=v_tm1, old_v_tm1=old_v_tm1)
    require_number("clip", clip, 0.0, ends="()")
    old = jax.lax.stop_gradient(old_v_tm1)
    near = old + jnp.clip(v_tm1 - old, -clip, clip)
    return 0.5 * jnp.maximum(plain, jnp.square(near - target))


def grpo(
    log_prob_tm1: Array,
    old_log_prob_tm1: Array,
    advantage: Array,
    *,
    clip: float = 0.2,
    clip_high: float | None = None,
    reference_log_prob_tm1: Array | None = None,
    kl_cost: float = 0.0,
) -> Array:
    r"""Group-relative policy optimisation: PPO without a critic, and a penalty for leaving a reference.

    `clipped_surrogate` + \beta KL_3(\pi || \pi_{ref}): every token of an episode has the one advantage of
    that episode within its group, from `advantages.group_advantages`.

    Args:
      log_prob_tm1: (T,) float, of the tokens of one episode, differentiable.
      old_log_prob_tm1: (T,) float, under the policy that acted; no gradient.
      advantage: () float, of the episode; no gradient.
      clip, clip_high: as in `clipped_surrogate`.
      reference_log_prob_tm1: (T,) float, under the policy before reinforcement, with `kl_cost`; no gradient.
      kl_cost: beta, at least 0; 0 in SimpleVLA-RL.

    Returns:
      (T,); SimpleVLA-RL averages it over all tokens, DeepSeekMath within episodes first.

    Raises:
      ValueError: shapes that differ or are no stream, a reference without a cost or the reverse, a number
        outside its range. TypeError: integers.

    >>> zero = jnp.zeros(2)
    >>> grpo(zero, zero, jnp.array(0.5)).tolist()
    [-0.5, -0.5]

    References:
      Shao et al. 2024, arXiv:2402.03300, equations 3 and 4. Li et al. 2025, arXiv:2509.09674 (SimpleVLA-RL).
    """
    require_stream(log_prob_tm1=log_prob_tm1)
    checks.floating(advantage=advantage)
    checks.shapes(fix="one number per episode; jax.vmap over the episodes", advantage=(advantage, ""))
    every = jnp.broadcast_to(advantage, log_prob_tm1.shape)
    loss = clipped_surrogate(log_prob_tm1, old_log_prob_tm1, every, clip=clip, clip_high=clip_high)
    require_number("kl_cost", kl_cost, 0.0, ends="[)")
    without_cost = isinstance(kl_cost, int | float) and kl_cost == 0
    if (reference_log_prob_tm1 is None) != without_cost:
        raise InputError(
            "a penalty needs `reference_log_prob_tm1` and a `kl_cost` above 0 together",
            got=f"reference {'missing' if reference_log_prob_tm1 is None else 'given'}, kl_cost={kl_cost}",
            expected="both, or neither for no penalty",
            cause="one of them was left at its default",
            fix="pass both or neither",
        )
    if reference_log_prob_tm1 is None:
        return loss
    require_stream(log_prob_tm1=log_prob_tm1, reference_log_prob_tm1=reference_log_prob_tm1)
    return loss + kl_cost * kl_k3(log_prob_tm1, jax.lax.stop_gradient(reference_log_prob_tm1))


def kl_k1(sampled_log_prob: Array, other_log_prob: Array) -> Array:
    r"""The unbiased estimate of KL(sampled || other) of one sample: \log p_s - \log p_o, of either sign.

    Args:
      sampled_log_prob: (T,) float, of the actions under the policy that drew them.
      other_log_prob: (T,) float, under the other one.

    Returns:
      (T,) nats.

    Raises:
      ValueError: shapes that differ or are no stream. TypeError: integers.

    >>> kl_k1(jnp.array([-1.0]), jnp.array([-1.5])).tolist()
    [0.5]

    Reference: Schulman 2020, Approximating KL divergence, joschu.net/blog/kl-approx.html.
    """
    require_stream(sampled_log_prob=sampled_log_prob, other_log_prob=other_log_prob)
    return sampled_log_prob - other_log_prob


def kl_k3(sampled_log_prob: Array, other_log_prob: Array) -> Array:
    r"""Unbiased as k1 and never negative: \rho - 1 - \log \rho with \rho = p_o / p_s.

    After a step of PPO the old policy drew the actions: kl_k3(old, new) is CleanRL's `approx_kl`.

    Args:
      sampled_log_prob: (T,) float, of the actions under the policy that drew them.
      other_log_prob: (T,) float, under the other one.

    Returns:
      (T,) nats, at least 0.

    Raises:
      ValueError: shapes that differ or are no stream. TypeError: integers.

    >>> round(float(kl_k3(jnp.array([0.0]), jnp.log(jnp.array([2.0])))[0]), 6)
    0.306853

    Reference: Schulman 2020, Approximating KL divergence, joschu.net/blog/kl-approx.html.
    """
    require_stream(sampled_log_prob=sampled_log_prob, other_log_prob=other_log_prob)
    log_ratio = other_log_prob - sampled_log_prob
    # expm1: near equal policies exp(x) - 1 - x would be the rounding of its parts and nothing else.
    return jnp.expm1(log_ratio) - log_ratio


def clipped(
    log_prob_tm1: Array, old_log_prob_tm1: Array, *, clip: float = 0.2, clip_high: float | None = None
) -> Array:
    """1 where the ratio is outside of PPO's clip, else 0: its mean is the clip fraction.

    Args:
      log_prob_tm1: (T,) float, of the actions under the policy that learns.
      old_log_prob_tm1: (T,) float, under the policy that acted.
      clip, clip_high: as in `clipped_surrogate`.

    Returns:
      (T,) of the dtype of `log_prob_tm1`, whatever the sign of the advantage.

    Raises:
      ValueError: shapes that differ or are no stream, a clip outside its range. TypeError: integers.

    >>> clipped(jnp.log(jnp.array([1.3, 0.7, 1.0])), jnp.zeros(3)).tolist()
    [1.0, 1.0, 0.0]
    """
    require_stream(log_prob_tm1=log_prob_tm1, old_log_prob_tm1=old_log_prob_tm1)
    low, high = _band(clip, clip_high)
    ratio = jnp.exp(log_prob_tm1 - old_log_prob_tm1)
    return ((ratio < low) | (ratio > high)).astype(log_prob_tm1.dtype)


def _band(clip: float, clip_high: float | None) -> tuple[float, float]:
    """The ratios between which PPO has a gradient on both sides."""
    require_number("clip", clip, 0.0, 1.0, ends="(]")
    if clip_high is None:
        return 1 - clip, 1 + clip
    require_number("clip_high", clip_high, 0.0, ends="()")
    return 1 - clip, 1 + clip_high
