r"""What on-policy algorithms make of a rollout: samples with advantages, and a loss over them.

| | rollout | advantage | loss |
| --- | --- | --- | --- |
| ppo | goes on where the last one stopped | GAE, normalised in each minibatch | clipped ratio, part by part |
| a2c | the same | GAE | -log pi A, one pass |
| reinforce | whole episodes | return less the others' mean return at that step | -log pi A |
| grpo | whole episodes, G from one start | the episode's return within its group | clipped ratio, no critic |

Parts of a record (action tokens, denoising steps) are clipped one by one, as SimpleVLA-RL and DPPO do; a
Gaussian has one part.

References: Schulman et al. 2017, arXiv:1707.06347; Mnih et al. 2016, arXiv:1602.01783; Williams 1992; Shao
et al. 2024, arXiv:2402.03300; Ren et al. 2024, arXiv:2409.00588 (DPPO).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array, Key, Metrics, Params, PyTree
from ch3_jax.losses import reinforcement as losses
from ch3_jax.losses.advantages import explained_variance, group_advantages, normalize_advantages
from ch3_jax.losses.returns import discounted_returns, gae
from ch3_jax.numerics import masked_mean
from ch3_jax.reinforcement.agent import Agent
from ch3_jax.reinforcement.rollout import Rollout
from ch3_jax.reinforcement.settings import Settings


class Samples(NamedTuple):
    """What a loss sees: leading axes (T, N) of a rollout, or (B,) of a minibatch.

    Attributes:
      seen: (..., S), as the agent was shown it.
      record, log_prob: of the agent that acted, (..., P).
      reference: (..., P), of the policy at the other end of the leash; zeros without one.
      advantage, target: (...).
      mask: (...) bool, False behind the end of an episode where a rollout is one episode.
      policy_learns: (...) 1, or 0 while the critic learns alone.
    """

    seen: Array
    record: PyTree
    log_prob: Array
    reference: Array
    advantage: Array
    target: Array
    mask: Array
    policy_learns: Array


def whole_episodes(settings: Settings) -> bool:
    """Whether each rollout begins with new starts and is as long as an episode.

    >>> whole_episodes(Settings(algorithm="grpo"))
    True
    """
    return settings.algorithm in ("reinforce", "grpo")


def advantages(
    settings: Settings, data: Rollout, scale: Array, v_tm1: Array, v_t: Array
) -> tuple[Array, Array, Array]:
    """Advantages, value targets and which steps count, each (T, N).

    Args:
      settings: algorithm, discount, lambda.
      data: the rollout.
      scale: () the rewards are divided by it.
      v_tm1, v_t: (T, N) values, in units of the scaled return.
    """
    reward = data.reward / scale
    ends = data.terminated if settings.bootstrap else data.ended
    discount = settings.gamma * (1 - ends.astype(jnp.float32))
    every = jnp.ones(reward.shape, bool)
    if not whole_episodes(settings):
        stream = jax.vmap(
            lambda r, d, a, b, cut: gae(r, d, a, b, lambda_=settings.gae_lambda, truncated_t=cut), 1, 1
        )
        advantage = stream(reward, discount, v_tm1, v_t, data.ended)
        return advantage, advantage + v_tm1, every
    # Behind the first end of its lane a rollout shows the beginning of another episode, which is left out.
    ended = data.ended.astype(jnp.int32)
    mask = jnp.cumsum(ended, axis=0) - ended == 0
    reward = jnp.where(mask, reward, 0)
    returns = jax.vmap(lambda r, d, v: discounted_returns(r, d, v), 1, 1)(
        reward, jnp.full_like(reward, settings.gamma), jnp.zeros_like(reward)
    )
    if settings.algorithm == "grpo":
        groups = jnp.reshape(returns[0], (-1, settings.group))
        within = jax.vmap(lambda r: group_advantages(r, ddof=1))(groups)
        return jnp.broadcast_to(jnp.reshape(within, -1), reward.shape), returns, mask
    count = jnp.sum(mask, 1, keepdims=True)
    others = (jnp.sum(jnp.where(mask, returns, 0), 1, keepdims=True) - returns) / jnp.maximum(count - 1, 1)
    return returns - others, returns, mask


def make_loss(agent: Agent, settings: Settings) -> Callable[[Params, Samples, Key], tuple[Array, Metrics]]:
    """(params, minibatch, key) -> (loss, metrics), for `training.update.make_update`.

    Args:
      agent: whose parameters learn.
      settings: which algorithm, and its numbers.

    Returns:
      The loss. Its metrics are () scalars: `policy_loss`, `entropy`, `kl_k1` and `kl_k3` of the policy that
      acted from the one that learns, `clip_fraction`, `advantage_mean` and `advantage_std` before
      normalising; on a leash `kl_reference`, nats; with a critic `value_loss` and `explained_variance`, which
      is NaN where all targets are alike.
    """
    clips = {"clip": settings.clip_ratio, "clip_high": settings.clip_high}
    ratio_loss = settings.algorithm in ("ppo", "grpo")
    has_critic = settings.algorithm in ("ppo", "a2c")

    def loss(params: Params, batch: Samples, key: Key) -> tuple[Array, Metrics]:
        del key
        log_prob, entropy = agent.score(params, batch.seen, batch.record)
        advantage = batch.advantage
        if settings.normalize_advantage and settings.algorithm != "grpo":
            advantage = normalize_advantages(advantage, ddof=0, mask=batch.mask)
        weights = np.ones(log_prob.shape[-1]) if agent.part_weights is None else agent.part_weights
        each = advantage[:, None] * jnp.asarray(weights, jnp.float32)[None]
        flat = lambda x: jnp.reshape(jnp.broadcast_to(x, log_prob.shape), -1)  # noqa: E731
        if ratio_loss:
            surrogate = losses.clipped_surrogate(flat(log_prob), flat(batch.log_prob), flat(each), **clips)
        else:
            surrogate = losses.policy_gradient(flat(log_prob), flat(each))
        per_sample = jnp.mean(jnp.reshape(surrogate, log_prob.shape), -1) * batch.policy_learns
        policy_loss = masked_mean(per_sample, batch.mask)
        total = policy_loss
        critic = {}
        if has_critic:
            value = agent.value(params, batch.seen)
            value_loss = jnp.mean(losses.value_loss(value, batch.target))
            total = total + settings.value_cost * value_loss
            critic = {
                "value_loss": value_loss,
                "explained_variance": explained_variance(value, batch.target, mask=batch.mask),
            }
        entropy = masked_mean(entropy, batch.mask)
        if settings.entropy_cost:
            total = total - settings.entropy_cost * entropy
        leash = {}
        if settings.kl_cost:
            leash = {"kl_reference": masked_mean(jnp.sum(_k3(log_prob, batch.reference), -1), batch.mask)}
            total = total + settings.kl_cost * leash["kl_reference"]
        moved = log_prob - batch.log_prob
        outside = losses.clipped(flat(log_prob), flat(batch.log_prob), **clips)
        mean = lambda x: masked_mean(jnp.reshape(x, log_prob.shape), batch.mask)  # noqa: E731
        return total, {
            "policy_loss": policy_loss,
            "entropy": entropy,
            "kl_k1": -mean(moved),
            "kl_k3": mean(jnp.expm1(moved) - moved),
            "clip_fraction": mean(outside),
            **critic,
            **leash,
            "advantage_mean": masked_mean(batch.advantage, batch.mask),
            "advantage_std": jnp.sqrt(
                masked_mean(
                    jnp.square(batch.advantage - masked_mean(batch.advantage, batch.mask)), batch.mask
                )
            ),
        }

    return loss


def _k3(log_prob: Array, reference: Array) -> Array:
    """KL(pi || reference) by k3, differentiable in the policy: `losses.reinforcement.kl_k3`, any shape."""
    log_ratio = reference - log_prob
    return jnp.expm1(log_ratio) - log_ratio
