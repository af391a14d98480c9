"""Tuning, tracking and registering models: the frameworks meet the maths here."""
