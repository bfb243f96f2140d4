"""Driving: ends, new starts, values at the edges, moments, evaluation."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.environments import probes
from ch3_jax.environments.environment import Environment, Outcome, require_inside
from ch3_jax.environments.reach import reach
from ch3_jax.reinforcement import moments, on_policy, reports
from ch3_jax.reinforcement.agent import Acted, Agent, scratch, to_bounds
from ch3_jax.reinforcement.evaluate import make_evaluate
from ch3_jax.reinforcement.rollout import rollout, start, values
from ch3_jax.reinforcement.settings import Settings


class Counter(NamedTuple):
    """A number that counts up from a random tenth; terminated at 3, truncated after 5 steps."""

    t: jax.Array
    x: jax.Array


def counting(last: float = 99.0, steps: int = 5, shortest: int = 1) -> Environment:
    def step(state, action, key):
        del key
        x = state.x + 1 + 0 * action[0]
        after = Counter(state.t + 1, x)
        return after, Outcome(x, x >= last, after.t >= steps)

    return Environment(
        "counting",
        reset=lambda key: Counter(jnp.int32(0), jax.random.uniform(key) * 0.1),
        step=step,
        observe=lambda state: state.x[None],
        low=np.array([-2.0], np.float32),
        high=np.array([4.0], np.float32),
        steps=steps,
        shortest=shortest,
        success=lambda state: state.x > 4.5,
    )


def looker() -> Agent:
    """Acts 0 and values an observation by its hundredfold."""
    nothing = lambda seen: jnp.zeros((seen.shape[0], 1))  # noqa: E731
    return Agent(
        init=lambda key: {},
        draw=lambda key, steps, count: jnp.zeros((steps, 0)),
        act=lambda params, seen, none: Acted(nothing(seen), nothing(seen), nothing(seen)),
        score=None,
        best=lambda params, seen: nothing(seen),
        value=lambda params, seen: 100 * seen[..., 0],
        largest_entropy=0.0,
    )


def driven(environment, steps, count=3, spread=False):
    lanes = start(environment, jax.random.key(1), count, spread=spread)
    return rollout(environment, looker(), {}, lambda x: x, lanes, jax.random.key(2), steps, 0.5)


@pytest.mark.parametrize("shortest", [1, 5], ids=["resets drawn in every step", "resets drawn once"])
def test_what_is_reached_is_kept_and_the_next_episode_begins_anew(shortest):
    lanes, data = driven(counting(shortest=shortest), 5 if shortest == 5 else 7)
    assert np.asarray(data.truncated)[4].all()
    assert data.truncated.sum() == 3
    np.testing.assert_allclose(data.reached[:5, :, 0], data.observation[:5, :, 0] + 1, rtol=1e-6)
    np.testing.assert_allclose(data.observation[1:5], data.reached[:4], rtol=1e-6)
    fresh = lanes.state.x if shortest == 5 else data.observation[5, :, 0]
    assert (np.asarray(fresh) < 0.1).all()
    assert len(set(np.asarray(fresh).tolist())) == 3  # one start each
    assert data.length[4].tolist() == [5, 5, 5]
    np.testing.assert_allclose(data.total[4], data.reward[:5].sum(0), rtol=1e-6)
    weights = 0.5 ** np.arange(4, -1, -1)
    np.testing.assert_allclose(data.discounted[4], weights @ np.asarray(data.reward[:5]), rtol=1e-6)
    assert data.success[4].tolist() == [1, 1, 1]


def test_an_end_of_both_kinds_is_a_termination():
    _, data = driven(counting(last=5.0), 5)
    both = np.asarray(data.terminated[-1])
    assert both.any() is np.True_
    assert not (data.terminated & data.truncated).any()


def test_values_at_the_edges_are_those_of_looking_everywhere():
    _, data = driven(counting(shortest=5), 5, spread=False)
    lanes = start(counting(shortest=5), jax.random.key(4), 8)  # clocks apart
    _, apart = rollout(counting(shortest=5), looker(), {}, lambda x: x, lanes, jax.random.key(2), 4, 0.5)
    for rows in (data, apart):
        few = values(looker(), {}, lambda x: x, rows, shortest=5)
        every = values(looker(), {}, lambda x: x, rows, shortest=1)
        for a, b in zip(few, every, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)


def by_hand(data, settings, scale=1.0):
    v_tm1, v_t = values(looker(), {}, lambda x: x, data, 1)
    return on_policy.advantages(settings, data, jnp.float32(scale), v_tm1, v_t), v_tm1, v_t


@pytest.mark.parametrize("bootstrap", [True, False])
def test_a_time_limit_is_no_death_and_advantages_stop_at_ends(bootstrap):
    settings = Settings(gamma=0.5, gae_lambda=0.5, bootstrap=bootstrap)
    _, data = driven(counting(last=3.0, steps=2), 6)  # each lane: truncated after two steps
    (advantage, target, mask), v_tm1, v_t = by_hand(data, settings, scale=2.0)
    expected = np.zeros(advantage.shape)
    ahead = np.zeros(advantage.shape[1])
    for t in reversed(range(6)):
        dies = data.terminated[t] | (data.truncated[t] & (not bootstrap))
        delta = data.reward[t] / 2 + 0.5 * np.where(dies, 0, v_t[t]) - v_tm1[t]
        ahead = delta + 0.25 * np.where(data.ended[t], 0, ahead)
        expected[t] = ahead
    np.testing.assert_allclose(advantage, expected, rtol=1e-5)
    np.testing.assert_allclose(target, expected + v_tm1, rtol=1e-5)
    assert mask.all()


def test_targets_at_ends_are_told_by_how_much_of_the_value_behind_is_missing():
    """Targets of r alone are right where an episode died and wholly wrong where a limit cut it; and back."""
    reward, behind = jnp.array([[1.0, 2.0, 5.0]]), jnp.array([[4.0, 8.0, 2.0]])
    _, data = driven(counting(), 1)
    data = data._replace(
        reward=2 * reward,
        terminated=jnp.array([[True, False, False]]),
        truncated=jnp.array([[False, True, False]]),
    )

    def errors(target):
        found = reports.ends(data, jnp.float32(2.0), 0.5, target, behind)
        return float(found["terminated_error"]), float(found["truncated_error"])

    assert errors(reward) == pytest.approx((0.0, 1.0), abs=1e-5)
    assert errors(reward + 0.5 * behind) == pytest.approx((1.0, 0.0), abs=1e-5)
    assert errors(reward + 0.25 * behind) == pytest.approx((0.5, 0.5), abs=1e-5)
    alive = data._replace(terminated=jnp.zeros((1, 3), bool), truncated=jnp.zeros((1, 3), bool))
    assert np.isnan(float(reports.ends(alive, 2.0, 0.5, reward, behind)["terminated_error"]))


def test_the_share_between_environments_needs_two_of_them():
    advantage = jnp.array([[1.0, 3.0], [1.0, 3.0]])
    found = reports.targets(advantage, advantage)
    assert float(found["advantage_between_envs"]) == pytest.approx(1.0)
    assert float(found["advantage_between_steps"]) == 0.0
    alone = reports.targets(advantage[:, 1:], advantage[:, :1] + jnp.array([[0.0], [1.0]]))
    assert np.isnan(float(alone["advantage_between_envs"]))
    assert float(alone["advantage_between_steps"]) == pytest.approx(1.0)


def test_grpo_gives_each_episode_its_place_in_its_group_and_counts_no_second_one():
    settings = Settings(algorithm="grpo", gamma=1.0, group=3)
    _, data = driven(counting(), 7, count=6)
    (advantage, _, mask), *_ = by_hand(data, settings)
    total = np.asarray(data.reward[:5]).sum(0).reshape(2, 3)
    place = (total - total.mean(1, keepdims=True)) / total.std(1, ddof=1, keepdims=True)
    np.testing.assert_allclose(advantage[0], place.ravel(), atol=2e-2)
    assert np.ptp(np.asarray(advantage), axis=0).max() == 0
    assert mask.sum(0).tolist() == [5] * 6


def test_reinforce_compares_a_return_with_the_others_at_that_step():
    settings = Settings(algorithm="reinforce", gamma=0.5)
    _, data = driven(counting(), 5, count=4)
    (advantage, target, _), *_ = by_hand(data, settings)
    to_go = np.zeros((6, 4))
    for t in reversed(range(5)):
        to_go[t] = data.reward[t] + 0.5 * to_go[t + 1]
    np.testing.assert_allclose(target, to_go[:5], rtol=1e-5)
    others = (to_go[:5].sum(1, keepdims=True) - to_go[:5]) / 3
    np.testing.assert_allclose(advantage, to_go[:5] - others, atol=1e-5)


def test_moments_of_blocks_are_those_of_the_whole():
    x = np.random.default_rng(0).normal(3, 5, (7, 50, 2)).astype(np.float32)
    joined = moments.start((2,))
    for block in x:
        joined = moments.join(joined, jnp.asarray(block))
    flat = x.reshape(-1, 2)
    np.testing.assert_allclose(joined.mean, flat.mean(0), rtol=1e-4)
    np.testing.assert_allclose(joined.variance, flat.var(0), rtol=1e-4)
    assert np.abs(moments.standardise(joined, jnp.full(2, 1e9))).tolist() == [10, 10]


def test_unit_actions_fill_the_bounds():
    low = to_bounds(counting(), jnp.array([[-7.0], [0.0], [1.0]]))
    assert low[:, 0].tolist() == [-2.0, 1.0, 4.0]


def test_an_evaluation_counts_first_episodes_only():
    evaluate = make_evaluate(probes.probe("discount"), looker(), 16, gamma=0.5)
    found = evaluate({}, lambda x: x, jax.random.key(0), False)
    assert found.total.tolist() == [1.0] * 16
    assert found.length.tolist() == [2] * 16
    assert float(found.discounted) == 0.5
    longer = make_evaluate(counting(last=2.0), looker(), 16, gamma=1.0)
    first = longer({}, lambda x: x, jax.random.key(0), False)
    assert first.length.tolist() == [2] * 16  # ends after two of five steps; the rest is another episode
    assert float(first.discounted) == pytest.approx(float(first.total.mean()))


def test_a_gaussian_agent_scores_what_it_did_as_it_did():
    environment = reach()
    agent = scratch(environment, width=16)
    params = agent.init(jax.random.key(0))
    seen = jax.random.normal(jax.random.key(1), (5, 17))
    noise = jax.tree.map(lambda x: x[0], agent.draw(jax.random.key(2), 1, 5))
    acted = agent.act(params, seen, noise)
    log_prob, entropy = agent.score(params, seen, acted.record)
    np.testing.assert_allclose(log_prob, acted.log_prob, rtol=1e-5)
    # 7 dimensions of deviation exp(-0.5): 7 (1/2 log(2 pi e) - 1/2)
    np.testing.assert_allclose(entropy, 7 * (1.4189385 - 0.5), rtol=1e-6)
    require_inside(environment, acted.action)


def test_choices_are_drawn_by_their_probabilities_and_scored_alike():
    environment = counting()._replace(choices=3)
    agent = scratch(environment, width=8)
    params = agent.init(jax.random.key(0))
    params["actor"]["layers"]["head"]["bias"] = jnp.log(jnp.array([0.7, 0.2, 0.1]))
    seen = jnp.zeros((4000, 1))
    acted = agent.act(params, seen, agent.draw(jax.random.key(3), 1, 4000)[0])
    share = np.bincount(np.asarray(acted.action[:, 0], int), minlength=3) / 4000
    np.testing.assert_allclose(share, [0.7, 0.2, 0.1], atol=0.03)
    np.testing.assert_allclose(agent.score(params, seen, acted.record)[0], acted.log_prob, rtol=1e-5)
    assert (agent.best(params, seen[:2]) == 0).all()
