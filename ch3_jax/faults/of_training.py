"""Faults of place 3 to 7 that sit in code and settings: the step, rates, bookkeeping, the family's own."""

import dataclasses

import numpy as np

from ch3_jax.data.episodes import Steps
from ch3_jax.data.synthetic import inverse_dynamics
from ch3_jax.faults.fault import Fault, Pure
from ch3_jax.faults.of_data import on_steps
from ch3_jax.faults.run import Run


def _loss(name: str):
    return lambda run, value: run._replace(changes=(*run.changes, (name, float(value))))


def _optimizer(name: str):
    return lambda run, value: run._replace(optimizer_changes=(*run.optimizer_changes, (name, float(value))))


def rate(run: Run, factor: float) -> Run:
    """The learning rate times `factor`."""
    return run._replace(learning_rate=run.learning_rate * factor)


def reset(run: Run, share: float) -> Run:
    """Resumed at `share` of the run with an optimizer that has forgotten its moments."""
    at = round(run.steps * share / run.every) * run.every
    return run._replace(reset_at=at)


def sequential(run: Run, order: float) -> Run:
    """The same order in every epoch, and that of a recording sorted by its first action."""

    def change(steps: Steps, generator: np.random.Generator) -> Steps:
        key = steps.action[:, 0] + (1 - order) * generator.normal(size=len(steps))
        index = np.argsort(key)
        return dataclasses.replace(steps, observation=steps.observation[index], action=steps.action[index])

    return on_steps(run, change, ("train",))._replace(
        order="sequential", every=16, steps=run.steps // 16 * 16
    )


def untrained_average(run: Run, decay: float) -> Run:
    """An average so slow that it still holds the first parameters."""
    return run._replace(ema=decay)


def two_demonstrators(run: Run, distance: float) -> Run:
    """Two equally likely demonstrators `distance` apart in one dimension."""
    data = run.dataset.splits
    made = inverse_dynamics(
        run.seed,
        pairs=len(data["train"]),
        validation_pairs=len(data["val"]),
        bimodal=True,
        mode_distance=distance,
    )
    return run._replace(dataset=made, floor=distance**2 / 4 / 7 + 0.09)


def label_noise(run: Run, share: float) -> Run:
    """`share` of the training actions belong to other observations."""

    def change(steps: Steps, generator: np.random.Generator) -> Steps:
        rows = generator.permutation(len(steps))[: round(share * len(steps))]
        done = steps.action.copy()
        done[rows] = done[generator.permutation(rows)]
        return dataclasses.replace(steps, action=done)

    return on_steps(run, change, ("train",))


def acting(*choices: dict) -> Pure:
    """A fault that changes options of the sampler and leaves training alone; one choice per severity."""

    def change(run: Run, severity: float) -> Run:
        return run._replace(acting=tuple(sorted((dict(run.options) | choices[round(severity)]).items())))

    return change


def few_pairs(run: Run, count: float) -> Run:
    """So few demonstrations that the network knows them by heart."""
    steps = run.dataset.splits["train"]
    n = round(count)
    few = Steps(steps.observation[:n], steps.action[:n], steps.offset[: n + 1])
    return run._replace(dataset=dataclasses.replace(run.dataset, splits={**run.dataset.splits, "train": few}))


# --- healthy, and easily taken for one of the above ----------------------------------------------------


def _accumulates(run: Run) -> Run:
    return run._replace(optimizer_changes=(("accumulate", 4.0),), learning_rate=2e-3)


def _declared_frozen(run: Run) -> Run:
    declared = {**run.declared, "frozen": ("hidden_1",)}
    return run._replace(optimizer_changes=(("freeze", 1.0),), declared=declared)


def _open_loop(run: Run) -> Run:
    """A task that hardly depends on what is seen, trained for as long as that helps."""

    def change(steps: Steps, generator: np.random.Generator) -> Steps:
        done = 0.2 * steps.action + generator.normal(size=steps.action.shape).astype(np.float32)
        return dataclasses.replace(steps, action=done.astype(np.float32))

    return on_steps(run, change)._replace(floor=0.04 * 0.09 + 1.0, steps=min(run.steps, 500))


def _warm(run: Run) -> Run:
    return run._replace(learning_rate=3e-3, warmup=300)


def _clipped_tails(run: Run) -> Run:
    """Noise with heavy tails under a clip: a norm now and then, and nothing comes of it."""

    def change(steps: Steps, generator: np.random.Generator) -> Steps:
        done = steps.action + 0.1 * generator.standard_t(3, steps.action.shape)
        return dataclasses.replace(steps, action=done.astype(np.float32))

    return on_steps(run, change)._replace(clip=1.0, floor=0.09 + 0.01 * 3)


def _tuning(run: Run) -> Run:
    return run._replace(learning_rate=2e-4)


def _small_batch(run: Run) -> Run:
    return run._replace(batch_size=32)


def _average(run: Run) -> Run:
    return run._replace(ema=0.99)


def _skewed(run: Run) -> Run:
    """Noise with one long tail: skewed, and not two modes."""

    def change(steps: Steps, generator: np.random.Generator) -> Steps:
        done = steps.action.copy()
        done[:, 0] += (0.5 * (generator.exponential(size=len(done)) - 1)).astype(np.float32)
        return dataclasses.replace(steps, action=done)

    return on_steps(run, change)._replace(floor=0.09 + 0.25 / 7)


def _noisy(run: Run) -> Run:
    data = run.dataset.splits
    made = inverse_dynamics(run.seed, pairs=len(data["train"]), validation_pairs=len(data["val"]), noise=0.6)
    return run._replace(dataset=made)


def _heun(run: Run) -> Run:
    return run._replace(acting=(("sampler", "heun"), ("sampling_steps", 20)))


_SCHEDULES = ("sigmoid", "scaled_linear", "linear")

FAULTS = (
    Fault("C01", "step", "updates thrown away", 3, "params_not_updated", "pairs", (0.7, 0.9, 1.0),
          _optimizer("drop_updates"), ("frozen_layer", "cannot_overfit"), _accumulates,
          "accumulated gradients"),
    Fault("C02", "freeze", "layers frozen by mistake", 4, "frozen_layer", "pairs", (1, 2, 2),
          _optimizer("freeze"), ("params_not_updated",), _declared_frozen, "a layer that is declared frozen"),
    Fault("C03", "inputs", "inputs left at zero", 3, "input_ignored", "pairs", (0.5, 0.75, 1.0),
          _loss("zero_inputs"), ("plateau_at_blind_loss",), _open_loop, "a task that hardly needs them"),
    Fault("C04", "targets", "targets off by one", 3, "cannot_overfit", "pairs", (0.5, 0.75, 1.0),
          _loss("roll_targets"), ("batch_dependence", "observation_shuffled", "input_ignored")),
    Fault("C05", "sign", "gradient of the wrong sign", 3, "gradient_sign", "pairs", (0.1, 0.5, 1.0),
          _loss("flip_gradient"), (), None),
    Fault("D01", "rate", "rate too high", 4, "rate_too_high", "pairs", (30, 100, 1000),
          rate, ("divergence", "oscillation", "no_warmup"), _warm, "a high rate after a warm-up"),
    Fault("D02", "rate", "rate too low", 4, "rate_too_low", "pairs", (1e-2, 1e-3, 1e-5),
          rate, ("params_not_updated",), _tuning, "a fine-tuning rate"),
    Fault("D03", "warm-up", "a rate that needs a warm-up, without", 4, "no_warmup", "pairs", (15, 20, 30),
          rate, ("rate_too_high", "dead_units", "divergence", "oscillation"), _warm,
          "a high rate after a warm-up"),
    Fault("D04", "clipping", "wild batches, nothing clipped", 4, "exploding_gradients", "pairs",
          (30, 100, 1000), _loss("wild_batches"), ("spikes", "action_outliers"), _clipped_tails,
          "heavy tails under a clip"),
    Fault("D09", "keys", "one key for all steps", 4, "key_reuse", "flow", (1, 1, 1),
          _loss("same_key"), (), None),
    Fault("D10", "precision", "parameters in bfloat16", 4, "low_precision_swallow", "pairs", (1, 1, 1),
          _optimizer("bfloat16"), ("frozen_layer", "params_not_updated"), _tuning, "a fine-tuning rate"),
    Fault("E01", "overflow", "float16 overflows", 5, "precision_overflow", "pairs", (7e4, 1e5, 1e6),
          _loss("half_precision"), ("non_finite_loss", "non_finite_gradient"), None),
    Fault("F01", "reduction", "summed over the batch", 6, "loss_summed", "pairs", (0.25, 0.5, 1.0),
          _loss("sum_over_batch"), (), _small_batch, "another batch size"),
    Fault("F03", "padding", "padded steps counted", 6, "padding_counted", "robot_chunks", (1, 1, 1),
          _loss("count_padding"), (), None),
    Fault("F05", "resume", "optimizer reset on resume", 6, "optimizer_reset", "pairs", (0.25, 0.5, 0.75),
          reset, ("spikes",), _tuning, "a fine-tuning rate"),
    Fault("F07", "order", "not shuffled", 6, "not_reshuffled", "pairs", (0.5, 0.8, 1.0),
          sequential, ("oscillation",), _small_batch, "another batch size"),
    Fault("F08", "average", "average that still holds the start", 6, "untrained_average", "pairs",
          (0.999, 0.9995, 0.9999), untrained_average, (), _average, "an average that has caught up"),
    Fault("G01", "modes", "two demonstrators", 7, "mode_averaging", "pairs", (1.5, 2.0, 4.0),
          two_demonstrators, (), _skewed, "skewed noise with one mode"),
    Fault("G02", "labels", "labels of other steps", 7, "label_noise", "pairs", (0.1, 0.2, 0.4),
          label_noise, (), _noisy, "actions that are noisy by nature"),
    Fault("G03", "few", "too few demonstrations", 7, "too_few_demonstrations", "pairs", (256, 128, 64),
          few_pairs, ("memorising",), None),
    Fault("G04", "schedule", "another schedule in sampling", 7, "schedule_mismatch", "diffusion", (0, 1, 2),
          acting(*({"noise_schedule": name, "allow_signal": True} for name in _SCHEDULES)),
          ("terminal_signal",), None),
    Fault("G06", "direction", "time reversed in sampling", 7, "time_reversed", "flow", (0, 0, 0),
          acting({"time_direction": "noise_at_1"}), (), None),
    Fault("G07", "integrator", "too few sampling steps", 7, "too_few_sampling_steps", "flow", (0, 1, 2),
          acting(*({"sampling_steps": n} for n in (3, 2, 1))), (), _heun, "a better integrator"),
    Fault("G09", "prediction", "network read as another kind", 7, "prediction_mismatch", "diffusion",
          (0, 1, 1),
          acting({"prediction": "v"}, {"prediction": "x0"}), (), None),
)  # fmt: skip
"""Faults of the step, of rates, of bookkeeping and of the family."""
