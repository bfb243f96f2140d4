"""SmallPolicy is the chapter's network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.policies.small import small_policy


def test_parameter_count_of_the_chapter():
    # 64*256+256 + 256*256+256 + 7*(256*256+256) = 542,976 (the chapter prints "about 490,000")
    params = small_policy((1, 64), (1, 7, 256)).init(jax.random.key(0))
    assert sum(x.size for x in jax.tree.leaves(params)) == 542_976


def test_one_projection_is_seven_heads():
    policy = small_policy((1, 5), (1, 7, 11), width=8)
    params = policy.init(jax.random.key(0))
    observation = jax.random.normal(jax.random.key(1), (3, 1, 5))
    x = np.asarray(observation)[:, 0]
    for name in ("hidden_1", "hidden_2"):
        x = np.maximum(x @ np.asarray(params[name]["kernel"]) + np.asarray(params[name]["bias"]), 0)
    kernel = np.asarray(params["heads"]["kernel"]).reshape(8, 7, 11)
    heads = np.stack([x @ kernel[:, j] for j in range(7)], 1)[:, None]
    np.testing.assert_allclose(policy.apply(params, observation), heads, rtol=1e-5, atol=1e-6)


def test_kernels_start_as_torch_linear_does():
    kernel = small_policy((1, 64), (1, 7)).init(jax.random.key(0))["hidden_2"]["kernel"]
    # uniform in +-1/sqrt(256) = +-0.0625, standard deviation 0.0625/sqrt(3) = 0.0361
    assert float(jnp.abs(kernel).max()) <= 0.0625
    assert float(kernel.std()) == pytest.approx(0.0361, rel=0.02)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_parameters():
    policy = small_policy((1, 14), (1, 7), dtype=jnp.bfloat16)
    params = policy.init(jax.random.key(0))
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    observation = jax.random.normal(jax.random.key(1), (3, 1, 14))
    out, exact = policy.apply(params, observation), small_policy((1, 14), (1, 7)).apply(params, observation)
    assert out.dtype == jnp.float32
    assert 0 < float(jnp.abs(out - exact).max()) < 0.03


def test_samples_do_not_see_each_other():
    policy = small_policy((2, 3), (1, 4))
    params = policy.init(jax.random.key(0))
    jacobian = jax.jacrev(lambda o: policy.apply(params, o))(jax.random.normal(jax.random.key(1), (3, 2, 3)))
    assert float(jnp.abs(jacobian[0, ..., 1:, :, :]).max()) == 0
    assert float(jnp.abs(jacobian[0, ..., 0, :, :]).min()) > 0
