"""A process that trains and scores one item after another, on a processor of its own.

  python -m experiments.bakeoff_parts.worker FOLDER SETTINGS --core=0

It reads lines of JSON, `["bimodal", "flow"]`, and answers lines of JSON: {"step": 156} while it trains,
{"done": ...} when the part is on the disk, or what went wrong. The training is that of `experiments.train`:
the same job, update and loop, with the chapter's Adam at 1e-3 and batches of 64.

Validated is the average of the parameters over the last thousand steps or so, as diffusion policies do; what
acts is that average where its validation loss was lowest, which with 10,000 pairs is early for
cross-entropy and MSE: they memorise from then on.
"""

import argparse
import dataclasses
import functools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.bakeoff_parts.plan import (
    BATCH,
    DRAWN,
    PREDICTORS,
    ROWS,
    SAMPLING_STEPS,
    SHOWN,
    TRUTH,
    Item,
    Settings,
    steps_of,
)

WIDTH = 256
EMA = "0.999"
_TIMED = 30  # actions, one at a time, of which the median counts


def options_of(item: Item, settings: Settings) -> Any:
    """The options of `experiments.train` that are this item."""
    from experiments import flags

    chosen = {
        "data": "inverse_dynamics",
        "loss": item.model,
        "bimodal": item.data == "bimodal",
        "pairs": settings.pairs,
        "seed": settings.seed,
        "steps": steps_of(settings),
        "log_every": steps_of(settings) // ROWS,
        "save_every": steps_of(settings) // ROWS,
        "batch_size": BATCH,
        "learning_rate": 1e-3,
        "bins": 64,
        "schedule": "constant",
        "warmup": 0,
        "weight_decay": 0.0,
        "clip": 0.0,
        "ema": EMA,
        "width": WIDTH,
        "pipeline": "device",
    }
    if item.model in ("denoising", "ddpm", "flow"):
        chosen["sampling_steps"] = SAMPLING_STEPS
    # The best of 20 calls: with the exact network Euler leaves 1.2 % between the ways and ancestral sampling
    # 1.0 %, this one 0.5 %, as the truth. The chapter's denoising forgets its wrong start by fresh noise.
    if item.model in ("ddpm", "flow"):
        chosen["sampler"] = "dpmpp_2m"
    return dataclasses.replace(flags.options(), **chosen)


@functools.lru_cache(maxsize=2)
def _data(data: str, settings: Settings) -> tuple[Any, Any, Any]:
    """(dataset, prepared, truth) of a set, read once by each process."""
    from ch3_jax.data.prepare import held_out, prepare
    from experiments import job
    from experiments.bakeoff_parts.scores import make_truth

    options = options_of(Item(data, "mse"), settings)
    dataset = held_out(job.read(options), options.validation, options.seed)
    return dataset, prepare(dataset), make_truth(dataset, settings.observations, settings.seed)


def run(item: Item, settings: Settings, folder: Path, heard: Callable[[dict], None]) -> dict[str, Any]:
    """Trains an item, scores it, writes its part; returns the facts of the part."""
    import jax
    import numpy as np

    from ch3_jax.training.digests import tree_sha256
    from experiments import job
    from experiments.bakeoff_parts import parts
    from experiments.bakeoff_parts.scores import fresh, pictured, score

    began = time.process_time()
    dataset, data, truth = _data(item.data, settings)
    made = job.build(job.settle(options_of(item, settings), dataset), data)
    params, curves = train(made, heard)
    trained = time.process_time()
    scores, arrays, times = predict(made, params, data, truth, item, settings)
    arrays |= curves | {f"truth/{name}": value for name, value in pictured(truth).items()}
    if item.model == "mse":  # Once for each set: how the demonstrators themselves would score.
        scores[TRUTH] = score(truth, fresh(truth, settings)) | {"calls": None}
    leaves = jax.tree.leaves_with_path(params)
    arrays |= {f"parameters/{jax.tree_util.keystr(path, simple=True)}": np.asarray(x) for path, x in leaves}
    facts = {
        "steps": made.plan.steps,
        "parameters": sum(leaf.size for _, leaf in leaves),
        "parameters_sha256": tree_sha256(params),
        "floor": made.floor,
        "train_loss": float(curves["train"][-1]),
        "val_loss": float(curves["validation"][-1]),
        "best_val_loss": float(curves["validation"].min()),
        "best_step": int(curves["validation"].argmin()) * made.plan.every,
        "unit": made.objective.unit,
        "scores": scores,
        "times": times | {"train_s": trained - began, "score_s": time.process_time() - trained},
    }
    parts.write(parts.path_of(folder, item), parts.Part(facts, arrays))
    return facts


def train(made: Any, heard: Callable[[dict], None]) -> tuple[Any, dict[str, Any]]:
    """(best parameters, curves): the loop of `experiments.train`, its numbers kept in memory."""
    import jax
    import numpy as np

    from ch3_jax.training.loop import Hooks, fit

    state = made.start()
    steps, train_losses, validation = [], [], [float(made.validate(state)["loss"])]
    best = None

    def log(step: int, metrics: Any) -> None:
        steps.append(step)
        train_losses.append(float(np.mean(metrics["losses"])))
        heard({"step": step})

    def save(state: Any, metrics: Any) -> None:
        nonlocal best
        if metrics is None:
            return
        if float(metrics["loss"]) < min(validation):
            best = jax.tree.map(np.array, state.ema)  # a copy: the next step takes the buffers over
        validation.append(float(metrics["loss"]))

    outcome = fit(state, made.advance, made.plan, Hooks(log, made.validate, save, lambda: False))
    if outcome.status != "finished":
        raise FloatingPointError(f"the loss was not finite at step {int(outcome.state.step)}")
    curves = {"steps": np.array(steps), "train": np.array(train_losses), "validation": np.array(validation)}
    # Where nothing was learned at all, as in a smoke, the last is as good as any.
    return outcome.state.ema if best is None else best, curves


def predict(made: Any, params: Any, data: Any, truth: Any, item: Item, settings: Settings) -> tuple:
    """(scores, arrays for the picture, milliseconds per action) of every predictor of a model."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from ch3_jax.data.normalize import denormalize, normalize
    from experiments.bakeoff_parts.scores import score

    seen = normalize(data.normalizers["observation"], jnp.asarray(truth.observation))[:, None]
    scores, arrays, times = {}, {}, {}
    for predictor in (p for p in PREDICTORS if p.model == item.model):
        sampled = predictor.sampled

        @jax.jit
        def act(params, seen, key, sampled=sampled):
            return denormalize(
                data.normalizers["action"], made.objective.act(params, seen, key if sampled else None)[:, 0]
            )

        key = jax.random.key(settings.seed + 1)
        copies = settings.predictions if sampled else 1
        found = np.asarray(act(params, jnp.repeat(seen, copies, axis=0), key))
        found = found.reshape(len(seen), copies, -1)
        if not sampled:  # One answer however often it is asked.
            found = np.repeat(found, settings.predictions, axis=1)
        sampler = made.objective.sampler
        scores[predictor.name] = score(truth, found) | {"calls": 1 if sampler is None else sampler.calls}
        arrays[f"predictions/{predictor.name}"] = found[:SHOWN, :DRAWN, 0]
        times[predictor.name] = _milliseconds(lambda act=act, key=key: act(params, seen[:1], key))
    return scores, arrays, times


def _milliseconds(act: Callable[[], Any]) -> float:
    """Median processor time of one action."""
    act().block_until_ready()
    times = []
    for _ in range(_TIMED):
        start = time.process_time()
        act().block_until_ready()
        times.append(time.process_time() - start)
    return 1e3 * sorted(times)[len(times) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("settings", type=json.loads)
    parser.add_argument("--core", type=int, default=None)
    arguments = parser.parse_args()
    # Before jax is imported: it makes as many threads as there are processors that it may use.
    if arguments.core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {arguments.core})
    settings = Settings(**arguments.settings)

    def say(message: dict[str, Any]) -> None:
        print(json.dumps(message), flush=True)

    for line in sys.stdin:
        item = Item(*json.loads(line))
        try:
            say({"done": run(item, settings, arguments.folder, say)})
        except OSError as error:
            say({"os_error": [error.errno, error.strerror, str(error.filename)]})


if __name__ == "__main__":
    main()
