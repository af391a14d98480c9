"""Decisions that are made together: one after another, each whole or not at all."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from hustings.serving import decisions
from hustings.serving.decisions import HandedOut, OnlineDecisions, Turn, expiry
from hustings.serving.reactions.store import STORES, Events

NOW = pd.Timestamp("2026-11-02 09:30:00.000001")


@pytest.fixture(params=sorted(STORES))
def store(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[OnlineDecisions, list[str]]]:
    """Decisions in a store of each kind, and its commits as they happen."""
    if request.param == "sqlite":
        address = f"sqlite:///{tmp_path / 'events.db'}"
    else:
        address = request.getfixturevalue("postgres")
    events = Events.open(address)
    online, commits = OnlineDecisions.in_store_of(events), list[str]()
    sa.event.listen(events.engine, "commit", lambda _: commits.append("commit"))
    yield online, commits
    events.close()


def decision(voter_id: str) -> HandedOut:
    return HandedOut(
        voter_id, voter_id, "", "e", "plan", "m", "sms", 1.0, 1.0, 0.1, "h/1", 2.0,
        decisions.microseconds(NOW), expiry(NOW),
    )  # fmt: skip


def together(
    online: OnlineDecisions, decide: list[Callable[[Turn], Any]]
) -> list[Future[Any]]:
    """What came of decisions that all waited while somebody else decided."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(_turn: Turn) -> None:
        begun.set()
        assert go_on.wait(30)

    with ThreadPoolExecutor(1 + len(decide)) as pool:
        first = pool.submit(online.turn, slow, NOW)
        assert begun.wait(30)
        waiting = [pool.submit(online.turn, one, NOW) for one in decide]
        while len(online._pending) < len(decide):
            threading.Event().wait(0.001)
        go_on.set()
    first.result()
    return waiting


def hands_out(voter_id: str, taken: list[float]) -> Callable[[Turn], str]:
    """Notes what is taken already, and hands out a contact of 2 dollars."""

    def decide(turn: Turn) -> str:
        taken.append(turn.taken().usd)
        turn.hand_out([decision(voter_id)], {})
        return voter_id

    return decide


def voters_in(online: OnlineDecisions, names: list[str]) -> list[str]:
    return sorted(d.voter_id for d in online.turn(lambda t: t.of_voters(names), NOW))


def test_those_who_wait_share_a_transaction_and_each_sees_what_the_last_took(store):
    online, commits = store
    taken: list[float] = []
    names = [f"v{k}" for k in range(5)]
    results = together(online, [hands_out(name, taken) for name in names])
    assert [r.result() for r in results] == names
    assert taken == [0.0, 2.0, 4.0, 6.0, 8.0]
    # one of whoever was first, one of all the others
    assert len(commits) == 2
    assert voters_in(online, names) == names


def test_what_one_raises_undoes_its_own_and_nothing_of_the_others(store):
    online, _ = store

    def fails(turn: Turn) -> None:
        turn.hand_out([decision("bad")], {})
        raise KeyError("of its own")

    for group in ([fails], [hands_out("a", []), fails, hands_out("b", [])]):
        at = group.index(fails)
        results = together(online, group)
        with pytest.raises(KeyError, match="of its own"):
            results[at].result()
        assert [r.result() for r in results if r is not results[at]] == (
            ["a", "b"] if len(group) > 1 else []
        )
    assert voters_in(online, ["a", "b", "bad"]) == ["a", "b"]
    # neither the decision nor its money
    assert online.turn(lambda turn: turn.taken().usd, NOW) == 4.0


def test_what_the_store_cannot_keep_is_answered_to_nobody(store):
    online, _ = store

    def broken(_connection: sa.Connection) -> None:
        raise sa.exc.OperationalError("COMMIT", None, OSError("disk full"))

    sa.event.listen(online.engine, "commit", broken)
    with ThreadPoolExecutor(3) as pool:
        results = [pool.submit(online.turn, hands_out(n, []), NOW) for n in "abc"]
    for result in results:
        with pytest.raises(sa.exc.OperationalError, match="disk full"):
            result.result()
    sa.event.remove(online.engine, "commit", broken)
    assert voters_in(online, ["a", "b", "c"]) == []


def test_who_waits_too_long_is_refused_and_decides_nothing_later(store, monkeypatch):
    online, _ = store
    begun, go_on = threading.Event(), threading.Event()

    def slow(_turn: Turn) -> None:
        begun.set()
        assert go_on.wait(30)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(online.turn, slow, NOW)
        assert begun.wait(30)
        monkeypatch.setattr(decisions, "STORE_WITHIN_S", 0.05)
        with pytest.raises(sa.exc.TimeoutError, match=r"deciding for 0\.05 s"):
            online.turn(hands_out("late", []), NOW)
        go_on.set()
    first.result()
    monkeypatch.undo()
    assert voters_in(online, ["late"]) == []


def test_a_statement_of_many_values_finds_what_those_of_few_find(store):
    online, _ = store
    names = [f"v{k:03}" for k in range(100)]
    every = [decision(name) for name in names]
    online.turn(lambda turn: turn.hand_out(every, {}), NOW)
    assert voters_in(online, names) == names
    for n in (1, 2, 64, 65):
        assert voters_in(online, names[-n:]) == names[-n:]
    # handed out again it lasts longer, and is reserved once
    later = NOW + pd.Timedelta(minutes=5)
    longer = [d._replace(expires_at=expiry(later)) for d in every[:3]]
    before = {d.decision_id: d for d in every}
    online.turn(lambda turn: turn.hand_out(longer, before), later)
    last = pd.Timestamp(expiry(NOW), unit="us")
    assert online.turn(lambda turn: turn.taken().usd, later) == 200.0
    assert online.turn(lambda turn: turn.taken().usd, last) == 6.0


def test_a_recommendation_expires_at_the_full_minute_after_its_hour():
    for at, expires in (
        ("2026-11-02 09:30:00", "2026-11-02 10:30:00"),
        ("2026-11-02 09:30:00.000001", "2026-11-02 10:31:00"),
        ("2026-12-31 23:59:59.999999", "2027-01-01 01:00:00"),
    ):
        assert expiry(pd.Timestamp(at)) == decisions.microseconds(pd.Timestamp(expires))
    berlin = pd.Timestamp("2026-11-02 10:30", tz="Europe/Berlin")
    assert decisions.moment(decisions.microseconds(berlin)) == berlin
