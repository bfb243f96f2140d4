"""Value and gradient of the losses that optax has too, on random inputs, in float32 and float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ch3_jax.losses import contrastive, supervised
from ch3_jax.probability import information

RNG = np.random.default_rng(0)
N, K = 6, 9
SCORES, OTHER = RNG.normal(size=(2, N, K))
SQUARE = RNG.normal(size=(N, N))
CLASS = RNG.integers(0, K, N).astype(np.int32)
P, Q = RNG.dirichlet(np.ones(K), (2, N))
GRIP = RNG.integers(0, 2, (N, K)).astype(float)

# name -> (ours, theirs, what is differentiated)
PAIRS = {
    "cross_entropy": (
        lambda z: supervised.cross_entropy(z, CLASS),
        lambda z: optax.softmax_cross_entropy_with_integer_labels(z, CLASS),
        SCORES,
    ),
    "cross_entropy_of_large_logits": (
        lambda z: supervised.cross_entropy(z, CLASS),
        lambda z: optax.softmax_cross_entropy_with_integer_labels(z, CLASS),
        1e3 * SCORES,
    ),
    "label_smoothing": (
        lambda z: supervised.cross_entropy(z, CLASS, label_smoothing=0.1),
        lambda z: optax.softmax_cross_entropy(
            z, optax.smooth_labels(jax.nn.one_hot(CLASS, K, dtype=z.dtype), 0.1)
        ),
        SCORES,
    ),
    "soft_targets": (
        lambda z: supervised.soft_target_cross_entropy(z, P.astype(z.dtype)),
        lambda z: optax.softmax_cross_entropy(z, P.astype(z.dtype)),
        SCORES,
    ),
    "huber": (
        lambda x: supervised.huber_error(x, OTHER.astype(x.dtype), delta=0.7),
        lambda x: optax.huber_loss(x, OTHER.astype(x.dtype), delta=0.7),
        SCORES,
    ),
    "squared": (
        lambda x: supervised.squared_error(x, OTHER.astype(x.dtype)),
        lambda x: optax.squared_error(x, OTHER.astype(x.dtype)),
        SCORES,
    ),
    "gripper": (
        lambda z: supervised.binary_gripper(z, GRIP.astype(z.dtype)),
        lambda z: optax.sigmoid_binary_cross_entropy(z, GRIP.astype(z.dtype)),
        8 * SCORES,
    ),
    "kl": (
        lambda z: information.kl_divergence(P.astype(z.dtype), z),
        lambda z: optax.kl_divergence(jax.nn.log_softmax(z), P.astype(z.dtype)),
        SCORES,
    ),
    "kl_of_probabilities": (
        lambda q: information.forward_kl(P.astype(q.dtype), q),
        lambda q: optax.kl_divergence(jnp.log(q), P.astype(q.dtype)),
        Q,
    ),
    "info_nce": (
        lambda s: contrastive.info_nce(s, temperature=0.5),
        lambda s: optax.softmax_cross_entropy_with_integer_labels(s / 0.5, jnp.arange(N)),
        SQUARE,
    ),
    "cosine": (
        lambda x: jnp.diagonal(contrastive.cosine_scores(x, OTHER.astype(x.dtype))),
        lambda x: optax.cosine_similarity(x, OTHER.astype(x.dtype)),
        SCORES,
    ),
}


@pytest.fixture(
    scope="module", params=[False, pytest.param(True, marks=pytest.mark.slow)], ids=["float32", "float64"]
)
def answers(request):
    """name -> ((value, gradient) of ours, of optax), one compilation per precision."""

    def both(loss, x):
        def total(x):
            value = loss(x)
            return jnp.sum(
                value * jnp.cos(jnp.arange(value.size, dtype=value.dtype)).reshape(value.shape)
            ), value

        gradient, value = jax.grad(total, has_aux=True)(x)
        return value, gradient

    with jax.enable_x64(request.param):
        inputs = {name: jnp.asarray(x, float) for name, (_, _, x) in PAIRS.items()}
        program = jax.jit(
            lambda given: {n: [both(f, given[n]) for f in PAIRS[n][:2]] for n in PAIRS},
            compiler_options={"xla_backend_optimization_level": 0},
        )
        found = jax.tree.map(np.asarray, program(inputs))
    return found, 1e-12 if request.param else 2e-5


@pytest.mark.parametrize("name", PAIRS)
def test_value_and_gradient(name, answers):
    (value, gradient), (other, other_gradient) = answers[0][name]
    assert value.dtype == other.dtype
    np.testing.assert_allclose(value, other, rtol=answers[1], atol=answers[1] / 10)
    np.testing.assert_allclose(gradient, other_gradient, rtol=answers[1], atol=answers[1] / 10)
