"""The objectives by name, and which options each of them has.

A builder's keyword arguments are its options: what a loss does not name, it does not take, and an option
given to a loss that has no use for it is refused instead of ignored.
"""

import inspect
from collections.abc import Callable

import jax.numpy as jnp

from ch3_jax.errors import InputError
from ch3_jax.losses import supervised as errors
from ch3_jax.objectives import contrastive, distilled, generative, likelihood, supervised
from ch3_jax.objectives.objective import Objective, Shapes, Spread
from ch3_jax.policies.networks import MLP
from ch3_jax.tokens import bins as tokens

OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "ce": supervised.cross_entropy,
    "mse": lambda shapes, bins, **kw: supervised.regression(shapes, errors.squared_error, **kw),
    "l1": lambda shapes, bins, **kw: supervised.regression(shapes, errors.absolute_error, **kw),
    "huber": supervised.huber,
    "gmm": likelihood.gmm,
    "cvae": likelihood.cvae,
    "denoising": generative.denoising,
    "ddpm": generative.ddpm,
    "flow": generative.flow,
    "consistency": distilled.consistency,
    "infonce": contrastive.infonce,
}

_ALWAYS = ("width", "dtype", "spread", "network")


def options_of(name: str) -> tuple[str, ...]:
    """The options of a loss beside the size of its network.

    >>> options_of("flow")
    ('prediction', 'time_law', 'time_direction', 'sampler', 'sampling_steps')
    """
    return tuple(n for n in _keywords(OBJECTIVES[name]) if n not in _ALWAYS)


def make_objective(
    name: str,
    shapes: Shapes,
    bins: tokens.Bins | None = None,
    *,
    width: int = 256,
    dtype=jnp.float32,
    spread: Spread | None = None,
    network: str = MLP,
    **options,
) -> Objective:
    """The objective of a name.

    Args:
      name: one of `OBJECTIVES`.
      shapes: what the network must fit.
      bins: of the normalised actions; only token objectives look at them.
      width: of the hidden layers.
      dtype: of the computation; parameters stay float32.
      network: see `policies.networks`; losses that have but one network take `mlp` alone.
      spread: where the normalised actions lie, for losses that sample.
      **options: of that loss, see `options_of`.

    Raises:
      InputError: an unknown name; an option that the loss does not have, or a value that it cannot use.

    >>> objective = make_objective("flow", Shapes(1, 3, 1, 2), width=8, sampler="heun", sampling_steps=4)
    >>> objective.sampler.calls
    8
    """
    if name not in OBJECTIVES:
        raise InputError(
            f"unknown loss {name!r}",
            got=name,
            expected="one of " + ", ".join(OBJECTIVES),
            cause="a misspelt name",
            fix="--loss=ce is the main job",
        )
    build = OBJECTIVES[name]
    allowed = options_of(name)
    if unknown := sorted(set(options) - set(allowed)):
        users = [other for other in OBJECTIVES if unknown[0] in options_of(other)]
        raise InputError(
            f"--loss={name} has no use for --{unknown[0]}",
            got=f"--{unknown[0]}={options[unknown[0]]}",
            expected=", ".join(f"--{option}" for option in allowed) or "no option of a loss",
            cause="a flag left over from another loss" if users else "a misspelt option",
            fix=f"leave it out, or use --loss={' or '.join(users)}" if users else "leave it out",
        )
    known = {"spread": spread} if "spread" in _keywords(build) else {}
    if "network" in _keywords(build):
        known["network"] = network
    elif network != MLP:
        raise InputError(
            f"--loss={name} has one network only",
            got=f"--network={network}",
            expected=MLP,
            cause="a flag left over from another loss",
            fix="leave --network out, or use --loss="
            + " or ".join(n for n in OBJECTIVES if "network" in _keywords(OBJECTIVES[n])),
        )
    return build(shapes, bins, width=width, dtype=dtype, **known, **options)


def _keywords(build: Callable) -> list[str]:
    parameters = inspect.signature(build).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
