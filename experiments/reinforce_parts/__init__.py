"""Parts of `experiments.train` for losses that are scored by an environment."""
