"""Learners of lift, of the response without a message, and of affinity."""
