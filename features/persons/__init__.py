"""Persons behind voter ids: identity, keys that erasure destroys, providers, links."""
