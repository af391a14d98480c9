"""The server that is attacked: of its own, for what is sent to it is kept."""

from collections.abc import Iterator

import pytest

from tests.serving.conftest import served, server, voter_key_of_bundles

__all__ = ["served", "server", "voter_key_of_bundles"]


@pytest.fixture(scope="session", autouse=True)
def key_of_persons() -> Iterator[None]:
    """Without it, an event that names a person is to be sent again later: 503."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUSTINGS_LINK_KEY", "a-secret-of-the-attacks-of-32-bytes")
        yield
