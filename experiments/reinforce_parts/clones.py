"""--init: a run of `experiments.train` on data as the agent that a reward teaches."""

from pathlib import Path

from ch3_jax.base import Params
from ch3_jax.doctor.from_reward import BY_REWARD
from ch3_jax.environments.environment import Environment
from ch3_jax.errors import InputError
from ch3_jax.evaluation import serve
from ch3_jax.objectives import spread
from ch3_jax.reinforcement.agent import Agent
from ch3_jax.reinforcement.clone import clone
from ch3_jax.reinforcement.settings import ON_POLICY
from experiments.reinforce_parts.flags import Options
from experiments.run_folder import RunFolder


def load(options: Options, environment: Environment) -> tuple[Agent, Params]:
    """The agent and its actor's parameters.

    Raises:
      InputError: an algorithm that does not start from a clone, no such run, a run that does not fit.
    """
    if options.loss not in ON_POLICY:
        raise InputError(
            f"--loss={options.loss} does not start from a run",
            got=f"--init={options.init}",
            expected=f"one of {', '.join(ON_POLICY)}",
            cause="its actor is of another shape than a clone's",
            fix="--loss=ppo",
        )
    config = RunFolder(Path(options.init), lock=-1).read_config()
    _refuse_rewarded((config or {}).get("flags", {}), options.init)
    made = serve.rebuild(options.init)
    return clone(
        made.options["loss"],
        made.objective,
        made.params,
        made.normalizers,
        made.shapes,
        environment,
        bins=made.bins,
        spread=spread(made.action, made.normalizers["action"]),
        explore=options.explore,
        width=options.width,
    )


def _refuse_rewarded(flags: dict, run: str) -> None:
    """A run by reward is gone on with, not started from."""
    if flags.get("loss") in BY_REWARD:
        raise InputError(
            f"{run} was trained by reward already",
            got=f"--loss={flags['loss']}",
            expected="a run on data: mse, ce, flow, ddpm",
            cause="--init is for clones",
            fix=f"--resume --out={run}",
        )
