r"""Soft actor-critic: learns from what it remembers, and is paid for staying random.

  critics       1/2 (r + \gamma [\min_i Q'_i(s', a') - \alpha \log \pi(a')] - Q_i(s, a))^2,   i = 1, 2
  actor         \alpha \log \pi(a) - \min_i Q_i(s, a),   a = \tanh(\mu + \sigma n)
  temperature   -\log\alpha (\log \pi(a) + \bar H),   \bar H = -A

One gradient serves all three: each term stops what is not its own, so the sum is three losses side by side,
and Q' is the average that `training.update` keeps anyway. Each iteration drives N environments for T steps,
writes them over the oldest of the buffer, and makes U updates from random draws of it. Observations are
standardised by the moments of the moment, rewards divided by the deviation of the return, when they are drawn
and not when they are stored: a stored number would be stale.

Reference: Haarnoja et al. 2018, arXiv:1812.05905.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ch3_jax.base import Array, Key, Metrics, Params
from ch3_jax.environments.environment import Environment, sizes
from ch3_jax.errors import InputError
from ch3_jax.losses import value_learning as losses
from ch3_jax.policies.actor_critic import layers_policy
from ch3_jax.probability import tanh_gaussian
from ch3_jax.reinforcement import moments, reports
from ch3_jax.reinforcement.agent import Acted, Agent, to_bounds
from ch3_jax.reinforcement.rollout import Rollout, rollout
from ch3_jax.reinforcement.settings import Settings
from ch3_jax.reinforcement.state import (
    Iteration,
    LearnerState,
    all_finite,
    begin,
    key_of,
    looks,
    or_before,
    reward_scale,
)
from ch3_jax.training.ema import constant_decay
from ch3_jax.training.update import make_update

LOG_STD = (-5.0, 2.0)  # where the network's output is kept, as in CleanRL


class Steps(NamedTuple):
    """Single steps, leading axis B.

    Attributes:
      observation, reached: (B, S) raw.
      action: (B, A) in [-1, 1].
      reward: (B,) raw.
      terminated: (B,) bool.
    """

    observation: Array
    reached: Array
    action: Array
    reward: Array
    terminated: Array


class Buffer(NamedTuple):
    """The last B steps.

    Attributes:
      steps: leading axis B.
      at: () int32, where the next one goes.
      filled: () int32, how many there are.
    """

    steps: Steps
    at: Array
    filled: Array


def soft_agent(environment: Environment, *, width: int = 64) -> Agent:
    """An actor whose deviation depends on what it sees, and two critics of state and action.

    Args:
      environment: continuous actions.
      width: of all hidden layers.

    Raises:
      InputError: actions that are choices.
    """
    if environment.choices:
        raise InputError(
            f"sac needs continuous actions, {environment.name} has choices",
            got=f"{environment.choices} choices",
            expected="actions between two bounds",
            cause="the actor's gradient goes through the action",
            fix="--loss=ppo",
        )
    state, action = sizes(environment)
    actor = layers_policy(state, 2 * action, width)
    critic = layers_policy(state + action, 1, width, gain=1.0)

    def init(key: Key) -> Params:
        of_actor, of_critics = jax.random.split(key)
        return {
            "actor": {"layers": actor.init(of_actor)},
            "critics": jax.vmap(critic.init)(jax.random.split(of_critics, 2)),
            "log_temperature": jnp.zeros((), jnp.float32),
        }

    def law(params: Params, seen: Array) -> tuple[Array, Array]:
        mean, free = jnp.split(actor.apply(params["actor"]["layers"], seen), 2, axis=-1)
        low, high = LOG_STD
        return mean, low + 0.5 * (high - low) * (jnp.tanh(free) + 1)

    def act(params: Params, seen: Array, key: Key) -> Acted:
        unit, log_prob = tanh_gaussian.sample_and_log_prob(key, *law(params, seen))
        return Acted(to_bounds(environment, unit), unit, log_prob[:, None])

    def score(params: Params, seen: Array, record: Array) -> tuple[Array, Array]:
        mean, log_std = law(params, seen)
        inside = jnp.clip(record, -1 + 1e-6, 1 - 1e-6)
        log_prob = tanh_gaussian.log_prob(mean, log_std, inside)
        return log_prob[:, None], -log_prob

    def q(params: Params, seen: Array, unit: Array) -> Array:
        both = jnp.concatenate([seen, unit], -1)
        return jax.vmap(critic.apply, (0, None), -1)(params["critics"], both)[..., 0, :]

    return Agent(
        init=init,
        draw=lambda key, steps, count: jax.random.split(key, steps),
        act=act,
        score=score,
        best=lambda params, seen: to_bounds(environment, tanh_gaussian.median(law(params, seen)[0])),
        value=lambda params, seen: jnp.min(q(params, seen, tanh_gaussian.median(law(params, seen)[0])), -1),
        largest_entropy=float(action * jnp.log(2.0)),
        q=q,
    )


def make_loss(agent: Agent, settings: Settings, actions: int):
    """(params, (steps as seen, averaged params), key) -> (loss, metrics) for `training.update`.

    Args:
      agent: of `soft_agent`.
      settings: discount.
      actions: A; the entropy aimed at is -A nats.
    """

    def loss(params: Params, batch: tuple[Steps, Params], key: Key) -> tuple[Array, Metrics]:
        steps, averaged = batch
        ahead, here = jax.random.split(key)
        temperature = jax.lax.stop_gradient(jnp.exp(params["log_temperature"]))
        next_ = jax.lax.stop_gradient(agent.act(params, steps.reached, ahead))
        q = agent.q(params, steps.observation, steps.action)
        critics = losses.sac_critics(
            q,
            steps.reward,
            settings.gamma * (1 - steps.terminated.astype(jnp.float32)),
            agent.q(averaged, steps.reached, next_.record),
            next_.log_prob[:, 0],
            temperature,
        )
        acted = agent.act(params, steps.observation, here)
        fixed = jax.lax.stop_gradient(params)
        log_prob = acted.log_prob[:, 0]
        actor = losses.sac_actor(agent.q(fixed, steps.observation, acted.record), log_prob, temperature)
        heat = losses.sac_temperature(
            params["log_temperature"], log_prob, target_entropy=-float(actions), form="log_temperature"
        )
        value_loss = jnp.mean(jnp.sum(critics, -1))
        policy_loss = jnp.mean(actor)
        return value_loss + policy_loss + jnp.mean(heat), {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": -jnp.mean(log_prob),
            "temperature": temperature,
            "q_mean": jnp.mean(q),
        }

    return loss


def start(environment, agent: Agent, optimizer, settings: Settings, key: Key) -> LearnerState:
    """The state before the first iteration, with an empty buffer; arguments as in `state.begin`."""
    size = sizes(environment)
    state = begin(environment, agent, optimizer, settings, key, ema=True)
    b = settings.buffer
    empty = Steps(
        jnp.zeros((b, size.state)), jnp.zeros((b, size.state)), jnp.zeros((b, size.action)),
        jnp.zeros(b), jnp.zeros(b, bool),
    )  # fmt: skip
    zero = jnp.zeros((), jnp.int32)
    return state._replace(memory=Buffer(empty, zero, jnp.copy(zero)))


def make_iteration(
    environment: Environment, agent: Agent, optimizer: optax.GradientTransformation, settings: Settings
) -> Iteration:
    """T steps of N environments into the buffer, then U updates from it.

    Args:
      environment, agent, settings: of the run; N T steps must fit into the buffer.
      optimizer: of everything; it should not clip the global norm, which would tie three losses together.

    Returns:
      state -> (state, metrics), as `learner.make_iteration`.
    """
    update = make_update(
        make_loss(agent, settings, sizes(environment).action),
        optimizer,
        ema_decay=constant_decay(1 - settings.tau),
    )
    fresh = settings.envs * settings.rollout
    if fresh > settings.buffer:
        raise InputError(
            "a rollout does not fit into the buffer",
            got=f"{fresh} steps (--envs times --rollout), --buffer={settings.buffer}",
            expected="a buffer of at least one rollout, better of a hundred",
            cause="a rollout meant for ppo",
            fix="--rollout=1",
        )

    def iteration(state: LearnerState) -> tuple[LearnerState, Metrics]:
        key = key_of(state)
        shown = looks(agent, state.observations)
        lanes, data = rollout(
            environment, agent, state.params, shown, state.lanes, key, settings.rollout, settings.gamma
        )
        observed = moments.join(state.observations, data.observation)
        earned = moments.join(state.returns, data.discounted)
        scale = reward_scale(settings, earned)
        buffer = push(state.memory, data, all_finite(data))
        shown = looks(agent, observed)

        def one(train, i):
            rows = jax.random.randint(
                jax.random.fold_in(jax.random.fold_in(key, 2), i), (settings.batch_size,), 0, buffer.filled
            )
            drawn = jax.tree.map(lambda x: x[rows], buffer.steps)
            seen = drawn._replace(
                observation=shown(drawn.observation),
                reached=shown(drawn.reached),
                reward=drawn.reward / scale,
            )
            return update(train, (seen, train.ema))

        train, metrics = jax.lax.scan(one, state.train, jnp.arange(settings.updates))
        finite = all_finite(data) & (train.step - state.train.step == settings.updates)
        steps = (
            buffer.steps
        )  # rows beyond `at` may be newer than a frozen counter says: good steps all the same
        after = LearnerState(state.step + 1, train, lanes, observed, earned, buffer._replace(steps=()))
        before = state._replace(memory=state.memory._replace(steps=()))
        kept = or_before(finite, after, before)
        kept = kept._replace(memory=kept.memory._replace(steps=steps))
        value = agent.value(state.params, shown(data.observation[0]))
        return kept, {
            **reports.over_updates(metrics),
            **reports.episodes(data),
            **reports.rewards(data, scale),
            "value_target_p95": jnp.quantile(jnp.abs(value), 0.95),
            "value_target_max": jnp.max(jnp.abs(value)),
            "zero_advantage": jnp.float32(0),
            "finite": finite,
        }

    return iteration


def push(buffer: Buffer, data: Rollout, good: Array) -> Buffer:
    """A rollout over the oldest steps; where it is not `good` the buffer stays as it is.

    Args:
      buffer: of B steps.
      data: T steps of N environments, N T <= B; its record is the action in [-1, 1].
      good: () bool.
    """
    new = Steps(data.observation, data.reached, data.record, data.reward, data.terminated)
    new = jax.tree.map(lambda x: jnp.reshape(x, (-1, *x.shape[2:])), new)
    count, size = new.reward.shape[0], buffer.steps.reward.shape[0]
    rows = (buffer.at + jnp.arange(count)) % size
    # The small block is chosen and not the buffer, which stays in place.
    steps = jax.tree.map(
        lambda old, x: old.at[rows].set(jnp.where(jnp.reshape(good, (1,) * x.ndim), x, old[rows])),
        buffer.steps,
        new,
    )
    moved = jnp.where(good, count, 0)
    return Buffer(steps, (buffer.at + moved) % size, jnp.minimum(buffer.filled + moved, size))
