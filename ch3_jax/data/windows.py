"""Windows: what the policy saw until step t, and what it did from step t on.

For row n of an episode that is rows start to stop - 1, with W observations and H actions,

  observation_w = o[max(n - (W - 1) + w, start)],     w = 0 .. W - 1, oldest first,
  action_h      = a[min(n + h, stop - 1)],            h = 0 .. H - 1, next first,
  mask_h        = n + h < stop.

So no row is left out: the first observation stands in for those before it, the last action for
those after it, and the mask says which actions are real. Index and mask are the same expression,
so they cannot disagree (in Octo they do by two, and one repeated action is trained on).
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array, Batch
from ch3_jax.data.episodes import Steps
from ch3_jax.data.normalize import Normalizer, normalize
from ch3_jax.errors import InputError


class DeviceSteps(NamedTuple):
    """A whole data set on the device.

    Attributes:
      observation: (N, S) float32.
      action: (N, A) float32.
      start: (N,) int32, first row of the episode of each row.
      stop: (N,) int32, the row after its last.
    """

    observation: Array
    action: Array
    start: Array
    stop: Array


def to_device(
    steps: Steps, observation: Normalizer | None = None, action: Normalizer | None = None
) -> DeviceSteps:
    """Puts a data set on the device, normalised there once instead of in every step.

    Args:
      steps: N rows, raw.
      observation, action: normalisers; None leaves the numbers raw.

    Raises:
      InputError: 2^31 rows or more, which int32 cannot number.
    """
    rows = len(steps)
    if rows >= 2**31:
        raise InputError(
            "the data set is too long for one device",
            got=f"{rows} steps",
            expected=f"fewer than {2**31}",
            cause="a corpus that is meant to be streamed",
            fix="train from the host pipeline, or from a part of the data set",
        )
    length = np.diff(steps.offset)
    seen = jnp.asarray(steps.observation, jnp.float32)
    done = jnp.asarray(steps.action, jnp.float32)
    return DeviceSteps(
        seen if observation is None else normalize(observation, seen),
        done if action is None else normalize(action, done),
        jnp.asarray(np.repeat(steps.offset[:-1].astype(np.int32), length)),
        jnp.asarray(np.repeat(steps.offset[1:].astype(np.int32), length)),
    )


def gather(steps: DeviceSteps, index: Array, *, window: int = 1, horizon: int = 1) -> Batch:
    """The windows of rows `index`; pure, and cheap inside a compiled step.

    Args:
      steps: N rows.
      index: (B,) integers in [0, N); a row outside gives NaN, not the nearest one.
      window: W, observations up to and with the row.
      horizon: H, actions from the row on.

    Returns:
      `Batch` of observation (B, W, S), action (B, H, A), mask (B, H) bool.

    Raises:
      ValueError: window or horizon below 1, or an index that is not one row of integers.

    >>> steps = DeviceSteps(jnp.arange(3.0)[:, None], jnp.arange(3.0)[:, None] + 10,
    ...                     jnp.zeros(3, jnp.int32), jnp.full(3, 3, jnp.int32))
    >>> batch = gather(steps, jnp.array([0, 2]), window=2, horizon=2)
    >>> batch.observation[..., 0].tolist(), batch.action[..., 0].tolist(), batch.mask.tolist()
    ([[0.0, 0.0], [1.0, 2.0]], [[10.0, 11.0], [12.0, 12.0]], [[True, True], [True, False]])
    """
    if window < 1 or horizon < 1:
        raise ValueError(f"`window` {window} and `horizon` {horizon}: expected at least 1 of each.")
    if index.ndim != 1 or not jnp.issubdtype(index.dtype, jnp.integer):
        raise ValueError(f"`index` is {index.dtype} of shape {index.shape}, expected integers (B,).")
    here = index[:, None]
    known = (here >= 0) & (here < len(steps.start))
    if window == 1:
        observation = _take(steps.observation, index)[:, None]
    else:
        past = here - jnp.arange(window - 1, -1, -1, dtype=index.dtype)[None]
        first = jnp.take(steps.start, index, mode="clip")[:, None].astype(index.dtype)
        observation = _take(steps.observation, jnp.where(known, jnp.maximum(past, first), -1))
    if horizon == 1:
        return Batch(observation, _take(steps.action, index)[:, None], jnp.ones(here.shape, bool))
    ahead = here + jnp.arange(horizon, dtype=index.dtype)[None]
    stop = jnp.take(steps.stop, index, mode="clip")[:, None].astype(index.dtype)
    action = _take(steps.action, jnp.where(known, jnp.minimum(ahead, stop - 1), -1))
    return Batch(observation, action, ahead < stop)


def check_windows(steps: Steps, window: int, horizon: int) -> None:
    """Refuses data in which an episode is shorter than what a policy sees or predicts.

    Raises:
      InputError: window or horizon below 1; the first episode shorter than the longer of them.
    """
    need = max(window, horizon)
    if min(window, horizon) < 1:
        raise InputError(
            "the window and the horizon count steps",
            got=f"window {window}, horizon {horizon}",
            expected="at least 1 of each",
            cause="a flag of 0 or less",
            fix="set both to 1 or more",
        )
    length = np.diff(steps.offset)
    if not len(length) or length.min() >= need:
        return
    e = int(np.argmax(length < need))
    name = f"episode {e}" + (f" ({steps.sources[e]})" if steps.sources else "")
    raise InputError(
        f"{name} is shorter than the window",
        got=f"{length[e]} steps; {int((length < need).sum())} of {len(length)} episodes are too short",
        expected=f"at least {need} steps, for window {window} and horizon {horizon}",
        cause="a recording that was cut off, or a window meant for another rate",
        fix=f"drop these episodes, or use a window and horizon of at most {max(int(length.min()), 1)}",
    )


def _take(x: Array, index: Array) -> Array:
    """Rows of `x`, NaN for an index outside; also below zero, which would count from the end."""
    return jnp.take(x, jnp.where(index < 0, len(x), index), axis=0, mode="fill", fill_value=jnp.nan)
