"""How experiments start and stop, mostly seen from outside: exit code, stdout, stderr."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ch3_jax.errors import InputError
from experiments import entry

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = '''"""A small experiment."""
import os, sys, time
from absl import flags
from ch3_jax.errors import InputError
from experiments import entry
flags.DEFINE_enum("loss", "ce", ["ce", "mse"], "what to minimise")
flags.DEFINE_integer("bins", 256, "categories", lower_bound=1)
flags.DEFINE_float("learning_rate", 1e-4, "step size", lower_bound=0.0)
flags.DEFINE_bool("smoke", False, "few steps")
flags.DEFINE_string("do", "nothing", "what main does")
def main(argv):
    do = flags.FLAGS.do
    if do == "refuse":
        print("before")
        raise InputError("no data", got="/x", expected="a folder", cause="typo", fix="check")
    if do == "defect":
        raise ZeroDivisionError("a defect")
    if do == "write":
        with open("/dev/full", "w") as file:
            file.write("x")
    if do == "print":
        print("x" * 100)
    if do == "code":
        return 7
    if do == "wait":
        print("ready", flush=True)
        time.sleep(30)
    if do == "loop":
        with entry.Interrupt() as interrupt:
            print("ready", flush=True)
            while not interrupt.requested:
                time.sleep(0.01)
            print("saved after", interrupt.requested)
entry.run(main)
'''


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, *arguments]


def started(*arguments: str) -> subprocess.Popen:
    process = subprocess.Popen(
        command(*arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


def ended(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--loss=nope"], ["--loss cannot be nope", "one of ce, mse", "what to minimise"]),
        (["--bins=0"], ["got:          --bins=0", "a positive integer"]),
        (["--bins=many"], ["--bins=many", "a positive integer", "invalid literal"]),
        (["--learning_rate=-1"], ["--learning_rate=-1", "non-negative"]),
        (["--learning_rate=nan"], ["--learning_rate cannot be nan", "no number"]),
        (["--los=ce"], ["there is no flag --los\n", "got:          --los\n", "expected:     --loss\n"]),
        (["--zzzzzzzz"], ["there is no flag --zzzzzzzz", "--help"]),
        (["--bins"], ["Missing value for flag", "bins"]),
        (["loss=mse"], ["words that are no flags", "loss=mse"]),
        (["--smoke=perhaps"], ["--smoke cannot be perhaps", "true or false"]),
        (["--do=refuse"], ["no data", "likely cause: typo"]),
        (["--do=write"], ["cannot be written", "No space left on device", "disk is full"]),
    ],
)
def test_bad_input_is_one_screen_and_code_2(arguments, words):
    done = ended(*arguments)
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 8, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    for row in ("got:", "expected:", "likely cause:", "next step:"):
        assert row in done.stderr, done.stderr


def test_help_is_no_failure():
    done = ended("--help")
    assert done.returncode == 0 and "--loss: <ce|mse>" in done.stdout and "Traceback" not in done.stderr


def test_codes_of_ordinary_ends():
    assert ended().returncode == 0
    assert ended("--do=code").returncode == 7
    defect = ended("--do=defect")
    assert defect.returncode == 1 and "ZeroDivisionError" in defect.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("do", ["print", "refuse"])
def test_a_full_stdout(do):
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command(f"--do={do}"), cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, env=buffered
        )
    assert done.returncode == 2 and "Traceback" not in done.stderr and "likely cause" in done.stderr


def test_ctrl_c_outside_a_loop():
    process = started("--do=wait")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 130 and errors.strip() == "interrupted"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_the_loop_to_stop(number):
    process = started("--do=loop")
    process.send_signal(number)
    output, errors = process.communicate(timeout=10)
    assert (process.returncode, output, errors) == (0, f"saved after {number.name}\n", "")


def test_interrupt_counts_and_restores():
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    with entry.Interrupt() as interrupt:
        assert interrupt.requested is None
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.requested == "SIGTERM"
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.requested == "SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
    assert {n: signal.getsignal(n) for n in before} == before


def test_interrupt_restores_after_an_error_and_nests():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), entry.Interrupt(), entry.Interrupt():
        1 / 0  # noqa: B018
    assert signal.getsignal(signal.SIGINT) is before


def test_interrupt_in_another_thread_leaves_signals_alone():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with entry.Interrupt() as interrupt:
            seen.append((interrupt.requested, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(None, before)]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EPERM])
def test_errors_of_the_disk_are_refusals(code, capsys):
    def main():
        raise OSError(code, os.strerror(code), "/some/file")

    assert entry.refusing(main)() == 2
    message = capsys.readouterr().err
    assert message.startswith("/some/file cannot be written or read\n") and os.strerror(code) in message


def test_other_errors_stay_errors():
    def main(error):
        raise error

    for error in (OSError(errno.EIO, "broken"), ValueError("a defect"), FileNotFoundError(2, "none")):
        with pytest.raises(type(error)):
            entry.refusing(main)(error)


def test_refusing_passes_values_through(capsys):
    assert entry.refusing(lambda x: x)(3) == 3

    def main():
        raise InputError("p", got=1, expected=2, cause="c", fix="f")

    assert entry.refusing(main)() == 2
    assert capsys.readouterr().err == str(InputError("p", got=1, expected=2, cause="c", fix="f")) + "\n"
