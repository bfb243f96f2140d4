r"""Damped least squares for many arms at once: one step, written like the chain on arrays with samples last.

Minimising |e(q)|^2 / 2 for the six numbers e = (p* - p, s w(R* R^T)), with s metres per radian, gives the
step

  dq = J^T (J J^T + (k |e|^2 / 2 + eps) I)^{-1} e,       J without the columns of joints held at a limit.

The damping falls with the error, so the last steps are Newton's and converge quadratically (Chan and Lawrence
1988; Sugihara 2011). A joint at its limit is held while the gradient presses it outwards: clipping alone
lets it spoil the step of the others.

A preference pulls along the null space, dq + a (I - J^+ J)(q_0 - q), with the same solve.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ch3_jax.base import Array
from ch3_jax.kinematics import chain as kernel
from ch3_jax.kinematics.canonical import Chain

_DAMPING = 0.1
_LARGEST_STEP = 1.0  # rad or m, per joint


class Step(NamedTuple):
    """One evaluation at q and the step from there.

    Attributes:
      q: (J, T), after the step.
      position_error: (T,), m, before the step.
      orientation_error: (T,), rad, before the step; 2 tan(angle / 2), the angle itself where it is small.
      stalled: (T,) bool, the step is too small to matter: a stationary point.
      held: (T,) bool, a joint at its limit is pressed outwards.
    """

    q: Array
    position_error: Array
    orientation_error: Array
    stalled: Array
    held: Array


def error(chain: Chain, q: Array, rotation: Array, position: Array) -> tuple[Array, Array, Array]:
    """Error of position (3, T) and orientation (3, T), and J (J, 6, T).

    Args:
      chain: J joints.
      q: (J, T).
      rotation: (3, 3, T), wanted.
      position: (3, T), wanted, m.
    """
    walk = kernel.walk(chain, q)
    pairs = ((1, 2), (2, 0), (0, 1))
    # sum over columns of r_c x r*_c = 2 sin(angle) axis, divided by 1 + cos(angle): no inverse trigonometry
    crossed = [
        sum(walk.rotation[i, c] * rotation[j, c] - walk.rotation[j, c] * rotation[i, c] for c in range(3))
        for i, j in pairs
    ]
    trace = sum(walk.rotation[i, c] * rotation[i, c] for i in range(3) for c in range(3))
    turn = jnp.stack(crossed) * (2 / jnp.maximum(trace + 1, 0.2))[None]
    return position - walk.position, turn, jnp.concatenate([walk.linear, walk.angular], 1)


def step(
    chain: Chain,
    q: Array,
    rotation,
    position,
    lower,
    upper,
    scale: float,
    busy: Array,
    preference=None,
    pull: float = 0.0,
) -> Step:
    """One damped step.

    Args:
      chain: J joints.
      q: (J, T).
      rotation: (3, 3, T), wanted.
      position: (3, T), wanted, m.
      lower: (J, 1).
      upper: (J, 1).
      scale: metres per radian.
      busy: () bool, False where nobody needs the result.
      preference: (J, 1) or None.
      pull: fraction of the way to the preference.
    """
    # Each stage is a branch of the compiled program: what it computes exists once, in memory, where fused
    # expressions would be repeated for every number that is made of them.
    moved, turned, columns = _stage(busy, lambda: error(chain, q, rotation, position))
    weights = jnp.asarray([1, 1, 1, scale, scale, scale], q.dtype)

    def hold():
        e = jnp.concatenate([moved, scale * turned])
        weighted = columns * weights[None, :, None]
        gradient = sum(weighted[:, i] * e[None, i] for i in range(6))
        held = ((q <= lower) & (gradient < 0)) | ((q >= upper) & (gradient > 0))
        return e, held, jnp.where(held[:, None], 0, weighted)

    e, held, free = _stage(busy, hold)
    wanted, drift = e, None
    if preference is not None:
        drift = pull * jnp.where(held, 0, preference - q)
        wanted = e - sum(free[j] * drift[j][None] for j in range(q.shape[0]))
    squares = sum(e[i] * e[i] for i in range(6))
    damping = _DAMPING * 0.5 * squares + jnp.finfo(q.dtype).eps
    solved = _solve(free, wanted, damping)
    dq = sum(free[:, i] * solved[None, i] for i in range(6))
    dq = dq if drift is None else dq + drift
    dq = jnp.clip(dq, -_LARGEST_STEP, _LARGEST_STEP)
    after = jnp.clip(q + dq, lower, upper)
    return Step(
        after,
        jnp.sqrt(sum(moved[i] * moved[i] for i in range(3))),
        jnp.sqrt(sum(turned[i] * turned[i] for i in range(3))),
        jnp.max(jnp.abs(after - q), 0) < 1e-3,
        jnp.any(held, 0),
    )


def _stage(busy: Array, function):
    shapes = jax.eval_shape(function)
    return jax.lax.cond(busy, function, lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes))


def _solve(columns: Array, e: Array, damping: Array) -> Array:
    """(J J^T + damping I) x = e by Gauss-Jordan elimination, six steps of a compiled loop.

    The matrix is symmetric and positive definite, so no pivoting is needed.

    Args:
      columns: (J, 6, T).
      e: (6, T).
      damping: (T,).

    Returns:
      (6, T).
    """
    square = sum(columns[j][:, None] * columns[j][None] for j in range(columns.shape[0]))
    square = square + jnp.eye(6, dtype=e.dtype)[:, :, None] * damping[None, None]
    matrix = jnp.concatenate([square, e[:, None]], 1)
    rows = jnp.arange(6)[:, None, None]

    def eliminate(carry, k):
        matrix, inverse = carry
        row = jax.lax.dynamic_index_in_dim(matrix, k, 0) * inverse[None, None]
        column = jax.lax.dynamic_index_in_dim(matrix, k, 1)
        following = jnp.minimum(k + 1, 5)
        pivot = matrix[following, following] - matrix[following, k] * matrix[k, following] * inverse
        return (jnp.where(rows == k, row, matrix - column * row), 1 / pivot), None

    (matrix, _), _ = jax.lax.scan(eliminate, (matrix, 1 / matrix[0, 0]), jnp.arange(6))
    return matrix[:, 6]
