"""Denoising losses: both directions of time are one, samplers are the loops that they claim to be, data have
ends."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.base import Batch
from ch3_jax.noise.corruption import corrupt
from ch3_jax.objectives import Shapes, Spread, make_objective
from ch3_jax.objectives.generative import angle, scaled

SHAPES = Shapes(window=1, state=3, horizon=2, action=2)
# Programs that run once: what would be spent on making them fast is more than they take.
quick = functools.partial(
    jax.jit,
    compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True},
)
SPREAD = Spread(np.array([-0.5, -1], np.float32), np.array([0.5, 1], np.float32), 0.5)


def filled(objective):
    """Parameters of the right shapes, without compiling an initialisation."""
    draw = np.random.default_rng(0)
    shapes = jax.eval_shape(objective.init, jax.random.key(0))
    return jax.tree.map(lambda x: draw.normal(0, 0.3, x.shape).astype(np.float32), shapes)


@functools.cache
def setting():
    draw = np.random.default_rng(0)
    sizes = (5, 1, 3), (5, 2, 2)
    b = Batch(*(jnp.asarray(draw.normal(size=size), jnp.float32) for size in sizes), jnp.ones((5, 2), bool))
    return b, filled(make_objective("flow", SHAPES, width=8))


@functools.cache
def loss_of(name, **options):
    return quick(make_objective(name, SHAPES, width=8, spread=SPREAD, **options).loss)


def test_the_loss_is_the_chapters_written_out():
    """x_t = (1 - t) eps + t a, target a - eps, mean of squares: with the same draws, in numpy."""
    b, params = setting()
    objective = make_objective("flow", SHAPES, width=8)

    @quick
    def drawn(key):
        time_key, noise_key = jax.random.split(key)
        t = objective.sampler.process.draw_time(time_key, 5)
        eps = jax.random.normal(noise_key, b.action.shape)
        x = (1 - t)[:, None, None] * eps + t[:, None, None] * b.action
        return eps, objective.denoiser(params, b.observation).apply(x, t)

    eps, v = map(np.asarray, drawn(jax.random.key(3)))
    expected = np.mean((v - (np.asarray(b.action) - eps)) ** 2)
    assert float(loss_of("flow")(params, b, jax.random.key(3))[0]) == pytest.approx(expected, rel=1e-5)


def test_openpis_direction_is_the_same_problem_with_the_sign_turned():
    """t' = 1 - t and v' = -v: a network whose output is negated has the same loss and acts alike."""
    b, params = setting()
    negated = {**params, **{part: jax.tree.map(jnp.negative, params[part]) for part in ("head", "gain")}}
    ours, theirs = loss_of("flow"), loss_of("flow", time_direction="noise_at_1")
    key = jax.random.key(4)
    assert float(ours(params, b, key)[0]) == pytest.approx(float(theirs(negated, b, key)[0]), rel=1e-5)
    acts = [
        quick(make_objective("flow", SHAPES, width=8, sampling_steps=3, time_direction=d).act)
        for d in ("noise_at_0", "noise_at_1")
    ]
    found = acts[0](params, b.observation, key), acts[1](negated, b.observation, key)
    np.testing.assert_allclose(*found, atol=1e-5)
    assert float(jnp.abs(found[0] - acts[1](params, b.observation, key)).max()) > 0.01


def test_acting_is_eulers_loop():
    b, params = setting()
    objective = make_objective("flow", SHAPES, width=8, sampling_steps=3)
    key = jax.random.key(5)
    network = quick(lambda x, t: objective.denoiser(params, b.observation).apply(x, t))
    x = objective.sampler.start(jax.random.split(key)[0], b.action.shape)
    for i in range(3):
        x = x + network(x, jnp.full(5, i / 3)) / 3
    np.testing.assert_allclose(quick(objective.act)(params, b.observation, key), x, atol=1e-5)


def test_a_diffusions_actions_stay_where_the_data_are():
    b, params = setting()
    far = {**params, "head": jax.tree.map(lambda x: 50 * x, params["head"])}
    few = {"sampling_steps": 2, "width": 8}
    free, kept = (make_objective("ddpm", SHAPES, spread=s, **few) for s in (None, SPREAD))
    found = np.asarray(quick(kept.act)(far, b.observation, None))
    assert (found >= SPREAD.low).all()
    assert (found <= SPREAD.high).all()
    assert np.abs(quick(free.act)(far, b.observation, None)).max() > 2


def test_a_prediction_of_the_noise_is_scored_on_the_noise():
    """And min-SNR weighs it with min(snr, 5) / snr."""
    b, params = setting()
    objective = make_objective("ddpm", SHAPES, width=8)
    process = objective.sampler.process

    @quick
    def drawn(key):
        time_key, noise_key = jax.random.split(key)
        t = process.draw_time(time_key, 5)
        mix = process.mix(t)
        eps = jax.random.normal(noise_key, b.action.shape)
        said = objective.denoiser(params, b.observation).apply(corrupt(b.action, eps, mix), t)
        return (mix.signal / mix.noise) ** 2, (said - eps) ** 2

    snr, squares = map(np.asarray, drawn(jax.random.key(6)))
    weight = (np.minimum(snr, 5) / snr)[:, None, None]
    for options, expected in (({}, squares), ({"min_snr": 5.0}, squares * weight)):
        loss, _ = loss_of("ddpm", **options)(params, b, jax.random.key(6))
        assert float(loss) == pytest.approx(expected.mean(), rel=1e-4)


def test_levels_are_angles_and_inputs_keep_their_size():
    process = make_objective("denoising", SHAPES, width=8).sampler.process
    mix = process.mix(jnp.array([0.5, 1.0]))
    np.testing.assert_allclose(angle(mix), np.arctan([0.5, 1.0]), rtol=1e-6)
    np.testing.assert_allclose(scaled(jnp.ones((2, 1, 1)), mix)[:, 0, 0], [1.25**-0.5, 2**-0.5], rtol=1e-6)


def test_a_matched_schedule_drowns_narrow_actions_as_far_as_wide_ones():
    plain, matched = (make_objective("ddpm", SHAPES, spread=SPREAD, match_std=m) for m in (False, True))
    half = [o.sampler.process.mix(jnp.array([50])) for o in (plain, matched)]
    snr = [float((m.signal / m.noise)[0]) ** 2 for m in half]
    assert snr[1] * 0.5**2 == pytest.approx(snr[0], rel=1e-4)  # std 0.5
