"""Processes killed at random moments, of every kind that writes.

`make attack` kills `HUSTINGS_KILLS` times in all (1,000), by the shares of `SHARES`; a
process is forked from one that has imported everything, so that a kill costs little
more than the work it cuts off. `kills.md` keeps the figures. Kills of `run` are in
`tests/experiments/test_campaign_holds.py`.
"""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from hustings.experiments import plans
from hustings.experiments.plans.ledger import open_ledger
from hustings.serving.reactions.broker import GROUP, STREAM
from hustings.serving.reactions.store import Events
from tests.attack.test_store_faults import database_of
from tests.bundles import Served
from tests.checkout import environment
from tests.experiments.commands import Commands
from tests.experiments.test_forget import found_in
from tests.experiments.test_kill import Campaign, declared
from tests.servers import serving
from tests.serving.conftest import Server, serving_bundle
from tests.sockets import processes_of

pytestmark = pytest.mark.slow

N_KILLS = int(os.environ.get("HUSTINGS_KILLS", "20"))
SHARES = {
    "writer to SQLite": 0.3, "writer to PostgreSQL": 0.2, "PostgreSQL": 0.1,
    "consumer": 0.15, "Redis": 0.05, "server": 0.02, "commands": 0.17,
}  # fmt: skip
A_BATCH = 20
FORKS = """
import json, os, signal, sys, time
from datetime import UTC, datetime
from pathlib import Path
import sqlalchemy as sa
import psycopg, faststream.redis, redis.asyncio
from hustings.serving.reactions import broker
from hustings.serving.reactions.http import Intake
from hustings.serving.reactions.payload import read_events
from hustings.serving.reactions.store import Events
def write(store, at):
    # as a sender does that is told to come again
    events, now = Events.open(store, within_s=2.0), datetime(2026, 9, 1, 12, tzinfo=UTC)
    while True:
        batch = [
            {"event_id": str(i), "message_id": "m", "platform": "web", "kind": "click",
             "occurred_at": "2026-09-01T10:00:00Z"}
            for i in range(at, at + int(sys.argv[1]))
        ]
        try:
            events.append(read_events(batch, received_at=now, key=None))
        except sa.exc.SQLAlchemyError:
            time.sleep(0.02)
            continue
        at += len(batch)
        os.write(1, (json.dumps({"at": at}) + "\\n").encode())
def consume(store, address):
    broker.CLAIM_AFTER_MS = 300
    broker.consume(Intake(Events.open(store)), address)
def say(**facts):
    os.write(1, (json.dumps(facts) + "\\n").encode())
say(ready=True)
for line in sys.stdin:
    what, store, more = json.loads(line)
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        try:
            {"write": write, "consume": consume}[what](store, more)
        finally:
            os._exit(1)
    say(pid=child)
    say(code=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@dataclass
class Forks:
    """Processes that write to a store, one after the other.

    Attributes:
        acknowledged: Events up to this number were said to be kept.
    """

    acknowledged: int = 0
    _process: subprocess.Popen[str] = field(init=False)
    _child: int = 0

    def __enter__(self) -> "Forks":
        self._process = subprocess.Popen(
            [sys.executable, "-c", FORKS, str(A_BATCH)], text=True, env=environment(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._said()["ready"]
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._child:
            self.kill(self._child)
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()

    def begin(self, what: str, store: str, more: int | str) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([what, store, more]) + "\n")
        self._process.stdin.flush()
        while "pid" not in (told := self._said()):
            self.acknowledged = told["at"]
        self._child = told["pid"]
        return self._child

    def kill(self, pid: int) -> int:
        """Kill a process; its exit code, with what it said before counted."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return self.code()

    def code(self) -> int:
        while "code" not in (told := self._said()):
            self.acknowledged = told["at"]
        self._child = 0
        return told["code"]

    def until(self, n: int) -> None:
        """Wait until so many are acknowledged."""
        while self.acknowledged < n:
            self.acknowledged = self._said()["at"]

    def _said(self) -> dict[str, int]:
        assert self._process.stdout is not None
        facts: dict[str, int] = json.loads(self._process.stdout.readline())
        return facts


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    began = time.monotonic()

    def write(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n| {text} | {time.monotonic() - began:,.0f} |")

    return write


def n_of(kind: str) -> int:
    return max(2, round(N_KILLS * SHARES[kind]))


def holds(store: str, acknowledged: int) -> None:
    """Nothing acknowledged is lost, nothing doubled; at most the last batch is more."""
    events = Events.open(store)
    ids, cursor = list[int](), 0
    while True:
        frame, cursor = events.since(cursor)
        if frame.empty:
            break
        ids += frame["event_id"].astype(int).tolist()
    events.close()
    assert ids in (
        list(range(acknowledged)), list(range(acknowledged + A_BATCH))
    )  # fmt: skip


# --- stores ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["SQLite", "PostgreSQL"])
def test_a_writer_killed_at_random_loses_and_doubles_nothing(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, say
) -> None:
    name, rng = f"writer to {kind}", random.Random(kind)
    is_file = kind == "SQLite"
    store = (
        f"sqlite:///{tmp_path / 'events.db'}"
        if is_file
        else str(request.getfixturevalue("postgres"))
    )
    hit = 0
    with Forks() as forks:
        for nth in range(n_of(name)):
            before = forks.acknowledged
            writer = forks.begin("write", store, before)
            if nth % 4:  # else it may die as it opens the store
                forks.until(before + A_BATCH)
            time.sleep(rng.uniform(0.0, 0.1))
            assert forks.kill(writer) == -signal.SIGKILL
            hit += forks.acknowledged > before
    holds(store, forks.acknowledged)
    if is_file:
        with closing(sqlite3.connect(tmp_path / "events.db")) as connection:
            whole = connection.execute("PRAGMA integrity_check").fetchone()
        assert whole == ("ok",)
    say(f"{name} | {n_of(name)} | {hit} after events were kept, "
        f"{forks.acknowledged:,} kept in all")  # fmt: skip
    assert hit > 0


def test_a_database_whose_processes_are_killed_loses_and_doubles_nothing(
    postgres: str, say
) -> None:
    """SIGKILL of a session's process: the server ends all others and recovers."""
    rng, database, n_killed = random.Random(7), database_of(postgres), 0
    Events.open(postgres).close()
    with Forks() as forks:
        writer = forks.begin("write", postgres, 0)
        while n_killed < n_of("PostgreSQL"):
            forks.until(forks.acknowledged + A_BATCH)
            time.sleep(rng.uniform(0.0, 0.2))
            # as it recovers, it has none but the one without which it ends for good
            sessions = [
                pid for pid in database.backends()[1:] if b"reader" in command_of(pid)
            ]
            if sessions:
                n_killed += 1
                with suppress(ProcessLookupError):
                    os.kill(rng.choice(sessions), signal.SIGKILL)
        forks.until(forks.acknowledged + 5 * A_BATCH)
        forks.kill(writer)
    holds(postgres, forks.acknowledged)
    kept = f"{forks.acknowledged:,} kept in all"
    say(f"PostgreSQL, a session's process | {n_killed} | {kept}")
    assert n_killed > 0


@contextmanager
def redis_at(folder: Path) -> Iterator[tuple[Any, str]]:
    """A Redis that writes each entry to the disk before it answers."""
    path = folder / "redis.sock"
    command = [
        str(shutil.which("redis-server")), "--port", "0", "--unixsocket", path,
        "--save", "", "--appendonly", "yes", "--appendfsync", "always", "--dir", folder,
    ]  # fmt: skip
    redis = pytest.importorskip("redis")
    client = redis.Redis.from_url(f"unix://{path}")

    def ready() -> bool:
        try:
            return bool(client.ping())
        except redis.exceptions.RedisError:
            return False

    path.unlink(missing_ok=True)
    with serving(command, ready=ready, home=folder):
        yield client, f"unix://{path}"


def sent(client: Any, at: int, n: int) -> int:
    for i in range(at, at + n):
        event = {
            "event_id": str(i), "message_id": "m", "platform": "web", "kind": "click",
            "occurred_at": "2026-09-01T10:00:00Z",
        }  # fmt: skip
        client.xadd(STREAM, {"data": json.dumps(event)})
    return at + n


def n_kept(store: Path) -> int:
    asked = "SELECT COUNT(*) FROM reaction_events"
    with closing(sqlite3.connect(store)) as connection:
        n: int = connection.execute(asked).fetchone()[0]
    return n


def until(holds_now: Callable[[], Any], within_s: float = 120.0) -> None:
    end = time.monotonic() + within_s
    while not holds_now():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def test_consumer_and_broker_killed_at_random_lose_and_double_nothing(
    tmp_path: Path, say
) -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    rng, store, n, hit = random.Random(9), tmp_path / "events.db", 0, 0
    Events.open(store).close()
    n_consumer, n_redis = n_of("consumer"), n_of("Redis")
    with Forks() as forks:
        for life in range(n_redis):
            with redis_at(tmp_path) as (client, address):
                for _ in range(-(-n_consumer // n_redis)):
                    n, before = sent(client, n, 50), n_kept(store)
                    consumer = forks.begin("consume", str(store), address)
                    if rng.random() < 0.7:  # else it may die as it begins
                        until(lambda n=before: n_kept(store) > n)
                    time.sleep(rng.uniform(0.0, 0.3))
                    forks.kill(consumer)
                    hit += n_kept(store) > before
                n = sent(client, n, 50)
                if life < n_redis - 1:
                    # the broker dies under a consumer at work
                    consumer = forks.begin("consume", str(store), address)
                    time.sleep(rng.uniform(0.0, 0.5))
                    os.kill(client.info("server")["process_id"], signal.SIGKILL)
                    forks.kill(consumer)
                    continue
                consumer = forks.begin("consume", str(store), address)
                until(lambda: n_kept(store) == n)  # noqa: B023 - now
                until(lambda: client.xpending(STREAM, GROUP)["pending"] == 0)
                forks.kill(consumer)
    events = Events.open(store)
    frame, _ = events.since()
    events.close()
    assert sorted(frame["event_id"].astype(int)) == list(range(n))
    say(f"consumer | {n_redis * -(-n_consumer // n_redis)} | {hit} after events were "
        f"kept, {n:,} in all")  # fmt: skip
    say(f"Redis | {n_redis - 1} | the same stream")


# --- the server -----------------------------------------------------------------------


def test_a_server_whose_worker_is_killed_comes_back_and_loses_nothing(
    served: Served, tmp_path: Path, say
) -> None:
    store, acknowledged, over = tmp_path / "events.db", list[str](), threading.Event()

    def send(server: Server, name: int) -> None:
        n = 0
        with server.client() as client:
            while not over.is_set():
                event = {
                    "event_id": f"{name}-{n}", "post_id": "p", "platform": "facebook",
                    "kind": "like", "occurred_at": "2026-09-01T10:00:00Z",
                }  # fmt: skip
                try:
                    answer = client.post("/reactions", json=event)
                except httpx.TransportError:
                    time.sleep(0.1)
                    continue
                if answer.status_code == 200:
                    acknowledged.append(event["event_id"])
                    n += 1

    def ready(server: Server) -> bool:
        try:
            return server.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    with serving_bundle(served, tmp_path, HUSTINGS_EVENTS=str(store)) as server:
        senders = [threading.Thread(target=send, args=(server, k)) for k in range(4)]
        for sender in senders:
            sender.start()
        try:
            for _ in range(n_of("server")):
                before = len(acknowledged)
                until(lambda n=before: len(acknowledged) > n + 10)
                for pid in workers_of(server):
                    os.kill(pid, signal.SIGKILL)
                until(lambda: ready(server))
        finally:
            over.set()
            for sender in senders:
                sender.join()
    events = Events.open(store)
    frame, _ = events.since()
    events.close()
    assert frame["event_id"].is_unique
    assert set(acknowledged) <= set(frame["event_id"])
    # at most what each sender had under way is more
    assert len(frame) - len(set(acknowledged)) <= len(senders)
    say(f"server, its worker | {n_of('server')} | {len(acknowledged):,} acknowledged")


def workers_of(server: Server) -> list[int]:
    """Its processes but for the one that starts them anew."""
    return [
        pid for pid in processes_of(server.url)
        if b"_bentoml_impl.worker" in command_of(pid)
    ]  # fmt: skip


def command_of(pid: int) -> bytes:
    """The words of a process; none of one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


# --- commands -------------------------------------------------------------------------


def test_commands_killed_at_random_leave_nothing_half_there(
    tmp_path: Path, say
) -> None:
    rng, kills, hits = random.Random(6), Counter[str](), Counter[str]()
    longest_s: dict[str, float] = {}

    def play(campaign: Campaign, kind: str, words: list[str], n: int) -> None:
        for _ in range(n):
            process = campaign.commands.begin(*words)
            time.sleep(rng.uniform(0, longest_s.get(kind, 1.5)))
            kills[kind] += 1
            hits[kind] += campaign.commands.kill(process)
        began = time.monotonic()
        code = campaign.commands.done(*words)
        longest_s[kind] = 1.1 * (time.monotonic() - began)
        # what was killed after its last write is done, and said to be
        done_before = code == 2 and "read before" in campaign.said()
        assert code == 0 or done_before, (words, campaign.said())

    steps = 1 + 2 * 4 + 2
    each = max(1, n_of("commands") // steps)
    with Commands(str(tmp_path / "said.txt")) as commands:
        data = tmp_path / "runs"
        data.mkdir()
        campaign = Campaign(declared(tmp_path / "declared"), data, commands)
        store = ["--store", str(tmp_path / "mlflow")]
        play(campaign, "ingest", campaign.words("ingest"), each)
        for date in ("2026-09-08", "2026-09-09"):
            plan = f"day-{date}"
            day = ("day", "--date", date, "--approve-by", "Ada Pell", "--export")
            play(campaign, "day --export", campaign.words(*day), each)
            play(campaign, "export", campaign.words("export", plan), each)
            play(campaign, "plans sent", campaign.words("plans", "sent", plan), each)
            results = ("results", str(campaign.answers(plan)), "--plan", plan)
            play(campaign, "results", campaign.words(*results), each)
        decided = plans.decided_so_far(campaign.home)
        assert not decided["voter_id"].duplicated().any()
        assert plans.spent(campaign.home)["n_spent"].sum() > 0
        assert commands.done(*campaign.words("verify")) == 0, campaign.said()
        for voter in decided["voter_id"].iloc[:2]:
            assert found_in(campaign.home, voter)
            words = campaign.words("forget", voter, "--yes", *store)
            play(campaign, "forget", words, each)
            assert found_in(campaign.home, voter) == set()
        assert commands.done(*campaign.words("verify")) == 0, campaign.said()
        assert open_ledger(campaign.home).verify().fault == ""
        assert {r.state for r in plans.plans(campaign.home).values()} == {plans.SENT}
        left = [p for p in campaign.home.rglob("*") if p.name.endswith(".partial")]
        assert left == []
    for kind, n in kills.items():
        say(f"`{kind}` | {n} | {hits[kind]} while at work")
    assert sum(hits.values()) > 0
