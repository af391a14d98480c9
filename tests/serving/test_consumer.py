"""A broker's message is acknowledged once it is on disk, and comes to nothing else."""

import importlib.util
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hustings.serving.reactions.broker import GROUP, STREAM, broker_class
from hustings.serving.reactions.store import Events
from tests.checkout import ROOT, environment
from tests.servers import serving

redis = pytest.importorskip("redis", reason="pip install 'hustings[stream]'")
pytest.importorskip("faststream", reason="pip install 'hustings[stream]'")
CONSUMER = """
import sys
from pathlib import Path
from hustings.serving.reactions import broker
from hustings.serving.reactions.store import Events
from hustings.serving.reactions.http import Intake
broker.CLAIM_AFTER_MS = 500
broker.consume(Intake(Events.open(Path(sys.argv[1]))), sys.argv[2])
"""


def event(event_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "event_id": event_id, "post_id": "p", "platform": "facebook", "kind": "like",
        "occurred_at": "2026-09-01T10:00:00Z", **fields,
    }  # fmt: skip


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of our own on a socket in a temporary folder."""
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("redis-server is not installed")
    folder = tmp_path_factory.mktemp("redis")
    path = folder / "redis.sock"
    command = [
        server,
        "--port",
        "0",
        "--unixsocket",
        path,
        "--save",
        "",
        "--dir",
        folder,
    ]
    with serving(command, ready=path.exists, home=folder):
        yield f"unix://{path}"


def until(holds: Callable[[], Any], *, within_s: float = 120.0) -> None:
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


def start(store: Path, address: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", CONSUMER, str(store), address],
        cwd=ROOT, env=environment(),
    )  # fmt: skip


def n_kept(store: Path) -> int:
    if not store.exists():
        return 0
    events = Events.open(store)
    frame, _ = events.since()
    events.close()
    assert frame["event_id"].is_unique
    return len(frame)


def test_what_is_in_the_stream_is_kept_once_whoever_dies(address, tmp_path):
    """Two consumers are killed in mid-load; poison does not stop the third."""
    store, client = tmp_path / "events.db", redis.Redis.from_url(address)
    # what was there before any consumer is taken, too
    send(client, 0, 300)
    for kill in range(2):
        consumer = start(store, address)
        send(client, 300 + 300 * kill, 600 + 300 * kill)
        until(lambda goal=150 + 300 * kill: n_kept(store) > goal)
        consumer.send_signal(signal.SIGKILL)
        consumer.wait()
    for poison in (b"\xff\xfe", b"{", b'"joe@example.org"'):
        client.xadd(STREAM, {"data": poison})
    client.xadd(STREAM, {"other": "field"})
    client.xadd(STREAM, {"data": json.dumps({"events": [event("900"), event("901")]})})
    last = start(store, address)
    try:
        until(lambda: n_kept(store) == 902)
        # everything was acknowledged, the poison and what the dead had taken included
        until(lambda: client.xpending(STREAM, GROUP)["pending"] == 0)
        last.send_signal(signal.SIGTERM)
        assert last.wait(timeout=20) == 0
    finally:
        last.kill()
        last.wait()
    events = Events.open(store)
    assert sorted(map(int, events.since()[0]["event_id"])) == list(range(902))
    told = events.quarantine()
    assert len(told) == 4
    assert "joe" not in told.to_csv()
    events.close()


def send(client: Any, first: int, end: int) -> None:
    for i in range(first, end):
        client.xadd(STREAM, {"data": json.dumps(event(str(i)))})


@pytest.mark.parametrize(
    ("address", "failure", "told"),
    [
        ("mqtt://host", ValueError, "begins with one of redis://"),
        ("localhost:6379", ValueError, "expected a broker's address"),
        ("kafka://host", ModuleNotFoundError, r"faststream\[kafka\]"),
    ],
)
def test_a_broker_that_cannot_be_reached_by_us_is_told(address, failure, told):
    if failure is ModuleNotFoundError and importlib.util.find_spec("aiokafka"):
        pytest.skip("this client is installed")
    with pytest.raises(failure, match=told):
        broker_class(address)
