"""Backup of a campaign into one file, and its restoration."""
