"""Case E10: learning rates of the peers at named steps; the chain's own arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ch3_jax.errors import InputError
from ch3_jax.training.optimizers import SCHEDULES, clipped_adamw, make_schedule

PI0 = {"peak": 2.5e-5, "steps": 30_000, "warmup": 1000, "end": 2.5e-6}


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 2.4975025e-8),
        (500, 1.25125e-5),
        (1000, 2.5e-5),
        (5000, 2.39602e-5),
        (15_000, 1.43591e-5),
        (30_000, 2.5e-6),
        (90_000, 2.5e-6),
    ],
)
def test_e10_openpi(step, rate):
    assert float(make_schedule("openpi", **PI0)(step)) == pytest.approx(rate, rel=1e-4)


@pytest.mark.parametrize(("step", "rate"), [(1000, 2.493837e-5), (5000, 2.349279e-5), (15_000, 1.375e-5)])
def test_e10_lerobot(step, rate):
    assert float(make_schedule("lerobot", **PI0)(step)) == pytest.approx(rate, rel=1e-5)


@pytest.mark.parametrize(("step", "rate"), [(0, 0.0), (250, 5e-5), (500, 1e-4), (5250, 5e-5), (10_000, 0.0)])
def test_e10_diffusion_policy(step, rate):
    schedule = make_schedule("cosine", 1e-4, steps=10_000, warmup=500)
    assert float(schedule(step)) == pytest.approx(rate, abs=1e-10)


def test_octo_rsqrt():
    schedule = make_schedule("rsqrt", 3e-4, steps=300_000, warmup=2000)
    assert float(schedule(1000)) == pytest.approx(1.5e-4)
    assert float(schedule(2000)) == pytest.approx(3e-4)
    # 3e-4 / sqrt(1 + 30000 / 10000) = 1.5e-4
    assert float(schedule(32_000)) == pytest.approx(1.5e-4)


def test_step_drops_to_a_tenth_at_two_thirds():
    schedule = make_schedule("step", 5e-4, steps=150_000)
    assert float(schedule(99_999)) == pytest.approx(5e-4)
    assert float(schedule(100_001)) == pytest.approx(5e-5)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup", [0, 10])
def test_every_schedule_is_finite_positive_and_at_most_its_peak(name, warmup):
    schedule = make_schedule(name, 1e-3, steps=100, warmup=warmup, end=1e-5)
    rates = np.array([float(schedule(t)) for t in range(0, 140, 7)])
    assert np.isfinite(rates).all()
    assert (rates >= 0).all()
    assert rates.max() <= 1e-3 * (1 + 1e-6)


def test_unknown_names_and_values_say_what_is_valid():
    with pytest.raises(InputError, match="one of constant, linear, cosine"):
        make_schedule("cosin", 1e-3, steps=10)
    with pytest.raises(InputError, match="learning rate must be positive"):
        make_schedule("constant", -1.0, steps=10)


def test_clip_then_adamw_by_hand():
    """One step from g = (3, 4), theta = (1, 1), eta = 0.1, lambda = 0.5, clip 1.

    Clipped g = (.6, .8). Adam's first step is g / (|g| + eps) = (1, 1) whatever the length, so
    theta <- 1 - 0.1 (1 + 0.5) = 0.85 in both; mu = 0.1 (.6, .8), nu = 0.001 (.36, .64).
    """
    optimizer = clipped_adamw(0.1, clip=1.0, weight_decay=0.5)
    params = jnp.ones(2)
    updates, state = optimizer.update(jnp.array([3.0, 4.0]), optimizer.init(params), params)
    np.testing.assert_allclose(optax.apply_updates(params, updates), [0.85, 0.85], rtol=1e-6)
    np.testing.assert_allclose(state.mu, [0.06, 0.08], rtol=1e-6)
    np.testing.assert_allclose(state.nu, [3.6e-4, 6.4e-4], rtol=1e-6)


@pytest.mark.parametrize("clip", [None, 1.0, 100.0])
def test_equal_to_optax_over_fifty_steps(clip):
    schedule = make_schedule("cosine", 1e-2, steps=50, warmup=5)
    ours = clipped_adamw(schedule, clip=clip, weight_decay=0.1)
    adamw = optax.adamw(schedule, weight_decay=0.1)
    theirs = optax.chain(optax.clip_by_global_norm(clip), adamw) if clip else adamw
    a = b = {"w": jax.random.normal(jax.random.key(0), (5, 3)), "b": jnp.ones(3)}
    state_a, state_b = ours.init(a), theirs.init(b)
    for t in range(50):
        g = jax.tree.map(lambda x: 10 * jnp.sin(x * (t + 1)), b)  # noqa: B023
        ua, state_a = ours.update(g, state_a, a)
        ub, state_b = theirs.update(g, state_b, b)
        a, b = optax.apply_updates(a, ua), optax.apply_updates(b, ub)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), a, b)


def test_a_zero_gradient_moves_nothing():
    optimizer = clipped_adamw(0.1, weight_decay=0.0)
    updates, _ = optimizer.update(jnp.zeros(2), optimizer.init(jnp.ones(2)), jnp.ones(2))
    np.testing.assert_array_equal(updates, [0.0, 0.0])
