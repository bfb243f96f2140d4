"""Other people's environments: of the same interface in small, and the real ones where they are installed."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.environments import adapters
from ch3_jax.environments.environment import sizes
from ch3_jax.errors import InputError
from ch3_jax.reinforcement.build import build
from ch3_jax.reinforcement.settings import Settings
from ch3_jax.training.optimizers import clipped_adamw


class Params(NamedTuple):
    max_steps_in_episode: int = 4


class Space:
    def __init__(self, n=None, low=None, high=None, shape=()):
        self.shape = shape
        if n is not None:
            self.n = n
        else:
            self.low, self.high = low, high


class Gymnax:
    """Counts; the action 1 ends the episode."""

    def __init__(self, space):
        self.space = space

    def action_space(self, params):
        return self.space

    def reset(self, key, params):
        return jnp.zeros((2, 1)), {"n": jnp.int32(0)}

    def step_env(self, key, state, action, params):
        n = state["n"] + 1
        done = (action == 1) | (n >= params.max_steps_in_episode)
        return jnp.full((2, 1), n), {"n": n}, 2.0 * n, jnp.reshape(done, ()), {}


class BraxState(NamedTuple):
    obs: jax.Array
    reward: jax.Array
    done: jax.Array


class Brax:
    """Moves by its action; falls beyond 1."""

    action_size = 2

    def reset(self, key):
        zero = jnp.zeros(())
        return BraxState(jnp.zeros(2), zero, zero)

    def step(self, state, action):
        where = state.obs + action
        return BraxState(where, -jnp.sum(where), (where[0] > 1).astype(jnp.float32))


def ends(environment, action, count):
    state, rows = environment.reset(jax.random.key(0)), []
    for _ in range(count):
        state, outcome = environment.step(state, jnp.asarray(action), jax.random.key(1))
        rows.append((float(outcome.reward), bool(outcome.terminated), bool(outcome.truncated)))
    return rows, state


def test_gymnax_choices_and_both_ends():
    environment = adapters.from_gymnax(Gymnax(Space(n=2)), Params())
    assert sizes(environment) == (2, 1)
    assert environment.choices == 2
    rows, state = ends(environment, [0.0], 4)
    assert rows == [(2, False, False), (4, False, False), (6, False, False), (8, False, True)]
    assert state.observation.tolist() == [4.0, 4.0]
    assert ends(environment, [1.0], 2)[0] == [(2, True, False), (4, True, False)]


def test_gymnax_boxes_keep_their_bounds_and_need_some():
    space = Space(low=-2.0, high=np.array([2.0, 3.0]), shape=(2,))
    environment = adapters.from_gymnax(Gymnax(space), Params())
    assert environment.low.tolist() == [-2.0, -2.0]
    assert environment.high.tolist() == [2.0, 3.0]
    with pytest.raises(InputError, match="no bounds"):
        adapters.from_gymnax(Gymnax(Space(low=-np.inf, high=np.inf, shape=(1,))), Params())
    with pytest.raises(InputError, match="no time limit"):
        adapters.from_gymnax(Gymnax(space), Params(0))


def test_brax_dies_by_itself_and_is_cut_by_our_clock():
    environment = adapters.from_brax(Brax(), steps=3)
    assert sizes(environment) == (2, 2)
    rows, _ = ends(environment, [0.1, 0.0], 3)
    assert [row[1:] for row in rows] == [(False, False), (False, False), (False, True)]
    rows, _ = ends(environment, [0.6, 0.0], 3)
    assert [row[1:] for row in rows] == [(False, False), (True, False), (True, False)]
    assert rows[0][0] == pytest.approx(-0.6)


def test_brax_with_a_dictionary_is_refused():
    class Two(Brax):
        def reset(self, key):
            return super().reset(key)._replace(obs={"state": jnp.zeros(2), "privileged": jnp.zeros(3)})

    with pytest.raises(InputError, match="dictionary"):
        sizes(adapters.from_brax(Two()))


def test_ppo_learns_in_an_adapted_environment():
    made = build(
        adapters.from_brax(Brax(), steps=3),
        Settings(envs=8, rollout=4, minibatches=2, update_epochs=1),
        clipped_adamw(1e-3),
        width=8,
    )
    state, metrics = jax.jit(made.iteration)(made.start(jax.random.key(0)))
    assert bool(metrics["finite"])
    assert float(metrics["episodes"]) >= 8


def test_packages_that_are_missing_or_names_that_are_wrong_are_said():
    for make, package in ((adapters.gymnax, "gymnax"), (adapters.brax, "brax")):
        with pytest.raises(InputError, match=package):
            make("no-such-environment")


def test_a_real_gymnax_environment():
    pytest.importorskip("gymnax")
    environment = adapters.gymnax("CartPole-v1")
    assert sizes(environment) == (4, 1)
    assert (environment.choices, environment.steps) == (2, 500)


@pytest.mark.slow
def test_a_real_brax_environment():
    pytest.importorskip("brax")
    environment = adapters.brax("inverted_pendulum")
    assert sizes(environment) == (4, 1)
