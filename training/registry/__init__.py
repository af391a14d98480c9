"""Tuning, tracking and registering models with Optuna and MLflow."""
