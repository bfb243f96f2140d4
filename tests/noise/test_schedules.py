"""Noise schedules against the published numbers (E6) and their own definitions."""

import numpy as np
import pytest

from ch3_jax.errors import InputError
from ch3_jax.noise.schedules import (
    SCHEDULES,
    karras_sigmas,
    make_schedule,
    require_no_signal,
    scaled_to_std,
    snr,
    terminal_snr,
)

COSINE = make_schedule("squaredcos_cap_v2", 100)


def test_e6_betas_and_abar():
    betas = {
        0: 0.00063128158,
        1: 0.00111693703,
        10: 0.00553036993,
        50: 0.03154633939,
        90: 0.18875144422,
        98: 0.74993926287,
        99: 0.99900001,
    }
    abar = {
        0: 0.99936872721,
        10: 0.96671664715,
        49: 0.49384352565,
        50: 0.47826457024,
        90: 0.01954437420,
    }
    # The published numbers were rounded to float32 at every step.
    for step, value in betas.items():
        assert COSINE.betas[step] == pytest.approx(value, abs=1e-7)
    for step, value in abar.items():
        assert COSINE.alpha_bar[step] == pytest.approx(value, abs=2e-7)
    assert COSINE.alpha_bar[99] == pytest.approx(2.42854e-7, rel=1e-4)
    assert np.sum(COSINE.betas == 0.999) == 1


@pytest.mark.parametrize(
    ("steps", "first", "last"),
    [
        (10, 0.0279072635, 2.40914e-5),
        (20, 0.0079927212, 6.05957e-6),
        (50, 0.0017475135, 9.7118e-7),
        (1000, 4.12842e-5, 2.42873e-9),
    ],
)
def test_e6_other_lengths(steps, first, last):
    schedule = make_schedule("squaredcos_cap_v2", steps)
    assert schedule.betas[0] == pytest.approx(first, abs=2e-8)
    assert schedule.alpha_bar[-1] == pytest.approx(last, rel=1e-4)


def test_hand_numbers_of_the_others():
    # linear, T = 3: 0.1, 0.2, 0.3; abar 0.9, 0.72, 0.504
    schedule = make_schedule("linear", 3, beta_start=0.1, beta_end=0.3)
    np.testing.assert_allclose(schedule.betas, [0.1, 0.2, 0.3])
    np.testing.assert_allclose(schedule.alpha_bar, [0.9, 0.72, 0.504])
    # scaled linear: square roots 0.1, 0.2, 0.3
    scaled = make_schedule("scaled_linear", 3, beta_start=0.01, beta_end=0.09)
    np.testing.assert_allclose(scaled.betas, [0.01, 0.04, 0.09])
    # sigmoid: the middle of an odd number is exactly half way
    assert make_schedule("sigmoid", 3, beta_start=0.1, beta_end=0.3).betas[1] == pytest.approx(0.2)
    assert make_schedule("sigmoid", 3, beta_start=0.1, beta_end=0.3, reach=1).betas[0] == pytest.approx(
        0.1 + 0.2 / (1 + np.e)
    )


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 100, 1000])
def test_properties(name, steps):
    schedule = make_schedule(name, steps)
    assert schedule.betas.shape == schedule.alpha_bar.shape == (steps,)
    assert schedule.betas.dtype == schedule.alpha_bar.dtype == np.float64
    assert (np.diff(schedule.alpha_bar) < 0).all()
    np.testing.assert_allclose(schedule.signal**2 + schedule.noise**2, 1, rtol=1e-12)
    np.testing.assert_allclose(schedule.alpha_bar, np.exp(np.cumsum(np.log1p(-schedule.betas))), rtol=1e-12)


def test_options_are_part_of_the_name():
    """So that a network trained with other betas is another process."""
    assert make_schedule("linear", 10, beta_end=0.1).name != make_schedule("linear", 10).name


def test_karras():
    levels = karras_sigmas(18, sigma_min=0.002, sigma_max=80.0)
    assert levels[0] == pytest.approx(80) and levels[-1] == pytest.approx(0.002)
    # EDM's table for 18 steps: the second level, ((80^(1/7) 16 + 0.002^(1/7)) / 17)^7 = 57.586
    assert levels[1] == pytest.approx(57.586, abs=1e-3)
    assert (np.diff(levels) < 0).all()
    np.testing.assert_allclose(
        karras_sigmas(5, sigma_min=1.0, sigma_max=2.0, rho=1.0), [2, 1.75, 1.5, 1.25, 1]
    )
    assert karras_sigmas(1, sigma_min=0.01, sigma_max=1.0).tolist() == [1.0]


def test_snr():
    # abar = 0.504 after the three betas above: 0.504 / 0.496
    schedule = make_schedule("linear", 3, beta_start=0.1, beta_end=0.3)
    assert terminal_snr(schedule) == pytest.approx(0.504 / 0.496)
    assert terminal_snr(schedule, std=2.0) == pytest.approx(4 * 0.504 / 0.496)
    np.testing.assert_allclose(snr(COSINE), COSINE.signal**2 / COSINE.noise**2)


@pytest.mark.parametrize("std", [0.1, 1.0, 3.0])
def test_scaled_to_std(std):
    scaled = scaled_to_std(COSINE, std)
    np.testing.assert_allclose(snr(scaled, std), snr(COSINE), rtol=1e-6)
    np.testing.assert_allclose(scaled.alpha_bar, np.cumprod(1 - scaled.betas), rtol=1e-9)
    assert ((scaled.betas > 0) & (scaled.betas < 1)).all()
    np.testing.assert_allclose(scaled_to_std(scaled, 1 / std).alpha_bar, COSINE.alpha_bar, rtol=1e-6)
    # Hand: abar 0.5 and std 3 give 0.5 / (0.5 + 9 0.5) = 0.1
    half = make_schedule("linear", 1, beta_start=0.5, beta_end=0.5)
    assert scaled_to_std(half, 3.0).alpha_bar[0] == pytest.approx(0.1)


def test_terminal_signal_is_refused():
    require_no_signal(COSINE)
    require_no_signal(make_schedule("linear", 1000))
    # sqrt(0.363) with a hundred of the betas made for a thousand
    with pytest.raises(InputError, match=r"(?s)`schedule`.*sqrt\(abar\) = 0\.60.*under 0\.05.*allow_signal"):
        require_no_signal(make_schedule("linear", 100))
    with pytest.raises(InputError, match="(?s)step 90.*leading"):
        require_no_signal(COSINE, step=90)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: make_schedule("cosine", 10), "unknown schedule 'cosine'"),
        (lambda: make_schedule("linear", 0), "`steps`.*1 or more"),
        (lambda: make_schedule("linear", 2.5), "`steps`"),
        (lambda: make_schedule("linear", True), "`steps`"),
        (lambda: make_schedule("squaredcos_cap_v2", 10, beta_end=0.1), "no option `beta_end`"),
        (lambda: make_schedule("linear", 10, beta_end=1.0), "`betas`"),
        (lambda: make_schedule("linear", 10, beta_start=float("nan")), "`betas`"),
        (lambda: karras_sigmas(0, sigma_min=0.1, sigma_max=1.0), "`steps`"),
        (lambda: karras_sigmas(3, sigma_min=1.0, sigma_max=0.1), "`sigma_min`"),
        (lambda: karras_sigmas(3, sigma_min=0.0, sigma_max=0.1), "`sigma_min`"),
        (lambda: snr(COSINE, std=0.0), "`std`"),
        (lambda: scaled_to_std(COSINE, -1.0), "`std`"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InputError, match=f"(?s){words}.*cause.*step"):
        call()
