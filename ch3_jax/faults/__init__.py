"""What can be broken in a training run, on purpose: pure changes, each with a healthy look-alike."""
