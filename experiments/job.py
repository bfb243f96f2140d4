"""From options to everything that a run is made of: data, objective, optimizer, step."""

import contextlib
import dataclasses
import functools
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ch3_jax import floors
from ch3_jax.base import Metrics
from ch3_jax.data import angles, synthetic
from ch3_jax.data.batches import host_batches
from ch3_jax.data.episodes import Dataset
from ch3_jax.data.load import load
from ch3_jax.data.normalize import normalize
from ch3_jax.data.prepare import Prepared
from ch3_jax.data.shuffle import indices
from ch3_jax.data.windows import DeviceSteps, gather
from ch3_jax.errors import InputError
from ch3_jax.evaluation.marginals import marginal_distances
from ch3_jax.objectives import Objective, Shapes, Spread, make_objective, spread
from ch3_jax.tokens import bins as tokens
from ch3_jax.training import ema, hosts, sharding
from ch3_jax.training import mesh as meshes
from ch3_jax.training.dispatch import device_advance, host_advance
from ch3_jax.training.loop import Plan
from ch3_jax.training.optimizers import clipped_adamw, make_schedule
from ch3_jax.training.update import TrainState, init_state, make_update
from ch3_jax.training.validate import make_validate
from experiments.flags import Options

_SAMPLES, _MOST_EPOCHS = 1_000_000, 50
_DRILL_PAIRS = 10_000
_DEVICE_BYTES = 2**30
_VALIDATION_ROWS = 20_000
_SAMPLED_ROWS = 4096
_EQUAL_MASS_ROWS = 200_000


class Job(NamedTuple):
    """A run, ready to go.

    Attributes:
      objective: policy and loss.
      bins: of the normalised actions, None without tokens.
      schedule: step -> learning rate.
      plan: when things happen.
      floor: the smallest expected loss, None where the law of the data is unknown.
      start: () -> the state before the first step.
      advance: (state, length) -> (state, metrics).
      validate, score_training: state -> metrics on held-out rows, on as many training rows.
      distances: state -> (A,) of sampled actions to the data, see `evaluation.marginals`; None where the
        policy does not sample.
      replay: step -> the batch that it saw.
      mesh: of the devices that share an update, None for one.
      local: a state over the devices -> the same on one.
      spread: the way back, for a state that was restored.
    """

    objective: Objective
    bins: tokens.Bins | None
    schedule: Callable
    plan: Plan
    floor: float | None
    start: Callable[[], TrainState]
    advance: Callable[[TrainState, int], tuple[TrainState, Metrics]]
    validate: Callable[[TrainState], Metrics]
    score_training: Callable[[TrainState], Metrics]
    distances: Callable[[TrainState], jax.Array] | None
    replay: Callable[[int], object]
    mesh: Mesh | None
    local: Callable[[TrainState], TrainState]
    spread: Callable[[TrainState], TrainState]


def read(options: Options) -> Dataset:
    """The data set of `--data`: an embedded name, or else a path."""
    if options.data not in synthetic.EMBEDDED:
        given = [name for name in ("pairs", "noise") if getattr(options, name) is not None]
        if given or options.bimodal:
            raise InputError(
                f"--{(given or ['bimodal'])[0]} is for embedded data",
                got=f"--data={options.data}",
                expected=" or ".join(synthetic.EMBEDDED),
                cause="a flag left over from another command",
                fix="leave the flag out, or use --data=inverse_dynamics",
            )
        return load(options.data)
    settings = {
        name: getattr(options, name) for name in ("pairs", "noise") if getattr(options, name) is not None
    }
    if options.bimodal:
        settings["bimodal"] = True
    if options.smoke:
        settings.setdefault("pairs", 2_000)
    make = functools.partial(synthetic.embedded, options.data, options.seed, **settings)
    if settings.get("pairs") != _DRILL_PAIRS:
        return make()
    recipe = {"name": options.data, "seed": options.seed, **settings}
    name = "-".join(str(value) for value in recipe.values())
    try:
        return synthetic.cached(_cache() / f"{name}.npz", make, recipe)[0]
    except InputError:  # No home, or a disk that takes no more: a cache is a convenience.
        return make()


def encode(options: Options, dataset: Dataset) -> Dataset:
    """The data set, split, with the angles of its observations as `--angles` says."""
    if options.angles == "raw":
        return dataset
    turns = angles.find(dataset.splits["train"], dataset.facts.observation_names)
    if not turns.columns:
        raise InputError(
            f"{dataset.facts.name} has no observed angle that wraps",
            got="--angles=sincos",
            expected="a number that fills a whole turn and jumps by almost one between neighbouring steps",
            cause="joints within their limits, or a data set without angles",
            fix="leave --angles out",
        )
    return angles.encoded(dataset, turns)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ch3_jax"


def rehearse(options: Options) -> None:
    """Builds the objective for one number, to refuse what cannot be built before any data is read."""
    one = Spread(np.zeros(1, np.float32), np.ones(1, np.float32), 1.0)
    make_objective(
        options.loss,
        Shapes(options.window, 1, options.horizon, 1),
        tokens.uniform([0.0], [1.0], 2),
        network=options.network,
        spread=one,
        **options.of_loss(),
    )


def settle(options: Options, dataset: Dataset) -> Options:
    """Options with every None replaced by what suits the data, and the whole checked for sense."""
    suggested = dataset.extra.get("settings", {})
    rows = len(dataset.splits["train"])

    def given(name: str, default):
        value = getattr(options, name)
        return suggested.get(name, default) if value is None else value

    batch_size = given("batch_size", 64)
    if batch_size > rows or batch_size % options.accumulate:
        fit = min(rows, 64) // options.accumulate * options.accumulate or options.accumulate
        raise InputError(
            "the batch does not fit",
            got=f"--batch_size={batch_size} with {rows} training steps and --accumulate={options.accumulate}",
            expected="a batch of at most the training steps, divisible by --accumulate",
            cause="a batch size meant for a larger data set",
            fix=f"--batch_size={fit}",
        )
    epochs = given("epochs", min(_MOST_EPOCHS, max(1, round(_SAMPLES / rows))))
    rate = given("learning_rate", 1e-3)
    for name, value in (("epochs", epochs), ("learning_rate", rate)):
        if not (value > 0 and math.isfinite(value)):
            raise InputError(
                f"--{name} must be a positive number",
                got=value,
                expected="a finite number over 0",
                cause="a sign or a unit slipped",
                fix=f"leave --{name} out: the default suits the data",
            )
    steps = options.steps or max(1, math.floor(epochs * (rows // batch_size)))
    if options.smoke:
        steps = min(steps, 40)
    log_every = min(options.log_every, 10 if options.smoke else steps)
    tenth = max(log_every, steps // 10)
    save_every = options.save_every or min(tenth, 10_000)
    return dataclasses.replace(
        options,
        batch_size=batch_size,
        epochs=steps * batch_size / rows,
        steps=steps,
        learning_rate=rate,
        schedule=given("schedule", "cosine"),
        warmup=given("warmup", steps // 50),
        devices=options.devices or 1,
        log_every=log_every,
        save_every=-(-save_every // log_every) * log_every,
    )


def make_bins(options: Options, data: Prepared) -> tokens.Bins | None:
    """Bins of the normalised actions by the rule of `--bins_rule`; None for losses without tokens."""
    if options.loss != "ce":
        return None
    normalizer, action = data.normalizers["action"], data.action
    dims = len(action.names)
    if options.bins_rule in ("rt1", "openvla", "octo"):
        if options.normalize in ("zscore", "identity", "openpi_zscore", "lerobot", "octo", "act"):
            raise InputError(
                f"--bins_rule={options.bins_rule} cuts [-1, 1], --normalize={options.normalize} does not",
                got=f"--normalize={options.normalize}",
                expected="minmax, quantile, openvla or another rule that ends in [-1, 1]",
                cause="the published tokenizer comes with its own normaliser",
                fix="--normalize=openvla, as OpenVLA does",
            )
        make = {
            "rt1": lambda: tokens.rt1([-1.0] * dims, [1.0] * dims, options.bins),
            "openvla": lambda: dataclasses.replace(tokens.openvla(dims), first=0, step=1),
            "octo": lambda: tokens.octo(dims, bins=options.bins),
        }
        return make[options.bins_rule]()
    ends = {
        name: np.asarray(normalize(normalizer, jnp.asarray(value, jnp.float32)))
        for name, value in (
            ("minimum", action.min),
            ("maximum", action.max),
            ("q01", action.q01),
            ("q99", action.q99),
        )
    }
    sample = None
    if options.bins_rule == "equal_mass":
        every = -(-len(data.train.action) // _EQUAL_MASS_ROWS)
        sample = np.asarray(data.train.action[::every])
    return tokens.make_bins(options.bins_rule, options.bins, sample=sample, **ends)


def build(options: Options, data: Prepared) -> Job:
    """All parts of the run, bound together; nothing is computed yet."""
    bins = make_bins(options, data)
    shapes = Shapes(options.window, len(data.observation.names), options.horizon, len(data.action.names))
    where_actions = spread(data.action, data.normalizers["action"])
    objective = make_objective(
        options.loss,
        shapes,
        bins,
        width=options.width,
        dtype=jnp.dtype(options.dtype),
        network=options.network,
        spread=where_actions,
        **options.of_loss(),
    )
    schedule = make_schedule(
        options.schedule, options.learning_rate, steps=options.steps, warmup=options.warmup
    )
    optimizer = clipped_adamw(
        schedule, clip=options.clip or None, weight_decay=options.weight_decay, b1=options.b1, b2=options.b2
    )
    decay = _ema(options.ema)
    init_key, order_key, run_key = jax.random.split(jax.random.key(options.seed), 3)
    rows = len(data.train.action)

    def begin() -> TrainState:
        return init_state(objective.init(init_key), optimizer, run_key, ema=decay is not None)

    mesh, places = _mesh(options, begin)
    update = make_update(
        meshes.gathered(mesh, objective.loss) if options.fsdp > 1 else objective.loss,
        optimizer,
        ema_decay=decay,
        accumulate=options.accumulate,
        skip_nonfinite=options.on_nonfinite == "skip",
    )

    def order(steps):
        return indices(order_key, steps, options.batch_size, rows)

    def fetch(steps: DeviceSteps, index):
        return gather(steps, index, window=options.window, horizon=options.horizon)

    train = _planted(data.train, order, options.plant_overflow)
    # The data go in as an argument: as a constant they would be compiled into the program.
    replayed = jax.jit(lambda data, step: fetch(data, order(step[None])[0]))
    score, score_train = (
        _scorer(objective, fetch, steps, decay is not None) for steps in (data.validation, train)
    )
    return Job(
        objective=objective,
        bins=bins,
        schedule=schedule,
        plan=Plan(options.steps, options.log_every, options.save_every),
        floor=floors.floor(options.loss, data.extra, data.normalizers["action"], bins, objective.asked),
        # Compiled as one program: layer by layer it would be thirty.
        start=jax.jit(begin, out_shardings=places),
        advance=_advance(options, update, order, fetch, train, mesh, places),
        validate=score,
        score_training=score_train,
        distances=_distances(objective, fetch, data.validation, where_actions, decay is not None),
        replay=lambda step: replayed(train, jnp.asarray(step, jnp.int32)),
        mesh=mesh,
        local=_local(mesh),
        spread=lambda state: state if mesh is None else hosts.spread(state, places),
    )


@contextlib.contextmanager
def where(options: Options, dataset: Dataset) -> Iterator[Options]:
    """Settles where batches are made, and makes arrays there while inside."""
    size = sum(s.observation.nbytes + s.action.nbytes for s in dataset.splits.values())
    host = options.pipeline == "host" or (options.pipeline == "auto" and size > _DEVICE_BYTES)
    with jax.default_device(jax.local_devices(backend="cpu")[0]) if host else contextlib.nullcontext():
        yield dataclasses.replace(options, pipeline="host" if host else "device")


def _mesh(options: Options, begin: Callable[[], TrainState]):
    """The mesh of the run and where its state lies there; (None, None) for one device."""
    if options.devices == 1 and options.fsdp == 1 and jax.process_count() == 1:
        return None, None
    mesh = meshes.make_mesh(
        options.devices, options.fsdp, batch_size=options.batch_size, accumulate=options.accumulate
    )
    return mesh, sharding.shardings(mesh, jax.eval_shape(begin))


def _local(mesh: Mesh | None) -> Callable[[TrainState], TrainState]:
    """A state over a mesh -> the whole of it on this process's first device."""
    if mesh is None:
        return lambda state: state
    gather_all = jax.jit(lambda state: state, out_shardings=meshes.everywhere(mesh))
    return lambda state: jax.tree.map(lambda x: x.addressable_data(0), gather_all(state))


def _advance(options: Options, update, order, fetch, train: DeviceSteps, mesh: Mesh | None, places):
    """(state, length) -> (state, metrics), compiled once for each length that occurs."""
    programs = {}
    out, wait = None, lambda state: state
    if mesh is not None:
        out = places, meshes.everywhere(mesh)
        # One at a time: on a CPU, programs that speak between devices wait for one another for good when many
        # are under way, since they share a few threads.
        wait = jax.block_until_ready if jax.default_backend() == "cpu" else wait
    if options.pipeline != "host":
        rows = train if mesh is None else hosts.spread(train, meshes.everywhere(mesh))

        def shared(steps: DeviceSteps, index):
            batch = fetch(steps, index)
            return batch if mesh is None else meshes.share_rows(mesh, batch)

        def on_device(state: TrainState, length: int):
            if length not in programs:
                programs[length] = device_advance(update, order, shared, length, out=out)
            return programs[length](wait(state), rows)

        return on_device

    batches = None

    def from_host(state: TrainState, length: int):
        nonlocal batches
        if batches is None:
            first, every, steps = int(state.step), options.log_every, options.steps
            starts = [first, *range(first - first % every + every, steps, every)]
            lengths = ((s, min(e, steps) - s) for s, e in zip(starts, [*starts[1:], steps], strict=True))
            batches = host_batches(
                train,
                order,
                lengths,
                window=options.window,
                horizon=options.horizon,
                device=None if mesh is None else meshes.by_rows(mesh, before=1),
                share=(jax.process_index(), jax.process_count()),
            )
        if length not in programs:
            programs[length] = host_advance(update, length, out=out)
        return programs[length](wait(state), next(batches))

    return from_host


def _distances(objective: Objective, fetch, steps: DeviceSteps, where_actions: Spread, averaged: bool):
    """state -> distances of sampled actions to the data, over evenly spaced rows of `steps`."""
    if not objective.samples:
        return None
    chosen = _even_rows(len(steps.action), _SAMPLED_ROWS)
    width = where_actions.high - where_actions.low

    @jax.jit
    def measure(params, steps: DeviceSteps):
        batch = fetch(steps, chosen)
        return marginal_distances(
            lambda seen, key: objective.act(params, seen, key), batch, width, jax.random.key(1)
        )

    return lambda state: measure(state.ema if averaged else state.params, steps)


def _even_rows(rows: int, most: int) -> jax.Array:
    return jnp.asarray(np.linspace(0, rows - 1, min(rows, most)).round().astype(np.int32))


def _scorer(objective: Objective, fetch, steps: DeviceSteps, averaged: bool):
    """state -> metrics over evenly spaced rows of `steps`, by the averaged parameters where there are any."""
    chosen = _even_rows(len(steps.action), _VALIDATION_ROWS)
    validate = make_validate(objective.loss, lambda data, i: fetch(data[0], data[1][i]), len(chosen))

    def score(state: TrainState) -> Metrics:
        # Every validation draws the same noise, so that two of them differ by the parameters alone.
        return validate(state.ema if averaged else state.params, (steps, chosen), jax.random.key(0))

    return score


def _ema(name: str) -> ema.Decay | None:
    if name == "none":
        return None
    if name == "power":
        return ema.power_decay()
    try:
        return ema.constant_decay(float(name))
    except ValueError:
        raise InputError(
            f"--ema={name} is no average",
            got=name,
            expected="none, power, or a number in [0, 1)",
            cause="a misspelt name, or a decay of 1 that would never learn",
            fix="--ema=0.99 is openpi's, --ema=power is Diffusion Policy's",
        ) from None


def _planted(steps: DeviceSteps, order, at: int | None) -> DeviceSteps:
    """A copy with one absurd but finite observation where step `at` will look."""
    if at is None:
        return steps
    row = order(jnp.array([at]))[0, 0]
    return steps._replace(observation=steps.observation.at[row, 0].set(1e38))
