"""Inverse kinematics: by hand for two links, success on reachable targets, honest statuses, the implicit
derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.kinematics import inverse as ik
from ch3_jax.kinematics.arm import load_arm, make_arm
from ch3_jax.kinematics.canonical import canonical
from ch3_jax.kinematics.forward import forward
from ch3_jax.kinematics.inverse import Settings, inverse
from ch3_jax.kinematics.jacobian import jacobian
from ch3_jax.kinematics.least_squares import step
from ch3_jax.kinematics.transforms import Pose

COUNT = 2000
LOOSE = Settings(position_tolerance=1e-3, orientation_tolerance=1e-2)


@pytest.fixture(scope="module")
def panda():
    return load_arm("panda")


def reachable(arm, n: int, seed: int = 0) -> Pose:
    q = np.random.default_rng(seed).uniform(arm.lower, arm.upper, (n, arm.dof))
    return forward(arm, jnp.asarray(q, jnp.float32))


def residuals(arm, q, target: Pose) -> tuple[np.ndarray, np.ndarray]:
    """Errors of position and angle, in float64 and numpy."""
    with jax.enable_x64(True):
        pose = forward(arm, jnp.asarray(np.asarray(q, np.float64)))
    moved = np.linalg.norm(np.asarray(pose.position) - np.asarray(target.position, np.float64), axis=-1)
    turn = np.einsum("nij,nkj->nik", np.asarray(pose.rotation), np.asarray(target.rotation, np.float64))
    return moved, np.arccos(np.clip((np.trace(turn, axis1=1, axis2=2) - 1) / 2, -1, 1))


@pytest.mark.slow
def test_two_links_by_hand():
    # the tip at (1, 1) with the last link along y: shoulder 0, elbow 90 degrees
    arm = load_arm("planar2")
    target = Pose(jnp.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), jnp.array([1.0, 1, 0]))
    found = inverse(arm, target)
    assert found.status == ik.CONVERGED
    np.testing.assert_allclose(found.q, [0, np.pi / 2], atol=2e-3)


def test_reachable_targets_are_reached_within_limits(panda):
    target = reachable(panda, COUNT)
    found = inverse(panda, target, settings=LOOSE)
    moved, turned = residuals(panda, found.q, target)
    good = (moved < 1e-3) & (turned < 1e-2)
    assert good.mean() > 0.998
    assert np.array_equal(good, np.asarray(found.status) == ik.CONVERGED)  # the status says what is so
    q = np.asarray(found.q)
    assert (q >= panda.lower.astype(np.float32)).all() and (q <= panda.upper.astype(np.float32)).all()
    np.testing.assert_allclose(found.position_error, moved, atol=1e-6)
    np.testing.assert_allclose(found.orientation_error, turned, atol=2e-3, rtol=1e-2)
    again = inverse(panda, target, settings=LOOSE)
    np.testing.assert_array_equal(again.q, found.q)


def test_statuses_are_honest(panda):
    # As many targets as in the test before, so that its program is used again.
    good = reachable(panda, COUNT)
    position = np.array(good.position)
    position[1:4] = [[2.0, 0, 0], [-0.05, 0.0, 0.33], [np.nan, 0.2, 0.4]]
    found = inverse(panda, Pose(good.rotation, jnp.asarray(position)), settings=LOOSE)
    assert found.status[0] == ik.CONVERGED and found.position_error[0] < 1e-3
    assert (
        found.status[1] == ik.UNREACHABLE and found.position_error[1] > 1
    )  # the Panda is 1.2 m long at most
    assert found.status[2] in (ik.AT_LIMIT, ik.UNREACHABLE, ik.OUT_OF_ITERATIONS)  # inside its own base
    assert found.status[3] == ik.INVALID and np.isnan(found.position_error[3])
    assert np.mean(np.asarray(found.status[4:]) == ik.CONVERGED) > 0.998  # one bad target spoils no other


@pytest.mark.slow
def test_statuses_of_a_hurry_and_of_a_limit(panda):
    hurried = inverse(panda, reachable(panda, 50), settings=LOOSE._replace(attempts=1, iterations=3))
    assert ik.OUT_OF_ITERATIONS in np.asarray(hurried.status)
    # one joint with limits of 90 degrees, asked for 135: the answer is the limit, and says so
    arm = make_arm(
        "one",
        np.tile(np.eye(3), (2, 1, 1)),
        [[0, 0, 0], [1, 0, 0]],
        [[0, 0, 1]],
        ["a"],
        lower=[-np.pi / 2],
        upper=[np.pi / 2],
    )
    c = np.float32(np.sqrt(0.5))
    beyond = Pose(jnp.array([[-c, -c, 0], [c, -c, 0], [0, 0, 1]]), jnp.array([-c, c, 0]))
    stuck = inverse(arm, beyond)
    assert stuck.status == ik.AT_LIMIT
    np.testing.assert_allclose(stuck.q, [np.pi / 2], atol=1e-6)


def test_bad_targets_and_empty_batches(panda):
    with pytest.raises(ValueError, match="not a rotation"):
        inverse(panda, Pose(2 * jnp.eye(3), jnp.zeros(3)))
    with pytest.raises(ValueError, match="target.position"):
        inverse(panda, Pose(jnp.eye(3), jnp.zeros(4)))
    with pytest.raises(ValueError, match="has 7"):
        inverse(panda, Pose(jnp.eye(3), jnp.zeros(3)), seed=jnp.zeros(6))
    none = inverse(panda, Pose(jnp.zeros((0, 3, 3)), jnp.zeros((0, 3))))
    assert none.q.shape == (0, 7) and none.status.shape == (0,)
    with pytest.raises(ValueError, match="constant arm"):
        jax.jit(lambda arm: inverse(arm, Pose(jnp.eye(3), jnp.zeros(3))))(panda)


@pytest.mark.slow
def test_a_seed_is_where_it_starts(panda):
    q = np.asarray([0.3, -0.4, 0.2, -1.8, 0.3, 1.7, 0.5], np.float32)
    target = forward(panda, jnp.asarray(q))
    found = inverse(panda, target, seed=jnp.asarray(q) + 0.02)
    assert found.status == ik.CONVERGED and found.iterations <= 6
    np.testing.assert_allclose(found.q, q, atol=0.05)


@pytest.mark.slow
def test_preference_uses_the_null_space(panda):
    target = reachable(panda, 100, 5)
    middle = (panda.lower + panda.upper) / 2
    seed = inverse(panda, target, settings=LOOSE).q
    plain = inverse(panda, target, seed=seed, settings=LOOSE)
    pulled = inverse(
        panda,
        target,
        seed=seed,
        preference=jnp.asarray(middle),
        settings=LOOSE._replace(pull=0.3, iterations=30),
    )
    both = np.asarray((plain.status == ik.CONVERGED) & (pulled.status == ik.CONVERGED))
    assert both.mean() > 0.9
    near = np.linalg.norm(np.asarray(pulled.q) - middle, axis=1)[both]
    assert np.median(near / np.linalg.norm(np.asarray(plain.q) - middle, axis=1)[both]) < 0.97


@pytest.mark.slow
def test_derivative_is_that_of_the_implicit_function():
    # a UR5e has no null space: dq = J^-1 twist, and FK of IK is the identity to first order
    arm = load_arm("ur5e")
    q = jnp.array([0.3, -1.2, 1.4, -0.7, 0.9, 0.2])
    target = forward(arm, q)
    tight = Settings(position_tolerance=1e-5, orientation_tolerance=1e-4)
    move = lambda p: inverse(arm, Pose(target.rotation, p), seed=q, settings=tight).q  # noqa: E731
    forwards, backwards = jax.jacfwd(move)(target.position), jax.jacrev(move)(target.position)
    expected = np.linalg.inv(np.asarray(jacobian(arm, move(target.position)), np.float64))[:, :3]
    np.testing.assert_allclose(forwards, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(backwards, forwards, rtol=1e-3, atol=1e-3)
    far = jax.jacfwd(lambda p: inverse(arm, Pose(target.rotation, p), seed=q).q)(jnp.array([3.0, 0, 0]))
    assert np.isnan(far).all()  # no such function there


def test_one_step_is_the_textbook_step():
    # dq = J^T (J J^T + damping I)^-1 e in numpy, away from limits
    arm = load_arm("panda")
    with jax.enable_x64(True):
        q = jnp.asarray([0.3, -0.4, 0.2, -1.8, 0.3, 1.7, 0.5])
        target = forward(arm, q + 0.01)
        columns = (x[:, None] for x in (jnp.asarray(arm.lower), jnp.asarray(arm.upper)))
        new = step(
            canonical(arm),
            q[:, None],
            target.rotation[..., None],
            target.position[:, None],
            *columns,
            0.3,
            jnp.bool_(True),
        )
        pose, j = forward(arm, q), np.asarray(jacobian(arm, q))
        turn = np.asarray(target.rotation) @ np.asarray(pose.rotation).T
        axis = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
        e = np.concatenate([target.position - pose.position, 0.3 * axis * 2 / (1 + np.trace(turn))])
        w = np.diag([1, 1, 1, 0.3, 0.3, 0.3]) @ j
        dq = w.T @ np.linalg.solve(w @ w.T + (0.05 * e @ e + np.finfo(float).eps) * np.eye(6), e)
        np.testing.assert_allclose(new.q[:, 0], q + dq, atol=1e-12)


@pytest.mark.slow
def test_vmap_and_leading_axes(panda):
    target = reachable(panda, 6)
    grid = jax.tree.map(lambda x: x.reshape(2, 3, *x.shape[1:]), target)
    found = inverse(panda, grid, settings=LOOSE)
    assert found.q.shape == (2, 3, 7) and found.status.shape == (2, 3)
    mapped = jax.vmap(lambda t: inverse(panda, t, settings=LOOSE))(grid)
    assert np.all(np.asarray(mapped.status) == ik.CONVERGED)


@pytest.mark.slow
@pytest.mark.parametrize("name", ("panda", "ur5e", "xarm7", "wx250s", "vx300s"))
def test_65536_targets(name):
    arm = load_arm(name)
    target = reachable(arm, 65_536, 7)
    found = inverse(arm, target, settings=LOOSE)
    moved, turned = residuals(arm, found.q, target)
    good = ((moved < 1e-3) & (turned < 1e-2)).mean()
    print(f"{name}: {100 * good:.3f} % of 65,536 reachable targets")
    assert good > (0.999 if name == "panda" else 0.99)
