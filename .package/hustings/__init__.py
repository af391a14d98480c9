"""Hustings: who gets which message, by which channel, for the least money."""

__version__ = "0.1.0"
