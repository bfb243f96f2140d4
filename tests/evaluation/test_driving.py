"""Driving: what latches, what is counted apart, what the policy is shown."""

import functools
import json

import numpy as np
import pytest

from ch3_jax.errors import InputError
from ch3_jax.evaluation import chunks, driving
from ch3_jax.evaluation.simulators.worlds import Share, Worlds, open_worlds
from tests.evaluation import imaginary
from tests.evaluation.imaginary import LIMIT, TASK

ONE = functools.partial(chunks.queue, execute=2, horizon=2)


def always(value, shown=None):
    def decide(observation, call):
        if shown is not None:
            shown.append((call, observation.copy()))
        return np.full((len(observation), 2, 1), value)

    return decide


def driven(decide, seeds, task=TASK, size=4, window=1):
    return driving.drive(decide, open_worlds(task, size, 0), task, seeds, window=window, executor=ONE)


def test_success_is_latched_and_its_flicker_is_seen():
    """0.1 a step from 0.4: at 1.0 after six steps, gone at the seventh."""
    (outcome,) = driven(always(0.1), [4]).outcomes
    assert (outcome.success, outcome.ever, outcome.kept) == (True, True, False)
    assert outcome.score == pytest.approx(1.0) and outcome.first == 6
    assert outcome.length == LIMIT == len(outcome.actions) == len(outcome.extra) - 1
    (outcome,) = driven(always(0.1), [4], TASK._replace(held=True)).outcomes
    assert (outcome.success, outcome.ever) == (False, True)
    # From -0.2, 1.0 is reached at the twelfth and last step.
    (outcome,) = driven(always(0.1), [-2], TASK._replace(held=True)).outcomes
    assert outcome.success and outcome.kept


def test_an_episode_that_raises_is_counted_apart_and_the_others_go_on():
    found = driven(always(0.1), [4, 66, 67, 5])
    assert [o.error for o in found.outcomes] == [
        None,
        "RuntimeError: the block fell through the table",
        "OSError: no such scene",
        None,
    ]
    assert [o.length for o in found.outcomes] == [LIMIT, 3, 0, LIMIT]
    score = driving.summarise(found.outcomes)
    assert (score.errors, score.success.episodes, score.success.rate) == (2, 2, 1.0)
    with pytest.raises(InputError, match="the block fell through"):
        driving.summarise(driven(always(0.1), [66]).outcomes)
    # The world is made anew: the next round is not touched by the last one's error.
    assert all(o.error is None for o in driven(always(0.1), [66, 4, 4], size=1).outcomes[1:])


def test_one_call_for_all_of_one_size_with_the_past_in_order():
    shown = []
    found = driven(always(0.1, shown), [0, 1, 2, 3, 4], size=3, window=2)
    assert len(found.outcomes) == 5
    assert {o.shape for _, o in shown} == {(3, 2, 2)}
    # Two rounds of twelve steps, two actions to a call; calls are numbered through.
    assert [call for call, _ in shown] == list(range(12))
    np.testing.assert_allclose(shown[0][1][:, :, 0], [[0, 0], [0.1, 0.1], [0.2, 0.2]])
    np.testing.assert_allclose(shown[1][1][:, :, 1], [[1, 2]] * 3)
    np.testing.assert_allclose(shown[1][1][0, :, 0], [0.1, 0.2])
    assert len(found.calls_s) == 12 and 0 < found.calls_s.sum() < found.wall_s


def test_the_same_seeds_are_the_same_episodes_whatever_goes_on_beside_them():
    alone = driven(always(0.05), [3], size=1).outcomes[0]
    among = driven(always(0.05), [9, 66, 3], size=2).outcomes[2]
    np.testing.assert_array_equal(alone.actions, among.actions)
    assert alone.score == among.score


def test_actions_are_clipped_and_that_is_said():
    found = driven(always(0.4), [4])
    np.testing.assert_array_equal(found.outcomes[0].actions, 0.1)
    assert found.clipped == 1.0
    assert driven(always(0.1), [4]).clipped == 0.0
    free = driven(always(0.4), [4], TASK._replace(bounds=None))
    assert free.clipped == 0 and (free.outcomes[0].actions == 0.4).all()


def test_a_policy_that_answers_nan_is_refused():
    with pytest.raises(InputError, match="not finite"):
        driven(always(np.nan), [1])


def test_first_median_and_worst():
    found = driven(always(0.0), [3, 9, 1, 0, 5]).outcomes
    chosen = driving.notable(found)
    ordered = [found[0]._replace(success=True, score=0.1), found[1]]
    assert driving.notable(ordered)["worst"].seed == 9  # an episode that failed is worse than a low score
    assert {name: o.seed for name, o in chosen.items()} == {"first": 3, "median": 3, "worst": 0}


def test_numbers_of_a_table_by_hand():
    found = driven(always(0.0), [2, 10, 4]).outcomes  # scores 0.2, 1, 0.4
    score = driving.summarise(found)
    assert score.score == pytest.approx(1.6 / 3)
    # Deviations -1/3, 7/15, -2/15: their squares sum to 26/75, halved and divided by 3.
    assert score.score_error == pytest.approx(np.sqrt(26 / 75 / 2 / 3))
    assert (score.success.rate, score.length, score.first) == (pytest.approx(1 / 3), 12, 1)
    json.dumps(score._asdict())


def steps_of(worlds, seeds, steps=6):
    rows = [worlds.reset(seed=seeds)]
    rows += [worlds.step(np.full((worlds.num_envs, 1), 0.1)) for _ in range(steps)]
    return rows


@pytest.fixture(scope="module")
def processes():
    worlds = Worlds(TASK, 5, 2)
    yield worlds
    worlds.close()


def test_processes_give_what_one_process_gives(processes):
    for seeds in ([0, 1, 2, 3, 4], [5, 66, 6], [67, 1, 1, 1, 2]):
        one = steps_of(Share(imaginary.make, 5, 2), seeds)
        for a, b in zip(one, steps_of(processes, seeds), strict=True):
            for x, y in zip(a[:-1], b[:-1], strict=True):
                np.testing.assert_array_equal(x, y)
            for name, value in a[-1].items():
                np.testing.assert_array_equal(np.asarray(value, object), np.asarray(b[-1][name], object))


def test_a_process_that_dies_takes_its_share_alone_and_is_replaced(processes):
    last = steps_of(processes, [0, 0, 0, 68, 0])[-1][-1]["error"]  # shares of 3 and 2
    assert last[:3] == [None] * 3
    assert all("process ended with code 9" in text for text in last[3:])
    again = steps_of(processes, [0, 0, 0, 1, 2])[-1]
    assert again[-1]["error"] == [None] * 5
    np.testing.assert_allclose(again[0][3:, 0], [0.7, 0.8])


@pytest.mark.parametrize("count", [0, 1])
def test_a_simulator_that_does_not_start(count):
    if count:
        with pytest.raises(InputError, match="cannot open display"):
            Worlds(TASK._replace(make=imaginary.broken), 2, count)
    else:
        with pytest.raises(InputError, match="cannot open display"):
            open_worlds(TASK._replace(make=imaginary.broken), 2, 0)
