"""Events are kept once, on disk before they are acknowledged, whatever happens."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from hustings.features.schema_versions import LaterStoreError
from hustings.features.tables import PERMISSIONS, check
from hustings.serving.reactions import store as store_module
from hustings.serving.reactions.ballots import BALLOT_EVENTS, votes, votes_before
from hustings.serving.reactions.payload import (
    EventBatch,
    KeyMissing,
    person_key,
    read_events,
)
from hustings.serving.reactions.store import (
    NO_WISH,
    STORES,
    WITHDRAWN,
    Events,
    Receipt,
)
from tests.checkout import environment

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 9, 1, 12, tzinfo=UTC)
KEY = b"a link key of the tests"


def event(event_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "message_id": "m1",
        "platform": "facebook",
        "kind": "like",
        "occurred_at": "2026-09-01T10:00:00Z",
        **fields,
    }


def read(
    *payloads: Any, key: bytes | None = KEY, keep_text: bool = False
) -> EventBatch:
    return read_events(payloads, received_at=NOW, key=key, keep_text=keep_text)


DURABLE = {
    "sqlite": {"PRAGMA journal_mode": "wal", "PRAGMA synchronous": 2},  # 2 is FULL
    "postgresql": {"SHOW synchronous_commit": "on"},
}
"""What each kind of store answers that waits for the disk at every commit."""


@pytest.fixture(params=sorted(STORES))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def address(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a new store of every kind that there is."""
    if kind == "sqlite":
        return f"sqlite:///{tmp_path / 'events.db'}"
    return request.getfixturevalue("postgres")


@pytest.fixture
def events(address: str) -> Iterator[Events]:
    store = Events.open(address)
    yield store
    store.close()


def test_a_batch_that_is_sent_again_adds_nothing(events):
    batch = [event("a"), event("b", count=70), event("a")]
    assert events.append(read(*batch))[:3] == (2, 1, 0)
    assert events.append(read(*batch))[:3] == (0, 3, 0)
    assert events.counts()["count"].tolist() == [71]


def ballot(event_id: str, status: str, dated: str, voter: str = "v1") -> dict[str, Any]:
    return {
        "event_id": event_id, "kind": "ballot", "voter_id": voter, "status": status,
        "dated": dated,
    }  # fmt: skip


def read_ballots(*payloads: Any) -> EventBatch:
    first_day = date(2026, 8, 1)
    return read_events(payloads, received_at=NOW, key=None, ballots_from=first_day)


def test_of_ballots_the_latest_day_counts_and_of_a_day_the_last_that_came(events):
    sent = ballot("1", "sent", "2026-08-05")
    back = ballot("2", "returned", "2026-08-20")
    assert events.append(read_ballots(back, sent))[:3] == (2, 0, 0)
    assert events.voted(["v1", "v2"]) == {"v1"}
    # a repeat, by its id or by what it says
    assert events.append(read_ballots(back, {**sent, "event_id": "3"}))[:3] == (0, 2, 0)
    events.append(read_ballots(ballot("4", "rejected", "2026-08-20")))
    assert events.voted(["v1"]) == set()
    # the first event delivered again undoes no correction
    assert events.append(read_ballots(back))[:3] == (0, 1, 0)
    assert events.voted(["v1"]) == set()
    events.append(read_ballots(ballot("5", "accepted", "2026-08-22")))
    assert events.voted(["v1"]) == {"v1"}
    assert len(events.ballots()) == 4
    # an id that became another: the vote is the person's
    events.link(pd.DataFrame({"person": ["v1"], "voter_id": ["w1"]}))
    assert events.voted(["w1", "v2"]) == {"w1"}
    events.append(read_ballots(ballot("6", "cancelled", "2026-08-23", voter="w1")))
    assert events.voted(["w1"]) == set()
    assert votes(events.ballots()).empty
    on_the_day = votes_before(events.ballots(), pd.Timestamp("2026-08-23 09:00"))
    assert set(on_the_day["voter_id"]) == {"w1"}
    assert votes_before(events.ballots(), pd.Timestamp("2026-08-20")).empty


def test_late_and_disordered_events_keep_their_time_and_get_the_next_seq(events):
    events.append(read(event("new", occurred_at="2026-09-01T11:00:00+00:00")))
    _, cursor = events.since()
    events.append(read(event("late", occurred_at="2026-08-01T11:00:00+02:00")))
    late, _ = events.since(cursor)
    assert late["event_id"].tolist() == ["late"]
    # 11:00 two hours east of Greenwich
    assert late["occurred_at"].tolist() == [pd.Timestamp("2026-08-01T09:00:00")]
    assert late["received_at"].tolist() == [pd.Timestamp("2026-09-01T12:00:00")]


def test_a_reader_that_goes_on_from_its_cursor_sees_each_event_once(events):
    for i in range(25):
        events.append(read(event(f"e{i}")))
    seen, cursor = [], 0
    while True:
        frame, cursor = events.since(cursor, limit=10)
        if frame.empty:
            break
        seen += frame["event_id"].tolist()
    assert seen == [f"e{i}" for i in range(25)]


@pytest.mark.parametrize(
    ("wrong", "path", "told"),
    [
        ({"count": 0}, "count", "greater than or equal to 1, got 0"),
        ({"count": "3"}, "count", "valid integer, got '3'"),
        ({"count": 2, "person": "p"}, "", "count 1 where there is a person"),
        ({"occurred_at": "yesterday"}, "occurred_at", "got 'yesterday'"),
        ({"occurred_at": "2026-09-03T00:00:00Z"}, "occurred_at", "not in the future"),
        ({"occurred_at": 86400}, "occurred_at", "a time after 2000"),
        ({"occurred_at": "0001-01-01T00:00:00+01:00"}, "occurred_at", "this century"),
        ({"occurred_at": "9999-12-31T23:59:59-01:00"}, "occurred_at", "this century"),
        ({"message_id": None}, "", "a message_id or a post_id"),
        ({"kind": "like!"}, "kind", "letters, digits"),
        ({"channel": "pigeon"}, "channel", "got 'pigeon'"),
        ({"place": "a\x00b"}, "place", "without the character NUL"),
        ({"place": "\ud800"}, "place", "unicode"),
        ({"likes": 3}, "likes", "no such field"),
    ],
)
def test_a_malformed_event_is_set_aside_with_what_was_expected(
    events, wrong, path, told
):
    receipt = events.append(read(event("ok"), event("bad", **wrong)))
    assert receipt[:3] == (1, 0, 1)
    (fault,) = receipt.faults
    assert fault.path == "events[1]" + (f".{path}" if path else "")
    assert told in fault.message
    kept = events.quarantine()
    assert kept["reason"].tolist() == [fault.message]
    assert events.since()[0]["event_id"].tolist() == ["ok"]


def test_the_quarantine_names_nobody(events):
    named = {
        "person": "joe.bloggs.7",
        "voter_id": "V0077",
        "text": "call me, Joe",
        "name": "Joe Bloggs",
        "joe@example.org": 1,
        "place": "12 High Street",
        "kind": "joe@example.org",
        "age_band": "+1 (555) 010-4477",
        "platform": "Joe Bloggs",
        "sex": "12 High Street",
        "post_id": "Joe Bloggs",
        "status": "Joe Bloggs, High Street",
        "count": -1,
    }
    events.append(read(event("bad", **named), "Joe Bloggs", ["joe"]))
    told = events.quarantine()
    text = told.to_csv()
    for secret in ("joe", "Joe", "V0077", "High", "010"):
        assert secret not in text
    # what is no secret helps to mend it
    payload = json.loads(told["payload"].iloc[0])
    assert payload["count"] == -1
    assert (payload["platform"], payload["sex"]) == ("aaa aaaaaa", "99 aaaa aaaaaa")
    assert len(told) == 3


def test_what_nobody_knows_stays_unknown(events):
    events.append(read(event("a", in_area=True), event("b")))
    assert events.since()[0]["in_area"].isna().tolist() == [False, True]


def test_a_malformed_event_that_comes_again_is_quarantined_once(events):
    for _ in range(2):
        assert events.append(read(event("bad", count=0))).quarantined == 1
    assert len(events.quarantine()) == 1


@pytest.mark.parametrize("secret", ["ann{}@example.org", "x" * 70 + "{}"])
def test_events_whose_ids_are_masked_are_all_set_aside(events, secret):
    wrong = [event(secret.format(i), count=0) for i in range(3)]
    assert events.append(read(*wrong)).quarantined == 3
    assert len(events.quarantine()) == 3
    assert "ann" not in events.quarantine().to_csv()


def test_ids_may_be_whole_numbers(events):
    events.append(read(event(17, message_id=4, post_id=5), event("17")))
    kept = events.since()[0][["event_id", "message_id", "post_id"]]
    assert kept.to_numpy().tolist() == [["17", "4", "5"]]
    assert events.append(read(event(True), event(10**300))).quarantined == 2


@settings(max_examples=50)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["event_id", "kind", "count", "person", "place", "x"]),
            st.none() | st.text(max_size=5) | st.integers() | st.lists(st.integers()),
        )
        | st.none()
        | st.integers()
        | st.text(max_size=3)
    )
)
def test_every_payload_is_accepted_or_set_aside(payloads):
    mended = [{**event("e"), **p} if isinstance(p, dict) else p for p in payloads]
    batch = read(*mended)
    assert len(batch.events) + len(batch.quarantine) == len(payloads)
    assert len(batch.faults) == len(batch.quarantine)


def test_a_person_is_kept_only_as_a_keyed_hash(events, tmp_path):
    events.append(read(event("a", person="joe.bloggs"), event("b", person="ann")))
    kept = events.since()[0]["person"].tolist()
    assert kept == [person_key(KEY, "facebook", p) for p in ("joe.bloggs", "ann")]
    assert kept != [
        person_key(b"another", "facebook", p) for p in ("joe.bloggs", "ann")
    ]
    events.close()
    disk = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"joe.bloggs" not in disk
    with pytest.raises(KeyMissing, match="HUSTINGS_LINK_KEY"):
        read(event("c", person="joe"), key=None)


def test_a_reply_is_kept_only_where_that_is_declared(events):
    events.append(read(event("a", kind="reply", text="I agree")))
    events.append(read(event("b", kind="reply", text="I agree"), keep_text=True))
    assert events.since()[0]["text"].fillna("").tolist() == ["", "I agree"]


# --- STOP -----------------------------------------------------------------------------


def test_a_stop_withdraws_the_channel_it_came_by(events):
    events.append(read(event("s", kind="STOP", platform="sms", voter_id="V1")))
    events.append(read(event("t", kind="unsubscribe", channel="Email", voter_id="V2")))
    assert events.refused(["V1", "V2", "V3"]) == {"V1": {"sms"}, "V2": {"email"}}
    told = check(PERMISSIONS, events.withdrawals())
    assert told["withdrawn_at"].tolist() == [pd.Timestamp("2026-09-01T10:00:00")] * 2
    # the voter stands with the withdrawal and nowhere else
    assert "V1" not in events.since()[0].to_csv()


def test_a_stop_by_no_channel_of_ours_withdraws_all_of_them(events):
    events.append(read(event("s", kind="stop", voter_id="V1")))
    assert len(events.refused(["V1"])["V1"]) == 8


def test_a_stop_of_a_person_is_the_stop_of_the_voter_they_are_linked_to(events):
    events.append(read(event("s", kind="stop", platform="sms", person="+15550104477")))
    assert events.refused(["V1"]) == {}
    # the link may be known later than the STOP
    known = [person_key(KEY, "sms", "+15550104477")]
    events.link(pd.DataFrame({"person": known, "voter_id": ["V1"]}))
    assert events.refused(["V1"]) == {"V1": {"sms"}}
    assert events.withdrawals()["voter_id"].tolist() == ["V1"]


def test_a_stop_that_is_malformed_elsewhere_still_stops(events):
    wrong = event("s", kind="STOP", platform="sms", voter_id="V1", count="one")
    assert events.append(read(wrong)).quarantined == 1
    assert events.refused(["V1"]) == {"V1": {"sms"}}


@pytest.mark.parametrize("count", [1, "one"])
@pytest.mark.parametrize(
    "said",
    [
        {"kind": kind}
        for kind in ("STOP", "unsubscribed", "opt-out", "Opt_Out", "optout", " stop ")
    ]
    + [
        {"kind": "reply", "text": text}
        for text in (
            "STOP",
            "stop.",
            " Unsubscribe ",
            "STOPALL",
            "cancel",
            "END",
            "quit",
        )
    ]
    + [{"kind": "stop", "voter_id": 77}, {"kind": "stop", "voter_id": " 77 "}],
)
def test_whatever_asks_to_stop_stops_well_formed_or_not(events, said, count):
    told = event("s", platform="sms", count=count) | {"voter_id": "77"} | said
    events.append(read(told))
    assert events.refused(["77"]) == {"77": {"sms"}}
    assert events.since()[0]["text"].isna().all()


def test_a_reply_that_may_ask_to_stop_stops_its_channel_until_a_person_answers(events):
    replies = {"a": "STOP", "b": "Please don't stop", "c": "The end of taxes!"}
    told = [
        event(i, kind="reply", text=text, platform="sms", voter_id=f"V{i}")
        for i, text in replies.items()
    ]
    receipt = events.append(read(*told, event("d", kind="reply", text="I agree")))
    assert (receipt.withdrawn, receipt.to_review) == (1, 2)
    assert events.since()[0].sort_values("event_id")["kind"].tolist() == [
        "stop", "reply", "reply", "reply",
    ]  # fmt: skip
    everybody = ["Va", "Vb", "Vc"]
    assert events.refused(everybody) == {name: {"sms"} for name in everybody}
    assert set(events.withdrawals()["voter_id"]) == set(everybody)
    # the text is kept for the person who reads it, and nowhere else
    assert events.open_wishes()["text"].tolist() == [replies["b"], replies["c"]]
    assert "taxes" not in events.since()[0].to_csv()
    assert events.n_open_wishes() == 2
    assert events.answer_wish("b", NO_WISH, by="Ann", at=NOW) == 1
    assert events.answer_wish("c", WITHDRAWN, by="Ann", at=NOW) == 1
    assert events.answer_wish("c", NO_WISH, by="Ann", at=NOW) == 0
    assert events.refused(everybody) == {"Va": {"sms"}, "Vc": {"sms"}}
    # an event that comes again opens nothing anew
    events.append(read(*told))
    assert events.open_wishes().empty
    assert events.refused(["Vb"]) == {}


def test_two_voters_stops_under_one_id_are_two_stops_and_each_is_kept_once(events):
    both = [event("s", kind="STOP", platform="sms", voter_id=v) for v in ("V1", "V2")]
    for _ in range(2):
        events.append(read(*both))
    assert events.refused(["V1", "V2"]) == {"V1": {"sms"}, "V2": {"sms"}}
    with events.engine.connect() as connection:
        n = connection.exec_driver_sql("SELECT COUNT(*) FROM withdrawals").scalar()
    assert n == 2


def test_a_stop_of_a_person_alone_is_nobody_elses(events):
    events.append(read(event("s", kind="STOP", platform="sms", person="p")))
    assert events.refused(["", "V1"]) == {}
    assert events.withdrawals().empty


def test_what_is_no_text_stops_nobody_and_takes_no_batch_down(events):
    half = {"event_id": "\ud800", "voter_id": "\ud800", "person": "\ud800"}
    wrong = [event("x", kind="STOP") | half, event("y", platform="\ud800", person="p")]
    assert events.append(read(event("ok"), *wrong[:1], wrong[1] | {"kind": "stop"}))[
        :3
    ] == (1, 0, 2)


# --- durability -----------------------------------------------------------------------


def test_a_store_waits_for_the_disk_at_every_commit(events, kind):
    with events.engine.connect() as connection:
        for question, answer in DURABLE[kind].items():
            assert connection.exec_driver_sql(question).scalar() == answer


def test_requests_that_come_together_share_a_commit_and_keep_their_own_receipts(
    events,
):
    commits = []
    sa.event.listen(events.engine, "commit", commits.append)
    receipts: dict[int, Receipt] = {}

    def send(i: int) -> None:
        # each sends one event of its own and one that all send
        receipts[i] = events.append(read(event(f"own-{i}"), event("shared")))

    senders = [threading.Thread(target=send, args=(i,)) for i in range(20)]
    with events._writing:  # as if a first batch were being written
        for sender in senders:
            sender.start()
        while len(events._pending) < 20:
            pass
    for sender in senders:
        sender.join()
    assert len(commits) == 1
    assert sum(r.accepted for r in receipts.values()) == 21
    assert sum(r.duplicate for r in receipts.values()) == 19
    assert len(events.since()[0]) == 21


def test_a_batch_that_the_database_refuses_is_not_acknowledged(events):
    batch = read(event("a"), event("b"))
    batch.events[1]["platform"] = None
    with pytest.raises(sa.exc.IntegrityError):
        events.append(batch)
    assert events.since()[0].empty
    assert events.append(read(event("a"))).accepted == 1


WRITER = """
import sys
from datetime import UTC, date, datetime
from hustings.serving.reactions.store import Events
from hustings.serving.reactions.payload import read_events
store, at = Events.open(sys.argv[1]), int(sys.argv[2])
now = datetime(2026, 9, 1, 12, tzinfo=UTC)
while True:
    batch = [
        {"event_id": str(i), "message_id": "m", "platform": "web", "kind": "click",
         "occurred_at": "2026-09-01T10:00:00Z"}
        for i in range(at, at + 20)
    ]
    store.append(read_events(batch, received_at=now, key=None))
    at += 20
    print(at, flush=True)
"""


def test_nothing_acknowledged_is_lost_or_doubled_by_sigkill(tmp_path):
    store, acknowledged = tmp_path / "events.db", 0
    for kill in range(3):
        line = [sys.executable, "-c", WRITER, str(store), str(acknowledged)]
        writer = subprocess.Popen(
            line, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env=environment(),
        )  # fmt: skip
        with writer:
            for _ in range(15 + 7 * kill):
                acknowledged = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            # what it had said before it died counts, too
            for line in writer.stdout:
                acknowledged = int(line)
    with sqlite3.connect(store) as connection:
        ids = [int(row[0]) for row in connection.execute(
            "SELECT event_id FROM reaction_events ORDER BY seq")]  # fmt: skip
        whole = connection.execute("PRAGMA integrity_check").fetchone()
    connection.close()
    # at most the one batch that was on its way when the last writer died is there too
    assert ids in (list(range(acknowledged)), list(range(acknowledged + 20)))
    assert whole == ("ok",)


def test_no_reader_misses_what_another_writes(events, address):
    """Two writers of their own sessions, one reader that goes on from its cursor."""

    def write(name: str) -> None:
        mine = Events.open(address)
        for i in range(40):
            mine.append(read(*(event(f"{name}-{i}-{j}") for j in range(5))))
        mine.close()

    writers = [threading.Thread(target=write, args=(name,)) for name in "xy"]
    for writer in writers:
        writer.start()
    seen: list[str] = []
    cursor = 0
    while any(writer.is_alive() for writer in writers):
        frame, cursor = events.since(cursor)
        seen += frame["event_id"].tolist()
    frame, _ = events.since(cursor)
    seen += frame["event_id"].tolist()
    assert len(seen) == len(set(seen)) == 400


@contextmanager
def frozen(pids: Sequence[int]) -> Iterator[None]:
    """Processes that hold their sockets and say nothing."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_a_database_that_freezes_is_given_up_and_answers_again_once_it_thaws(postgres):
    events = Events.open(postgres, within_s=0.2)
    stop = event("s", kind="STOP", platform="sms", voter_id="V1")
    assert events.append(read(stop)).accepted == 1
    with events.engine.connect() as connection:
        backend = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    (server,) = (
        int(line.split()[1])
        for line in Path(f"/proc/{backend}/status").read_text().splitlines()
        if line.startswith("PPid")
    )
    # a query on a connection that is open, then one that has to connect
    with frozen([server, backend]):
        for ask in (lambda: events.refused(["V1"]), lambda: events.append(read(stop))):
            with pytest.raises(sa.exc.OperationalError, match=r"within|timeout"):
                ask()
    assert events.refused(["V1"]) == {"V1": {"sms"}}
    assert events.append(read(stop)).duplicate == 1
    events.close()


def test_an_unknown_store_is_refused_by_its_kind_alone():
    with pytest.raises(ValueError, match=r"got mysql://\.\.\.") as failure:
        Events.open("mysql://joe:secret@host/name")
    assert "secret" not in str(failure.value)


# --- stores of earlier versions -------------------------------------------------------

FIRST_STORE = """
CREATE TABLE reaction_events (seq INTEGER NOT NULL PRIMARY KEY, event_id TEXT NOT NULL
    UNIQUE, message_id TEXT, post_id TEXT, platform TEXT NOT NULL, kind TEXT NOT NULL,
    occurred_at BIGINT NOT NULL, received_at BIGINT NOT NULL, count INTEGER NOT NULL,
    person TEXT, place TEXT, age_band TEXT, sex TEXT, segment TEXT, in_area BOOLEAN,
    account_age_days INTEGER, text TEXT, issue TEXT, issue_confidence DOUBLE PRECISION);
INSERT INTO reaction_events (seq, event_id, platform, kind, occurred_at, received_at,
    count) VALUES (1, 'e1', 'x', 'like', 1788000000000000, 1788000000000000, 3);
"""
"""As the first version made it: without wishes, ballots and a version."""


def test_a_store_of_an_earlier_version_is_migrated_with_a_line_said(address, caplog):
    engine = store_module._engine(address, None)
    with engine.begin() as connection:
        for statement in FIRST_STORE.split(";")[:-1]:
            connection.exec_driver_sql(statement)
    engine.dispose()
    migrated = Events.open(address)
    assert "store of events is migrated: the time before versions -> version" in (
        caplog.text
    )
    assert migrated.since()[0]["event_id"].tolist() == ["e1"]
    assert migrated.n_open_wishes() == 0
    assert migrated.ballots().empty
    declared = [*store_module._META.sorted_tables, BALLOT_EVENTS]
    inspector = sa.inspect(migrated.engine)
    for table in declared:
        columns = {c["name"]: c["nullable"] for c in inspector.get_columns(table.name)}
        assert columns == {c.name: c.nullable for c in table.columns}, table.name
    caplog.clear()
    Events.open(address).close()
    assert not caplog.text
    with migrated.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE hustings_events_version SET version_num = '9999'"
        )
    migrated.close()
    with pytest.raises(LaterStoreError, match="written by a later version"):
        Events.open(address)
