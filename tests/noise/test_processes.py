"""Times, grids and starts of the processes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.errors import InputError
from ch3_jax.noise.flow import linear_path
from ch3_jax.noise.processes import denoising, diffusion
from ch3_jax.noise.schedules import make_schedule

COSINE = make_schedule("squaredcos_cap_v2", 100)


@pytest.mark.parametrize(
    ("spacing", "steps", "expected"),
    [
        ("leading", 10, [90, 80, 70, 60, 50, 40, 30, 20, 10, 0]),
        ("leading", 16, list(range(90, -1, -6))),
        ("trailing", 10, [99, 89, 79, 69, 59, 49, 39, 29, 19, 9]),
        ("trailing", 3, [99, 66, 32]),  # 100, 66.7, 33.3 rounded, less 1
        ("trailing", 100, list(range(99, -1, -1))),
        ("leading", 100, list(range(99, -1, -1))),
    ],
)
def test_visited_steps(spacing, steps, expected):
    grid = diffusion(COSINE, spacing=spacing, allow_signal=True).grid(steps)
    assert grid.time.astype(int).tolist() == [*expected, -1]
    assert (grid.signal[-1], grid.noise[-1]) == (1.0, 0.0)
    np.testing.assert_allclose(grid.signal[:-1], COSINE.signal[expected])


def test_end_at_the_noise_of_step_0():
    grid = diffusion(COSINE, set_alpha_to_one=False).grid(10)
    assert grid.signal[-1] == pytest.approx(0.99936872721**0.5, abs=1e-7)
    assert grid.noise[-1] == pytest.approx((1 - 0.99936872721) ** 0.5, abs=1e-5)


@pytest.mark.parametrize("total", [1, 2, 7, 100])
def test_every_number_of_steps_visits_distinct_trained_steps(total):
    process = diffusion(make_schedule("squaredcos_cap_v2", total))
    for steps in range(1, total + 1):
        if total == 1:
            break
        visited = process.grid(steps).time[:-1]
        assert visited[0] == total - 1 and visited[-1] >= 0
        assert (np.diff(visited) < 0).all()


def test_grids_of_continuous_time():
    np.testing.assert_allclose(linear_path().grid(4).time, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(linear_path("noise_at_1").grid(4).time, [1, 0.75, 0.5, 0.25, 0])
    grid = denoising().grid(20)
    assert grid.steps == 20
    assert grid.time[0] == pytest.approx(1) and grid.time[-2] == pytest.approx(0.01) and grid.time[-1] == 0


@pytest.mark.parametrize("process", [diffusion(COSINE), denoising(), linear_path()], ids=lambda p: p.name)
def test_drawn_times_are_in_range_and_fill_it(process):
    t = process.draw_time(jax.random.key(0), 5_000)
    assert t.shape == (5_000,)
    span = process.highest - process.lowest
    assert process.lowest <= t.min() < process.lowest + 0.02 * span + 1
    assert process.highest - 0.02 * span <= t.max() <= process.highest
    mix = process.mix(t)
    assert np.isfinite(mix.signal).all() and np.isfinite(mix.noise).all()
    # Quantiles of what was drawn: standard errors under 0.007 of the span, and half a step of a schedule.
    share = np.array([0.1, 0.5, 0.9])
    drawn = np.quantile(np.asarray(t, float), share)
    assert np.abs(drawn - process.quantile(share)).max() < 0.03 * span


def test_denoising_draws_the_chapters_sigma():
    t = np.asarray(denoising().draw_time(jax.random.key(0), 50_000))
    # U[0.01, 1]: mean 0.505, variance 0.99^2 / 12
    assert t.mean() == pytest.approx(0.505, abs=0.005)
    assert t.var() == pytest.approx(0.99**2 / 12, abs=0.002)


def test_start_has_the_marginals_variance():
    """1 + 1 at sigma_max = 1 on unit-variance data, as the mixture itself has."""
    key = jax.random.key(0)
    start = denoising().start(key, (200_000,))
    assert float(start.var()) == pytest.approx(2.0, abs=0.03)
    clean = denoising(data_std=0.0, sigma_max=3.0).start(key, (200_000,))
    assert float(clean.std()) == pytest.approx(3.0, abs=0.03)
    assert float(diffusion(COSINE).start(key, (200_000,)).var()) == pytest.approx(1.0, abs=0.02)
    assert denoising().start(key, (2, 3)).dtype == jnp.float32


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: diffusion(COSINE).grid(0), "`steps`.*1 or more"),
        (lambda: diffusion(COSINE).grid(-3), "`steps`"),
        (lambda: diffusion(COSINE).grid(101), "more sampling `steps`.*at most 100"),
        (lambda: denoising().grid(0), "`steps`"),
        (lambda: linear_path().grid(2.0), "`steps`"),
        (lambda: diffusion(COSINE, spacing="linspace"), "`spacing`"),
        (lambda: diffusion(COSINE, spacing="leading").grid(10), "step 90.*sqrt.abar. = 0.140.*trailing"),
        (lambda: diffusion(make_schedule("linear", 100)).grid(10), "`schedule`.*0.60.*squaredcos"),
        (lambda: denoising(1.0, 0.01), "`sigma_min`"),
        (lambda: denoising(data_std=-1.0), "`data_std`"),
        (lambda: diffusion(COSINE).mix(jnp.array([100])), "`t` is outside.*0 to 99"),
        (lambda: diffusion(COSINE).mix(jnp.array([-1])), "`t` is outside"),
        (lambda: denoising().mix(jnp.array([1.5])), "`t` is outside"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InputError, match=f"(?s){words}"):
        call()


def test_a_wrong_time_in_a_compiled_step_is_nan():
    mix = jax.jit(diffusion(COSINE).mix)
    assert np.isnan(mix(jnp.array([100, -1, -100])).signal).all()
    assert np.isfinite(mix(jnp.array([0, 99])).signal).all()
    assert np.isnan(jax.jit(denoising().mix)(jnp.array([2.0])).noise).all()
    with pytest.raises(TypeError, match="`t` has dtype float32"):
        diffusion(COSINE).mix(jnp.array([1.0]))
