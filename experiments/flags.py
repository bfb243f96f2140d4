"""The flags of training, the same names in every experiment, and their values as one record.

Nothing heavy is imported here: `--help` must answer at once.
"""

import dataclasses
from typing import Any

from absl import flags

from experiments import shared_flags  # noqa: F401 - defines --out and --smoke

LOSSES = ("ce", "mse", "l1", "huber", "gmm", "cvae", "denoising", "ddpm", "flow", "consistency", "infonce")
BY_REWARD = ("ppo", "a2c", "reinforce", "grpo", "sac", "awr", "iql")  # see `experiments.reinforce_parts`
SCHEDULES = ("constant", "linear", "cosine", "openpi", "lerobot", "rsqrt", "step")
BIN_RULES = ("minmax", "quantile", "equal_mass", "rt1", "openvla", "octo")
NORMALIZERS = (
    *("zscore", "minmax", "quantile", "identity"),
    *("openvla", "openvla_minmax", "openpi", "openpi_zscore", "lerobot", "lerobot_minmax"),
    *("lerobot_quantile", "diffusion_policy", "octo", "octo_quantile", "act"),
)

RECIPES = ("rt1", "openvla", "act", "diffusion_policy", "pi0", "octo")  # see `experiments.recipes`
SCALES = ("tiny", "small", "paper")

# Options of a loss, None where the loss decides; one that the loss has no use for is refused.
OF_LOSS = (
    *(
        "sampler",
        "sampling_steps",
        "prediction",
        "time_law",
        "time_direction",
        "noise_schedule",
        "noise_steps",
    ),
    *("match_std", "min_snr", "allow_signal", "sigma_max", "huber_delta", "components", "beta", "negatives"),
)
SAMPLERS = ("ddpm", "ddim", "dpmpp_2m", "euler", "midpoint", "heun", "rk4", "adaptive", "consistency")
PREDICTIONS = ("eps", "x0", "v", "velocity")
TIME_LAWS = ("uniform", "pi0_beta", "logit_normal")
DIRECTIONS = ("noise_at_0", "noise_at_1")
NOISE_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid")

flags.DEFINE_enum(
    "loss",
    "ce",
    (*LOSSES, *BY_REWARD),
    "bins: ce; numbers: mse l1 huber; laws: gmm cvae; from noise: denoising ddpm flow consistency; infonce; "
    "by reward: ppo a2c reinforce grpo sac awr iql",
)
flags.DEFINE_string(
    "data",
    "inverse_dynamics",
    "a folder (RLDS/TFDS, zarr, LeRobot), or inverse_dynamics, random_bins, panda_reach[_obstacle]",
)
flags.DEFINE_integer("pairs", None, "training pairs of an embedded set", lower_bound=1)
flags.DEFINE_float("noise", None, "of inverse_dynamics, in standard deviations of the action", lower_bound=0)
flags.DEFINE_bool("bimodal", False, "two demonstrators in inverse_dynamics")
flags.DEFINE_float("validation", 0.1, "share of the episodes held out where the data has no such split")
flags.DEFINE_enum("normalize", "zscore", NORMALIZERS, "rule, or a peer's preset, of the normalisers")
flags.DEFINE_enum("angles", "raw", ("raw", "sincos"), "observed angles that wrap, as they are or encoded")
flags.DEFINE_integer("window", 1, "observations that the policy sees", lower_bound=1)
flags.DEFINE_integer("horizon", 1, "actions that the policy predicts", lower_bound=1)
flags.DEFINE_enum("bins_rule", "minmax", BIN_RULES, "where the bins of an action dimension lie")
flags.DEFINE_integer("bins", 256, "bins of an action dimension", lower_bound=1)

flags.DEFINE_enum("sampler", None, SAMPLERS, "from noise to action [ddpm; euler for flow]")
flags.DEFINE_integer("sampling_steps", None, "of the sampler [20; 10 for flow]", lower_bound=1)
flags.DEFINE_enum("prediction", None, PREDICTIONS, "of the network [eps; velocity for flow]")
flags.DEFINE_enum("time_law", None, TIME_LAWS, "of flow, how the share of noise is drawn [uniform]")
flags.DEFINE_enum("time_direction", None, DIRECTIONS, "of flow [noise_at_0]; noise_at_1 is openpi's")
flags.DEFINE_enum("noise_schedule", None, NOISE_SCHEDULES, "of ddpm [squaredcos_cap_v2]")
flags.DEFINE_integer("noise_steps", None, "of ddpm, in training [100]", lower_bound=1)
flags.DEFINE_bool("match_std", None, "scale ddpm's schedule to the actions' standard deviation")
flags.DEFINE_float("min_snr", None, "bound of ddpm's min-SNR weights [none]", lower_bound=0)
flags.DEFINE_bool("allow_signal", None, "sample from pure noise where ddpm's schedule leaves signal")
flags.DEFINE_float("sigma_max", None, "of denoising, the noisiest level [1]", lower_bound=0)
flags.DEFINE_float("huber_delta", None, "of huber, from where on it is linear [1]", lower_bound=0)
flags.DEFINE_integer("components", None, "of gmm [5]", lower_bound=1)
flags.DEFINE_float("beta", None, "of cvae, weight of the KL [10]", lower_bound=0)
flags.DEFINE_integer("negatives", None, "of infonce [255]", lower_bound=1)

flags.DEFINE_integer("steps", None, "length of the run in updates; overrides --epochs", lower_bound=1)
flags.DEFINE_float("epochs", None, "passes over the data [a million samples, at most 50 passes]")
flags.DEFINE_integer("batch_size", None, "samples of an update [64]", lower_bound=1)
flags.DEFINE_float("learning_rate", None, "peak rate [1e-3]")
flags.DEFINE_enum("schedule", None, SCHEDULES, "of the learning rate [cosine]")
flags.DEFINE_integer("warmup", None, "steps of linear rise [a fiftieth of the run]", lower_bound=0)
flags.DEFINE_float("weight_decay", 1e-5, "decoupled decay", lower_bound=0)
flags.DEFINE_float("clip", 1.0, "bound of the gradient's global norm, 0 for none", lower_bound=0)
flags.DEFINE_float("b1", 0.9, "Adam's first decay", lower_bound=0, upper_bound=1)
flags.DEFINE_float("b2", 0.999, "Adam's second decay", lower_bound=0, upper_bound=1)
flags.DEFINE_integer("width", 256, "of the hidden layers", lower_bound=1)
flags.DEFINE_string(
    "network",
    "mlp",
    "mlp, or NAME:tiny|small|paper: unet transformer expert adaptive_expert readout act rt1 openvla",
)
flags.DEFINE_enum("dtype", "float32", ("float32", "bfloat16"), "of the computation; parameters are float32")
flags.DEFINE_integer("accumulate", 1, "micro-batches of an update", lower_bound=1)
flags.DEFINE_string("ema", "none", "average of the parameters: none, power, or a decay such as 0.99")
flags.DEFINE_enum("on_nonfinite", "stop", ("stop", "skip"), "what a non-finite step does to the run")
flags.DEFINE_enum(
    "pipeline", "auto", ("auto", "device", "host"), "where batches are made [device up to 1 GiB]"
)
flags.DEFINE_integer(
    "devices", None, "that divide the batch, or the environments of a run by reward [1; cores]", lower_bound=1
)
flags.DEFINE_integer("fsdp", 1, "of --devices, that divide the parameters among them", lower_bound=1)
flags.DEFINE_string("coordinator", None, "host:port of process 0, where several processes train as one")
flags.DEFINE_integer("num_processes", None, "how many of them there are", lower_bound=1)
flags.DEFINE_integer("process_id", None, "which of them this one is, from 0", lower_bound=0)
flags.DEFINE_integer("seed", 0, "of data, parameters and order", lower_bound=0)

flags.DEFINE_enum("recipe", None, RECIPES, "flags of a published system, from its card; those given here win")
flags.DEFINE_enum("scale", "small", SCALES, "of --recipe: tiny and small train on two cores")
flags.DEFINE_bool("explain", False, "print --recipe beside its card, and why it differs; train nothing")
flags.DEFINE_bool("resume", False, "go on with the run in --out, with the flags that it was started with")
flags.DEFINE_integer("log_every", 100, "steps per dispatch and row of metrics.csv", lower_bound=1)
flags.DEFINE_integer("save_every", None, "steps between checkpoints [a tenth of the run]", lower_bound=1)
flags.DEFINE_bool("tensorboard", True, "write TensorBoard events")
flags.DEFINE_bool("doctor", True, "checks before the first step and on the way, report.html at the end")
flags.DEFINE_string("wandb", None, "Weights & Biases project; needs wandb, WANDB_MODE=offline works")
flags.DEFINE_integer("plant_overflow", None, "put 1e38 into what this step sees, to watch the run stop")

# Where a run lies is no part of what it is. What a resumed run may be given anew changes no good step.
PLACE = ("out", "resume")
MAY_DIFFER = ("tensorboard", "wandb", "on_nonfinite", "doctor")
# Of a run on data: how many devices share an update changes the order of its sums, and nothing else.
DEVICES = ("devices", "fsdp")
HOSTS = ("coordinator", "num_processes", "process_id")  # see `experiments.hosts`


@dataclasses.dataclass(frozen=True)
class Options:
    """The flags of a run, by name; None means: as the data set suggests."""

    loss: str
    data: str
    pairs: int | None
    noise: float | None
    bimodal: bool
    validation: float
    normalize: str
    angles: str
    window: int
    horizon: int
    bins_rule: str
    bins: int
    sampler: str | None
    sampling_steps: int | None
    prediction: str | None
    time_law: str | None
    time_direction: str | None
    noise_schedule: str | None
    noise_steps: int | None
    match_std: bool | None
    min_snr: float | None
    allow_signal: bool | None
    sigma_max: float | None
    huber_delta: float | None
    components: int | None
    beta: float | None
    negatives: int | None
    steps: int | None
    epochs: float | None
    batch_size: int | None
    learning_rate: float | None
    schedule: str | None
    warmup: int | None
    weight_decay: float
    clip: float
    b1: float
    b2: float
    width: int
    network: str
    dtype: str
    accumulate: int
    ema: str
    on_nonfinite: str
    pipeline: str
    devices: int | None
    fsdp: int
    seed: int
    out: str | None
    resume: bool
    log_every: int
    save_every: int | None
    tensorboard: bool
    doctor: bool
    wandb: str | None
    smoke: bool
    plant_overflow: int | None
    recipe: str | None
    scale: str

    def of_loss(self) -> dict[str, Any]:
        """The options of the loss that were given."""
        given = ((name, getattr(self, name)) for name in OF_LOSS)
        return {name: value for name, value in given if value is not None}


def options(before: dict[str, Any] | None = None) -> Options:
    """The parsed flags as a record.

    Args:
      before: flags that a resumed run was started with; they hold where the command line is silent.
    """
    values = {field.name: flags.FLAGS[field.name] for field in dataclasses.fields(Options)}
    before = before or {}
    return Options(
        **{
            name: before[name] if name in before and not flag.present else flag.value
            for name, flag in values.items()
        }
    )
