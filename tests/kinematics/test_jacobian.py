"""Forward kinematics and Jacobians: by hand, four derivatives of one thing, every order, every way to
batch."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.spatial.transform import Rotation

from ch3_jax.kinematics import operators, rotations, transforms
from ch3_jax.kinematics.arm import arm_names, load_arm, make_arm
from ch3_jax.kinematics.chain import sin_cos
from ch3_jax.kinematics.forward import _general, forward, twist_of_slope
from ch3_jax.kinematics.jacobian import (
    jacobian,
    jacobian_last,
    manipulability,
    pose_and_jacobian,
    singular_values,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*outside the limits:UserWarning")


@pytest.fixture(
    params=(np.float32, pytest.param(np.float64, marks=pytest.mark.slow)), ids=("float32", "float64")
)
def dtype(request):
    with jax.enable_x64(request.param is np.float64):
        yield request.param


def random_q(arm, n: int, dtype=np.float32, seed: int = 0):
    low, high = np.maximum(arm.lower, -np.pi), np.minimum(arm.upper, np.pi)
    return jnp.asarray(np.random.default_rng(seed).uniform(low, high, (n, arm.dof)), dtype)


def random_arm(seed: int, kinds, **more):
    """A chain with nothing special about it: no parallel axes, no right angles."""
    rng = np.random.default_rng(seed)
    n = len(kinds)
    return make_arm(
        "random",
        Rotation.random(n + 1, rng=rng).as_matrix(),
        rng.normal(size=(n + 1, 3)) / 3,
        rng.normal(size=(n, 3)),
        more.pop("joints", [f"j{i}" for i in range(n)]),
        kinds=kinds,
        **more,
    )


MIXED = ("revolute", "prismatic", "revolute", "revolute", "prismatic", "revolute")


def product(arm, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pose and geometric Jacobian in numpy, float64, straight from the definition of the arm."""
    moving = arm.ratio * q[list(arm.source)] + arm.offset
    t, axes, origins = np.eye(4), [], []
    for i, kind in enumerate(arm.kinds):
        step = np.eye(4)
        step[:3, :3], step[:3, 3] = arm.rotation[i], arm.position[i]
        t = t @ step
        axes.append(t[:3, :3] @ arm.axis[i])
        origins.append(t[:3, 3])
        move = np.eye(4)
        if kind == "prismatic":
            move[:3, 3] = arm.axis[i] * moving[i]
        else:
            move[:3, :3] = Rotation.from_rotvec(arm.axis[i] * moving[i]).as_matrix()
        t = t @ move
    step = np.eye(4)
    step[:3, :3], step[:3, 3] = arm.rotation[-1], arm.position[-1]
    t = t @ step
    j = np.zeros((6, arm.dof))
    for i, kind in enumerate(arm.kinds):
        column = (
            [*axes[i], 0, 0, 0]
            if kind == "prismatic"
            else [*np.cross(axes[i], t[:3, 3] - origins[i]), *axes[i]]
        )
        j[:, arm.source[i]] += arm.ratio[i] * np.array(column)
    return t, j


def test_sine_and_cosine():
    x = np.concatenate([np.linspace(-20, 20, 4001), [0.0, 1e-30, 1e3, -3e3]]).astype(np.float32)
    s, c = sin_cos(jnp.asarray(x))
    np.testing.assert_allclose(s, np.sin(x.astype(np.float64)), atol=1.2e-7)
    np.testing.assert_allclose(c, np.cos(x.astype(np.float64)), atol=1.2e-7)
    np.testing.assert_allclose(sin_cos(jnp.float32(-9.9e4))[0], np.sin(-9.9e4), atol=5e-7)
    assert np.isnan(sin_cos(jnp.float32(2e5))).all() and np.isnan(sin_cos(jnp.float32(np.inf))).all()


def test_two_links_by_hand():
    # angles 90 and -90 degrees: up one metre, then along x one metre. The tip is at (1, 1); about the base
    # it moves along (-1, 1), about the elbow at (0, 1) along (0, 1).
    arm = load_arm("planar2")
    q = jnp.array([np.pi / 2, -np.pi / 2], jnp.float32)
    pose, j = pose_and_jacobian(arm, q)
    np.testing.assert_allclose(pose.position, [1, 1, 0], atol=2e-7)
    np.testing.assert_allclose(pose.rotation, np.eye(3), atol=2e-7)
    np.testing.assert_allclose(j, [[-1, 0], [1, 1], [0, 0], [0, 0], [0, 0], [1, 1]], atol=2e-7)
    # spatial: the velocity of the point at the base's origin, 0 for the first joint, (1, 0) for the elbow
    # one metre up
    np.testing.assert_allclose(jacobian(arm, q, "spatial")[:2], [[0, 1], [0, 0]], atol=3e-7)
    # manipulability of two links is l1 l2 |sin q2|: 1 here, 0 stretched
    np.testing.assert_allclose(manipulability(arm, q, "position"), 1, atol=1e-6)
    np.testing.assert_allclose(manipulability(arm, jnp.zeros(2), "position"), 0, atol=1e-6)
    np.testing.assert_allclose(
        jax.grad(lambda q: manipulability(arm, q, "position"))(jnp.array([0.3, 1.0])),
        [0, np.cos(1.0)],
        atol=1e-6,
    )


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "panda" else pytest.mark.slow) for name in arm_names()]
)
def test_pose_and_jacobian_against_numpy(name, dtype):
    arm = load_arm(name)
    q = random_q(arm, 300, dtype)
    pose, j = pose_and_jacobian(arm, q)
    expected = [product(arm, np.asarray(x, np.float64)) for x in q]
    atol = 5e-7 if dtype is np.float32 else 1e-14
    np.testing.assert_allclose(transforms.to_matrix(pose), np.stack([t for t, _ in expected]), atol=atol)
    np.testing.assert_allclose(j, np.stack([j for _, j in expected]), atol=atol)
    assert j.dtype == dtype
    last = jacobian_last(arm, q.T)
    np.testing.assert_allclose(jnp.moveaxis(last, -1, 0), j, atol=atol)


@pytest.mark.parametrize("seed", (pytest.param(0, marks=pytest.mark.slow), 1, 2))
def test_chains_with_nothing_special_slides_and_mimics(seed):
    with jax.enable_x64(True):
        mimic = {
            "joints": ["a", "b", "c"],
            "source": [0, 1, 0, 2, 1, 2],
            "ratio": [1, 1, -0.5, 2, 1, 1.0],
            "offset": [0, 0.1, 0.2, 0, 0, -1],
        }
        arms = (
            random_arm(seed, MIXED),
            random_arm(seed, MIXED, **mimic),
            random_arm(seed, ("prismatic",) * 3),
        )
        for arm in arms[seed : seed + 1]:
            q = random_q(arm, 20, np.float64, seed)
            pose, j = pose_and_jacobian(arm, q)
            for k, x in enumerate(np.asarray(q)):
                t, expected = product(arm, x)
                np.testing.assert_allclose(pose.position[k], t[:3, 3], atol=3e-14)
                np.testing.assert_allclose(pose.rotation[k], t[:3, :3], atol=3e-14)
                np.testing.assert_allclose(j[k], expected, atol=3e-14)
            both = jax.jit(lambda q, arm=arm: tuple(pose_and_jacobian(arm, q)))
            check_grads(both, (q[0],), order=2 if seed == 0 else 1)


def test_forward_reverse_analytic_numeric(dtype):
    arm = load_arm("panda")
    q = random_q(arm, 50, dtype)
    pose, j = pose_and_jacobian(arm, q)
    atol = 7e-7 if dtype is np.float32 else 2e-15
    fk = lambda q: forward(arm, q)  # noqa: E731
    for transform in (jax.jacfwd, jax.jacrev):
        slope = jax.jit(jax.vmap(transform(fk)))(q)
        assert slope.rotation.shape == (50, 3, 3, 7) and slope.position.shape == (50, 3, 7)
        np.testing.assert_allclose(twist_of_slope(pose, slope), j, atol=atol)
    h = 1e-2 if dtype is np.float32 else 1e-6
    up, down = (jax.vmap(jax.vmap(fk))(q[:, None] + s * h * jnp.eye(7, dtype=dtype)[None]) for s in (1, -1))
    numeric = jnp.swapaxes((up.position - down.position) / (2 * h), 1, 2)
    np.testing.assert_allclose(numeric, j[:, :3], atol=1e-4 if dtype is np.float32 else 1e-9)


def test_frames_are_tied_by_the_adjoint(dtype):
    arm = load_arm("panda")
    q = random_q(arm, 20, dtype)
    pose, aligned = pose_and_jacobian(arm, q)
    body, spatial = jacobian(arm, q, "body"), jacobian(arm, q, "spatial")
    atol = 1e-6 if dtype is np.float32 else 3e-15
    adjoint = np.asarray(transforms.adjoint(pose), np.float64)
    np.testing.assert_allclose(adjoint @ np.asarray(body, np.float64), spatial, atol=atol)
    np.testing.assert_allclose(
        np.asarray(pose.rotation, np.float64) @ np.asarray(body[:, 3:], np.float64), aligned[:, 3:], atol=atol
    )
    assert np.median(np.abs(spatial - aligned).max((1, 2))) > 0.3  # not a detail
    with pytest.raises(ValueError, match="aligned, spatial, body"):
        jacobian(arm, q, "world")


@pytest.mark.slow
def test_derivative_of_a_rotation_vector_is_not_the_angular_velocity():
    arm = load_arm("panda")
    with jax.enable_x64(True):
        q = random_q(arm, 1, np.float64)[0]
        vector = jax.jit(lambda q: rotations.log(forward(arm, q).rotation))
        slope, w = jax.jit(jax.jacfwd(vector))(q), vector(q)
        angular = jacobian(arm, q)[3:]
        assert np.abs(slope - angular).max() > 0.1
        np.testing.assert_allclose(
            np.asarray(rotations.left_jacobian(w)) @ np.asarray(slope), angular, atol=1e-13
        )


@pytest.mark.slow
def test_every_way_to_batch_is_the_same():
    arm = load_arm("panda")
    q = random_q(arm, 6).reshape(2, 3, 7)
    direct = jacobian(arm, q)
    one = jax.jit(lambda q: jacobian(arm, q))
    loop = jnp.stack([jnp.stack([one(x) for x in row]) for row in q])
    np.testing.assert_allclose(direct, loop, atol=3e-7)
    np.testing.assert_allclose(jax.vmap(lambda q: jacobian(arm, q), 1, 1)(q), direct, atol=3e-7)
    fk = lambda q: forward(arm, q).position  # noqa: E731
    inside = jax.vmap(jax.vmap(jax.jacfwd(fk)))(q)
    np.testing.assert_allclose(inside, direct[..., :3, :], atol=7e-7)
    outside = jax.jacfwd(lambda q: fk(q))(q)  # every output by every input: blocks on the diagonal
    np.testing.assert_allclose(outside[1, 2, :, 1, 2], inside[1, 2], atol=7e-7)
    assert not np.any(outside[1, 2, :, 0, 2])
    v = random_q(arm, 6, seed=1).reshape(2, 3, 7)
    push = lambda q, v: jax.jvp(fk, (q,), (v,))[1]  # noqa: E731
    expected = jnp.sum(inside * v[:, :, None], -1)
    for mapped in (jax.vmap(jax.vmap(push)), push, jax.vmap(push, 1, 1)):
        np.testing.assert_allclose(mapped(q, v), expected, atol=2e-6)
    shared = jax.vmap(jax.vmap(push, (0, None)), (0, None))(q, v[0, 0])
    np.testing.assert_allclose(shared, jnp.sum(inside * v[0, 0][None, None, None], -1), atol=2e-6)
    many = jax.vmap(push, (None, 0))(q[0], jnp.stack([v[0], v[1]]))
    np.testing.assert_allclose(many[1], jnp.sum(inside[0] * v[1][:, None], -1), atol=2e-6)
    pulled = jax.vmap(jax.grad(lambda q: jnp.sum(fk(q) ** 2)))(q.reshape(6, 7))
    np.testing.assert_allclose(pulled, jnp.sum(2 * fk(q)[..., None] * inside, -2).reshape(6, 7), atol=5e-6)


def test_tiles_do_not_show():
    arm = load_arm("panda")
    for n in (1, 1300):  # one sample, and a last tile that overlaps the one before
        q = random_q(arm, n, seed=n)
        j = jacobian(arm, q)
        np.testing.assert_allclose(j[-1], jacobian(arm, q[-1]), atol=3e-7)
        np.testing.assert_allclose(j[n // 2], jacobian(arm, q[n // 2]), atol=3e-7)
    assert jacobian(arm, jnp.zeros((0, 7))).shape == (0, 6, 7)
    assert jacobian_last(arm, jnp.zeros((7, 0))).shape == (6, 7, 0)
    with pytest.raises(ValueError, match=r"\(7, B\)"):
        jacobian_last(arm, q)
    with pytest.raises(ValueError, match="`out`"):
        jacobian_last(arm, q.T, jnp.zeros((6, 7, 3)))
    step = jax.jit(lambda out, q: jacobian_last(arm, q, out), donate_argnums=0)
    np.testing.assert_allclose(jnp.moveaxis(step(jnp.zeros((6, 7, 1300)), q.T), -1, 0), j, atol=3e-7)


@pytest.mark.slow
def test_calibration_gradients_through_a_variable_arm():
    # d tip / d flange length is the tip's z axis; the variable chain agrees with the constant one
    arm = load_arm("panda")
    q = random_q(arm, 1)[0]

    def tip(length):
        position = jnp.asarray(arm.position, jnp.float32).at[-1, 2].set(length)
        return forward(dataclasses.replace(arm, position=position), q).position

    np.testing.assert_allclose(jax.jit(jax.jacfwd(tip))(0.107), forward(arm, q).rotation[:, 2], atol=1e-6)
    np.testing.assert_allclose(
        jax.jit(lambda q: _general(arm, q))(q).position, forward(arm, q).position, atol=1e-6
    )
    np.testing.assert_allclose(jax.jit(jacobian)(arm, q), jacobian(arm, q), atol=2e-6)


def test_singular_values_and_their_slopes_stay_finite_at_a_singularity():
    arm = load_arm("planar2")
    values = singular_values(arm, jnp.zeros(2), "position")
    # stretched: columns (0, 2), (0, 1): one singular value sqrt(5), one zero
    np.testing.assert_allclose(values, [np.sqrt(5), 0], atol=1e-6)
    assert np.isfinite(jax.jacfwd(lambda q: singular_values(arm, q, "position"))(jnp.zeros(2))).all()
    with pytest.raises(ValueError, match="orientation"):
        singular_values(arm, jnp.zeros(2), "angle")


def test_the_compiled_program_stays_small():
    """No release of the compiler may blow up the chain unseen, its operations per Jacobian or its length,
    which is what takes time to compile."""
    arm, batch = load_arm("panda"), 4096
    q = jnp.zeros((batch, 7), jnp.float32)
    fk = lambda q: forward(arm, q)  # noqa: E731
    # XLA counts the body of a loop once, that is one tile of 512 samples: 370 flops are the least for a
    # Jacobian with its sines, 224 of them counted without; a chain unrolled and fused counts 9,000 and does
    # not compile in minutes. Measured: 640 and 1,450 per sample, 1,070 and 1,310 lines.
    for function, flops, lines in (
        (lambda q: jacobian(arm, q), 800, 1600),
        (jax.vmap(jax.jacfwd(fk)), 1800, 2000),
    ):
        compiled = jax.jit(function).lower(q).compile()
        assert compiled.cost_analysis()["flops"] / operators.TILE < flops
        text = compiled.as_text()
        assert text.count("\n") < lines, text.count("\n")
        assert text.count(" multiply(") < 300, text.count(" multiply(")
        memory = compiled.memory_analysis()
        assert memory.temp_size_in_bytes < 700 * batch + 3e6


@pytest.mark.slow
def test_memory_is_linear_in_the_batch():
    arm = load_arm("panda")
    f = jax.jit(lambda q: jacobian(arm, q))
    sizes = [
        f.lower(jnp.zeros((n, 7))).compile().memory_analysis().temp_size_in_bytes
        for n in (8192, 16384, 32768)
    ]
    assert abs((sizes[2] - sizes[1]) / (sizes[1] - sizes[0]) - 2) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", ("panda", "vx300s"))
def test_ten_thousand_configurations(name):
    arm = load_arm(name)
    q = random_q(arm, 10_000, np.float32, 1)
    with jax.enable_x64(True):
        q64 = jnp.asarray(np.asarray(q, np.float64))
        pose64, j64 = pose_and_jacobian(arm, q64)
    pose, j = pose_and_jacobian(arm, q)
    assert np.abs(np.asarray(pose.position) - np.asarray(pose64.position)).max() < 1e-6
    assert np.abs(np.asarray(j) - np.asarray(j64)).max() < 5e-7
    for k in range(0, 10_000, 10):
        t, expected = product(arm, np.asarray(q64[k]))
        assert np.abs(np.asarray(pose64.position[k]) - t[:3, 3]).max() < 1e-13
        assert np.abs(np.asarray(j64[k]) - expected).max() < 1e-13


def test_warnings_name_the_argument():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        forward(load_arm("ur5e"), jnp.full(6, 100.0))
    assert "Degrees" in str(seen[0].message)
