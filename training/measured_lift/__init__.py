"""Measured lift of a campaign's own days: adaptive weights, repeats, power."""
