"""Estimators of lift and policy value: scores, paths, intervals, compliance, votes."""
