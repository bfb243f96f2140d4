"""Where the numbers of a run go: a table, TensorBoard events, Weights & Biases, or all at once.

A writer is three functions. `write(step, metrics)` takes numbers that are on the host already, so that
a writer never decides when the device is waited for. The table holds nothing but numbers that the
training computed - no time of day, no speed - and each in the shortest decimal form that reads back as
the same bits:

  float32(decimal(x)) = x        for every float32 x that is not NaN

A run that was killed, cut back to the row of its checkpoint and resumed therefore leaves the same bytes
as one that was never disturbed. A disk that is full is an `OSError` with the file's name, from the very
`write` that met it: nothing is queued, nothing is dropped.
"""

import contextlib
import csv
import io
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ch3_jax.errors import InputError

Write = Callable[[int, Mapping[str, float]], None]


class Writer(NamedTuple):
    """Something that metrics can be given to.

    Attributes:
      write: (step, name -> number) -> None; numbers are scalars of any kind, NaN and infinities included.
      flush: () -> None; what was written is with the operating system after it.
      close: () -> None; nothing may be written after it.
    """

    write: Write
    flush: Callable[[], None]
    close: Callable[[], None]


class CsvWriter(NamedTuple):
    """A `Writer` that can say how far its file is safe.

    Attributes:
      write, flush, close: as in `Writer`.
      position: () -> bytes of the file, all of them on the disk; a checkpoint keeps this number, and
        `csv_writer(path, keep_bytes=...)` goes on from it.
    """

    write: Write
    flush: Callable[[], None]
    close: Callable[[], None]
    position: Callable[[], int]


def decimal(value: Any) -> str:
    """The shortest decimal text that reads back as the same float32 - as the same float64, where
    float32 does not hold the number.

    Args:
      value: a bool, an integer or a real scalar of any floating type; arrays of one element count.

    Returns:
      Digits; "nan", "inf", "-inf".

    Raises:
      TypeError: more than one number, or no number.

    Example:
      >>> decimal(np.float32(0.1)), decimal(0.1), decimal(np.float32(1e-5)), decimal(7), decimal(float("nan"))
      ('0.1', '0.1', '1e-05', '7', 'nan')
    """
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind in "OSUcMm":
        raise TypeError(f"a metric must be one real number, got {value!r}")
    if array.dtype.kind in "biu":
        return str(int(array.item()))
    exact = float(array.item())
    with np.errstate(over="ignore"):  # Too large for float32: told apart by the comparison.
        short = np.float32(exact)
    return str(short) if float(short) == exact or exact != exact else repr(exact)


def csv_writer(
    path: str | Path, fields: Sequence[str] | None = None, keep_bytes: int | None = None
) -> CsvWriter:
    """A table with one row for each `write`, first column `step`, cells empty where a row has no number.

    Each row is with the operating system when `write` returns.

    Args:
      path: the file.
      fields: names of the columns after `step`, those of all kinds of rows; None for the names of the
        first row, or those in the file that is gone on with.
      keep_bytes: None for a new file; the `position` that a checkpoint recorded to go on from there,
        what lies behind it is cut off; 0 to start over, whether or not the file is there.

    Returns:
      A `CsvWriter`. Its `write` raises ValueError for a name that is no column, OSError for a disk
      that takes no more.

    Raises:
      InputError: a new file that is there already, or one that is gone on with and is missing, shorter
        than `keep_bytes`, of other columns, or without the end of a row at that place.
      ValueError: `fields` with a name twice, a line break in a name, or "step".

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp()) / "metrics.csv"
      >>> table = csv_writer(path, ["loss", "val_loss"])
      >>> table.write(100, {"loss": np.float32(5.5)})
      >>> table.write(100, {"val_loss": 5.25})
      >>> table.position()
      38
      >>> table.close()
      >>> path.read_text()
      'step,loss,val_loss\\n100,5.5,\\n100,,5.25\\n'
    """
    path = Path(path)
    names = None if fields is None else _columns(fields)
    if keep_bytes is not None and keep_bytes < 0:
        raise ValueError(f"keep_bytes must be 0 or more, got {keep_bytes}")
    with _naming(path):
        file, kept = _opened(path, keep_bytes)
    try:
        if kept:
            names = _same_columns(path, _header(path, kept), names)
        with _naming(path):
            file.truncate(kept)
            file.seek(kept)
            if names is not None and not kept:
                _put(file, _row(["step", *names]))
    except BaseException:
        file.close()
        raise
    return _csv_functions(path, file, names)


def tensorboard_writer(folder: str | Path, purge_step: int | None = None) -> Writer:
    """TensorBoard events, one scalar for each metric, without TensorFlow.

    tensorboardX's own `SummaryWriter` hands events to a thread, where a full disk is an exception that
    nobody sees; here the record is written by the caller.

    Args:
      folder: where the events file is made, next to those of earlier parts of the run.
      purge_step: of a resumed run the first step that is made again: TensorBoard then hides what
        earlier files say of it and of all later ones.

    Returns:
      A `Writer`; names keep their "/", by which TensorBoard groups.

    Raises:
      InputError: tensorboardX is not installed.
      OSError: the folder cannot be made or written.
    """
    try:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.proto.summary_pb2 import Summary
    except ImportError as error:
        raise _not_installed("tensorboardX", "TensorBoard events", "--notensorboard", error) from error

    folder = Path(folder)
    with _naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads in the order of the names, whose time counts whole seconds.
        parts = sum(1 for _ in folder.glob("events.out.tfevents.*"))
        events = EventsWriter(str(folder / "events"), f".{parts:04d}")

    def write(step: int, metrics: Mapping[str, float]) -> None:
        values = [Summary.Value(tag=name, simple_value=_float32(v)) for name, v in metrics.items()]
        with _naming(folder):
            events.write_event(Event(wall_time=time.time(), step=int(step), summary=Summary(value=values)))
            events.flush()

    def flush() -> None:
        with _naming(folder):
            events.flush()

    def close() -> None:
        with _naming(folder):
            events.close()

    if purge_step is not None:
        with _naming(folder):
            start = SessionLog(status=SessionLog.START)
            events.write_event(Event(wall_time=time.time(), step=int(purge_step), session_log=start))
    flush()
    return Writer(write, flush, close)


def require_wandb() -> None:
    """Refuses to go on without the package; asked before a run writes anything."""
    try:
        import wandb  # noqa: F401
    except ImportError as error:
        raise _not_installed("wandb", "Weights & Biases", "--wandb", error) from error


def wandb_writer(
    project: str,
    folder: str | Path,
    config: Mapping[str, Any],
    *,
    name: str | None = None,
    run_id: str | None = None,
) -> Writer:
    """Weights & Biases, where it is installed; its own WANDB_MODE (online, offline, disabled) holds.

    Args:
      project: name of the project there.
      folder: where wandb keeps its files (in a folder `wandb` inside).
      config: flags of the run, as plain JSON.
      name: what the run is called there; None for wandb's choice.
      run_id: the same id goes on with the same run, as `--resume` does; None for a new run. wandb keeps
        what it was told of a step first: it ignores, with a warning, steps before its last one.

    Returns:
      A `Writer`.

    Raises:
      InputError: wandb is not installed, or refuses (no network, no login).
    """
    require_wandb()
    import wandb

    folder = Path(folder)
    with _naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        run = wandb.init(
            project=project,
            dir=str(folder),
            config=dict(config),
            name=name,
            id=run_id,
            resume=None if run_id is None else "allow",
        )
    except (wandb.errors.Error, ValueError) as error:
        raise InputError(
            "Weights & Biases does not take this run",
            got=error,
            expected="a login and a network, or WANDB_MODE=offline",
            cause="no network, no login, or a name of a project that it does not accept",
            fix="wandb login, or WANDB_MODE=offline and later: wandb sync",
        ) from error

    def write(step: int, metrics: Mapping[str, float]) -> None:
        run.log({key: _float32(value) for key, value in metrics.items()}, step=int(step))

    # wandb sends in its own process and has no flush of its own.
    return Writer(write, lambda: None, run.finish)


def tee(*writers: Writer | CsvWriter) -> Writer:
    """One writer that hands everything to each of `writers`, in their order.

    An error of one goes up at once from `write` and `flush`; `close` closes them all before it does.
    """

    def write(step: int, metrics: Mapping[str, float]) -> None:
        for writer in writers:
            writer.write(step, metrics)

    def flush() -> None:
        for writer in writers:
            writer.flush()

    def close() -> None:
        with contextlib.ExitStack() as stack:
            for writer in reversed(writers):
                stack.callback(writer.close)

    return Writer(write, flush, close)


def _csv_functions(path: Path, file: io.BufferedIOBase, names: list[str] | None) -> CsvWriter:
    def write(step: int, metrics: Mapping[str, float]) -> None:
        nonlocal names
        lines = b""
        if names is None:
            names = _columns(list(metrics))
            lines = _row(["step", *names])
        unknown = [name for name in metrics if name not in names]
        if unknown:
            raise ValueError(f"{path.name} has no column {', '.join(unknown)}; it has {', '.join(names)}")
        cells = [decimal(metrics[name]) if name in metrics else "" for name in names]
        with _naming(path):
            _put(file, lines + _row([str(int(step)), *cells]))

    def position() -> int:
        with _naming(path):
            file.flush()
            os.fsync(file.fileno())
            return file.tell()

    def flush() -> None:
        with _naming(path):
            file.flush()

    def close() -> None:
        with _naming(path):
            file.close()

    return CsvWriter(write, flush, close, position)


def _opened(path: Path, keep_bytes: int | None) -> tuple[io.BufferedIOBase, int]:
    """(the file, how many of its bytes stay)."""
    if not keep_bytes:
        try:
            return path.open("xb" if keep_bytes is None else "w+b"), 0
        except FileExistsError as error:
            raise InputError(
                f"{path} is there already",
                got="a file",
                expected="a path that is free",
                cause="an earlier run wrote there",
                fix="go on with that run, or choose another folder",
            ) from error
    try:
        file = path.open("r+b")
    except FileNotFoundError as error:
        raise _shorter(path, "no such file", keep_bytes) from error
    size = file.seek(0, os.SEEK_END)
    file.seek(keep_bytes - 1)
    if size < keep_bytes or file.read(1) != b"\n":
        file.close()
        raise _shorter(path, f"{size} bytes, no row that ends at byte {keep_bytes}", keep_bytes)
    return file, keep_bytes


def _header(path: Path, kept: int) -> list[str]:
    with _naming(path), path.open("rb") as file:
        return next(csv.reader([file.readline(kept).decode(errors="replace")]), [])


def _same_columns(path: Path, header: list[str], names: list[str] | None) -> list[str]:
    if header[:1] == ["step"] and names in (None, header[1:]):
        return header[1:]
    raise InputError(
        f"{path} has other columns than this run writes",
        got=",".join(header),
        expected=",".join(["step", *(names or ["..."])]),
        cause="the file was edited, or the run was started by another version",
        fix="put the file back, or train again in another folder",
    )


def _columns(fields: Sequence[str]) -> list[str]:
    names = [str(name) for name in fields]
    wrong = [n for n in names if n == "step" or "\n" in n or "\r" in n or not n or names.count(n) > 1]
    if wrong:
        raise ValueError(f"columns need names of their own, on one line and other than step, got {wrong}")
    return names


def _row(cells: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def _put(file: io.BufferedIOBase, content: bytes) -> None:
    file.write(content)
    file.flush()


def _float32(value: Any) -> float:
    """A Python float that fits the float32 of an event: beyond it an infinity, as the cast would give."""
    with np.errstate(over="ignore"):
        return float(np.float32(np.asarray(value).item()))


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors of a write know no file; a person who has to make room needs its name."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _shorter(path: Path, got: str, keep_bytes: int) -> InputError:
    return InputError(
        f"{path} does not hold the rows up to the checkpoint",
        got=got,
        expected=f"rows that fill {keep_bytes} bytes or more",
        cause="the file was removed, cut or edited after the run had stopped",
        fix="put the file back, or train again in another folder",
    )


def _not_installed(package: str, what: str, flag: str, error: ImportError) -> InputError:
    return InputError(
        f"no {what} without the package {package}",
        got=error,
        expected=f"an installed {package}",
        cause="it is not among the packages of this environment",
        fix=f"pip install {package}, or run with{'' if flag.startswith('--no') else 'out'} {flag}",
    )
