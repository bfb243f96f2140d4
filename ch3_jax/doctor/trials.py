r"""Trial steps: a patient's own loss walked by an optimizer, with all measured that checks 3 and 4 read.

Of each step from theta to theta + scale * Delta, on one batch and one key,

  before = L(theta),   promise = scale g . Delta,   rho = (before - after) / -promise

and the norms of g, Delta and theta per leaf. rho is 1 where the step does what the gradient promises, under 1
where it overshoots, negative where the loss rises although the gradient said that it falls. Two programs are
compiled, loss with gradient and the optimizer's update, and all trials of a patient share them: other starts,
batches and scales are only other arguments. Norms are taken on the host, and `ADAM` walks there, where
nothing has to be compiled.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ch3_jax.base import Array, Key, Params, PyTree
from ch3_jax.doctor.parts import path_name
from ch3_jax.doctor.patient import Patient
from ch3_jax.errors import InputError


class Walked(NamedTuple):
    """K steps, of which the first M were measured, and L leaves of parameters.

    Attributes:
      loss: (K + 1,) before each step, on its batch; the last after the last step, on the last batch.
      promise: (M,) see above.
      gradient, update, size: (M, L) norms of g, scale Delta and theta.
      lost: (M, L) share of the elements with a non-zero update that the sum left as they were.
    """

    loss: np.ndarray
    promise: np.ndarray
    gradient: np.ndarray
    update: np.ndarray
    size: np.ndarray
    lost: np.ndarray

    def rho(self, steps: int | None = None) -> float:
        """Actual over promised decrease of the first steps of a walk on one batch; NaN without a promise."""
        steps = len(self.promise) if steps is None else min(steps, len(self.promise))
        promised = -float(np.sum(self.promise[:steps]))
        return float(self.loss[0] - self.loss[steps]) / promised if promised else float("nan")


class Trial(NamedTuple):
    """A walk and where it ended."""

    params: Params
    opt_state: Any
    walked: Walked


def scalar_loss(
    patient: Patient, params: Params, batch: PyTree, loss: Callable | None = None
) -> Callable[[Params, PyTree, Key], Array]:
    """The patient's loss, or another one, as a function to one number.

    Raises:
      InputError: a loss that gives another shape, or that cannot be traced.
    """
    loss = patient.loss if loss is None else loss
    try:
        shape = jax.eval_shape(loss, params, batch, jax.random.key(0))
    except jax.errors.JAXTypeError as error:
        raise InputError(
            "the loss cannot be traced by JAX",
            got=str(error).splitlines()[0],
            expected="a pure function of arrays",
            cause="float(), np. or an if on a traced value inside the loss",
            fix="write it with jax.numpy and jnp.where",
        ) from error
    value = shape[0] if isinstance(shape, tuple) else shape
    got = getattr(value, "shape", None)
    if got != () or not jnp.issubdtype(value.dtype, jnp.floating):
        raise InputError(
            "the loss is not a scalar",
            got=f"{type(value).__name__} of shape {got}" if got is None else f"shape {got}, {value.dtype}",
            expected="one floating-point number, or (number, metrics)",
            cause="a mean that was forgotten: the loss is un-reduced",
            fix="jnp.mean(loss), over valid elements",
        )
    return _scalar(loss)


@functools.lru_cache(maxsize=8)
def _cached_scalar(loss: Callable) -> Callable:
    def scalar(params: Params, batch: PyTree, key: Key) -> Array:
        value = loss(params, batch, key)
        return value[0] if isinstance(value, tuple) else value

    return scalar


def _scalar(loss: Callable) -> Callable:
    try:
        return _cached_scalar(loss)
    except TypeError:  # A callable that cannot be hashed is compiled anew for each check.
        return _cached_scalar.__wrapped__(loss)


@functools.lru_cache(maxsize=8)
def value_and_grad(loss: Callable) -> Callable:
    """(params, batch, key) -> (loss, gradient), compiled once."""
    return jax.jit(jax.value_and_grad(loss))


@functools.lru_cache(maxsize=8)
def value(loss: Callable) -> Callable:
    """(params, batch, key) -> loss, compiled once."""
    return jax.jit(loss)


class HostMoments(NamedTuple):
    """Adam's memory, in numpy: step, first and second moment."""

    count: int
    first: list[np.ndarray]
    second: list[np.ndarray]


def _adam_init(params: Params) -> HostMoments:
    zeros = [np.zeros(np.shape(x), np.float32) for x in jax.tree.leaves(params)]
    return HostMoments(0, zeros, zeros)


def _adam_update(gradients: Params, state: HostMoments, params: Params | None = None):
    """One step of Adam at rate 1 (Kingma and Ba 2015, algorithm 1); `params` is not looked at."""
    del params
    leaves, tree = jax.tree.flatten(gradients)
    count = state.count + 1
    first, second, updates = [], [], []
    with np.errstate(over="ignore", invalid="ignore"):  # A gradient may be anything: the walk judges losses.
        for leaf, m, v in zip(leaves, state.first, state.second, strict=True):
            g = np.asarray(leaf, np.float32)
            m, v = np.float32(0.9) * m + np.float32(0.1) * g, np.float32(0.999) * v + np.float32(1e-3) * g * g
            size = np.sqrt(v / np.float32(1 - 0.999**count)) + np.float32(1e-8)
            first.append(m)
            second.append(v)
            updates.append((-m / np.float32(1 - 0.9**count) / size).astype(leaf.dtype))
    return tree.unflatten(updates), HostMoments(count, first, second)


ADAM = optax.GradientTransformation(_adam_init, _adam_update)
"""`optax.adam(1.0)` on the host: what check 3 walks with, before anything else of a run is compiled."""


def _apply_on_host(gradients, opt_state, params, loss, scale):
    """As the programs of `updater`, for `ADAM`."""
    del loss
    updates, opt_state = ADAM.update(gradients, opt_state)
    updates = jax.tree.map(lambda u: u * np.asarray(scale).astype(u.dtype), updates)
    return jax.tree.map(lambda p, u: np.asarray(p) + u, params, updates), opt_state, updates


@functools.lru_cache(maxsize=8)
def updater(optimizer: optax.GradientTransformation) -> Callable:
    """(gradients, opt_state, params, loss, scale) -> (params, opt_state, updates), compiled once."""
    if optimizer is ADAM:
        return _apply_on_host
    update_fn = optax.with_extra_args_support(optimizer).update

    def update(gradients, opt_state, params, loss, scale):
        updates, opt_state = update_fn(gradients, opt_state, params, value=loss, grad=gradients)
        updates = jax.tree.map(lambda u: u * scale.astype(u.dtype), updates)
        return optax.apply_updates(params, updates), opt_state, updates

    return jax.jit(update)


def _host(tree: PyTree) -> list[np.ndarray]:
    return [np.asarray(x, np.float32).ravel() for x in jax.tree.leaves(tree)]


def _norms(arrays: list[np.ndarray]) -> list[float]:
    return [float(np.sqrt(np.dot(x, x))) for x in arrays]


def _measure(gradients: PyTree, updates: PyTree, old: Params, new: Params) -> tuple:
    g, u, a, b = map(_host, (gradients, updates, old, new))
    lost = [float(np.mean((y == z)[x != 0])) if x.any() else 0.0 for x, y, z in zip(u, a, b, strict=True)]
    return sum(float(np.dot(x, y)) for x, y in zip(g, u, strict=True)), _norms(g), _norms(u), _norms(a), lost


def leaf_names(params: Params) -> list[str]:
    """Names of the parameters' leaves: "hidden_1/kernel", without a "params/" in front.

    >>> leaf_names({"params": {"head": {"bias": 0.0}}})
    ['head/bias']
    """
    paths = jax.tree_util.tree_flatten_with_path(params)[0]
    return [path_name(path).removeprefix("params/") for path, _ in paths]


def is_frozen(patient: Patient, name: str) -> bool:
    """Whether a leaf is declared to stand still."""
    return any(name.startswith(prefix.removeprefix("params/")) for prefix in patient.declared.frozen)


def walk(
    loss: Callable,
    optimizer: optax.GradientTransformation,
    params: Params,
    batches: list[PyTree],
    *,
    steps: int = 10,
    measured: int = 0,
    scale: float = 1.0,
    opt_state: Any = None,
    keys: Callable[[int], Key] | None = None,
) -> Trial:
    """Walks `steps` steps, over the batches in turn.

    Args:
      loss: of `scalar_loss`.
      optimizer: whose updates are multiplied by `scale`, which is its rate times `scale` for all that scale
        with the rate.
      params: the start.
      batches: all of one shape; taken again from the first when they are used up.
      steps: the walk stops early when the loss is not finite.
      measured: of the first so many steps norms are taken.
      scale: of the updates; 0 measures without moving.
      opt_state: to go on with; a fresh one by default.
      keys: step -> key; by default fold_in(key(0), step). A constant one keeps the noise fixed.

    Returns:
      A `Trial`.
    """
    keys = keys or functools.partial(jax.random.fold_in, jax.random.key(0))
    gradient_of, apply = value_and_grad(loss), updater(optimizer)
    state = optimizer.init(params) if opt_state is None else opt_state
    losses, rows, factor = [], [], jnp.float32(scale)
    for step in range(steps):
        before, gradients = gradient_of(params, batches[step % len(batches)], keys(step))
        new, state, updates = apply(gradients, state, params, before, factor)
        losses.append(float(before))
        if step < measured:
            with np.errstate(over="ignore"):  # A norm too large for float32 is infinite, as it should be.
                rows.append(_measure(gradients, updates, params, new))
        if not np.isfinite(losses[-1]):
            break
        params = new
    losses.append(float(gradient_of(params, batches[step % len(batches)], keys(step))[0]))
    promise, *norms = [np.array(x) for x in zip(*rows, strict=True)] if rows else [np.zeros(0)] * 5
    return Trial(params, state, Walked(np.array(losses), promise, *norms))
