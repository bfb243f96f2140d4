r"""Consistency: a student that acts in one call of the network, distilled from a flow that trains beside it.

  loss = \| v(o, x_t, t) - (a^* - \epsilon) \|^2 + \| g(o, x_n, \tau_n) - sg[ g(o, x_{n-1}, \tau_{n-1}) ] \|^2

The first term is flow matching and trains the teacher v alone; the second is the distance between the
student's answers at two neighbours of the teacher's path (`losses.consistency_model`) and trains the student
alone. A perfect student has a distance of 0, so the floor is the flow's.

By default the student acts, in one step; in k steps noise is mixed in anew k - 1 times. `sampler="euler"` and
the other solvers ask the teacher instead.

Reference: Song et al. 2023, arXiv:2303.01469, algorithm 2.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array, Batch, Key, Metrics, Params
from ch3_jax.losses import consistency_model as model
from ch3_jax.losses import self_supervised
from ch3_jax.noise import flow as paths
from ch3_jax.noise.corruption import corrupt
from ch3_jax.noise.denoiser import Denoiser
from ch3_jax.noise.processes import Process, require_steps
from ch3_jax.noise.samplers import sample
from ch3_jax.numerics import masked_mean
from ch3_jax.objectives.generative import (
    angle,
    as_denoiser,
    bound_sampler,
    levels_of,
    regress,
    scaled,
    steps_of,
)
from ch3_jax.objectives.objective import Objective, Shapes, Spread
from ch3_jax.policies.conditioned import conditioned_policy

POINTS = 20  # of a path, N


def consistency(
    shapes: Shapes,
    bins: object,
    *,
    width: int = 256,
    dtype=jnp.float32,
    spread: Spread | None = None,
    time_law: str = "uniform",
    time_direction: str = "noise_at_0",
    sampler: str = "consistency",
    sampling_steps: int | None = None,
) -> Objective:
    """A flow and its one-step student.

    Args:
      shapes: what the networks must fit.
      bins: not looked at.
      width, dtype: of each network.
      spread: where the actions lie; keeps the clean estimates of ddim and its like inside.
      time_law, time_direction: of the flow.
      sampler: "consistency" for the student, or a solver of `noise.samplers` for the teacher.
      sampling_steps: 1 for the student, at most 20; 10 for the teacher.

    Returns:
      An `Objective`; its metrics have `flow` and `distillation`, the two terms.
    """
    del bins
    std = 1.0 if spread is None else spread.std
    process = paths.linear_path(time_direction, time_law=time_law)
    shape = (shapes.horizon, shapes.action)
    policy = conditioned_policy((shapes.window, shapes.state), shape, width, dtype)
    by_student = sampler == "consistency"
    steps = steps_of(sampler, sampling_steps, 1 if by_student else 10)
    if by_student:
        levels(steps)  # refused here, not in the first action
    walk = bound_sampler(
        "euler" if by_student else sampler, process, POINTS if by_student else steps, "velocity", spread
    )

    def init(key: Key) -> Params:
        teacher, student = jax.random.split(key)
        return {"flow": policy.init(teacher), "student": policy.init(student)}

    def denoiser(params: Params, observation: Array) -> Denoiser:
        return as_denoiser(policy, params["flow"], observation, "velocity", process)

    def student(params: Params, observation: Array, x: Array, share: Array) -> Array:
        mix = process.mix(_time(process, share))
        output = policy.apply(params["student"], observation, scaled(x, mix), angle(mix))
        return model.clean(output, x, mix, data_std=std)

    def distil(params: Params, batch: Batch, key: Key) -> Array:
        """Squared distances between neighbours' answers, (B, H, A)."""
        index_key, noise_key = jax.random.split(key)
        action = jnp.where(batch.mask[..., None], batch.action, 0)
        index = jax.random.randint(index_key, action.shape[:1], 1, POINTS + 1)
        share, later = index / POINTS, (index - 1) / POINTS
        now, then = (process.mix(_time(process, s)) for s in (share, later))
        x = corrupt(action, jax.random.normal(noise_key, action.shape, action.dtype), now)
        velocity = denoiser(params, batch.observation).apply(x, _time(process, share))
        moved = jax.lax.stop_gradient(model.teacher_step("velocity", velocity, x, now, then))
        found = student(params, batch.observation, x, share)
        wanted = student(params, batch.observation, moved, later)
        # Number by number, so that the mask can leave out what lies behind the end of an episode.
        each = self_supervised.consistency(
            jnp.reshape(found, (-1, 1)), jnp.reshape(wanted, (-1, 1)), metric="squared"
        )
        return jnp.reshape(each, action.shape)

    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        flow_key, pair_key = jax.random.split(key)
        flow = regress(policy, params["flow"], batch, flow_key, process, "velocity")
        apart = distil(params, batch, pair_key)
        return masked_mean(flow + apart, batch.mask), {
            "loss_per_dimension": masked_mean(flow + apart, batch.mask, (0, 1)),
            "flow": masked_mean(flow, batch.mask),
            "distillation": masked_mean(apart, batch.mask),
        }

    def act(params: Params, observation: Array, key: Key | None = None) -> Array:
        key = jax.random.key(0) if key is None else key
        many = (observation.shape[0], *shape)
        if by_student:
            return leap(lambda x, share: student(params, observation, x, share), key, many, steps)
        return sample(walk, denoiser(params, observation), key, many)

    return Objective(
        init,
        loss,
        act,
        likeliest=False,
        samples=True,
        asked={"levels": levels_of(process, "velocity")},
        denoiser=denoiser,
        sampler=walk,
    )


def levels(steps: int) -> np.ndarray:
    """Shares of noise at which the student is asked in k steps, (k,), noisiest first.

    Raises:
      InputError: steps under 1, or more than the points of a path.

    >>> levels(2).tolist()
    [1.0, 0.5]
    """
    require_steps(steps, POINTS)
    return np.round(POINTS * (1 - np.arange(steps) / steps)) / POINTS


def leap(student: Callable[[Array, Array], Array], key: Key, shape: tuple[int, ...], steps: int = 1) -> Array:
    """Actions from noise in k calls of a student.

    Args:
      student: (x (B, ...), share of noise (B,)) -> the clean end of x's path.
      key: of all the noise.
      shape: (B, ...) of the actions.
      steps: k.

    Returns:
      (B, ...) normalised actions.

    Reference: Song et al. 2023, arXiv:2303.01469, algorithm 1.
    """

    def step(action: Array, row: tuple[Array, Array]) -> tuple[Array, None]:
        share, index = row
        eps = jax.random.normal(jax.random.fold_in(key, index), shape)
        return student((1 - share) * action + share * eps, jnp.broadcast_to(share, shape[:1])), None

    rows = jnp.asarray(levels(steps), jnp.float32), jnp.arange(steps)
    return jax.lax.scan(step, jnp.zeros(shape), rows)[0]


def _time(process: Process, share: Array) -> Array:
    """The flow's time at a share of noise, in its own direction."""
    # Clipped, because a compiler that fuses n / N with the difference ends a rounding below 0.
    return jnp.clip(share if process.direction == "noise_at_1" else 1 - share, 0, 1)
