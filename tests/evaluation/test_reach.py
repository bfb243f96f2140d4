"""The embedded arm behind the vector interface: the same task as in the rollouts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.environments import panda_reach as task
from ch3_jax.evaluation import chunks, driving, sides
from ch3_jax.evaluation.simulators import reach
from ch3_jax.evaluation.simulators.worlds import open_worlds

SEEDS = range(100_000, 100_006)


@pytest.fixture(scope="module")
def robots():
    return open_worlds(reach.find(True), 6)


def test_a_seed_is_a_start_and_a_step_is_the_tasks_own(robots):
    seen, _ = robots.reset(seed=SEEDS)
    state = task.reset(jax.random.key(SEEDS[2]), True)
    np.testing.assert_allclose(seen[2], task.observe(state), atol=1e-6)
    action = np.full((6, 7), 0.3)
    seen, _, _, truncated, infos = robots.step(action)
    np.testing.assert_allclose(seen[2], task.observe(task.step(state, action[2])), atol=1e-5)
    assert not truncated.any() and not infos["over"].any()
    few, infos = robots.reset(seed=[SEEDS[2], 5])
    np.testing.assert_allclose(few[0], task.observe(state), atol=1e-6)
    assert infos["over"].tolist() == [False] * 2 + [True] * 4


def test_the_expert_passes_behind_and_arrives(robots):
    """Every robot is given the same demonstrator, who goes by on the side of larger x."""
    told = reach.find(True)

    def state_of(observation):
        q, velocity, target = jnp.split(observation, [7, 14])
        return task.State(q, velocity, target, jnp.float32(1), jnp.asarray(False))

    expert = jax.jit(jax.vmap(lambda o: task.expert(state_of(o), True)))
    found = driving.drive(
        lambda seen, call: np.asarray(expert(seen[:, -1].astype(np.float32)))[:, None],
        robots,
        told,
        SEEDS,
        window=1,
        executor=functools.partial(chunks.queue, execute=1, horizon=1),
    )
    assert driving.summarise(found.outcomes).success.rate == 1.0
    tips = [np.stack([e["tip"] for e in o.extra]) for o in found.outcomes]
    assert {sides.way(t, False, task.PILLAR_M) for t in tips} == {"behind"}


def test_standing_still_scores_nothing_and_lasts_its_time(robots):
    told = reach.find(True)
    found = driving.drive(
        lambda seen, call: np.zeros((len(seen), 2, 7)),
        robots,
        told,
        SEEDS,
        window=1,
        executor=functools.partial(chunks.queue, execute=2, horizon=2),
    )
    assert {o.length for o in found.outcomes} == {reach.STEPS}
    assert all(not o.ever and o.score < 0.01 for o in found.outcomes)
    assert len(found.outcomes[0].extra) == reach.STEPS + 1


@pytest.mark.slow
def test_demonstrations_stay_out_of_the_pillar_and_arrive():
    data, tried = reach.demonstrate(6, 0, True)
    steps = data.splits["train"]
    assert steps.episodes == 6 <= tried <= 8
    goal = steps.observation[:, 14:]
    world = reach.make(True)
    assert world.reset(0)[0].shape == (17,)
    assert world.draw().shape == (240, 240, 3)
    assert np.isfinite(goal).all() and len(set(steps.sources)) == 6


def test_a_picture_by_hand():
    """x = 0.5, y = 0 is the pillar's orange; the target's green lies where it should."""
    image = reach.picture(np.array([[0.3, -0.4, 0.5]]), np.array([0.5, 0.3]), True)

    def at(x, y):
        column, row = ((v + 0.55) / 1.1 * 239 for v in (x - 0.35, -y))
        return tuple(int(c) for c in image[round(row), round(column)])

    assert at(0.5, 0.0) == (213, 94, 0)
    assert at(0.5, 0.3) == (0, 158, 115)
    assert at(0.3, -0.4) == (0, 114, 178)
    assert at(0.8, 0.5) == (255, 255, 255)
