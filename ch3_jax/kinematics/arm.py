r"""A serial arm as data: a frozen pytree of arrays, and the tables of six known arms.

Joint i of an arm turns about (or slides along) a fixed axis, seen from the link before it:

  T_base_tip(q) = [ \prod_i  O_i  Motion(axis_i, q_i) ] O_tip,

with O_i the constant pose of the joint frame in the frame before. Chains have N moving joints and J
coordinates; N = J unless joints mimic others, q_moving = ratio * q[source] + offset.

`load_arm` reads the tables of `third_party/arms`: numbers published by the makers, each file with its
source and licence. The limits of one arm differ between sources, so they are chosen by name.
"""

import dataclasses
import functools
import importlib.resources
import json
import math
import warnings

import jax
import numpy as np

from ch3_jax.base import Array
from ch3_jax.errors import InputError
from ch3_jax.kinematics.shapes import concrete

KINDS = ("revolute", "prismatic")


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("rotation", "position", "axis", "ratio", "offset", "lower", "upper", "velocity", "effort"),
    meta_fields=("name", "kinds", "source", "joints", "base", "tip", "limits"),
)
@dataclasses.dataclass(frozen=True, eq=False)
class Arm:
    """A serial chain. Leaves are numpy float64 and take the dtype of q when they are used.

    Closed over (`jax.jit(lambda q: forward(arm, q))`) the numbers are constants of the program, which is
    the fast way. Passed through `jit` or `vmap` as an argument they are variables, which works and can be
    differentiated (calibration), at the cost of a general chain.

    Attributes:
      rotation: (N + 1, 3, 3), joint frame in the frame before, the tip last.
      position: (N + 1, 3), its origin, m.
      axis: (N, 3), unit, in the joint frame.
      ratio: (N,), of a joint's motion to its coordinate, 1 without mimic.
      offset: (N,), rad or m, 0 without mimic.
      lower: (J,), rad or m, -inf where there is none.
      upper: (J,), rad or m, inf where there is none.
      velocity: (J,), rad/s or m/s, inf where unknown.
      effort: (J,), N m or N, inf where unknown.
      name: of the arm.
      kinds: per moving joint "revolute" or "prismatic".
      source: per moving joint, the coordinate of q that moves it.
      joints: names of the J coordinates.
      base: name of the frame that poses are given in.
      tip: name of the frame whose pose is given.
      limits: where lower and upper come from.
    """

    rotation: Array
    position: Array
    axis: Array
    ratio: Array
    offset: Array
    lower: Array
    upper: Array
    velocity: Array
    effort: Array
    name: str
    kinds: tuple[str, ...]
    source: tuple[int, ...]
    joints: tuple[str, ...]
    base: str
    tip: str
    limits: str

    @property
    def dof(self) -> int:
        """J, the number of coordinates."""
        return len(self.joints)

    @property
    def mimics(self) -> bool:
        """Whether any joint is moved by another's coordinate, or by a scaled one."""
        return (
            self.source != tuple(range(self.dof))
            or not concrete(self.ratio, self.offset)
            or bool(np.any(np.asarray(self.ratio) != 1) or np.any(np.asarray(self.offset) != 0))
        )


def make_arm(
    name,
    rotation,
    position,
    axis,
    joints,
    *,
    kinds=None,
    source=None,
    ratio=None,
    offset=None,
    lower=None,
    upper=None,
    velocity=None,
    effort=None,
    base="base",
    tip="tip",
    limits="",
) -> Arm:
    """An arm from plain numbers; see `Arm` for the meaning of each.

    Raises:
      InputError: shapes that do not agree, an axis of no length, a matrix that is no rotation.
    """
    axis = np.atleast_2d(np.asarray(axis, np.float64))
    n, dof = len(axis), len(joints)
    rotation, position = np.asarray(rotation, np.float64), np.asarray(position, np.float64)
    if rotation.shape != (n + 1, 3, 3) or position.shape != (n + 1, 3) or axis.shape != (n, 3):
        raise _bad(
            name,
            f"rotation {rotation.shape}, position {position.shape}, axis {axis.shape}",
            "N + 1, N + 1, N rows",
        )
    error = np.abs(np.einsum("nij,nkj->nik", rotation, rotation) - np.eye(3)).max()
    if not (error < 1e-6 and np.all(np.linalg.det(rotation) > 0)):
        raise _bad(name, f"a 3x3 matrix with R R^T - I = {error:.2g}", "rotation matrices")
    length = np.linalg.norm(axis, axis=1, keepdims=True)
    if not np.all(length > 1e-9):
        raise _bad(name, "an axis of length zero", "axes with a direction")

    def fill(values, count, default):
        values = np.full(count, default) if values is None else np.asarray(values, np.float64)
        if values.shape != (count,):
            raise _bad(name, f"{values.shape} values", f"({count},)")
        return values

    return Arm(
        rotation=rotation,
        position=position,
        axis=axis / length,
        ratio=fill(ratio, n, 1.0),
        offset=fill(offset, n, 0.0),
        lower=fill(lower, dof, -np.inf),
        upper=fill(upper, dof, np.inf),
        velocity=fill(velocity, dof, np.inf),
        effort=fill(effort, dof, np.inf),
        name=name,
        kinds=tuple(kinds or ("revolute",) * n),
        source=tuple(source) if source is not None else tuple(range(n)),
        joints=tuple(joints),
        base=base,
        tip=tip,
        limits=limits,
    )


def arm_names() -> tuple[str, ...]:
    """The arms that `load_arm` knows."""
    folder = importlib.resources.files("third_party") / "arms"
    return tuple(
        sorted(entry.name[: -len(".json")] for entry in folder.iterdir() if entry.name.endswith(".json"))
    )


def load_arm(name: str, limits: str | None = None) -> Arm:
    """One of the arms in `third_party/arms`.

    Args:
      name: "planar2", "panda", "ur5e", "xarm7", "wx250s" (Bridge) or "vx300s" (ALOHA).
      limits: which source's joint limits, None for the file's default; a wrong name lists them.

    Returns:
      Arm.

    Raises:
      InputError: unknown arm or limits.

    >>> load_arm("panda").joints[0], load_arm("panda", "docs_hard").upper[3].item()
    ('panda_joint1', 0.0873)
    """
    if name not in arm_names():
        raise InputError(
            f"There is no arm named {name!r}.",
            got=name,
            expected=", ".join(arm_names()),
            cause="a spelling, or an arm that is not among the tables",
            fix="ch3_jax.kinematics.urdf.read_arm(path, tip) for a URDF or MJCF file",
        )
    table = json.loads((importlib.resources.files("third_party") / "arms" / f"{name}.json").read_text())
    limits = limits or table["default_limits"]
    if limits not in table["limits"]:
        raise InputError(
            f"The arm {name} has no limits named {limits!r}.",
            got=limits,
            expected=", ".join(table["limits"]),
            cause="sources differ in the limits of one arm, so each set has a name",
            fix="one of the names above",
        )
    chosen = table["limits"][limits]
    rotation, position, axis = _GEOMETRY[table["convention"]](
        np.asarray(table["rows"], np.float64), table["tip_position"]
    )
    return make_arm(
        name,
        rotation,
        position,
        axis,
        table["joints"],
        lower=chosen["lower"],
        upper=chosen["upper"],
        velocity=table["velocity"],
        effort=table["effort"],
        base=table["base"],
        tip=table["tip"],
        limits=f"{limits}: {chosen['source']}",
    )


def check_q(arm: Arm, q: Array, name: str = "q") -> None:
    """Refuses what is no configuration of the arm, and warns of degrees.

    Shapes and dtypes are checked always, values only outside jit, where they can be read.

    Args:
      arm: J coordinates.
      q: (..., J), rad or m.
      name: of the argument, for the message.

    Raises:
      InputError: wrong length, or NaN.
      TypeError: no array, or not floating point.
    """
    if not hasattr(q, "dtype"):
        raise TypeError(
            f"`{name}` is a {type(q).__name__}, expected an array (..., {arm.dof}), rad. "
            f"Usual fix: jnp.asarray({name}, jnp.float32)."
        )
    shape = np.shape(q)
    if not shape or shape[-1] != arm.dof:
        raise InputError(
            f"`{name}` has {shape[-1] if shape else 'no'} coordinates, the arm {arm.name} has {arm.dof}.",
            got=f"shape {shape}",
            expected=f"(..., {arm.dof}): {', '.join(arm.joints)}",
            cause="another arm, or a gripper coordinate among the joints",
            fix=f"{name}[..., :{arm.dof}], if the rest is a gripper",
        )
    if not np.issubdtype(q.dtype, np.floating) and not str(q.dtype).startswith("bfloat"):
        raise TypeError(
            f"`{name}` has dtype {q.dtype}, expected floating point, rad. "
            f"Usual fix: {name}.astype(jnp.float32)."
        )
    if not concrete(q, arm) or 0 in shape:
        return
    values = np.asarray(q, np.float64).reshape(-1, arm.dof)
    if not np.isfinite(values).all():
        raise InputError(
            f"`{name}` is not finite in {int((~np.isfinite(values).all(1)).sum())} of {len(values)} "
            "configurations.",
            got="NaN or infinity",
            expected="rad or m",
            cause="a failed computation before this one",
            fix="jax_debug_nans finds its origin",
        )
    margin = 1e-3
    low, high = values.min(0) < np.asarray(arm.lower) - margin, values.max(0) > np.asarray(arm.upper) + margin
    if (low | high).any():
        j = int(np.argmax(low | high))
        worst = values[:, j].max() if high[j] else values[:, j].min()
        hint = " Degrees? Angles here are radians." if abs(worst) > 2 * math.pi else ""
        warnings.warn(
            f"{name}: {arm.joints[j]} at {worst:.4g} is outside the limits of the {arm.name}, "
            f"[{arm.lower[j]:.4g}, {arm.upper[j]:.4g}] ({arm.limits}).{hint}",
            stacklevel=3,
        )


def _bad(name: str, got: object, expected: object) -> InputError:
    return InputError(
        f"The numbers of the arm {name!r} do not make a chain.",
        got=got,
        expected=expected,
        cause="a missing row",
        fix="compare with the docstring of ch3_jax.kinematics.arm.Arm",
    )


def _turn(axis: int, over_pi: float) -> np.ndarray:
    """Rotation by a multiple of pi about x (0) or z (2); exact for quarter turns."""
    c, s = math.cos(math.pi * over_pi), math.sin(math.pi * over_pi)
    if over_pi * 2 == round(over_pi * 2):
        c, s = float(round(c)), float(round(s))
    return (
        np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
        if axis == 0
        else np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    )


def _modified(rows: np.ndarray, tip) -> tuple:
    """Craig's convention: RotX(alpha) TransX(a) RotZ(theta) TransZ(d); d commutes with the turn."""
    rotation = [_turn(0, alpha) @ _turn(2, theta) for _, alpha, _, theta in rows]
    position = [_turn(0, alpha) @ np.array([a, 0, d]) for a, alpha, d, _ in rows]
    return [*rotation, np.eye(3)], [*position, tip], np.tile([0, 0, 1.0], (len(rows), 1))


def _standard(rows: np.ndarray, tip) -> tuple:
    """Denavit and Hartenberg: RotZ(theta) TransZ(d) TransX(a) RotX(alpha); a row's constants follow its
    turn."""
    after = [_turn(0, alpha) for _, alpha, _, _ in rows]
    shifts = [np.array([a, 0, d]) for a, _, d, _ in rows]
    before = [_turn(2, theta) for *_, theta in rows]
    rotation = [a @ b for a, b in zip([np.eye(3), *after], [*before, np.eye(3)], strict=True)]
    last = shifts[-1] + after[-1] @ np.asarray(tip, float)
    return rotation, [np.zeros(3), *shifts[:-1], last], np.tile([0, 0, 1.0], (len(rows), 1))


def _screws(rows: np.ndarray, tip) -> tuple:
    """Axes and points on them in the base frame at q = 0; all frames are then parallel to the base."""
    points = np.vstack([rows[:, 3:], tip])
    return (
        np.tile(np.eye(3), (len(points), 1, 1)),
        np.diff(points, axis=0, prepend=np.zeros((1, 3))),
        rows[:, :3],
    )


_GEOMETRY = {"dh_modified": _modified, "dh_standard": _standard, "screws": _screws}
