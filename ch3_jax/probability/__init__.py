"""Distributions and what is measured of them."""
