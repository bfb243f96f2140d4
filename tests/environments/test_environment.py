"""What an environment must be, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.environments import panda_reach as task
from ch3_jax.environments import probes
from ch3_jax.environments.environment import Outcome, require_inside, sizes
from ch3_jax.environments.reach import GAMMA, REWARDS, reach
from ch3_jax.errors import InputError


def driven(environment, actions, seed=0):
    """(distances before and after each step, rewards, terminated, truncated) of one episode."""
    key = jax.random.key(seed)
    state, rows = environment.reset(key), []
    step = jax.jit(environment.step)
    for action in actions:
        before = state.distance
        state, outcome = step(state, action, key)
        rows.append((before, state.distance, *outcome))
    return map(np.asarray, zip(*rows, strict=True))


@pytest.mark.parametrize("obstacle", [False, True])
def test_reach_is_a_learnable_environment(obstacle):
    assert sizes(reach("dense", obstacle=obstacle)) == (17, 7)


@pytest.mark.parametrize(
    "broken",
    [
        lambda e: e._replace(observe=lambda s: e.observe(s)[None]),
        lambda e: e._replace(observe=lambda s: s.t[None]),
        lambda e: e._replace(low=e.high),
        lambda e: e._replace(high=np.full_like(e.high, np.nan)),
        lambda e: e._replace(steps=0, shortest=0),
        lambda e: e._replace(step=lambda s, a, k: (s, Outcome(jnp.ones(3), jnp.asarray(False), s.t > 3))),
        lambda e: e._replace(step=lambda s, a, k: (s._replace(t=s.t * 1.0), e.step(s, a, k)[1])),
    ],
    ids=["matrix", "integers", "bounds", "nan bound", "no steps", "rewards", "changing type"],
)
def test_what_cannot_be_learned_in_is_refused_with_a_reason(broken):
    with pytest.raises(InputError, match="is no environment"):
        sizes(broken(reach()))


@pytest.mark.parametrize("value", [99.0, -99.0, np.nan])
def test_actions_outside_of_their_bounds_are_named(value):
    environment = reach()
    good = np.zeros((4, 7), np.float32)
    require_inside(environment, good)
    good[2, 5] = value
    with pytest.raises(InputError, match="dimension 5"):
        require_inside(environment, good)


def test_an_unknown_reward_lists_the_known_ones():
    with pytest.raises(InputError, match="hackable"):
        reach("densee")


def test_every_reward_is_its_formula_and_every_episode_is_truncated():
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (task.STEPS, 7)).astype(np.float32)
    formulas = {
        "dense": lambda d, e: -e,
        "shaped": lambda d, e: (e < 0.02) + d - GAMMA * e,
        "sparse": lambda d, e: 1.0 * (e < 0.02),
        "miscalibrated": lambda d, e: -1000 * e,
        "hackable": lambda d, e: np.maximum(0, d - e),
        "flipped": lambda d, e: e,
    }
    assert set(formulas) == set(REWARDS)
    for name, formula in formulas.items():
        before, after, reward, terminated, truncated = driven(reach(name), actions)
        np.testing.assert_allclose(reward, formula(before, after), rtol=1e-5, atol=1e-6)
        assert not terminated.any()
        assert truncated.tolist() == [False] * (task.STEPS - 1) + [True]


def test_a_potential_adds_what_depends_on_the_ends_alone():
    """Ng's theorem: the discounted shaping of any path is d_0 - gamma^T d_T."""
    rng = np.random.default_rng(1)
    actions = rng.uniform(-1, 1, (30, 7)).astype(np.float32)
    before, after, reward, *_ = driven(reach("shaped"), actions)
    shaping = reward - (after < task.TOLERANCE_M)
    total = (GAMMA ** np.arange(30) * shaping).sum()
    assert total == pytest.approx(before[0] - GAMMA**30 * after[-1], abs=1e-5)


def test_the_hackable_reward_pays_for_going_to_and_fro():
    """An arm that swings ends where it began, and was paid all the way."""
    swing = np.zeros((60, 7), np.float32)
    swing[:, 0] = np.where(np.arange(60) % 2, -1.0, 1.0)
    before, after, reward, *_ = driven(reach("hackable"), swing)
    assert after[-1] == pytest.approx(before[0], abs=1e-4)
    assert reward.sum() > 10 * abs(after[-1] - before[0]) + 0.05


def test_inside_the_pillar_rewards_about_the_task_are_lower_by_one():
    key = jax.random.key(0)
    for name, cost in (("dense", 1.0), ("hackable", 0.0)):
        environment = reach(name, obstacle=True)
        state = environment.reset(key)
        touched = state._replace(robot=state.robot._replace(touched=jnp.asarray(True)))
        still = jnp.zeros(7)
        free, hit = (environment.step(s, still, key)[1].reward for s in (state, touched))
        assert float(free - hit) == pytest.approx(cost, abs=1e-6)
        assert not environment.success(touched)


@pytest.mark.parametrize("name", probes.PROBES)
def test_probes_end_when_they_say_and_pay_what_they_say(name):
    environment = probes.probe(name)
    assert sizes(environment) == (1, 1)
    for action, side in ((0.5, 1.0), (-0.5, -1.0)):
        state = environment.reset(jax.random.key(3))
        seen, rewards = [float(environment.observe(state)[0])], []
        for t in range(environment.steps):
            state, outcome = environment.step(state, jnp.array([action]), jax.random.key(0))
            rewards.append(float(outcome.reward))
            assert bool(outcome.terminated) == (t == environment.steps - 1)
            assert not outcome.truncated
            seen.append(float(environment.observe(state)[0]))
        expected = {
            "value": [1.0],
            "observation": [seen[0]],
            "discount": [0.0, 1.0],
            "advantage": [side],
            "policy": [side * seen[0]],
        }
        assert rewards == expected[name]


def test_an_unknown_probe_lists_the_known_ones():
    with pytest.raises(InputError, match="discount"):
        probes.probe("discont")
