"""Networks, each a pair of pure functions."""
