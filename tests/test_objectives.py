"""What holds for every objective: masks, metrics, gradients, actions. One compiled program for each of
them."""

import functools

import jax
import numpy as np
import pytest

from ch3_jax.base import Batch
from ch3_jax.errors import InputError
from ch3_jax.objectives import OBJECTIVES, Shapes, Spread, make_objective, options_of
from ch3_jax.tokens import bins as tokens

SHAPES = Shapes(window=2, state=3, horizon=4, action=2)
BINS = tokens.uniform([-1.0, -2.0], [1.0, 2.0], 16)
SPREAD = Spread(np.array([-1, -2], np.float32), np.array([1, 2], np.float32), 0.8)
# Programs that run once: what would be spent on making them fast is more than they take.
quick = functools.partial(
    jax.jit,
    compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True},
)
STOCHASTIC = {"ce", "gmm", "cvae", "denoising", "ddpm", "flow", "consistency", "infonce"}


def batch(n=6):
    draw = np.random.default_rng(1)
    action = draw.uniform(-1, 1, (n, 4, 2)).astype(np.float32)
    mask = np.arange(4)[None, :] < np.arange(n)[:, None] % 4 + 1
    return Batch(draw.normal(size=(n, 2, 3)).astype(np.float32), action, mask)


def filled(objective):
    """Parameters of the right shapes, without compiling an initialisation."""
    draw = np.random.default_rng(0)
    shapes = jax.eval_shape(objective.init, jax.random.key(0))
    return jax.tree.map(lambda x: draw.normal(0, 0.3, x.shape).astype(np.float32), shapes)


@functools.cache
def everything(name):
    """All that a test looks at, in two small programs: compilation is what costs here."""
    few = {"sampling_steps": 2} if "sampling_steps" in options_of(name) else {}
    objective = make_objective(name, SHAPES, BINS, width=8, spread=SPREAD, **few)
    params, b = filled(objective), batch()
    other = b._replace(action=np.where(b.mask[..., None], b.action, np.float32(0.77)))
    score, act = quick(jax.value_and_grad(objective.loss, has_aux=True)), quick(objective.act)
    scored = [score(params, one, jax.random.key(0)) for one in (b, other)]
    (loss, metrics), gradients = jax.tree.map(lambda *x: np.stack(x), *scored)
    drawn = [np.asarray(act(params, b.observation, jax.random.key(k))) for k in (0, 1)]
    # Where nothing is the likeliest, no key means the first one.
    likely = quick(objective.act)(params, b.observation, None) if objective.likeliest else drawn[0]
    return objective, (loss, metrics, gradients, drawn, np.asarray(likely))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_masked_actions_change_nothing(name):
    _, (loss, metrics, gradients, _, _) = everything(name)
    for leaf in jax.tree.leaves((loss, metrics, gradients)):
        np.testing.assert_allclose(leaf[0], leaf[1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_loss_per_dimension_averages_to_the_loss(name):
    _, (loss, metrics, *_) = everything(name)
    assert metrics["loss_per_dimension"].shape == (2, 2)
    np.testing.assert_allclose(metrics["loss_per_dimension"].mean(1), loss, rtol=1e-5)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_gradient_reaches_every_parameter(name):
    _, (_, _, gradients, _, _) = everything(name)
    for path, leaf in jax.tree.leaves_with_path(gradients):
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 0, path


@pytest.mark.parametrize("name", OBJECTIVES)
def test_actions_have_their_shape_and_a_key_matters_where_it_should(name):
    objective, (*_, drawn, likely) = everything(name)
    assert likely.shape == drawn[0].shape == (6, 4, 2)
    assert np.isfinite(drawn).all()
    assert np.isfinite(likely).all()
    assert objective.samples == (name in STOCHASTIC) == bool(np.abs(drawn[0] - drawn[1]).max() > 1e-6)


def test_untrained_cross_entropy_is_about_log_k():
    objective = make_objective("ce", Shapes(1, 64, 1, 7), tokens.uniform([-1.0] * 7, [1.0] * 7, 256))
    draw = np.random.default_rng(2)
    b = Batch(
        draw.normal(size=(64, 1, 64)).astype(np.float32),
        draw.uniform(-1, 1, (64, 1, 7)).astype(np.float32),
        np.ones((64, 1), bool),
    )
    params = quick(objective.init)(jax.random.key(2))
    loss, _ = quick(objective.loss)(params, b, jax.random.key(0))
    # section 3.3: log 256 = 5.545
    assert float(loss) == pytest.approx(5.545, rel=0.02)


def test_samples_follow_the_logits():
    objective = make_objective("ce", Shapes(1, 2, 1, 2), BINS, width=8)
    act = quick(objective.act)
    drawn = act(filled(objective), np.ones((500, 1, 2), np.float32), jax.random.key(0))
    assert len(np.unique(np.asarray(drawn)[..., 0])) > 8  # an untrained head spreads over its 16 bins


def test_an_unknown_loss_names_the_known_ones():
    with pytest.raises(InputError, match="one of ce, mse, l1"):
        make_objective("cee", SHAPES, BINS)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("mse", {"beta": 1.0}, "--loss=cvae"),
        ("ce", {"sampler": "euler"}, "has no use for --sampler"),
        ("flow", {"noise_steps": 10}, "--loss=ddpm"),
        ("flow", {"prediction": "velocty"}, "velocity, x0, eps, v"),
        ("flow", {"sampling_steps": 0}, "1 or more"),
        ("flow", {"sampler": "adaptive", "sampling_steps": 5}, "chooses its own"),
        ("flow", {"time_direction": "backwards"}, "noise_at_1"),
        ("flow", {"time_law": "beta"}, "pi0_beta"),
        ("flow", {"sampler": "eulr"}, "ddim"),
        ("ddpm", {"prediction": "velocity"}, "eps, x0, v"),
        ("ddpm", {"sampler": "euler"}, "discrete time"),
        ("ddpm", {"noise_steps": 10, "sampling_steps": 20}, "at most 10"),
        ("ddpm", {"noise_steps": 0}, "1"),
        ("ddpm", {"noise_schedule": "linear"}, "allow_signal"),
        ("ddpm", {"min_snr": 0.0}, "above 0"),
        ("denoising", {"sigma_max": 0.0}, "sigma_min"),
        ("consistency", {"sampling_steps": 21}, "at most 20"),
        ("consistency", {"sampler": "ddmp"}, "cannot be used"),
        ("huber", {"huber_delta": 0.0}, "above 0"),
        ("gmm", {"components": 0}, "1 or more"),
        ("cvae", {"beta": -1.0}, "0 or more"),
        ("infonce", {"negatives": 0}, "1 or more"),
    ],
)
def test_bad_options_are_refused_when_the_objective_is_built(name, options, words):
    with pytest.raises(InputError) as refused:
        make_objective(name, SHAPES, BINS, **options)
    text = str(refused.value)
    assert words in text
    assert all(row in text for row in ("got:", "expected:", "likely cause:", "next step:"))


def test_a_schedule_that_leaves_signal_is_sampled_from_when_asked_for():
    objective = make_objective("ddpm", SHAPES, noise_schedule="linear", allow_signal=True)
    assert objective.sampler.process.name.startswith("diffusion, linear")


def test_a_sampler_without_steps_takes_none_and_another_its_usual_number():
    calls = [make_objective("flow", SHAPES, sampler=s).sampler.calls for s in ("euler", "heun", "adaptive")]
    assert calls == [10, 20, None]
    assert make_objective("ddpm", SHAPES, noise_steps=8).sampler.calls == 8
