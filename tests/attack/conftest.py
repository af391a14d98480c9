"""The server that is attacked: of its own, for what is sent to it is kept."""

from tests.serving.conftest import served, server, voter_key_of_bundles

__all__ = ["served", "server", "voter_key_of_bundles"]
