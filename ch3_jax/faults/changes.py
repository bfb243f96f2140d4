r"""Changes of code, by name: of the loss, of the optimizer, and of what happens when a policy is served.

  loss:       (params, batch, key) -> (loss, metrics)   becomes another of the same kind
  optimizer:  an optax transformation                   becomes another
  served:     (observation, action) -> (observation, action), applied before and after the policy

Each is one mistake as it is found in code, small enough to be overlooked there.
"""

import zlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ch3_jax.base import Array, Batch, Key, Params
from ch3_jax.faults.run import Change
from ch3_jax.training.update import LossFn

# --- the loss -------------------------------------------------------------------------------------------


def _zero_inputs(loss: LossFn, share: float) -> LossFn:
    """The network is handed a tensor of which all but 1 - `share` of the dimensions were left at zero."""

    def changed(params: Params, batch: Batch, key: Key):
        seen = batch.observation
        lost = jnp.arange(seen.shape[-1]) < round(share * seen.shape[-1])
        return loss(params, batch._replace(observation=jnp.where(lost, 0, seen)), key)

    return changed


def _flip_gradient(loss: LossFn, factor: float) -> LossFn:
    """The loss is right and its gradient is `-factor` times what it should be."""

    def changed(params: Params, batch: Batch, key: Key):
        value, metrics = loss(params, batch, key)
        wrong = -factor * value
        return wrong + jax.lax.stop_gradient(value - wrong), metrics

    return changed


def _sum_over_batch(loss: LossFn, share: float) -> LossFn:
    """The sum over `share` of the batch where the mean was meant."""

    def changed(params: Params, batch: Batch, key: Key):
        value, metrics = loss(params, batch, key)
        return value * (share * batch.action.shape[0]), metrics

    return changed


def _count_padding(loss: LossFn, _: float) -> LossFn:
    """A mask under a misspelt key: steps past the end of the episode count, and stand at zero."""

    def changed(params: Params, batch: Batch, key: Key):
        filled = jnp.where(batch.mask[..., None], batch.action, 0)
        return loss(params, batch._replace(action=filled, mask=jnp.ones_like(batch.mask)), key)

    return changed


def _same_key(loss: LossFn, _: float) -> LossFn:
    """One key for all steps: the same noise, the same times, again and again."""
    return lambda params, batch, key: loss(params, batch, jax.random.key(0))


def _half_precision(loss: LossFn, scale: float) -> LossFn:
    """The loss times `scale` in float16, whose largest number is 65,504."""

    def changed(params: Params, batch: Batch, key: Key):
        value, metrics = loss(params, batch, key)
        return (value.astype(jnp.float16) * jnp.float16(scale)).astype(jnp.float32) / scale, metrics

    return changed


def _roll_targets(loss: LossFn, share: float) -> LossFn:
    """`share` of the batch is scored against the neighbour's action: an index that is off by one."""

    def changed(params: Params, batch: Batch, key: Key):
        off = jnp.arange(batch.action.shape[0]) < share * batch.action.shape[0]
        wrong = jnp.where(off[:, None, None], jnp.roll(batch.action, 1, axis=0), batch.action)
        return loss(params, batch._replace(action=wrong), key)

    return changed


def _cut_layers(loss: LossFn, layers: float) -> LossFn:
    """The first `layers` hidden layers stand behind a stop_gradient."""

    def changed(params: Params, batch: Batch, key: Key):
        def held(path, leaf):
            name = "/".join(str(part.key) for part in path)
            still = any(f"hidden_{i + 1}" in name for i in range(round(layers)))
            return jax.lax.stop_gradient(leaf) if still else leaf

        return loss(jax.tree_util.tree_map_with_path(held, params), batch, key)

    return changed


def _wild_batches(loss: LossFn, size: float) -> LossFn:
    """One batch in 250 says `size` times what it should: a corrupted shard that is met now and then."""

    def changed(params: Params, batch: Batch, key: Key):
        wild = jax.random.bernoulli(jax.random.fold_in(key, 7), 1 / 250)
        return loss(params, batch._replace(action=jnp.where(wild, size, 1.0) * batch.action), key)

    return changed


LOSS: dict[str, Callable[[LossFn, float], LossFn]] = {
    "zero_inputs": _zero_inputs,
    "flip_gradient": _flip_gradient,
    "sum_over_batch": _sum_over_batch,
    "count_padding": _count_padding,
    "same_key": _same_key,
    "half_precision": _half_precision,
    "roll_targets": _roll_targets,
    "wild_batches": _wild_batches,
    "cut_layers": _cut_layers,
}


# --- the optimizer --------------------------------------------------------------------------------------


def _drop_updates(inner: optax.GradientTransformation, share: float):
    """The updates of the first `share` of the leaves are computed and thrown away."""

    def update(gradients, state, params=None):
        updates, state = inner.update(gradients, state, params)
        leaves, tree = jax.tree.flatten(updates)
        kept = [jnp.zeros_like(u) if i < share * len(leaves) else u for i, u in enumerate(leaves)]
        return tree.unflatten(kept), state

    return optax.GradientTransformation(inner.init, update)


def _freeze(inner: optax.GradientTransformation, layers: float):
    """The first `layers` layers stand still."""

    def update(gradients, state, params=None):
        updates, state = inner.update(gradients, state, params)
        names = sorted(updates)
        # Layers in the order of the network: hidden ones sort after "heads", so the last names come first.
        hidden = [n for n in names if n.startswith("hidden")] + [
            n for n in names if not n.startswith("hidden")
        ]
        still = hidden[: round(layers)]
        return {n: jax.tree.map(jnp.zeros_like, u) if n in still else u for n, u in updates.items()}, state

    return optax.GradientTransformation(inner.init, update)


def _bfloat16(inner: optax.GradientTransformation, _: float):
    """Parameters that are stored in bfloat16: an update below half a unit of the last place is lost."""

    def rounded(x: Array) -> Array:
        return x.astype(jnp.bfloat16).astype(x.dtype)

    def update(gradients, state, params=None):
        updates, state = inner.update(gradients, state, params)
        return jax.tree.map(lambda p, u: rounded(rounded(p) + u) - p, params, updates), state

    return optax.GradientTransformation(inner.init, update)


class _Accumulated(NamedTuple):
    count: Array
    total: Params
    inner: optax.OptState


def _accumulate(inner: optax.GradientTransformation, pieces: float):
    """Healthy: the gradients of several steps are averaged before the parameters move."""

    def init(params):
        return _Accumulated(
            jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params), inner.init(params)
        )

    def update(gradients, state, params=None):
        total = jax.tree.map(jnp.add, state.total, gradients)
        due = (state.count + 1) % round(pieces) == 0
        mean = jax.tree.map(lambda g: g / pieces, total)
        updates, after = inner.update(mean, state.inner, params)
        chosen = jax.tree.map(lambda new, old: jnp.where(due, new, old), after, state.inner)
        kept = jax.tree.map(lambda g: jnp.where(due, 0, g), total)
        return jax.tree.map(lambda u: jnp.where(due, u, 0), updates), _Accumulated(
            state.count + 1, kept, chosen
        )

    return optax.GradientTransformation(init, update)


OPTIMIZER: dict[str, Callable] = {
    "drop_updates": _drop_updates,
    "freeze": _freeze,
    "bfloat16": _bfloat16,
    "accumulate": _accumulate,
}


# --- what happens when the policy is served -------------------------------------------------------------


def _add_state(seen: np.ndarray, action: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """The robot adds `share` of its position to the action, as one does with changes."""
    return seen, action + share * seen[:, : action.shape[1]]


def _swap_inputs(seen: np.ndarray, action: np.ndarray, count: float) -> tuple[np.ndarray, np.ndarray]:
    """The first `count` observations arrive in reverse order."""
    swapped = seen.copy()
    swapped[:, : round(count)] = swapped[:, : round(count)][:, ::-1]
    return swapped, action


def _mirror_last(seen: np.ndarray, action: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """The last action dimension, a gripper of -1 to 1, has the other sign on the robot."""
    mirrored = action.copy()
    mirrored[:, -1] *= -factor
    return seen, mirrored


def _shake(seen: np.ndarray, action: np.ndarray, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """The noise of training - dropout, exploration - is left on, `spread` wide, new for each observation."""
    rows = [zlib.crc32(np.ascontiguousarray(row).tobytes()) for row in seen]
    noise = np.stack([np.random.default_rng(row).normal(size=action.shape[1]) for row in rows])
    return seen, action + spread * noise


def _scale_action(seen: np.ndarray, action: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """The robot's driver takes the action for a fraction of itself."""
    return seen, factor * action


def _degrees_in(seen: np.ndarray, action: np.ndarray, joints: float) -> tuple[np.ndarray, np.ndarray]:
    """The first `joints` joint angles arrive in degrees."""
    wrong = seen.copy()
    wrong[:, : round(joints)] *= 180 / np.pi
    return wrong, action


_BEFORE = ("swap_inputs", "degrees_in")
"""Changes of what the policy is shown; the others change what it answers."""

SERVED: dict[str, Callable] = {
    "shake": _shake,
    "scale_action": _scale_action,
    "degrees_in": _degrees_in,
    "add_state": _add_state,
    "swap_inputs": _swap_inputs,
    "mirror_last": _mirror_last,
}


def changed_loss(loss: LossFn, changes: tuple[Change, ...]) -> LossFn:
    """A loss with changes applied, the first innermost.

    Args:
      loss: (params, batch, key) -> (loss, metrics).
      changes: (name in `LOSS`, number).

    Returns:
      A loss of the same kind.

    Raises:
      KeyError: an unknown name.

    >>> twice = changed_loss(lambda p, b, k: (p, {}), (("half_precision", 2.0),))
    >>> float(twice(jnp.float32(3), None, None)[0])
    3.0
    """
    for name, value in changes:
        loss = LOSS[name](loss, value)
    return loss


def changed_optimizer(
    optimizer: optax.GradientTransformation, changes: tuple[Change, ...]
) -> optax.GradientTransformation:
    """An optimizer with changes applied, the first innermost; names are those of `OPTIMIZER`."""
    for name, value in changes:
        optimizer = OPTIMIZER[name](optimizer, value)
    return optimizer


def serve(act: Callable[[np.ndarray], np.ndarray], changes: tuple[Change, ...], seen: np.ndarray):
    """What the robot does: the policy behind whatever stands between it and the world.

    Args:
      act: (N, S) raw observations -> (N, A) actions in physical units.
      changes: (name in `SERVED`, number).
      seen: (N, S) raw observations.

    Returns:
      (N, A) actions as executed.
    """
    inputs = seen
    for name, value in changes:
        if name in _BEFORE:
            inputs, _ = SERVED[name](inputs, np.zeros((len(seen), 1)), value)
    action = act(inputs)
    for name, value in changes:
        if name not in _BEFORE:
            _, action = SERVED[name](seen, action, value)
    return action
