"""From files, or from a seed, to windows of numbers that a policy can be trained on."""
