"""Simulated campaigns with planted truth: voters, tests, organic reactions."""
