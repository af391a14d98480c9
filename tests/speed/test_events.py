"""How many events a second are taken in, how soon they are on disk, what a kill costs.

`pytest tests/speed/test_events.py -q -s -m speed` prints the figures. The service is a
real process of BentoML, the broker a real Redis; senders and servers share the machine.
"""

import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from hustings.serving.reactions.broker import STREAM
from tests.checkout import environment
from tests.serving.conftest import served  # noqa: F401 - a fixture

pytestmark = pytest.mark.speed

ROOT = Path(__file__).parents[2]
KEY = "a-key-of-the-benchmark-0123456789"
SENDERS = 4
SECONDS = 8.0
N_KILLS = 20
STREAMED = 100_000
PER_SECOND = 1_000
SERVER = """
import sys
from pathlib import Path
from hustings.serving.service import serve_bundle
serve_bundle(Path(sys.argv[1]), port=int(sys.argv[2]))
"""
CONSUMER = """
import sys
from pathlib import Path
from hustings.serving.reactions import broker
from hustings.serving.reactions.store import Events
from hustings.serving.reactions.http import Intake
broker.CLAIM_AFTER_MS = 2000
broker.consume(Intake(Events.open(Path(sys.argv[1]))), sys.argv[2])
"""


def event(event_id: str) -> dict[str, Any]:
    return {
        "event_id": event_id, "message_id": "m1", "platform": "facebook",
        "kind": "like", "occurred_at": "2026-09-01T10:00:00Z", "place": "26161",
        "age_band": "30-44", "sex": "F",
    }  # fmt: skip


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    def write(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"{line}\n")

    return write


def ids_kept(store: Path) -> list[str]:
    with closing(sqlite3.connect(store)) as connection:
        rows = connection.execute("SELECT event_id FROM reaction_events").fetchall()
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return [row[0] for row in rows]


def until(holds: Callable[[], Any], within_s: float = 120.0) -> None:
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


# --- POST /reactions ------------------------------------------------------------------


@contextmanager
def serving(bundle: Path, store: Path, home: Path) -> Iterator[tuple[str, Any]]:
    """The service, killed with its workers at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {
        **environment(), "HUSTINGS_API_KEY": KEY,
        "HUSTINGS_EVENTS": str(store), "BENTOML_HOME": str(home / "bentoml"),
    }  # fmt: skip
    log = (home / "server.log").open("a")
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(bundle), str(port)],
        cwd=home, env=env, stdout=log, stderr=log,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: _ready(url))
        yield url, process
    finally:
        kill_whole(process)
        log.close()


def kill_whole(process: subprocess.Popen[Any]) -> None:
    """SIGKILL the server and its workers, which have process groups of their own."""
    if process.poll() is None:
        server = psutil.Process(process.pid)
        # the server first: it would start a worker anew
        for one in [server, *server.children(recursive=True)]:
            one.kill()
        process.wait()


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@dataclass
class Load:
    """What senders sent and what was acknowledged to them."""

    acknowledged: list[str] = field(default_factory=list)
    left: list[list[str]] = field(default_factory=list)
    took_ms: list[float] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)

    def run(self, url: str, batch: int, seconds: float, name: str) -> threading.Event:
        """Start the senders; the event that comes back is set when all have ended."""
        end, over = time.monotonic() + seconds, threading.Event()
        senders = [
            threading.Thread(target=self._send, args=(url, batch, end, f"{name}-{i}"))
            for i in range(SENDERS)
        ]

        def wait() -> None:
            for sender in senders:
                sender.join()
            over.set()

        for sender in senders:
            sender.start()
        threading.Thread(target=wait).start()
        return over

    def _send(self, url: str, batch: int, end: float, name: str) -> None:
        with httpx.Client(base_url=url, headers={"X-API-Key": KEY}, timeout=60) as http:
            n = 0
            while time.monotonic() < end:
                with self.lock:
                    ids = self.left.pop() if self.left else None
                if ids is None:
                    ids = [f"{name}-{n + i}" for i in range(batch)]
                    n += batch
                body = json.dumps({"events": [event(i) for i in ids]})
                began = time.perf_counter()
                try:
                    answer = http.post("/reactions", content=body)
                    told = answer.json() if answer.status_code == 200 else None
                except (httpx.TransportError, json.JSONDecodeError):
                    told = None
                spent = (time.perf_counter() - began) * 1e3
                with self.lock:
                    if told is None:  # to be sent again to the next server
                        self.left.append(ids)
                        return
                    assert told["accepted"] + told["duplicate"] == len(ids)
                    self.acknowledged += ids
                    self.took_ms.append(spent)


def test_events_a_second_through_batched_requests(served, tmp_path, say):  # noqa: F811
    say(f"\n{'POST /reactions':24}{'events/s':>10}{'p50 ms':>9}{'p99 ms':>9}")
    store = tmp_path / "events.db"
    with serving(served.folder, store, tmp_path) as (url, _):
        everything: list[str] = []
        for batch in (1, 100, 1_000):
            load = Load()
            began = time.monotonic()
            load.run(url, batch, SECONDS, f"b{batch}").wait()
            rate = len(load.acknowledged) / (time.monotonic() - began)
            p50, p99 = np.percentile(load.took_ms, [50, 99])
            name = f"{batch:,} a request"
            say(f"{name:24}{rate:10,.0f}{p50:9.1f}{p99:9.1f}")
            assert not load.left
            everything += load.acknowledged
    kept = ids_kept(store)
    assert len(kept) == len(set(kept)) == len(everything)
    assert set(kept) == set(everything)


def test_twenty_kills_in_mid_load_lose_and_double_nothing(served, tmp_path, say):  # noqa: F811
    """Every kill is a SIGKILL of the whole service while four senders send."""
    store, load, rng = tmp_path / "events.db", Load(), np.random.default_rng(20)
    for kill in range(N_KILLS):
        with serving(served.folder, store, tmp_path) as (url, process):
            before = len(load.acknowledged)
            over = load.run(url, 50, 60.0, f"k{kill}")
            until(lambda n=before: len(load.acknowledged) > n)
            time.sleep(float(rng.uniform(0.2, 0.8)))
            kill_whole(process)
            assert over.wait(20), "the senders still find a server"
    with serving(served.folder, store, tmp_path) as (url, _):
        load.run(url, 50, 2.0, "last").wait()
    kept, acknowledged = ids_kept(store), set(load.acknowledged)
    lost, strange = acknowledged - set(kept), set(kept) - acknowledged
    say(
        f"{N_KILLS} kills: {len(acknowledged):,} acknowledged, {len(lost)} lost, "
        f"{len(kept) - len(set(kept))} doubled, {len(strange)} kept unacknowledged"
    )
    assert not lost
    assert len(kept) == len(set(kept)) == len(load.acknowledged)
    assert not strange


# --- the consumer ---------------------------------------------------------------------


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("redis-server is not installed")
    path = tmp_path / "redis.sock"
    process = subprocess.Popen(
        [server, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir",
         str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(path.exists)
        yield f"unix://{path}"
    finally:
        process.kill()
        process.wait()


@contextmanager
def consuming(store: Path, address: str) -> Iterator[Any]:
    process = subprocess.Popen(
        [sys.executable, "-c", CONSUMER, str(store), address],
        cwd=ROOT, env=environment(),
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def n_kept(store: Path) -> int:
    if not store.exists():
        return 0
    # counted, for an event that comes twice uses up a seq as well
    asked = "SELECT COUNT(*) FROM reaction_events"
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        try:
            found: int = connection.execute(asked).fetchone()[0]
        except sqlite3.OperationalError:  # its tables are being made
            return 0
    return found


def test_events_a_second_through_the_consumer(address, tmp_path, say):
    redis = pytest.importorskip("redis")
    client, store = redis.Redis.from_url(address), tmp_path / "events.db"
    say(f"\n{'consumer, Redis stream':24}{'events/s':>10}{'p50 ms':>9}{'p99 ms':>9}")
    for batch in (1, 100):
        pipe = client.pipeline(transaction=False)
        for at in range(0, STREAMED, batch):
            events = [event(f"{batch}-{at + i}") for i in range(batch)]
            pipe.xadd(STREAM, {"data": json.dumps({"events": events})})
        pipe.execute()
        known = n_kept(store)
        with consuming(store, address):
            until(lambda n=known: n_kept(store) > n)
            began, first = time.monotonic(), n_kept(store)
            until(lambda n=known: n_kept(store) >= n + STREAMED, 300)
            rate = (known + STREAMED - first) / (time.monotonic() - began)
        say(f"{f'{batch} a message':24}{rate:10,.0f}")
        client.delete(STREAM)
    p50, p99 = np.percentile(_delays_ms(client, store, address), [50, 99])
    say(f"{f'paced at {PER_SECOND:,}/s':24}{PER_SECOND:10,.0f}{p50:9.1f}{p99:9.1f}")
    kept = ids_kept(store)
    assert len(kept) == len(set(kept)) == 2 * STREAMED + 8 * PER_SECOND


def _delays_ms(client: Any, store: Path, address: str) -> list[float]:
    """From XADD until the event is seen in the store, looked for every 5 ms."""
    known, sent, seen = n_kept(store), dict[str, float](), dict[str, float]()
    n_paced = 8 * PER_SECOND - 1
    with consuming(store, address):
        client.xadd(STREAM, {"data": json.dumps(event("warm"))})
        until(lambda: n_kept(store) > known)
        watcher = threading.Thread(target=_watch, args=(store, seen, n_paced))
        watcher.start()
        began = time.perf_counter()
        for i in range(n_paced):
            time.sleep(max(0.0, began + i / PER_SECOND - time.perf_counter()))
            sent[f"paced-{i}"] = time.perf_counter()
            client.xadd(STREAM, {"data": json.dumps(event(f"paced-{i}"))})
        watcher.join()
    return [(seen[name] - at) * 1e3 for name, at in sent.items()]


def _watch(store: Path, seen: dict[str, float], n_wanted: int) -> None:
    end = time.monotonic() + 120
    with closing(sqlite3.connect(store)) as connection:
        newest = "SELECT MAX(seq) FROM reaction_events"
        cursor = connection.execute(newest).fetchone()[0]
        asked = "SELECT seq, event_id FROM reaction_events WHERE seq > ? ORDER BY seq"
        while len(seen) < n_wanted and time.monotonic() < end:
            rows = connection.execute(asked, (cursor,)).fetchall()
            seen.update(dict.fromkeys([name for _, name in rows], time.perf_counter()))
            cursor = rows[-1][0] if rows else cursor
            time.sleep(0.005)
