"""Windows: a Python loop's answer at both ends of every episode, and no row left out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.data import windows
from ch3_jax.data.episodes import Steps
from ch3_jax.data.normalize import make_normalizer
from ch3_jax.data.statistics import of_array
from ch3_jax.errors import InputError


def make(lengths, seed=0, sources=None):
    rng = np.random.default_rng(seed)
    rows = sum(lengths)
    offset = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    observation = rng.normal(size=(rows, 3)).astype(np.float32)
    return Steps(observation, rng.normal(size=(rows, 2)).astype(np.float32), offset, sources=sources)


def oracle(steps, window, horizon):
    """Episode by episode, step by step."""
    observation, action, mask = [], [], []
    for e in range(steps.episodes):
        rows = range(steps.offset[e], steps.offset[e + 1])
        for t in range(len(rows)):
            past = [rows[max(t - window + 1 + w, 0)] for w in range(window)]
            ahead = [rows[min(t + h, len(rows) - 1)] for h in range(horizon)]
            observation.append(steps.observation[past])
            action.append(steps.action[ahead])
            mask.append([t + h < len(rows) for h in range(horizon)])
    return np.array(observation), np.array(action), np.array(mask)


def test_by_hand():
    # Episodes of rows 0 1 2 | 3 4. Row 3 with W = 3, H = 3: it is the first of its episode, so it
    # sees 3 3 3, and acts 3 4 and 4 again, which is not real.
    steps = windows.DeviceSteps(
        jnp.arange(5.0)[:, None],
        jnp.arange(5.0)[:, None] * 10,
        jnp.array([0, 0, 0, 3, 3]),
        jnp.array([3, 3, 3, 5, 5]),
    )
    batch = windows.gather(steps, jnp.array([3, 1]), window=3, horizon=3)
    assert batch.observation[..., 0].tolist() == [[3, 3, 3], [0, 0, 1]]
    assert batch.action[..., 0].tolist() == [[30, 40, 40], [10, 20, 20]]
    assert batch.mask.tolist() == [[True, True, False], [True, True, False]]


@pytest.mark.parametrize(("window", "horizon"), [(1, 1), (2, 1), (1, 3), (5, 4)])
def test_as_the_loop_for_every_row(window, horizon):
    rng = np.random.default_rng(window)
    compiled = jax.jit(windows.gather, static_argnames=("window", "horizon"))
    for _ in range(20):
        # 24 rows in 1 to 12 episodes: one shape, so that it compiles once.
        cuts = np.sort(rng.choice(np.arange(1, 24), rng.integers(0, 12), replace=False))
        steps = make(np.diff([0, *cuts, 24]).tolist())
        batch = compiled(windows.to_device(steps), jnp.arange(24), window=window, horizon=horizon)
        for got, expected in zip(batch, oracle(steps, window, horizon), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_e13_the_first_masked_action_is_the_first_after_the_episode():
    # systems.md E13: T = 10, W = 2, H = 4. The last real action is 9; Octo's mask lets 10 through
    # and first masks 11. Row t masks action t + h where mask is False: the least of those is 10.
    batch = windows.gather(windows.to_device(make([10])), jnp.arange(10), window=2, horizon=4)
    number = np.arange(10)[:, None] + np.arange(4)
    assert number[~np.asarray(batch.mask)].min() == 10
    assert number[np.asarray(batch.mask)].max() == 9
    assert int((~np.asarray(batch.mask)).sum()) == 1 + 2 + 3


def test_window_and_horizon_of_one_are_plain_rows():
    steps = make([4, 1, 3])
    batch = windows.gather(windows.to_device(steps), jnp.array([7, 0, 4]))
    np.testing.assert_array_equal(batch.observation[:, 0], steps.observation[[7, 0, 4]])
    np.testing.assert_array_equal(batch.action[:, 0], steps.action[[7, 0, 4]])
    assert batch.mask.shape == (3, 1)
    assert bool(batch.mask.all())


def test_shapes_dtypes_and_jit():
    steps = windows.to_device(make([6, 6]))
    assert [str(leaf.dtype) for leaf in steps] == ["float32", "float32", "int32", "int32"]
    compiled = jax.jit(windows.gather, static_argnames=("window", "horizon"))
    index = jnp.array([0, 5, 6, 11])
    for window, horizon in ((1, 1), (2, 1), (1, 3), (4, 3)):
        plain = windows.gather(steps, index, window=window, horizon=horizon)
        assert plain.observation.shape == (4, window, 3)
        assert plain.action.shape == (4, horizon, 2)
        assert plain.mask.shape == (4, horizon)
        assert plain.mask.dtype == bool
        for a, b in zip(plain, compiled(steps, index, window=window, horizon=horizon), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize("bad", [-1, -100, 6, 10**6])
def test_a_row_that_does_not_exist_is_nan(window, horizon, bad):
    steps = windows.to_device(make([6]))
    batch = windows.gather(steps, jnp.array([2, bad]), window=window, horizon=horizon)
    assert np.isfinite(batch.observation[0]).all()
    assert np.isnan(batch.observation[1]).all()
    assert np.isnan(batch.action[1]).all()


def test_to_device_normalises():
    steps = make([50, 50])
    normalizers = [
        make_normalizer(of_array(x, "abc"[: x.shape[1]])) for x in (steps.observation, steps.action)
    ]
    placed = windows.to_device(steps, *normalizers)
    np.testing.assert_allclose(np.mean(placed.observation, axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(np.std(placed.action, axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(windows.to_device(steps).action, steps.action)


def test_empty_episodes_are_no_rows():
    steps = make([2, 0, 3])
    placed = windows.to_device(steps)
    assert placed.start.tolist() == [0, 0, 2, 2, 2]
    assert placed.stop.tolist() == [2, 2, 5, 5, 5]


def test_check_windows():
    steps = make([5, 3, 4, 2], sources=("a.parquet", "b.parquet", "c.parquet", "d.parquet"))
    windows.check_windows(steps, 2, 2)
    windows.check_windows(steps, 1, 1)
    with pytest.raises(InputError, match=r"episode 1 \(b.parquet\) is shorter") as caught:
        windows.check_windows(steps, 1, 4)
    assert "3 steps; 2 of 4 episodes" in str(caught.value)
    assert "at most 2" in str(caught.value)
    with pytest.raises(InputError, match="episode 3 .*is shorter"):
        windows.check_windows(steps, 3, 1)
    with pytest.raises(InputError, match="episode 1 is shorter"):
        windows.check_windows(make([2, 0]), 1, 1)
    with pytest.raises(InputError, match="count steps"):
        windows.check_windows(steps, 0, 1)


def test_bad_arguments():
    steps = windows.to_device(make([6]))
    with pytest.raises(ValueError, match="`window` 0"):
        windows.gather(steps, jnp.array([0]), window=0)
    with pytest.raises(ValueError, match=r"expected integers \(B,\)"):
        windows.gather(steps, jnp.array([0.0]))
    with pytest.raises(ValueError, match=r"expected integers \(B,\)"):
        windows.gather(steps, jnp.array([[0]]))
