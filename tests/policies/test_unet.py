"""The U-Net: convolutions against NumPy's, who sees whom, the condition, the original's size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.errors import InputError
from ch3_jax.policies.unet import Block, Convolution, Size, Twice, mish, unet

quick = functools.partial(
    jax.jit,
    compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True},
)
DRAW = np.random.default_rng(0)
SIZE = Size((4, 8), 8, 3, 2)
O, X, ANGLE = DRAW.normal(size=(2, 2, 3)), DRAW.normal(size=(2, 4, 2)), np.array([0.3, 1.2])


def numpy_of(tree):
    return jax.tree.map(np.asarray, tree)


@pytest.mark.parametrize(("stride", "time"), [(1, 6), (2, 6), (2, 5)])
def test_shifted_copies_are_a_convolution(stride, time):
    x = DRAW.normal(size=(2, time, 3)).astype(np.float32)
    module = Convolution(4, 3, stride)
    params = numpy_of(module.init(jax.random.key(0), x)["params"]["taps"])
    kernel = params["kernel"].reshape(3, 3, 4)  # taps, in, out
    expected = jax.lax.conv_general_dilated(
        x, kernel, (stride,), [(1, 1)], dimension_numbers=("NWC", "WIO", "NWC")
    )
    found = module.apply({"params": {"taps": params}}, x)
    np.testing.assert_allclose(found, np.asarray(expected) + params["bias"], atol=1e-5)


def test_twice_is_a_transposed_convolution_of_four_taps():
    """out[o] is the sum over t of x[t] w[o + 1 - 2 t], taps 0 to 3: stride 2, padding 1."""
    x = DRAW.normal(size=(1, 3, 2)).astype(np.float32)
    params = numpy_of(Twice().init(jax.random.key(0), x)["params"])
    even, odd = (params[name]["kernel"].reshape(2, 2, 2) for name in ("even", "odd"))
    taps = {3: even[0], 1: even[1], 2: odd[0], 0: odd[1]}
    expected = np.zeros((6, 2))
    for o in range(6):
        for t in range(3):
            if 0 <= o + 1 - 2 * t <= 3:
                expected[o] += x[0, t] @ taps[o + 1 - 2 * t]
    np.testing.assert_allclose(Twice().apply({"params": params}, x)[0], expected, atol=1e-5)


def test_a_block_is_its_formula():
    x, condition = DRAW.normal(size=(2, 4, 4)).astype(np.float32), DRAW.normal(size=(2, 5)).astype(np.float32)
    module = Block(8, SIZE)
    params = numpy_of(module.init(jax.random.key(0), x, condition)["params"])

    def convolved(x, index):
        conv = Convolution(8, 3).apply({"params": params[f"conv_{index}"]}, x)
        groups = np.asarray(conv).reshape(2, 4, 2, 4)  # two groups of four channels, over time too
        mean, var = groups.mean((1, 3), keepdims=True), groups.var((1, 3), keepdims=True)
        return np.asarray(mish(((groups - mean) / np.sqrt(var + 1e-5)).reshape(2, 4, 8)))

    film = np.asarray(mish(condition)) @ params["film"]["both"]["kernel"] + params["film"]["both"]["bias"]
    inner = (1 + film[:, None, :8]) * convolved(x, 1) + film[:, None, 8:]
    around = x @ params["around"]["kernel"] + params["around"]["bias"]
    expected = convolved(inner, 2) + around
    np.testing.assert_allclose(module.apply({"params": params}, x, condition), expected, atol=2e-4)


def test_all_of_a_row_reaches_its_answer_and_nobody_elses():
    policy = unet((2, 3), (4, 2), SIZE)
    params = quick(policy.init)(jax.random.key(0))
    given = tuple(jnp.asarray(x, jnp.float32) for x in (O, X, ANGLE))
    for jacobian in quick(jax.jacrev(lambda *given: policy.apply(params, *given), (0, 1, 2)))(*given):
        size = np.abs(jacobian)  # (B, H, A, B, ...)
        for row in range(2):
            assert size[row, :, :, row].min() > 0
            assert size[row, :, :, 1 - row].max() == 0


def test_the_size_of_the_original():
    """Counted layer by layer, for 2 x 5 numbers seen and 2 of an action.

    A block i -> o with k = 5 and a condition of c = 256 + 10: (k i + 1) o + (k o + 1) o, 2 (2 o) for its
    norms, (c + 1) 2 o, and (i + 1) o for the way around where i is not o.
    """
    k, c, actions, channels = 5, 256 + 10, 2, (256, 512, 1024)

    def block(i, o):
        return (k * i + 1) * o + (k * o + 1) * o + 4 * o + (c + 1) * 2 * o + ((i + 1) * o if i != o else 0)

    level = (256 + 1) * 1024 + (1024 + 1) * 256
    down = sum(block(i, o) + block(o, o) for i, o in zip((actions, *channels), channels, strict=False))
    halves = sum((3 * o + 1) * o for o in channels[:-1])
    middle = 2 * block(1024, 1024)
    up = sum(block(2 * o, i) + block(i, i) + (4 * i + 1) * i for i, o in ((512, 1024), (256, 512)))
    last = (k * 256 + 1) * 256 + 2 * 256 + (256 + 1) * actions
    policy = unet((2, 5), (16, 2), "paper")
    count = sum(x.size for x in jax.tree.leaves(jax.eval_shape(policy.init, jax.random.key(0))))
    assert count == level + down + halves + middle + up + last


def test_half_precision_and_less_memory():
    given = tuple(jnp.asarray(x, jnp.float32) for x in (O, X, ANGLE))
    whole = unet((2, 3), (4, 2), SIZE)
    params = quick(whole.init)(jax.random.key(0))
    expected = quick(whole.apply)(params, *given)
    again = quick(unet((2, 3), (4, 2), SIZE, remat=True).apply)(params, *given)
    np.testing.assert_allclose(again, expected, atol=1e-6)
    half = unet((2, 3), (4, 2), SIZE, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
    kinds = {x.dtype for x in jax.tree.leaves(jax.eval_shape(half.init, jax.random.key(0)))}
    assert kinds == {jnp.dtype(jnp.bfloat16)}
    found = quick(half.apply)(jax.tree.map(lambda x: x.astype(jnp.bfloat16), params), *given)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, atol=0.1)


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="horizon=8"):
        unet((1, 3), (6, 2), "small")
    with pytest.raises(InputError, match="groups"):
        unet((1, 3), (4, 2), Size((4, 6), 8, 3, 4))
