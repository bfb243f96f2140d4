"""Which part of a recipe's state lies on which device, and what the devices say to one another in a step.

  python -m experiments.sharding --recipe=pi0 --scale=small --devices=8 --fsdp=4

trains nothing: it prints the table of rules and specs (`ch3_jax.training.sharding`), the bytes of parameters,
moments and average on one device, and the exchanges of one update, counted in the program that XLA compiles
for so many devices, beside theory. On a CPU the devices are simulated. Parameters whose gradient is always 0,
as those behind the last answer of pi0's observation side, are not exchanged. `--scale=paper` prints the table
and theory alone: compiling it would need the memory of the whole.
"""

from typing import Any

from absl import flags

from experiments import entry
from experiments import flags as shared  # noqa: F401 - defines --recipe, --scale, --devices and --fsdp


def main(_: list[str]) -> int:
    """Builds shapes, places them, compiles one step, counts."""
    f = flags.FLAGS
    recipe, devices = f.recipe or "diffusion_policy", f.devices or 8
    import jax

    jax.config.update("jax_num_cpu_devices", devices)
    print(describe(recipe, f.scale, devices, f.fsdp))
    return 0


def describe(recipe: str, scale: str, devices: int, fsdp: int) -> str:
    """The whole page, at most 80 columns.

    Args:
      recipe, scale: of `experiments.recipes`.
      devices, fsdp: of the mesh.

    Raises:
      InputError: what `training.mesh.make_mesh` refuses.
    """
    import jax

    from ch3_jax.training import sharding
    from ch3_jax.training.communication import ring
    from ch3_jax.training.mesh import make_mesh
    from experiments import recipes

    made = recipes.recipe(recipe, scale)
    batch_size = made.flags["batch_size"]
    objective = recipes.objective(made)
    begin, update = _training(objective, made.flags)
    state = jax.eval_shape(begin)
    mesh = make_mesh(devices, fsdp, batch_size=batch_size)
    placed = sharding.placed(mesh, state.params)
    whole = sum(leaf.size * 4 for leaf in jax.tree.leaves(state.params))
    divided = sum(_bytes(leaf) for leaf in placed if leaf.rule == "matrix") if fsdp > 1 else 0
    lines = [
        f"{recipe}, --scale={scale}: {devices} devices, {devices // fsdp} of data by {fsdp} of fsdp",
        f"{batch_size} rows in a batch, {batch_size // devices} on each device",
        "",
        sharding.table(placed),
        "",
        f"{'bytes on one device':<40}{'divided':>18}{'in one piece':>18}",
    ]
    for name, tree in (("parameters", state.params), ("moments", state.opt_state), ("average", state.ema)):
        leaves = sharding.placed(mesh, tree)
        lines.append(f"{name:<40}{sum(p.bytes for p in leaves):>18,}{sum(map(_bytes, leaves)):>18,}")
    lines += ["", f"{'bytes exchanged in a step':<40}{'theory':>18}{'compiled':>18}"]
    theory = {"all-reduce": whole if devices > 1 else 0, "all-gather": divided}
    found = _count(mesh, objective, begin, update, made.flags) if scale != "paper" else {}
    for kind in sorted({*found, *theory}):
        said = f"{found.get(kind, 0):,}" if scale != "paper" else "not compiled"
        lines.append(f"{kind:<40}{theory.get(kind, 0):>18,}{said:>18}")
    lines.append(f"{'of it through each device of a ring':<40}{ring(whole, devices) + divided:>18,.0f}")
    return "\n".join(lines)


def _bytes(leaf) -> int:
    """Of the whole leaf."""
    import math

    whole = math.prod(leaf.shape) * 4
    return whole if any(leaf.spec) else leaf.bytes


def _training(objective: Any, given: dict[str, Any]):
    import jax

    from ch3_jax.training.ema import constant_decay
    from ch3_jax.training.optimizers import clipped_adamw
    from ch3_jax.training.update import init_state, make_update

    averaged = given["ema"] != "none"
    optimizer = clipped_adamw(1e-3, clip=given["clip"] or None, weight_decay=given["weight_decay"])

    def begin():
        return init_state(objective.init(jax.random.key(0)), optimizer, jax.random.key(1), ema=averaged)

    def update(loss):
        return make_update(loss, optimizer, ema_decay=constant_decay(0.99) if averaged else None)

    return begin, update


def _count(mesh, objective: Any, begin, update, given: dict[str, Any]) -> dict[str, int]:
    """Exchanges of one compiled update, every device with its rows."""
    import jax
    import jax.numpy as jnp

    from ch3_jax.base import Batch
    from ch3_jax.training import mesh as meshes
    from ch3_jax.training import sharding
    from ch3_jax.training.communication import counted

    rows, window, horizon = given["batch_size"], given["window"], given["horizon"]
    batch = Batch(
        jax.ShapeDtypeStruct((rows, window, 14), jnp.float32),
        jax.ShapeDtypeStruct((rows, horizon, 7), jnp.float32),
        jax.ShapeDtypeStruct((rows, horizon), jnp.bool_),
    )
    state = jax.eval_shape(begin)
    places = sharding.shardings(mesh, state)
    loss = meshes.gathered(mesh, objective.loss) if mesh.shape[meshes.FSDP] > 1 else objective.loss
    step = jax.jit(
        update(loss),
        in_shardings=(places, meshes.by_rows(mesh)),
        out_shardings=(places, meshes.everywhere(mesh)),
        donate_argnums=0,
    )
    return counted(step.lower(state, batch).compile().as_text())


if __name__ == "__main__":
    entry.run(main)
