"""Meta-World's traps, in metaworld itself where it is installed."""

import functools
import os
import warnings

import numpy as np
import pytest

from ch3_jax.errors import InputError
from ch3_jax.evaluation import chunks, driving
from ch3_jax.evaluation.simulators import catalogue, meta_world
from ch3_jax.evaluation.simulators.task import INSTALL, require
from ch3_jax.evaluation.simulators.worlds import Share

os.environ.setdefault("MUJOCO_GL", "egl")  # read when mujoco is imported
NAME = "push-v3"


def test_without_the_simulator_the_command_is_said():
    task = meta_world.find(NAME)._replace(packages=("a_package_that_nobody_has",))
    with pytest.raises(InputError) as refused:
        require(task)
    assert "a_package_that_nobody_has" in str(refused.value) and INSTALL in str(refused.value)


def test_unknown_tasks():
    with pytest.raises(InputError, match="panda_reach"):
        catalogue.find("pushT")
    pytest.importorskip("metaworld", reason=INSTALL)
    with pytest.raises(InputError, match="metaworld:push-v3"):
        catalogue.find("metaworld:pusch-v3")


@pytest.fixture(scope="module")
def world():
    pytest.importorskip("metaworld", reason=INSTALL)
    world = meta_world.make(NAME)
    yield world
    world.close()


def test_the_facts_are_the_simulators_own(world):
    kind, scenes = meta_world.scenes(NAME, 0)
    env, task = kind(), catalogue.find(f"metaworld:{NAME}")
    assert env.observation_space.shape == (len(task.observation_names),) == (39,)
    np.testing.assert_array_equal([env.action_space.low, env.action_space.high], task.bounds)
    assert (env.max_path_length, 1 / env.dt) == (meta_world.STEPS, meta_world.RATE_HZ)
    assert len(scenes) == meta_world.SCENES


def test_a_seed_is_a_scene_though_reset_ignores_it(world):
    """The goal stands in the last three numbers of an observation, or is hidden: the object moves as well."""
    first = world.reset(100_003)[0]
    np.testing.assert_array_equal(first, world.reset(100_003)[0])
    assert np.abs(first - world.reset(100_004)[0]).max() > 1e-3
    assert np.abs(first - world.reset(3)[0]).max() > 1e-3
    other = meta_world.make(NAME)
    np.testing.assert_array_equal(first, other.reset(100_003)[0])
    other.close()


def test_the_picture_is_upright(world):
    """The wall is one grey and above; `corner2` as shipped has it below."""
    world.reset(0)
    try:
        picture = world.draw()
    except Exception as error:
        pytest.skip(f"no OpenGL here: {error}")
    assert picture.shape == (240, 320, 3)
    assert picture[0].std(axis=0).max() < 2 < picture[-1].std(axis=0).max()


def test_it_ends_before_the_simulator_would_raise(world):
    world.reset(0)
    ends = [world.step(np.zeros(4)).truncated for _ in range(meta_world.STEPS)]
    assert ends == [False] * (meta_world.STEPS - 1) + [True]
    with pytest.raises(ValueError, match="reset"):
        world.step(np.zeros(4))


def test_the_expert_is_driven_to_success(world):
    """As a policy would be: from observations, one call for all, success latched."""
    from metaworld.policies import ENV_POLICY_MAP

    expert, task = ENV_POLICY_MAP[NAME](), catalogue.find(f"metaworld:{NAME}")

    def decide(seen, call):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.stack([expert.get_action(o[-1]) for o in seen])[:, None]

    found = driving.drive(
        decide,
        Share(task.make, 2, 39),
        task._replace(steps=120),
        [100_000, 100_001],
        window=1,
        executor=functools.partial(chunks.queue, execute=1, horizon=1),
    )
    assert [o.success for o in found.outcomes] == [True, True]
    assert found.clipped > 0.03  # the expert asks for more than the hand can do


def test_demonstrations_succeed_and_are_clipped(world):
    data, tried = meta_world.demonstrate(NAME, 3, 0)
    steps = data.splits["train"]
    assert steps.episodes == 3 <= tried
    assert np.abs(steps.action).max() == 1.0
    assert f"3 successes of {tried} scenes" in data.facts.notes[0]
    # The recorded actions do it again, ten steps before each end.
    number = int(steps.sources[1].split()[-1])
    begin, end = steps.offset[1:3]
    np.testing.assert_allclose(world.reset(number)[0], steps.observation[begin], atol=1e-6)
    done = [world.step(a).success for a in steps.action[begin:end]]
    assert done.index(True) == len(done) - 1 - meta_world.AFTER
