r"""An arm from a URDF or MJCF file: the serial chain from the base to a named tip.

A robot file is a tree of links; a chain is the path from one of them up to the root. Joints that turn or
slide become rows of an `Arm`, fixed ones are multiplied into the next row, mimic joints share a coordinate,

  q_moving = multiplier * q_leader + offset.

What a chain cannot express is refused by name: loops, ball and floating joints, a tip that is not there, a
revolute joint without limits. The file is untrusted text: entities and document types are refused
before anything is expanded, and so are files of more than 10 MB.

Meshes, inertias and visuals are not read.
"""

import math
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from ch3_jax.errors import InputError
from ch3_jax.kinematics import mjcf
from ch3_jax.kinematics.arm import Arm
from ch3_jax.kinematics.links import Joint, chain_of, numbers

MAX_BYTES = 10_000_000


def read_arm(path: str | Path, tip: str, base: str | None = None) -> Arm:
    """The chain from `base` to `tip` of a URDF or MJCF file.

    Args:
      path: a file whose root element is `robot` (URDF) or `mujoco` (MJCF).
      tip: a link (URDF), or a body or site (MJCF).
      base: the link or body that poses are given in; None for the root.

    Returns:
      Arm.

    Raises:
      InputError: no such file or tip, too large, entities, loops, unsupported joints, missing limits.
    """
    path = Path(path)
    root = parse(path)
    if root.tag == "robot":
        joints, frames = _urdf(root, path)
    elif root.tag == "mujoco":
        joints, frames = mjcf.joints(root, path)
    else:
        raise _bad(
            path, "is neither URDF nor MJCF", f"<{root.tag}>", "<robot> or <mujoco>", "another kind of file"
        )
    name = root.get("name") or root.get("model") or path.stem
    return chain_of(path, name, joints, frames, tip, base)


def parse(path: Path) -> ElementTree.Element:
    """The root element of an XML file without entities and of at most `MAX_BYTES`.

    Raises:
      InputError: see `read_arm`.
    """
    if not path.is_file():
        raise _bad(
            path, "is not there", "no file", "a URDF or MJCF file", "a path relative to another folder"
        )
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise _bad(
            path,
            "is too large",
            f"{size:,} bytes",
            f"at most {MAX_BYTES:,}",
            "meshes inlined, or not a robot",
        )
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end

    def refuse(*_):
        raise _bad(
            path,
            "declares a document type or an entity",
            "<!DOCTYPE or <!ENTITY",
            "plain elements",
            "entities can name other files, or expand to gigabytes",
        )

    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
        return builder.close()
    except (expat.ExpatError, AssertionError, UnicodeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise _bad(
            path, "is not well-formed XML", error, "a URDF or MJCF file", "a xacro, cut short, or no XML"
        ) from None


def _urdf(root: ElementTree.Element, path: Path) -> tuple[list[Joint], set[str]]:
    frames = {link.get("name", "") for link in root.findall("link")}
    joints = []
    for element in root.findall("joint"):
        name = element.get("name", "")
        ends = [element.find(end) for end in ("parent", "child")]
        if any(end is None or end.get("link") is None for end in ends):
            raise _bad(
                path,
                f"has a joint {name!r} without parent or child",
                name,
                "both links",
                "a hand-edited file",
            )
        origin = element.find("origin")
        origin = {} if origin is None else origin.attrib
        axis = element.find("axis")
        where = f"joint {name!r} of {path.name}"
        limit, mimic = element.find("limit"), element.find("mimic")
        joints.append(
            Joint(
                name=name,
                kind=element.get("type", ""),
                parent=ends[0].get("link"),
                child=ends[1].get("link"),
                rotation=roll_pitch_yaw(numbers(origin.get("rpy", "0 0 0"), 3, where)),
                position=numbers(origin.get("xyz", "0 0 0"), 3, where),
                axis=numbers("1 0 0" if axis is None else axis.get("xyz", "1 0 0"), 3, where),
                limits=None if limit is None else _limits(limit, where),
                velocity=_number(limit, "velocity", where),
                effort=_number(limit, "effort", where),
                mimic=None
                if mimic is None
                else (
                    mimic.get("joint", ""),
                    _number(mimic, "multiplier", where, 1.0),
                    _number(mimic, "offset", where, 0.0),
                ),
            )
        )
    return joints, frames


def roll_pitch_yaw(angles: np.ndarray) -> np.ndarray:
    """URDF's rpy: turns about the fixed x, y and z axes, R = R_z R_y R_x, exact at quarter turns."""
    (cr, sr), (cp, sp), (cy, sy) = (_exact(a) for a in angles)
    x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    return z @ y @ x


def _exact(angle: float) -> tuple[float, float]:
    """Cosine and sine, where 1.5707963267948966 means a quarter turn and not one rounding less."""
    quarter = angle / (math.pi / 2)
    if abs(quarter - round(quarter)) < 4e-16 * max(1.0, abs(quarter)):
        return ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[round(quarter) % 4]
    return math.cos(angle), math.sin(angle)


def _limits(limit: ElementTree.Element, where: str) -> tuple[float, float] | None:
    if limit.get("lower") is None and limit.get("upper") is None:
        return None
    return _number(limit, "lower", where, 0.0), _number(limit, "upper", where, 0.0)


def _number(element, key: str, where: str, default: float = math.inf) -> float:
    if element is None or element.get(key) is None:
        return default
    return float(numbers(element.get(key), 1, where)[0])


def _bad(path: Path, problem: str, got: object, expected: object, cause: str) -> InputError:
    return InputError(
        f"{path} {problem}.",
        got=got,
        expected=expected,
        cause=cause,
        fix="check the path; `xacro model.xacro > model.urdf` makes a URDF of a xacro",
    )
