"""Bins said one after another: the loss by hand, words before which count, a choice that hangs together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.base import Batch
from ch3_jax.environments.reach import reach
from ch3_jax.errors import InputError
from ch3_jax.objectives import Shapes, make_objective
from ch3_jax.objectives.spoken import spoken
from ch3_jax.policies.token_decoder import Size, token_decoder
from ch3_jax.reinforcement.clone import clone
from ch3_jax.tokens import bins as tokens

SHAPES, K, WORDS = Shapes(1, 3, 2, 2), 4, 12
BINS = tokens.uniform([-1.0] * 2, [1.0] * 2, K)
POLICY = token_decoder((1, 3), (2, 2), K, Size(8, 1, 2, 12), vocabulary=WORDS)
OBJECTIVE = spoken(SHAPES, BINS, POLICY, WORDS)
PARAMS = jax.tree.map(
    lambda x: np.random.default_rng(0).normal(0, 0.5, x.shape).astype(np.float32),
    jax.eval_shape(POLICY.init, jax.random.key(0)),
)
OBSERVATION = np.random.default_rng(1).normal(size=(2, 1, 3)).astype(np.float32)
# In bins 0 3 2 1 and 3 0 3 3.
ACTION = np.array([[[-0.9, 0.9], [0.1, -0.1]], [[0.6, -0.6], [0.9, 0.9]]], np.float32)


def test_the_loss_is_the_mean_of_what_each_valid_word_costs():
    mask = np.array([[True, True], [True, False]])
    loss, metrics = OBJECTIVE.loss(PARAMS, Batch(OBSERVATION, ACTION, jnp.asarray(mask)), jax.random.key(0))
    bins = np.array([[0, 3, 2, 1], [3, 0, 3, 3]])
    scores = np.asarray(POLICY.scores(PARAMS, OBSERVATION, (WORDS - 1 - bins).astype(np.int32)))
    log_prob = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    each = -np.take_along_axis(log_prob, bins[..., None], -1)[..., 0].reshape(2, 2, 2)
    assert float(loss) == pytest.approx(each[mask].mean(), rel=1e-5)
    np.testing.assert_allclose(metrics["loss_per_dimension"], each[mask].mean(0), rtol=1e-5)


def test_acting_says_the_likeliest_word_after_those_said():
    found = np.asarray(OBJECTIVE.act(PARAMS, OBSERVATION, None))
    said = np.zeros((2, 4), np.int32)
    for j in range(4):
        scores = np.asarray(POLICY.scores(PARAMS, OBSERVATION, WORDS - 1 - said))
        said[:, j] = scores[:, j].argmax(-1)
    np.testing.assert_allclose(found, tokens.decode(BINS, jnp.asarray(said.reshape(2, 2, 2))), atol=1e-6)
    assert OBJECTIVE.samples and OBJECTIVE.logits is None


def test_a_clone_of_it_is_refused():
    shapes = Shapes(1, 17, 1, 7)
    bins = tokens.uniform([-1.0] * 7, [1.0] * 7, 4)
    objective = make_objective("ce", shapes, bins, network="openvla:tiny")
    with pytest.raises(InputError, match="one after another"):
        clone("ce", objective, {}, {}, shapes, reach(), bins=bins)
