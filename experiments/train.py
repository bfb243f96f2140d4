"""Trains a policy: the main job.

  python -m experiments.train --loss=ce

trains SmallPolicy by cross-entropy on 256 bins per action dimension, on a million embedded pairs, and ends
within 1 % of the theoretical floor of 3.5491 nats, in about a minute on two cores.

  python -m experiments.train --loss=flow --sampler=heun --sampling_steps=5

trains another family: `mse l1 huber` (one number), `gmm cvae` (a law), `denoising ddpm flow consistency`
(from noise), `infonce` (telling apart); an option that the loss has no use for is refused. A run that samples
says at its end how far its samples are from the data. `--data` takes a folder: RLDS/TFDS, Push-T's zarr,
LeRobot v2.1 or v3.0. Everything is written to one run folder:

  config.json  statistics.json  metrics.csv  events.out.*  curves.png  checkpoints/  summary.json  report.html

The doctor runs its checks 1 to 3 before the first step, looks at the curves on the way, and writes the report
at the end; `--nodoctor` leaves it out.

Exit code 0 finished, 2 refused (one screen says why), 3 stopped at a non-finite step with the last good state
saved, 130 or 143 interrupted and saved; `--resume --out=...` goes on, bit for bit.
"""

import signal
import time

from experiments import entry, flags

NON_FINITE = 3


def main(argv: list[str]) -> int:
    """Reads, refuses or prepares, trains, reports."""
    del argv
    began = time.monotonic()
    with entry.Interrupt() as interrupt:
        # Imported here, so that --help and a misspelt flag answer at once.
        from ch3_jax.data.prepare import held_out, prepare
        from experiments import job, report, run_folder, session

        options = flags.options()
        out = run_folder.prepare(
            options.out or run_folder.default_out(options.data, options.loss, options.seed),
            options.resume,
            absent="start",
        )
        options = session.as_started(options, out)
        job.rehearse(options)
        dataset = held_out(job.read(options), options.validation, options.seed)
        options = job.settle(options, dataset)
        with job.where(options, dataset) as options:
            data = prepare(dataset, rule=options.normalize, window=options.window, horizon=options.horizon)
        page, findings = report.describe_data(dataset, data)
        run = job.build(options, data)
        print(page, flush=True)
        with run_folder.acquire(out, options.resume, absent="start") as folder:
            ended = session.train(options, dataset, data, run, folder, findings, interrupt, began)
    print(ended.text, flush=True)
    codes = {"finished": 0, "non_finite": NON_FINITE}
    return codes.get(ended.status) if ended.status in codes else 128 + getattr(signal, interrupt.requested)


if __name__ == "__main__":
    entry.run(main)
