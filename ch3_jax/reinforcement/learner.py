r"""One iteration of an on-policy algorithm as one pure function: drive, judge, update.

  rollout -> values -> advantages -> epochs x minibatches of `training.update`

all in one compiled program, so that a thousand environments and their updates cost one call of Python. A
world that is no pure function (a simulator in a process of its own) hands its rollout to `make_learn`'s.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from ch3_jax.base import Array, Key, Metrics, Params
from ch3_jax.environments.environment import Environment
from ch3_jax.reinforcement import moments, on_policy, reports
from ch3_jax.reinforcement.agent import Agent
from ch3_jax.reinforcement.rollout import Lanes, Rollout, rollout, start, values
from ch3_jax.reinforcement.settings import Settings
from ch3_jax.reinforcement.state import (
    Iteration,
    LearnerState,
    all_finite,
    key_of,
    looks,
    or_before,
    reward_scale,
)
from ch3_jax.training.update import TrainState, make_update

Judge = Callable[[Settings, Rollout, Array, Array, Array], tuple[Array, Array, Array]]


def make_iteration(
    environment: Environment,
    agent: Agent,
    optimizer: optax.GradientTransformation,
    settings: Settings,
    *,
    reference: Params | None = None,
    judge: Judge = on_policy.advantages,
    axis: str | None = None,
) -> Iteration:
    """A rollout and all its updates.

    Args:
      environment, agent: who drives what.
      optimizer: of actor and critic.
      settings: of the algorithm.
      reference: parameters {"actor": ...} at the other end of the leash, where `kl_cost` is above 0.
      judge: what makes advantages and targets of a rollout.
      axis: of devices that have a share of the environments each; see `build`.

    Returns:
      state -> (state, metrics); see `make_learn` for the metrics.
    """
    learn = make_learn(
        agent, optimizer, settings, environment.shortest, reference=reference, judge=judge, axis=axis
    )
    fresh = on_policy.whole_episodes(settings)

    def iteration(state: LearnerState) -> tuple[LearnerState, Metrics]:
        of_rollout, of_starts = jax.random.split(_own(jax.random.fold_in(key_of(state), 0), axis))
        shown = looks(agent, state.observations)
        lanes = state.lanes
        if fresh:
            lanes = _same_starts(environment, settings, of_starts, lanes.total.shape[0])
        lanes, data = rollout(
            environment, agent, state.params, shown, lanes, of_rollout, settings.rollout, settings.gamma
        )
        return learn(state, lanes, data)

    return iteration


def make_learn(
    agent: Agent,
    optimizer: optax.GradientTransformation,
    settings: Settings,
    shortest: int,
    *,
    reference: Params | None = None,
    judge: Judge = on_policy.advantages,
    axis: str | None = None,
) -> Callable[[LearnerState, Lanes, Rollout], tuple[LearnerState, Metrics]]:
    """What an on-policy algorithm makes of a rollout that `state`'s parameters have driven.

    Args:
      agent, optimizer, settings, reference, judge, axis: as in `make_iteration`.
      shortest: no episode is shorter; see `Environment`.

    Returns:
      (state, lanes afterwards, rollout) -> (state, metrics): () scalars, those of `reports`, and the means
      over all updates of what the loss reports.
    """
    loss = on_policy.make_loss(agent, settings)
    update = make_update(loss, optimizer, axis=axis)

    def learn(state: LearnerState, lanes: Lanes, data: Rollout) -> tuple[LearnerState, Metrics]:
        shown = looks(agent, state.observations)
        observed = moments.join(state.observations, data.observation, axis)
        earned = moments.join(state.returns, data.discounted, axis)
        scale = reward_scale(settings, earned)
        v_tm1, v_t = values(agent, state.params, shown, data, shortest)
        advantage, target, mask = judge(settings, data, scale, v_tm1, v_t)
        learns = (state.step >= settings.critic_warmup).astype(jnp.float32)
        samples = on_policy.Samples(
            seen=shown(data.observation),
            record=data.record,
            log_prob=data.log_prob,
            reference=_reference(agent, reference, shown, data),
            advantage=advantage,
            target=target,
            mask=mask,
            policy_learns=jnp.broadcast_to(learns, advantage.shape),
        )
        of_order = _own(jax.random.fold_in(key_of(state), 1), axis)
        train, reported = _epochs(update, state.train, samples, settings, of_order)
        made = train.step - state.train.step == settings.update_epochs * settings.minibatches
        finite = all_finite(data) & made
        if axis is not None:  # all or none: a share that failed alone would part the devices for good
            finite = jax.lax.pmin(finite.astype(jnp.int32), axis) > 0
        after = LearnerState(state.step + 1, train, lanes, observed, earned, state.memory)
        said = {
            **reports.episodes(data),
            **reports.rewards(data, scale),
            **reports.targets(target, advantage),
            **reports.ends(data, scale, settings.gamma, target, v_t),
            **reports.shown(samples.seen),
        }
        return or_before(finite, after, state), {
            **reported,
            **(said if axis is None else reports.of_all(said, axis)),
            "finite": finite,
        }

    return learn


def _own(key: Key, axis: str | None) -> Key:
    """Each device draws its own."""
    return key if axis is None else jax.random.fold_in(key, jax.lax.axis_index(axis))


def _same_starts(environment: Environment, settings: Settings, key: Key, count: int) -> Lanes:
    """New starts; in grpo the same for each of a group."""
    if settings.algorithm != "grpo":
        return start(environment, key, count, spread=False)
    lanes = start(environment, key, count // settings.group, spread=False)
    return jax.tree.map(lambda x: jnp.repeat(x, settings.group, axis=0), lanes)


def _reference(agent: Agent, reference: Params | None, shown: Callable, data: Rollout) -> Array:
    if reference is None:
        return jnp.zeros_like(data.log_prob)

    def one(step):
        return agent.score(reference, shown(step[0]), step[1])[0]

    return jax.lax.map(one, (data.observation, data.record))


def _epochs(update, train: TrainState, samples: on_policy.Samples, settings: Settings, key: Key):
    """All updates of an iteration; minibatches are drawn anew in each pass."""
    if settings.minibatch_of == "steps":  # Each step is taken for an environment of one.
        samples = jax.tree.map(lambda x: jnp.reshape(x, (1, -1, *x.shape[2:])), samples)
    count = samples.mask.shape[1]

    def one_pass(carry, key):
        order = jnp.reshape(jax.random.permutation(key, count), (settings.minibatches, -1))
        return jax.lax.scan(one_batch, carry, order)

    def one_batch(carry, chosen):
        train, stopped = carry
        batch = jax.tree.map(lambda x: jnp.reshape(x[:, chosen], (-1, *x.shape[2:])), samples)
        after, metrics = update(train, batch)
        if settings.target_kl is not None:
            kept = train._replace(step=train.step + 1)
            after = jax.tree.map(lambda new, old: jnp.where(stopped, old, new), after, kept)
            stopped = stopped | (metrics["kl_k3"] > 1.5 * settings.target_kl)
        return (after, stopped), metrics

    keys = jax.random.split(key, settings.update_epochs)
    (train, _), metrics = jax.lax.scan(one_pass, (train, jnp.asarray(False)), keys)
    return train, reports.over_updates(metrics)
