"""Clones as agents: they act as they did, and know how likely that was."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.data.normalize import Normalizer, denormalize
from ch3_jax.environments.environment import require_inside
from ch3_jax.environments.reach import reach
from ch3_jax.errors import InputError
from ch3_jax.objectives import Shapes, Spread, make_objective
from ch3_jax.reinforcement.build import build
from ch3_jax.reinforcement.clone import clone
from ch3_jax.reinforcement.settings import Settings
from ch3_jax.tokens import bins as tokens
from ch3_jax.training.optimizers import clipped_adamw

SHAPES = Shapes(1, 17, 1, 7)
SPREAD = Spread(np.full(7, -2, np.float32), np.full(7, 2, np.float32), 1.0)
LOSSES = ("mse", "ce", "flow", "ddpm")


def scaled(gain, dims):
    one = jnp.ones(dims)
    return Normalizer(0 * one, gain * one, 0 * one, one / gain, -jnp.inf * one, jnp.inf * one)


NORMALIZERS = {"observation": scaled(2.0, 17), "action": scaled(5.0, 7)}
BINS = tokens.uniform([-2.0] * 7, [2.0] * 7, 16)


def cloned(loss, environment=None, shapes=SHAPES):
    objective = make_objective(loss, shapes, BINS, width=8, spread=SPREAD)
    params = objective.init(jax.random.key(0))
    made = clone(
        loss, objective, params, NORMALIZERS, shapes, environment or reach(), bins=BINS, spread=SPREAD
    )
    return objective, params, *made


@pytest.mark.parametrize("loss", LOSSES)
def test_a_clone_scores_what_it_did_as_it_did(loss):
    _, _, agent, _ = cloned(loss)
    params = agent.init(jax.random.key(1))
    raw = jax.random.normal(jax.random.key(2), (5, 17))
    np.testing.assert_allclose(agent.see(raw), 2 * raw, rtol=1e-6)
    noise = jax.tree.map(lambda x: x[0], agent.draw(jax.random.key(3), 2, 5))
    acted = jax.jit(agent.act)(params, agent.see(raw), noise)
    log_prob, entropy = jax.jit(agent.score)(params, agent.see(raw), acted.record)
    parts = {"mse": 1, "ce": 7, "flow": 10, "ddpm": 20}[loss]
    assert log_prob.shape == (5, parts)
    assert entropy.shape == (5,)
    np.testing.assert_allclose(log_prob, acted.log_prob, rtol=1e-3, atol=2e-3)
    require_inside(reach(), acted.action)
    gradient = jax.grad(lambda p: agent.score(p, agent.see(raw), acted.record)[0].sum())(params)
    assert any(np.asarray(x).any() for x in jax.tree.leaves(gradient["actor"]["network"]))
    assert not any(np.asarray(x).any() for x in jax.tree.leaves(gradient["critic"]))


@pytest.mark.parametrize("loss", ["mse", "ce"])
def test_without_chance_a_clone_does_what_the_run_did(loss):
    objective, params, agent, _ = cloned(loss)
    raw = jax.random.normal(jax.random.key(2), (5, 17))
    expected = denormalize(NORMALIZERS["action"], objective.act(params, 2 * raw[:, None], None))[:, 0]
    found = agent.best(agent.init(jax.random.key(1)), agent.see(raw))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_clone_asks_for_nothing_outside_the_bounds(loss):
    """One normalised unit is a hundred radians per second: hardly any action fits without clipping."""
    large = {**NORMALIZERS, "action": scaled(0.01, 7)}
    objective = make_objective(loss, SHAPES, BINS, width=8, spread=SPREAD)
    agent, _ = clone(
        loss, objective, objective.init(jax.random.key(0)), large, SHAPES, reach(), bins=BINS, spread=SPREAD
    )
    params = agent.init(jax.random.key(1))
    noise = jax.tree.map(lambda x: x[0], agent.draw(jax.random.key(3), 2, 5))
    action = np.asarray(agent.act(params, jnp.ones((5, 17)), noise).action)
    require_inside(reach(), action)
    at_an_end = (action == reach().low) | (action == reach().high)
    assert at_an_end.mean() > 0.5


@pytest.mark.parametrize("loss", ["mse", "ce", "flow"])  # ddpm walks the chain of flow
def test_a_clone_learns_on_its_leash(loss):
    environment = reach("dense")
    _, _, agent, actor = cloned(loss)
    settings = Settings(envs=8, rollout=4, update_epochs=1, minibatches=2, kl_cost=0.1)
    made = build(environment, settings, clipped_adamw(1e-3), agent=agent, actor=actor)
    state = made.start(jax.random.key(0))
    after, metrics = jax.jit(made.iteration)(state)
    assert bool(metrics["finite"])
    # Of the two updates the first begins at the reference, the second one step from it.
    assert 0 <= float(metrics["kl_reference"]) < 0.5
    moved = jax.tree.map(lambda a, b: np.abs(np.asarray(a - b)).max(), after.params, state.params)
    assert max(jax.tree.leaves(moved["actor"]["network"])) > 0


@pytest.mark.parametrize(
    "shapes",
    [Shapes(2, 17, 1, 7), Shapes(1, 17, 4, 7), Shapes(1, 16, 1, 7), Shapes(1, 17, 1, 6)],
    ids=["window", "horizon", "observation", "action"],
)
def test_another_architecture_is_refused(shapes):
    with pytest.raises(InputError, match="does not fit"):
        clone("mse", None, {}, NORMALIZERS, shapes, reach())


def test_a_policy_without_a_likelihood_is_refused():
    with pytest.raises(InputError, match="infonce"):
        clone("infonce", None, {}, NORMALIZERS, SHAPES, reach())
