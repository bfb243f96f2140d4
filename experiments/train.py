"""Trains a policy: the main job.

  python -m experiments.train --loss=ce

trains SmallPolicy by cross-entropy on 256 bins per action dimension, on a million embedded pairs, and ends
within 1 % of the theoretical floor of 3.5491 nats, in about a minute on two cores.

  python -m experiments.train --loss=flow --sampler=heun --sampling_steps=5

trains another family: `mse l1 huber` (one number), `gmm cvae` (a law), `denoising ddpm flow consistency`
(from noise), `infonce` (telling apart); an option that the loss has no use for is refused. A run that samples
says at its end how far its samples are from the data. `--data` takes a folder: RLDS/TFDS, Push-T's zarr,
LeRobot v2.1 or v3.0.

  python -m experiments.train --loss=ppo --env=panda_reach --reward=dense

learns by reward instead: `ppo a2c reinforce grpo sac` by trying, `awr iql` from a recording; `--init=runs/x`
starts from a trained run. Flags of the other family are refused. Everything is written to one run folder:

  config.json  statistics.json  metrics.csv  events.out.*  curves.png  checkpoints/  summary.json  report.html

The doctor runs its checks 1 to 3 before the first step, looks at the curves on the way, and writes the report
at the end; `--nodoctor` leaves it out.

Exit code 0 finished, 2 refused (one screen says why), 3 stopped at a non-finite step with the last good state
saved, 4 another process of the run is gone, 130 or 143 interrupted and saved; `--resume --out=...` goes on,
bit for bit.
"""

import json
import signal
import time
from pathlib import Path

from absl import flags as absl_flags

from experiments import entry, flags
from experiments.reinforce_parts import flags as reward_flags

NON_FINITE = 3


def main(argv: list[str]) -> int:
    """Reads, refuses or prepares, trains, reports."""
    del argv
    began = time.monotonic()
    with entry.Interrupt() as interrupt:
        options = flags.options()
        if options.recipe and not options.resume:
            options = _by_recipe(options)
        if absl_flags.FLAGS.explain:
            return _explain(options)
        by_reward = _loss(options) in flags.BY_REWARD
        _refuse_other_family(by_reward)
        if by_reward:
            # Imported here, so that --help and a misspelt flag answer at once.
            from experiments.reinforce_parts.main import main as train_by_reward

            ended = train_by_reward(interrupt, began)
        else:
            ended = _train(options, interrupt, began)
    print(ended.text, flush=True)
    codes = {"finished": 0, "non_finite": NON_FINITE}
    return codes.get(ended.status) if ended.status in codes else 128 + getattr(signal, interrupt.requested)


def _train(options: flags.Options, interrupt: entry.Interrupt, began: float):
    """Training on data, from options to how it ended."""
    from ch3_jax.data.prepare import held_out, prepare
    from experiments import hosts, job, report, run_folder, session

    out = run_folder.prepare(
        options.out or run_folder.default_out(options.data, options.loss, options.seed),
        options.resume,
        absent="start",
    )
    options = session.as_started(options, out)
    options = hosts.meet(options)
    job.rehearse(options)
    dataset = job.encode(options, held_out(job.read(options), options.validation, options.seed))
    options = job.settle(options, dataset)
    with job.where(options, dataset) as options:
        data = prepare(dataset, rule=options.normalize, window=options.window, horizon=options.horizon)
    page, findings = report.describe_data(dataset, data)
    run = job.build(options, data)
    print(page, flush=True)
    with hosts.folder(out, options.resume) as folder, hosts.together():
        return session.train(options, dataset, data, run, folder, findings, interrupt, began)


def _by_recipe(options: flags.Options) -> flags.Options:
    """The flags of --recipe, wherever the command line is silent."""
    from ch3_jax.errors import InputError
    from experiments.recipes import recipe

    wanted = recipe(options.recipe, options.scale).flags
    if reward_flags.given(["loss"]) and options.loss != wanted["loss"]:
        raise InputError(
            f"--recipe={options.recipe} is --loss={wanted['loss']}",
            got=f"--loss={options.loss}",
            expected="no --loss: the recipe has one",
            cause="a flag left over from another command",
            fix=f"leave --loss or --recipe out; --recipe={options.recipe} --explain prints its flags",
        )
    return flags.options(wanted)


def _explain(options: flags.Options) -> int:
    from ch3_jax.errors import InputError
    from experiments import recipes

    if not options.recipe:
        raise InputError(
            "--explain needs --recipe",
            got="no --recipe",
            expected=", ".join(flags.RECIPES),
            cause="--explain says how a recipe differs from its card",
            fix="--recipe=pi0 --explain",
        )
    made = recipes.recipe(options.recipe, options.scale)
    print(recipes.explain(made, recipes.count(made)))
    return 0


def _loss(options: flags.Options) -> str:
    """Of the command line, or of the run that is resumed where the command line is silent."""
    if options.resume and options.out and not reward_flags.given(["loss"]):
        try:
            return json.loads((Path(options.out) / "config.json").read_text())["flags"]["loss"]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # What is wrong with the folder is said where it is opened.
    return options.loss


def _refuse_other_family(by_reward: bool) -> None:
    """Flags that the chosen family has no use for: a person who gives one believes that it acts."""
    if by_reward:
        mine, other = "--loss=ppo and the others by reward", "a run on data"
        names = [n for n in flags.Options.__dataclass_fields__ if n not in reward_flags.SHARED]
        names += flags.HOSTS
    else:
        mine, other = "losses on data", "a run by reward"
        names = reward_flags.OWN
    wrong = reward_flags.given(names)
    if not wrong:
        return
    from ch3_jax.errors import InputError

    raise InputError(
        f"--{wrong[0]} is not for {mine}",
        got=", ".join(f"--{name}" for name in wrong),
        expected=f"flags of the family; --{wrong[0]} belongs to {other}",
        cause="a flag left over from another command",
        fix="leave it out, or choose another --loss",
    )


if __name__ == "__main__":
    reward_flags.define_flags()
    entry.run(main)
