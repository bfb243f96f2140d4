r"""Inverse kinematics of many targets: which q puts the tip there, and an honest answer when none does.

Each target is solved by damped least squares from the nearest of a table of poses, then, if that fails,
from the next nearest, then from random configurations. Targets differ in how long they take, so they are not
solved in lockstep: a few hundred lanes work at once, and a lane that is finished takes the next target from
the queue. The loop is part of the compiled program, so `inverse` works under `jit` and `vmap`.

What comes back is the best configuration found, its residuals, and a status. The derivative with respect to
the target is that of the implicit function, J dq = twist of the target, of least norm among the joints
that are not at a limit; where the status is not CONVERGED there is no such function and it is NaN.

References: Chan and Lawrence (1988); Beeson and Ames (2015), TRAC-IK, for restarts and limits.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array, Key
from ch3_jax.errors import InputError
from ch3_jax.kinematics import operators, seeds
from ch3_jax.kinematics.arm import Arm, check_q
from ch3_jax.kinematics.canonical import Chain, canonical
from ch3_jax.kinematics.least_squares import step
from ch3_jax.kinematics.shapes import concrete, tails
from ch3_jax.kinematics.transforms import Pose

CONVERGED, AT_LIMIT, UNREACHABLE, OUT_OF_ITERATIONS, INVALID = range(5)
STATUS_NAMES = ("converged", "at limit", "unreachable", "out of iterations", "invalid target")

_LANES, _TAIL = 256, 16
_BURST = 3  # steps between two looks at the queue


class Solution(NamedTuple):
    """What inverse kinematics found.

    Attributes:
      q: (..., J), within the limits; the best found, whatever the status.
      position_error: (...), m, of `q`.
      orientation_error: (...), rad, of `q`.
      status: (...) int32. CONVERGED; AT_LIMIT, every attempt ended and the best one against a limit;
        UNREACHABLE, farther than the arm is long, or every attempt ended elsewhere, against no limit;
        OUT_OF_ITERATIONS, some attempt was still moving; INVALID, the target is NaN or no rotation.
      iterations: (...) int32, steps spent on the target, all attempts together.
    """

    q: Array
    position_error: Array
    orientation_error: Array
    status: Array
    iterations: Array


class Settings(NamedTuple):
    """How hard to try.

    Attributes:
      position_tolerance: m.
      orientation_tolerance: rad.
      attempts: starts per target, the first one `seed` where it is given.
      iterations: steps per attempt.
      scale: metres that one radian is worth, in the error and in the choice of the seed.
      pull: step towards `preference` along the null space, as a fraction, 0 to 1.
    """

    position_tolerance: float = 1e-4
    orientation_tolerance: float = 1e-3
    attempts: int = 24
    iterations: int = 18
    scale: float = 0.3
    pull: float = 0.0


def inverse(
    arm: Arm,
    target: Pose,
    seed: Array | None = None,
    key: Key | None = None,
    *,
    preference: Array | None = None,
    settings: Settings = Settings(),  # noqa: B008 - immutable
) -> Solution:
    """Configurations that put the tip at the targets.

    Args:
      arm: constant, without mimic joints.
      target: rotation (..., 3, 3), position (..., 3), m, base frame.
      seed: (..., J), rad, where to start first; None starts from the table.
      key: for the random restarts; None always draws the same.
      preference: (J,), rad, what to stay near with the freedom that is left; needs `settings.pull` > 0.
      settings: see `Settings`.

    Returns:
      Solution.

    Raises:
      InputError: mimic joints or variable numbers in `arm`, or a target, outside jit, that is no rotation.

    >>> from ch3_jax.kinematics.arm import load_arm
    >>> from ch3_jax.kinematics.forward import forward
    >>> arm = load_arm("panda")
    >>> there = forward(arm, jnp.array([0.3, -0.5, 0.2, -2.0, 0.1, 1.6, 0.4]))
    >>> STATUS_NAMES[inverse(arm, there).status]
    'converged'
    """
    tails(
        **{"target.rotation": (target.rotation, (3, 3), "R"), "target.position": (target.position, (3,), "m")}
    )
    if not concrete(arm) or arm.mimics:
        raise InputError(
            f"The arm {arm.name} cannot be inverted as it is.",
            got="mimic joints, or numbers that are variables",
            expected="a constant arm whose joints move on their own",
            cause="a gripper on the chain",
            fix="read_arm with a tip above the gripper; close over the arm instead of passing it",
        )
    _check_target(target)
    leading, dtype = target.position.shape[:-1], target.position.dtype
    dof = arm.dof
    key = jax.random.key(0) if key is None else key
    flat = [target.rotation.reshape(-1, 3, 3), target.position.reshape(-1, 3)]
    if seed is not None:
        check_q(arm, seed, "seed")
        flat.append(jnp.broadcast_to(seed, (*leading, dof)).reshape(-1, dof).astype(dtype))
    if 0 in leading:
        shape = jnp.zeros(leading, dtype)
        return Solution(
            jnp.zeros((*leading, dof), dtype), shape, shape, shape.astype(jnp.int32), shape.astype(jnp.int32)
        )
    wish = None if preference is None else tuple(np.asarray(preference, np.float64).tolist())
    problem = _Problem(canonical(arm), tuple(arm.lower.tolist()), tuple(arm.upper.tolist()), settings, wish)
    solution = _solve(
        problem, flat[0], flat[1], flat[2] if seed is not None else None, jax.random.key_data(key)
    )
    return jax.tree.map(lambda x: x.reshape(*leading, *x.shape[1:]), solution)


class _Problem(NamedTuple):
    """Everything that is constant while a program runs; hashable."""

    chain: Chain
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    settings: Settings
    preference: tuple[float, ...] | None


def _check_target(target: Pose) -> None:
    if not concrete(target):
        return
    rotation = np.asarray(target.rotation, np.float64).reshape(-1, 3, 3)
    error = np.abs(np.einsum("nij,nkj->nik", rotation, rotation) - np.eye(3)).max(initial=0)
    if error > 1e-3:
        raise InputError(
            "A target's rotation is not a rotation matrix.",
            got=f"R R^T differs from I by {error:.3g}",
            expected="less than 0.001",
            cause="columns and rows mixed up, a scaled matrix, a mean of rotations",
            fix="rotations.from_6d or quaternions.normalize make a rotation of what is nearly one",
        )


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _solve(problem: _Problem, rotation: Array, position: Array, seed: Array | None, key: Array) -> Solution:
    return _compiled(problem, rotation, position, seed, key)


@_solve.defjvp
def _solve_jvp(problem, primals, tangents):
    solution = _solve(problem, *primals)
    rotation_dot, position_dot = tangents[0], tangents[1]
    rotation, _, columns = operators.pose_and_jacobian(problem.chain, solution.q)
    product = sum(rotation_dot[..., :, k, None] * primals[0][..., None, :, k] for k in range(3))  # dR R^T
    omega = (
        jnp.stack(
            [
                product[:, 2, 1] - product[:, 1, 2],
                product[:, 0, 2] - product[:, 2, 0],
                product[:, 1, 0] - product[:, 0, 1],
            ],
            -1,
        )
        / 2
    )
    twist = jnp.concatenate([position_dot, omega], -1)
    lower, upper = (jnp.asarray(x, solution.q.dtype) for x in (problem.lower, problem.upper))
    free = (solution.q > lower[None]) & (solution.q < upper[None])
    columns = jnp.where(free[:, None], columns, 0)
    # least norm: dq = J^T (J J^T)^+ twist; the pseudo-inverse, because fewer than six joints may be free
    square = jnp.sum(columns[:, :, None] * columns[:, None], -1)
    tiny = 1e3 * jnp.finfo(square.dtype).eps
    force = jnp.linalg.pinv(square, rtol=tiny, hermitian=True)
    force = jnp.sum(force * twist[:, None], -1)
    dq = jnp.sum(columns * force[:, :, None], 1)
    dq = jnp.where((solution.status == CONVERGED)[:, None], dq, jnp.nan)
    zero = jnp.zeros_like(solution.position_error)
    none = np.zeros(solution.status.shape, jax.dtypes.float0)
    return solution, Solution(dq, zero, zero, none, none)


@functools.partial(jax.jit, static_argnums=0)
def _compiled(
    problem: _Problem, rotation: Array, position: Array, seed: Array | None, key: Array
) -> Solution:
    batch, dof = position.shape[0], len(problem.lower)
    dtype = position.dtype
    valid = jnp.isfinite(position).all(-1) & (jnp.abs(jnp.sum(rotation**2, (-1, -2)) - 3) < 1e-2)
    # A target that is no pose never enters a lane as it is: one NaN must not slow or spoil its neighbours.
    rotation = jnp.where(valid[:, None, None], rotation, jnp.eye(3, dtype=dtype)[None])
    position = jnp.where(valid[:, None], position, 0)
    targets = jnp.concatenate([rotation.reshape(batch, 9), position], 1).T  # (12, B)
    starts = _starts(problem, targets)
    seed = None if seed is None else seed.T
    state = _State(
        next=jnp.int32(min(_LANES, batch)),
        lanes=_fresh(problem, jnp.arange(min(_LANES, batch), dtype=jnp.int32), targets, starts, seed),
        answers=jnp.zeros((dof + 4, batch), dtype),
        round=jnp.int32(0),
    )
    work = functools.partial(_work, problem, targets, starts, seed, jax.random.wrap_key_data(key))
    state = work(state, _TAIL if batch > _TAIL else 0)
    if batch > _TAIL:
        # The last stubborn targets alone: a few lanes instead of all.
        order = jnp.argsort(state.lanes.target >= batch)[:_TAIL]
        state = work(state._replace(lanes=jax.tree.map(lambda x: x[..., order], state.lanes)), 0)
    answers = state.answers
    far = jnp.linalg.norm(position, axis=-1) > _reach(problem) + problem.settings.position_tolerance
    status = answers[dof + 2].astype(jnp.int32)
    status = jnp.where(far & (status != CONVERGED), UNREACHABLE, status)
    status = jnp.where(valid, status, INVALID)
    errors = jnp.where(valid[None], answers[dof : dof + 2], jnp.nan)
    return Solution(answers[:dof].T, errors[0], errors[1], status, answers[dof + 3].astype(jnp.int32))


class _Lanes(NamedTuple):
    target: Array  # (L,) index; B or more where the lane is idle
    attempt: Array  # (L,)
    age: Array  # (L,) steps of this attempt
    spent: Array  # (L,) steps of all attempts
    q: Array  # (J, L)
    best: Array  # (J + 4, L): q, position error, orientation error, ended, held


class _State(NamedTuple):
    next: Array
    lanes: _Lanes
    answers: Array  # (J + 4, B): q, position error, orientation error, status, steps
    round: Array


def _reach(problem: _Problem) -> float:
    """No point farther from the base's origin than this can be reached: the triangle inequality."""
    shifts = sum(float(np.linalg.norm(shift)) for shift in problem.chain.shift)
    slides = [
        max(abs(a), abs(b))
        for a, b, s in zip(problem.lower, problem.upper, problem.chain.slides, strict=True)
        if s
    ]
    return shifts + sum(slides)


def _starts(problem: _Problem, targets: Array) -> Array:
    """(GROUPS, B) rows of the table, computed in pieces that fit the cache."""
    batch, piece = targets.shape[1], 512
    table = seeds.table(problem.chain, problem.lower, problem.upper, problem.settings.scale)

    def some(start, size):
        cut = jax.lax.dynamic_slice_in_dim(targets, start, size, 1)
        return seeds.nearest(table, cut[:9].reshape(3, 3, -1), cut[9:])

    if batch <= piece:
        return some(0, batch)

    def write(i, out):
        start = jnp.minimum(i * piece, batch - piece)
        return jax.lax.dynamic_update_slice_in_dim(out, some(start, piece), start, 1)

    empty = jnp.zeros((seeds.GROUPS, batch), jnp.int32)
    return jax.lax.fori_loop(0, -(-batch // piece), write, empty)


def _fresh(problem: _Problem, target: Array, targets: Array, starts: Array, seed: Array | None) -> _Lanes:
    dof = len(problem.lower)
    zero = jnp.zeros_like(target)
    q = _start(problem, target, zero, targets, starts, seed, None)
    best = jnp.full((dof + 4, target.shape[0]), jnp.inf, targets.dtype)
    return _Lanes(target, zero, zero, zero, q, best)


def _start(problem: _Problem, target, attempt, targets, starts, seed, key) -> Array:
    """(J, L) where an attempt begins: the caller's seed, then the groups of the table, then anywhere."""
    table = seeds.table(problem.chain, problem.lower, problem.upper, problem.settings.scale)
    lane = jnp.minimum(target, targets.shape[1] - 1)
    group = attempt - (seed is not None)
    row = starts[jnp.clip(group, 0, seeds.GROUPS - 1), lane]
    q = jnp.asarray(table.q, targets.dtype)[row].T
    if key is not None:
        low, high = seeds.bounded(np.asarray(problem.lower), np.asarray(problem.upper))
        low, high = (jnp.asarray(x, targets.dtype)[:, None] for x in (low, high))
        drawn = low + (high - low) * jax.random.uniform(key, q.shape, targets.dtype)
        q = jnp.where(group >= seeds.GROUPS, drawn, q)
    return q if seed is None else jnp.where(group < 0, seed[:, lane], q)


def _work(problem: _Problem, targets, starts, seed, key, state: _State, leave: int) -> _State:
    """Bursts of steps, each followed by a look at the queue, until at most `leave` lanes are busy."""
    batch = targets.shape[1]

    def busy(state):
        return (state.next < batch) | (jnp.sum(state.lanes.target < batch) > leave)

    def burst(state):
        lanes = _advance(problem, state.lanes, targets)
        return _exchange(
            problem, state._replace(lanes=lanes, round=state.round + 1), targets, starts, seed, key
        )

    return jax.lax.while_loop(busy, burst, state)


def _advance(problem: _Problem, lanes: _Lanes, targets: Array) -> _Lanes:
    """`_BURST` steps of every lane, remembering the best configuration of each."""
    s, dtype = problem.settings, targets.dtype
    wanted = targets[:, jnp.minimum(lanes.target, targets.shape[1] - 1)]
    rotation, position = wanted[:9].reshape(3, 3, -1), wanted[9:]
    lower, upper = (jnp.asarray(x, dtype)[:, None] for x in (problem.lower, problem.upper))
    wish = (
        None if problem.preference is None or s.pull == 0 else jnp.asarray(problem.preference, dtype)[:, None]
    )
    dof, busy = len(problem.lower), jnp.any(lanes.target < targets.shape[1])

    def one(carry, _):
        q, best, spent = carry
        new = step(problem.chain, q, rotation, position, lower, upper, s.scale, busy, wish, s.pull)
        found = _cost(s, best[dof], best[dof + 1])
        now = _cost(s, new.position_error, new.orientation_error)
        # while the tolerance is not met the lower error wins; within it, with a preference, the later one
        better = (now < found) | ((now < 1) if wish is not None else False)
        row = jnp.concatenate(
            [
                q,
                jnp.stack(
                    [
                        new.position_error,
                        new.orientation_error,
                        *(x.astype(dtype) for x in (new.stalled, new.held)),
                    ]
                ),
            ]
        )
        moving = ~((found < 1) & (wish is None))
        best = jnp.where((better & moving)[None], row, best)
        return (jnp.where(moving[None], new.q, q), best, spent + moving), None

    (q, best, spent), _ = jax.lax.scan(one, (lanes.q, lanes.best, lanes.spent), None, length=_BURST)
    return lanes._replace(q=q, best=best, spent=spent, age=lanes.age + _BURST)


def _cost(s: Settings, position_error: Array, orientation_error: Array) -> Array:
    """Below 1 exactly where both tolerances are met."""
    return jnp.maximum(position_error / s.position_tolerance, orientation_error / s.orientation_tolerance)


def _exchange(problem: _Problem, state: _State, targets, starts, seed, key) -> _State:
    """Finished lanes hand in their answer and take the next target; stuck ones start again elsewhere."""
    s, lanes, dof, batch = problem.settings, state.lanes, len(problem.lower), targets.shape[1]
    reached = _cost(s, lanes.best[dof], lanes.best[dof + 1]) < 1
    expired = lanes.age >= s.iterations
    waiting = reached & (not (problem.preference is None or s.pull == 0)) & ~expired
    finished = (reached & ~waiting) | (expired & (lanes.attempt + 1 >= s.attempts))
    occupied = lanes.target < batch
    finished = finished & occupied
    failed = jnp.where(
        lanes.best[dof + 2] > 0, jnp.where(lanes.best[dof + 3] > 0, AT_LIMIT, UNREACHABLE), OUT_OF_ITERATIONS
    )
    status = jnp.where(reached, CONVERGED, failed).astype(targets.dtype)
    rows = jnp.concatenate([lanes.best[: dof + 2], status[None], lanes.spent[None].astype(targets.dtype)])
    answers = state.answers.at[:, jnp.where(finished, lanes.target, batch)].set(rows, mode="drop")
    free = finished | ~occupied
    place = state.next + jnp.cumsum(free) - 1
    target = jnp.where(free, jnp.minimum(place, batch).astype(jnp.int32), lanes.target)
    again = expired & ~free
    attempt = jnp.where(free, 0, lanes.attempt + again)
    begin = free | again
    q = _start(problem, target, attempt, targets, starts, seed, jax.random.fold_in(key, state.round))
    zero = jnp.int32(0)
    return state._replace(
        next=jnp.minimum(state.next + jnp.sum(free), batch).astype(jnp.int32),
        lanes=_Lanes(
            target=target,
            attempt=attempt,
            age=jnp.where(begin, zero, lanes.age),
            spent=jnp.where(free, zero, lanes.spent),
            q=jnp.where(begin[None], q, lanes.q),
            best=jnp.where(free[None], jnp.inf, lanes.best),
        ),
        answers=answers,
    )
