"""One training session in one run folder: restore, log, validate, save, stop, sum up."""

import dataclasses
import math
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from ch3_jax import writers
from ch3_jax.base import Metrics
from ch3_jax.data.episodes import Dataset
from ch3_jax.data.normalize import denormalize, normalize
from ch3_jax.data.prepare import Prepared, physical
from ch3_jax.evaluation import rollouts, serve
from ch3_jax.training import checkpoints, hosts
from ch3_jax.training.digests import tree_sha256
from ch3_jax.training.loop import Hooks, fit
from ch3_jax.training.postmortem import explain
from ch3_jax.training.update import TrainState
from experiments import curves, report
from experiments.entry import Interrupt
from experiments.flags import DEVICES, MAY_DIFFER, PLACE, Options
from experiments.flags import options as parsed
from experiments.job import Job
from experiments.progress import Progress
from experiments.run_folder import RunFolder, Summary, write_json


class Ended(NamedTuple):
    """How it ended, and the paragraph to print."""

    status: str
    text: str


def as_started(options: Options, out: Path) -> Options:
    """A resumed run takes the flags it was started with, wherever the command line is silent."""
    if options.wandb:
        writers.require_wandb()  # Here, where nothing is written yet.
    before = RunFolder(out, lock=-1).read_config() if options.resume else None
    options = parsed(before["flags"]) if before else options
    return dataclasses.replace(options, out=str(out))


def train(
    options: Options,
    dataset: Dataset,
    data: Prepared,
    run: Job,
    folder: RunFolder,
    findings: tuple[str, ...],
    interrupt: Interrupt,
    began: float,
) -> Ended:
    """Runs what is left of the run and writes all of its files.

    Args:
      options: settled.
      dataset: raw, with its splits.
      data: prepared.
      run: built from both.
      folder: held by this process.
      findings: sentences about the data, for the summary.
      interrupt: asked after every dispatch.
      began: `time.monotonic()` at the start of the process.
    """
    flags = {name: value for name, value in dataclasses.asdict(options).items() if name not in PLACE}
    notes = folder.write_config(flags, may_differ=(*MAY_DIFFER, *DEVICES))
    record = serve.record(flags, data.observation, data.action, run.bins, data.extra.get("turns"))
    write_json(folder.path / "statistics.json", record["statistics"])
    state = run.start()
    parameters = sum(x.size for x in jax.tree.leaves(state.params))
    # In several processes each reads what process 0 has written, and agrees on what it found.
    saved = Path(options.out) / "checkpoints"
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), jax.eval_shape(run.start))
    restored = checkpoints.restore(saved, shapes) if options.resume else None
    hosts.require_same({**flags, "restored": restored and restored.step})
    if restored:
        state, notes = run.spread(restored.state), [*notes, *restored.skipped]
    print(report.describe_plan(options, parameters, run.floor), flush=True)
    if run.mesh is not None:
        print(report.describe_mesh(options), flush=True)
    for note in notes:
        print(report.remark(note))

    fresh = run.local(run.start()) if options.doctor else None
    # One doctor is enough.
    watch = _watch(flags, dataset, data, run, fresh, folder) if fresh and not jax.process_index() else None
    if watch and not restored:
        print("\n".join(watch.before()), flush=True)
    log = _Log(options, data, run, folder, record, restored, watch)
    quiet = sys.stdout if jax.process_index() else None  # which nobody reads there
    with Progress(options.steps, start=int(state.step), stream=quiet) as log.progress:
        if not restored:
            log.row(0, log.validation(run.validate(run.local(state))))
        hooks = Hooks(
            log.dispatch,
            lambda state: run.validate(run.local(state)),
            lambda state, metrics: log.save(run.local(state), metrics),
            lambda: hosts.anyone(interrupt.requested is not None),
        )
        outcome = fit(state, run.advance, run.plan, hooks, skip_nonfinite=options.on_nonfinite == "skip")
    state, status = run.local(outcome.state), outcome.status
    if status == "non_finite":
        notes.append(f"stopped: {explain(run.objective.loss, state, run.replay(int(state.step)))}")
    if int(state.skipped):
        notes.append(f"{int(state.skipped)} non-finite steps were left out")
    sentences, measured = _at_work(options, data, run, state, status)
    notes += sentences
    losses = [float(score(state)["loss"]) for score in (run.score_training, run.validate)]
    log.close()
    rows = len(data.train.action)
    notes += report.verdict(options, rows, *losses, run.floor) if status == "finished" else ()
    curves.draw(
        folder.path / "metrics.csv",
        folder.path / "curves.png",
        floor=run.floor,
        floor_name=report.floor_name(options.loss),
        title=f"{data.facts.name}: {options.loss}",
        unit=run.objective.unit,
    )
    summary = Summary(
        status=status,
        loss=options.loss,
        data=options.data,
        out=str(folder.path),
        seed=options.seed,
        steps=int(state.step),
        steps_per_second=log.rate(),
        wall_seconds=time.monotonic() - began,
        train_loss=losses[0],
        val_loss=losses[1],
        floor=run.floor,
        parameters_sha256=tree_sha256(state.params),
        findings=(*findings, *notes),
        extra={
            "parameters": parameters,
            "skipped": int(state.skipped),
            "samples_seen": int(state.step) * options.batch_size,
            **measured,
        },
    )
    folder.write_summary(summary)
    if watch and status != "interrupted":
        verdict = watch.after(state, folder.path)
        notes.append(f"the doctor: {verdict.sentence} {folder.path / 'report.html'}")
    return Ended(status, report.describe_end(summary, notes))


def _watch(flags: dict, dataset: Dataset, data: Prepared, run: Job, fresh: TrainState, folder: RunFolder):
    from experiments.watch import Watch  # Here, so that --nodoctor loads nothing of it.

    return Watch(flags, dataset, data, run, fresh, folder.path.name)


def _at_work(options: Options, data: Prepared, run: Job, state: TrainState, status: str) -> tuple[list, dict]:
    """What the trained policy does, as sentences and as fields of the summary."""
    success = _drive(options, data, run, state)
    sentences = [text for text, _ in success.values()]
    measured = {"success": {how: rate._asdict() for how, (_, rate) in success.items()}}
    if run.distances is not None and status == "finished":
        apart = dict(zip(data.action.names, np.asarray(run.distances(state)).tolist(), strict=True))
        sentences.append(report.describe_distances(apart))
        measured["wasserstein_of_range"] = apart
    return sentences, measured


def _drive(options: Options, data: Prepared, run: Job, state: TrainState) -> dict:
    """Closed-loop success, where the data set is also a task: by the likeliest action, and by samples."""
    results = {}
    if options.data not in rollouts.TASKS:
        return results
    params = state.params if state.ema is None else state.ema
    for how in report.ways(run.objective):

        def act(observation, key, sampled=how == "sampled action"):
            seen = normalize(data.normalizers["observation"], observation)
            action = run.objective.act(params, seen, key if sampled else None)
            return denormalize(data.normalizers["action"], action)

        rate = rollouts.drive(act, jax.random.key(options.seed + 1), name=options.data, window=options.window)
        interval = f"[{rate.low:.1%}, {rate.high:.1%}] of {rate.episodes} starts"
        text = f"closed loop, {how}: success {rate.rate:.1%} {interval}"
        results[how] = text, rate
    return results


class _Log:
    """What a run has written so far, and how fast it went."""

    def __init__(
        self, options: Options, data: Prepared, run: Job, folder: RunFolder, record: dict, restored, watch
    ):
        self._options, self._data, self._run, self._folder, self._record = options, data, run, folder, record
        self._watch = watch
        self.progress: Progress | None = None
        self._seconds, self._steps, self._last, self._val = 0.0, 0, None, None
        path, step = folder.path, restored.step if restored else None
        keep = restored.record["metrics_bytes"] if restored and not jax.process_index() else 0
        shapes = jax.eval_shape(run.start)
        scored = jax.eval_shape(run.validate, shapes)
        self._own, fields = _own(scored), _fields(data, shapes, scored)
        self._csv = writers.csv_writer(path / "metrics.csv", fields, keep_bytes=keep)
        out = [self._csv]
        if options.tensorboard:
            out.append(writers.tensorboard_writer(path, purge_step=None if step is None else step + 1))
        if options.wandb:
            out.append(writers.wandb_writer(options.wandb, path, record["options"]))
        self._writer = writers.tee(*out)

    def row(self, step: int, values: dict[str, float]) -> None:
        self._writer.write(step, values)
        if self._watch:
            self._watch.row(step, values)

    def dispatch(self, step: int, metrics: Metrics) -> None:
        """A row of training metrics; the clock runs only between dispatches that nothing came between."""
        now = time.monotonic()
        if self._last is not None:
            self._seconds += now - self._last
            self._steps += len(metrics["losses"])
        self._last = now
        good = metrics["good"]
        loss = float(np.mean(metrics["losses"], where=good)) if good.any() else math.nan
        norms = metrics["norms"][good]
        values = {
            "loss": loss,
            **self._named("", metrics),
            "gradient_norm": float(norms.mean()) if len(norms) else math.nan,
            "gradient_norm_max": float(norms.max()) if len(norms) else math.nan,
            "update_ratio": float(metrics["update_ratio"]),
            "learning_rate": float(self._run.schedule(step - 1)),
        }
        for path, norm in jax.tree.leaves_with_path(metrics["gradient_norms"]):
            values[f"gradient_norm/{_leaf(path)}"] = float(norm)
        self.row(step, values)
        self.progress.update(step, loss=loss, val=self._val)

    def validation(self, metrics: Metrics) -> dict[str, float]:
        metrics = jax.tree.map(np.asarray, metrics)
        self._val = float(metrics["loss"])
        return {"val_loss": self._val, **self._named("val_", metrics)}

    def save(self, state: TrainState, metrics: Metrics | None) -> None:
        """A validation row where there is one, then a checkpoint that knows how long the rows are."""
        step = int(state.step)
        if metrics is not None:
            self.row(step, self.validation(metrics))
        if jax.process_index():
            return  # Process 0 saves for all.
        record = {**self._record, "metrics_bytes": self._csv.position()}
        checkpoints.save(
            self._folder.checkpoints, step, state, record, None if metrics is None else self._val
        )
        for sentence in self._watch.look() if self._watch else ():
            self.progress.say(report.remark(f"step {step:,}: {sentence}"))
        self._last = None

    def rate(self) -> float | None:
        return self._steps / self._seconds if self._seconds else None

    def close(self) -> None:
        self._writer.close()

    def _named(self, prefix: str, metrics: Metrics) -> dict[str, float]:
        """Metrics per action dimension under its name, errors in the units of the data."""
        names = self._data.action.names
        groups = {"loss": metrics["loss_per_dimension"]}
        if "l1" in metrics:
            groups["l1"] = physical(self._data.normalizers["action"], metrics["l1"])
        values = {
            f"{prefix}{group}/{name}": float(value)
            for group, row in groups.items()
            for name, value in zip(names, row, strict=True)
        }
        return values | {f"{prefix}{name}": float(metrics[name]) for name in self._own}


def _fields(data: Prepared, state: TrainState, metrics: Metrics) -> list[str]:
    """The columns of metrics.csv, known before the first row."""
    columns = ["loss", "val_loss"]
    columns += [f"{prefix}{name}" for name in _own(metrics) for prefix in ("", "val_")]
    columns += ["gradient_norm", "gradient_norm_max", "update_ratio", "learning_rate"]
    groups = ("loss", "l1", "val_loss", "val_l1") if "l1" in metrics else ("loss", "val_loss")
    columns += [f"{group}/{name}" for group in groups for name in data.action.names]
    leaves = jax.tree.leaves_with_path(state.params)
    return columns + [f"gradient_norm/{_leaf(path)}" for path, _ in leaves]


def _own(metrics: Metrics) -> list[str]:
    """Names of the scalars that are this loss's own, such as accuracy."""
    return sorted(set(metrics) - {"loss", "l1", "loss_per_dimension"})


def _leaf(path) -> str:
    return "/".join(str(part.key) for part in path)
