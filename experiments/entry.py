"""How an experiment starts and stops: flags, refusals on one screen, signals.

  from experiments import entry
  ...
  if __name__ == "__main__":
      entry.run(main)

| what happens | exit code |
| --- | --- |
| `main` returns | what it returns, 0 for None |
| bad flags or input (`InputError`), a full or read-only disk | 2, one screen on stderr |
| Ctrl-C outside a loop that saves | 130 |
| anything else: a defect | 1, with its traceback |
"""

import errno
import functools
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags, logging

from ch3_jax.errors import InputError

BAD_INPUT, CTRL_C = 2, 128 + signal.SIGINT
_DISK = {
    errno.ENOSPC: ("the disk is full", "make room, or choose an --out on another disk"),
    errno.EDQUOT: ("your quota of the disk is used up", "make room, or choose an --out on another disk"),
    errno.EROFS: ("the disk is read-only", "choose an --out on a disk that can be written"),
    errno.EACCES: ("missing rights", "choose another path, or give yourself the right to it"),
    errno.EPERM: ("missing rights", "choose another path, or give yourself the right to it"),
}


def run(main: Callable[[list[str]], int | None], argv: Sequence[str] | None = None) -> None:
    """Parses the flags, calls `main` with what is left, and exits with the code of the table above.

    Args:
      main: takes the program's name in a list, as with `absl.app.run`.
      argv: the command line; None for the process's own.
    """
    app.run(refusing(main), argv=None if argv is None else list(argv), flags_parser=_parse)


def refusing(main: Callable[..., int | None]) -> Callable[..., int | None]:
    """`main`, with refusals as one screen on stderr and an exit code instead of a traceback."""

    @functools.wraps(main)
    def guarded(*args: Any, **kwargs: Any) -> int | None:
        try:
            code = main(*args, **kwargs)
            sys.stdout.flush()  # Here, where a full disk can still be reported.
            return code
        except InputError as error:
            return _refuse(error)
        except KeyboardInterrupt:
            print("\ninterrupted", file=sys.stderr)
            return CTRL_C
        except BrokenPipeError:  # The reader of a pipe has seen enough.
            _drop_stdout()
            return 128 + signal.SIGPIPE
        except OSError as error:
            if error.errno not in _DISK:
                raise
            return _refuse(_disk_error(error))

    return guarded


class Interrupt:
    """While inside, SIGTERM and Ctrl-C ask a loop to stop after its step; a second Ctrl-C stops at once.

    Attributes:
      requested: name of the signal that came, "SIGTERM" or "SIGINT"; None until one does.

    Example:
      >>> with Interrupt() as interrupt:
      ...     interrupt.requested is None
      True
    """

    def __init__(self) -> None:
        self.requested: str | None = None
        self._before: dict[int, Any] = {}
        self._ctrl_c = 0

    def __enter__(self) -> "Interrupt":
        # Only the main thread may set handlers; elsewhere signals stay whose they were.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._asked)
        return self

    def __exit__(self, *_: object) -> None:
        while self._before:
            number, handler = self._before.popitem()
            # None: a handler that C code had set, which Python cannot put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _asked(self, number: int, _: Any) -> None:
        self.requested = self.requested or signal.Signals(number).name
        if number == signal.SIGINT:
            self._ctrl_c += 1
            if self._ctrl_c > 1:
                raise KeyboardInterrupt


def _parse(argv: Sequence[str]) -> list[str]:
    """Flags by absl; what it refuses, and what is no flag at all, ends the process with code 2."""
    try:
        left = flags.FLAGS(list(argv))
    except flags.Error as error:
        sys.exit(_refuse(_flag_error(error)))
    except SystemExit:  # absl ends --help with 1, as if help were a failure.
        raise SystemExit(0) from None
    except BrokenPipeError:  # `--help | head`
        _drop_stdout()
        raise SystemExit(0) from None
    # Orbax tells the story of every file it writes; a person asked for the run's own.
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    refusal = _no_flags(left[1:]) or _not_a_number()
    if refusal:
        sys.exit(_refuse(refusal))
    return left


def _no_flags(words: Sequence[str]) -> InputError | None:
    """absl hands such words to `main`, where nobody would look at them."""
    if not words:
        return None
    return InputError(
        "the command line has words that are no flags",
        got=" ".join(words),
        expected="--name=value",
        cause="a missing -- or =, or a space inside a value",
        fix="write each setting as --name=value; --help lists them",
    )


def _not_a_number() -> InputError | None:
    """NaN lies outside no bounds, so absl lets it through every one of them."""
    for name, value in flags.FLAGS.flag_values_dict().items():
        if isinstance(value, float) and value != value:
            error = flags.IllegalFlagValueError(f"flag --{name}={value}: {value} is no number")
            return _flag_error(error)
    return None


def _flag_error(error: flags.Error) -> InputError:
    """absl's sentence, taken apart: which flag, which value, which values would do."""
    text = str(error)
    if isinstance(error, flags.UnrecognizedFlagError):
        guesses = re.findall(r"Did you mean:?\s*(.*?)\s*\?", text, re.DOTALL)
        return InputError(
            f"there is no flag --{error.flagname}",
            got=f"--{error.flagname}",
            expected=f"--{guesses[0]}" if guesses else "a flag that --help lists",
            cause="a mistyped name",
            fix="correct it; --help lists all flags",
        )
    found = re.match(r"flag --(?P<name>[^=\s]+?)=(?P<value>.*?): (?P<reason>.*)", text, re.DOTALL)
    if not found or found["name"] not in flags.FLAGS:
        return InputError(
            "the flags cannot be used",
            got=text,
            expected="--name=value with values that fit together",
            cause="a missing value, or two flags that exclude each other",
            fix="correct it; --help lists all flags",
        )
    flag = flags.FLAGS[found["name"]]
    expected, cause = _accepted(flag, found["reason"])
    return InputError(
        f"--{flag.name} cannot be {found['value'] or 'empty'}",
        got=f"--{flag.name}={found['value']}",
        expected=expected,
        cause=cause,
        fix=f"choose an accepted value; --{flag.name}: {' '.join((flag.help or '').split())}",
    )


def _accepted(flag: flags.Flag, reason: str) -> tuple[str, str]:
    """(the values that a flag takes, why it took none) in words."""
    values = getattr(flag.parser, "enum_values", None)
    if values:
        return "one of " + ", ".join(values), "a mistyped value"
    if flag.boolean:
        return "true or false", "a boolean flag was given something else"
    return getattr(flag.parser, "syntactic_help", "") or reason, reason


def _disk_error(error: OSError) -> InputError:
    cause, fix = _DISK[error.errno]
    return InputError(
        f"{error.filename or 'output'} cannot be written or read",
        got=error.strerror,
        expected="files and folders that this run may use",
        cause=cause,
        fix=fix,
    )


def _refuse(error: InputError) -> int:
    try:
        sys.stdout.flush()
    except OSError:
        _drop_stdout()
    print(error, file=sys.stderr)
    return BAD_INPUT


def _drop_stdout() -> None:
    """What is still buffered has nowhere to go; without this the interpreter fails again at its exit."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(devnull, sys.stdout.fileno())
    except (OSError, ValueError):
        sys.stdout = sys.__stdout__
    finally:
        os.close(devnull)
