"""Normalisers: an affine map per dimension, its rule named, its inverse exact.

  y = (x - offset) * gain + shift,   x = (y - shift) * scale + offset,   gain = 1 / scale,

with an optional clip of y. A rule says where offset and scale come from:

| rule | offset | scale | shift |
| --- | --- | --- | --- |
| zscore | mean | max(std, floor) + epsilon | 0 |
| minmax | min | (max - min + epsilon) / 2 | -1 |
| quantile | q01 | (q99 - q01 + epsilon) / 2 | -1 |
| identity | 0 | 1 | 0 |

A constant dimension has no scale, and what peers do with it differs by nine orders of magnitude,
so it is a choice of its own:

| constant | a constant dimension becomes | its inverse |
| --- | --- | --- |
| zero | 0, whatever x is | the constant, whatever y is |
| offset | x - constant | y + constant |
| keep | x | y |
| epsilon | the rule's formula, a width of zero replaced by epsilon | of the formula |
| formula | the rule's formula with epsilon added as everywhere | of the formula |

Under "epsilon" and "formula" a value one float32 rounding away from the constant can become
thousands: openpi's issue 814 is such a row. That is why they are presets here, not the default.

Float32: denormalize(normalize(x)) differs from x by at most 12 roundings (7e-7) of
max(|x|, |offset|, scale), where nothing was clipped; 2e-7 is usual.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array
from ch3_jax.data.statistics import Statistics

RULES = ("zscore", "minmax", "quantile", "identity")
CONSTANT_RULES = ("zero", "offset", "keep", "epsilon", "formula")


class Normalizer(NamedTuple):
    """A map per dimension, a pytree of (D,) float32 arrays that may be stored in a checkpoint.

    Attributes:
      offset, gain, shift: of y = (x - offset) * gain + shift.
      scale: of the inverse; 1 / gain, or 0 with gain 0 where a constant is mapped to 0.
      low, high: y is clipped to [low, high]; infinite where it is not.
    """

    offset: np.ndarray
    gain: np.ndarray
    shift: np.ndarray
    scale: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides a normaliser, beside the statistics.

    Attributes:
      rule: one of `RULES`.
      constant: one of `CONSTANT_RULES`.
      clip: y is clipped to [-clip, clip]; None leaves it. A clipped value does not come back.
      epsilon: added to the std or the width, or put in place of a zero width ("epsilon").
      floor: the smallest std (zscore).
      threshold: a dimension whose max - min is below this counts as constant, too.
      ddof: 1 divides the squares by N - 1 as torch.std does (zscore).
    """

    rule: str
    constant: str = "zero"
    clip: float | None = None
    epsilon: float = 0.0
    floor: float = 0.0
    threshold: float = 0.0
    ddof: int = 0


PRESETS = {
    # prismatic/vla/datasets/rlds/utils/data_utils.py: BOUNDS_Q99; its gripper is left alone (`mask`).
    "openvla": Recipe("quantile", "zero", clip=1.0, epsilon=1e-8),
    # The same file, BOUNDS: what OpenVLA-OFT uses for ALOHA.
    "openvla_minmax": Recipe("minmax", "zero", clip=1.0, epsilon=1e-8),
    # openpi src/openpi/transforms.py: every model but pi0, not clipped; then pi0.
    "openpi": Recipe("quantile", "formula", epsilon=1e-6),
    "openpi_zscore": Recipe("zscore", "formula", epsilon=1e-6),
    # lerobot src/lerobot/processor/normalize_processor.py: MEAN_STD (ACT, SmolVLA), MIN_MAX, QUANTILES.
    # Its inverse of MEAN_STD leaves epsilon out; ours inverts.
    "lerobot": Recipe("zscore", "formula", epsilon=1e-8),
    "lerobot_minmax": Recipe("minmax", "epsilon", epsilon=1e-8),
    "lerobot_quantile": Recipe("quantile", "epsilon", epsilon=1e-8),
    # diffusion_policy/model/common/normalizer.py: limits, range_eps.
    "diffusion_policy": Recipe("minmax", "offset", threshold=1e-4),
    # octo/data/utils/data_utils.py: NORMAL, then BOUNDS (p01, p99).
    "octo": Recipe("zscore", "formula", epsilon=1e-8),
    "octo_quantile": Recipe("quantile", "formula", clip=1.0, epsilon=1e-8),
    # act/utils.py: torch.std clipped from below.
    "act": Recipe("zscore", "formula", floor=1e-2, ddof=1),
}

NAMES = (*RULES, *PRESETS)


def recipe(rule: str, **changes) -> Recipe:
    """The recipe of a rule or of a peer's preset, with changes.

    >>> recipe("openpi").epsilon, recipe("quantile", clip=1.0).clip
    (1e-06, 1.0)

    Raises:
      ValueError: a name that does not exist, with those that do; a number out of its range.
    """
    if rule not in NAMES:
        raise ValueError(f"normaliser rule {rule!r} is not one of: {', '.join(NAMES)}.")
    fields = {field.name for field in dataclasses.fields(Recipe)} - {"rule"}
    unknown = sorted(set(changes) - fields)
    if unknown:
        raise ValueError(f"normaliser option {unknown[0]!r} is not one of: {', '.join(sorted(fields))}.")
    made = dataclasses.replace(PRESETS.get(rule, Recipe(rule)), **changes)
    if made.constant not in CONSTANT_RULES:
        raise ValueError(f"constant rule {made.constant!r} is not one of: {', '.join(CONSTANT_RULES)}.")
    if made.clip is not None and not made.clip > 0:
        raise ValueError(f"`clip` is {made.clip}, expected a number above 0 or None.")
    for name in ("epsilon", "floor", "threshold"):
        if not (np.isfinite(getattr(made, name)) and getattr(made, name) >= 0):
            raise ValueError(f"`{name}` is {getattr(made, name)}, expected a finite number of at least 0.")
    if made.ddof not in (0, 1):
        raise ValueError(f"`ddof` is {made.ddof}, expected 0 or 1.")
    return made


def make_normalizer(
    statistics: Statistics, rule: str = "zscore", *, mask: Sequence[bool] | None = None, **changes
) -> Normalizer:
    """Builds a normaliser from statistics.

    Args:
      statistics: of the raw numbers.
      rule: a rule of `RULES` or a preset of `PRESETS`.
      mask: (D,) bool, False where a dimension is left as it is, as OpenVLA leaves the gripper;
        None normalises all.
      **changes: fields of `Recipe`.

    Returns:
      The `Normalizer`, numpy float32.

    Raises:
      ValueError: an unknown name; a formula that divides by zero, naming the dimension.

    >>> from ch3_jax.data.statistics import of_array
    >>> s = of_array(np.array([[0.0, 5.0], [4.0, 5.0]]), ("x", "y"))
    >>> n = make_normalizer(s, "minmax")
    >>> normalize(n, np.array([[1.0, 5.0]], np.float32)).tolist()
    [[-0.5, 0.0]]
    """
    plan = recipe(rule, **changes)
    dims = len(statistics.names)
    offset, scale, shift = _formula(statistics, plan)
    constant, stretched = _kinds(statistics, plan)
    if stretched.any():
        offset = np.where(stretched, statistics.min, offset)
        scale = np.where(stretched, (statistics.max - statistics.min) / 2, scale)
    with np.errstate(divide="ignore"):
        gain = 1 / scale
    shift = np.full(dims, shift)
    bound = np.full(dims, np.inf if plan.clip is None else plan.clip)
    untouched = np.zeros(dims, bool) if mask is None else ~_mask(mask, dims)
    if plan.constant in ("zero", "offset", "keep"):
        flat = 0.0 if plan.constant == "zero" else 1.0
        middle = np.where(statistics.constant, statistics.min, _middle(statistics, plan))
        offset = np.where(constant, middle, offset)
        gain, scale = np.where(constant, flat, gain), np.where(constant, flat, scale)
        shift = np.where(constant, 0.0, shift)
        if plan.constant == "keep":
            untouched |= constant
    offset, shift = np.where(untouched, 0.0, offset), np.where(untouched, 0.0, shift)
    gain, scale = np.where(untouched, 1.0, gain), np.where(untouched, 1.0, scale)
    bound = np.where(untouched, np.inf, bound)
    # What float32 rounds off the offset goes into the shift: a mean of 1e6 keeps its deviation.
    rounded = offset.astype(np.float32).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        shift = np.where(statistics.constant, shift, shift + (rounded - offset) * gain)
        parts = [np.asarray(a, np.float32) for a in (offset, gain, shift, scale, -bound, bound)]
    for name, array in zip(("offset", "gain", "shift", "scale"), parts, strict=False):
        if not np.isfinite(array).all():
            d = int(np.argmin(np.isfinite(array)))
            raise ValueError(
                f"dimension {d} ({statistics.names[d]}): `{name}` of rule {rule!r} is {array[d]}, it is "
                f"{statistics.max[d] - statistics.min[d]:g} wide. Usual fix: constant='zero', or an epsilon."
            )
    return Normalizer(*parts)


def normalize(normalizer: Normalizer, x: Array) -> Array:
    """y = clip((x - offset) * gain + shift, low, high).

    Args:
      normalizer: of D dimensions.
      x: (..., D), raw.

    Returns:
      (..., D) float32.

    Raises:
      ValueError: a last axis that is not D.
    """
    x = _last_axis(normalizer, x)
    n = _broadcastable(normalizer, x.ndim)
    return jnp.clip((x - n.offset) * n.gain + n.shift, n.low, n.high)


def denormalize(normalizer: Normalizer, y: Array) -> Array:
    """x = (y - shift) * scale + offset: raw numbers for the robot.

    Args:
      normalizer: of D dimensions.
      y: (..., D), normalised.

    Returns:
      (..., D) float32; y beyond the clip is not clipped.

    Raises:
      ValueError: a last axis that is not D.
    """
    y = _last_axis(normalizer, y)
    n = _broadcastable(normalizer, y.ndim)
    return (y - n.shift) * n.scale + n.offset


def describe(
    statistics: Statistics, rule: str = "zscore", *, mask: Sequence[bool] | None = None, **changes
) -> tuple[str, ...]:
    """Sentences for the dimensions that the rule treats apart; arguments as for `make_normalizer`.

    >>> from ch3_jax.data.statistics import of_array
    >>> describe(of_array(np.array([[0.0, 5.0], [4.0, 5.0]]), ("x", "y")), "minmax")
    ("dimension 1 (y) is constant: mapped to 0 (rule 'zero')",)
    """
    plan = recipe(rule, **changes)
    made = make_normalizer(statistics, rule, mask=mask, **changes)
    constant, stretched = _kinds(statistics, plan)
    touched = np.ones(len(statistics.names), bool) if mask is None else _mask(mask, len(statistics.names))
    sentences = []
    for d, name in enumerate(statistics.names):
        where = f"dimension {d} ({name})"
        width = statistics.max[d] - statistics.min[d]
        if not touched[d] or plan.rule == "identity":
            continue
        if constant[d]:
            kind = "is constant" if statistics.constant[d] else f"moves by only {width:.3g}"
            with np.errstate(over="ignore"):
                value = float(np.asarray(normalize(made, statistics.mean.astype(np.float32)))[d])
            becomes = {
                "zero": "mapped to 0",
                "offset": "only shifted to 0",
                "keep": "left as it is",
            }.get(plan.constant, f"mapped to {value:g} with gain {made.gain[d]:.3g}")
            sentences.append(f"{where} {kind}: {becomes} (rule '{plan.constant}')")
        elif stretched[d]:
            sentences.append(
                f"{where} has q01 = q99 = {statistics.q01[d]:.6g} but moves between {statistics.min[d]:.6g} "
                f"and {statistics.max[d]:.6g}: normalised between min and max"
            )
        elif plan.clip is None and (most := _reach(made, statistics, d)) > 100:
            sentences.append(f"{where} reaches {most:.3g} when normalised: a width far below its range")
    return tuple(sentences)


def _formula(statistics: Statistics, plan: Recipe) -> tuple[np.ndarray, np.ndarray, float]:
    """Offset (D,), scale (D,) and shift of the rule, before constants are looked after."""
    dims = len(statistics.names)
    if plan.rule == "identity":
        return np.zeros(dims), np.ones(dims), 0.0
    added = 0.0 if plan.constant == "epsilon" else plan.epsilon
    if plan.rule == "zscore":
        if statistics.count <= plan.ddof:
            raise ValueError(f"{statistics.count} row with ddof {plan.ddof} has no standard deviation.")
        std = statistics.std * np.sqrt(statistics.count / (statistics.count - plan.ddof))
        offset, scale, shift = statistics.mean, np.maximum(std, plan.floor) + added, 0.0
        replacement = plan.epsilon
    else:
        low, high = _ends(statistics, plan)
        offset, scale, shift = low, (high - low + added) / 2, -1.0
        replacement = plan.epsilon / 2
    if plan.constant == "epsilon":
        scale = np.where(scale == 0, replacement, scale)
    return offset, scale, shift


def _kinds(statistics: Statistics, plan: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Which dimensions count as constant, and which have no width between quantiles but do move.

    Squeezing the latter (a gripper that closes in 1 % of the steps) to a constant would delete
    them from the data, so a plain rule takes min and max there; peers' formulas are left alone.
    """
    if plan.rule == "identity":
        nothing = np.zeros(len(statistics.names), bool)
        return nothing, nothing
    width = statistics.max - statistics.min
    # Below the smallest normal float32 a width has no reciprocal.
    constant = statistics.constant | (width < max(plan.threshold, np.finfo(np.float32).tiny))
    special = plan.constant in ("zero", "offset", "keep") and plan.rule == "quantile"
    low, high = _ends(statistics, plan)
    stretched = ~constant & (high - low + plan.epsilon < np.finfo(np.float32).tiny)
    return constant, stretched if special else np.zeros_like(constant)


def _ends(statistics: Statistics, plan: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """The two values that become -1 and 1."""
    if plan.rule == "quantile":
        return statistics.q01, statistics.q99
    return statistics.min, statistics.max


def _middle(statistics: Statistics, plan: Recipe) -> np.ndarray:
    """What is taken off a dimension that nearly stands still: the mean, or the lower end."""
    return statistics.mean if plan.rule == "zscore" else _ends(statistics, plan)[0]


def _reach(made: Normalizer, statistics: Statistics, d: int) -> float:
    """The largest normalised magnitude that the data has in dimension `d`."""
    ends = np.array([statistics.min[d], statistics.max[d]])
    return float(np.max(np.abs((ends - made.offset[d]) * made.gain[d] + made.shift[d])))


def _mask(mask: Sequence[bool], dims: int) -> np.ndarray:
    mask = np.asarray(mask)
    if mask.shape != (dims,) or mask.dtype != bool:
        raise ValueError(f"`mask` is {mask.dtype} of shape {mask.shape}, expected bool ({dims},).")
    return mask


def _last_axis(normalizer: Normalizer, x: Array) -> Array:
    x = jnp.asarray(x)
    dims = normalizer.offset.shape[-1]
    if not x.ndim or x.shape[-1] != dims:
        raise ValueError(
            f"`x` has shape {x.shape}, expected (..., {dims}), as this normaliser was built for. "
            "Usual fix: statistics of the same data set and of the same part (observation or action)."
        )
    return x.astype(jnp.float32) if not jnp.issubdtype(x.dtype, jnp.floating) else x


def _broadcastable(normalizer: Normalizer, ndim: int) -> Normalizer:
    """The normaliser with leading axes of size 1, so that nothing broadcasts by rank."""
    return Normalizer(*(jnp.reshape(a, (1,) * (ndim - 1) + (-1,)) for a in normalizer))
