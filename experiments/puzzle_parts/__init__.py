"""Parts of the puzzle."""
