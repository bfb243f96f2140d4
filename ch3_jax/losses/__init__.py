"""Losses as pure functions, un-reduced."""

from ch3_jax.losses import supervised as supervised
