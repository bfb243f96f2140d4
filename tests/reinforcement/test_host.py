"""A Gymnasium-like vector environment in small: ends, refusals, and a learner that learns in it."""

import types

import jax
import numpy as np
import pytest

from ch3_jax.errors import InputError
from ch3_jax.reinforcement.agent import scratch
from ch3_jax.reinforcement.host import Driver
from ch3_jax.reinforcement.learner import make_learn
from ch3_jax.reinforcement.settings import Settings
from ch3_jax.reinforcement.state import begin
from ch3_jax.training.optimizers import clipped_adamw


class Vector:
    """Walks by its action; dies beyond 3, is cut after 4 steps."""

    num_envs = 4

    def __init__(self, mode="SameStep", wide=2):
        box = types.SimpleNamespace
        self.metadata = {"autoreset_mode": mode}
        self.single_observation_space = box(shape=(2,))
        self.single_action_space = box(shape=(1,), low=np.array([-1.0]), high=np.array([1.0]))
        self._wide = wide

    def reset(self, *, seed=None):
        self.x, self.t = np.zeros(4), np.zeros(4, int)
        return self._observe(), {}

    def _observe(self):
        return np.stack([self.x, self.t], -1)[:, : self._wide]

    def step(self, action):
        self.x, self.t = self.x + 1 + 0 * action[:, 0], self.t + 1
        self.x[0] += 1  # the first one runs
        died, late = self.x > 3, self.t >= 4
        info = {"final_obs": list(self._observe())}
        over, reward = died | late, self.x.copy()
        self.x[over], self.t[over] = 0, 0
        return self._observe(), reward, died, late, info


SETTINGS = Settings(envs=4, rollout=6, update_epochs=1, minibatches=2, gamma=0.5)


def learner(driver):
    agent = scratch(driver.facts, width=8)
    optimizer = clipped_adamw(1e-2)
    state = jax.jit(lambda key: begin(driver.facts, agent, optimizer, SETTINGS, key))(jax.random.key(0))
    return agent, state, jax.jit(make_learn(agent, optimizer, SETTINGS, 1))


def test_what_was_reached_is_kept_and_ends_are_told_apart():
    driver = Driver(Vector())
    agent, state, _ = learner(driver)
    lanes, data = driver.rollout(agent, state, SETTINGS)
    x = np.asarray(data.reached)[:, :, 0]
    assert x[:, 0].tolist() == [2, 4, 2, 4, 2, 4]
    assert x[:, 1].tolist() == [1, 2, 3, 4, 1, 2]
    assert np.asarray(data.observation)[:, 1, 0].tolist() == [0, 1, 2, 3, 0, 1]
    assert np.asarray(data.terminated)[:, 0].tolist() == [False, True] * 3
    # Beyond 3 and in the fourth step at once: a death.
    assert np.asarray(data.terminated)[3, 1]
    assert not np.asarray(data.truncated).any()
    assert np.asarray(data.total)[3, 1] == 10
    assert np.asarray(data.length)[3, 1] == 4
    assert np.asarray(lanes.length).tolist() == [0, 2, 2, 2]
    assert np.asarray(data.discounted)[1, 1] == pytest.approx(2 + 0.5 * 1)


def test_a_learner_learns_from_it_and_goes_on():
    driver = Driver(Vector())
    agent, state, learn = learner(driver)
    for i in range(2):
        lanes, data = driver.rollout(agent, state, SETTINGS)
        after, metrics = learn(state, lanes, data)
        assert bool(metrics["finite"])
        assert int(after.step) == i + 1
        state = after


def test_the_default_mode_another_shape_and_strange_spaces_are_refused():
    with pytest.raises(InputError, match="SameStep"):
        Driver(Vector(mode="NextStep"))
    with pytest.raises(InputError, match="another shape"):
        Driver(Vector(wide=1))
    for space in (
        {"shape": (2, 2), "low": 0, "high": 1},
        {"shape": (3,), "n": 3},  # MultiBinary
        {"shape": (2,), "nvec": [2, 3]},  # MultiDiscrete
        {"shape": (), "n": 3, "start": 5},
    ):
        strange = Vector()
        strange.single_action_space = types.SimpleNamespace(**space)
        with pytest.raises(InputError, match="cannot be learned in"):
            Driver(strange)


def test_another_number_of_environments_and_a_missing_last_observation_are_refused():
    driver = Driver(Vector())
    agent, state, _ = learner(driver)
    with pytest.raises(InputError, match="--envs=4"):
        driver.rollout(agent, state, SETTINGS._replace(envs=8))

    class Silent(Vector):
        def step(self, action):
            return *super().step(action)[:4], {}

    driver = Driver(Silent())
    with pytest.raises(InputError, match="final_obs"):
        driver.rollout(agent, state, SETTINGS)


def test_a_time_limit_is_a_truncation():
    class Slow(Vector):
        def step(self, action):
            self.x[:] = 0  # nobody ever gets beyond 3
            return super().step(action)

    driver = Driver(Slow())
    agent, state, _ = learner(driver)
    _, data = driver.rollout(agent, state, SETTINGS)
    assert np.asarray(data.truncated)[3].all()
    assert not np.asarray(data.terminated).any()


def test_a_reward_that_is_nan_leaves_the_last_good_state():
    class Broken(Vector):
        def step(self, action):
            seen, reward, died, late, info = super().step(action)
            return seen, reward * np.nan, died, late, info

    driver = Driver(Broken())
    agent, state, learn = learner(driver)
    after, metrics = learn(state, *driver.rollout(agent, state, SETTINGS))
    assert not bool(metrics["finite"])
    assert int(after.step) == 0


def test_the_real_one():
    gymnasium = pytest.importorskip("gymnasium")
    mode = gymnasium.vector.AutoresetMode.SAME_STEP
    vector = gymnasium.make_vec(
        "CartPole-v1", 4, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}
    )
    driver = Driver(vector)
    assert driver.facts.choices == 2
    agent, state, learn = learner(driver)
    for _ in range(8):
        lanes, data = driver.rollout(agent, state, SETTINGS)
        state, metrics = learn(state, lanes, data)
        assert bool(metrics["finite"])
    # Where no episode ended, what was reached is where the next step begins.
    same = ~np.asarray(data.ended)[:-1]
    np.testing.assert_allclose(np.asarray(data.reached)[:-1][same], np.asarray(data.observation)[1:][same])
