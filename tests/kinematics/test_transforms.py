"""Rigid transforms, twists and the translations between conventions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from ch3_jax.kinematics import conventions, rotations, transforms
from ch3_jax.kinematics.transforms import Pose


@pytest.fixture(
    params=(np.float32, pytest.param(np.float64, marks=pytest.mark.slow)), ids=("float32", "float64")
)
def dtype(request):
    with jax.enable_x64(request.param is np.float64):
        yield request.param


def poses(n: int, dtype, seed: int = 0) -> Pose:
    rng = np.random.default_rng(seed)
    return Pose(
        jnp.asarray(Rotation.random(n, rng=rng).as_matrix(), dtype),
        jnp.asarray(rng.normal(size=(n, 3)), dtype),
    )


def hat4(twist: np.ndarray) -> np.ndarray:
    matrix = np.zeros((4, 4))
    matrix[:3, :3], matrix[:3, 3] = np.cross(np.eye(3), twist[3:]), twist[:3]
    return matrix


def close(a: Pose, b: Pose, atol: float) -> None:
    np.testing.assert_allclose(a.rotation, b.rotation, atol=atol)
    np.testing.assert_allclose(a.position, b.position, atol=atol)


def test_group_axioms(dtype):
    a, b, c = (poses(40, dtype, seed) for seed in (1, 2, 3))
    atol = 3e-6 if dtype is np.float32 else 5e-15
    mul, inv = transforms.compose, transforms.inverse
    eye = jax.tree.map(lambda x: jnp.broadcast_to(x, (40, *x.shape)), transforms.identity(dtype))
    close(mul(mul(a, b), c), mul(a, mul(b, c)), atol)
    close(mul(a, inv(a)), eye, atol)
    close(mul(eye, a), a, 0)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(40, 3)), dtype)
    np.testing.assert_allclose(
        transforms.apply(mul(a, b), x), transforms.apply(a, transforms.apply(b, x)), atol=atol
    )
    close(transforms.from_matrix(transforms.to_matrix(a)), a, 0)
    adjoint = np.asarray(transforms.adjoint(mul(a, b)), np.float64)
    product = np.asarray(transforms.adjoint(a), np.float64) @ np.asarray(transforms.adjoint(b), np.float64)
    np.testing.assert_allclose(adjoint, product, atol=4 * atol)


@pytest.mark.parametrize("angle", (0.0, 1e-9, 1e-4, 0.3, 1.999, 2.001, 3.0, np.pi - 1e-4))
def test_exp_log_and_jacobian(dtype, angle):
    rng = np.random.default_rng(3)
    axis = rng.normal(size=3)
    twist = np.concatenate([rng.normal(size=3), angle * axis / np.linalg.norm(axis)])
    t = jnp.asarray(twist, dtype)
    atol = 2e-6 if dtype is np.float32 else 2e-14
    np.testing.assert_allclose(transforms.to_matrix(transforms.exp(t)), expm(hat4(twist)), atol=atol)
    np.testing.assert_allclose(transforms.log(transforms.exp(t)), twist, atol=atol)
    # the left Jacobian is the integral of exp(s ad): the upper right block of a larger exponential
    ad = np.zeros((6, 6))
    ad[:3, :3] = ad[3:, 3:] = np.cross(np.eye(3), twist[3:])
    ad[:3, 3:] = np.cross(np.eye(3), twist[:3])
    block = np.zeros((12, 12))
    block[:6, :6], block[:6, 6:] = ad, np.eye(6)
    np.testing.assert_allclose(transforms.left_jacobian(t), expm(block)[:6, 6:], atol=atol)
    np.testing.assert_allclose(
        transforms.adjoint(transforms.exp(t)), expm(ad), atol=atol
    )  # Ad(exp x) = exp(ad x)


def test_round_trip_has_slope_one_even_at_identity(dtype):
    t = jnp.asarray([[0, 0, 0, 0, 0, 0], [1, 2, 3, 0.3, -0.2, 0.1], [1, 2, 3, 0, 3.1, 0]], dtype)
    slope = jax.jit(jax.vmap(jax.jacrev(lambda x: transforms.log(transforms.exp(x)))))(t)
    np.testing.assert_allclose(
        slope, np.tile(np.eye(6), (3, 1, 1)), atol=1e-4 if dtype is np.float32 else 1e-12
    )


@pytest.mark.slow
def test_left_jacobian_is_the_slope_of_exp():
    # spatial twist of d exp: (dp - vee(dR R^T) x p, vee(dR R^T)) = J_l dx
    with jax.enable_x64(True):
        t = jnp.asarray([[0, 0, 0, 0, 0, 0], [1, 2, 3, 0.3, -0.2, 0.1], [1, 2, 3, 0, 3.1, 0.0]], jnp.float64)
        slopes = jax.jit(jax.vmap(jax.jacfwd(transforms.exp)))(t)
        pose = transforms.exp(t)
        for k in range(6):
            w = rotations.vee(rotations.compose(slopes.rotation[..., k], rotations.inverse(pose.rotation)))
            spatial = jnp.concatenate([slopes.position[..., k] - jnp.cross(w, pose.position), w], -1)
            np.testing.assert_allclose(spatial, transforms.left_jacobian(t)[..., k], atol=1e-13)


def test_a_quarter_turn_by_hand():
    # turn 90 degrees about z at (1, 0, 0): the frame's x axis points along y, so (1, 0, 0) there is (1, 1,
    # 0) here
    pose = Pose(jnp.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), jnp.array([1.0, 0, 0]))
    assert transforms.apply(pose, jnp.array([1.0, 0, 0])).tolist() == [1, 1, 0]
    # a twist seen in the frame: 1 m/s along its x is 1 m/s along y here; 1 rad/s about z adds p x w = (0,
    # -1, 0)
    assert (transforms.adjoint(pose) @ jnp.array([1.0, 0, 0, 0, 0, 0])).tolist() == [0, 1, 0, 0, 0, 0]
    assert (transforms.adjoint(pose) @ jnp.array([0.0, 0, 0, 0, 0, 1])).tolist() == [0, -1, 0, 0, 0, 1]


@pytest.mark.parametrize("order", ("xyz", "zyx", "ZYX", "XYZ", "zxz", "ZYZ", "yxz", "XZY", "yzy"))
def test_euler_against_scipy(dtype, order):
    angles = np.random.default_rng(5).uniform(-1.4, 1.4, (50, 3))
    if order[0] == order[2]:
        angles[:, 1] = np.abs(angles[:, 1]) + 0.1
    expected = Rotation.from_euler(order, angles).as_matrix()
    atol = 1e-6 if dtype is np.float32 else 2e-15
    got = conventions.from_euler(jnp.asarray(angles, dtype), order)
    np.testing.assert_allclose(got, expected, atol=atol)
    np.testing.assert_allclose(conventions.to_euler(got, order), angles, atol=30 * atol)


@pytest.mark.parametrize(
    "order,middle", (("xyz", np.pi / 2), ("ZYX", -np.pi / 2), ("ZYZ", 0.0), ("zxz", np.pi))
)
def test_euler_at_gimbal_lock_is_still_the_rotation(order, middle):
    with jax.enable_x64(True):
        r = conventions.from_euler(jnp.array([0.3, middle, -0.7]), order)
        np.testing.assert_allclose(
            conventions.from_euler(conventions.to_euler(r, order), order), r, atol=1e-14
        )


def test_conventions():
    pose = poses(5, np.float32)
    for order in conventions.POSE_ORDERS:
        close(conventions.pose_from_vector(conventions.vector_from_pose(pose, order), order), pose, 1e-6)
    # by hand: identity rotation at (1, 2, 3)
    pose = conventions.pose_from_vector(jnp.array([0.0, 0, 0, 1, 1, 2, 3]), "xyzw_position")
    assert pose.rotation.tolist() == np.eye(3).tolist() and pose.position.tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="unit length"):
        conventions.pose_from_vector(jnp.array([0.0, 0, 0, 1, 1, 2, 3]), "position_wxyz")
    with pytest.raises(ValueError, match="position_wxyz"):
        conventions.pose_from_vector(jnp.zeros(7), "wxyz")
    assert conventions.swap_twist(jnp.arange(6.0)).tolist() == [3, 4, 5, 0, 1, 2]
    assert conventions.xyzw_from_wxyz(jnp.arange(4.0)).tolist() == [1, 2, 3, 0]
    for wrong in ("xxy", "xY z", "xy", "abc", "Xyz"):
        with pytest.raises(ValueError, match="three axes"):
            conventions.from_euler(jnp.zeros(3), wrong)
    with pytest.raises(ValueError, match="pose.position"):
        transforms.inverse(Pose(jnp.eye(3), jnp.zeros(4)))
