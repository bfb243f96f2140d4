"""From a tree of joints to one chain: what URDF and MJCF files have in common once they are read."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ch3_jax.errors import InputError
from ch3_jax.kinematics.arm import Arm, make_arm

_KINDS = {"revolute": "revolute", "continuous": "revolute", "prismatic": "prismatic"}


class Joint(NamedTuple):
    """One edge of the tree.

    Attributes:
      name: of the joint.
      kind: "revolute", "continuous", "prismatic", "fixed"; anything else is refused on the chain.
      parent: frame nearer to the root.
      child: frame that moves.
      rotation: (3, 3), child frame in the parent at zero.
      position: (3,), m.
      axis: (3,), in the child frame.
      limits: lower and upper, rad or m; None where the file gives none.
      velocity: inf where unknown.
      effort: inf where unknown.
      mimic: leader, multiplier, offset.
      offset: rad or m, added to the coordinate.
    """

    name: str
    kind: str
    parent: str
    child: str
    rotation: np.ndarray
    position: np.ndarray
    axis: np.ndarray
    limits: tuple[float, float] | None
    velocity: float = np.inf
    effort: float = np.inf
    mimic: tuple[str, float, float] | None = None
    offset: float = 0.0


def numbers(text: str, count: int | None, where: str) -> np.ndarray:
    """`count` finite numbers separated by blanks.

    Raises:
      InputError: another count, or something else.
    """
    try:
        values = np.array([float(word) for word in text.split()])
    except ValueError:
        values = np.array([np.nan])
    if not np.isfinite(values).all() or (count is not None and len(values) != count):
        raise refusal(f"The {where} has {text!r} where numbers belong", text, f"{count} finite numbers")
    return values


def refusal(
    problem: str,
    got: object,
    expected: object,
    cause: str = "a hand-edited or unusual file",
    fix: str = "repair the file",
) -> InputError:
    """An InputError about a robot file."""
    return InputError(f"{problem}.", got=got, expected=expected, cause=cause, fix=fix)


def chain_of(
    path: Path, name: str, joints: list[Joint], frames: Iterable[str], tip: str, base: str | None
) -> Arm:
    """The arm between two frames of a tree."""
    by_child: dict[str, Joint] = {}
    for joint in joints:
        if joint.child in by_child:
            raise refusal(
                f"{path}: the link {joint.child!r} hangs on two joints, which closes a loop",
                f"{by_child[joint.child].name!r} and {joint.name!r}",
                "a tree",
                "a parallel mechanism",
            )
        by_child[joint.child] = joint
    known = set(frames) | set(by_child) | {joint.parent for joint in joints}
    for what, frame in (("tip", tip), ("base", base)):
        if frame is not None and frame not in known:
            raise refusal(
                f"{path} has no {what} named {frame!r}",
                frame,
                ", ".join(sorted(known)) or "a file with links",
                "another spelling, or a file without the hand",
                "one of the names above",
            )
    path_up: list[Joint] = []
    frame = tip
    while frame != base and frame in by_child:
        joint = by_child[frame]
        if joint in path_up or len(path_up) > len(joints):
            raise refusal(f"{path}: the joints above {tip!r} form a loop", joint.name, "a tree")
        path_up.append(joint)
        frame = joint.parent
    if base is not None and frame != base:
        raise refusal(
            f"{path}: {base!r} is not above {tip!r}", f"a chain from {frame!r}", f"a chain from {base!r}"
        )
    return _arm(path, name, path_up[::-1], {joint.name: joint for joint in joints}, tip, frame)


def _arm(path: Path, name: str, chain: list[Joint], every: dict[str, Joint], tip: str, base: str) -> Arm:
    rotations, positions, axes, kinds = [], [], [], []
    leaders, ratios, offsets = [], [], []
    turn, shift = np.eye(3), np.zeros(3)
    for joint in chain:
        shift, turn = shift + turn @ joint.position, turn @ joint.rotation
        if joint.kind == "fixed":
            continue
        if joint.kind not in _KINDS:
            raise refusal(
                f"{path}: the joint {joint.name!r} is {joint.kind!r}",
                joint.kind,
                "revolute, continuous, prismatic or fixed",
                "a free-flying base, or a ball joint",
                "choose a base link above which nothing floats",
            )
        if np.linalg.norm(joint.axis) < 1e-9:
            raise refusal(
                f"{path}: the joint {joint.name!r} has an axis of length zero", joint.axis, "a direction"
            )
        leader, ratio, offset = _resolve(path, joint, every)
        rotations.append(turn)
        positions.append(shift)
        axes.append(joint.axis)
        kinds.append(_KINDS[joint.kind])
        leaders.append(leader)
        ratios.append(ratio)
        offsets.append(offset + joint.offset)
        turn, shift = np.eye(3), np.zeros(3)
    if not axes:
        raise refusal(
            f"{path}: nothing moves between {base!r} and {tip!r}",
            "0 joints",
            "at least one",
            fix="another tip",
        )
    names = list(dict.fromkeys(leaders))
    bounds = [_bounds(path, every[leader]) for leader in names]
    return make_arm(
        name,
        [*rotations, turn],
        [*positions, shift],
        axes,
        names,
        kinds=kinds,
        source=[names.index(leader) for leader in leaders],
        ratio=ratios,
        offset=offsets,
        lower=[low for low, _ in bounds],
        upper=[high for _, high in bounds],
        velocity=[every[leader].velocity for leader in names],
        effort=[every[leader].effort for leader in names],
        base=base,
        tip=tip,
        limits=path.name,
    )


def _resolve(path: Path, joint: Joint, every: dict[str, Joint]) -> tuple[str, float, float]:
    """Leader, ratio and offset of a joint, through mimics of mimics."""
    ratio, offset, seen = 1.0, 0.0, [joint.name]
    while joint.mimic is not None:
        leader, multiplier, constant = joint.mimic
        if leader in seen or leader not in every:
            raise refusal(
                f"{path}: the joint {joint.name!r} mimics {leader!r}", leader, "another joint of the file"
            )
        ratio, offset = ratio * multiplier, ratio * constant + offset
        joint = every[leader]
        seen.append(leader)
    return joint.name, ratio, offset


def _bounds(path: Path, joint: Joint) -> tuple[float, float]:
    if joint.kind == "continuous":
        return -np.inf, np.inf
    if joint.limits is None:
        raise refusal(
            f"{path}: the joint {joint.name!r} has no limits",
            "no lower and upper",
            "limits of a revolute or prismatic joint",
            "a file that means 'continuous'",
            'type="continuous", or a <limit lower= upper= .../> element',
        )
    low, high = joint.limits
    if not low <= high:
        raise refusal(
            f"{path}: the limits of {joint.name!r} are the wrong way round",
            f"[{low}, {high}]",
            "lower <= upper",
        )
    return low, high
