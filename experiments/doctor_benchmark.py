"""The scoreboard of the doctor: does it find what is broken, name it, and leave the healthy in peace?

  python -m experiments.doctor_benchmark

trains and examines every fault of the catalogue at three severities with ten seeds, and 120 healthy runs,
half of them look-alikes: about 1,300 runs, some hours on two cores. `--seeds`, `--severities`, `--healthy`
and `--faults` make it smaller, `--smoke` shows that it works. The same runs go through published rules
(SageMaker Debugger, AutoTrainer, UMLAUT, and nothing at all). What does not hurt is not counted.

Each run is a JSON line in the run folder, so a stopped scoreboard goes on with the same command and `--out`;
`--report` prints the table of what is there. Writes cases-*.jsonl, scoreboard.json, scoreboard.txt.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from absl import flags

from experiments import (
    entry,
    shared_flags,  # noqa: F401 - defines --out and --smoke
)
from experiments.progress import Progress

_PATIENCE_S = 0.5
_ROOT = Path(__file__).resolve().parents[1]
_ONE_THREAD = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
}


def define_flags() -> None:
    """The flags of this command, defined when it runs."""
    severities = ["mild", "middle", "strong"]
    flags.DEFINE_integer("seeds", 10, "of every fault and severity", lower_bound=1, upper_bound=1_000)
    flags.DEFINE_multi_enum("severities", severities, severities, "which")
    flags.DEFINE_integer("healthy", 120, "healthy runs, every second a look-alike", lower_bound=0)
    flags.DEFINE_integer("steps", None, "at most so many updates of each run", lower_bound=100)
    flags.DEFINE_list("faults", [], "ids; all where none is given")
    flags.DEFINE_list("checks", list("1234567"), "of the doctor")
    flags.DEFINE_integer("first_seed", 100, "other runs of everything", lower_bound=0)
    flags.DEFINE_enum("half", None, ["tuning", "held out"], "only this half; both where none is given")
    flags.DEFINE_integer("workers", 2, "processes", lower_bound=1, upper_bound=64)
    flags.DEFINE_bool("report", False, "print the table of what is finished, and run nothing")


def main(_: list[str]) -> int:
    """Runs what is missing, then prints the table."""
    f = flags.FLAGS
    folder = Path(f.out or "runs/doctor-benchmark").expanduser()
    settings = _settings(f)
    folder.mkdir(parents=True, exist_ok=True)
    requested = None
    if not f.report:
        with entry.Interrupt() as interrupt:
            _run(folder, settings, f.workers, interrupt)
            requested = interrupt.requested
    from experiments.scoreboard import table, worker

    lines = worker.read(folder)
    text = table.page(lines)
    scores = {
        half: {who: table.score([x for x in lines if x["half"] == half], who) for who in _tools()}
        for half in table.HALVES
    }
    (folder / "scoreboard.txt").write_text(text + "\n")
    (folder / "scoreboard.json").write_text(json.dumps({"settings": settings, "scores": scores}, indent=1))
    print(text, flush=True)
    if requested:
        print(f"\ninterrupted; finished runs are kept. To go on: the same command with --out={folder}")
        return 128 + getattr(signal, requested)
    return 0


def _tools() -> tuple[str, ...]:
    from experiments.scoreboard import baselines, table

    return (table.DOCTOR, *baselines.BASELINES)


def _settings(f) -> dict:
    """Settings as the workers read them; a fault or check that does not exist is refused."""
    from ch3_jax.errors import InputError
    from ch3_jax.faults.catalogue import FAULTS

    unknown = [name for name in f.faults if name not in FAULTS]
    wrong = [check for check in f.checks if check not in set("1234567")]
    if unknown or wrong:
        raise InputError(
            f"{(unknown or wrong)[0]!r} is no {'fault' if unknown else 'check'}",
            got=", ".join(unknown or wrong),
            expected=", ".join(FAULTS) if unknown else "1 to 7",
            cause="a mistyped name",
            fix="leave the flag out for all",
        )
    chosen = {
        "seeds": f.seeds,
        "severities": f.severities,
        "healthy": f.healthy,
        "steps": f.steps,
        "faults": f.faults,
        "checks": [int(check) for check in f.checks],
        "half": f.half or "",
        "first": f.first_seed,
    }
    small = {"seeds": 1, "severities": ["strong"], "healthy": 2, "steps": 100}
    return chosen | small | {"faults": ["B07"], "checks": [1, 2]} if f.smoke else chosen


def _run(folder: Path, settings: dict, workers: int, interrupt: entry.Interrupt) -> None:
    """Starts the workers and waits; they are in sessions of their own, so that Ctrl-C reaches us alone."""
    from experiments.scoreboard import cases, worker

    planned = cases.cases(
        cases.Settings(**{k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})
    )
    keys = {case.key for case in planned}
    workers = min(workers, len(planned))
    started = []
    try:
        for share in range(workers):
            words = ["-m", "experiments.scoreboard.worker", str(folder), json.dumps(settings)]
            with (folder / f"worker-{share}.log").open("w") as log:
                started.append(
                    subprocess.Popen(
                        [sys.executable, *words, str(share), str(workers)],
                        cwd=_ROOT,
                        env=os.environ | _ONE_THREAD | _compiled_once(folder) | {"PYTHONPATH": str(_ROOT)},
                        stderr=log,
                        start_new_session=True,
                    )
                )
        already = len(keys & {line["key"] for line in worker.read(folder)})
        with Progress(len(planned), start=already) as progress:
            while any(process.poll() is None for process in started) and not interrupt.requested:
                time.sleep(_PATIENCE_S)
                progress.update(len(keys & {line["key"] for line in worker.read(folder)}))
        for share, process in enumerate(started):
            if process.poll() not in (None, 0):
                last = (folder / f"worker-{share}.log").read_text().strip().splitlines()[-1:]
                raise ChildProcessError(f"a process ended: {last[0] if last else 'without a word'}")
    finally:
        for process in started:
            process.kill()
            process.wait()


def _compiled_once(folder: Path) -> dict[str, str]:
    """Both processes, and the next start, find what one of them has compiled; most of the time goes there."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str((folder / "compiled").resolve()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


if __name__ == "__main__":
    define_flags()
    entry.run(main)
