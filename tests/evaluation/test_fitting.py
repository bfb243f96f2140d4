"""Run and task: by name, by position where there are no names, or refused with both sides named."""

import numpy as np
import pytest

from ch3_jax.errors import InputError
from ch3_jax.evaluation.fitting import orders
from ch3_jax.evaluation.simulators.pusht import PUSHT

SEEN, DONE = PUSHT.observation_names, PUSHT.action_names


def test_names_in_another_order_are_matched():
    found = orders(SEEN[::-1], DONE[::-1], PUSHT)
    task = np.arange(5.0)
    np.testing.assert_array_equal(task[found.observation], [4, 3, 2, 1, 0])
    np.testing.assert_array_equal(np.array([7.0, 8.0])[found.action], [8, 7])
    shuffled = tuple(np.array(SEEN)[[2, 0, 4, 1, 3]])
    found = orders(shuffled, DONE, PUSHT)
    assert tuple(np.array(SEEN)[found.observation]) == shuffled


def test_an_action_goes_back_the_way_that_its_names_say():
    """Three names in a cycle, which is not its own inverse."""
    task = PUSHT._replace(action_names=("a", "b", "c"))
    found = orders(SEEN, ("c", "a", "b"), task)
    np.testing.assert_array_equal(np.array(["c", "a", "b"])[found.action], ["a", "b", "c"])


def test_without_names_the_position_is_what_there_is():
    found = orders(tuple(f"state_{i}" for i in range(5)), ("action_0", "action_1"), PUSHT)
    np.testing.assert_array_equal(found.observation, range(5))
    np.testing.assert_array_equal(found.action, range(2))


@pytest.mark.parametrize(
    ("observation", "action", "words"),
    [
        (SEEN[:4], DONE, "4 dimensions in the run"),
        (tuple(f"state_{i}" for i in range(6)), DONE, "6 dimensions in the run: state_0"),
        ((*SEEN[:4], "joint_angle_1"), DONE, "joint_angle_1"),
        (SEEN, ("joint_velocity_command_1", "joint_velocity_command_2"), "target_x, target_y"),
        (SEEN, (*DONE, "gripper"), "the run's action is not that of pusht"),
    ],
)
def test_another_robot_is_refused(observation, action, words):
    with pytest.raises(InputError) as refused:
        orders(observation, action, PUSHT)
    assert words in str(refused.value)
