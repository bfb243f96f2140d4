"""One session of training by reward in one run folder: restore, log, evaluate, save, stop, sum up."""

import dataclasses
import math
import time
from typing import NamedTuple

import jax
import numpy as np

from ch3_jax import writers
from ch3_jax.base import Metrics
from ch3_jax.errors import InputError
from ch3_jax.reinforcement.settings import OFFLINE
from ch3_jax.reinforcement.state import LearnerState
from ch3_jax.training import checkpoints
from ch3_jax.training.digests import tree_sha256
from ch3_jax.training.loop import Hooks, fit
from experiments import report
from experiments.entry import Interrupt
from experiments.flags import MAY_DIFFER, PLACE
from experiments.progress import Progress
from experiments.reinforce_parts import pages, picture
from experiments.reinforce_parts.flags import Options
from experiments.reinforce_parts.job import EVALUATIONS, Job
from experiments.run_folder import RunFolder, Summary

# Sums over the episodes of a row, which are said as means.
_MEANS = {"return": "return_sum", "success": "success_sum", "episode_length": "length_sum"}
_NOT_ROWS = ("losses", "norms", "good", "gradient_norms", "gradient_norm", "loss", *_MEANS.values())


class Ended(NamedTuple):
    """How it ended, and the paragraph to print."""

    status: str
    text: str


def train(options: Options, job: Job, folder: RunFolder, interrupt: Interrupt, began: float) -> Ended:
    """Runs what is left of the run and writes all of its files.

    Args:
      options: settled.
      job: built from them.
      folder: held by this process.
      interrupt: asked after every dispatch.
      began: `time.monotonic()` at the start of the process.

    Raises:
      InputError: the reward never changed in the first tenth of the run; what was learned is saved.
    """
    flags = {n: value for n, value in dataclasses.asdict(options).items() if n not in PLACE}
    notes = folder.write_config(flags, may_differ=MAY_DIFFER)
    state = job.start()
    parameters = sum(x.size for x in jax.tree.leaves(state.params))
    restored = checkpoints.restore(folder.checkpoints, state) if options.resume else None
    if restored:
        state, notes = job.learner.place(restored.state), [*notes, *restored.skipped]
    print(pages.plan(options, job, parameters), flush=True)
    for note in notes:
        print(report.remark(note))
    log = _Log(options, job, folder, flags, restored)
    with Progress(options.steps, start=int(state.step)) as log.progress:
        if not restored:
            log.row(0, log.evaluation(job.evaluate(state)))
        hooks = Hooks(
            log.dispatch, job.evaluate, log.save, lambda: log.stuck or interrupt.requested is not None
        )
        state, status = fit(state, job.advance, job.plan, hooks)
    log.close()
    status = "failed" if log.stuck else status
    if status == "non_finite":
        notes.append(f"stopped: {job.explain(state)}")
    picture.draw(folder.path / "metrics.csv", folder.path / "curves.png", _title(options), log.per_iteration)
    measured = {name: float(x) for name, x in job.evaluate(state).items()} if status == "finished" else {}
    summary = Summary(
        status=status,
        loss=options.loss,
        data=options.env,
        out=str(folder.path),
        seed=options.seed,
        steps=int(state.step),
        steps_per_second=log.rate(),
        wall_seconds=time.monotonic() - began,
        train_loss=log.last_loss,
        val_loss=None,
        floor=None,
        parameters_sha256=tree_sha256(state.params),
        findings=tuple(notes),
        extra={
            "parameters": parameters,
            "actions": len(job.environment.low),
            "env_steps": int(state.step) * log.per_iteration,
            "env_steps_per_second": log.rate() and log.rate() * log.per_iteration,
            "evaluation": measured,
        },
    )
    folder.write_summary(summary)
    if options.doctor and status != "interrupted":
        from experiments.reinforce_parts import watch  # Here, so that --nodoctor loads nothing of it.

        notes.append(watch.after(folder.path, options))
    text = pages.end(summary, notes)
    if log.stuck:
        print(text, flush=True)
        raise _constant(options, int(state.step) * log.per_iteration, log.stuck, folder)
    return Ended(status, text)


def _title(options: Options) -> str:
    world = options.env if options.reward is None else f"{options.env}, {options.reward} reward"
    return f"{world}: {options.loss}"


def _constant(options: Options, steps: int, reward: str, folder: RunFolder) -> InputError:
    return InputError(
        f"the reward of {options.env} never changes",
        got=f"{reward} in each of {steps:,} steps",
        expected="a reward that is sometimes higher than at other times",
        cause="a reward that is too sparse for a policy that knows nothing, or one that is not connected",
        fix=f"--reward=shaped, --init=RUN of a clone, or --constant_reward to go on; saved in {folder.path}",
    )


class _Log:
    """What a run has written so far, and how fast it went."""

    def __init__(self, options: Options, job: Job, folder: RunFolder, flags: dict, restored):
        self._options, self._job, self._folder, self._flags = options, job, folder, flags
        self.progress: Progress | None = None
        self.per_iteration = job.learner.env_steps
        self.last_loss: float | None = None
        self.stuck: str | None = None
        self._seconds, self._iterations, self._last = 0.0, 0, None
        self._moved = restored is not None or options.constant_reward or options.loss in OFFLINE
        step = restored.step if restored else None
        shapes = jax.eval_shape(job.learner.start, jax.random.key(0))
        _, metrics = jax.eval_shape(job.learner.iteration, shapes)
        fields = [
            "env_steps",
            "loss",
            *_MEANS,
            *(n for n in sorted(metrics) if n not in (*_NOT_ROWS, "finite")),
        ]
        fields += [*EVALUATIONS, "gradient_norm", "gradient_norm_max", "learning_rate"]
        fields += [f"gradient_norm/{_leaf(p)}" for p, _ in jax.tree.leaves_with_path(shapes.params)]
        keep = restored.record["metrics_bytes"] if restored else 0
        self._csv = writers.csv_writer(folder.path / "metrics.csv", fields, keep_bytes=keep)
        out = [self._csv]
        if options.tensorboard:
            out.append(writers.tensorboard_writer(folder.path, purge_step=None if step is None else step + 1))
        if options.wandb:
            out.append(writers.wandb_writer(options.wandb, folder.path, flags))
        self._writer = writers.tee(*out)

    def row(self, step: int, values: dict[str, float]) -> None:
        self._writer.write(step, {"env_steps": step * self.per_iteration, **values})

    def dispatch(self, step: int, metrics: Metrics) -> None:
        """A row of training metrics; the clock runs only between dispatches that nothing came between."""
        now = time.monotonic()
        if self._last is not None:
            self._seconds += now - self._last
            self._iterations += len(metrics["losses"])
        self._last = now
        values = {name: float(x) for name, x in metrics.items() if name not in _NOT_ROWS}
        episodes = float(metrics["episodes"])
        values |= {n: float(metrics[s]) / episodes if episodes else math.nan for n, s in _MEANS.items()}
        norms = metrics["norms"]
        self.last_loss = float(np.mean(metrics["losses"]))
        values |= {
            "loss": self.last_loss,
            "gradient_norm": float(norms.mean()),
            "gradient_norm_max": float(norms.max()),
            "learning_rate": float(self._job.schedule(step * self._job.learner.updates - 1)),
        }
        for path, norm in jax.tree.leaves_with_path(metrics["gradient_norms"]):
            values[f"gradient_norm/{_leaf(path)}"] = float(norm)
        self.row(step, values)
        # A reward that is always 1 says something where an episode can end early.
        alive = values["reward_mean"] != 0 and self._job.environment.shortest < self._job.environment.steps
        changes = values["reward_std"] > 1e-7 * max(1.0, abs(values["reward_mean"]))
        self._moved = self._moved or alive or changes
        if not self._moved and step >= self._options.save_every:
            self.stuck = f"{values['reward_mean']:g}"
        shown = {"return": values["return"]} if episodes else {}
        if episodes and not math.isnan(values["success"]):
            shown["success"] = values["success"]
        self.progress.update(step, **shown)

    def evaluation(self, metrics: Metrics) -> dict[str, float]:
        return {name: float(x) for name, x in metrics.items()}

    def save(self, state: LearnerState, metrics: Metrics | None) -> None:
        """A row of the evaluation where there is one, then a checkpoint that knows how long the rows are."""
        step, score = int(state.step), None
        if metrics is not None:
            values = self.evaluation(metrics)
            self.row(step, values)
            known = not math.isnan(values["best_success"])
            score = -values["best_success"] if known else -values["best_return"]
        record = {"options": self._flags, "metrics_bytes": self._csv.position()}
        checkpoints.save(self._folder.checkpoints, step, state, record, score)
        self._last = None

    def rate(self) -> float | None:
        """Iterations per second."""
        return self._iterations / self._seconds if self._seconds else None

    def close(self) -> None:
        self._writer.close()


def _leaf(path) -> str:
    return "/".join(str(part.key) for part in path)
