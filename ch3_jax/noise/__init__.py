"""How actions are drowned in noise, and how samplers bring them back."""
