r"""Data sets that are pure functions of a seed, with every law known.

`inverse_dynamics`, the data of drill 1: a robot of seven joints whose torque is a fixed linear map of its
state, measured with noise,

    action = M observation + offset + s n,    observation = (7 joint angles, 7 joint velocities),

    M[a, j] = sqrt(2 / 14) cos(pi (a + 1) (j + 1/2) / 14),   observation_j ~ U(-sqrt 3, sqrt 3),  n ~ N(0, 1).

The rows of M are seven rows of the orthonormal cosine transform, M M^T = I, so every clean action has
mean 0 and standard deviation exactly 1 and no two are correlated; s is therefore in units of the
clean action's standard deviation. M does not depend on the seed: two seeds are two recordings of one
robot. The bimodal variant has two equally likely demonstrators who do the same but for a fixed
offset of -d/2 or +d/2 in dimension 0 that no observation reveals.

`random_bins`, the data of section 3.3: observations from N(0, I) and actions whose bins are uniform at
random, so that nothing can be learned and the validation loss cannot pass ln 256.

Both are made on the device in blocks of 10,000 pairs, block i of a split from
fold_in(fold_in(key(seed), split), i): a smaller set is the beginning of a larger one with the same
seed. The random bits are the same on every device; the last digits of a float need not be.
"""

import dataclasses
import functools
import hashlib
import inspect
import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array
from ch3_jax.data.demonstrations import panda_reach, panda_reach_obstacle
from ch3_jax.data.episodes import Dataset, Facts, Steps
from ch3_jax.errors import InputError

_BLOCK = 10_000
_LARGEST = 100_000_000  # pairs; 8 GB of inverse dynamics
_VERSION = 1  # of the generators: a cache made by another one is made again
_SPLITS = {"train": 0, "val": 1}
ONE_STEP = "every pair is an episode of one step"  # the first note of both sets
_JOINTS = 7
_BINS = 256
_HALF_WIDTH = math.sqrt(3.0)  # of a uniform variable with variance 1

CLEAN_MAP = np.sqrt(1 / _JOINTS) * np.cos(
    np.pi * np.outer(np.arange(1, _JOINTS + 1), np.arange(2 * _JOINTS) + 0.5) / (2 * _JOINTS)
)


def inverse_dynamics(
    seed: int,
    *,
    pairs: int = 1_000_000,
    validation_pairs: int | None = None,
    noise: float = 0.3,
    bimodal: bool = False,
    mode_distance: float | None = None,
) -> Dataset:
    """Drill 1: joint angles and velocities to joint torques, linear plus noise.

    action = M observation + offset + s n  (see the opening of this file)

    Args:
      seed: 0 to 2^32 - 1.
      pairs: training pairs.
      validation_pairs: held-out pairs; by default a fiftieth of `pairs`, but 2,000 to 20,000.
      noise: s, in standard deviations of the clean action (which is 1 N m in every dimension).
      bimodal: whether there are two demonstrators.
      mode_distance: d between them in dimension 0, in N m; 2 by default, refused without `bimodal`.

    Returns:
      A `Dataset` with splits "train" and "val" of one-step episodes, observation (N, 14) in rad and
      rad/s, action (N, 7) in N m. Its `extra` is plain JSON: `map`, `noise`, `mode_distance`,
      `floor` (the arguments, after the edges, of `probability.floors.cross_entropy_floor`) and
      `settings` (what the chapter trains with; empty at sizes that it does not speak of).

    Raises:
      InputError: a setting out of its range.

    Example:
      >>> data = inverse_dynamics(0, pairs=100, validation_pairs=10)
      >>> data.splits["train"].observation.shape, data.splits["val"].action.shape
      ((100, 14), (10, 7))
    """
    _check_pairs(seed, pairs, validation_pairs)
    _check_number("noise", noise, low=0.0)
    if mode_distance is not None:
        _check_number("mode_distance", mode_distance, low=0.0)
        if not bimodal:
            raise _refusal("mode_distance", mode_distance, "no mode_distance, or bimodal=True with it")
    distance = float(mode_distance if mode_distance is not None else 2.0) if bimodal else 0.0
    block = functools.partial(
        _inverse_dynamics_block, noise=np.float32(noise), mode_distance=np.float32(distance)
    )
    offsets = np.zeros((_JOINTS, 2 if bimodal else 1))
    if bimodal:
        offsets[0] = -distance / 2, distance / 2
    joints = range(1, _JOINTS + 1)
    notes = [ONE_STEP]
    if bimodal:
        notes.append(f"two equally likely demonstrators, {distance:g} N m apart in joint_torque_1")
    facts = Facts(
        name="inverse_dynamics",
        format="generated",
        observation_names=tuple(f"joint_{kind}_{j}" for kind in ("angle", "velocity") for j in joints),
        action_names=tuple(f"joint_torque_{j}" for j in joints),
        observation_units=("rad",) * _JOINTS + ("rad/s",) * _JOINTS,
        action_units=("N m",) * _JOINTS,
        action_meaning="joint torque",
        notes=tuple(notes),
    )
    extra = {
        "seed": int(seed),
        "map": CLEAN_MAP.tolist(),
        "noise": float(noise),
        "mode_distance": distance,
        "floor": {
            "mean_std": [1.0] * _JOINTS,
            "noise_std": [float(noise)] * _JOINTS,
            "offsets": offsets.tolist(),
            "uniform_weights": (_HALF_WIDTH * CLEAN_MAP).tolist(),
        },
        "settings": {"batch_size": 64, "epochs": 50, "learning_rate": 1e-3} if pairs <= 10_000 else {},
    }
    return Dataset(facts, _splits(block, seed, pairs, validation_pairs), extra)


def random_bins(seed: int, *, pairs: int = 4096, validation_pairs: int = 1024) -> Dataset:
    """Section 3.3: actions that have nothing to do with what is seen.

    action_a = (2 k_a + 1) / 256 - 1,   k_a uniform over 0 ... 255

    The action is the centre of its bin among 256 uniform bins of [-1, 1], in floats without
    rounding. Bins between the smallest and the largest action give the same integers as long as each
    dimension meets both 0 and 255, which 4,096 pairs fail to do once in half a million sets.

    Args:
      seed: 0 to 2^32 - 1. The chapter's is 42.
      pairs: training pairs.
      validation_pairs: held-out pairs.

    Returns:
      A `Dataset` with splits "train" and "val" of one-step episodes, observation (N, 64), action (N, 7),
      both without unit. Its `extra` is plain JSON: `bins`, `low`, `high` and the chapter's `settings`.
      The floor is `probability.floors.uniform_floor(bins)`.

    Raises:
      InputError: a setting out of its range.

    Example:
      >>> data = random_bins(42, pairs=100, validation_pairs=10)
      >>> data.splits["train"].observation.shape, data.splits["train"].action.shape
      ((100, 64), (100, 7))
    """
    _check_pairs(seed, pairs, validation_pairs)
    facts = Facts(
        name="random_bins",
        format="generated",
        observation_names=tuple(f"observation_{i}" for i in range(64)),
        action_names=tuple(f"action_{i}" for i in range(_JOINTS)),
        observation_units=("1",) * 64,
        action_units=("1",) * _JOINTS,
        action_meaning="the centre of a bin drawn uniformly at random",
        notes=(ONE_STEP, "actions are independent of the observations"),
    )
    extra = {
        "seed": int(seed),
        "bins": _BINS,
        "low": -1.0,
        "high": 1.0,
        "settings": {
            "batch_size": 64,
            "epochs": 50,
            "learning_rate": 1e-4,
            "weight_decay": 1e-5,
            "seed": 42,
        },
    }
    return Dataset(facts, _splits(_random_bins_block, seed, pairs, validation_pairs), extra)


EMBEDDED: Mapping[str, Callable[..., Dataset]] = {
    "inverse_dynamics": inverse_dynamics,
    "random_bins": random_bins,
    "panda_reach": panda_reach,
    "panda_reach_obstacle": panda_reach_obstacle,
}


def embedded(name: str, seed: int, **settings: Any) -> Dataset:
    """An embedded set by name.

    Args:
      name: a key of `EMBEDDED`.
      seed: 0 to 2^32 - 1.
      **settings: of that function; one that it does not have is refused.

    Returns:
      The `Dataset`.

    Raises:
      InputError: an unknown name or setting, or a value out of its range.

    Example:
      >>> len(embedded("random_bins", 42, pairs=50).splits["train"])
      50
    """
    if name not in EMBEDDED:
        raise InputError(
            f"there is no embedded data set {name!r}",
            got=name,
            expected=", ".join(EMBEDDED),
            cause="a typing error, or a path that does not exist taken for a name",
            fix=f"use one of: {', '.join(EMBEDDED)}",
        )
    known = [key for key in inspect.signature(EMBEDDED[name]).parameters if key != "seed"]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise InputError(
            f"the embedded data set {name} has no setting {', '.join(unknown)}",
            got=", ".join(unknown),
            expected=", ".join(known),
            cause="a setting of another data set",
            fix=f"leave {', '.join(unknown)} out",
        )
    return EMBEDDED[name](seed, **settings)


def cached(path: str | Path, make: Callable[[], Dataset], recipe: Mapping[str, Any]) -> tuple[Dataset, str]:
    """A set made once and kept as `.npz`, as the drills ask for.

    The file holds the arrays, the facts, `extra`, the recipe and a SHA-256 over all of them. What is not
    exactly that - cut short, damaged, another recipe, somebody else's file - is made again; the file that
    was there is kept beside the new one with ".old" at its end. The new file appears in one step.

    Args:
      path: the file, its folder made if need be.
      make: makes the set, with `extra` of plain JSON.
      recipe: plain JSON that says what `make` makes: name, seed, settings. A file of another recipe
        is not used.

    Returns:
      The set, and what happened: "read", "made", or "remade: " with the reason.

    Raises:
      InputError: the file or its folder cannot be read or written.
    """
    path, status = Path(path), "made"
    try:
        if path.exists():
            try:
                return _read(path, recipe), "read"
            except OSError:
                raise
            except Exception as error:  # zip, zlib, numpy and json each have their own for a damaged file
                status = f"remade: {path.name} {_reason(error)}; it is kept as {path.name}.old"
        dataset = make()
        _write(path, dataset, recipe)
    except OSError as error:
        raise InputError(
            f"the cache {path} cannot be used",
            got=error,
            expected="a file that can be read and a folder that can be written, with room for the set",
            cause="missing rights, a read-only or full disk, or a folder of that name",
            fix="choose another place, or remove what stands there",
        ) from error
    return dataset, status


class _NotOurs(ValueError):
    """A sound file whose content is not what was asked for."""


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, _NotOurs) else f"is damaged or cut short ({type(error).__name__})"


def _header(dataset: Dataset, recipe: Mapping[str, Any]) -> str:
    facts = dataclasses.asdict(dataset.facts)
    return json.dumps({"generator": _VERSION, "recipe": recipe, "facts": facts, "extra": dataset.extra})


def _digest(header: str, arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(header.encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]))
    return digest.hexdigest()


def _write(path: Path, dataset: Dataset, recipe: Mapping[str, Any]) -> None:
    fields = ("observation", "action", "offset")
    arrays = {f"{name}/{f}": getattr(part, f) for name, part in dataset.splits.items() for f in fields}
    header = _header(dataset, recipe)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, header=header, sha256=_digest(header, arrays), **arrays)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            path.replace(path.with_name(path.name + ".old"))
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _read(path: Path, recipe: Mapping[str, Any]) -> Dataset:
    with np.load(path, allow_pickle=False) as file:
        if not {"header", "sha256"} <= set(file.files):
            raise _NotOurs("is not a cache of this library")
        arrays = {name: file[name] for name in file.files}
    header, expected = str(arrays.pop("header")), str(arrays.pop("sha256"))
    if _digest(header, arrays) != expected:
        raise _NotOurs("does not match its checksum")
    known = json.loads(header)
    if known["generator"] != _VERSION or known["recipe"] != json.loads(json.dumps(recipe)):
        raise _NotOurs(f"holds another set, {json.dumps(known['recipe'])}")
    facts = {k: tuple(v) if isinstance(v, list) else v for k, v in known["facts"].items()}
    names = dict.fromkeys(name.split("/")[0] for name in arrays)
    splits = {
        name: Steps(**{f: arrays[f"{name}/{f}"] for f in ("observation", "action", "offset")})
        for name in names
    }
    return Dataset(Facts(**facts), splits, known["extra"])


@jax.jit
def _inverse_dynamics_block(
    seed: Array, split: Array, index: Array, noise: Array, mode_distance: Array
) -> tuple[Array, Array]:
    # One draw in rows of numbers: three draws, or columns, cost two to four times as much on a CPU.
    unit = _uniform(_bits(seed, split, index, 3 * _JOINTS + 1))
    observation = _HALF_WIDTH * unit[: 2 * _JOINTS]
    clean = jnp.matmul(jnp.asarray(CLEAN_MAP, jnp.float32), observation, precision="highest")
    action = clean + noise * _normal(unit[2 * _JOINTS : 3 * _JOINTS])
    action = action.at[0].add(jnp.where(unit[-1] < 0, -mode_distance / 2, mode_distance / 2))
    return observation.T, action.T


@jax.jit
def _random_bins_block(seed: Array, split: Array, index: Array) -> tuple[Array, Array]:
    bits = _bits(seed, split, index, 64 + _JOINTS)
    bins = (bits[64:] >> 24).astype(jnp.float32)
    return _normal(_uniform(bits[:64])).T, ((2 * bins + 1) / _BINS - 1).T


def _bits(seed: Array, split: Array, index: Array, rows: int) -> Array:
    """(rows, block) uint32, from a generator that is the same on every device and in every process."""
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), split)
    return jax.random.bits(jax.random.fold_in(key, index), (rows, _BLOCK), jnp.uint32)


def _uniform(bits: Array) -> Array:
    """Uniform on (-1, 1), on a grid of 2^23 points that is symmetric and misses -1, 0 and 1."""
    return ((bits >> 9).astype(jnp.float32) + 0.5) * jnp.float32(2.0**-22) - 1


def _normal(unit: Array) -> Array:
    return jnp.float32(math.sqrt(2.0)) * jax.lax.erf_inv(unit)


def _splits(
    block: Callable[..., tuple[Array, Array]], seed: int, pairs: int, validation_pairs: int | None
) -> dict[str, Steps]:
    held_out = min(max(pairs // 50, 2_000), 20_000) if validation_pairs is None else validation_pairs
    counts = {"train": pairs, "val": held_out}
    return {name: _steps(block, np.uint32(seed), _SPLITS[name], count) for name, count in counts.items()}


def _steps(block: Callable[..., tuple[Array, Array]], seed: np.uint32, split: int, count: int) -> Steps:
    arrays = None
    for start in range(0, count, _BLOCK):
        made = block(seed, np.uint32(split), np.uint32(start // _BLOCK))
        if arrays is None:
            arrays = [np.empty((count, part.shape[1]), np.float32) for part in made]
        for array, part in zip(arrays, made, strict=True):
            array[start : start + _BLOCK] = part[: count - start]
    observation, action = arrays
    return Steps(observation=observation, action=action, offset=np.arange(count + 1, dtype=np.int64))


def _check_pairs(seed: int, pairs: int, validation_pairs: int | None) -> None:
    # A wider seed would be cut to 32 bits inside JAX, and two seeds would give one set.
    _check_whole("seed", seed, 0, 2**32 - 1)
    _check_whole("pairs", pairs, 1, _LARGEST)
    if validation_pairs is not None:
        _check_whole("validation_pairs", validation_pairs, 1, _LARGEST)


def _check_whole(name: str, value: Any, low: int, high: int) -> None:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or not low <= value <= high:
        raise _refusal(name, repr(value), f"a whole number from {low:,} to {high:,}")


def _check_number(name: str, value: Any, low: float) -> None:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not low <= value < math.inf:
        raise _refusal(name, repr(value), f"a finite number of {low:g} or more")


def _refusal(name: str, got: object, expected: str) -> InputError:
    return InputError(
        f"{name} does not fit an embedded data set",
        got=got,
        expected=expected,
        cause="a typing error",
        fix=f"give another --{name}",
    )
