"""The contracts say what is wrong in words, and never let a broadcast through."""

import jax
import jax.numpy as jnp
import pytest

from ch3_jax import checks


def test_a_column_against_a_vector_is_refused_by_name_with_the_meaning_of_the_letters():
    with pytest.raises(
        ValueError, match=r"`target` has shape \(4, 1\), expected \(B, A\) = \(4, 7\); B batch, A"
    ):
        checks.shapes(logits=(jnp.zeros((4, 7, 3)), "B A K"), target=(jnp.zeros((4, 1)), "B A"))


def test_leading_axes_must_agree():
    checks.shapes(a=(jnp.zeros((2, 3, 5)), "... K"), b=(jnp.zeros((2, 3)), "..."))
    with pytest.raises(ValueError, match="`b` has shape"):
        checks.shapes(a=(jnp.zeros((2, 3, 5)), "... K"), b=(jnp.zeros((3, 2)), "..."))


def test_rank_is_checked():
    with pytest.raises(ValueError, match="`x` has shape"):
        checks.shapes(x=(jnp.zeros(3), "B A"))


def test_kinds():
    with pytest.raises(TypeError, match="`prediction` has dtype int32, expected floating point"):
        checks.floating(prediction=jnp.zeros(3, jnp.int32))
    with pytest.raises(TypeError, match="encode actions into bins first"):
        checks.integer(target=jnp.zeros(3))


def test_checks_work_while_tracing_and_leave_nothing_in_the_program():
    def checked(x):
        checks.shapes(x=(x, "B A"))
        checks.floating(x=x)
        return x + 1

    assert str(jax.make_jaxpr(checked)(jnp.zeros((2, 3)))) == str(
        jax.make_jaxpr(lambda x: x + 1)(jnp.zeros((2, 3)))
    )
