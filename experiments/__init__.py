"""What a person runs: `python -m experiments.train --help`."""
