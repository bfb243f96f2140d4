"""The rooms, and the direction of the arrows between them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "ch3_jax"

# A room may see rooms of a lower level; rooms named on one line of level 2 never see one another.
LEVEL = {
    "base": 0,
    "errors": 0,
    "checks": 1,
    "numerics": 1,
    "probability": 2,
    "kinematics": 2,
    "tokens": 2,
    "noise": 2,
    "losses": 3,
    "policies": 3,
    "environments": 3,
    "writers": 3,
    "metrics": 3,
    "cards": 3,
    "data": 4,
    "objectives": 5,
    "floors": 5,
    "training": 5,
    "reinforcement": 6,
    "evaluation": 6,
    "doctor": 7,
    "faults": 7,
}
# What only its own room may import, wherever it stands in a file.
ONLY_IN = {
    "flax": "policies",
    "orbax": "training",
    "tensorflow_datasets": "data",
    "array_record": "data",
    "zarr": "data",
    "pyarrow": "data",
    "av": "data",
    "tensorboardX": "writers",
    "wandb": "writers",
    "diffrax": "noise",
    "tokenizers": "tokens",
    "pypdf": "cards",
    "diptest": "doctor",
    **dict.fromkeys(("gymnax", "brax"), "environments"),
    **dict.fromkeys(
        ("gymnasium", "gym_pusht", "metaworld", "gym_aloha", "dm_control", "mujoco"), "evaluation"
    ),
}
NEVER = {"tensorflow", "torch", "experiments", "matplotlib", "rich"}
LAZY = {*ONLY_IN, "scipy"} - {"flax"}


def files():
    return sorted(LIBRARY.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


def imports(path: Path, top_level_only: bool = False):
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            # `from ch3_jax import checks` is an import of ch3_jax.checks
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names]
                if node.module == "ch3_jax"
                else [node.module]
            )
            yield from ((name, node.lineno) for name in names)


def test_every_file_lives_in_a_known_room():
    assert {room_of(path) for path in files()} - {"__init__"} <= set(LEVEL)


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_point_down(path):
    room = room_of(path)
    if room == "__init__":
        return
    wrong = []
    for name, line in imports(path):
        parts = name.split(".")
        if parts[0] in NEVER:
            wrong.append(f"line {line}: {parts[0]} is not for the library")
        if ONLY_IN.get(parts[0], room) != room:
            wrong.append(f"line {line}: only {ONLY_IN[parts[0]]}/ imports {parts[0]}")
        if parts[0] == "ch3_jax" and parts[1] != room and LEVEL[parts[1]] >= LEVEL[room]:
            wrong.append(
                f"line {line}: {room} (level {LEVEL[room]}) sees {parts[1]} (level {LEVEL[parts[1]]})"
            )
    assert not wrong


def test_training_is_handed_its_loss():
    seen = {
        name.split(".")[1]
        for path in (LIBRARY / "training").glob("*.py")
        for name, _ in imports(path)
        if name.startswith("ch3_jax.")
    }
    assert not seen & {"policies", "losses", "data", "objectives", "tokens"}


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_packages_are_imported_where_they_are_used(path):
    heavy = {name.split(".")[0] for name, _ in imports(path, top_level_only=True)} & (LAZY - {"scipy"})
    assert not heavy


def test_nobody_asserts_and_nobody_reads_flags_in_the_library():
    for path in files():
        tree = ast.parse(path.read_text())
        assert not [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Assert)], path
        assert not [name for name, _ in imports(path) if name.startswith("absl")], path


def test_files_stay_readable():
    long = {str(p.relative_to(ROOT)): n for p in files() if (n := len(p.read_text().splitlines())) > 450}
    assert not long


def test_public_functions_are_documented():
    bare = []
    for path in files():
        for node in ast.parse(path.read_text()).body:
            public = isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
            if public and not ast.get_docstring(node):
                bare.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert not bare


def test_import_is_light():
    """`import ch3_jax` loads no room, no network library and no reader."""
    code = "import sys, ch3_jax; print(*(m for m in sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    assert not {m.split(".")[0] for m in loaded} & {*ONLY_IN, "jax", "optax", "chex", "numpy"}
