"""The tables of known arms, and what is refused at the door."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.kinematics.arm import arm_names, check_q, load_arm, make_arm
from ch3_jax.kinematics.canonical import canonical
from ch3_jax.kinematics.forward import forward
from ch3_jax.kinematics.jacobian import jacobian_last


def test_every_table_loads_with_source_and_limits():
    assert arm_names() == ("panda", "planar2", "ur5e", "vx300s", "wx250s", "xarm7")
    for name in arm_names():
        arm = load_arm(name)
        assert arm.name == name and arm.limits and len(arm.lower) == arm.dof == len(arm.joints)
        assert np.all(arm.lower < arm.upper)


def test_positions_by_hand():
    expected = {
        # flange straight up: 0.333 + 0.316 + 0.384 - 0.107, and 0.088 forward
        "panda": (0.088, 0, 0.926),
        "planar2": (2, 0, 0),
        # UR5e at zero: x = a2 + a3, y = -(d4 + d6), z = d1 - d5
        "ur5e": (-0.8172, -0.2329, 0.0628),
        "wx250s": (0.458325, 0, 0.36065),
        "vx300s": (0.536494, 0, 0.42705),
        # .0525 + .0775 + .076; .267 + .293 - .3425 - .097
        "xarm7": (0.206, 0, 0.1205),
    }
    with jax.enable_x64(True):
        for name, position in expected.items():
            arm = load_arm(name)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the Panda's q4 = 0 is outside the limits of its URDF
                got = forward(arm, jnp.zeros(arm.dof)).position
            np.testing.assert_allclose(got, position, atol=1e-15)


def test_limits_have_names():
    assert load_arm("panda").upper[3] == -0.0698
    assert load_arm("panda", "docs_hard").upper[3] == 0.0873
    assert load_arm("panda", "pybullet").upper[3] == 0.0
    # two sources of the ViperX agree on the direction of the elbow: [-101, 92] degrees
    np.testing.assert_allclose(load_arm("vx300s", "xacro").lower[2], load_arm("vx300s").lower[2], atol=1e-3)
    with pytest.raises(ValueError, match="docs_soft"):
        load_arm("panda", "soft")
    with pytest.raises(ValueError, match="wx250s"):
        load_arm("pandas")


def test_bad_configurations():
    arm = load_arm("panda")
    good = jnp.array([0.0, 0, 0, -1.5, 0, 1.5, 0])
    with pytest.raises(ValueError, match="has 7"):
        forward(arm, jnp.zeros(9))
    with pytest.raises(ValueError, match="has 7"):
        jax.jit(lambda q: forward(arm, q))(jnp.zeros(6))
    with pytest.raises(ValueError, match="not finite"):
        forward(arm, good.at[2].set(jnp.nan))
    with pytest.raises(TypeError, match="is a list"):
        forward(arm, [0.0] * 7)
    with pytest.raises(ValueError, match="not finite"):
        jacobian_last(arm, jnp.full((7, 3), jnp.nan))
    with pytest.raises(TypeError, match="floating"):
        forward(arm, jnp.zeros(7, jnp.int32))
    with pytest.warns(UserWarning, match="Degrees"):
        forward(arm, jnp.array([0.0, 0, 0, -90, 0, 90, 0]))
    with pytest.warns(UserWarning, match=r"panda_joint2 at 1\.9 is outside"):
        check_q(arm, good.at[1].set(1.9))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_q(arm, good)
    assert np.isnan(jax.jit(lambda q: forward(arm, q))(good.at[2].set(jnp.nan)).position).any()
    assert forward(arm, jnp.zeros((0, 7))).position.shape == (0, 3)


def test_bad_chains():
    eye, zero = np.tile(np.eye(3), (2, 1, 1)), np.zeros((2, 3))
    with pytest.raises(ValueError, match="rotation matrices"):
        make_arm("x", 2 * eye, zero, [[0, 0, 1]], ["a"])
    with pytest.raises(ValueError, match="length zero"):
        make_arm("x", eye, zero, [[0, 0, 0]], ["a"])
    with pytest.raises(ValueError, match="N rows"):
        make_arm("x", eye, zero, [[0, 0, 1], [0, 0, 1]], ["a"])
    with pytest.raises(ValueError, match=r"\(1,\)"):
        make_arm("x", eye, zero, [[0, 0, 1]], ["a"], lower=[0, 1])


def test_canonical_keeps_quarter_turns_exact():
    for name in arm_names():
        chain = canonical(load_arm(name))
        assert {abs(v) for pair in (*chain.tilt, *chain.phase, chain.start) for v in pair} <= {0.0, 1.0}, name


def test_an_arm_is_a_pytree():
    arm = load_arm("panda")
    again = jax.tree.map(lambda x: x, arm)
    assert again.joints == arm.joints and len(jax.tree.leaves(arm)) == 9
    q = jnp.array([0.1, 0.2, 0.3, -1.5, 0.5, 1.5, 0.7])
    closed = forward(arm, q)
    passed = jax.jit(forward)(arm, q)
    np.testing.assert_allclose(passed.position, closed.position, atol=5e-7)
    # two arms at once, one with a longer flange
    longer = jax.tree.map(lambda x: np.stack([x, x]), arm)
    longer.position[1, -1, 2] += 0.1
    both = jax.vmap(forward, (0, None))(longer, q)
    np.testing.assert_allclose(np.linalg.norm(both.position[1] - both.position[0]), 0.1, atol=1e-6)
