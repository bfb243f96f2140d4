"""What the subjects `jacobian` and `inverse` share: one arm in everybody's file format, peers, judged rows.

Every contender gets the same Panda from one folder, and has to reproduce Jacobians (or solve targets) that
numpy computed in float64 from the table of the arm before its time counts.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ch3_jax.errors import InputError
from ch3_jax.kinematics.arm import Arm
from experiments.benchmarks import rounds
from third_party import kinematics_peers

COMMAND = "pip install -r third_party/requirements.txt"
CPP = "pinocchio C++"
JUDGED_ROUNDS = 7  # fewer, as in a smoke, say nothing
_PEERS = Path(kinematics_peers.__file__)
_CPP_SOURCE = _PEERS.parent / "pinocchio_loop.cpp"
_CPP_FLAGS = ("-std=c++17", "-O3", "-DNDEBUG", "-DBOOST_MPL_CFG_NO_PREPROCESSED_HEADERS",
              "-DBOOST_MPL_LIMIT_LIST_SIZE=30")  # fmt: skip


class Worker(rounds.Worker):
    """A contender that says, when it is ready, how well it did: `facts` has "error" or "solved"."""

    facts: Mapping[str, Any] = {}

    def ready(self) -> str:
        self.facts = self._read()
        return self.facts["version"]


def numpy_pose_and_jacobian(arm: Arm, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Poses (B, 4, 4) and Jacobians (B, 6, N) straight from the definition, for joints that turn about z."""
    poses, jacobians = [], []
    for x in q:
        pose, axes, origins = np.eye(4), [], []
        for i in range(len(arm.position)):
            here = np.eye(4)
            here[:3, :3], here[:3, 3] = arm.rotation[i], arm.position[i]
            pose = pose @ here
            if i < len(x):
                axes.append(pose[:3, 2])
                origins.append(pose[:3, 3])
                turn = np.eye(4)
                turn[:2, :2] = [[np.cos(x[i]), -np.sin(x[i])], [np.sin(x[i]), np.cos(x[i])]]
                pose = pose @ turn
        poses.append(pose)
        linear = [np.cross(z, pose[:3, 3] - o) for z, o in zip(axes, origins, strict=True)]
        jacobians.append(np.concatenate([np.stack(linear, 1), np.stack(axes, 1)]))
    return np.stack(poses), np.stack(jacobians)


def write_folder(arm: Arm, folder: Path, targets: int) -> None:
    """The arm in every format, five configurations with their exact Jacobians, and reachable targets.

    Args:
      arm: joints that turn about the z axes of their frames.
      folder: exists.
      targets: how many poses of configurations drawn uniformly within the limits.
    """
    rng = np.random.default_rng(1)
    check_q = rng.uniform(arm.lower, arm.upper, (5, arm.dof))
    goals = kinematics_peers.pose_of(arm, rng.uniform(arm.lower, arm.upper, (targets, arm.dof)))
    check = numpy_pose_and_jacobian(arm, check_q)[1]
    content = {
        "joints": arm.joints, "tip": arm.tip, "rotation": arm.rotation, "position": arm.position,
        "lower": arm.lower, "upper": arm.upper, "check_q": check_q, "check_jacobian": check, "targets": goals,
    }  # fmt: skip
    listed = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in content.items()}
    (folder / "arm.json").write_text(json.dumps(listed))
    (folder / "robot.urdf").write_text(urdf(arm))
    (folder / "robot.xml").write_text(mjcf(arm))
    frames = [[*r.ravel(), *p] for r, p in zip(arm.rotation, arm.position, strict=True)]
    (folder / "chain.txt").write_text(f"{arm.dof}\n" + _lines(frames))
    (folder / "check.txt").write_text(_lines([[*q, *j.ravel()] for q, j in zip(check_q, check, strict=True)]))


def _lines(rows) -> str:
    return "".join(" ".join(repr(float(x)) for x in row) + "\n" for row in rows)


def _words(values) -> str:
    return " ".join(repr(float(x) + 0.0) for x in values)


def urdf(arm: Arm) -> str:
    """The arm as a URDF; joints turn about z."""
    from scipy.spatial.transform import Rotation

    mass = (
        '<inertial><origin xyz="0 0 0" rpy="0 0 0"/><mass value="1"/>'
        '<inertia ixx="0.1" ixy="0" ixz="0" iyy="0.1" iyz="0" izz="0.1"/></inertial>'
    )
    names = [arm.base, *(f"link{i + 1}" for i in range(arm.dof)), arm.tip]
    lines = [f'<link name="{name}">{mass}</link>' for name in names]
    for i, (parent, child) in enumerate(zip(names[:-1], names[1:], strict=True)):
        origin = (
            f'<parent link="{parent}"/><child link="{child}"/><origin xyz="{_words(arm.position[i])}" '
            f'rpy="{_words(Rotation.from_matrix(arm.rotation[i]).as_euler("xyz"))}"/>'
        )
        if i < arm.dof:
            limit = (
                f'<axis xyz="0 0 1"/><limit lower="{arm.lower[i]}" upper="{arm.upper[i]}" '
                'velocity="2" effort="80"/>'
            )
            lines.append(f'<joint name="{arm.joints[i]}" type="revolute">{origin}{limit}</joint>')
        else:
            lines.append(f'<joint name="flange" type="fixed">{origin}</joint>')
    return f'<robot name="{arm.name}">\n' + "\n".join(lines) + "\n</robot>\n"


def mjcf(arm: Arm) -> str:
    """The same as an MJCF; the tip is a site."""
    from scipy.spatial.transform import Rotation

    def place(i):
        x, y, z, w = Rotation.from_matrix(arm.rotation[i]).as_quat()
        return f'pos="{_words(arm.position[i])}" quat="{_words((w, x, y, z))}"'

    inner = f'<site name="{arm.tip}" {place(arm.dof)}/>'
    for i in reversed(range(arm.dof)):
        inner = (
            f'<body name="link{i + 1}" {place(i)}><inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/>'
            f'<joint name="{arm.joints[i]}" axis="0 0 1" range="{arm.lower[i]} {arm.upper[i]}"/>'
            f"{inner}</body>"
        )
    return f'<mujoco model="{arm.name}"><compiler angle="radian"/><worldbody>{inner}</worldbody></mujoco>\n'


# --- peers -----------------------------------------------------------------------------------------


class Peers(NamedTuple):
    """What can be measured beside ours.

    Attributes:
      python: their interpreter.
      names: contenders of `third_party/kinematics_peers.py` whose packages are there.
      notes: one sentence for each that is left out.
      cpp: the compiled Pinocchio loop, None without.
    """

    python: str
    names: tuple[str, ...]
    notes: tuple[str, ...]
    cpp: Path | None


def find_peers(python: str, wanted: Sequence[str], cpp: bool) -> Peers:
    """Which contenders an interpreter has.

    Raises:
      InputError: the interpreter cannot be started.
    """
    modules = sorted({kinematics_peers.MODULES[name] for name in wanted})
    check = (
        "import importlib.util, json, sys; "
        "print(json.dumps([m for m in sys.argv[1:] if importlib.util.find_spec(m) is None]))"
    )
    try:
        done = subprocess.run([python, "-c", check, *modules], capture_output=True, text=True)
    except OSError as error:
        raise InputError(
            f"--torch_python={python} cannot be started",
            got=error.strerror,
            expected="the path of a Python interpreter that has the peers",
            cause="a mistyped path",
            fix="correct it, or leave it out and " + COMMAND,
        ) from error
    missing = set(modules) if done.returncode else set(json.loads(done.stdout))
    notes = [f"{module} is not installed, so it is left out: {COMMAND}" for module in sorted(missing)]
    binary = None
    if cpp and "pinocchio" not in missing:
        binary, reason = compiled_loop(python)
        notes += [] if binary else [f"{CPP} is left out: {reason}"]
    return Peers(
        python,
        tuple(name for name in wanted if kinematics_peers.MODULES[name] not in missing),
        tuple(notes),
        binary,
    )


def compiled_loop(python: str) -> tuple[Path | None, str]:
    """The C++ loop over Pinocchio, compiled once (about a minute) and kept; or None and why not."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        return None, "no C++ compiler; install g++ or set CXX"
    where = "import pathlib, pinocchio; print(pathlib.Path(pinocchio.__file__).resolve().parents[4])"
    done = subprocess.run([python, "-c", where], capture_output=True, text=True)
    prefix = Path(done.stdout.strip() or "/")
    if not (prefix / "include/pinocchio").is_dir() or not (prefix / "include/eigen3").is_dir():
        return None, f"no headers of Pinocchio and Eigen in {prefix}: {COMMAND}"
    mark = hashlib.sha256(_CPP_SOURCE.read_bytes() + str(prefix).encode() + repr(_CPP_FLAGS).encode())
    binary = Path(tempfile.gettempdir()) / f"pinocchio_loop-{os.getuid()}-{mark.hexdigest()[:16]}"
    if not binary.exists():
        part = binary.with_suffix(f".{os.getpid()}")
        done = subprocess.run(
            [compiler, *_CPP_FLAGS, f"-I{prefix}/include", f"-I{prefix}/include/eigen3", str(_CPP_SOURCE),
             "-o", str(part), f"-L{prefix}/lib", f"-Wl,-rpath,{prefix}/lib", "-lpinocchio_default"],
            capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if "error" in line]
            return None, f"it does not compile: {(errors or ['no message'])[0]}"
        part.rename(binary)
    return binary, ""


def commands(
    own: Mapping[str, Sequence[str]], peers: Peers, names: Mapping[str, int], folder: Path, threads: int
) -> dict[str, list[str]]:
    """Command lines of contenders pinned to the last `threads` processors.

    Args:
      own: name -> arguments of `experiments.benchmarks.arm_ours`.
      peers: as found.
      names: peer -> batch; `CPP` among them if wanted.
      folder: of `write_folder`.
      threads: processors.
    """
    cores = ",".join(map(str, processors()[:threads]))
    found = {
        name: [sys.executable, "-m", "experiments.benchmarks.arm_ours", *arguments, f"--cores={cores}"]
        for name, arguments in own.items()
    }
    for name, batch in names.items():
        if name == CPP and peers.cpp is not None:
            loop = [str(peers.cpp), str(folder / "chain.txt"), str(batch), str(folder / "check.txt")]
            pin = shutil.which("taskset")
            found[name] = [pin, "-c", cores, *loop] if pin else loop
        elif name in peers.names:
            found[name] = [
                peers.python, str(_PEERS), name, f"--folder={folder}", f"--batch={batch}",
                f"--threads={threads}", f"--cores={cores}",
            ]  # fmt: skip
    return found


def processors() -> list[int]:
    """Numbers of the processors that this process may use; the last first, as the first is the busiest."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0), reverse=True)
    return list(range(os.cpu_count() or 1))


@contextlib.contextmanager
def started(lines: Mapping[str, list[str]], threads: int, tolerance: float = 5e-6) -> Iterator[tuple]:
    """(workers that are ready and right, what each said, those left out with the reason)."""
    with contextlib.ExitStack() as stack:
        every = {name: stack.enter_context(Worker(line, threads)) for name, line in lines.items()}
        workers, facts, failed = {}, {}, {}
        for name, worker in every.items():
            try:
                worker.ready()
            except ChildProcessError as error:
                if "experiments.benchmarks.arm_ours" in lines[name]:
                    raise
                failed[name] = f"did not start: {error}"
                continue
            if worker.facts.get("error", 0) > tolerance:
                failed[name] = f"gives another Jacobian, by {worker.facts['error']:.1e}"
                continue
            workers[name], facts[name] = worker, dict(worker.facts)
        yield workers, facts, failed


# --- what was asked for ----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Bar:
    """One row of what was asked for: `measured` at least (or, with `most`, at most) `wanted`."""

    text: str
    measured: float
    wanted: float
    most: bool = False
    unit: str = "x"

    def record(self) -> dict[str, Any]:
        """As kept in `benchmark.json` and summed up by the run."""
        reached = self.measured <= self.wanted if self.most else self.measured >= self.wanted
        bound = "at most" if self.most else "at least"
        text = f"{self.text}, {bound} {self.wanted:g} {self.unit}: {self.measured:.4g} {self.unit}"
        return {"text": text, "measured": self.measured, "wanted": self.wanted, "reached": bool(reached)}


def judged(record: Mapping[str, Any]) -> list[str]:
    """The lines of a record's targets."""
    return [f"{'reached' if t['reached'] else 'MISSED':<8}{t['text']}" for t in record.get("targets", ())]
