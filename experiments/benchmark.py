"""How fast this is, beside its peers, on your machine.

  python -m experiments.benchmark --what=update

measures the training step beside the chapter's PyTorch loop: every contender in its own process, pinned to
the same one and then two processors, all taking turns, medians of at least 7 rounds. About 7 minutes.

Expected on one core, SmallPolicy: 64 to 70 % of the rate of a large matrix product. The ratio to
PyTorch depends on the processor: measured on a Zen 4 core, where torch multiplies large matrices at 0.8 of
our rate, 2.2 times eager, 1.5 times the best of fused and compiled, 2.3 times the loop with its
DataLoader (drill 1: 2.5, 2.0, 3.3). The peers need

  pip install -r third_party/requirements.txt

and `--torch_python` may name another interpreter that has it. Writes `benchmark.json` and the tables as
`benchmark.txt` into --out.
"""

import importlib
import sys
import time
from typing import Any

from absl import flags

from experiments import (
    entry,
    run_folder,
    shared_flags,  # noqa: F401 - defines --out and --smoke
)
from experiments.benchmarks.settings import Settings

# Subject -> the module under experiments/benchmarks/ whose `records(settings)` checks its input, then gives
# (record, text) pairs as they come. A new subject is a file and a line here; it is imported when asked for.
SUBJECTS = {
    "update": "update",
    "jacobian": "jacobian",
    "inverse": "inverse",
    "samplers": "samplers",
    "losses": "losses",
    "ppo": "ppo",
    "latency": "latency",
}

_SMOKE_SECONDS = 0.05
_FLAGS = ("what", "out", "rounds", "round_seconds", "threads", "long", "torch_python", "smoke")
flags.DEFINE_enum("what", "update", list(SUBJECTS), "what to measure")
flags.DEFINE_integer("rounds", 9, "rounds; medians are over these", lower_bound=7)
flags.DEFINE_float("round_seconds", 0.5, "length of one contender's turn", lower_bound=0.01)
flags.DEFINE_multi_enum(
    "threads", ["1", "2"], ["1", "2"], "numbers of threads to measure with; may be repeated"
)
flags.DEFINE_boolean("long", False, "compare the first steps with those after 100,000, not 10,000")
flags.DEFINE_string("torch_python", None, "interpreter that has torch; by default this one")


def main(_: list[str]) -> None:
    f = flags.FLAGS
    start = time.monotonic()
    out = f.out or run_folder.default_out("benchmark", f.what, 0)
    settings = Settings(
        python=f.torch_python or sys.executable,
        threads=(1,) if f.smoke else tuple(int(number) for number in f.threads),
        rounds=2 if f.smoke else f.rounds,
        seconds=_SMOKE_SECONDS if f.smoke else f.round_seconds,
        long=f.long,
        smoke=f.smoke,
    )
    module = importlib.import_module(f"experiments.benchmarks.{SUBJECTS[f.what]}")
    subject = module.records(settings)
    with run_folder.acquire(out) as folder:
        folder.write_config({name: f[name].value for name in _FLAGS})
        records, texts = [], []
        for record, text in subject:
            print(text, flush=True)
            records.append(record)
            texts.append(text)
            run_folder.write_json(folder.path / "benchmark.json", {"what": f.what, "records": records})
            (folder.path / "benchmark.txt").write_text("\n".join(texts))
        if hasattr(module, "draw"):
            module.draw(records, folder.path / "benchmark.png")
        folder.write_summary(_summary(f.what, str(folder.path), records, time.monotonic() - start))
        print(f"written: {folder.path / 'benchmark.json'}")


def _summary(what: str, out: str, records: list[dict[str, Any]], wall_seconds: float) -> run_folder.Summary:
    """The documented fields; the targets that were missed are the findings."""
    targets = [target for record in records for target in record.get("targets", ())]
    return run_folder.Summary(
        status="finished",
        loss="ce" if what == "update" else "",
        data="random_bins" if what == "update" else "",
        out=out,
        seed=0,
        steps=0,
        steps_per_second=None,
        wall_seconds=wall_seconds,
        train_loss=None,
        val_loss=None,
        floor=None,
        parameters_sha256=None,
        findings=tuple("missed: " + target["text"] for target in targets if not target["reached"]),
        extra={"targets": targets},
    )


if __name__ == "__main__":
    entry.run(main)
