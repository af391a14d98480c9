"""Registered model → scores, budgeted plan, scoring endpoint."""
