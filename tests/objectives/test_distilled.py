"""Consistency: who learns from whom, and what a perfect student is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Batch
from ch3_jax.objectives import Shapes, make_objective
from ch3_jax.objectives.distilled import POINTS, leap, levels

# Programs that run once: what would be spent on making them fast is more than they take.
quick = functools.partial(
    jax.jit,
    compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True},
)
SHAPES = Shapes(window=1, state=3, horizon=1, action=2)


def filled(objective):
    """Parameters of the right shapes, without compiling an initialisation."""
    draw = np.random.default_rng(0)
    shapes = jax.eval_shape(objective.init, jax.random.key(0))
    return jax.tree.map(lambda x: draw.normal(0, 0.3, x.shape).astype(np.float32), shapes)


def test_the_teacher_learns_from_data_alone():
    """Its gradient is the flow's own, whatever the student says."""
    b = Batch(jnp.ones((4, 1, 3)), jnp.ones((4, 1, 2)), jnp.ones((4, 1), bool))
    both, flow = (make_objective(name, SHAPES, width=8) for name in ("consistency", "flow"))
    params = filled(both)
    gradient = quick(jax.grad(lambda p, key: both.loss(p, b, key)[0]))(params, jax.random.key(1))
    alone = quick(jax.grad(lambda p, key: flow.loss(p, b, key)[0]))
    own = alone(params["flow"], jax.random.split(jax.random.key(1))[0])
    for x, y in zip(jax.tree.leaves(gradient["flow"]), jax.tree.leaves(own), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)


def test_the_first_point_of_a_path_is_inside_the_flows_time():
    """Fully compiled, n / N = 1 can end a rounding beyond 1, where a path has no time: the loss was NaN
    there."""
    b = Batch(jnp.ones((256, 1, 3)), jnp.ones((256, 1, 2)), jnp.ones((256, 1), bool))
    objective = make_objective("consistency", SHAPES, width=8)
    assert np.isfinite(jax.jit(objective.loss)(filled(objective), b, jax.random.key(1))[0])


def test_a_perfect_student_needs_one_call_and_more_do_not_hurt():
    """All data at (1, 2): the path of x ends there from everywhere."""
    goal = jnp.broadcast_to(jnp.array([1.0, 2.0]), (3, 1, 2))
    for steps in (1, 4):
        asked = []

        def student(x, share, asked=asked):
            asked.append(share)
            return goal + 0 * x

        np.testing.assert_allclose(leap(student, jax.random.key(0), (3, 1, 2), steps), goal)


def test_levels_start_at_pure_noise_and_are_those_of_the_training():
    for steps in (1, 3, POINTS):
        found = levels(steps)
        assert found[0] == 1
        assert len(found) == steps
        assert (np.diff(found) < 0).all()
        np.testing.assert_allclose(found * POINTS, np.round(found * POINTS))
