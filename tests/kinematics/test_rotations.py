"""Rotation matrices, rotation vectors, quaternions, 6-D: numbers by hand, scipy, the axioms, the singular
points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from ch3_jax.kinematics import quaternions, rotations
from ch3_jax.kinematics.stumpff import stumpff

# Angles where formulas break: zero, below every small-angle switch, around it, and around pi.
ANGLES = (0.0, 1e-30, 1e-12, 1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 0.1, 0.4, 0.41, 1.0, 1.99, 2.01, 3.0)
NEAR_PI = tuple(np.pi - d for d in (1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 0.0))


@pytest.fixture(
    params=(np.float32, pytest.param(np.float64, marks=pytest.mark.slow)), ids=("float32", "float64")
)
def dtype(request):
    with jax.enable_x64(request.param is np.float64):
        yield request.param


def tolerance(dtype, float32: float, float64: float) -> float:
    return float32 if dtype is np.float32 else float64


def random_rotations(n: int, seed: int = 0) -> np.ndarray:
    return Rotation.random(n, rng=np.random.default_rng(seed)).as_matrix()


def vectors() -> np.ndarray:
    axes = np.random.default_rng(1).normal(size=(len(ANGLES + NEAR_PI), 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    return axes * np.array(ANGLES + NEAR_PI)[:, None]


def test_stumpff_against_the_definition(dtype):
    t = np.array([1e-3, 0.5, 1.9, 2.1, 3.1, 6.0])
    by_hand = [np.cos(t), np.sin(t) / t, 2 * np.sin(t / 2) ** 2 / t**2]
    for k, expected in enumerate(by_hand):
        np.testing.assert_allclose(
            stumpff(k, jnp.asarray(t**2, dtype)), expected, atol=tolerance(dtype, 3e-7, 4e-16)
        )
    # c_k(0) = 1/k!, and the recursion ties the higher ones to the lower.
    for k, factorial in enumerate((1, 1, 2, 6, 24, 120)):
        np.testing.assert_allclose(stumpff(k, dtype(0)), 1 / factorial, rtol=1e-6)
    for k in range(4):
        x = jnp.asarray([0.1, 3.9, 4.1, 30.0], dtype)
        left = stumpff(k, x) + x * stumpff(k + 2, x)
        np.testing.assert_allclose(left, 1 / [1, 1, 2, 6][k], atol=tolerance(dtype, 5e-7, 1e-15))


@pytest.mark.parametrize("k", (2, *(pytest.param(k, marks=pytest.mark.slow) for k in (0, 1, 3, 4, 5))))
def test_stumpff_slopes(dtype, k):
    slope = jax.vmap(jax.grad(lambda x: stumpff(k, x)))(jnp.asarray([0.0, 3.99, 4.01], dtype))
    # d c_k / dx at 0 is -1/(k+2)!, and there is no jump at the switch between series and closed form.
    np.testing.assert_allclose(slope[0], -1 / np.prod(np.arange(1.0, k + 3)), rtol=1e-6)
    np.testing.assert_allclose(slope[1], slope[2], rtol=2e-2, atol=1e-5)


def test_exp_against_scipy_and_expm(dtype):
    w = vectors()
    got = jax.jit(rotations.exp)(jnp.asarray(w, dtype))
    exact = Rotation.from_rotvec(w.astype(dtype).astype(np.float64)).as_matrix()
    np.testing.assert_allclose(got, exact, atol=tolerance(dtype, 4e-7, 1e-15))
    np.testing.assert_allclose(got[9], expm(np.asarray(rotations.hat(jnp.asarray(w[9])))), atol=4e-7)


def test_log_is_exact_at_both_ends(dtype):
    w = vectors().astype(dtype)
    back = np.asarray(jax.jit(lambda w: rotations.log(rotations.exp(w)))(jnp.asarray(w)))
    # at pi the sign is free: compare up to it
    flip = np.where(np.sum(back * w, -1, keepdims=True) < 0, -1, 1)
    error = np.abs(back * flip - w)
    np.testing.assert_array_less(error, tolerance(dtype, 1e-6, 5e-15))
    small = np.linalg.norm(w, axis=1) < 0.1
    relative = np.abs(back - w)[small].max(-1) / np.maximum(np.linalg.norm(w[small], axis=1), 1e-37)
    np.testing.assert_array_less(relative, tolerance(dtype, 5e-7, 1e-15))


def test_quaternion_log_at_tiny_angles_and_opposite_sign():
    # 0.2 rad about z and its negative are one rotation: naive 2 arccos(w) gives 6.083 for the second.
    q = jnp.array([np.cos(0.1), 0, 0, np.sin(0.1)], jnp.float32)
    np.testing.assert_allclose(quaternions.log(q), [0, 0, 0.2], atol=1e-7)
    np.testing.assert_allclose(quaternions.log(-q), [0, 0, 0.2], atol=1e-7)


def test_quaternions_against_scipy(dtype):
    r = random_rotations(200)
    q = np.asarray(jax.jit(quaternions.from_matrix)(jnp.asarray(r, dtype)))
    expected = np.roll(Rotation.from_matrix(r).as_quat(canonical=True), 1, -1)
    atol = tolerance(dtype, 3e-7, 1e-15)
    np.testing.assert_allclose(q, expected, atol=atol)
    np.testing.assert_allclose(quaternions.to_matrix(jnp.asarray(q)), r, atol=3 * atol)
    p = np.roll(q, 1, 0)
    product = quaternions.to_matrix(quaternions.multiply(jnp.asarray(q), jnp.asarray(p)))
    np.testing.assert_allclose(product, r @ np.roll(r, 1, 0), atol=6 * atol)
    np.testing.assert_allclose(
        jax.jit(lambda q: quaternions.exp(quaternions.log(q)))(jnp.asarray(q)),
        np.where(q[:, :1] < 0, -q, q),
        atol=2 * atol,
    )


def test_group_axioms(dtype):
    a, b, c = (jnp.asarray(random_rotations(50, seed), dtype) for seed in (1, 2, 3))
    atol = tolerance(dtype, 1e-6, 2e-15)
    mul, inv = jax.jit(rotations.compose), rotations.inverse
    eye = jnp.broadcast_to(jnp.eye(3, dtype=a.dtype), a.shape)
    np.testing.assert_allclose(mul(mul(a, b), c), mul(a, mul(b, c)), atol=atol)
    np.testing.assert_allclose(mul(a, inv(a)), eye, atol=atol)
    np.testing.assert_allclose(mul(a, eye), a, atol=0)
    np.testing.assert_allclose(inv(mul(a, b)), mul(inv(b), inv(a)), atol=atol)
    log, exp = jax.jit(rotations.log), jax.jit(rotations.exp)
    w, u = log(a), log(b)
    # exp(R w) = R exp(w) R^T, and [R u] = R [u] R^T
    np.testing.assert_allclose(exp(rotations.apply(a, u)), mul(mul(a, b), inv(a)), atol=atol)
    np.testing.assert_allclose(
        rotations.hat(rotations.apply(a, w)), mul(mul(a, rotations.hat(w)), inv(a)), atol=3 * atol
    )
    np.testing.assert_allclose(rotations.vee(rotations.hat(u)), u, atol=0)
    assert rotations.compose(a, b).dtype == dtype


def test_angle_at_both_ends(dtype):
    w = vectors().astype(dtype)
    got = jax.jit(lambda w: rotations.angle(rotations.exp(w)))(jnp.asarray(w))
    np.testing.assert_allclose(
        got, np.linalg.norm(w.astype(np.float64), axis=1), atol=tolerance(dtype, 5e-7, 4e-15)
    )
    assert np.isfinite(jax.jit(jax.grad(rotations.angle))(jnp.eye(3, dtype=dtype))).all()


def test_left_jacobian_is_the_derivative_of_exp(dtype):
    w = jnp.asarray(vectors(), dtype)
    slopes = jax.jit(jax.vmap(jax.jacfwd(rotations.exp)))(w)  # (n, 3, 3, 3)
    r = rotations.exp(w)
    columns = [rotations.vee(rotations.compose(slopes[..., k], rotations.inverse(r))) for k in range(3)]
    atol = tolerance(dtype, 1e-6, 5e-15)
    np.testing.assert_allclose(jnp.stack(columns, -1), rotations.left_jacobian(w), atol=atol)
    product = rotations.compose(rotations.left_jacobian(w), rotations.left_jacobian_inverse(w))
    np.testing.assert_allclose(product, jnp.broadcast_to(jnp.eye(3), product.shape), atol=atol)


def test_left_jacobian_against_the_integral(dtype):
    # J_l(w) = integral of exp(s w) ds over [0, 1] = the upper right block of exp [[W, I], [0, 0]].
    for w in vectors()[::4]:
        block = np.zeros((6, 6))
        block[:3, :3], block[:3, 3:] = np.cross(np.eye(3), w), np.eye(3)
        np.testing.assert_allclose(
            rotations.left_jacobian(jnp.asarray(w, dtype)),
            expm(block)[:3, 3:],
            atol=tolerance(dtype, 5e-7, 2e-15),
        )


def test_gradient_of_log_is_the_inverse_jacobian_even_at_zero_and_pi(dtype):
    w = jnp.asarray(np.concatenate([np.zeros((1, 3)), vectors()[:-1]]), dtype)  # without exactly pi

    def through(delta, w):
        return rotations.log(rotations.compose(rotations.exp(delta), rotations.exp(w)))

    slopes = jax.jit(jax.vmap(lambda w: jax.jacfwd(through)(jnp.zeros_like(w), w)))(w)
    error = np.abs(np.asarray(slopes - rotations.left_jacobian_inverse(w)))
    np.testing.assert_array_less(error, tolerance(dtype, 5e-6, 5e-14))
    at_pi = jnp.asarray([0, 0, np.pi], dtype)
    assert np.isfinite(jax.jit(jax.jacfwd(through))(jnp.zeros_like(at_pi), at_pi)).all()
    assert np.isfinite(jax.jit(jax.jacrev(through))(jnp.zeros_like(at_pi), at_pi)).all()


@pytest.mark.slow
def test_numeric_gradients():
    functions = {
        "exp": rotations.exp,
        "left_jacobian": rotations.left_jacobian,
        "quaternion": quaternions.exp,
        "round trip": lambda w: rotations.log(rotations.exp(w)),
    }
    with jax.enable_x64(True):
        w = jnp.asarray([[0, 0, 0], [0.3, -0.2, 0.1], [0, 3.1, 0.0], [1, 2, -1]], jnp.float64)
        for name, f in functions.items():
            check_slopes(jax.jit(jax.vmap(f)), jax.jit(jax.vmap(jax.jacfwd(f))), w, name)


def check_slopes(f, slopes, x, name: str) -> None:
    """Central differences in float64, step 1e-6: good to about 1e-9."""
    h = 1e-6
    got = np.asarray(slopes(x))
    for k in range(x.shape[1]):
        up, down = (np.asarray(f(x.at[:, k].add(s * h))) for s in (1, -1))
        np.testing.assert_allclose(got[..., k], (up - down) / (2 * h), atol=2e-9, err_msg=name)


@pytest.mark.slow
def test_second_derivatives_at_zero():
    # exp(w) = I + [w] + [w]^2 / 2 + ...: the second derivative of the entry (0, 0) = 1 - (y^2 + z^2)/2 is
    # diag(0, -1, -1)
    with jax.enable_x64(True):
        second = jax.jit(jax.hessian(lambda w: rotations.exp(w)[0, 0]))(jnp.zeros(3))
    np.testing.assert_allclose(second, np.diag([0.0, -1, -1]), atol=1e-15)


def test_six_d(dtype):
    r = jnp.asarray(random_rotations(20), dtype)
    np.testing.assert_allclose(rotations.from_6d(rotations.to_6d(r)), r, atol=tolerance(dtype, 5e-7, 1e-15))
    # by hand: columns (2,0,0) and (1,3,0) give x and y
    np.testing.assert_allclose(
        rotations.from_6d(jnp.asarray([2.0, 0, 0, 1, 3, 0], dtype)), np.eye(3), atol=1e-7
    )
    nearly = jnp.asarray([1.0, 0, 0, 1, 2e-3, 0], dtype)
    got = rotations.from_6d(nearly * 1e-20)
    np.testing.assert_allclose(rotations.compose(got, rotations.inverse(got)), np.eye(3), atol=1e-6)
    assert np.isnan(rotations.from_6d(jnp.asarray([1.0, 2, 3, 2, 4, 6], dtype))).any()
    assert np.isnan(rotations.from_6d(jnp.zeros(6, dtype))).all()


def test_bad_input():
    with pytest.raises(ValueError, match="length 2"):
        quaternions.to_matrix(jnp.array([2.0, 0, 0, 0]))
    with pytest.raises(ValueError, match="normalize"):
        quaternions.log(jnp.zeros(4))
    assert np.isnan(jax.jit(quaternions.to_matrix)(jnp.array([2.0, 0, 0, 0]))).all()
    with pytest.raises(ValueError, match=r"`w` has shape \(2, 4\)"):
        rotations.exp(jnp.zeros((2, 4)))
    with pytest.raises(ValueError, match="leading axes"):
        rotations.compose(jnp.zeros((2, 3, 3)), jnp.zeros((3, 3)))
    with pytest.raises(TypeError, match="floating"):
        rotations.exp(jnp.zeros(3, jnp.int32))
    assert np.isnan(quaternions.normalize(jnp.zeros(4))).all()
    np.testing.assert_allclose(
        quaternions.normalize(jnp.array([3e-30, 0, 4e-30, 0])), [0.6, 0, 0.8, 0], atol=1e-7
    )


def test_jit_and_vmap_agree_with_the_loop(dtype):
    w = jnp.asarray(vectors(), dtype)
    for f in (rotations.exp,):
        loop = jnp.stack([f(x) for x in w[::4]])
        np.testing.assert_allclose(jax.vmap(f)(w)[::4], loop, atol=tolerance(dtype, 2e-7, 1e-15))
        np.testing.assert_allclose(jax.jit(f)(w)[::4], loop, atol=tolerance(dtype, 2e-7, 1e-15))
