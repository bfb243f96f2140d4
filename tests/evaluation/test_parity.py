"""Training and serving are one function: recorded observations through both, with everything between.

A simulator that plays a recording back shows the policy what training showed it; what is executed must be
what the training pipeline - windows, normalisers, network - says, though the simulator names its numbers in
another order and the actions come out of queues.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.data.episodes import Dataset, Facts, Steps
from ch3_jax.data.normalize import denormalize
from ch3_jax.data.prepare import prepare
from ch3_jax.data.windows import gather
from ch3_jax.errors import InputError
from ch3_jax.evaluation import chunks, driving, fitting, serve
from ch3_jax.evaluation.simulators.task import Seen, Task, World
from ch3_jax.evaluation.simulators.worlds import open_worlds
from ch3_jax.training import checkpoints
from tests.evaluation import untrained

LENGTH, EPISODES, EXECUTE = 11, 3, 3
SEEN, DONE = ("x", "y", "angle"), ("dx", "dy")
SHOWN, ASKED = ("angle", "x", "y"), ("dy", "dx")  # as the simulator names them
DRAW = np.random.default_rng(1)
OFFSET = np.arange(EPISODES + 1) * LENGTH
STEPS = Steps(
    DRAW.normal(5, 3, (LENGTH * EPISODES, 3)).astype(np.float32),
    DRAW.normal(-2, 4, (LENGTH * EPISODES, 2)).astype(np.float32),
    OFFSET,
)


def playback() -> World:
    """Episode number `seed` of the recording, whatever is done."""
    row = [0, 0]
    order = [SEEN.index(n) for n in SHOWN]

    def now():
        return STEPS.observation[min(row[0], row[1] - 1), order].astype(np.float64)

    def reset(seed):
        row[:] = OFFSET[seed], OFFSET[seed + 1]
        return now(), {}

    def step(action):
        row[0] += 1
        return Seen(now(), 0.0, 0.0, False, False, row[0] >= row[1], {})

    return World(reset, step, lambda: np.zeros((2, 2, 3), np.uint8), lambda: None)


TASK = Task(
    "playback", (), SHOWN, ASKED, ("1",) * 3, ("1",) * 2, "", 10.0, LENGTH, None, False, "none", playback
)


@pytest.fixture(scope="module", params=["mse", "flow"])
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return untrained.write(folder, STEPS.observation, STEPS.action, (SEEN, DONE), loss=request.param)


def test_what_is_executed_is_what_training_says(run):
    dataset = Dataset(Facts("recording", "generated", SEEN, DONE), {"train": STEPS, "val": STEPS})
    data, made = prepare(dataset, rule="minmax", window=2, horizon=4), serve.rebuild(run)
    rows = np.array([OFFSET[e] + t for t in range(0, LENGTH, EXECUTE) for e in range(EPISODES)])
    batch = gather(data.train, jnp.asarray(rows), window=2, horizon=4)
    key = jax.random.key(3) if made.objective.samples and not made.objective.likeliest else None
    calls = np.split(np.asarray(batch.observation), LENGTH // EXECUTE + 1)
    trained = [
        denormalize(data.normalizers["action"], made.objective.act(made.params, jnp.asarray(seen), key))
        for seen in calls
    ]
    expected = np.concatenate([np.asarray(a)[:, :EXECUTE] for a in trained], axis=1)[:, :LENGTH]

    policy = serve.load(run)
    order = fitting.orders(policy.observation.names, policy.action.names, TASK)

    def decide(seen, call):
        return np.asarray(policy.act(seen[..., order.observation], key), np.float64)[..., order.action]

    driven = driving.drive(
        decide,
        open_worlds(TASK, EPISODES, 0),
        TASK,
        range(EPISODES),
        window=2,
        executor=functools.partial(chunks.queue, execute=EXECUTE, horizon=4),
    )
    executed = np.stack([o.actions for o in driven.outcomes])
    assert executed.shape == expected.shape == (EPISODES, LENGTH, 2)
    back = [ASKED.index(n) for n in DONE]
    np.testing.assert_allclose(executed[..., back], expected, atol=2e-5 * np.ptp(STEPS.action))
    # The comparison can fail: neighbouring steps differ by far more than the tolerance.
    assert np.abs(np.diff(expected, axis=1)).mean() > 0.05


def test_a_run_without_statistics_is_refused(tmp_path, monkeypatch):
    run = untrained.write(tmp_path, STEPS.observation, STEPS.action, (SEEN, DONE))
    whole = checkpoints.load_record(run / "checkpoints")
    monkeypatch.setattr(
        checkpoints, "load_record", lambda *a: {k: v for k, v in whole.items() if k != "statistics"}
    )
    with pytest.raises(InputError, match="no statistics"):
        serve.load(run)
