"""This project's kinematics as a process that can be asked for Jacobians or solutions.

  python -m experiments.benchmarks.arm_ours jacobian --folder=DIR --batch=4096 --cores=0

speaks the protocol of `third_party/kinematics_peers.py`, from the same folder. Contenders:

| contender | one step is |
| --- | --- |
| jacobian | one J of `jacobian(arm, q)`, q (B, 7), J (B, 6, 7) |
| jacobian_last | one J of `jacobian_last(arm, q, out)`, out (6, 7, B) donated |
| jacfwd | one of `vmap(jacfwd(forward))`, what people type |
| naive | the same of rotation matrices and positions multiplied along the chain as they stand in a textbook |
| one, noop | one call of `jacobian(arm, q)`, or of q + 1, for a single q, waited for |
| first | the first call of `jacobian(arm, q)` in a process: traced, compiled, run |
| inverse | one target of `inverse(arm, target)` |
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

CONTENDERS = ("jacobian", "jacobian_last", "jacfwd", "naive", "one", "noop", "first", "inverse")
_ARM = "panda"


def naive(rotation, position):
    """q (N,) -> (R, p) by the products of a textbook, joints turning about z."""
    import jax.numpy as jnp

    def forward(q):
        r, p = jnp.eye(3), jnp.zeros(3)
        for i in range(len(position)):
            p = p + r @ jnp.asarray(position[i], q.dtype)
            r = r @ jnp.asarray(rotation[i], q.dtype)
            if i < q.shape[0]:
                s, c = jnp.sin(q[i]), jnp.cos(q[i])
                r = r @ jnp.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        return r, p

    return forward


def _functions(arm):
    """contender -> q (B, 7) -> something; its Jacobian as (B, 6, 7)."""
    import jax

    from ch3_jax.kinematics.forward import forward, twist_of_slope
    from ch3_jax.kinematics.jacobian import jacobian
    from ch3_jax.kinematics.transforms import Pose

    chain = naive(arm.rotation, arm.position)

    def twists(fk, slope, q):
        return twist_of_slope(Pose(*jax.vmap(fk)(q)), Pose(*slope))

    def fk(q):
        return forward(arm, q)

    def analytic(q):
        return jacobian(arm, q)

    return {
        "jacobian": (analytic, lambda j, q: j),
        "jacfwd": (jax.vmap(jax.jacfwd(fk)), lambda slope, q: twists(fk, slope, q)),
        "naive": (jax.vmap(jax.jacfwd(chain)), lambda slope, q: twists(chain, slope, q)),
    }


def ready(contender: str, content: dict, batch: int):
    """(what is said when ready, a function that makes about n and returns how many)."""
    import jax
    import jax.numpy as jnp

    from ch3_jax.kinematics.arm import load_arm
    from ch3_jax.kinematics.jacobian import jacobian, jacobian_last

    arm, facts = load_arm(_ARM), {"version": jax.__version__}
    check_q = jnp.asarray(content["check_q"], jnp.float32)
    q = jax.random.uniform(
        jax.random.key(0), (batch, arm.dof), jnp.float32, jnp.asarray(arm.lower), jnp.asarray(arm.upper)
    )

    def compare(j):
        return {"error": float(np.abs(np.asarray(j, np.float64) - content["check_jacobian"]).max())}

    if contender == "inverse":
        return _inverse(arm, content, batch, facts)
    if contender == "jacobian_last":
        step = jax.jit(lambda out, q: jacobian_last(arm, q, out), donate_argnums=0)
        facts |= compare(jnp.moveaxis(jacobian_last(arm, check_q.T), -1, 0))
        last, kept = q.T, [jnp.zeros((6, arm.dof, batch), jnp.float32)]

        def once():
            kept[0] = step(kept[0], last)
            kept[0].block_until_ready()

    elif contender in ("one", "noop"):
        f = jax.jit((lambda q: jacobian(arm, q)) if contender == "one" else (lambda q: q + 1))
        facts |= {} if contender == "noop" else compare(jnp.stack([f(x) for x in check_q]))
        batch, single = 1, q[0]

        def once():
            f(single).block_until_ready()

    elif contender == "first":
        batch, f = 1, jax.jit(lambda q: jacobian(arm, q))
        q.block_until_ready()

        def once():
            f(q).block_until_ready()

        return facts, lambda steps: once() or 1
    else:
        function, twist = _functions(arm)[contender]
        facts |= compare(twist(function(check_q), check_q))
        f = jax.jit(function)

        def once():
            jax.block_until_ready(f(q))

    once()

    def run(steps):
        for _ in range(-(-steps // batch)):
            once()
        return -(-steps // batch) * batch

    return facts, run


def _inverse(arm, content, batch, facts):
    import jax
    import jax.numpy as jnp

    from ch3_jax.kinematics.inverse import CONVERGED, Settings, inverse
    from ch3_jax.kinematics.transforms import Pose
    from third_party import kinematics_peers as judge

    exact = np.asarray(content["targets"])[:batch]
    target = Pose(jnp.asarray(exact[:, :3, :3], jnp.float32), jnp.asarray(exact[:, :3, 3], jnp.float32))
    settings = Settings(position_tolerance=judge.POSITION, orientation_tolerance=judge.ANGLE)
    f = jax.jit(lambda target: inverse(arm, target, settings=settings))
    found = f(target)
    data = judge.Data.__new__(judge.Data)
    data.rotation, data.position, data.lower, data.upper = arm.rotation, arm.position, arm.lower, arm.upper
    share = judge.solved(data, np.asarray(found.q, np.float64), exact)
    facts |= {"solved": share, "of": len(exact), "said": float((found.status == CONVERGED).mean())}

    def run(steps):
        for _ in range(-(-steps // len(exact))):
            jax.block_until_ready(f(target))
        return -(-steps // len(exact)) * len(exact)

    return facts, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--cores", default="", help="comma-separated processor numbers to stay on")
    parser.add_argument("--wait", action="store_true", help="dispatch in the caller's thread")
    arguments = parser.parse_args()
    # Before jax is imported: it makes as many threads as there are processors that it may use.
    if arguments.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in arguments.cores.split(",")})
    import jax

    jax.config.update("jax_enable_compilation_cache", False)
    if arguments.wait:
        jax.config.update("jax_cpu_enable_async_dispatch", False)
    content = json.loads((arguments.folder / "arm.json").read_text())
    facts, run = ready(arguments.contender, content, arguments.batch)
    print(json.dumps({"ready": arguments.contender, **facts}), flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        steps = run(int(line))
        answer = {"steps": steps, "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
