"""The server that is attacked: of its own, for what is sent to it is kept."""

from collections.abc import Iterator

import pytest

from tests.bundles import Served
from tests.serving.conftest import Server, served, serving_bundle

__all__ = ["served"]


@pytest.fixture(scope="session")
def server(
    served: Served,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    """With a key of persons: else an event that names one is refused until there is."""
    key = "a-secret-of-the-attacks-of-32-bytes"
    home = tmp_path_factory.mktemp("server")
    with serving_bundle(served, home, HUSTINGS_LINK_KEY=key) as started:
        yield started
