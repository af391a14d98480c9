"""Nobody learns of fewer than 20 people, whatever they look at, and however often."""

from collections import Counter
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hustings.serving.monitor import disclosure
from hustings.serving.monitor.disclosure import (
    CHUNK,
    COLLUDING,
    SMALLEST_CELL,
    Lane,
    pour,
    shown_counts,
)
from hustings.serving.monitor.snapshot import snapshot
from hustings.serving.monitor.stream import Monitor, MonitorRules
from tests.serving.reactions import events

RULES = MonitorRules(hours=4, max_messages=3, max_segments=2)
KINDS = ["like", "love", "angry", "wow", "poke"]

# few people who react often, many who react once, and counts from a platform
_events = st.fixed_dictionaries(
    {
        "message_id": st.sampled_from(["a", "b", "c", "d", "e"]),
        "kind": st.sampled_from(KINDS),
        "segment": st.sampled_from(["young", "old", "older", None]),
        "in_area": st.sampled_from([True, True, True, False, None]),
        "account_age_days": st.sampled_from([1.0, 900.0, None]),
        "issue": st.sampled_from(["roads", "schools", None]),
        "who": st.one_of(st.none(), st.integers(0, 8), st.integers(0, 10_000)),
        "count": st.sampled_from([1, 1, 1, 2, 7, 19, 20, 23, 60]),
        "moved": st.floats(-6, 3),
        "times": st.integers(1, 30),
    }
)
_streams = st.lists(_events, min_size=1, max_size=25)


def as_frame(drawn: list[dict[str, Any]]) -> pd.DataFrame:
    """The stream; a drawn event comes `times` times, by different people."""
    rows = []
    for at, event in enumerate(drawn):
        told = dict(event)
        who, times, moved = (told.pop(name) for name in ("who", "times", "moved"))
        hour = max(0.0, at / 3 + moved)
        for i in range(times):
            person = None if who is None else f"p{(who + i) if who > 8 else who}"
            count = 1 if person is not None else told["count"]
            rows.append(
                {**told, "person": person, "count": count, "hour": hour,
                 "received": at / 3 + 4}
            )  # fmt: skip
    return events(rows)


def looks(monitor: Monitor) -> dict[Any, int]:
    """Every count that a look shows, and every part that can be taken from a total."""
    monitor.judge()
    told = snapshot(monitor, paused={}, sent={}, planned={}, lifts={})
    found: Counter[Any] = Counter()
    until = pd.Timestamp(told["heard_until"]) if told["heard_until"] else None
    for m in told["messages"]:
        name = m["message_id"]
        total = {v: m[v] for v in ("good", "bad", "neutral")}
        for place in ("good", "bad", "neutral", "outside_area", "new_accounts"):
            found[name, place] = m[place]
        for kind, n in m["kinds"].items():
            found[name, "kind", kind] = n
        found[name, "rest of kinds"] = sum(total.values()) - sum(m["kinds"].values())
        for s in m["segments"]:
            for v in total:
                found[name, "segment", s["segment"], v] = s[v]
        for v in total:
            rest = total[v] - sum(s[v] for s in m["segments"])
            found[name, "rest of segments", v] = rest
        for i, (good, bad) in enumerate(m["series"]):
            hour = until - pd.Timedelta(hours=len(m["series"]) - 1 - i)
            found[name, "hour", hour, "good"] = good
            found[name, "hour", hour, "bad"] = bad
        for v, i in (("good", 0), ("bad", 1)):
            within = sum(counts[i] for counts in m["series"])
            found[name, "before the hours", v] = total[v] - within
    for issue in told["issues"]:
        for v in ("good", "bad", "neutral"):
            of_issue = [m for m in told["messages"] if m["issue"] == issue["issue"]]
            found[issue["issue"], "issue", v] = issue[v]
            found[issue["issue"], "rest of issue", v] = issue[v] - sum(
                m[v] for m in of_issue
            )
    return found


def leaks(before: dict[Any, int], after: dict[Any, int]) -> list[Any]:
    """Counts, and differences from the look before, that speak of too few people."""
    return [
        (place, n)
        for place in {*before, *after}
        for n in (after.get(place, 0), after.get(place, 0) - before.get(place, 0))
        if 0 < abs(n) < SMALLEST_CELL
    ]


def attack(drawn: list[dict[str, Any]], cuts: list[int]) -> list[Any]:
    """Look after any part of the stream; gives what leaked."""
    frame = as_frame(drawn)
    monitor = Monitor(RULES, {"a": "roads"})
    before, found, at = looks(monitor), [], 0
    for cut in [*sorted(cuts), len(frame)]:
        cut = min(cut, len(frame))
        if cut > at:
            monitor.add(frame.iloc[at:cut])
            at = cut
        after = looks(monitor)
        found += leaks(before, after)
        before = after
    return found


@settings(max_examples=60)
@given(drawn=_streams, cuts=st.lists(st.integers(1, 400), max_size=12))
def test_no_figure_no_difference_and_no_remainder_speaks_of_fewer_than_20(drawn, cuts):
    assert attack(drawn, cuts) == []


def test_the_attack_finds_a_leak_where_the_rule_is_removed(monkeypatch):
    drawn = [
        {"message_id": "a", "kind": "like", "segment": "young", "in_area": True,
         "account_age_days": 900.0, "issue": None, "who": 100 * i, "count": 1,
         "moved": 0.0, "times": 7}
        for i in range(1, 6)
    ]  # fmt: skip
    cuts = [7, 25]
    assert attack(drawn, cuts) == []
    monkeypatch.setattr(disclosure, "CHUNK", 1)
    assert attack(drawn, cuts) != []


@settings(max_examples=30)
@given(drawn=_streams, cuts=st.lists(st.integers(1, 400), max_size=6))
def test_what_is_shown_after_a_restart_is_what_was_shown_before(drawn, cuts):
    """Chunks follow the order of the events, not the looks or the batches."""
    frame = as_frame(drawn)
    # crowds depend on when one looks, so none here
    frame["account_age_days"] = 900.0
    live, again, at = Monitor(RULES, {"a": "roads"}), Monitor(RULES, {"a": "roads"}), 0
    for cut in [*sorted(cuts), len(frame)]:
        if min(cut, len(frame)) > at:
            live.add(frame.iloc[at:cut])
            at = min(cut, len(frame))
        looks(live)
    again.add(frame)
    assert looks(again) == looks(live)


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(0, 40)), st.integers(1, 30),
            st.integers(0, 2), st.booleans(),
        ),
        max_size=300,
    )
)  # fmt: skip
def test_every_chunk_is_of_40_people_and_nobody_is_in_two(drawn):
    """The people behind each chunk are kept beside it; the lane never sees them."""
    lanes, other = [Lane() for _ in range(3)], Lane()
    waiting: list[list[Any]] = [[], [], []]
    shown, taken = 0, 0

    def different(reactions: list[Any]) -> int:
        named = {who for who, _ in reactions if who is not None}
        return len(named) + sum(n for who, n in reactions if who is None)

    joined: list[Any] = []
    for who, count, at, joins in drawn:
        n = count if who is None else 1
        taken += n
        waiting[at].append((who, n))
        chunk = lanes[at].add(n, None if who is None else str(who), 0)
        if chunk:
            assert different(waiting[at]) >= CHUNK
            assert chunk == sum(n for _, n in waiting[at])
            shown, waiting[at] = shown + chunk, []
        elif joins:
            together = pour(lanes, other)
            joined += [r for some in waiting for r in some]
            waiting = [[], [], []]
            if together:
                assert different(joined) >= CHUNK
                assert together == sum(n for _, n in joined)
                shown, joined = shown + together, []
    left = sum(n for some in [*waiting, joined] for _, n in some)
    assert shown + left == taken
    assert sum(lane.n_shown for lane in [*lanes, other]) == shown


def made_up(n: int, accounts: int, first: int = 0) -> list[dict[str, Any]]:
    """Reactions of one hand: so many in turn by so many accounts."""
    return [reaction(f"fake{(first + i) % accounts}") for i in range(n)]


def reaction(person: str) -> dict[str, Any]:
    return {
        "message_id": "a", "kind": "angry", "segment": "young", "in_area": True,
        "account_age_days": 900.0, "issue": None, "person": person, "count": 1,
        "hour": 0.0, "received": 4.0,
    }  # fmt: skip


def shown_with(rows: list[dict[str, Any]]) -> dict[Any, int]:
    """What is seen once each reaction has come, look after look."""
    monitor, seen = Monitor(RULES, {"a": "roads"}), {}
    for i, row in enumerate(rows):
        monitor.add(events([row]))
        seen |= {(i, place): n for place, n in looks(monitor).items() if n}
    return seen


@pytest.mark.parametrize("accounts", [1, 19, COLLUDING, 38])
def test_reactions_made_up_around_a_real_one_do_not_single_it_out(
    accounts: int,
) -> None:
    """38 made-up ones, before and after: the look is the same without the real one."""
    around = [*made_up(19, accounts), reaction("real"), *made_up(19, accounts, 19)]
    assert shown_with(around) == {}


@pytest.mark.parametrize("n_real", [1, SMALLEST_CELL - 1])
def test_a_flood_by_twenty_accounts_shows_no_fewer_than_twenty_others(
    n_real: int,
) -> None:
    flood = [
        row
        for i in range(n_real)
        for row in (*made_up(2 * COLLUDING, COLLUDING, i), reaction(f"real{i}"))
    ]
    assert shown_with(flood[:200]) == {}
    monitor = Monitor(RULES, {"a": "roads"})
    monitor.add(events(flood))
    assert not any(looks(monitor).values())
    monitor.add(events([reaction(f"real{n_real + i}") for i in range(SMALLEST_CELL)]))
    assert any(looks(monitor).values())


def test_one_person_who_reacts_a_hundred_times_is_never_shown():
    lane = Lane()
    assert not any(lane.add(1, "one", 0) for _ in range(100))
    assert lane.n_shown == 0


@given(
    st.dictionaries(st.sampled_from("abcde"), st.integers(0, 90)),
    st.dictionaries(st.sampled_from("abcde"), st.integers(0, 90)),
)
def test_who_has_been_sent_is_shown_by_twenties(now, later):
    """Neither a number nor a difference from an earlier one is below 20."""
    first, second = shown_counts(now), shown_counts(later)
    for name in {*first, *second}:
        n = second.get(name, 0)
        assert n == 0 or n >= SMALLEST_CELL
        moved = abs(n - first.get(name, 0))
        assert moved == 0 or moved >= SMALLEST_CELL
        assert n <= later.get(name, 0)


@pytest.mark.parametrize("n", [19, 20, 39])
def test_a_group_is_shown_from_20_on(n):
    assert shown_counts({"few": n}) == ({} if n < 20 else {"few": 20})
