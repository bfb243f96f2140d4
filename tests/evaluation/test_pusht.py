"""Push-T's traps, in gym-pusht itself where it is installed."""

import numpy as np
import pytest

from ch3_jax.data.load import load
from ch3_jax.evaluation.simulators import pusht
from ch3_jax.evaluation.simulators.task import INSTALL
from ch3_jax.evaluation.simulators.worlds import Share, Worlds


def test_score_and_success_by_hand():
    assert pusht.judge(0.19) == (pytest.approx(0.2), False)
    assert pusht.judge(0.9501) == (1.0, True)
    assert pusht.judge(0.95) == (1.0, False)  # success is over 0.95, not at it
    assert pusht.judge(-1e-9) == (0.0, False)


@pytest.fixture(scope="module")
def world():
    pytest.importorskip("gym_pusht", reason=INSTALL)
    world = pusht.make()
    yield world
    world.close()


def test_the_facts_are_the_simulators_own(world):
    import gymnasium

    env = gymnasium.make("gym_pusht/PushT-v0", obs_type="state")
    assert env.observation_space.shape == (len(pusht.PUSHT.observation_names),)
    np.testing.assert_array_equal([env.action_space.low, env.action_space.high], pusht.PUSHT.bounds)
    inner = env.unwrapped
    assert (inner.control_hz, inner.success_threshold) == (pusht.RATE_HZ, pusht.COVERAGE)
    assert env.spec.max_episode_steps == pusht.STEPS


def test_a_seed_is_a_start_and_the_episode_ends_at_its_limit(world):
    first = world.reset(7)[0]
    np.testing.assert_array_equal(first, world.reset(7)[0])
    assert np.abs(first - world.reset(8)[0]).max() > 1
    world.reset(7)
    still = [world.step(first[:2]) for _ in range(pusht.STEPS)]
    assert [s.truncated for s in still] == [False] * (pusht.STEPS - 1) + [True]


def test_the_angle_is_that_of_the_demonstrations(world):
    """In [0, 2 pi): -0.5 becomes 5.783, which a policy has seen."""
    seen = world.reset_to(np.array([100.0, 100.0, 250.0, 250.0, -0.5]))
    assert seen[4] == pytest.approx(2 * np.pi - 0.5, abs=1e-3)


def test_a_state_is_restored_by_the_angle_first(world):
    """Position first moves the T by |(R(1) - 1) c| = 2 sin(1/2) |c|, c its centre of mass, 45 px away."""
    state = np.array([100.0, 100.0, 250.0, 250.0, 1.0])
    np.testing.assert_allclose(world.reset_to(state), state, atol=1e-4)
    import gymnasium

    env = gymnasium.make("gym_pusht/PushT-v0", obs_type="state")
    wrong = env.reset(options={"reset_to_state": state})[0]
    moved = np.linalg.norm(wrong[2:4] - state[2:4])
    centre = np.linalg.norm(env.unwrapped.block.center_of_gravity)
    assert moved == pytest.approx(2 * np.sin(0.5) * centre, abs=0.5)
    assert moved > 40


def test_demonstrations_replay(world, real_data):
    """Every tenth: the block stays within a thousandth of a pixel, and covers 0.9 of the goal."""
    steps = load(real_data / "pusht").splits["train"]
    covered, apart = [], []
    for episode in range(0, steps.episodes, 40):
        begin, end = steps.offset[episode : episode + 2]
        world.reset_to(steps.observation[begin])
        most = 0.0
        for row in range(begin, end):
            seen = world.step(steps.action[row])
            most = max(most, seen.extra["coverage"])
            if row + 1 < end:
                apart.append(np.abs(seen.observation[2:4] - steps.observation[row + 1, 2:4]).max())
        covered.append(most)
    assert np.median(apart) < 1e-3
    assert 0.85 < np.mean(covered) < 0.95


def test_the_vector_interface_is_gymnasiums(world):
    """The same seeds and actions through Gymnasium's own vector environment, and through a process."""
    import gymnasium

    theirs = gymnasium.make_vec("gym_pusht/PushT-v0", num_envs=2, vectorization_mode="sync", obs_type="state")
    a, _ = theirs.reset(seed=[3, 4])
    ours = [Share(pusht.make, 2, 5), Worlds(pusht.PUSHT, 2, 1)]
    starts = [w.reset(seed=[3, 4])[0] for w in ours]
    for start in starts:
        np.testing.assert_array_equal(start, a)
    draw = np.random.default_rng(0)
    for _ in range(5):
        action = draw.uniform(100, 400, (2, 2))
        told = theirs.step(action)
        for one in ours:
            for x, y in zip(one.step(action)[:4], told[:4], strict=True):
                np.testing.assert_allclose(x, y, rtol=1e-12)
    for one in ours:
        one.close()


def test_a_picture(world):
    world.reset(0)
    picture = world.draw()
    assert picture.shape == (240, 240, 3) and picture.dtype == np.uint8
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 3
