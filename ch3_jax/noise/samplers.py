r"""From noise to action: one interface for every sampler.

  sampler = make_sampler("ddim", process, steps=20, prediction="eps")
  action  = sample(sampler, Denoiser(apply, "eps", process), key, shape)

A sampler is bound to a process and to the prediction that it reads; a network that was trained with others is
refused before the first step. Everything is one `lax.scan`, so a sampling inside a jitted function is a
single dispatch however many steps it takes.

| name | works on | network calls | random |
| --- | --- | --- | --- |
| ddpm | all | n | yes |
| ddim | all | n | eta > 0 |
| dpmpp_2m | all | n | no |
| euler, midpoint, heun, rk4 | flow, denoising | n, 2n, 2n, 4n | no |
| adaptive | flow, denoising | as many as the tolerance needs; `steps` is unused and must be left out | no |
"""

import inspect
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ch3_jax import checks
from ch3_jax.base import Array, Key
from ch3_jax.errors import InputError
from ch3_jax.noise import adaptive, ode, steppers
from ch3_jax.noise.denoiser import Denoiser, require_same
from ch3_jax.noise.processes import Process

SAMPLERS = ("ddpm", "ddim", "dpmpp_2m", *ode.METHODS, "adaptive")
_STEPPERS = {"ddpm": steppers.ddpm, "ddim": steppers.ddim, "dpmpp_2m": steppers.dpmpp_2m}


class Sampler(NamedTuple):
    """A way from noise to action.

    Attributes:
      name: one of `SAMPLERS`.
      process: that it walks back.
      prediction: that it reads.
      calls: network calls per action; None for "adaptive".
      random: whether `run` needs a key.
      start: (key, shape, dtype) -> where it begins.
      run: (denoiser, x (B, ...), key or None) -> actions of the shape of x.
      trace: the same, but all states (n + 1, B, ...), the start first.
    """

    name: str
    process: Process
    prediction: str
    calls: int | None
    random: bool
    start: Callable[..., Array]
    run: Callable[[Denoiser, Array, Key | None], Array]
    trace: Callable[[Denoiser, Array, Key | None], Array]


def make_sampler(
    name: str, process: Process, *, steps: int | None = None, prediction: str | None = None, **options
) -> Sampler:
    """The sampler of a name.

    Args:
      name: one of `SAMPLERS`.
      process: of the training.
      steps: n, 1 or more; for a diffusion at most its training steps. Left out for "adaptive".
      prediction: what the network predicts; by default the process's usual one.
      **options: of the method: `eta`, `clip` (ddim); `variance`, `clip` (ddpm); `clip`, `lower_order_final`
        (dpmpp_2m); `rtol`, `atol`, `max_steps` (adaptive).

    Returns:
      A `Sampler`.

    Raises:
      InputError: an unknown name, prediction or option, steps that do not fit, a process that the method
        cannot walk, a diffusion that leaves signal where sampling starts.

    >>> from ch3_jax.noise.flow import linear_path
    >>> sampler = make_sampler("euler", linear_path(), steps=10)
    >>> towards = Denoiser(lambda x, t: jnp.ones_like(x), "velocity", linear_path())
    >>> sampler.run(towards, jnp.zeros((1, 2))).round(6).tolist()
    [[1.0, 1.0]]
    """
    if name not in SAMPLERS:
        raise _refusal("`sampler`", name, SAMPLERS, "a misspelt name", "--sampler=ddim, or euler for a flow")
    prediction = process.predictions[0] if prediction is None else prediction
    if prediction not in process.predictions:
        raise _refusal(
            "`prediction`",
            prediction,
            process.predictions,
            f"a prediction that the process ({process.name}) does not define",
            f'prediction="{process.predictions[0]}"',
        )
    walk = _walk(name, process, steps, options)
    calls = steps if name in _STEPPERS else None
    if name in ode.METHODS:
        calls = ode.network_calls(name, process, steps)
    random = name == "ddpm" or options.get("eta", 0) > 0

    def checked(denoiser: Denoiser, x: Array, key: Key | None) -> tuple[Array, Array]:
        require_same(denoiser, process, prediction)
        checks.floating(x=x)
        if x.ndim < 1:
            raise ValueError(f"`x` has shape {x.shape}, expected (B, ...). Usual fix: x[None].")
        if random and key is None:
            raise ValueError(f"`key` is None, but {name} draws noise. Usual fix: jax.random.key(seed).")
        return walk(denoiser, x, key)

    def trace(denoiser: Denoiser, x: Array, key: Key | None = None) -> Array:
        return jnp.concatenate([x[None], checked(denoiser, x, key)[1]])

    return Sampler(
        name=name,
        process=process,
        prediction=prediction,
        calls=calls,
        random=random,
        start=process.start,
        run=lambda denoiser, x, key=None: checked(denoiser, x, key)[0],
        trace=trace,
    )


def sample(
    sampler: Sampler, denoiser: Denoiser, key: Key, shape: tuple[int, ...], dtype=jnp.float32
) -> Array:
    """Actions from noise.

    Args:
      sampler: of `make_sampler`.
      denoiser: the network with its observations inside.
      key: for the start and for the sampler.
      shape: (B, ...) of the actions.
      dtype: of the computation.

    Returns:
      (B, ...) normalised actions.

    Raises:
      InputError: a sampler that does not fit the network.
    """
    start_key, walk_key = jax.random.split(key)
    return sampler.run(denoiser, sampler.start(start_key, shape, dtype), walk_key)


def _walk(name: str, process: Process, steps: int | None, options: dict) -> steppers.Walk:
    """The function that walks, with its options checked against its signature."""
    if name == "adaptive":
        if steps is not None:
            raise _refusal(
                "`steps`", steps, ("None",), "an adaptive method chooses its own", "rtol= and atol="
            )
        _require_options(name, adaptive.integrate, options)
        ode.require_continuous(process)

        def walk(denoiser: Denoiser, x: Array, key: Key | None) -> tuple[Array, Array]:
            del key
            found = adaptive.integrate(denoiser, process, x, **options).x
            return found, found[None]

        return walk
    process_steps = 0 if steps is None else steps
    if name in ode.METHODS:
        _require_options(name, ode.solver, options)
        return ode.solver(name, process, process_steps)
    _require_options(name, _STEPPERS[name], options)
    return _STEPPERS[name](process, process_steps, **options)


def _require_options(name: str, function: Callable, options: dict) -> None:
    parameters = inspect.signature(function).parameters.values()
    allowed = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    if unknown := sorted(set(options) - set(allowed)):
        expected = allowed or ("no option",)
        raise _refusal(
            f"the sampler {name!r}: option",
            unknown[0],
            expected,
            "an option of another sampler",
            "leave it out",
        )


def _refusal(what: str, got: object, expected, cause: str, fix: str) -> InputError:
    return InputError(
        f"{what} {got!r} cannot be used",
        got=got,
        expected="one of " + ", ".join(expected),
        cause=cause,
        fix=fix,
    )
