"""Reactions as they come: payloads, the event store, HTTP and the broker."""
