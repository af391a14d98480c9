"""The store frozen, locked, full, slow and gone, while requests come in steadily.

`make attack` lets each fault last `HUSTINGS_FAULT_S` seconds (60): scores are answered
throughout, a recommendation is made or refused with its reason, health answers, nothing
acknowledged is lost, and all is as before once the fault is over. `store.md` keeps the
figures.
"""

import asyncio
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from hustings.serving.reactions.store import Events
from tests.attack.plain_http import ask
from tests.bundles import Served
from tests.checkout import code
from tests.serving.conftest import Server, serving_bundle
from tests.sockets import processes_of

pytestmark = pytest.mark.slow

FAULT_S = float(os.environ.get("HUSTINGS_FAULT_S", "5"))
PER_SECOND = float(os.environ.get("HUSTINGS_FAULT_LOAD", "50"))
CALM_S = 5.0
SCORE_WITHIN_S = 1.0
RECOVERS_WITHIN_S = 15.0
ROUTES = ("/score", "/recommend", "/reactions", "/healthz", "/score")
"""What is asked in turn."""
REFUSED = {"/recommend": "nothing is handed out", "/reactions": "send them again"}
LOCKS = """
import sqlite3, sys, time
store = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
held_s, free_s, until = float(sys.argv[2]), float(sys.argv[3]), time.monotonic() + 600
while time.monotonic() < until:
    store.execute("BEGIN EXCLUSIVE")
    print("locked", flush=True)
    time.sleep(held_s)
    store.execute("COMMIT")
    time.sleep(free_s)
"""


@dataclass(frozen=True)
class Answered:
    """One request: when it was sent, which route, its status and seconds."""

    at: float
    route: str
    status: int
    took_s: float
    text: str


@dataclass
class Load:
    """A steady load on one server.

    Attributes:
        server: Where it goes.
        rows: Voters that are asked about, one a request.
        name: Of the load: its events' ids begin with it.
        answers: What came back.
        acknowledged: Ids of events that the server says it has kept.
    """

    server: Server
    rows: Sequence[dict[str, Any]]
    name: str
    answers: list[Answered] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)

    async def run(self, seconds: float) -> None:
        """Send at the rate, whatever becomes of what was sent before."""
        async with asyncio.TaskGroup() as group:
            until, n = time.perf_counter() + seconds, len(self.answers)
            due = time.perf_counter()
            while due < until:
                # a sender that falls behind sends later, not more
                due = max(due + 1 / PER_SECOND, time.perf_counter())
                await asyncio.sleep(due - time.perf_counter())
                group.create_task(self._send(n))
                n += 1

    async def _send(self, n: int) -> None:
        route, row = ROUTES[n % len(ROUTES)], self.rows[n % len(self.rows)]
        body: dict[str, Any] | None = {"voters": [row]}
        event_id = f"{self.name}-{n}"
        if route == "/recommend":
            permitted = {row["voter_id"]: ["sms", "phone"]}
            body = {"voters": [row], "permitted_channels": permitted}
        if route == "/reactions":
            body = {
                "event_id": event_id, "post_id": "p", "platform": "facebook",
                "kind": "like", "occurred_at": "2026-09-01T10:00:00Z",
            }  # fmt: skip
        if route == "/healthz":
            body = None
        at = time.perf_counter()
        status, text = await ask(self.server, route, body)
        self.answers.append(Answered(at, route, status, time.perf_counter() - at, text))
        if route == "/reactions" and status == 200:
            self.acknowledged.append(event_id)

    def of(self, route: str) -> list[Answered]:
        return [a for a in self.answers if a.route == route]


# --- faults ---------------------------------------------------------------------------


@contextmanager
def stopped(pids: Sequence[int]) -> Iterator[None]:
    """Processes that hold their sockets and say nothing."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def locking(store: Path, held_s: float, free_s: float) -> Iterator[None]:
    """Another process holds the file of SQLite for so long, again and again."""
    words = code(LOCKS, store, str(held_s), str(free_s))
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


@contextmanager
def full(pids: Sequence[int]) -> Iterator[None]:
    """No file of a process may grow, as on a full disk."""
    before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in pids}
    for pid, (_, most) in before.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, most))
    try:
        yield
    finally:
        for pid, limits in before.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


@dataclass(frozen=True)
class Database:
    """A PostgreSQL of the test's own."""

    address: str
    pid: int

    def backends(self) -> list[int]:
        """Its process, and then those that it has started."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [self.pid, *map(int, children.split())]

    def run(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self.address, autocommit=True) as session:
            session.execute(statement)

    @contextmanager
    def slow(self, seconds: float) -> Iterator[None]:
        """Each statement that keeps something takes so long."""
        self.run(
            "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS "
            f"'BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END'"
        )
        tables = ("reaction_events", "online_decisions")
        for table in tables:
            self.run(f"CREATE TRIGGER slowly AFTER INSERT ON {table} "
                     "FOR EACH STATEMENT EXECUTE FUNCTION slowly()")  # fmt: skip
        yield
        self.run("DROP FUNCTION slowly CASCADE")

    @contextmanager
    def full(self) -> Iterator[None]:
        """What is to be kept is refused as by a disk without room."""
        self.run(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN RAISE EXCEPTION USING ERRCODE = ''53100''; END'"
        )
        for table in ("reaction_events", "online_decisions", "online_taken"):
            self.run(f"CREATE TRIGGER full_disk BEFORE INSERT ON {table} "
                     "FOR EACH STATEMENT EXECUTE FUNCTION full_disk()")  # fmt: skip
        yield
        self.run("DROP FUNCTION full_disk CASCADE")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Another session holds every table."""
        import psycopg

        with psycopg.connect(self.address) as session:
            tables = "reaction_events, online_decisions, withdrawals, pauses"
            session.execute(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")
            yield
            session.rollback()

    @contextmanager
    def gone(self) -> Iterator[None]:
        """Its sessions are ended and no new one begins."""
        name = sa.make_url(self.address).database
        others = self.address.replace(f"/{name}?", "/postgres?")
        server = Database(others, self.pid)
        server.run(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                   f"WHERE datname = '{name}'")  # fmt: skip
        yield
        server.run(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


def database_of(address: str) -> Database:
    """The server behind an address."""
    import psycopg

    with psycopg.connect(address, client_encoding="utf8") as session:
        shown = session.execute("SHOW data_directory").fetchone()
    assert shown is not None
    (folder,) = shown
    pid_file = Path(folder) / "postmaster.pid"
    return Database(address, int(pid_file.read_text().split()[0]))


def workers(server: Server) -> list[int]:
    return sorted(processes_of(server.url))


# --- what holds -----------------------------------------------------------------------


async def attacked(load: Load, fault: Callable[[], Any]) -> tuple[float, float]:
    """Load before, during and after a fault; when the fault began and ended."""
    total_s = CALM_S + FAULT_S + RECOVERS_WITHIN_S
    running = asyncio.create_task(load.run(total_s))
    await asyncio.sleep(CALM_S)
    with ExitStack() as stack:
        await asyncio.to_thread(stack.enter_context, fault())
        began = time.perf_counter()
        await asyncio.sleep(FAULT_S)
        ended = time.perf_counter()
        await asyncio.to_thread(stack.close)
    await running
    return began, ended


def holds(load: Load, name: str, began: float, ended: float, say: Any) -> None:
    """Say what came of a fault, and judge it."""
    lines, p99_of = [], {}
    for route in sorted(set(ROUTES)):
        during = [a for a in load.of(route) if began < a.at < ended]
        calm = [a.took_s for a in load.of(route) if a.at < began]
        took = [a.took_s for a in during]
        statuses = Counter(a.status for a in during)
        told = ", ".join(f"{n} × {s}" for s, n in sorted(statuses.items()))
        p50, p99 = np.quantile(took, [0.5, 0.99])
        p99_of[route] = (np.quantile(calm, 0.99), p99)
        cells = [np.quantile(calm, 0.99), p50, p99, max(took)]
        figures = " | ".join(f"{cell * 1e3:,.0f}" for cell in cells)
        lines.append(f"| {name} | `{route}` | {told} | {figures} |\n")
    say("".join(lines))
    for route in ("/score", "/healthz"):
        assert {a.status for a in load.of(route)} == {200}
        calm_s, fault_s = p99_of[route]
        # on a machine where it takes longer anyway, the fault adds nothing to speak of
        assert fault_s < max(SCORE_WITHIN_S, 2 * calm_s)
    for route, words in REFUSED.items():
        for answer in load.of(route):
            assert answer.status in (200, 503), answer
            if answer.status == 503:
                told = json.loads(answer.text)["faults"][0]["message"]
                assert words in told or "shorter queue" in told
    # by itself, soon after, as it was before
    for route in sorted(set(ROUTES)):
        calm = [a.status == 200 for a in load.of(route) if a.at < began]
        late = [a.status == 200 for a in load.of(route) if a.at > ended + 5]
        assert np.mean(late) > np.mean(calm) - 0.1


def nothing_is_lost(load: Load, store: str | Path) -> None:
    events = Events.open(store)
    frame, _ = events.since()
    events.close()
    assert frame["event_id"].is_unique
    assert set(load.acknowledged) <= set(frame["event_id"])
    assert load.acknowledged


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    def write(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{text}")

    return write


def test_scores_are_answered_whatever_becomes_of_sqlite(served: Served, tmp_path, say):
    store = tmp_path / "events.db"
    with serving_bundle(served, tmp_path, HUSTINGS_EVENTS=str(store)) as server:
        faults: dict[str, Callable[[], Any]] = {
            "SQLite, locked": lambda: locking(store, 600, 0),
            "SQLite, slow (held 0.5 s of 0.6)": lambda: locking(store, 0.5, 0.1),
            "SQLite, disk full": lambda: full(workers(server)),
        }
        asyncio.run(Load(server, served.rows, "calm").run(CALM_S))
        failed: list[str] = []
        for name, fault in faults.items():
            load = Load(server, served.rows, name)
            began, ended = asyncio.run(attacked(load, fault))
            try:
                holds(load, name, began, ended, say)
            except AssertionError as fell:  # the next fault is tried all the same
                failed.append(f"{name}: {fell}")
            nothing_is_lost(load, store)
        assert not failed, "\n".join(failed)
        assert server.get("/readyz").status_code == 200
    with closing(sqlite3.connect(store)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_scores_are_answered_whatever_becomes_of_postgresql(
    served: Served, postgres: str, tmp_path, say
):
    database = database_of(postgres)
    with serving_bundle(served, tmp_path, HUSTINGS_EVENTS=postgres) as server:
        faults: dict[str, Callable[[], Any]] = {
            "PostgreSQL, frozen": lambda: stopped(database.backends()),
            "PostgreSQL, locked": database.locked,
            "PostgreSQL, slow (0.5 s a statement)": lambda: database.slow(0.5),
            "PostgreSQL, no room": database.full,
            "PostgreSQL, gone": database.gone,
        }
        asyncio.run(Load(server, served.rows, "calm").run(CALM_S))
        failed: list[str] = []
        for name, fault in faults.items():
            load = Load(server, served.rows, name)
            began, ended = asyncio.run(attacked(load, fault))
            try:
                holds(load, name, began, ended, say)
            except AssertionError as fell:  # the next fault is tried all the same
                failed.append(f"{name}: {fell}")
            nothing_is_lost(load, postgres)
        assert not failed, "\n".join(failed)
        assert server.get("/readyz").status_code == 200
