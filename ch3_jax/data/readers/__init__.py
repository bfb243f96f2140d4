"""One file per format: each turns a folder into a `Source` of episodes and refuses what it cannot read."""
