r"""One step instead of many: a function that is the same all along a path from noise to action.

A teacher's velocity u = dx / d\tau leads every noisy action along a path to a clean one. A student says where
its path ends,

  g(x, \tau) = x - \tau F(x, \tau),    g(x, 0) = x,

so F is the mean velocity of the way that is left. Two neighbours on one path must get the same answer,

  x_n = (1 - \tau_n) a^* + \tau_n \epsilon,    x_{n-1} = a step of the teacher from x_n,
  g(x_n, \tau_n) = g(x_{n-1}, \tau_{n-1}),    \tau_n = n / N,

and since the last neighbour's answer is x itself, all of them become the end of the teacher's path. To act: g
of pure noise, one call. With k steps, noise of level \tau is mixed in anew k - 1 times, as in the paper.

tau is the share of noise of a straight line (`flow.linear_path`), the same in both directions of time.

References: Song et al. 2023, arXiv:2303.01469, algorithms 1 and 2; Boffi et al. 2024, arXiv:2406.07507 (mean
velocity).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array, Key
from ch3_jax.noise.denoiser import Denoiser
from ch3_jax.noise.processes import Process, require_steps

Student = Callable[[Array, Array], Array]


class Neighbours(NamedTuple):
    """Two points of one path.

    Attributes:
      x: (B, ...) the noisier one.
      share: (B,) its tau.
      next_x: (B, ...) the cleaner one, where the teacher led.
      next_share: (B,) its tau, 0 where the path ends.
    """

    x: Array
    share: Array
    next_x: Array
    next_share: Array


def answer(mean_velocity: Array, x: Array, share: Array) -> Array:
    """g = x - tau F: where a path ends.

    Args:
      mean_velocity: (B, ...) F, towards the noise.
      x: (B, ...) where it is.
      share: (B,) tau.

    >>> answer(jnp.array([[2.0]]), jnp.array([[1.5]]), jnp.array([0.5])).tolist()
    [[0.5]]
    """
    return x - _over(share, x) * mean_velocity


def time_of(process: Process, share: Array) -> Array:
    """The process's time at a share of noise, in its own direction."""
    return share if process.direction == "noise_at_1" else 1 - share


def neighbours(teacher: Denoiser, x: Array, index: Array, count: int) -> Neighbours:
    """Points n and n - 1 of the teacher's paths, by a step of Heun's method.

    Args:
      teacher: predicts a velocity on a straight line; no gradient reaches it.
      x: (B, ...) at tau = n / N.
      index: (B,) n, from 1 to N.
      count: N, points of a path.
    """
    share, later = index / count, (index - 1) / count
    now, then = (time_of(teacher.process, s.astype(x.dtype)) for s in (share, later))
    h = _over(then - now, x)
    first = teacher.apply(x, now)
    second = teacher.apply(x + h * first, then)
    moved = jax.lax.stop_gradient(x + h / 2 * (first + second))
    return Neighbours(x, share.astype(x.dtype), moved, later.astype(x.dtype))


def levels(steps: int, count: int) -> np.ndarray:
    """Shares of noise at which a student of N points is asked for k steps, (k,), noisiest first.

    Raises:
      InputError: steps under 1, or more than N.

    >>> levels(2, 10).tolist()
    [1.0, 0.5]
    """
    require_steps(steps, count)
    return np.round(count * (1 - np.arange(steps) / steps)) / count


def sample(student: Student, key: Key, shape: tuple[int, ...], steps: int, count: int) -> Array:
    """Actions from noise in k calls of the student.

    Args:
      student: (x (B, ...), tau (B,)) -> g, the end of the path.
      key: of all the noise.
      shape: (B, ...) of the actions.
      steps: k, at most N.
      count: N, that the student was trained with.

    Returns:
      (B, ...) normalised actions.
    """

    def step(action: Array, row: tuple[Array, Array]) -> tuple[Array, None]:
        share, index = row
        eps = jax.random.normal(jax.random.fold_in(key, index), shape)
        return student((1 - share) * action + share * eps, jnp.broadcast_to(share, shape[:1])), None

    rows = jnp.asarray(levels(steps, count), jnp.float32), jnp.arange(steps)
    return jax.lax.scan(step, jnp.zeros(shape), rows)[0]


def _over(share: Array, x: Array) -> Array:
    return jnp.reshape(share.astype(x.dtype), share.shape + (1,) * (x.ndim - share.ndim))
