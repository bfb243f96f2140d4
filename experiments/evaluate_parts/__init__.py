"""What `experiments.evaluate` is made of."""
