"""Declared campaigns → every stage → a report a person reads."""
