"""Networks that see more than the observation: each of their inputs matters, and only to its own row."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.policies.conditioned import conditioned_policy, level_features
from ch3_jax.policies.energy import energy_policy, features
from ch3_jax.policies.latent import latent_policy

quick = functools.partial(
    jax.jit,
    compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True},
)
DRAW = np.random.default_rng(0)


def drawn(*shape):
    return DRAW.normal(size=shape).astype(np.float32)


def filled(policy):
    shapes = jax.eval_shape(policy.init, jax.random.key(0))
    return jax.tree.map(lambda x: drawn(*x.shape), shapes)


def changed(function, inputs, position, row=1):
    """Rows of the output that change when one input changes in one row."""
    other = list(inputs)
    other[position] = np.array(other[position])
    other[position][row] += 0.5
    return np.abs(function(*inputs) - function(*other)).reshape(len(inputs[0]), -1).max(1) > 1e-6


def test_a_denoiser_sees_observation_action_and_level():
    policy = conditioned_policy((2, 3), (2, 2), width=8)
    apply = functools.partial(quick(policy.apply), filled(policy))
    inputs = drawn(3, 2, 3), drawn(3, 2, 2), np.array([0.2, 0.7, 1.5], np.float32)
    for position in range(3):
        assert changed(apply, inputs, position).tolist() == [False, True, False]


def test_levels_are_told_apart_at_both_ends():
    angles = jnp.array([0.0, 1e-3, 0.01, 0.8, 1.5, jnp.pi / 2])
    found = np.asarray(level_features(angles))
    gaps = np.abs(found[:, None] - found[None]).max(-1) + np.eye(6)
    assert gaps.min() > 0.05
    assert np.abs(found).max() <= 1 + 1e-6


def test_an_encoder_does_not_see_behind_the_end():
    encoder, decoder = latent_policy((1, 3), (2, 2), latent=4, width=8)
    encode = functools.partial(quick(encoder.apply), filled(encoder))
    observation, action, mask = drawn(3, 1, 3), drawn(3, 2, 2), np.array([[1, 1], [1, 0], [1, 1]], bool)
    hidden = np.array(action)
    hidden[1, 1] = 9.0
    np.testing.assert_array_equal(encode(observation, action, mask), encode(observation, hidden, mask))
    for position in range(2):
        inputs = observation, action
        assert changed(lambda o, a: encode(o, a, mask), inputs, position).tolist() == [False, True, False]
    decode = functools.partial(quick(decoder.apply), filled(decoder))
    for position in range(2):
        assert changed(decode, (observation, drawn(3, 4)), position).tolist() == [False, True, False]


def test_scores_are_weights_times_features_of_the_candidates():
    policy = energy_policy((1, 3), (1, 2), width=8)
    params, observation, own, shared = filled(policy), drawn(4, 1, 3), drawn(4, 1, 2), drawn(6, 1, 2)
    apply = quick(policy.apply)
    scores = np.asarray(apply(params, observation, own, shared))
    assert scores.shape == (4, 1, 2, 7)
    # The candidate 0.3 scores the same as one's own and as one of the others, whatever stands beside it.
    own[2, 0, 1] = shared[5, 0, 1] = 0.3
    again = np.asarray(apply(params, observation, own, shared))
    np.testing.assert_allclose(again[2, 0, 1, 0], again[2, 0, 1, 6], rtol=1e-4)
    np.testing.assert_array_equal(again[..., 0, :], scores[..., 0, :])
    u = np.float32(0.3)
    expected = np.concatenate(
        [[u, u * u], np.cos(np.pi * u * np.arange(1, 25)), np.sin(np.pi * u * np.arange(1, 25))]
    )
    np.testing.assert_allclose(features(jnp.asarray(u)), expected / np.sqrt(50), rtol=1e-4, atol=1e-6)
