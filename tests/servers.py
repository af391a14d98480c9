"""Servers that tests start: each ends with the test process, however that ends."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.checkout import environment

SUPERVISE = Path(__file__).with_name("supervise.py")
START_WITHIN_S = 120.0
END_WITHIN_S = 45.0


@contextmanager
def serving(
    command: Sequence[str | Path],
    *,
    ready: Callable[[], bool],
    home: Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    end_by: str = "SIGTERM",
    user: str = "-",
) -> Iterator[subprocess.Popen[bytes]]:
    """A server from its first answer until the end of the block.

    Args:
        command: Of the server, which stays in the foreground.
        ready: Whether it answers yet.
        home: Gets `server.log`.
        cwd: Where it runs; `home` by default.
        env: Its whole environment; this checkout's by default.
        end_by: Signal that asks it to end.
        user: Name of the user it runs as; "-" for this process's own.
    """
    log = home / "server.log"
    line = [sys.executable, "-S", "-E", SUPERVISE, end_by, user, *command]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(part) for part in line],
            stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT,
            cwd=cwd or home, env=environment() if env is None else dict(env),
            start_new_session=True,
        )  # fmt: skip
    assert process.stdin is not None
    try:
        until = time.monotonic() + START_WITHIN_S
        while not ready():
            if process.poll() is not None or time.monotonic() > until:
                said = log.read_text(errors="replace")[-4000:]
                pytest.fail(f"the server did not start:\n{said}")
            time.sleep(0.1)
        yield process
    finally:
        process.stdin.close()
        process.wait(timeout=END_WITHIN_S)


def free_port() -> int:
    """A port of loopback that nobody listens to."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port
