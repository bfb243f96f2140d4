"""The joints of an MJCF file: nested bodies, default classes, degrees unless the compiler says otherwise.

MuJoCo's conventions that differ from URDF's: angles are degrees by default, joints sit inside the body they
move and may have a position of their own, orientations come in five spellings, limits may be absent, and
equality constraints play the part of mimic joints.
"""

import math
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from ch3_jax.kinematics.links import Joint, numbers, refusal

_KINDS = {"hinge": "revolute", "slide": "prismatic"}
_ALONG = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


class _Reader:
    def __init__(self, root: Element, path: Path):
        self.path, self.joints, self.frames, self.count = path, [], {"world"}, 0
        compiler = {}
        for element in root.findall("compiler"):
            compiler.update(element.attrib)
        self.unit = 1.0 if compiler.get("angle", "degree") == "radian" else math.pi / 180
        self.order = compiler.get("eulerseq", "xyz")
        self.autolimits = compiler.get("autolimits", "true") == "true"
        self.defaults: dict[str, dict[str, str]] = {}
        for element in root.findall("default"):
            self._default(element, {})
        for element in root.iter():
            if element.tag in ("include", "attach", "replicate"):
                raise refusal(
                    f"{path} uses <{element.tag}>",
                    element.tag,
                    "one self-contained file",
                    fix="save the compiled model with mj_saveLastXML",
                )
        self.mimics = {
            m[0]: m[1:] for element in root.findall("equality/joint") if (m := self._equality(element))
        }

    def _default(self, element: Element, inherited: dict[str, str]) -> None:
        values = dict(inherited)
        for joint in element.findall("joint"):
            values.update(joint.attrib)
        self.defaults[element.get("class", "main")] = values
        for child in element.findall("default"):
            self._default(child, values)

    def _equality(self, element: Element):
        if element.get("active", "true") == "false" or element.get("joint2") is None:
            return None
        terms = numbers(element.get("polycoef", "0 1 0 0 0"), None, f"equality of {self.path.name}")
        if np.any(terms[2:] != 0):
            raise refusal(
                f"{self.path}: {element.get('joint1')!r} follows a polynomial", terms, "a straight line"
            )
        return element.get("joint1"), element.get("joint2"), float(terms[1]), float(terms[0])

    def body(self, element: Element, parent: str, inherited: str) -> None:
        """The joints of one body (or frame, which is a body that does not move) and of those below it."""
        inherited = element.get("childclass", inherited)
        where = f"body {element.get('name')!r} of {self.path.name}"
        name = element.get("name") or self._new()
        rotation, position = self.orientation(element, where), numbers(element.get("pos", "0 0 0"), 3, where)
        if element.find("freejoint") is not None:
            self._add(name + ":free", "floating", parent, name, rotation, position)
            parent, rotation, position = name, np.eye(3), np.zeros(3)
        moving = element.findall("joint") if element.tag == "body" else []
        here = np.zeros(3)
        for joint in moving:
            values = {**self.defaults.get(joint.get("class", inherited), {}), **joint.attrib}
            label = f"joint {joint.get('name')!r} of {self.path.name}"
            place = numbers(values.get("pos", "0 0 0"), 3, label)
            child = self._new()
            position, here = position + rotation @ (place - here), place
            self._moving(values, joint.get("name") or child, parent, child, rotation, position, label)
            parent, rotation, position = child, np.eye(3), np.zeros(3)
        self._add(name + ":fixed", "fixed", parent, name, rotation, position - rotation @ here)
        self.children(element, name, inherited)

    def children(self, element: Element, name: str, inherited: str) -> None:
        for child in element:
            if child.tag in ("body", "frame"):
                self.body(child, name, inherited)
            elif child.tag == "site" and child.get("name"):
                where = f"site {child.get('name')!r} of {self.path.name}"
                site = (
                    child.get("name") if child.get("name") not in self.frames else f"site:{child.get('name')}"
                )
                place = numbers(child.get("pos", "0 0 0"), 3, where)
                self._add(site + ":site", "fixed", name, site, self.orientation(child, where), place)

    def _moving(self, values, name, parent, child, rotation, position, where) -> None:
        kind = _KINDS.get(values.get("type", "hinge"), values.get("type"))
        unit = self.unit if kind == "revolute" else 1.0
        limited = values.get("limited", "auto")
        bounded = limited == "true" or (limited == "auto" and self.autolimits and "range" in values)
        limits = (-math.inf, math.inf)
        if bounded:
            if "range" not in values:
                raise refusal(f"The {where} is limited but has no range", "no range", 'range="lower upper"')
            low, high = unit * numbers(values["range"], 2, where)
            limits = (float(low), float(high))
        ref = unit * float(numbers(values.get("ref", "0"), 1, where)[0])
        self._add(
            name,
            kind,
            parent,
            child,
            rotation,
            position,
            numbers(values.get("axis", "0 0 1"), 3, where),
            limits,
            -ref,
        )

    def _add(
        self, name, kind, parent, child, rotation, position, axis=(0.0, 0.0, 1.0), limits=None, offset=0.0
    ):
        self.frames.add(child)
        mimic = self.mimics.get(name)
        self.joints.append(
            Joint(
                name,
                kind,
                parent,
                child,
                rotation,
                position,
                np.asarray(axis),
                limits,
                mimic=mimic,
                offset=offset,
            )
        )

    def _new(self) -> str:
        self.count += 1
        return f"#{self.count}"

    def orientation(self, element: Element, where: str) -> np.ndarray:
        """The rotation of a body or site, in whichever of MuJoCo's spellings it is given."""
        if (text := element.get("quat")) is not None:
            w, *v = numbers(text, 4, where)
            return _turn(np.array(v), 2 * math.atan2(np.linalg.norm(v), w)) if np.any(v) else np.eye(3)
        if (text := element.get("axisangle")) is not None:
            *axis, angle = numbers(text, 4, where)
            return _turn(np.array(axis), self.unit * angle)
        if (text := element.get("euler")) is not None:
            result = np.eye(3)
            for letter, angle in zip(self.order, self.unit * numbers(text, 3, where), strict=True):
                turn = _turn(np.array(_ALONG[letter.lower()]), angle)
                result = result @ turn if letter.islower() else turn @ result
            return result
        if (text := element.get("xyaxes")) is not None:
            x, y = np.split(numbers(text, 6, where), 2)
            x = x / np.linalg.norm(x)
            y = y - (x @ y) * x
            y = y / np.linalg.norm(y)
            return np.stack([x, y, np.cross(x, y)], -1)
        if (text := element.get("zaxis")) is not None:
            z = numbers(text, 3, where)
            axis = np.cross([0, 0, 1.0], z)
            angle = math.atan2(np.linalg.norm(axis), z[2])
            return _turn(axis if np.any(axis) else np.array([1.0, 0, 0]), angle)
        return np.eye(3)


def _turn(axis: np.ndarray, angle: float) -> np.ndarray:
    axis = axis / np.linalg.norm(axis)
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    matrix = np.eye(3) + math.sin(angle) * k + 2 * math.sin(angle / 2) ** 2 * (k @ k)
    nearest = np.round(matrix)
    return np.where(np.abs(matrix - nearest) < 4e-16, nearest, matrix)


def joints(root: Element, path: Path) -> tuple[list[Joint], set[str]]:
    """All joints and frames of a model; sites and bodies are frames."""
    reader = _Reader(root, path)
    for world in root.findall("worldbody"):
        reader.children(world, "world", "main")
    return reader.joints, reader.frames
