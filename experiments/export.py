"""Writes a data set as RLDS: a TFDS folder of array_record files, without TensorFlow.

  python -m experiments.export --data=random_bins --seed=42 --out=data

writes data/random_bins/1.0.0 in a second; `tfds.builder_from_directory` and `experiments.train
--data=data/random_bins/1.0.0` read it back, number for number. Embedded sets put a thousand pairs
into one episode.
"""

from experiments import entry, flags


def main(argv: list[str]) -> int:
    """Reads `--data`, writes it below `--out`."""
    del argv
    from ch3_jax.data.builders import write_rlds
    from ch3_jax.errors import InputError
    from experiments import job

    options = flags.options()
    if not options.out:
        raise InputError(
            "--out is missing",
            got="no folder",
            expected="the folder in which <name>/<version> is made",
            cause="a data set has no run folder to default to",
            fix="--out=data",
        )
    dataset = job.read(options)
    folder = write_rlds(dataset, options.out)
    sizes = ", ".join(f"{name} {len(steps):,} steps" for name, steps in dataset.splits.items())
    print(f"{dataset.facts.name}: {sizes}\nread it with: python -m experiments.train --data={folder}")
    return 0


if __name__ == "__main__":
    entry.run(main)
