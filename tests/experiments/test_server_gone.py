"""An MLflow server that goes silent or away: told within half a minute, and taken up.

Between the command and a real server stands a proxy that forwards so many connections
and then holds what comes without an answer, or refuses it.
"""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hustings.experiments.cli import app
from hustings.experiments.results import RunRecord
from hustings.training.registry.register import without_user
from tests.experiments.commands import Commands
from tests.servers import free_port

TOLD_WITHIN_S = 30.0


class Proxy:
    """A server's second address, which can fall silent.

    Args:
        url: Of the real server.
    """

    def __init__(self, url: str) -> None:
        self._to = int(url.rsplit(":", 1)[1])
        self.n_forwarded = 0
        self._held: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.silent_since = 0.0
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def forward(self, n: int) -> None:
        """Forward so many more connections, then none."""
        self.n_forwarded, self.silent_since = n, 0.0

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for client in self._held:
            client.close()

    def _accept(self) -> None:
        with suppress(OSError):  # it was closed
            while True:
                client, _ = self._listener.accept()
                self.n_forwarded -= 1
                if self.n_forwarded < 0:
                    self.silent_since = self.silent_since or time.monotonic()
                    self._held.append(client)
                    continue
                server = socket.create_connection(("127.0.0.1", self._to))
                self._held += [client, server]
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=_copy, args=ends, daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            # one request a connection, so that each is counted
            sink.sendall(data.replace(b"keep-alive", b"close", 1))
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxy(mlflow_server: str) -> Iterator[Proxy]:
    with closing(Proxy(mlflow_server)) as between:
        yield between


def words(folder: Path, url: str, *more: str) -> list[str]:
    return [
        "run", "--campaign", "sample", "--voters", "1500", "--trials", "1",
        "--data", str(folder / "runs"), "--mlflow", url, *more,
    ]  # fmt: skip


@pytest.mark.slow
def test_a_server_that_falls_silent_is_told_and_the_run_is_taken_up(
    proxy: Proxy, tmp_path: Path
) -> None:
    log = tmp_path / "said.txt"
    proxy.forward(5)
    with Commands(str(log)) as commands:
        assert commands.done(*words(tmp_path, proxy.url)) == 1, log.read_text()
        assert 0 < time.monotonic() - proxy.silent_since < TOLD_WITHIN_S
        said = " ".join(log.read_text().split())
        assert f"{proxy.url}: expected an MLflow server, it does not answer" in said
        home = tmp_path / "runs" / "sample"
        assert not (home / "latest").exists()
        (stopped,) = home.glob(".*.stopped")
        run_id = stopped.name.removeprefix(".").removesuffix(".stopped")
        assert (
            f"stopped before `train` and is kept: the same command with --run {run_id}"
            in said
        )
        # it goes on with what it had stopped before, also where nobody listens
        nobody = f"http://127.0.0.1:{free_port()}"
        begun = time.monotonic()
        assert commands.done(*words(tmp_path, nobody, "--run", run_id)) == 1
        assert time.monotonic() - begun < TOLD_WITHIN_S
        said = " ".join(log.read_text().split())
        assert "train ..." in said
        assert "ingest ..." not in said
        assert stopped.is_dir()
        assert commands.done(*words(tmp_path, nobody, "--run", "no-such-run")) == 3


def test_a_run_that_waits_for_a_server_holds_up_no_other_command(
    tmp_path: Path,
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    run = tmp_path / "sample" / "r1"
    run.mkdir(parents=True)
    record = RunRecord(run_id="r1", mlflow_uri=nobody).to_json()
    (run / "run.json").write_text(json.dumps(record))
    (run / "promoted.json").write_text(json.dumps({"kept": ""}))
    waits = {"champion": {"by": "A. Pell", "at": "2026-09-01"}}
    (run / "unpublished.json").write_text(json.dumps(waits))
    words = ["plans", "list", "--campaign", "sample", "--data", str(tmp_path)]
    listed = CliRunner().invoke(app, words)
    assert listed.exit_code == 0, listed.output
    said = " ".join(listed.output.split())
    assert f"Not yet published: {nobody}: expected an MLflow server" in said
    assert (run / "unpublished.json").exists()


@pytest.mark.parametrize(
    ("uri", "kept"),
    [
        ("https://ada:secret@host:5000/at", "https://host:5000/at"),
        ("postgresql://ada:se@cret@host/db", "postgresql://host/db"),
        ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
        ("http://host", "http://host"),
    ],
)
def test_a_run_keeps_no_password_of_its_store(uri: str, kept: str) -> None:
    assert without_user(uri) == kept
