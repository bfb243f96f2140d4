r"""A manipulator Jacobian and a loss gradient are the same object: see it, in numbers and in three pictures.

  python -m experiments.jacobian --arm=panda [--q=0,-0.785,0,-2.356,0,1.571,0.785] [--json] [--out=DIR]
  python -m experiments.jacobian --arm=robot.urdf --tip=tool0 [--base=base_link]

prints where the tip is, J, its singular values, and how far forward mode, reverse mode, the analytic
columns and central differences agree (float32: 4e-7 and, for the differences, 1e-4; float64: 1e-15 and 1e-9).
With --out it draws

  two_link.png     the two-link arm and its velocity ellipse on the way through a singularity
  panda.png        the Panda's singular values on the way through one
  chain_rule.png   joint angles to pose beside weights to loss

In the last one both sides are one product of factors, d y = F_N ... F_1 d x, pushed forward by `jvp` and
pulled back by `vjp`. The factors of an arm are rigid motions: they never shrink a turn, and a lever only
adds to it, so nothing vanishes or explodes. The factors of a network are what its weights are: the same two
transformations show the product shrink or grow by a constant factor per layer. 15 seconds, pictures included.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

import experiments.shared_flags  # noqa: F401 - the flags --out and --smoke
from ch3_jax.errors import InputError
from ch3_jax.kinematics import quaternions
from ch3_jax.kinematics.arm import Arm, arm_names, load_arm
from ch3_jax.kinematics.forward import forward, twist_of_slope
from ch3_jax.kinematics.jacobian import PARTS, manipulability, pose_and_jacobian, singular_values
from ch3_jax.kinematics.urdf import read_arm
from experiments import entry

_SUFFIXES = (".urdf", ".xml", ".mjcf")
flags.DEFINE_string("arm", "panda", "a URDF or MJCF file with --tip, or one of: " + ", ".join(arm_names()))
flags.DEFINE_string(
    "tip", None, "of a file: the link (URDF), or the body or site (MJCF), whose pose is given"
)
flags.DEFINE_string("base", None, "of a file: the link or body that poses are given in; by default the root")
flags.DEFINE_list("q", None, "joint angles, rad (or m), separated by commas; by default a bent posture")
flags.DEFINE_boolean("json", False, "print one object of JSON instead of text")

BENT = {"panda": (0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785), "planar2": (0.4, 1.2)}
ROWS = ("v_x", "v_y", "v_z", "w_x", "w_y", "w_z")
_BLUE, _ORANGE, _GREEN, _PURPLE, _INK = "#0072B2", "#D55E00", "#009E73", "#AA4499", "#222222"


def main(_: list[str]) -> None:
    f = flags.FLAGS
    arm = chosen(f.arm, f.tip, f.base)
    facts = describe(arm, configuration(arm, f.q))
    if f.out:
        facts["pictures"] = [str(path) for path in pictures(Path(f.out), points=41 if f.smoke else 401)]
    print(json.dumps(facts) if f.json else text(facts))


def chosen(name: str, tip: str | None, base: str | None) -> Arm:
    """The arm of the command line: a table by its name, or a chain of a file.

    Raises:
      InputError: a file without a tip, a tip without a file, or what `load_arm` and `read_arm` refuse.
    """
    is_file = Path(name).suffix.lower() in _SUFFIXES or Path(name).is_file() or "/" in name
    if is_file and tip is None:
        raise InputError(
            "--tip is missing.",
            got=f"--arm={name}",
            expected="the name of a link (URDF), or of a body or site (MJCF), of that file",
            cause="a file describes a tree of links, and only you know which is the tip",
            fix="--tip=tool0; a wrong name lists those that are there",
        )
    if not is_file and (tip or base):
        raise InputError(
            "--tip and --base are for files.",
            got=f"--arm={name} with --tip={tip} --base={base}",
            expected="a path that ends in .urdf, .xml or .mjcf, or no --tip and no --base",
            cause="a table of an arm has its tip and base",
            fix="leave them out, or name a file",
        )
    return read_arm(name, tip, base) if is_file else load_arm(name)


def configuration(arm: Arm, words: list[str] | None) -> np.ndarray:
    """The joint values of the command line, float64.

    Raises:
      InputError: not numbers, or not as many as the arm has joints.
    """
    if words is None:
        middle = np.clip(0.3, arm.lower, arm.upper) * np.ones(arm.dof)
        return np.array(BENT.get(arm.name, middle))
    try:
        q = np.array([float(word) for word in words])
    except ValueError:
        q = np.array([np.nan])
    if len(q) != arm.dof or not np.isfinite(q).all():
        raise InputError(
            f"--q is not a configuration of the {arm.name}.",
            got=",".join(words),
            expected=f"{arm.dof} numbers, rad or m: {', '.join(arm.joints)}",
            cause="another arm's joints, or blanks between the numbers",
            fix="--q=" + ",".join(f"{x:g}" for x in BENT.get(arm.name, np.zeros(arm.dof))),
        )
    return q


def describe(arm: Arm, q: np.ndarray) -> dict[str, Any]:
    """Pose, J, singular values, and the agreement of four ways to the same J.

    Args:
      arm: J joints.
      q: (J,), float64.

    Returns:
      What is printed: plain numbers and lists.
    """
    with jax.enable_x64(True):
        pose, j = pose_and_jacobian(arm, jnp.asarray(q))
        wxyz = quaternions.from_matrix(pose.rotation)
        facts = {
            "arm": arm.name,
            "limits": arm.limits,
            "joints": list(arm.joints),
            "q": q.tolist(),
            "frame": f"{arm.tip} in {arm.base}; J: linear rows first, axes of the base, at the tip",
            "position_m": np.asarray(pose.position).tolist(),
            "quaternion_wxyz": np.asarray(wxyz).tolist(),
            "jacobian": np.asarray(j).tolist(),
            "singular_values": {
                part: np.asarray(singular_values(arm, jnp.asarray(q), part)).tolist() for part in PARTS
            },
            "manipulability": {part: float(manipulability(arm, jnp.asarray(q), part)) for part in PARTS},
        }
        exact = np.asarray(j)
        facts["agreement"] = {"float64": agreement(arm, jnp.asarray(q), exact)}
    facts["agreement"]["float32"] = agreement(arm, jnp.asarray(q, jnp.float32), exact)
    return facts


def agreement(arm: Arm, q: jax.Array, exact: np.ndarray) -> dict[str, float]:
    """The largest difference of an entry of J from the analytic one in float64, for four ways to it."""
    fk = jax.jit(lambda q: forward(arm, q))
    pose, analytic = pose_and_jacobian(arm, q)
    h = 1e-2 if q.dtype == jnp.float32 else 1e-6
    steps = h * jnp.eye(arm.dof, dtype=q.dtype)
    up, down = jax.vmap(fk)(q[None] + steps), jax.vmap(fk)(q[None] - steps)
    numeric = jax.tree.map(lambda a, b: jnp.moveaxis((a - b) / (2 * h), 0, -1), up, down)
    ways = {
        "analytic": analytic,
        "forward mode": twist_of_slope(pose, jax.jacfwd(fk)(q)),
        "reverse mode": twist_of_slope(pose, jax.jacrev(fk)(q)),
        "numeric": twist_of_slope(pose, numeric),
    }
    return {name: float(np.abs(np.asarray(j, np.float64) - exact).max()) for name, j in ways.items()}


def text(facts: dict[str, Any]) -> str:
    """The same for people."""
    lines = [f"{facts['arm']}: {facts['frame']}", f"limits from {facts['limits']}", ""]
    lines.append("q         " + "  ".join(f"{x:+.4f}" for x in facts["q"]) + "   rad")
    lines.append("position  " + "  ".join(f"{x:+.6f}" for x in facts["position_m"]) + "   m")
    lines.append("wxyz      " + "  ".join(f"{x:+.6f}" for x in facts["quaternion_wxyz"]))
    lines.append("")
    for name, row in zip(ROWS, facts["jacobian"], strict=True):
        lines.append(f"J {name}   " + "  ".join(f"{x + 0.0:+.4f}" for x in row))
    lines.append("")
    for part, values in facts["singular_values"].items():
        w = facts["manipulability"][part]
        lines.append(
            f"singular values, {part:<12}" + "  ".join(f"{x:.4f}" for x in values) + f"   product {w:.3g}"
        )
    lines.append("")
    ways = list(facts["agreement"]["float64"])
    lines.append("largest difference from the analytic J in float64")
    lines.append("          " + "".join(f"{way:>14}" for way in ways))
    for dtype in ("float32", "float64"):
        lines.append(f"{dtype:<10}" + "".join(f"{facts['agreement'][dtype][way]:>14.1e}" for way in ways))
    lines += [f"picture: {path}" for path in facts.get("pictures", ())]
    return "\n".join(lines)


def pictures(folder: Path, points: int = 401) -> list[Path]:
    """Draws the three pictures.

    Raises:
      InputError: matplotlib is missing.
    """
    try:
        import matplotlib
    except ImportError:
        raise InputError(
            "Pictures need matplotlib.", got="not installed", expected="matplotlib",
            cause="an installation without it", fix="pip install matplotlib, or leave out --out",
        ) from None  # fmt: skip
    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {"two_link.png": two_link, "panda.png": panda, "chain_rule.png": lambda _: chain_rule()}
    paths = []
    for name, draw in drawn.items():
        figure = draw(points)
        figure.savefig(folder / name, dpi=110)
        paths.append(folder / name)
    return paths


def _figure(width: float, height: float, *shape: int, **more):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(*shape, **more)
    for one in np.ravel(axes):
        one.spines[["top", "right"]].set_visible(False)
        one.grid(alpha=0.25, linewidth=0.6)
    return figure, axes


def two_link(points: int):
    """The elbow from bent one way to bent the other; where the arm is straight the ellipse is a line."""
    arm = load_arm("planar2")
    elbow = np.linspace(2.2, -2.2, points)
    q = np.stack([0.9 - elbow / 2, elbow], -1).astype(np.float32)
    pose, j = jax.vmap(lambda q: pose_and_jacobian(arm, q))(jnp.asarray(q))
    tips, j = np.asarray(pose.position)[:, :2], np.asarray(j)[:, :2]
    figure, (left, right) = _figure(12, 5.4, 1, 2, width_ratios=(1.15, 1))
    shown = np.linspace(0, points - 1, 7).astype(int)
    for order, k in enumerate(shown):
        colour = _ORANGE if order == len(shown) // 2 else _BLUE
        middle = np.array([np.cos(q[k, 0]), np.sin(q[k, 0])])
        links = np.stack([np.zeros(2), middle, tips[k]])
        left.plot(
            *links.T, "-o", color=colour, alpha=0.35 + 0.65 * (colour == _ORANGE), linewidth=2.5, markersize=5
        )
        turn = np.linspace(0, 2 * np.pi, 200)
        u, s, _ = np.linalg.svd(j[k])
        ellipse = tips[k][:, None] + 0.18 * u @ (s[:, None] * np.stack([np.cos(turn), np.sin(turn)]))
        left.plot(*ellipse, color=colour, linewidth=1.4)
    left.plot(*tips.T, ":", color=_INK, linewidth=1, label="path of the tip")
    left.set_aspect("equal")
    left.set(
        xlabel="x (m)", ylabel="y (m)", title="velocities for joint speeds of length 1 (ellipses x 0.18)"
    )
    left.legend(frameon=False, loc="upper left")
    values = np.linalg.svd(j, compute_uv=False)
    for k, colour in enumerate((_BLUE, _ORANGE)):
        right.plot(elbow, values[:, k], color=colour, linewidth=2, label=f"singular value {k + 1}")
    right.plot(elbow, values.prod(1), "--", color=_INK, linewidth=1.4, label="their product, |sin q2|")
    right.axvline(0, color=_ORANGE, alpha=0.4, linewidth=1)
    right.set(
        xlabel="elbow q2 (rad)", ylabel="m per rad", title="straight arm, q2 = 0: one direction is lost"
    )
    right.invert_xaxis()
    right.legend(frameon=False)
    figure.suptitle("Two links of one metre through a singularity")
    return figure


def panda(points: int):
    """Shoulder upright and forearm turned by a quarter: J loses a rank, and comes back."""
    arm = load_arm("panda")
    path = np.linspace(-0.8, 0.8, points)
    q = np.tile(np.array([0, 0, np.pi / 2, -1.5, 0, 1.6, 0.7]), (points, 1))
    q[:, 1] = path
    with jax.enable_x64(True):
        values = np.asarray(singular_values(arm, jnp.asarray(q)))
        measure = np.asarray(manipulability(arm, jnp.asarray(q)))
        slope = np.asarray(jax.vmap(jax.grad(lambda q: manipulability(arm, q)))(jnp.asarray(q)))[:, 1]
    figure, (left, right) = _figure(12, 5, 1, 2)
    colours = ("#003f5c", _BLUE, "#56B4E9", _GREEN, _PURPLE, _ORANGE)
    for k, colour in enumerate(colours):
        left.semilogy(
            path,
            np.maximum(values[:, k], 1e-6),
            color=colour,
            linewidth=2.4 if k == 5 else 1.6,
            label=f"$\\sigma_{k + 1}$",
        )
    left.axvline(0, color=_INK, alpha=0.3, linewidth=1)
    left.set(
        xlabel="shoulder q2 (rad), q3 = pi/2",
        ylabel="singular values of J (m and rad per rad)",
        ylim=(1e-3, 4),
    )
    left.set_title("five stay, the sixth goes to zero")
    left.legend(frameon=False, ncol=3, loc="lower left")
    right.plot(path, measure, color=_INK, linewidth=2, label="manipulability, the product")
    right.plot(path, slope, color=_ORANGE, linewidth=1.6, label="its derivative, by jax.grad")
    right.axhline(0, color=_INK, alpha=0.3, linewidth=1)
    right.axvline(0, color=_INK, alpha=0.3, linewidth=1)
    right.set(xlabel="shoulder q2 (rad), q3 = pi/2", title="finite slopes on both sides of the singularity")
    right.legend(frameon=False)
    figure.suptitle("The Panda through a singularity: q2 = 0, q3 = pi/2")
    return figure


def chain_rule():
    """Two chains, the same two transformations."""
    figure, axes = _figure(12.5, 8, 2, 2)
    speeds, torques, arms = arm_factors(load_arm("panda"), np.array(BENT["panda"]))
    top, side = axes[0]
    _bars(top, arms, speeds, _BLUE, "jvp: 1 rad/s at joint 1 only", "speed of the frame (m/s)")
    top.set_xlabel("origin of joint")
    top.set_title("joint angles to pose, pushed forward: a lever adds, nothing multiplies")
    _bars(
        side,
        [f"q{k + 1}" for k in range(len(torques))],
        torques,
        _GREEN,
        "vjp: 1 N along y at the tip",
        "|torque| of the joint (N m)",
    )
    side.set_title("pulled back: J transposed, force to torques")
    bottom, low = axes[1]
    for gain, colour, name in ((0.5, _BLUE, "vanishing"), (1.0, _GREEN, "kept"), (2.0, _ORANGE, "exploding")):
        forwards, backwards = network_factors(gain)
        layers = np.arange(len(forwards))
        bottom.semilogy(
            layers, forwards, "-o", markersize=3, color=colour, label=f"{name}: gain {gain:g} per layer"
        )
        low.semilogy(
            layers, backwards, "-o", markersize=3, color=colour, label=f"{name}: gain {gain:g} per layer"
        )
    bottom.set(
        xlabel="layer",
        ylabel="|d h_layer| / |d h_0|",
        title="weights to loss, pushed forward: every layer multiplies",
    )
    low.set(
        xlabel="layer",
        ylabel="|dL/dh_layer| / |dL/dh_last|",
        title="pulled back: the gradient that the first layers learn from",
    )
    for one in (bottom, low):
        one.set_xticks(range(0, 21, 5))
        one.legend(frameon=False)
    figure.suptitle("One chain rule: d y = F_N ... F_1 d x, by jvp to the right, by vjp to the left")
    return figure


def _bars(axes, names, heights, colour, label, unit) -> None:
    axes.bar(names, heights, color=colour, label=label)
    axes.set_ylabel(unit)
    axes.legend(frameon=False)


def arm_factors(arm: Arm, q: np.ndarray) -> tuple[list[float], list[float], list[str]]:
    """Speeds of the frames along an arm when joint 1 turns, and the torques of a force at the tip.

    Args:
      arm: J revolute joints.
      q: (J,).

    Returns:
      Speeds of the J link frames and the tip, m/s; |torque| of the J joints, N m; names of the frames.
    """
    first = jnp.zeros(arm.dof, jnp.float32).at[0].set(1)
    angles = jnp.asarray(q, jnp.float32)
    speeds = []
    for n in range(1, arm.dof + 1):
        part = _part(arm, n)
        _, moved = jax.jvp(lambda q, part=part: forward(part, q).position, (angles[:n],), (first[:n],))
        speeds.append(float(jnp.linalg.norm(moved)))
    _, pull = jax.vjp(lambda q: forward(arm, q).position, angles)
    (torque,) = pull(jnp.array([0.0, 1.0, 0.0]))
    names = [f"{n + 1}" for n in range(1, arm.dof)] + ["tip"]
    return speeds, np.abs(np.asarray(torque)).tolist(), names


def _part(arm: Arm, n: int) -> Arm:
    """The first n joints of an arm; its tip is the frame of the next joint."""
    return dataclasses.replace(
        arm, rotation=arm.rotation[: n + 1], position=arm.position[: n + 1], axis=arm.axis[:n],
        ratio=arm.ratio[:n], offset=arm.offset[:n], lower=arm.lower[:n],
        upper=arm.upper[:n],
        velocity=arm.velocity[:n],
        effort=arm.effort[:n],
        kinds=arm.kinds[:n], source=arm.source[:n], joints=arm.joints[:n],
    )  # fmt: skip


def network_factors(gain: float, depth: int = 20, width: int = 64) -> tuple[list[float], list[float]]:
    """Sizes of a small change along a network, forwards and backwards, relative to where it starts.

    Layers h -> W h with random weights of standard deviation gain / sqrt(width), and the loss |h_depth|^2 /
    2.

    Returns:
      |d h_l| / |d h_0| by jvp and |dL/dh_l| / |dL/dh_depth| by vjp, l = 0 ... depth.
    """
    keys = jax.random.split(jax.random.key(1), depth + 2)
    weights = [gain / np.sqrt(width) * jax.random.normal(key, (width, width)) for key in keys[:depth]]

    def layers(h, shifts):
        seen = [h + shifts[0]]
        for weight, shift in zip(weights, shifts[1:], strict=True):
            seen.append(weight @ seen[-1] + shift)
        return seen

    zero = [jnp.zeros(width)] * (depth + 1)
    start = jax.random.normal(keys[depth], (width,))
    _, moved = jax.jvp(lambda h: layers(h, zero), (start,), (jax.random.normal(keys[depth + 1], (width,)),))
    _, pull = jax.vjp(lambda shifts: 0.5 * jnp.sum(layers(start, shifts)[-1] ** 2), zero)
    (gradients,) = pull(jnp.float32(1))
    forwards, backwards = ([float(jnp.linalg.norm(x)) for x in chain] for chain in (moved, gradients))
    return [x / forwards[0] for x in forwards], [x / backwards[-1] for x in backwards]


if __name__ == "__main__":
    entry.run(main)
