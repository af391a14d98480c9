"""A small bundle, and real servers of it on loopback."""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.bundles import OF_VOTERS, Served, sample_bundle
from tests.servers import free_port, serving

KEYS = (("Ada", "watch"), ("canvass app", "score", "plan"), ("Ben", "pause", "watch"))
"""Names and roles of keys beside the operator's; see `key_of`."""
KEY = "a-key-of-the-tests-of-22-letters"


@pytest.fixture(scope="package", autouse=True)
def voter_key_of_bundles() -> Iterator[None]:
    """The secret that a bundle needs which is served away from its campaign.

    Not for a session: tests of other folders must not find it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUSTINGS_VOTER_KEY", OF_VOTERS.key.hex())
        yield


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    log: Path

    def client(self, **headers: str) -> httpx.Client:
        given = headers or {"Authorization": f"Bearer {KEY}"}
        return httpx.Client(base_url=self.url, headers=given, timeout=60.0)

    def get(self, path: str) -> httpx.Response:
        with self.client() as client:
            return client.get(path)

    def post(self, path: str, body: Any) -> httpx.Response:
        with self.client() as client:
            return client.post(path, json=body)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """The sample campaign on 3,000 voters, with lifts that differ between them."""
    home = tmp_path_factory.mktemp("served")
    return sample_bundle(home, n_voters=3_000, n_messages=3)


def key_of(name: str) -> str:
    """The key of a name."""
    return "-".join([name.replace(" ", "-")] * 8)


def line_of(name: str, *roles: str, **limits: float) -> dict[str, Any]:
    """A line of the file of keys."""
    digest = hashlib.sha256(key_of(name).encode()).hexdigest()
    return {"name": name, "roles": roles, "sha256": digest, **limits}


@contextmanager
def running(
    command: Sequence[str], *, cwd: Path, home: Path, env: Mapping[str, str]
) -> Iterator[Server]:
    """A server process from its first answer until the end of the block."""
    port, log = free_port(), home / "server.log"
    server = Server(f"http://127.0.0.1:{port}", log)

    def ready() -> bool:
        try:
            return server.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    there = {
        **os.environ,
        "BENTOML_HOME": str(home / "bentoml"),
        "HUSTINGS_API_KEY": KEY,
        "HUSTINGS_VOTER_KEY": OF_VOTERS.key.hex(),
        **env,
    }
    line = [*command, "--port", str(port)]
    with serving(line, ready=ready, home=home, cwd=cwd, env=there, end_by="SIGINT"):
        yield server


@pytest.fixture(scope="session")
def run_server() -> Callable[..., AbstractContextManager[Server]]:
    return running


@contextmanager
def serving_bundle(served: Served, home: Path, **env: str) -> Iterator[Server]:
    """The bundle behind `serve_bundle`, as `hustings serve` starts it."""
    code = (
        "import sys; from pathlib import Path; "
        "from hustings.serving.service import serve_bundle; "
        "serve_bundle(Path(sys.argv[1]), port=int(sys.argv[3]))"
    )
    command = [sys.executable, "-c", code, str(served.folder)]
    keys = home / "keys.json"
    keys.write_text(
        json.dumps({"keys": [line_of(name, *roles) for name, *roles in KEYS]})
    )
    given = {"HUSTINGS_KEYS": str(keys), **env}
    with running(command, cwd=home, home=home, env=given) as started:
        yield started


@pytest.fixture(scope="session")
def server(
    served: Served, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with serving_bundle(served, tmp_path_factory.mktemp("server")) as started:
        yield started
