"""From options to everything that a run by reward is made of."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ch3_jax.base import Metrics
from ch3_jax.environments.environment import Environment, sizes
from ch3_jax.reinforcement.build import Learner, build
from ch3_jax.reinforcement.evaluate import make_evaluate
from ch3_jax.reinforcement.postmortem import explain
from ch3_jax.reinforcement.reports import SUMS
from ch3_jax.reinforcement.spread import compiler_options
from ch3_jax.reinforcement.state import LearnerState, looks
from ch3_jax.training.loop import Plan
from ch3_jax.training.optimizers import clipped_adamw, make_schedule
from experiments.reinforce_parts import presets, worlds
from experiments.reinforce_parts.flags import Options
from experiments.reinforce_parts.worlds import GYMNASIUM

EVALUATED = 256
EVALUATIONS = tuple(
    f"{how}_{what}" for how in ("best", "sampled") for what in ("return", "success", "length", "discounted")
)


class Job(NamedTuple):
    """A run, ready to go.

    Attributes:
      environment, learner: who learns where.
      schedule: update -> learning rate.
      plan: when things happen, in iterations.
      start: () -> the state before the first iteration.
      advance: (state, iterations) -> (state, metrics).
      evaluate: state -> `EVALUATIONS` of whole episodes, without chance and by chance.
      explain: state that an iteration gave back -> a sentence on what was not finite.
    """

    environment: Environment
    learner: Learner
    schedule: Callable
    plan: Plan
    start: Callable[[], LearnerState]
    advance: Callable[[LearnerState, int], tuple[LearnerState, Metrics]]
    evaluate: Callable[[LearnerState], Metrics]
    explain: Callable[[LearnerState], str]


def build_job(options: Options) -> Job:
    """All parts of the run, bound together; nothing is computed yet.

    Args:
      options: settled.

    Raises:
      InputError: what `presets`, `worlds` and the algorithm refuse.
    """
    settings = presets.settings_of(options)
    schedule = make_schedule(
        options.schedule, options.learning_rate, steps=presets.updates_of(options), warmup=options.warmup
    )
    optimizer = clipped_adamw(
        schedule,
        clip=options.clip or None,
        weight_decay=options.weight_decay,
        b1=options.b1,
        b2=options.b2,
        eps=1e-5,
    )
    if options.env.startswith(GYMNASIUM):
        from experiments.reinforce_parts import host_job

        return host_job.build_job(options, settings, schedule, optimizer)
    environment = worlds.find(options.env, options.reward)
    sizes(environment)
    agent, actor = None, None
    if options.init:
        from experiments.reinforce_parts import clones

        agent, actor = clones.load(options, environment)
    learner = build(
        environment,
        settings,
        optimizer,
        width=options.width,
        agent=agent,
        actor=actor,
        noise=options.expert_noise,
        devices=options.devices,
    )
    return Job(
        environment=environment,
        learner=learner,
        schedule=schedule,
        plan=Plan(options.steps, options.log_every, options.save_every),
        start=lambda: learner.start(jax.random.key(options.seed)),
        advance=_advance(learner),
        evaluate=_evaluate(environment, learner, settings.gamma),
        explain=lambda state: explain(environment, learner.agent, settings, state),
    )


def of_a_row(metrics: Metrics) -> Metrics:
    """Of several iterations, leading axis K: sums, means, the last norms by leaf, and each loss and norm."""
    metrics = dict(metrics)
    good = metrics.pop("finite")
    norms = metrics.pop("gradient_norms")
    return {
        **{n: jnp.sum(x) if n in SUMS else jnp.mean(x) for n, x in metrics.items()},
        "gradient_norms": jax.tree.map(lambda x: x[-1], norms),
        "losses": jnp.where(good, metrics["loss"], jnp.nan),
        "norms": metrics["gradient_norm"],
    }


def _advance(learner: Learner):
    """(state, length) -> (state, metrics), compiled once for each length that occurs."""
    programs = {}

    def several(length: int):
        def run(state: LearnerState):
            state, metrics = jax.lax.scan(lambda s, _: learner.iteration(s), state, length=length)
            return state, of_a_row(metrics)

        return jax.jit(run, donate_argnums=0, compiler_options=compiler_options())

    def advance(state: LearnerState, length: int):
        if length not in programs:
            programs[length] = several(length)
        # One at a time: on a CPU, programs that speak between devices wait for one another for good when many
        # are under way, since they share a few threads.
        return programs[length](jax.block_until_ready(state))

    return advance


def _evaluate(environment: Environment, learner: Learner, gamma: float):
    """The same starts at every evaluation, so that two of them differ by the parameters alone."""
    drive = make_evaluate(environment, learner.agent, EVALUATED, gamma)

    @jax.jit
    def evaluate(params, observations) -> Metrics:
        see = looks(learner.agent, observations)
        found = {}
        for name, by_chance in (("best", False), ("sampled", True)):
            episodes = drive(params, see, jax.random.key(2**31 - 1), by_chance)
            found |= {
                f"{name}_return": jnp.mean(episodes.total),
                f"{name}_success": jnp.mean(episodes.success),
                f"{name}_length": jnp.mean(episodes.length.astype(jnp.float32)),
                f"{name}_discounted": episodes.discounted,
            }
        return found

    return lambda state: evaluate(state.params, state.observations)
