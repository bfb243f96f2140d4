"""The compiled part of a small run: one program for all runs that differ only in numbers.

Data, order, learning rate, parameters and keys are arguments. What is left - shapes, loss, changes of code -
is the `Kind` of a run, and each kind is compiled once, ahead of time, so that several threads can train with
the same program. The step and the dispatch are those of every other run: `training.update` and
`training.dispatch`.
"""

import functools
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ch3_jax.base import Array, Batch, Key, Params
from ch3_jax.data.shuffle import indices
from ch3_jax.data.windows import DeviceSteps, gather
from ch3_jax.faults.changes import changed_loss, changed_optimizer
from ch3_jax.faults.run import Run
from ch3_jax.objectives import Objective, Shapes, Spread, make_objective
from ch3_jax.tokens import bins as tokens
from ch3_jax.training import ema
from ch3_jax.training.dispatch import device_advance
from ch3_jax.training.optimizers import clipped_adamw
from ch3_jax.training.update import LossFn, TrainState, init_state, make_update
from ch3_jax.training.validate import make_validate

_BUILDING = threading.Lock()


class Data(NamedTuple):
    """What a program trains on: the steps, and the key of their order."""

    steps: DeviceSteps
    key: Key


class Rated(NamedTuple):
    """The memory of an optimizer whose learning rate is part of it."""

    rate: Array
    inner: optax.OptState


class Kind(NamedTuple):
    """Everything about a run that a compiled program is made for; fields as in `Run`."""

    shapes: Shapes
    loss: str
    options: tuple
    acting: tuple
    spread: tuple[tuple[float, ...], tuple[float, ...], float]
    width: int
    bins: int
    batch_size: int
    every: int
    warmup: int
    clip: float | None
    ema: float | None
    order: str
    changes: tuple
    optimizer_changes: tuple
    rows: int
    held_out: int


class Program(NamedTuple):
    """A kind of run, ready.

    Attributes:
      objective: unbroken policy and loss.
      acting: the objective that acts.
      loss: as trained, with its changes.
      optimizer: learning rate -> the optimizer of the run, for those who look at it from outside.
      start: (init key, run key, rate) -> state.
      advance: (state, data) -> (state, metrics) of `every` updates.
      validate: (params, steps) -> metrics.
      batch: (data, step) -> the batch of that step.
    """

    objective: Objective
    acting: Objective
    loss: LossFn
    optimizer: Callable[[float], optax.GradientTransformation]
    start: Callable
    advance: Callable
    validate: Callable
    batch: Callable[[Data, Array], Batch]


def kind_of(run: Run, spread: Spread, rows: int, held_out: int) -> Kind:
    """The kind of a run; of the actions' range only losses that sample want to know."""
    steps = run.dataset.splits["train"]
    shapes = Shapes(run.window, steps.observation.shape[1], run.horizon, steps.action.shape[1])
    ends = ((), (), 1.0)
    if run.loss in ("flow", "ddpm", "denoising"):
        ends = tuple(spread.low.tolist()), tuple(spread.high.tolist()), float(spread.std)
    shared = {name: getattr(run, name) for name in Kind._fields if hasattr(run, name)}
    return Kind(shapes=shapes, spread=ends, rows=rows, held_out=held_out, **shared)


def program(kind: Kind) -> Program:
    """The program of a kind, compiled at its first use; safe to ask for from several threads."""
    with _BUILDING:
        return _program(kind)


def _objective(kind: Kind, options: tuple) -> Objective:
    low, high, std = kind.spread
    where = Spread(np.float32(low), np.float32(high), std) if low else None
    actions = kind.shapes.action
    bins = tokens.uniform([-1.0] * actions, [1.0] * actions, kind.bins) if kind.loss == "ce" else None
    return make_objective(kind.loss, kind.shapes, bins, width=kind.width, spread=where, **dict(options))


@functools.lru_cache(maxsize=24)
def _program(kind: Kind) -> Program:
    objective = _objective(kind, kind.options)
    loss = changed_loss(objective.loss, kind.changes)

    def plain(rate) -> optax.GradientTransformation:
        def schedule(count):
            return rate * jnp.minimum(1.0, (count + 1) / max(kind.warmup, 1))

        made = clipped_adamw(schedule, clip=kind.clip, weight_decay=0.0)
        return changed_optimizer(made, kind.optimizer_changes)

    decay = None if kind.ema is None else ema.constant_decay(kind.ema)
    optimizer = _rated(plain)
    update = make_update(loss, optimizer, ema_decay=decay)

    def fetch(data: Data, step: Array) -> Batch:
        if kind.order == "shuffled":
            index = indices(data.key, step, kind.batch_size, kind.rows)[0]
        else:
            index = (step * kind.batch_size + jnp.arange(kind.batch_size)) % kind.rows
        return gather(data.steps, index, window=kind.shapes.window, horizon=kind.shapes.horizon)

    def held_out(steps: DeviceSteps, index: Array) -> Batch:
        return gather(steps, index, window=kind.shapes.window, horizon=kind.shapes.horizon)

    def start(init_key: Key, run_key: Key, rate: Array) -> TrainState:
        state = init_state(objective.init(init_key), optimizer, run_key, ema=decay is not None)
        return state._replace(opt_state=state.opt_state._replace(rate=rate))

    key, rate = jax.random.key(0), jnp.float32(0)
    start = jax.jit(start).lower(key, key, rate).compile()
    state = start(key, key, rate)
    # The step number itself is the order: which rows it means depends on the data.
    advance = device_advance(update, lambda steps: steps[:, None], fetch, kind.every)
    data = Data(_empty(kind.rows, kind.shapes), key)
    validate = make_validate(loss, held_out, kind.held_out)
    return Program(
        objective,
        _objective(kind, kind.acting or kind.options),
        loss,
        plain,
        start,
        advance.lower(state, data).compile(),
        validate.lower(state.params, _empty(kind.held_out, kind.shapes), key).compile(),
        jax.jit(lambda data, step: fetch(data, step[None])),
    )


def _rated(make: Callable[[Any], optax.GradientTransformation]) -> optax.GradientTransformation:
    def init(params: Params) -> Rated:
        return Rated(jnp.float32(0), make(0.0).init(params))

    def update(gradients, state: Rated, params=None):
        updates, inner = make(state.rate).update(gradients, state.inner, params)
        return updates, Rated(state.rate, inner)

    return optax.GradientTransformation(init, update)


def _empty(rows: int, shapes: Shapes) -> DeviceSteps:
    return DeviceSteps(
        jnp.zeros((rows, shapes.state)),
        jnp.zeros((rows, shapes.action)),
        jnp.zeros(rows, jnp.int32),
        jnp.zeros(rows, jnp.int32),
    )
