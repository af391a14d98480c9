"""Simulated months: worlds with known truth, rival policies, the judged loop."""
