"""Trains a `Run` and keeps what a run folder would: parameters, history, how it ended."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Params
from ch3_jax.data.episodes import Dataset
from ch3_jax.data.normalize import Normalizer, denormalize, make_normalizer, normalize
from ch3_jax.data.prepare import measure
from ch3_jax.data.statistics import Statistics
from ch3_jax.data.windows import DeviceSteps, to_device
from ch3_jax.errors import InputError
from ch3_jax.faults import changes
from ch3_jax.faults.program import Data, Kind, Program, kind_of, program
from ch3_jax.faults.run import Run
from ch3_jax.metrics import Series, columns_of
from ch3_jax.objectives import spread
from ch3_jax.training.update import TrainState

_ROWS, _HELD_OUT = 200, 100

Told = Callable[[int, float], None]
"""(updates made, loss): called after each row of the history."""


class Ready(NamedTuple):
    """A run whose data are measured, normalised and on the device; nothing is compiled yet.

    Attributes:
      run: what was asked for.
      kind: of its program.
      data, held_out: normalised, for the program.
      statistics: "observation" and "action" -> what the run stores.
      normalizers: "observation" and "action" -> what the run applies.
    """

    run: Run
    kind: Kind
    data: Data
    held_out: Any
    statistics: Mapping[str, Statistics]
    normalizers: Mapping[str, Normalizer]

    @property
    def program(self) -> Program:
        """Compiled at the first use of its kind."""
        return program(self.kind)


class Trained(NamedTuple):
    """What a run leaves.

    Attributes:
      ready: what it was made of.
      state: last good state.
      history: column -> `Series`: loss, val_loss, gradient_norm, gradient_norm_max, update_ratio,
        learning_rate, and gradient_norm/... of each leaf.
      status: "finished" or "non_finite".
      seconds: without compilation.
    """

    ready: Ready
    state: TrainState
    history: Mapping[str, Series]
    status: str
    seconds: float

    @property
    def params(self) -> Params:
        """Those that act: the average where there is one."""
        return self.state.params if self.state.ema is None else self.state.ema


def ready(run: Run) -> Ready:
    """Measures and normalises the data of a run.

    Args:
      run: any; its steps are a multiple of `every`.

    Raises:
      InputError: steps that are no multiple, or a rule or loss that does not exist.
    """
    if run.steps % run.every:
        raise InputError(
            "a run ends between two rows of its history",
            got=f"{run.steps} steps, a row every {run.every}",
            expected="a multiple",
            cause="one of the two was changed alone",
            fix=f"{run.steps // run.every * run.every or run.every} steps",
        )
    source = run.measured or run.dataset
    seen, done = measure(source.splits["train"], source.facts)
    statistics = {"observation": seen, "action": done}
    normalizers = {name: make_normalizer(s, run.normalize) for name, s in statistics.items()}
    train, held_out = (
        to_device(run.dataset.splits[name], normalizers["observation"], normalizers["action"])
        for name in ("train", "val")
    )
    train, held_out = _trimmed(train, _ROWS), _trimmed(held_out, _HELD_OUT)
    kind = kind_of(run, spread(done, normalizers["action"]), len(train.action), len(held_out.action))
    _, order_key, _ = _keys(run.seed)
    return Ready(run, kind, Data(train, order_key), held_out, statistics, normalizers)


def train(prepared: Ready, told: Told = lambda step, loss: None) -> Trained:
    """Trains to the end, or to the first step that is not finite.

    Args:
      prepared: of `ready`.
      told: hears of the progress; what it raises ends the training.

    Returns:
      A `Trained`.
    """
    run, made = prepared.run, prepared.program
    init_key, _, run_key = _keys(run.seed)
    began = time.perf_counter()
    state = made.start(init_key, run_key, jnp.float32(run.learning_rate))
    rows = [(0, {"val_loss": _validation(prepared, state)})]
    status = "finished"
    for step in range(run.every, run.steps + 1, run.every):
        if run.reset_at is not None and step - run.every == run.reset_at:
            fresh = made.start(init_key, run_key, jnp.float32(run.learning_rate))
            state = state._replace(opt_state=fresh.opt_state)
        state, metrics = made.advance(state, prepared.data)
        row = _row(step, jax.tree.map(np.asarray, metrics), run)
        row["val_loss"] = _validation(prepared, state)
        rows.append((step, row))
        told(step, row["loss"])
        if not (np.isfinite(row["loss"]) and np.isfinite(row["gradient_norm"])):
            status = "non_finite"
            break
    return Trained(
        prepared,
        state,
        columns_of(rows),
        status,
        time.perf_counter() - began,
    )


def act(trained: Trained) -> Callable[[np.ndarray], np.ndarray]:
    """The trained policy as the robot meets it: raw observations (N, S) to executed actions (N, A).

    What the run changes in serving is part of it. A policy that samples gives one sample.
    """
    prepared = trained.ready
    seen_by, done_by = (prepared.normalizers[name] for name in ("observation", "action"))
    acting = prepared.program.acting

    @jax.jit
    def policy(params, seen):
        inputs = normalize(seen_by, seen)[:, None]
        key = jax.random.key(1) if acting.samples and not acting.likeliest else None
        return denormalize(done_by, acting.act(params, inputs, key))[:, 0]

    def one(seen: np.ndarray) -> np.ndarray:
        return np.asarray(policy(trained.params, jnp.asarray(seen, jnp.float32)))

    return lambda seen: changes.serve(one, prepared.run.served, np.asarray(seen))


def held_out_errors(trained: Trained, clean: Dataset) -> np.ndarray:
    """How far the served policy is from what was demonstrated, on data that nothing was done to.

    e_n = mean_a (a_n - a*_n)^2 / Var(a*),    over the rows n of the clean validation split.

    Args:
      trained: any run.
      clean: the data of its healthy twin, with a split "val".

    Returns:
      (N,) float64; infinite where the policy's answer is not finite.
    """
    steps = clean.splits["val"]
    answer = act(trained)(steps.observation).astype(np.float64)
    width = np.maximum(steps.action.std(axis=0), 1e-9)
    errors = np.mean(((answer - steps.action) / width) ** 2, axis=1)
    return np.where(np.isfinite(errors), errors, np.inf)


def _trimmed(steps: DeviceSteps, unit: int) -> DeviceSteps:
    """A multiple of `unit` rows, the last ones left out: recordings of about one length share a program."""
    rows = max(len(steps.action) // unit * unit, min(len(steps.action), unit))
    cut = DeviceSteps(*(x[:rows] for x in steps))
    return cut._replace(stop=jnp.minimum(cut.stop, rows))


def _keys(seed: int):
    return jax.random.split(jax.random.key(seed), 3)


def _validation(prepared: Ready, state: TrainState) -> float:
    params = state.params if state.ema is None else state.ema
    metrics = prepared.program.validate(params, prepared.held_out, jax.random.key(0))
    return float(metrics["loss"])


def _row(step: int, metrics: Mapping[str, Any], run: Run) -> dict[str, float]:
    row = {
        "loss": float(np.mean(metrics["losses"])),
        "gradient_norm": float(np.mean(metrics["norms"])),
        "gradient_norm_max": float(np.max(metrics["norms"])),
        "update_ratio": float(metrics["update_ratio"]),
        "learning_rate": run.learning_rate * min(1.0, step / max(run.warmup, 1)),
    }
    for path, norm in jax.tree.leaves_with_path(metrics["gradient_norms"]):
        row["gradient_norm/" + "/".join(str(part.key) for part in path)] = float(norm)
    return row
