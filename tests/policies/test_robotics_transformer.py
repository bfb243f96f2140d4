"""RT-1's transformer: who sees whom, TokenLearner by hand, the published size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.errors import InputError
from ch3_jax.policies.robotics_transformer import (
    RoboticsTransformer,
    Size,
    TokenLearner,
    robotics_transformer,
    visible,
)

quick = functools.partial(
    jax.jit,
    compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True},
)
SIZE = Size(8, 2, 2, 6, 10, 2)  # the heads' 12 numbers are neither the tokens' 8 nor the layers' 10
OUTPUTS = (1, 3, 4)
PER = 2 + 3  # tokens of one observation and its actions
DRAW = np.random.default_rng(0)
OBSERVATION = DRAW.normal(size=(2, 3, 4)).astype(np.float32)
MODULE = RoboticsTransformer(SIZE, OUTPUTS)


def make(**options):
    return robotics_transformer((3, 4), OUTPUTS, SIZE, **options)


def filled(init, scale=0.5):
    draw = np.random.default_rng(1)
    shapes = jax.eval_shape(init, jax.random.key(0))
    return jax.tree.map(lambda x: draw.normal(0, scale, x.shape).astype(x.dtype), shapes)


@pytest.fixture(scope="module")
def made():
    policy = make()
    return policy, filled(policy.init), quick(policy.apply)


def test_scores_see_the_observations_up_to_their_own(made):
    _, params, apply = made
    everywhere = quick(lambda o: MODULE.apply({"params": params}, o))
    jacobian = quick(jax.jacrev(lambda o: MODULE.apply({"params": params}, o)[:, :, 0].sum(-1)))(OBSERVATION)
    reached = np.abs(jacobian).max(-1)  # (B, W, A, B, W)
    for row in range(2):
        for number in range(3):
            seen = reached[row, :, number, row] > 1e-6
            assert (seen == np.tril(np.ones((3, 3), bool))).all()
        assert reached[row][:, :, 1 - row].max() == 0
    logits = np.asarray(everywhere(OBSERVATION))
    np.testing.assert_allclose(apply(params, OBSERVATION), logits[:, -1], rtol=1e-5, atol=1e-6)
    later = OBSERVATION.copy()
    later[:, 2] += 3
    changed = np.asarray(everywhere(later))
    np.testing.assert_allclose(changed[:, :2], logits[:, :2], rtol=1e-5, atol=1e-6)
    assert np.abs(changed[:, 2] - logits[:, 2]).min() > 0


def test_an_action_place_is_seen_at_its_own_output_alone(made):
    _, params, _ = made

    def scores(place):
        whole = MODULE.apply({"params": {**params, "place": place}}, OBSERVATION[:1])
        return jnp.reshape(whole.sum(-1), -1)  # number j of window w at 3 w + j

    reached = np.abs(quick(jax.jacrev(scores))(params["place"])).max(-1) > 1e-6  # (W A, N)
    for window in range(3):
        for number in range(3):
            # Read one place to the left: the first at the observation's last token, the others at the action
            # place before their own; the last place is read by nobody.
            expected = np.zeros(3 * PER, bool)
            for earlier in range(window + 1):
                expected[earlier * PER : earlier * PER + 2] = True
            if number:
                expected[window * PER + 2 + number - 1] = True
            assert reached[3 * window + number].tolist() == expected.tolist()


def test_the_mask_by_hand():
    # Two observations of two tokens, one action each.
    expected = [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 0, 1, 0, 0],
        [1, 1, 0, 1, 1, 0],
        [1, 1, 0, 1, 1, 1],
    ]
    assert visible(2, 2, 1).astype(int).tolist() == expected


def test_token_learner_by_hand():
    learner, tokens = TokenLearner(2), DRAW.normal(size=(2, 5, 8)).astype(np.float32)
    params = filled(lambda key: learner.init(key, tokens)["params"])
    few, maps = quick(learner.apply)({"params": params}, tokens)
    assert maps.shape == (2, 2, 5)
    np.testing.assert_allclose(np.sum(maps, -1), 1, rtol=1e-6)
    p = jax.tree.map(np.float64, params)
    x = tokens.astype(np.float64)
    centred = x - x.mean(-1, keepdims=True)
    h = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    h = (h * p["norm"]["scale"] + p["norm"]["bias"]) @ p["in"]["kernel"] + p["in"]["bias"]
    h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
    weight = np.exp(h @ p["out"]["kernel"] + p["out"]["bias"])
    weight = weight / weight.sum(1, keepdims=True)
    np.testing.assert_allclose(maps, weight.transpose(0, 2, 1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(few, np.einsum("bml,bmd->bld", weight, x), rtol=1e-4, atol=1e-5)


def test_few_numbers_are_not_made_many():
    shapes = jax.eval_shape(robotics_transformer((3, 1), OUTPUTS, SIZE).init, jax.random.key(0))
    assert shapes["place"].shape == (3 * (1 + 3), 10)


def test_the_published_size():
    policy = robotics_transformer((6, 14), (1, 11, 256), "paper")
    shapes = jax.eval_shape(policy.init, jax.random.key(0))
    count = {name: sum(x.size for x in jax.tree.leaves(tree)) for name, tree in shapes.items()}
    # attention 3 (512 x 1024 + 1024) + 1024 x 512 + 512; linear 512 x 512 + 512; two norms of 1,024
    assert count["layer_0"] == 1_575_936 + 524_800 + 262_656 + 2_048 == 2_365_440
    # norm 1,024, 512 x 64 + 64, 64 x 8 + 8: the paper says 34K
    assert count.pop("token_learner") == 1_024 + 32_832 + 520 == 34_376
    assert count.pop("direction") + count.pop("embedding") == 2 * 14 * 512
    # token 262,656, places 6 (8 + 11) 512, head 512 x 256 + 256: the paper says 19M
    assert sum(count.values()) == 8 * 2_365_440 + 262_656 + 58_368 + 131_328 == 19_375_872


def test_rematerialised_gradients_are_the_same(made):
    policy, params, _ = made
    gradients = [
        quick(jax.grad(lambda p, f=f: jnp.sum(jnp.square(f(p, OBSERVATION)))))(params)
        for f in (policy.apply, make(remat=True).apply)
    ]
    for a, b in zip(*map(jax.tree.leaves, gradients), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_bfloat16_is_near_and_not_equal(made):
    _, params, apply = made
    policy = make(dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
    shapes = jax.eval_shape(policy.init, jax.random.key(0))
    assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype("bfloat16")}
    rough, exact = (
        np.asarray(quick(policy.apply)(params, OBSERVATION)),
        np.asarray(apply(params, OBSERVATION)),
    )
    assert rough.dtype == np.float32
    assert rough.shape == (2, 1, 3, 4)
    assert 0 < np.abs(rough - exact).max() < 0.1 * np.abs(exact).max()


def test_what_cannot_be_built_is_refused_in_words():
    with pytest.raises(InputError, match="tiny, small, paper"):
        robotics_transformer((3, 4), OUTPUTS, "large")
    with pytest.raises(InputError, match="not positive"):
        robotics_transformer((3, 4), OUTPUTS, SIZE._replace(learned=0))
