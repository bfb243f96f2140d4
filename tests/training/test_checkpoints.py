"""Checkpoints: exact round trips, damage of every kind, kills at any moment, what is kept."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

from ch3_jax.errors import InputError
from ch3_jax.training import checkpoints
from ch3_jax.training.digests import described, digest, tree_sha256

ROOT = Path(__file__).resolve().parents[2]


class State(NamedTuple):
    step: jax.Array
    key: jax.Array
    params: dict
    opt_state: tuple
    ema: dict | None


def make_state(seed: int = 0) -> State:
    key = jax.random.key(seed)
    params = {"w": jax.random.normal(key, (40, 30)), "b": jnp.full((3,), -0.0), "none": jnp.zeros((0, 2))}
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
    _, opt_state = optimizer.update(params, optimizer.init(params), params)
    return State(jnp.asarray(seed, jnp.int32), jax.random.split(key, 2), params, opt_state, None)


def assert_same_bits(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for (path, g), w in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True):
        assert type(g) is type(w), path
        if isinstance(w, jax.Array) and jax.dtypes.issubdtype(w.dtype, jax.dtypes.prng_key):
            assert g.dtype == w.dtype, path
            g, w = jax.random.key_data(g), jax.random.key_data(w)
        g, w = np.asarray(g), np.asarray(w)
        assert (g.dtype, g.shape, g.tobytes()) == (w.dtype, w.shape, w.tobytes()), path


def files_of(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def test_round_trip_keeps_structure_bits_and_devices(tmp_path):
    state = make_state(3)
    record = {"seed": 3, "nested": {"mean": [0.1, float("inf")], "name": "x"}, "none": None}
    path = checkpoints.save(tmp_path, 300, state, record, metric=1.5)
    assert path.name == "step_300"
    restored = checkpoints.restore(tmp_path, make_state(4))
    assert_same_bits(restored.state, state)
    assert isinstance(restored.state, State) and type(restored.state.opt_state) is type(state.opt_state)
    assert restored.state.params["w"].sharding == state.params["w"].sharding
    assert (restored.step, restored.skipped, restored.record) == (300, (), record)
    # The key goes on where it was: the same stream, not only the same data.
    assert_same_bits(jax.random.normal(restored.state.key[1], (4,)), jax.random.normal(state.key[1], (4,)))


def test_every_kind_of_leaf(tmp_path):
    state = {
        "int": 7,
        "big": 2**60 + 1,
        "float": 0.1,
        "flag": True,
        "generic": np.float64(np.pi),
        "numpy": np.arange(6, dtype=np.int64)[::2],
        "half": jnp.ones(3, jnp.bfloat16),
        "half_numpy": np.ones(2, ml_dtypes.bfloat16),
        "bool": np.array([True, False]),
        # A NaN with a payload, an infinity, the smallest subnormal.
        "odd": np.array([0x7FC00001, 0x7F800000, 1], np.uint32).view(np.float32),
        "rbg": jax.random.key(1, impl="rbg"),
        "nested": {("a", "b"): np.zeros((2, 0, 3)), ("a", "c/d.e"): np.ones(1)},
    }
    checkpoints.save(tmp_path, 0, state, {})
    assert_same_bits(checkpoints.restore(tmp_path, state).state, state)


def test_bare_array_and_empty_tree(tmp_path):
    checkpoints.save(tmp_path / "a", 1, jnp.arange(3), {})
    assert_same_bits(checkpoints.restore(tmp_path / "a", jnp.zeros(3, jnp.int32)).state, jnp.arange(3))
    checkpoints.save(tmp_path / "b", 1, {}, {"x": 1})
    assert checkpoints.restore(tmp_path / "b", {}).record == {"x": 1}


def test_abstract_target(tmp_path):
    state = make_state()
    checkpoints.save(tmp_path, 1, state, {})
    assert_same_bits(checkpoints.restore(tmp_path, jax.eval_shape(lambda: state)).state, state)


def test_a_restored_state_can_be_donated(tmp_path):
    checkpoints.save(tmp_path, 1, {"w": jnp.arange(1000.0)}, {})
    state = checkpoints.restore(tmp_path, {"w": jnp.zeros(1000)}).state
    step = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    np.testing.assert_array_equal(step(step(state))["w"], np.arange(1000.0) + 2)
    again = checkpoints.restore(tmp_path, {"w": jnp.zeros(1000)}).state
    np.testing.assert_array_equal(again["w"], np.arange(1000.0))


def test_the_folder_can_be_moved(tmp_path):
    checkpoints.save(tmp_path / "a", 1, {"w": jnp.ones(3)}, {})
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert checkpoints.restore(tmp_path / "b", {"w": jnp.zeros(3)}).step == 1


def test_nothing_saved_is_none(tmp_path):
    assert checkpoints.restore(tmp_path / "missing", {}) is None
    (tmp_path / "step_4.writing").mkdir()
    assert checkpoints.restore(tmp_path, {}) is None
    assert checkpoints.latest(tmp_path) is None and checkpoints.best(tmp_path) is None


def test_keeps_the_last_two_and_the_best(tmp_path):
    # Best by metric: 100 (5.0), then 200 (3.0) until the end; NaN and None never win.
    for step, metric in ((100, 5.0), (200, 3.0), (300, float("nan")), (400, 3.0), (500, None)):
        checkpoints.save(tmp_path, step, {"n": step}, {}, metric)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_200", "step_400", "step_500"]
    assert (checkpoints.latest(tmp_path), checkpoints.best(tmp_path)) == (500, 200)
    assert checkpoints.restore(tmp_path, {"n": 0}, step=200).state == {"n": 200}
    with pytest.raises(InputError, match=r"(?s)no checkpoint of step 300.*steps 200, 400, 500"):
        checkpoints.restore(tmp_path, {"n": 0}, step=300)


def test_saving_a_step_again_replaces_it(tmp_path):
    for value in (1, 2, 3):
        checkpoints.save(tmp_path, 10, {"n": value}, {"v": value})
    assert [p.name for p in tmp_path.iterdir()] == ["step_10.2"]
    restored = checkpoints.restore(tmp_path, {"n": 0}, step=10)
    assert (restored.state, restored.step) == ({"n": 3}, 10)


def test_an_abandoned_line_is_removed(tmp_path):
    for step in (10, 20, 30):
        checkpoints.save(tmp_path, step, {"n": step}, {}, metric=-step)
    checkpoints.save(tmp_path, 25, {"n": 25}, {}, metric=0.0)
    assert [checkpoints.latest(tmp_path), checkpoints.best(tmp_path)] == [25, 20]


def test_a_leftover_of_a_killed_save_is_cleaned(tmp_path):
    checkpoints.save(tmp_path, 1, {"n": 1}, {})
    for name in ("step_2.writing", "step_2.writing.orbax-checkpoint-tmp", "step_0.removing"):
        (tmp_path / name / "state").mkdir(parents=True)
    assert checkpoints.restore(tmp_path, {"n": 0}).step == 1
    checkpoints.save(tmp_path, 2, {"n": 2}, {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_1", "step_2"]


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    states = {step: make_state(step) for step in (100, 200)}
    for step, state in states.items():
        checkpoints.save(folder, step, state, {"step": step})
    return folder, states


def _flip(content: bytes, rng: random.Random) -> bytes:
    i = rng.randrange(len(content))
    return content[:i] + bytes([content[i] ^ 1 << rng.randrange(8)]) + content[i + 1 :]


DAMAGE = {
    "flip": _flip,
    "cut": lambda content, rng: content[: rng.randrange(len(content))],
    "empty": lambda content, rng: b"",
    "zeros": lambda content, rng: bytes(len(content)),
    "delete": None,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_in_any_file_falls_back_and_says_so(two_checkpoints, kind, capfd):
    folder, states = two_checkpoints
    rng = random.Random(kind)
    for path in files_of(folder / "step_200"):
        content = path.read_bytes()
        path.unlink()
        if DAMAGE[kind]:
            path.write_bytes(DAMAGE[kind](content, rng))
        restored = checkpoints.restore(folder, states[100])
        path.write_bytes(content)
        assert restored.step == 100 and restored.record == {"step": 100}, path
        assert_same_bits(restored.state, states[100])
        (sentence,) = restored.skipped
        assert sentence.startswith("step 200 in step_200 was passed over: "), sentence
        assert sentence.endswith("; step 100 was restored instead"), sentence
        assert path.name in sentence
    assert checkpoints.restore(folder, states[100]).step == 200
    assert "Traceback" not in capfd.readouterr().err


def test_no_good_checkpoint_is_refused(two_checkpoints, tmp_path):
    folder = shutil.copytree(two_checkpoints[0], tmp_path / "copy")
    for step in ("step_100", "step_200"):
        (folder / step / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="(?s)no intact checkpoint.*step 200 .*step 100 ") as error:
        checkpoints.restore(folder, two_checkpoints[1][100])
    assert len(str(error.value).splitlines()) < 12
    with pytest.raises(InputError, match="record of .*step_200 cannot be used"):
        checkpoints.load_record(folder)


def test_a_leaf_that_orbax_restores_wrong_is_noticed(two_checkpoints, tmp_path):
    """Files and manifest agree, and still a leaf is another: its own digest shows it."""
    folder = shutil.copytree(two_checkpoints[0], tmp_path / "copy")
    path = folder / "step_200" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["leaves"]["state.params['w']"]["sha256"] = "0" * 64
    del manifest["sha256"]
    manifest["sha256"] = checkpoints._seal(manifest)
    path.write_text(json.dumps(manifest))
    restored = checkpoints.restore(folder, two_checkpoints[1][100])
    assert restored.step == 100 and "state.params['w'] does not match" in restored.skipped[0]


def test_another_format_version_is_refused(two_checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "VERSION", 2)
    checkpoints.save(tmp_path, 1, {"n": 1}, {})
    monkeypatch.undo()
    for read in (lambda: checkpoints.restore(tmp_path, {"n": 1}), lambda: checkpoints.load_record(tmp_path)):
        with pytest.raises(InputError, match="(?s)another format version.*version 2.*version 1"):
            read()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s._replace(params={**s.params, "w": jnp.zeros((40, 31))}), r"\(40, 30\).*\(40, 31\)"),
        (lambda s: s._replace(step=jnp.zeros((), jnp.float32)), r"state.step.*int32.*float32"),
        (lambda s: s._replace(step=0), r"state.step.*int32.*int"),
        (lambda s: s._replace(ema={"w": jnp.zeros(3)}), r"state.ema\['w'\] differs.*no such leaf"),
        (lambda s: s._replace(opt_state=()), r"opt_state.* differs.*expected: +no such leaf"),
        (lambda s: s._replace(key=jax.random.split(jax.random.key(0, impl="rbg"))), r"key<fry>.*key<rbg>"),
    ],
)
def test_another_shape_is_refused_with_both(two_checkpoints, change, words):
    folder, states = two_checkpoints
    with pytest.raises(InputError, match=f"(?s){words}.*other flags.*config.json"):
        checkpoints.restore(folder, change(states[100]))


def test_load_record(two_checkpoints):
    folder, _ = two_checkpoints
    assert checkpoints.load_record(folder) == {"step": 200}
    assert checkpoints.load_record(folder, 100) == {"step": 100}
    with pytest.raises(InputError, match="step 7"):
        checkpoints.load_record(folder, 7)


def test_bad_arguments(tmp_path):
    with pytest.raises(TypeError, match=r"state\['name'\] is str"):
        checkpoints.save(tmp_path, 1, {"name": "x"}, {})
    with pytest.raises(TypeError, match="JSON"):
        checkpoints.save(tmp_path, 1, {"n": 1}, {"array": np.zeros(2)})
    with pytest.raises(ValueError, match="step must be 0 or more"):
        checkpoints.save(tmp_path, -1, {"n": 1}, {})
    assert list(tmp_path.iterdir()) == []


def test_full_disk_keeps_what_was_there(tmp_path, monkeypatch):
    checkpoints.save(tmp_path, 1, {"n": 1}, {})
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(InputError, match="(?s)step 2 could not be saved.*kept: steps 1.*disk is full"):
        checkpoints.save(tmp_path, 2, {"n": 2}, {})
    assert checkpoints.restore(tmp_path, {"n": 0}).step == 1


@pytest.fixture
def tiny_disk(tmp_path):
    """4 MB that are really full when they are full; skipped where mounting is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("no right to mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


# Where the disk fills up under Orbax's hands, its event loop is closed before its last thread reports.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("foreseen", [True, False])
def test_a_disk_that_fills_up(tiny_disk, monkeypatch, foreseen, capfd):
    if not foreseen:
        monkeypatch.setattr(checkpoints, "_require_room", lambda folder, size: None)
    state = {"w": np.random.default_rng(0).normal(size=150_000).astype(np.float32)}  # 0.6 MB
    saved = []
    with pytest.raises(InputError, match=r"(?s)could not be saved.*kept: steps .*disk is full"):
        for step in range(20):
            (tiny_disk / f"filler_{step}").write_bytes(bytes(300_000))
            checkpoints.save(tiny_disk / "c", step, state, {})
            saved.append(step)
    assert saved and checkpoints.restore(tiny_disk / "c", state).step == saved[-1]
    assert not [p for p in (tiny_disk / "c").iterdir() if "writing" in p.name]
    assert "Traceback" not in capfd.readouterr().err


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="(?s)could not be saved.*no earlier checkpoint.*cannot be written"):
        checkpoints.save(tmp_path / "file" / "below", 1, {"n": 1}, {})


WRITER = """
import sys
import jax, numpy as np
from ch3_jax.training import checkpoints
folder, target = sys.argv[1], {"w": np.zeros(50_000, np.float32), "n": 0}
found = checkpoints.restore(folder, target)
step = found.step if found else 0
print("ready", flush=True)
while True:
    step += 1
    state = {"w": np.full(50_000, step, np.float32), "n": step}
    checkpoints.save(folder, step, state, {"step": step}, metric=-float(step % 7))
    print(step, flush=True)
"""


def _kill_while_saving(folder: Path, saves: int, seconds: float) -> int:
    """Steps whose `save` had returned when the writer was killed, `seconds` after its `saves`-th."""
    command = [sys.executable, "-c", WRITER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as writer:
        assert writer.stdout.readline() == "ready\n"
        lines = [writer.stdout.readline() for _ in range(saves)]
        time.sleep(seconds)
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.read().splitlines()
    return int(lines[-1]) if lines else 0


def _check_kills(folder: Path, moments: list[tuple[int, float]]):
    target, done = {"w": np.zeros(50_000, np.float32), "n": 0}, 0
    for saves, seconds in moments:
        done = max(done, _kill_while_saving(folder, saves, seconds))
        found = checkpoints.restore(folder, target)
        if found is None:
            assert done == 0
            continue
        assert found.skipped == () and found.step >= done
        assert found.state["n"] == found.record["step"] == found.step
        assert (found.state["w"] == found.step).all()
    assert done > 0
    checkpoints.save(folder, 10_000, target, {})
    assert all(p.name.removeprefix("step_").isdigit() for p in folder.iterdir())


def test_kill_while_saving(tmp_path):
    rng = random.Random(0)
    _check_kills(tmp_path, [(1, rng.random() * 0.3) for _ in range(2)])


@pytest.mark.slow
def test_kill_while_saving_often(tmp_path):
    rng = random.Random(1)
    _check_kills(tmp_path, [(i % 2, rng.random()) for i in range(20)])


@pytest.mark.parametrize("call", ["_files", "rename", "fsync", "rmtree"])
def test_death_at_each_step_of_a_save(tmp_path, monkeypatch, call):
    """Stops at the n-th system call, for every n, instead of hoping that a kill falls there."""

    class Killed(BaseException):
        pass

    holder = {"_files": checkpoints, "rename": Path, "fsync": os, "rmtree": shutil}[call]
    original = getattr(holder, call)
    for n in range(3):
        folder, seen = tmp_path / str(n), []
        for step in (1, 2):
            checkpoints.save(folder, step, {"n": step}, {})

        def dying(*args, seen=seen, n=n, **kwargs):
            seen.append(1)
            if len(seen) > n:
                raise Killed
            return original(*args, **kwargs)

        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr(holder, call, dying)
            checkpoints.save(folder, 3, {"n": 3}, {})
        found = checkpoints.restore(folder, {"n": 0})
        assert found.skipped == () and found.state["n"] == found.step in (2, 3)
        checkpoints.save(folder, 4, {"n": 4}, {})
        assert checkpoints.latest(folder) == 4 and len(list(folder.iterdir())) == 2


def test_digest_against_hashlib():
    import hashlib

    (leaf,) = described({"w": np.array([[1.0, -0.0]], np.float32)}).values()
    # float32 1.0 is 0x3f800000 and -0.0 is 0x80000000, least significant byte first.
    want = hashlib.sha256(b"float32|(1, 2)|" + bytes.fromhex("0000803f00000080")).hexdigest()
    assert leaf.entry["sha256"] == digest(leaf.entry, leaf.data) == want


def test_tree_sha256():
    a, b = np.arange(4, dtype=np.float32), np.ones(2, np.int32)
    base = tree_sha256({"a": a, "b": b})
    assert tree_sha256({"b": jnp.asarray(b), "a": jnp.asarray(a)}) == base
    others = [
        {"a": a, "c": b},
        {"a": b, "b": a},
        {"a": a.reshape(2, 2), "b": b},
        {"a": a.view(np.int32), "b": b},
        {"a": np.nextafter(a, np.float32(9)), "b": b},
        {"a": a},
    ]
    assert len({base, *map(tree_sha256, others)}) == len(others) + 1
    key = jax.random.key(0)
    assert tree_sha256(key) != tree_sha256(jax.random.key(1)) != tree_sha256(jax.random.key_data(key))
