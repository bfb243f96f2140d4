"""Rows to the byte, resumed files to the byte, events read back, and no full disk that goes unseen."""

import errno
import os
import struct
import sys
import types
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax import writers
from ch3_jax.errors import InputError

RNG = np.random.default_rng(0)


def test_decimal_gives_back_every_float32():
    # All bit patterns alike: denormals, both zeros, huge ones.
    numbers = RNG.integers(0, 2**32, 20_000, dtype=np.uint32).view(np.float32)
    numbers = np.concatenate([numbers[~np.isnan(numbers)], np.float32([0.0, -0.0, np.inf, -np.inf])])
    back = np.array([writers.decimal(x) for x in numbers]).astype(np.float32)
    np.testing.assert_array_equal(back.view(np.uint32), numbers.view(np.uint32))


def test_decimal_gives_back_every_float64_and_integer():
    numbers = [0.1, 1 / 3, 1e300, 2.0**-1074, -2.5]
    assert [float(writers.decimal(x)) for x in numbers] == numbers
    # 2^24 + 1 is the first integer that float32 does not hold.
    assert writers.decimal(16_777_217) == "16777217"
    assert writers.decimal(np.bool_(True)) == "1"


@pytest.mark.parametrize(
    "value", [np.float32(5.5), jnp.float32(5.5), jnp.bfloat16(5.5), np.array([5.5]), 5.5, np.float16(5.5)]
)
def test_decimal_takes_every_kind_of_scalar(value):
    assert writers.decimal(value) == "5.5"


@pytest.mark.parametrize("value", ["5.5", None, np.ones(2), 1j])
def test_decimal_refuses_what_is_no_real_number(value):
    with pytest.raises(TypeError, match="one real number"):
        writers.decimal(value)


def test_rows_by_hand(tmp_path):
    table = writers.csv_writer(tmp_path / "m.csv", ["loss", "norm", "val_loss"])
    table.write(100, {"loss": np.float32(3.6), "norm": np.float32("nan")})
    table.write(np.int32(100), {"val_loss": jnp.float32(1e-5)})
    table.write(200, {"norm": np.inf, "loss": -0.0})
    # A row is with the operating system before anybody flushes.
    assert (tmp_path / "m.csv").read_text() == (
        "step,loss,norm,val_loss\n100,3.6,nan,\n100,,,1e-05\n200,-0.0,inf,\n"
    )
    table.close()


def test_columns_of_the_first_row(tmp_path):
    table = writers.csv_writer(tmp_path / "m.csv")
    assert table.position() == 0
    table.write(1, {"a, b": 1, "c": 2})
    with pytest.raises(ValueError, match="no column d; it has a, b, c"):
        table.write(2, {"d": 1})
    table.close()
    assert (tmp_path / "m.csv").read_text() == 'step,"a, b",c\n1,1,2\n'
    again = writers.csv_writer(tmp_path / "m.csv", keep_bytes=20)
    again.write(2, {"c": 3})
    again.close()
    assert (tmp_path / "m.csv").read_text() == 'step,"a, b",c\n1,1,2\n2,,3\n'


@pytest.mark.parametrize("fields", [["step"], ["a", "a"], ["a\nb"], [""]])
def test_refuses_columns_that_cannot_be_told_apart(tmp_path, fields):
    with pytest.raises(ValueError, match="names of their own"):
        writers.csv_writer(tmp_path / "m.csv", fields)
    assert not (tmp_path / "m.csv").exists()


def _train(table, first, last):
    for step in range(first, last):
        loss = np.float32(5.5) * np.float32(0.99) ** np.float32(step)
        table.write(step, {"loss": loss, "norm": 1 / (step + 1)})
        if step % 10 == 0:
            table.write(step, {"val_loss": loss})


@pytest.mark.parametrize("killed", [57, 58, 64])
def test_a_killed_and_resumed_run_leaves_the_same_bytes(tmp_path, killed):
    fields = ["loss", "norm", "val_loss"]
    whole = writers.csv_writer(tmp_path / "whole.csv", fields)
    _train(whole, 0, 100)
    whole.close()
    parts = writers.csv_writer(tmp_path / "parts.csv", fields)
    _train(parts, 0, 57)
    position = parts.position()
    _train(parts, 57, killed)
    parts.close()
    with (tmp_path / "parts.csv").open("ab") as file:
        file.write(b"64,0.12")  # Half a row, as kill -9 may leave it.
    parts = writers.csv_writer(tmp_path / "parts.csv", fields, keep_bytes=position)
    assert parts.position() == position == (tmp_path / "parts.csv").stat().st_size
    _train(parts, 57, 100)
    parts.close()
    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize("there", [True, False])
def test_starting_over_needs_no_file(tmp_path, there):
    if there:
        (tmp_path / "m.csv").write_text("step,lo")
    table = writers.csv_writer(tmp_path / "m.csv", ["loss"], keep_bytes=0)
    table.close()
    assert (tmp_path / "m.csv").read_text() == "step,loss\n"


def test_a_new_table_replaces_nothing(tmp_path):
    (tmp_path / "m.csv").write_text("mine")
    with pytest.raises(InputError, match="is there already"):
        writers.csv_writer(tmp_path / "m.csv", ["loss"])
    assert (tmp_path / "m.csv").read_text() == "mine"


@pytest.mark.parametrize(
    ("content", "fields", "keep", "words"),
    [
        (None, ["loss"], 20, "no such file"),
        ("step,loss\n1,2\n", ["loss"], 15, "14 bytes, no row that ends at byte 15"),
        ("step,loss\n1,2\n", ["loss"], 13, "no row that ends at byte 13"),
        ("step,lost\n1,2\n", ["loss"], 14, "step,lost"),
        ("loss,step\n1,2\n", None, 14, "loss,step"),
    ],
)
def test_refuses_to_go_on_with_another_file(tmp_path, content, fields, keep, words):
    path = tmp_path / "m.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=words):
        writers.csv_writer(path, fields, keep_bytes=keep)
    assert (path.read_text() if path.exists() else None) == content


def _fill_the_disk(path: Path) -> None:
    """Puts /dev/full, which takes nothing, in the place of the open file `path`."""
    for name in Path("/proc/self/fd").iterdir():
        try:
            same = name.readlink() == path.resolve()
        except OSError:
            continue
        if same:
            full = os.open("/dev/full", os.O_WRONLY)
            os.dup2(full, int(name.name))
            os.close(full)
            return
    raise LookupError(path)


needs_dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


@needs_dev_full
def test_a_full_disk_stops_the_table(tmp_path):
    path = tmp_path / "m.csv"
    table = writers.csv_writer(path, ["loss"])
    _fill_the_disk(path)
    for attempt in (lambda: table.write(1, {"loss": 1.0}), table.flush, table.position, table.close):
        with pytest.raises(OSError) as error:
            attempt()
        assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(path))


@needs_dev_full
def test_a_full_disk_stops_the_events(tmp_path):
    events = writers.tensorboard_writer(tmp_path)
    events.write(1, {"loss": 1.0})
    _fill_the_disk(next(tmp_path.iterdir()))
    with pytest.raises(OSError) as error:
        events.write(2, {"loss": 1.0})
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(tmp_path))


def _records(path: Path) -> list[bytes]:
    """The payloads of a file of TFRecords: length, its checksum, payload, its checksum."""
    content, records = path.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        records.append(content[12 : 12 + length])
        assert len(records[-1]) == length
        content = content[16 + length :]
    return records


def _events(folder: Path) -> list:
    from tensorboardX.proto.event_pb2 import Event

    return [Event.FromString(r) for file in sorted(folder.iterdir()) for r in _records(file)]


def test_events_read_back(tmp_path):
    events = writers.tensorboard_writer(tmp_path / "events")
    numbers = RNG.normal(size=50).astype(np.float32)
    for step, number in enumerate(numbers):
        events.write(step, {"loss": number, "norms/layer 0": 2 * number})
    events.write(50, {"loss": np.float32("nan")})
    events.close()
    first, *rest = _events(tmp_path / "events")
    assert first.file_version == "brain.Event:2"
    assert [e.step for e in rest] == list(range(51))
    read = [{v.tag: v.simple_value for v in e.summary.value} for e in rest]
    np.testing.assert_array_equal([r["loss"] for r in read[:-1]], numbers)
    np.testing.assert_array_equal([r["norms/layer 0"] for r in read[:-1]], 2 * numbers)
    assert np.isnan(read[-1]["loss"])


def test_resumed_events_hide_what_is_made_again(tmp_path):
    from tensorboardX.proto.event_pb2 import SessionLog

    for purge_step in (None, 3, 3):  # In one second: each part needs a file of its own.
        events = writers.tensorboard_writer(tmp_path, purge_step)
        events.write(3, {"loss": 1.0})
        events.close()
    assert len(list(tmp_path.iterdir())) == 3
    marks = [e for e in _events(tmp_path) if e.session_log.status == SessionLog.START]
    assert [e.step for e in marks] == [3, 3]
    # The mark stands before the numbers of its file.
    assert [e.session_log.status for e in _events(tmp_path)][-3:] == [0, SessionLog.START, 0]


def _fake_wandb(monkeypatch, refuse=None):
    told = types.SimpleNamespace(init=None, logs=[], finished=0)

    class Run:
        def log(self, values, step):
            told.logs.append((step, values))

        def finish(self):
            told.finished += 1

    def init(**settings):
        if refuse:
            raise refuse
        told.init = settings
        return Run()

    errors = types.SimpleNamespace(Error=type("Error", (Exception,), {}))
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init, errors=errors))
    return told, errors


def test_wandb_gets_the_same_numbers(tmp_path, monkeypatch):
    told, _ = _fake_wandb(monkeypatch)
    writer = writers.wandb_writer("arms", tmp_path / "run", {"seed": 3}, run_id="abc")
    writer.write(np.int64(7), {"loss": jnp.float32(0.5)})
    writer.flush()
    writer.close()
    assert told.init["project"] == "arms" and told.init["config"] == {"seed": 3}
    assert (told.init["id"], told.init["resume"]) == ("abc", "allow")
    assert told.logs == [(7, {"loss": 0.5})] and type(told.logs[0][1]["loss"]) is float
    assert told.finished == 1 and (tmp_path / "run").is_dir()


def test_wandb_that_refuses_is_a_refusal(tmp_path, monkeypatch):
    _, errors = _fake_wandb(monkeypatch)
    _fake_wandb(monkeypatch, refuse=errors.Error("api_key not configured"))
    sys.modules["wandb"].errors = errors
    with pytest.raises(InputError, match="api_key not configured"):
        writers.wandb_writer("arms", tmp_path, {})


@pytest.mark.parametrize(
    ("package", "make"),
    [
        ("wandb", lambda folder: writers.wandb_writer("arms", folder, {})),
        ("tensorboardX", lambda folder: writers.tensorboard_writer(folder / "events")),
    ],
)
def test_a_missing_package_is_named(tmp_path, monkeypatch, package, make):
    for module in [m for m in sys.modules if m.split(".")[0] == package]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=f"pip install {package}"):
        make(tmp_path)
    assert not list(tmp_path.iterdir())


def test_tee_hands_on_in_order_and_closes_all():
    calls = []

    def named(name, bad=False):
        def close():
            calls.append((name, "close"))
            if bad:
                raise OSError(errno.ENOSPC, name)

        return writers.Writer(
            lambda step, metrics: calls.append((name, step, metrics)),
            lambda: calls.append((name, "flush")),
            close,
        )

    both = writers.tee(named("a", bad=True), named("b"))
    both.write(1, {"x": 2.0})
    both.flush()
    with pytest.raises(OSError, match="a"):
        both.close()
    assert calls == [
        ("a", 1, {"x": 2.0}),
        ("b", 1, {"x": 2.0}),
        ("a", "flush"),
        ("b", "flush"),
        ("a", "close"),
        ("b", "close"),
    ]


def test_importing_the_file_is_light():
    import subprocess

    heavy = "{'tensorboardX', 'wandb', 'tensorflow', 'matplotlib'}"
    code = f"import sys, ch3_jax.writers; sys.exit(len({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
