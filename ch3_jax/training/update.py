r"""The six lines, as one pure function.

  | a PyTorch loop       | here                                                       |
  | -------------------- | ---------------------------------------------------------- |
  | optimizer.zero_grad  | nothing: gradients are values, there is nothing to zero    |
  | forward, loss        | `value_and_grad(loss_fn)`, which is also                   |
  | loss.backward        | the backward pass                                          |
  | clip_grad_norm_      | first link of the optimizer's chain                        |
  | optimizer.step       | `optimizer.update` and `apply_updates`                     |
  | scheduler.step       | the schedule inside the optimizer                          |

Everything else in this file is what a run needs around them: a key for the step, norms, and the
refusal to let a non-finite number into the parameters. A step whose loss or gradient is not finite
leaves the state as it was - exactly as it was, step counter included, so that the state that a stopped
run saves is its last good one - or, where asked, is skipped and counted.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ch3_jax.base import Array, Batch, Key, Metrics, Params
from ch3_jax.numerics import mean_over, sums_of_squares, tree_norm
from ch3_jax.training.ema import Decay, average

LossFn = Callable[[Params, Batch, Key], tuple[Array, Metrics]]
Update = Callable[["TrainState", Batch], tuple["TrainState", Metrics]]


class TrainState(NamedTuple):
    """All that a step changes.

    Attributes:
      step: () int32, updates made so far.
      skipped: () int32, non-finite steps left out so far.
      key: () typed key of the run; the step's own key is `fold_in(key, step)`.
      params: float32 pytree.
      opt_state: optax's.
      ema: average of params, or None.
    """

    step: Array
    skipped: Array
    key: Key
    params: Params
    opt_state: optax.OptState
    ema: Params | None


def init_state(
    params: Params, optimizer: optax.GradientTransformation, key: Key, ema: bool = False
) -> TrainState:
    """The state before the first step; with `ema` the average starts at the parameters."""
    zero = jnp.zeros((), jnp.int32)
    # A copy, because the step donates its buffers and one buffer cannot be given away twice.
    average_params = jax.tree.map(jnp.copy, params) if ema else None
    return TrainState(zero, jnp.copy(zero), key, params, optimizer.init(params), average_params)


def make_update(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    *,
    ema_decay: Decay | None = None,
    accumulate: int = 1,
    skip_nonfinite: bool = False,
    axis: str | None = None,
) -> Update:
    """Binds a loss and an optimizer into one pure training step.

    Args:
      loss_fn: (params, batch, key) -> (scalar loss, metrics); metrics may be empty.
      optimizer: any optax transformation.
      ema_decay: step -> decay of the parameters' average; None keeps none.
      accumulate: micro-batches whose gradients are averaged before the one optimizer step; the
        leading axis of every leaf of the batch is divided by it. Micro-batches count alike, which
        equals one large batch where each has as many valid elements.
      axis: of devices that each have a part of the batch; gradients, loss and metrics are averaged over it.
      skip_nonfinite: True leaves a non-finite step out and counts it, False freezes the state at it.

    Returns:
      update(state, batch) -> (state, metrics). The metrics are `loss`, what `loss_fn` returned,
      `gradient_norm` before clipping, `gradient_norms` of each leaf, `update_ratio`
      ||d theta|| / ||theta||, and `finite`. What a caller does not use, the compiler leaves out.
    """
    value_and_grad = _accumulated(jax.value_and_grad(loss_fn, has_aux=True), accumulate)

    def update(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(state.key, state.step)
        (loss, metrics), gradients = value_and_grad(state.params, batch, key)
        if axis is not None:
            loss, metrics, gradients = mean_over((loss, metrics, gradients), axis)
        squares = sums_of_squares(gradients)
        norm = tree_norm(squares)
        finite = jnp.isfinite(norm) & jnp.isfinite(loss)

        def apply(state: TrainState) -> tuple[TrainState, Array]:
            updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
            ema = None if ema_decay is None else average(state.ema, params, ema_decay(state.step))
            ratio = tree_norm(sums_of_squares(updates)) / tree_norm(sums_of_squares(state.params))
            return TrainState(state.step + 1, state.skipped, state.key, params, opt_state, ema), ratio

        def refuse(state: TrainState) -> tuple[TrainState, Array]:
            skipped = state._replace(step=state.step + 1, skipped=state.skipped + 1)
            return skipped if skip_nonfinite else state, jnp.float32(0)

        # A branch, not a select: the branch writes in place, a select keeps the old state beside the new.
        state, ratio = jax.lax.cond(finite, apply, refuse, state)
        return state, {
            **metrics,
            "loss": loss,
            "gradient_norm": norm,
            "gradient_norms": jax.tree.map(jnp.sqrt, squares),
            "update_ratio": ratio,
            "finite": finite,
        }

    return update


def _accumulated(value_and_grad, pieces: int):
    """The same value and gradient, averaged over `pieces` micro-batches, one in memory at a time."""
    if pieces == 1:
        return value_and_grad

    def accumulated(params: Params, batch: Batch, key: Key):
        parts = jax.tree.map(lambda x: jnp.reshape(x, (pieces, x.shape[0] // pieces, *x.shape[1:])), batch)
        keys = jax.random.split(key, pieces)
        zeros = jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype),
            jax.eval_shape(value_and_grad, params, jax.tree.map(lambda x: x[0], parts), key),
        )

        def add(total, part):
            return jax.tree.map(jnp.add, total, value_and_grad(params, *part)), None

        total, _ = jax.lax.scan(add, zeros, (parts, keys))
        return jax.tree.map(lambda x: x / pieces, total)

    return accumulated
