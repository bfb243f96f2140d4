"""What every loss must do, one row per loss: a new loss is a new row of `ROWS`.

Gradients against differences, mask = subset, jit = no jit, vmap = loop, and every argument changes some
output. Every row is traced into one program that is compiled once, in float64; the tests read its answers.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.losses import consistency_model, contrastive, self_supervised, supervised, variational
from ch3_jax.noise.corruption import Mix
from ch3_jax.numerics import masked_mean

B, H, A, K, M = 3, 2, 2, 5, 4
STEP = 1e-6
KEEP = np.array([True, False, True])


class Row(NamedTuple):
    """One loss.

    Attributes:
      name: of the row.
      loss: (arguments by name) -> (B, ...), un-reduced.
      arguments: name -> (B, ...) values.
      others: name -> other values for arguments that cannot be moved by a small random step.
      hyper: name -> (value, another).
      constant: arguments that must receive no gradient.
      unused: arguments that say nothing under these options, x0 where the noise is asked for; that the
        other options use them another row shows.
      alone: the loss of one sample depends on that sample alone.
    """

    name: str
    loss: Callable[..., Any]
    arguments: dict[str, np.ndarray]
    others: dict[str, np.ndarray] = {}  # noqa: RUF012 - never written to
    hyper: dict[str, tuple] = {}  # noqa: RUF012
    constant: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    alone: bool = True


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def share(seed, *shape):
    return np.random.default_rng(seed).uniform(0.3, 0.9, shape)


def simplex(seed, *shape):
    return np.random.default_rng(seed).dirichlet(np.ones(shape[-1]), shape[:-1])


PAIR = {"prediction": normal(0, B, A), "target": normal(1, B, A)}
LATENT = {"mean": normal(2, B, A), "log_std": 0.3 * normal(3, B, A)}
NOISED = {
    "predicted": normal(4, B, A),
    "x0": normal(5, B, A),
    "eps": normal(6, B, A),
    "a": share(7, B),
    "s": share(8, B),
}
BIN = {"logits": normal(9, B, A, K), "target": np.array([[0, 4], [1, 1], [2, 3]])}
OTHER_BIN = {"target": np.array([[1, 0], [2, 0], [3, 0]])}
ALLOWED = np.array([True, True, True, False, True])
HIDDEN = np.array([[True, False, True], [False, True, True], [True, True, False]])


def with_mix(loss):
    return lambda predicted, x0, eps, a, s, **hyper: loss(predicted, x0, eps, Mix(a, s), **hyper)


def cvae_per_sample(prediction, target, mean, log_std):
    terms = variational.cvae(prediction, target, mean, log_std)
    return terms.error.mean((1, 2)) + terms.kl


ROWS = [
    Row("cross_entropy", supervised.cross_entropy, BIN, OTHER_BIN, {"label_smoothing": (0.1, 0.2)}),
    Row(
        "soft_targets",
        supervised.soft_target_cross_entropy,
        {"logits": normal(9, B, A, K), "target": simplex(10, B, A, K)},
    ),
    Row(
        "masked_vocabulary",
        lambda logits, token: supervised.masked_vocabulary_cross_entropy(logits, token, jnp.asarray(ALLOWED)),
        {"logits": normal(9, B, A, K), "token": np.array([[0, 4], [1, 1], [2, 0]])},
        {"token": np.array([[1, 0], [2, 0], [4, 1]])},
    ),
    Row("squared", supervised.squared_error, PAIR),
    Row("absolute", supervised.absolute_error, PAIR),
    Row("huber", supervised.huber_error, PAIR, hyper={"delta": (0.5, 0.7)}),
    Row("gaussian_nll", supervised.gaussian_nll, LATENT | {"target": normal(11, B, A)}),
    Row(
        "mixture_nll",
        supervised.mixture_nll,
        {
            "logits": normal(12, B, M),
            "mean": normal(13, B, M, A),
            "log_std": 0.3 * normal(14, B, M, A),
            "target": normal(15, B, A),
        },
    ),
    Row("gripper", supervised.binary_gripper, {"logit": normal(16, B), "target": share(17, B)}),
    Row("kl_to_standard_normal", variational.kl_to_standard_normal, LATENT),
    Row("elbo", variational.elbo, {"log_likelihood": normal(18, B)} | LATENT, hyper={"beta": (2.0, 3.0)}),
    Row(
        "cvae",
        cvae_per_sample,
        {"prediction": normal(19, B, H, A), "target": normal(20, B, H, A)} | LATENT,
    ),
    Row("denoising", self_supervised.denoising, {"restored": normal(0, B, A), "clean": normal(1, B, A)}),
    Row(
        "ddpm_eps",
        with_mix(self_supervised.ddpm),
        NOISED,
        hyper={"prediction": ("eps", "x0"), "gamma": (0.5, None)},
        unused=("x0",),
    ),
    Row(
        "ddpm_x0",
        with_mix(self_supervised.ddpm),
        NOISED,
        hyper={"prediction": ("x0", "v"), "gamma": (9.0, 0.5)},
        unused=("eps",),
    ),
    Row(
        "ddpm_v",
        with_mix(self_supervised.ddpm),
        NOISED,
        hyper={"prediction": ("v", "eps"), "gamma": (9.0, 0.5)},
    ),
    Row(
        "flow_matching",
        lambda predicted, x0, eps, da, ds: self_supervised.flow_matching(
            predicted, x0, eps, Mix(da, da, da, ds)
        ),
        {"predicted": normal(4, B, A), "x0": normal(5, B, A), "eps": normal(6, B, A)}
        | {"da": normal(21, B), "ds": normal(22, B)},
    ),
    Row(
        "score_matching",
        lambda score, eps, s, weighted: self_supervised.denoising_score_matching(
            score, eps, Mix(s, s), weighted=weighted
        ),
        {"score": normal(4, B, A), "eps": normal(6, B, A), "s": share(8, B)},
        hyper={"weighted": (True, False)},
    ),
    Row(
        "consistency",
        self_supervised.consistency,
        {"online": normal(0, B, A), "target": normal(1, B, A)},
        hyper={"metric": ("pseudo_huber", "squared")},
        constant=("target",),
    ),
    Row(
        "consistency_model",
        lambda output, x, a, s, **hyper: consistency_model.clean(output, x, Mix(a, s), **hyper),
        {"output": normal(0, B, A), "x": normal(1, B, A), "a": share(7, B), "s": share(8, B)},
        hyper={"data_std": (0.7, 0.9), "sigma_min": (0.01, 0.1)},
    ),
    Row(
        "teacher_step",
        lambda predicted, x, a, s, al, sl, prediction: consistency_model.teacher_step(
            prediction, predicted, x, Mix(a, s), Mix(al, sl)
        ),
        {"predicted": normal(0, B, A), "x": normal(1, B, A), "a": share(7, B), "s": share(8, B)}
        | {"al": share(23, B), "sl": share(24, B)},
        hyper={"prediction": ("v", "eps")},
    ),
    Row(
        "masked_prediction",
        self_supervised.masked_prediction,
        {"prediction": normal(25, B, 3, A), "target": normal(26, B, 3, A), "hidden": HIDDEN},
        {"hidden": ~HIDDEN},
        {"error": (supervised.squared_error, supervised.absolute_error)},
    ),
    Row(
        "info_nce",
        contrastive.info_nce,
        {"scores": normal(27, B, B)},
        hyper={"temperature": (0.5, 0.7), "symmetric": (False, True), "mask": (None, jnp.asarray(KEEP))},
        alone=False,
    ),
    Row(
        "info_nce_symmetric_learned",
        lambda left, right, log_scale: contrastive.info_nce(
            contrastive.cosine_scores(left, right),
            temperature=contrastive.learned_temperature(log_scale),
            symmetric=True,
        ),
        {"left": normal(28, B, A), "right": normal(29, B, A), "log_scale": np.array(0.7)},
        alone=False,
    ),
]


class Answers(NamedTuple):
    """What the compiled program says about one row.

    Attributes:
      value: (B, ...) of all samples.
      gradient: argument -> gradient of the weighted sum.
      numeric: argument -> directional derivative by differences.
      changed: argument or option -> (B, ...) change of the loss when it alone is another.
      subset, masked: mean over the kept samples, each for itself, and under the mask.
      masked_gradient: argument -> gradient of `masked`.
      loop: the loss sample by sample, or of two whole batches one by one.
      batched: the same by vmap.
    """

    value: Any
    gradient: dict
    numeric: dict
    changed: dict
    subset: Any
    masked: Any
    masked_gradient: dict
    loop: Any
    batched: Any


def split(row, arguments):
    moving = {n: x for n, x in arguments.items() if jnp.issubdtype(x.dtype, jnp.floating)}
    return moving, {n: x for n, x in arguments.items() if n not in moving}


def examine(row: Row, arguments, others) -> Answers:
    """All questions at once; variants are stacked, not written out, to keep the program small."""
    hyper = {name: value for name, (value, _) in row.hyper.items()}
    moving, fixed = split(row, arguments)

    def weighted(moving):
        value = row.loss(**moving, **fixed, **hyper)
        return jnp.sum(weights(value) * value), value

    (_, value), gradient = jax.value_and_grad(weighted, has_aux=True)(moving)
    variants = [
        arguments | {n: x + sign * STEP * direction(x)} for n, x in moving.items() for sign in (1, -1)
    ]
    variants += [arguments | {n: others[n]} for n in arguments]
    found = jax.vmap(lambda x: row.loss(**x, **hyper))(jax.tree.map(lambda *x: jnp.stack(x), *variants))
    slopes = (found[: 2 * len(moving) : 2] - found[1 : 2 * len(moving) : 2]) / (2 * STEP)
    changed = dict(zip(arguments, jnp.abs(found[2 * len(moving) :] - value[None]), strict=True))
    changed |= {
        n: jnp.abs(row.loss(**arguments, **(hyper | {n: other})) - value)
        for n, (_, other) in row.hyper.items()
    }

    def masked(moving):
        options = hyper | ({"mask": jnp.asarray(KEEP)} if "mask" in hyper else {})
        return masked_mean(row.loss(**moving, **fixed, **options), jnp.asarray(KEEP))

    kept, kept_gradient = jax.value_and_grad(masked)(moving)
    # A loss over pairs has no single samples: there two whole batches take their place.
    many = {n: x[:, None] if row.alone else jnp.stack([x, others[n]]) for n, x in arguments.items()}
    loop = jax.lax.map(lambda x: row.loss(**x, **hyper), many)
    batched = jax.vmap(lambda x: row.loss(**x, **hyper))(many)
    return Answers(
        value=value,
        gradient=gradient,
        numeric={n: jnp.sum(weights(value) * slope) for n, slope in zip(moving, slopes, strict=True)},
        changed=changed,
        subset=jnp.mean(loop[KEEP] if row.alone else row.loss(**_kept(arguments), **hyper)),
        masked=kept,
        masked_gradient=kept_gradient,
        loop=loop[:, 0] if row.alone else loop,
        batched=batched[:, 0] if row.alone else batched,
    )


def weights(value):
    return jnp.cos(jnp.arange(value.size, dtype=value.dtype)).reshape(value.shape)


def direction(x):
    return jnp.sin(1.0 + jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)


def _kept(arguments):
    """The rows and the columns of tables of pairs that the mask keeps."""
    return {n: x[KEEP][:, KEEP] if x.shape == (B, B) else x for n, x in arguments.items()}


def _others(row):
    moved = {
        n: x + 0.1 * np.abs(np.sin(1 + np.arange(x.size))).reshape(x.shape) for n, x in row.arguments.items()
    }
    return moved | row.others


@pytest.fixture(scope="module")
def answers():
    """Row -> `Answers`, all in one compilation."""
    with jax.enable_x64(True):
        given = {
            r.name: (jax.tree.map(jnp.asarray, r.arguments), jax.tree.map(jnp.asarray, _others(r)))
            for r in ROWS
        }
        program = jax.jit(
            lambda given: {r.name: examine(r, *given[r.name]) for r in ROWS},
            # Run once: what matters is the time of compilation.
            compiler_options={"xla_backend_optimization_level": 0},
        )
        return jax.tree.map(np.asarray, program(given))


each = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


@each
def test_gradients_are_differences(row, answers):
    found = answers[row.name]
    for name, gradient in found.gradient.items():
        if name in row.constant + row.unused:
            assert not gradient.any()
            continue
        expected = np.sum(gradient * np.asarray(direction(jnp.asarray(gradient))))
        np.testing.assert_allclose(expected, found.numeric[name], rtol=1e-5, atol=1e-7, err_msg=name)
        assert np.abs(gradient).max() > 1e-3, f"no gradient reaches {name}"


@each
def test_every_argument_changes_some_output(row, answers):
    quiet = [name for name, change in answers[row.name].changed.items() if not change.max() > 1e-6]
    assert quiet == list(row.unused)


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.alone or "mask" in row.hyper], ids=lambda r: r.name
)
def test_a_mask_is_a_subset(row, answers):
    found = answers[row.name]
    np.testing.assert_allclose(found.masked, found.subset, rtol=1e-12)
    for name, gradient in found.masked_gradient.items():
        dropped = gradient[~KEEP]
        assert not dropped.any(), f"{name} of a masked sample is trained"


@each
def test_vmap_is_a_loop(row, answers):
    found = answers[row.name]
    np.testing.assert_allclose(found.batched, found.loop, rtol=1e-12)
    if row.alone:
        np.testing.assert_allclose(found.batched, found.value, rtol=1e-12)


@each
def test_jit_is_no_jit(row, answers):
    hyper = {name: value for name, (value, _) in row.hyper.items()}
    with jax.enable_x64(True):
        eager = row.loss(**jax.tree.map(jnp.asarray, row.arguments), **hyper)
    np.testing.assert_allclose(eager, answers[row.name].value, rtol=1e-12)


@each
def test_integers_and_shapes_that_would_broadcast_are_refused(row):
    """Every float argument as integers, and with a batch of 1 against the others' of B, is refused."""
    hyper = {name: value for name, (value, _) in row.hyper.items()}
    arguments = jax.tree.map(jnp.asarray, row.arguments)
    scalars = {name for name, x in row.arguments.items() if x.ndim < 2}
    for name in set(split(row, arguments)[0]) - scalars:
        with pytest.raises(TypeError, match="floating point"):
            row.loss(**arguments | {name: jnp.ones(arguments[name].shape, int)}, **hyper)
        with pytest.raises(ValueError, match="has shape"):
            row.loss(**arguments | {name: arguments[name][:1]}, **hyper)
