"""Actions as tokens, and back."""
