r"""Any serial chain in the form that costs least: every motion about its own z axis, every offset a turn
about x.

A frame may be turned about its joint's axis without changing the motion. Writing each constant rotation as

  O_i = Rot_z(b_i) Rot_x(a_i) Rot_z(g_i)

b_i and g_i join the angles of the joints on either side, and what is left between two joints is one turn
a_i and a shift. Unlike Denavit-Hartenberg parameters this exists, and is well conditioned, for every chain,
parallel axes included. Numbers within a rounding of 0 and 1 are snapped, so that quarter turns are exact.
"""

import functools
from typing import NamedTuple

import numpy as np

from ch3_jax.kinematics.arm import Arm

_SNAP = 4e-16


class Chain(NamedTuple):
    """Constants of a chain of N moving joints; hashable, so that compiled programs can be found again.

    Attributes:
      start: 2 numbers, cosine and sine of the turn of the first frame about the base's z axis.
      tilt: N pairs, cosine and sine of a_i.
      shift: N + 1 triples, origin of each joint in the frame before, the tip last, m.
      phase: N pairs, cosine and sine of the constant part of each angle.
      slides: N booleans, True for a prismatic joint.
      tip: 3 rows of 3, the tip's rotation in the last frame.
    """

    start: tuple
    tilt: tuple
    shift: tuple
    phase: tuple
    slides: tuple
    tip: tuple


def canonical(arm: Arm) -> Chain:
    """The constants of an arm whose numbers can be read."""
    rotation, position, axis = (np.asarray(x, np.float64) for x in (arm.rotation, arm.position, arm.axis))
    return _canonical(rotation.tobytes(), position.tobytes(), axis.tobytes(), arm.kinds)


@functools.lru_cache(maxsize=64)
def _canonical(rotation: bytes, position: bytes, axis: bytes, kinds: tuple[str, ...]) -> Chain:
    n = len(kinds)
    rotations = np.frombuffer(rotation).reshape(n + 1, 3, 3)
    positions = np.frombuffer(position).reshape(n + 1, 3)
    aligned = [np.eye(3), *(_frame(a) for a in np.frombuffer(axis).reshape(n, 3)), np.eye(3)]
    turns, shifts = [], []
    for i in range(n + 1):
        turns.append(aligned[i].T @ rotations[i] @ aligned[i + 1])
        shifts.append(aligned[i].T @ positions[i])
    before, tilts, after = [], [], []
    for turn in turns[:-1]:
        b, a, g = _zxz(turn)
        before.append(b)
        tilts.append(a)
        after.append(g)
    before.append(np.array([1.0, 0.0]))
    for i in range(n + 1):  # the turn b_i comes before the shift once it has joined the angle of joint i - 1
        c, s = before[i]
        shifts[i] = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) @ shifts[i]
    phases = [_sum(g, b) for g, b in zip(after, before[1:], strict=True)]
    return Chain(
        start=_tuple(before[0]),
        tilt=tuple(_tuple(a) for a in tilts),
        shift=tuple(_tuple(s) for s in shifts),
        phase=tuple(_tuple(p) for p in phases),
        slides=tuple(kind == "prismatic" for kind in kinds),
        tip=tuple(_tuple(row) for row in turns[-1]),
    )


def _frame(axis: np.ndarray) -> np.ndarray:
    """A rotation whose third column is `axis`, a permutation with signs where that is possible."""
    z = axis / np.linalg.norm(axis)
    k = int(np.argmin(np.abs(z)))
    x = np.eye(3)[k] - z[k] * z
    x /= np.linalg.norm(x)
    return _snap(np.stack([x, np.cross(z, x), z], -1))


def _zxz(turn: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(cosine, sine) of b, a, g in turn = Rot_z(b) Rot_x(a) Rot_z(g); b = 0 where the axes are parallel."""
    sine = np.hypot(turn[0, 2], turn[1, 2])
    if sine < 1e-14:
        a = np.array([np.sign(turn[2, 2]), 0.0])
        return np.array([1.0, 0.0]), a, _unit(np.array([turn[0, 0], -turn[0, 1]]))
    # (b, a, g) and (b + pi, -a, g + pi) are one turn; the half with cos b > 0 leaves most angles without a
    # phase.
    b = _unit(np.array([-turn[1, 2], turn[0, 2]]))
    sign = 1.0 if b[0] > 0 or (b[0] == 0 and b[1] > 0) else -1.0
    a = _unit(np.array([turn[2, 2], sign * sine]))
    return sign * b + 0.0, a, _unit(sign * np.array([turn[2, 1], turn[2, 0]]))


def _sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return _unit(np.array([a[0] * b[0] - a[1] * b[1], a[1] * b[0] + a[0] * b[1]]))


def _unit(pair: np.ndarray) -> np.ndarray:
    return _snap(pair / np.hypot(*pair))


def _snap(x: np.ndarray) -> np.ndarray:
    nearest = np.round(x)
    return np.where(np.abs(x - nearest) < _SNAP, nearest, x) + 0.0


def _tuple(x: np.ndarray) -> tuple[float, ...]:
    return tuple(float(v) for v in _snap(x))
