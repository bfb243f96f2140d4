"""What a run by reward says to a person: before the first step and after the last."""

import math

from ch3_jax.evaluation.rollouts import wilson
from ch3_jax.reinforcement.settings import OFFLINE
from experiments import report
from experiments.reinforce_parts.flags import Options
from experiments.reinforce_parts.job import EVALUATED, Job
from experiments.run_folder import Summary


def plan(options: Options, job: Job, parameters: int) -> str:
    """One paragraph: what learns, where, for how long."""
    world = options.env if options.reward is None else f"{options.env} ({options.reward} reward)"
    if options.loss in OFFLINE:
        driven = f"{options.envs:,} recorded episodes"
    else:
        driven = f"{options.env_steps:,} steps of {options.envs:,} environments"
    start = f", from {options.init}" if options.init else ""
    return (
        f"{options.loss} in {world}: {parameters:,} parameters{start}\n"
        f"{driven}, {options.steps:,} iterations of {job.learner.updates} updates,\n"
        f"{options.schedule} rate {options.learning_rate:g}, discount {options.gamma:g}\n"
    )


def end(summary: Summary, notes) -> str:
    """The last paragraph of a run: what came out, where it lies, how to go on."""
    rate = summary.extra["env_steps_per_second"]
    speed = f", {rate:,.0f} environment steps/s with updates" if rate else ""
    lines = ["", f"{summary.status}: {summary.steps:,} iterations in {summary.wall_seconds:.0f} s{speed}"]
    found = summary.extra["evaluation"]
    for name, words in (("best", "without chance"), ("sampled", "by chance")) if found else ():
        success = found[f"{name}_success"]
        text = f"  {words:<15}"
        if not math.isnan(success):
            share = wilson(round(success * EVALUATED), EVALUATED)
            text += f"success {share.rate:6.1%} [{share.low:.1%}, {share.high:.1%}], "
        lines.append(f"{text}return {found[f'{name}_return']:.4g}, {found[f'{name}_length']:.0f} steps")
    lines += [*map(report.remark, notes), f"run folder: {summary.out}"]
    if summary.status == "interrupted":
        lines.append(f"go on with: python -m experiments.train --resume --out={summary.out}")
    if summary.status == "non_finite":
        lines.append("the last good state is saved; --resume meets the same numbers again")
    return "\n".join(lines)
