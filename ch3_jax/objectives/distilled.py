r"""Consistency: a student that acts in one call of the network, distilled from a flow that trains beside it.

  loss = \| v(o, x_t, t) - (a^* - \epsilon) \|^2 + \| g(o, x_n, \tau_n) - sg[ g(o, x_{n-1}, \tau_{n-1}) ] \|^2

The first term is flow matching and trains the teacher v alone; the second is the distance between the
student's answers at two neighbours of the teacher's path (`noise.consistency`) and trains the student alone.
A perfect student has a distance of 0, so the floor is the flow's.

By default the student acts, in one step; `sampler="euler"` and the other solvers ask the teacher instead.

Reference: Song et al. 2023, arXiv:2303.01469, algorithm 2.
"""

import jax
import jax.numpy as jnp

from ch3_jax.base import Array, Batch, Key, Metrics, Params
from ch3_jax.losses import self_supervised
from ch3_jax.noise import consistency as path
from ch3_jax.noise import flow as paths
from ch3_jax.noise.corruption import corrupt
from ch3_jax.noise.denoiser import Denoiser
from ch3_jax.noise.samplers import sample
from ch3_jax.numerics import masked_mean
from ch3_jax.objectives.generative import angle, as_denoiser, bound_sampler, regress, scaled
from ch3_jax.objectives.objective import Objective, Shapes, Spread
from ch3_jax.policies.conditioned import conditioned_policy

_POINTS = 10  # of a path; twice as many teach the last step no better and the first one later


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
      sampling_steps: 1 for the student, at most 10; 10 for the teacher.

    Returns:
      An `Objective`; its metrics have `flow` and `distillation`, the two terms.
    """
    del bins
    process = paths.linear_path(time_direction, time_law=time_law)
    shape = (shapes.horizon, shapes.action)
    policy = conditioned_policy((shapes.window, shapes.state), shape, width, dtype)
    by_student = sampler == "consistency"
    steps = (1 if by_student else 10) if sampling_steps is None else sampling_steps
    if by_student:
        path.levels(steps, _POINTS)  # refused here, not in the first action
    walk = bound_sampler(
        "euler" if by_student else sampler, process, _POINTS if by_student else steps, "velocity", spread
    )

    def init(key: Key) -> Params:
        teacher, student = jax.random.split(key)
        return {"flow": policy.init(teacher), "student": policy.init(student)}

    def denoiser(params: Params, observation: Array) -> Denoiser:
        return as_denoiser(policy, params["flow"], observation, "velocity", process)

    def student(params: Params, observation: Array):
        def end_of_path(x: Array, share: Array) -> Array:
            mix = process.mix(path.time_of(process, share))
            mean = policy.apply(params["student"], observation, scaled(x, mix), angle(mix))
            return path.answer(mean, x, share)

        return end_of_path

    def distil(params: Params, batch: Batch, key: Key) -> Array:
        """Squared distances between neighbours' answers, (B, H, A)."""
        index_key, noise_key = jax.random.split(key)
        action = jnp.where(batch.mask[..., None], batch.action, 0)
        index = jax.random.randint(index_key, action.shape[:1], 1, _POINTS + 1)
        eps = jax.random.normal(noise_key, action.shape, action.dtype)
        x = corrupt(action, eps, process.mix(path.time_of(process, index / _POINTS)))
        teacher = denoiser(jax.lax.stop_gradient(params), batch.observation)
        pair = path.neighbours(teacher, x, index, _POINTS)
        ends = student(params, batch.observation)
        found, wanted = ends(pair.x, pair.share), ends(pair.next_x, pair.next_share)
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
            return path.sample(student(params, observation), key, many, steps, _POINTS)
        return sample(walk, denoiser(params, observation), key, many)

    return Objective(init, loss, act, likeliest=False, samples=True, denoiser=denoiser, sampler=walk)
