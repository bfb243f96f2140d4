r"""Learning from recorded steps alone: advantage-weighted regression and implicit Q-learning.

| | critic | weight of a recorded action |
| --- | --- | --- |
| awr | V towards \lambda-returns of the data | \min(\exp(A / \beta), w), A normalised |
| iql | Q towards r + \gamma V(s'), V the \tau-expectile of Q' | \min(\exp((Q' - V) / \beta), w) |

The data are a demonstrator's, who is good at some times and bad at others: what an average of them cannot do,
the better half can. Each iteration makes U updates; nothing is driven.

References: Peng et al. 2019, arXiv:1910.00177; Kostrikov et al. 2022, arXiv:2110.06169.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ch3_jax.base import Array, Key, Metrics, Params
from ch3_jax.environments.environment import Environment, sizes
from ch3_jax.errors import InputError
from ch3_jax.losses import offline as losses
from ch3_jax.losses.advantages import explained_variance, normalize_advantages
from ch3_jax.losses.reinforcement import value_loss
from ch3_jax.policies.actor_critic import layers_policy
from ch3_jax.reinforcement import moments, on_policy, reports
from ch3_jax.reinforcement.agent import Acted, Agent, scratch, to_bounds
from ch3_jax.reinforcement.rollout import Rollout, rollout, values
from ch3_jax.reinforcement.rollout import start as lanes_at_start
from ch3_jax.reinforcement.settings import Settings
from ch3_jax.reinforcement.state import Iteration, LearnerState, begin, key_of, looks, or_before, reward_scale
from ch3_jax.training.ema import constant_decay
from ch3_jax.training.update import make_update


class Recorded(NamedTuple):
    """What a loss sees of B recorded steps.

    Attributes:
      seen, reached: (B, S), as the agent is shown them.
      record: (B, A), the action in [-1, 1].
      reward: (B,), scaled.
      terminated: (B,) bool.
      advantage, target: (B,), of awr.
    """

    seen: Array
    reached: Array
    record: Array
    reward: Array
    terminated: Array
    advantage: Array
    target: Array


def recording(environment: Environment, key: Key, episodes: int, *, noise: float = 1.0) -> Rollout:
    """Episodes of the environment's own demonstrator, each at its own level of noise.

    Args:
      environment: with an `expert`.
      key: consumed.
      episodes: N, all of the time limit's length T.
      noise: deviation of the worst episode's noise, in units of half the action's range; levels are uniform
        from 0 on.

    Returns:
      A rollout (T, N) whose record is the action in [-1, 1].

    Raises:
      InputError: an environment without a demonstrator.
    """
    if environment.expert is None:
        raise InputError(
            f"{environment.name} has no demonstrator",
            got="no `expert`",
            expected="an environment that can show how it is done",
            cause="awr and iql learn from recorded steps",
            fix="--env=panda_reach, or --loss=ppo",
        )
    of_level, of_start, of_drive = jax.random.split(key, 3)
    low, high = jnp.asarray(environment.low), jnp.asarray(environment.high)
    mid, half = 0.5 * (low + high), 0.5 * (high - low)
    level = noise * jax.random.uniform(of_level, (episodes, 1))
    count, actions = sizes(environment)

    # A demonstrator looks at the state, an agent at an observation: what it would do is shown beside that.
    def both(state) -> Array:
        return jnp.concatenate([environment.observe(state), (environment.expert(state) - mid) / half])

    def act(params: Params, seen: Array, n: Array) -> Acted:
        del params
        unit = jnp.clip(seen[:, count:] + level * n, -1, 1)
        return Acted(to_bounds(environment, unit), unit, jnp.zeros((len(unit), 1)))

    demonstrator = Agent(
        init=lambda key: {},
        draw=lambda key, steps, lanes: jax.random.normal(key, (steps, lanes, actions)),
        act=act,
        score=None,
        best=None,
        value=None,
        largest_entropy=0.0,
    )
    lanes = lanes_at_start(environment, of_start, episodes, spread=False)
    told = environment._replace(observe=both)
    _, data = rollout(told, demonstrator, {}, lambda raw: raw, lanes, of_drive, environment.steps, 1.0)
    return data._replace(observation=data.observation[..., :count], reached=data.reached[..., :count])


def offline_agent(environment: Environment, algorithm: str, *, width: int = 64) -> Agent:
    """`agent.scratch`, for iql with two critics of state and action beside it."""
    agent = scratch(environment, width=width, log_std=-1.0)
    if algorithm != "iql":
        return agent
    state, action = sizes(environment)
    critic = layers_policy(state + action, 1, width, gain=1.0)

    def init(key: Key) -> Params:
        of_rest, of_critics = jax.random.split(key)
        return {**agent.init(of_rest), "critics": jax.vmap(critic.init)(jax.random.split(of_critics, 2))}

    def q(params: Params, seen: Array, unit: Array) -> Array:
        both = jnp.concatenate([seen, unit], -1)
        return jax.vmap(critic.apply, (0, None), -1)(params["critics"], both)[..., 0, :]

    return agent._replace(init=init, q=q)


def start(
    environment: Environment, agent: Agent, optimizer, settings: Settings, key: Key, *, noise: float = 1.0
) -> LearnerState:
    """The state before the first iteration, the recording in its memory; arguments as in `state.begin`."""
    of_data, of_rest = jax.random.split(key)
    data = recording(environment, of_data, settings.envs, noise=noise)
    state = begin(environment, agent, optimizer, settings, of_rest, ema=settings.algorithm == "iql")

    def back(total, step):
        reward, over = step
        total = reward + settings.gamma * jnp.where(over, 0, total)
        return total, total

    _, to_go = jax.lax.scan(back, jnp.zeros(settings.envs), (data.reward, data.ended), reverse=True)
    return state._replace(
        observations=moments.join(state.observations, data.observation),
        returns=moments.join(state.returns, to_go),
        memory=data,
    )


def make_loss(agent: Agent, settings: Settings):
    """(params, (`Recorded`, averaged params or None), key) -> (loss, metrics) for `training.update`."""
    weigh = {"temperature": settings.temperature, "max_weight": settings.max_weight}

    def weighted(params: Params, batch: Recorded, advantage: Array) -> tuple[Array, Metrics]:
        log_prob, entropy = agent.score(params, batch.seen, batch.record)
        loss = jnp.mean(losses.awr(log_prob[:, 0], advantage, **weigh))
        heaviest = jnp.exp(advantage / settings.temperature) >= settings.max_weight
        return loss, {
            "policy_loss": loss,
            "entropy": jnp.mean(entropy),
            "clip_fraction": jnp.mean(heaviest.astype(jnp.float32)),
            "advantage_mean": jnp.mean(advantage),
            "advantage_std": jnp.std(advantage),
        }

    def awr(params: Params, batch: tuple[Recorded, None], key: Key) -> tuple[Array, Metrics]:
        del key
        batch, _ = batch
        policy, metrics = weighted(params, batch, normalize_advantages(batch.advantage, ddof=0))
        value = agent.value(params, batch.seen)
        critic = jnp.mean(value_loss(value, batch.target))
        return policy + critic, {
            **metrics,
            "value_loss": critic,
            "explained_variance": explained_variance(value, batch.target),
        }

    def iql(params: Params, batch: tuple[Recorded, Params], key: Key) -> tuple[Array, Metrics]:
        del key
        batch, averaged = batch
        q_target = jax.lax.stop_gradient(jnp.min(agent.q(averaged, batch.seen, batch.record), -1))
        v = agent.value(params, batch.seen)
        value = jnp.mean(losses.iql_value(v, q_target, expectile=settings.expectile))
        discount = settings.gamma * (1 - batch.terminated.astype(jnp.float32))
        critics = losses.iql_critics(
            agent.q(params, batch.seen, batch.record),
            batch.reward,
            discount,
            agent.value(params, batch.reached),
        )
        policy, metrics = weighted(params, batch, q_target - jax.lax.stop_gradient(v))
        critic = jnp.mean(jnp.sum(critics, -1))
        return policy + value + critic, {
            **metrics,
            "value_loss": value + critic,
            "explained_variance": explained_variance(v, q_target),
        }

    return {"awr": awr, "iql": iql}[settings.algorithm]


def make_iteration(
    environment: Environment, agent: Agent, optimizer: optax.GradientTransformation, settings: Settings
) -> Iteration:
    """U updates from the recording.

    Args:
      environment: where the recording is from.
      agent, settings: of the run.
      optimizer: of everything.

    Returns:
      state -> (state, metrics), as `learner.make_iteration`; returns and successes are the recording's.
    """
    averaged = settings.algorithm == "iql"
    update = make_update(
        make_loss(agent, settings),
        optimizer,
        ema_decay=constant_decay(1 - settings.tau) if averaged else None,
    )

    def iteration(state: LearnerState) -> tuple[LearnerState, Metrics]:
        data, shown = state.memory, looks(agent, state.observations)
        scale = reward_scale(settings, state.returns)
        v_tm1, v_t = values(agent, state.params, shown, data, environment.shortest)
        advantage, target, _ = on_policy.advantages(settings, data, scale, v_tm1, v_t)
        rows = Recorded(
            shown(data.observation), shown(data.reached), data.record, data.reward / scale,
            data.terminated, advantage, target,
        )  # fmt: skip
        flat = jax.tree.map(lambda x: jnp.reshape(x, (-1, *x.shape[2:])), rows)

        def one(train, i):
            of_rows = jax.random.fold_in(jax.random.fold_in(key_of(state), 2), i)
            chosen = jax.random.randint(of_rows, (settings.batch_size,), 0, flat.reward.shape[0])
            return update(train, (jax.tree.map(lambda x: x[chosen], flat), train.ema))

        train, metrics = jax.lax.scan(one, state.train, jnp.arange(settings.updates))
        finite = train.step - state.train.step == settings.updates
        after = state._replace(step=state.step + 1, train=train, memory=())
        kept = or_before(finite, after, state._replace(memory=()))
        return kept._replace(memory=data), {
            **reports.over_updates(metrics),
            **reports.episodes(data),
            **reports.rewards(data, scale),
            **reports.targets(target, advantage),
            "finite": finite,
        }

    return iteration
