"""Several devices make the update of one, hold what the rules say, and exchange what theory says."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from ch3_jax.errors import InputError
from ch3_jax.training import communication, mesh, sharding
from ch3_jax.training.optimizers import clipped_adamw
from ch3_jax.training.update import init_state

ROOT = Path(__file__).resolve().parents[2]

FOUR_DEVICES = """
import json
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_num_cpu_devices", 4)
from ch3_jax.policies.small import small_policy
from ch3_jax.training import communication, mesh as meshes, sharding
from ch3_jax.training.optimizers import clipped_adamw
from ch3_jax.training.update import init_state, make_update

policy = small_policy((1, 8), (4,), width=64)
optimizer = clipped_adamw(1e-2, clip=1.0, weight_decay=1e-3)
start = lambda: init_state(policy.init(jax.random.key(0)), optimizer, jax.random.key(1), ema=True)
x = jax.random.normal(jax.random.key(2), (16, 1, 8))
batch = x, jnp.sin(3 * x[:, 0, :4])

def loss(params, batch, key):
    noise = 0.1 * jax.random.normal(key, batch[1].shape)  # the same for any number of devices
    error = jnp.square(policy.apply(params, batch[0]) + noise - batch[1])
    return jnp.mean(error), {"worst": jnp.max(error)}

def trained(fsdp, accumulate):
    one = make_update(loss, optimizer, ema_decay=lambda step: 0.9, accumulate=accumulate)
    if fsdp is None:
        state = jax.jit(start)()
        for _ in range(5):
            state, metrics = jax.jit(one)(state, batch)
        return state, metrics, None
    mesh = meshes.make_mesh(4, fsdp, batch_size=16, accumulate=accumulate)
    places = sharding.shardings(mesh, jax.eval_shape(start))
    shared = meshes.gathered(mesh, loss)
    update = make_update(shared, optimizer, ema_decay=lambda step: 0.9, accumulate=accumulate)
    step = jax.jit(
        lambda state, batch: update(state, meshes.share_rows(mesh, batch)),
        out_shardings=(places, meshes.everywhere(mesh)), donate_argnums=0,
    )
    state, rows = jax.jit(start, out_shardings=places)(), jax.device_put(batch, meshes.by_rows(mesh))
    program = step.lower(state, rows).compile().as_text()
    for _ in range(5):
        state, metrics = step(state, rows)
    return state, metrics, communication.counted(program)

def leaves(state):
    return jax.tree.leaves((state.params, state.opt_state, state.ema))

def parts(state):
    found = jax.tree_util.tree_leaves_with_path(state)
    kernels = [x for path, x in found if "hidden_2" in str(path) and "kernel" in str(path)]
    return sorted({x.addressable_data(0).shape for x in kernels}), len(kernels)

found = {}
for fsdp, accumulate in ((1, 1), (4, 1), (4, 2)):
    whole, said, _ = trained(None, accumulate)
    state, told, exchanged = trained(fsdp, accumulate)
    apart = [float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in zip(leaves(whole), leaves(state))]
    found[f"{fsdp}, {accumulate}"] = {
        "apart": max(apart), "worst": abs(float(told["worst"] - said["worst"])),
        "parts": parts(state), "bytes": exchanged,
    }
gradients = sum(x.size * 4 for x in jax.tree.leaves(whole.params))
print(json.dumps({"found": found, "gradients": gradients}))
"""


@pytest.fixture(scope="module")
def four():
    done = subprocess.run([sys.executable, "-c", FOUR_DEVICES], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("fsdp", "accumulate"), [(1, 1), (4, 1), (4, 2)])
def test_four_devices_make_the_update_of_one(four, fsdp, accumulate):
    case = four["found"][f"{fsdp}, {accumulate}"]
    assert case["apart"] < 2e-6 and case["worst"] < 2e-5
    # 64 x 64 numbers are the fewest that are divided: the parameter, its two moments, its average.
    assert case["parts"] == [[[64, 16] if fsdp == 4 else [64, 64]], 4]


def test_exchanges_are_those_of_theory(four):
    """The gradients once, a few scalars, and with fsdp the one divided kernel, gathered."""
    plain, shared = (four["found"][name]["bytes"] for name in ("1, 1", "4, 1"))
    assert four["gradients"] <= plain["all-reduce"] <= four["gradients"] + 64
    assert plain.get("all-gather", 0) == 0
    assert shared["all-gather"] == 64 * 64 * 4


def test_every_leaf_has_a_rule_and_moments_lie_where_parameters_lie():
    params = {"layer": {"kernel": jnp.zeros((64, 128)), "bias": jnp.zeros(128)}, "odd": jnp.zeros((127, 129))}
    state = init_state(params, clipped_adamw(1e-3), jax.random.key(0), ema=True)
    one = mesh.make_mesh(1, batch_size=4)
    leaves = sharding.placed(one, state)
    assert len(leaves) == len(jax.tree.leaves(state))
    rules = {leaf.path: leaf.rule for leaf in leaves}
    kernels = [rule for path, rule in rules.items() if "kernel" in path]
    assert kernels == ["matrix"] * 4  # parameter, two moments, average
    assert rules[".key"] == rules[".step"] == "scalar"
    assert sum(leaf.bytes for leaf in leaves if leaf.path.startswith(".params")) == 4 * sum(
        x.size for x in jax.tree.leaves(params)
    )
    text = sharding.table(leaves)
    assert max(map(len, text.splitlines())) <= 80 and "64x128/" in text


def test_the_longest_axis_that_divides_is_divided():
    assert tuple(sharding.rule_of((3, 5, 1024, 512), 8)[1]) == (None, None, mesh.FSDP)
    assert tuple(sharding.rule_of((1023, 512), 8)[1]) == (None, mesh.FSDP)
    assert sharding.rule_of((63, 64), 8)[0] == "small"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"devices": 9, "batch_size": 9}, "does not fit"),
        ({"devices": 8, "fsdp": 3, "batch_size": 8}, "do not divide into groups"),
        ({"devices": 8, "batch_size": 12}, "--batch_size=16"),
        ({"devices": 4, "batch_size": 12, "accumulate": 2}, "--batch_size=16"),
    ],
)
def test_what_does_not_fit_is_refused(monkeypatch, given, words):
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(platform="cpu")] * 8)
    with pytest.raises(InputError, match="devices") as refused:
        mesh.make_mesh(given.pop("devices"), given.pop("fsdp", 1), **given)
    assert words in str(refused.value)


def test_a_ring_and_an_asynchronous_exchange_are_counted():
    program = """
      %s = (f32[8]{0}, f32[8]{0}) all-reduce-start(%x), to_apply=%add
      %d = f32[8]{0} all-reduce-done(%s)
      %g = bf16[4,2]{1,0:T(8,128)} all-gather(%y), dimensions={0}
      %u = f32[8]{0} add(%d, %all-reduce)
    """
    assert communication.counted(program) == {"all-reduce": 32, "all-gather": 16}
    assert communication.ring(100, 2) == 100


def train(*args):
    command = [
        sys.executable,
        "-m",
        "experiments.train",
        "--loss=ce",
        "--data=random_bins",
        "--nodoctor",
        *args,
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_eight_devices_and_onto_two(tmp_path):
    """One device; eight, of which four share the parameters; a checkpoint of these, gone on with on two."""
    import csv
    import shutil

    flags = (
        "--pairs=2000",
        "--steps=60",
        "--log_every=20",
        "--save_every=20",
        "--notensorboard",
        "--nodoctor",
    )

    def losses(out):
        rows = list(csv.DictReader((out / "metrics.csv").open()))
        return [float(row[name]) for row in rows for name in ("loss", "val_loss") if row[name]]

    train(*flags, f"--out={tmp_path / 'one'}")
    said = train(*flags, "--devices=8", "--fsdp=4", f"--out={tmp_path / 'eight'}")
    assert "8 devices, each 4 of them with the parameters once: 8 of 64 rows on each" in said
    shutil.copytree(tmp_path / "eight", tmp_path / "two")
    shutil.rmtree(tmp_path / "two/checkpoints/step_60")
    train("--resume", "--devices=2", "--fsdp=1", f"--out={tmp_path / 'two'}")
    one, eight, two = (losses(tmp_path / name) for name in ("one", "eight", "two"))
    assert one == pytest.approx(eight, rel=1e-6) and one == pytest.approx(two, rel=1e-6)
