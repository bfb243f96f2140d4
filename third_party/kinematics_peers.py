"""Other people's Jacobians and inverse kinematics, as processes that can be asked for some.

  python third_party/kinematics_peers.py pinocchio --folder=DIR --batch=4096 --cores=0

needs the peer and nothing of this project, so that any interpreter that has the peer can run it. DIR holds
the same arm for everybody, as `experiments/benchmarks/arm.py` writes it: `robot.urdf`, `robot.xml` (MJCF) and
`arm.json` (placements, limits, configurations with their exact Jacobians, targets). It speaks the protocol of
`third_party/chapter_loop.py`: "ready" with the largest error against those Jacobians, or with the
share of targets that it solved; then for each line with a number one line of JSON with the Jacobians (or
solutions) made, and their seconds by the wall and by the processor.

| contender | what a user of it writes |
| --- | --- |
| pinocchio | a Python loop over computeFrameJacobian, LOCAL_WORLD_ALIGNED, float64 |
| mujoco | a Python loop over mj_kinematics, mj_comPos, mj_jacSite, float64 |
| roboticstoolbox | a Python loop over ETS.jacob0, float64 |
| pytorch_kinematics | chain.jacobian(q), float32 |
| kinjax | jit(vmap(jacobian)), float32 |
| frax | jit(vmap(ee_jacobian)), float32, with the flag that its manual recommends |
| casadi | C generated from the expression of J, gcc -O3 -march=native -ffast-math, a loop in C, float32 |
| ik_roboticstoolbox | a Python loop over the C++ solver ETS.ik_LM (Chan), limits and restarts on |
| ik_pytorch_kinematics | PseudoInverseIK, 10 restarts, 50 iterations |
| ik_pinocchio | damped Gauss-Newton from the middle of the limits over Pinocchio, as its example does it |
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

# What each contender imports, beside numpy.
MODULES = {
    "pinocchio": "pinocchio",
    "mujoco": "mujoco",
    "roboticstoolbox": "roboticstoolbox",
    "pytorch_kinematics": "pytorch_kinematics",
    "kinjax": "kinjax",
    "frax": "frax",
    "casadi": "casadi",
    "ik_roboticstoolbox": "roboticstoolbox",
    "ik_pytorch_kinematics": "pytorch_kinematics",
    "ik_pinocchio": "pinocchio",
}
POSITION, ANGLE = 1e-3, 1e-2  # a target is solved within 1 mm and 0.01 rad


class Data:
    """The folder that everybody reads, and `batch` configurations within the limits."""

    def __init__(self, folder: Path, batch: int):
        content = json.loads((folder / "arm.json").read_text())
        self.folder, self.batch = folder, batch
        for name in ("rotation", "position", "lower", "upper", "check_q", "check_jacobian", "targets"):
            setattr(self, name, np.asarray(content[name]))
        self.joints, self.tip = content["joints"], content["tip"]
        self.q = np.random.default_rng(0).uniform(self.lower, self.upper, (batch, len(self.lower)))


def pose_of(data: Data, q: np.ndarray) -> np.ndarray:
    """Poses (B, 4, 4) of configurations (B, N) in numpy: the judge of every solution."""
    pose = np.tile(np.eye(4), (len(q), 1, 1))
    for i in range(len(data.position)):
        here = np.eye(4)
        here[:3, :3], here[:3, 3] = data.rotation[i], data.position[i]
        pose = pose @ here
        if i < q.shape[1]:
            c, s = np.cos(q[:, i]), np.sin(q[:, i])
            turn = np.tile(np.eye(4), (len(q), 1, 1))
            turn[:, 0, 0], turn[:, 0, 1], turn[:, 1, 0], turn[:, 1, 1] = c, -s, s, c
            pose = pose @ turn
    return pose


def solved(data: Data, q: np.ndarray, targets: np.ndarray) -> float:
    """Share of targets (B, 4, 4) that q (B, N) reaches within the limits."""
    pose = pose_of(data, q)
    moved = np.linalg.norm(pose[:, :3, 3] - targets[:, :3, 3], axis=1)
    trace = np.einsum("nij,nij->n", pose[:, :3, :3], targets[:, :3, :3])
    turned = np.arccos(np.clip((trace - 1) / 2, -1, 1))
    inside = ((q >= data.lower - 1e-6) & (q <= data.upper + 1e-6)).all(1)
    return float(((moved < POSITION) & (turned < ANGLE) & inside).mean())


# --- Jacobians: name -> (version, q (B, N) -> J (B, 6, N) as numpy, () -> None that makes `batch` of


def pinocchio(data: Data):
    import pinocchio as pin

    model = pin.buildModelFromUrdf(str(data.folder / "robot.urdf"))
    state, tip = model.createData(), model.getFrameId(data.tip)
    frame, compute = pin.LOCAL_WORLD_ALIGNED, pin.computeFrameJacobian
    out = np.empty((data.batch, 6, model.nv))

    def jacobians(q):
        return np.stack([compute(model, state, x, tip, frame) for x in q])

    def run():
        for k, x in enumerate(data.q):
            out[k] = compute(model, state, x, tip, frame)

    return pin.__version__, jacobians, run


def mujoco(data: Data):
    import mujoco as mj

    model = mj.MjModel.from_xml_path(str(data.folder / "robot.xml"))
    state, site = mj.MjData(model), mj.mj_name2id(model, mj.mjtObj.mjOBJ_SITE, data.tip)
    out = np.empty((data.batch, 6, model.nv))

    def one(x, to):
        state.qpos[:] = x
        mj.mj_kinematics(model, state)
        mj.mj_comPos(model, state)
        mj.mj_jacSite(model, state, to[:3], to[3:], site)

    def jacobians(q):
        result = np.empty((len(q), 6, model.nv))
        for x, to in zip(q, result, strict=True):
            one(x, to)
        return result

    def run():
        for x, to in zip(data.q, out, strict=True):
            one(x, to)

    return mj.__version__, jacobians, run


def _ets(data: Data):
    """The arm as roboticstoolbox's chain of elementary transforms."""
    from roboticstoolbox import ET, ETS
    from spatialmath import SE3

    chain = ETS()
    for i, (rotation, position) in enumerate(zip(data.rotation, data.position, strict=True)):
        chain = chain * ET.SE3(SE3.Rt(rotation, position))
        if i < len(data.lower):
            chain = chain * ET.Rz(jindex=i, qlim=(data.lower[i], data.upper[i]))
    return chain


def roboticstoolbox(data: Data):
    from importlib.metadata import version

    chain = _ets(data)
    out = np.empty((data.batch, 6, len(data.lower)))

    def run():
        for k, x in enumerate(data.q):
            out[k] = chain.jacob0(x)

    return version("roboticstoolbox-python"), lambda q: np.stack([chain.jacob0(x) for x in q]), run


def _torch_chain(data: Data):
    import pytorch_kinematics as pk
    import torch

    text = (data.folder / "robot.urdf").read_bytes()
    return pk.build_serial_chain_from_urdf(text, data.tip).to(dtype=torch.float32)


def pytorch_kinematics(data: Data):
    from importlib.metadata import version

    import torch

    chain = _torch_chain(data)
    q = torch.tensor(data.q, dtype=torch.float32)
    return (
        version("pytorch_kinematics"),
        lambda q: chain.jacobian(torch.tensor(q, dtype=torch.float32)).numpy(),
        lambda: chain.jacobian(q),
    )


def kinjax(data: Data):
    from importlib.metadata import version

    import jax
    import jax.numpy as jnp
    from kinjax import get_jacobian_fn, get_link_joint_dict

    links, joints = get_link_joint_dict(str(data.folder / "robot.urdf"))
    f = get_jacobian_fn(links, joints, len(data.lower), data.tip, batch=True)
    q = jnp.asarray(data.q, jnp.float32)
    return (
        version("kinjax"),
        lambda q: np.asarray(f(jnp.asarray(q, jnp.float32))),
        lambda: jax.block_until_ready(f(q)),
    )


def frax(data: Data):
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    from importlib.metadata import version

    import jax
    import jax.numpy as jnp
    from frax import Manipulator

    tool = np.eye(4)
    tool[:3, :3], tool[:3, 3] = data.rotation[-1], data.position[-1]
    arm = Manipulator(str(data.folder / "robot.urdf"), ee_offset=tool)
    f = jax.jit(jax.vmap(arm.ee_jacobian))
    q = jnp.asarray(data.q, jnp.float32)
    return (
        version("frax"),
        lambda q: np.asarray(f(jnp.asarray(q, jnp.float32))),
        lambda: jax.block_until_ready(f(q)),
    )


_LOOP = """
void many(const float *q, float *out, long count) {
  for (long k = 0; k < count; ++k) {
    const float *arg[1] = {q + N * k};
    float *res[1] = {out + 6 * N * k};
    jacobian(arg, res, 0, 0, 0);
  }
}
"""


def casadi(data: Data):
    import casadi as ca

    dof = len(data.lower)
    q = ca.SX.sym("q", dof)
    rotation, position, axes, origins = ca.SX.eye(3), ca.SX.zeros(3), [], []
    for i in range(dof + 1):
        position = position + rotation @ ca.SX(ca.DM(data.position[i]))
        rotation = rotation @ ca.sparsify(ca.SX(ca.DM(data.rotation[i])))
        if i < dof:
            axes.append(rotation[:, 2])
            origins.append(position)
            c, s = ca.cos(q[i]), ca.sin(q[i])
            turn = ca.vertcat(ca.horzcat(c, -s, 0), ca.horzcat(s, c, 0), ca.horzcat(0, 0, 1))
            rotation = rotation @ ca.sparsify(turn)
    columns = [ca.vertcat(ca.cross(z, position - o), z) for z, o in zip(axes, origins, strict=True)]
    expression = ca.densify(ca.cse(ca.horzcat(*columns)).T)  # transposed: CasADi stores by columns
    f = ca.Function("jacobian", [q], [expression])
    folder = tempfile.mkdtemp(prefix="casadi_")
    generator = ca.CodeGenerator("j", {"casadi_real": "float", "casadi_int": "int"})
    generator.add(f)
    source = Path(folder) / "j.c"
    source.write_text(generator.dump().replace("#include <math.h>", "#include <tgmath.h>"))
    with source.open("a") as file:
        file.write(_LOOP.replace("N", str(dof)))
    library = str(Path(folder) / "j.so")
    subprocess.run(
        ["gcc", "-O3", "-march=native", "-ffast-math", "-fPIC", "-shared", str(source), "-o", library, "-lm"],
        check=True,
    )
    many = ctypes.CDLL(library).many
    pointer = ctypes.POINTER(ctypes.c_float)
    many.argtypes = [pointer, pointer, ctypes.c_long]

    def into(q, out):
        many(q.ctypes.data_as(pointer), out.ctypes.data_as(pointer), len(q))

    batch, out = np.float32(data.q), np.zeros((data.batch, 6, dof), np.float32)

    def jacobians(q):
        q, result = np.ascontiguousarray(q, np.float32), np.zeros((len(q), 6, dof), np.float32)
        into(q, result)
        return result

    return ca.__version__, jacobians, lambda: into(batch, out)


# --- inverse kinematics: name -> (version, targets (B, 4, 4) -> q (B, N)) --------------------------


def ik_roboticstoolbox(data: Data):
    from importlib.metadata import version

    chain = _ets(data)
    # The residual is half the squared error: below 5e-7 the tip is within 1 mm.
    return version("roboticstoolbox-python"), lambda targets: np.stack(
        [chain.ik_LM(t, method="chan", k=0.1, tol=5e-7, joint_limits=True)[0] for t in targets]
    )


def ik_pytorch_kinematics(data: Data):
    from importlib.metadata import version

    import pytorch_kinematics as pk
    import torch

    chain = _torch_chain(data)
    limits = torch.tensor(np.stack([data.lower, data.upper], 1), dtype=torch.float32)
    solver = pk.PseudoInverseIK(
        chain, max_iterations=50, num_retries=10, joint_limits=limits, early_stopping_any_converged=True,
        early_stopping_no_improvement="all", debug=False, lr=1.0, pos_tolerance=POSITION, rot_tolerance=ANGLE,
    )  # fmt: skip

    def solve(targets):
        torch.manual_seed(0)
        matrix = torch.tensor(targets, dtype=torch.float32)
        found = solver.solve(pk.Transform3d(matrix=matrix))
        best = (found.err_pos + found.err_rot).argmin(1)
        return found.solutions[torch.arange(len(best)), best].numpy().astype(np.float64)

    return version("pytorch_kinematics"), solve


def ik_pinocchio(data: Data):
    import pinocchio as pin

    model = pin.buildModelFromUrdf(str(data.folder / "robot.urdf"))
    state, tip = model.createData(), model.getFrameId(data.tip)
    middle = (data.lower + data.upper) / 2

    def one(target):
        wanted, q = pin.SE3(target), middle.copy()
        for _ in range(200):
            pin.framesForwardKinematics(model, state, q)
            error = pin.log(state.oMf[tip].actInv(wanted)).vector
            if np.linalg.norm(error[:3]) < POSITION and np.linalg.norm(error[3:]) < ANGLE:
                break
            j = pin.computeFrameJacobian(model, state, q, tip, pin.LOCAL)
            q = q + 0.5 * j.T @ np.linalg.solve(j @ j.T + 1e-6 * np.eye(6), error)
        return q

    return pin.__version__, lambda targets: np.stack([one(t) for t in targets])


JACOBIANS = (pinocchio, mujoco, roboticstoolbox, pytorch_kinematics, kinjax, frax, casadi)
INVERSES = (ik_roboticstoolbox, ik_pytorch_kinematics, ik_pinocchio)


def _ready(name: str, data: Data):
    """(what is said when ready, a function that makes about n and returns how many)."""
    makers = {f.__name__: f for f in JACOBIANS + INVERSES}
    if name in {f.__name__ for f in INVERSES}:
        version, solve = makers[name](data)
        targets = data.targets[: data.batch]
        share = solved(data, solve(targets), targets)

        def run(steps):
            for _ in range(-(-steps // len(targets))):
                solve(targets)
            return -(-steps // len(targets)) * len(targets)

        return {"version": version, "solved": share, "of": len(targets)}, run
    version, jacobians, once = makers[name](data)
    error = float(np.abs(np.asarray(jacobians(data.check_q), np.float64) - data.check_jacobian).max())

    def run(steps):
        for _ in range(-(-steps // data.batch)):
            once()
        return -(-steps // data.batch) * data.batch

    run(1)
    return {"version": version, "error": error}, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("contender", choices=list(MODULES))
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cores", default="", help="comma-separated processor numbers to stay on")
    arguments = parser.parse_args()
    # Before anything else is imported: libraries make as many threads as there are processors to use.
    if arguments.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in arguments.cores.split(",")})
    if "pytorch" in arguments.contender:
        import torch

        torch.set_num_threads(arguments.threads)
    facts, run = _ready(arguments.contender, Data(arguments.folder, arguments.batch))
    print(json.dumps({"ready": arguments.contender, **facts}), flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        steps = run(int(line))
        answer = {"steps": steps, "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
