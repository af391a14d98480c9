"""A night's events without a pause, and more requests than can be answered.

`make attack` sends `HUSTINGS_EVENTS_SENT` events (1,000,000) to each kind of store, or
as many as come through in `HUSTINGS_EVENTS_S` seconds. `sustained.md` keeps the
figures.
"""

import asyncio
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from hustings.serving.reactions.store import REACTION_EVENTS, Events
from tests.attack.plain_http import ask
from tests.bundles import Served
from tests.checkout import python_path
from tests.serving.conftest import Server, serving_bundle
from tests.sockets import processes_of

pytestmark = pytest.mark.slow

N_EVENTS = int(os.environ.get("HUSTINGS_EVENTS_SENT", "20_000"))
MOST_S = float(os.environ.get("HUSTINGS_EVENTS_S", "60"))
A_BATCH, SENDERS = 500, 4
MOST_GROWTH = 96 * 2**20
"""Of memory from a tenth of the events to all of them."""
OFFERED = (25, 50, 100, 200, 400)
SECONDS = 5.0
UNLIMITED = """
import hustings.serving.gate as gate
gate.QUEUE_REQUESTS = 10**9
gate.TURN_WITHIN_S = 1e6
"""


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    def write(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{text}")

    return write


def memory_of(server: Server) -> int:
    """Resident bytes of the largest of its processes."""
    sizes = []
    for pid in processes_of(server.url):
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
        sizes.append(int(pages) * os.sysconf("SC_PAGE_SIZE"))
    return max(sizes)


class Senders:
    """Send events until there are none left, or the time is over.

    Args:
        server: Where they go.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.next = self.acknowledged = self.again = 0
        self.took_s: list[float] = []
        self.early_bytes = 0
        self._lock = threading.Lock()
        self._until = time.monotonic() + MOST_S

    def run(self) -> float:
        """Send; seconds that it took."""
        began = time.monotonic()
        senders = [threading.Thread(target=self._send) for _ in range(SENDERS)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        return time.monotonic() - began

    def _send(self) -> None:
        with self.server.client() as client:
            while time.monotonic() < self._until:
                with self._lock:
                    at = self.next
                    self.next += A_BATCH
                if at >= N_EVENTS:
                    return
                body = json.dumps({"events": [event(at + i) for i in range(A_BATCH)]})
                while True:
                    began = time.perf_counter()
                    answer = client.post("/reactions", content=body)
                    if answer.status_code == 200:
                        break
                    assert answer.status_code == 503, answer.text
                    self.again += 1
                    time.sleep(float(answer.headers["Retry-After"]))
                with self._lock:
                    self.took_s.append(time.perf_counter() - began)
                    self.acknowledged += A_BATCH
                    if not self.early_bytes and self._share() > 0.1:
                        self.early_bytes = memory_of(self.server)

    def _share(self) -> float:
        left_s = self._until - time.monotonic()
        return max(self.acknowledged / N_EVENTS, 1 - left_s / MOST_S)


def event(n: int) -> dict[str, Any]:
    return {
        "event_id": f"night-{n}", "post_id": f"p{n % 997}", "platform": "facebook",
        "kind": ("like", "share", "angry")[n % 3], "place": "26161",
        "person": f"account-{n % 200_000}", "occurred_at": "2026-09-01T10:00:00Z",
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["SQLite", "PostgreSQL"])
def test_a_nights_events_are_kept_at_a_steady_size(
    kind: str, served: Served, tmp_path: Path, request: pytest.FixtureRequest, say
) -> None:
    is_file = kind == "SQLite"
    store = (
        str(tmp_path / "events.db")
        if is_file
        else str(request.getfixturevalue("postgres"))
    )
    env = {"HUSTINGS_EVENTS": store, "HUSTINGS_LINK_KEY": "a-secret-of-32-bytes-" * 2}
    with serving_bundle(served, tmp_path, **env) as server:
        senders = Senders(server)
        took_s = senders.run()
        grown = memory_of(server) - senders.early_bytes
        assert server.get("/readyz").status_code == 200
    events = Events.open(store)
    with events.engine.connect() as connection:
        n_kept = connection.execute(
            sa.select(sa.func.count()).select_from(REACTION_EVENTS)
        ).scalar_one()
    events.close()
    p50, p99 = np.quantile(senders.took_s, [0.5, 0.99])
    say(
        f"| {kind} | {senders.acknowledged:,} | {senders.acknowledged / took_s:,.0f} | "
        f"{p50 * 1e3:,.0f} | {p99 * 1e3:,.0f} | {senders.again} | "
        f"{senders.early_bytes / 2**20:,.0f} | {grown / 2**20:+,.0f} | "
        f"{n_kept - senders.acknowledged} |\n"
    )
    # each event once: the store refuses a second of its id, and all are there
    assert n_kept == senders.acknowledged > 0
    assert grown < MOST_GROWTH


# --- more than can be answered --------------------------------------------------------


async def offered(server: Server, body: Any, rate: float) -> list[tuple[int, float]]:
    """Status and seconds of requests that come at a rate, however many wait."""
    answers: list[tuple[int, float]] = []

    async def send() -> None:
        began = time.perf_counter()
        status, _ = await ask(server, "/score", body)
        answers.append((status, time.perf_counter() - began))

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for n in range(int(rate * SECONDS)):
            await asyncio.sleep(max(0.0, start + n / rate - time.perf_counter()))
            group.create_task(send())
    return answers


def test_beyond_what_it_can_answer_the_endpoint_refuses_soon(
    served: Served, tmp_path: Path, say
) -> None:
    """Twenty voters a request; without the limits every request waits for all."""
    body = {"voters": served.rows[:20]}
    without = tmp_path / "without"
    without.mkdir()
    (without / "sitecustomize.py").write_text(UNLIMITED)
    slowest = {}
    for name, env in {
        "with": {}, "without": {"PYTHONPATH": python_path(str(without))},
    }.items():  # fmt: skip
        home = tmp_path / f"home-{name}"
        home.mkdir()
        env["HUSTINGS_EVENTS"] = str(home / "events.db")
        with serving_bundle(served, home, **env) as server:
            asyncio.run(offered(server, body, 10))
            for rate in OFFERED:
                began = time.monotonic()
                answers = asyncio.run(offered(server, body, rate))
                took_s = time.monotonic() - began
                statuses = Counter(status for status, _ in answers)
                assert set(statuses) <= {200, 503}
                p50, p99 = np.quantile([s for code, s in answers if code == 200],
                                       [0.5, 0.99])  # fmt: skip
                slowest[name] = max(s for _, s in answers)
                say(
                    f"| {name} | {rate} | {statuses[200] / took_s:,.0f} | "
                    f"{p50 * 1e3:,.0f} | {p99 * 1e3:,.0f} | {statuses[503]:,} |"
                )
            assert server.get("/readyz").status_code == 200
    # a turn comes within ten seconds or not at all
    assert slowest["with"] < 20
