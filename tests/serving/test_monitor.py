"""Planted streams: backlash, brigades, late events, restarts, endless posts."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from hustings.serving.monitor.disclosure import OTHER
from hustings.serving.monitor.snapshot import snapshot
from hustings.serving.monitor.stream import (
    BACKLASH,
    NEW_ACCOUNTS,
    OUTSIDE_AREA,
    UNKNOWN,
    WHOLE,
    Alarm,
    Monitor,
    MonitorRules,
    hour_start,
)
from tests.serving.reactions import START, events

RULES = MonitorRules(hours=6)
ISSUES = {"bridge": "roads", "potholes": "roads"}


def stream(hours, share_bad=0.1, per_hour=150, message="bridge", seed=1, **fields):
    """Reactions of different people; `share_bad` may be a function of the hour."""
    rng = np.random.default_rng([seed, *message.encode()])
    rows = []
    for hour in hours:
        p = share_bad(hour) if callable(share_bad) else share_bad
        for i in range(per_hour):
            rows.append(
                {"message_id": message, "kind": "angry" if rng.random() < p else "like",
                 "hour": hour + i / per_hour, "person": f"{message}-{seed}-{hour}-{i}",
                 "in_area": True, "account_age_days": 900.0, **fields}
            )  # fmt: skip
    return rows


def in_order(*streams):
    return sorted((row for rows in streams for row in rows), key=lambda r: r["hour"])


def monitored(rows, rules=RULES, batch=100):
    """A monitor that looked after every few reactions, and its alarms as they came."""
    monitor, alarms, frame = Monitor(rules, ISSUES), [], events(rows)
    for at in range(0, len(frame), batch):
        monitor.add(frame.iloc[at : at + batch])
        alarms += monitor.judge()
    return monitor, alarms


def told(monitor, **known):
    nothing = {"paused": {}, "sent": {}, "planned": {}, "lifts": {}}
    return snapshot(monitor, **{**nothing, **known})


def row_of(monitor, message="bridge", **known):
    rows = told(monitor, **known)["messages"]
    return next(row for row in rows if row["message_id"] == message)


# --- backlash -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def backlash():
    """From the ninth hour on, half of what is heard of the bridge is bad."""
    return monitored(
        in_order(
            stream(range(12), lambda h: 0.1 if h < 9 else 0.5),
            stream(range(12), 0.1, message="potholes"),
        )
    )


def test_a_backlash_alarms_for_its_message_and_no_other(backlash):
    _, alarms = backlash
    assert [(a.message_id, a.kind, a.of_whole_message) for a in alarms] == [
        ("bridge", BACKLASH, True)
    ]
    assert hour_start(alarms[0].since, RULES) == START.tz_localize("UTC") + (
        pd.Timedelta(hours=9)
    )


def test_an_alarm_tells_shares_before_and_since(backlash):
    monitor, _ = backlash
    (alarm,) = told(monitor)["alarms"]
    assert alarm["text"].startswith("Bad news is ")
    shares = [int(word) for word in alarm["text"].split() if word.isdigit()]
    assert shares == pytest.approx([50, 10], abs=8)
    assert alarm["contradicts_lift"] is None


@pytest.mark.parametrize(("low", "says_so"), [(0.4, True), (-0.2, False)])
def test_an_alarm_against_a_lift_above_zero_says_so(backlash, low, says_so):
    lifts = {"bridge": {"lift": 1.2, "low": low, "high": 2.0}}
    (alarm,) = told(backlash[0], lifts=lifts)["alarms"]
    said = alarm["contradicts_lift"]
    assert (said is not None) == says_so
    if says_so:
        assert "+1.2 (+0.4 to +2)" in said


def test_an_alarm_of_segments_that_turns_to_the_whole_message_is_told_again():
    quiet = [
        stream(range(12), lambda h: 0.1 if h < 10 else 0.6, 200, seed=i, segment=name)
        for i, name in enumerate(["young", "middle", "retired"])
    ]
    loud = stream(
        range(12), lambda h: 0.1 if h < 8 else 0.6, 80, seed=9, segment="parents"
    )
    _, alarms = monitored(in_order(*quiet, loud))
    assert [(a.kind, a.of_whole_message) for a in alarms] == [
        (BACKLASH, False),
        (BACKLASH, True),
    ]
    assert alarms[0].raised == alarms[1].raised


def one_chunk_later():
    """Mostly well received; then hardly anybody but a chunk of the angry is shown."""
    people = [
        {
            "message_id": "bridge",
            "kind": "like",
            "hour": h + i / 60,
            "person": f"{h}-{i}",
        }
        for h in range(20)
        for i in range(60)
    ]
    few = [("like", s, i) for s in "uvxyz" for i in range(39)]
    few += [("angry", "x", i) for i in range(40)]
    return people + [
        {"message_id": "bridge", "kind": kind, "hour": 26.2, "segment": segment,
         "person": f"{kind}-{segment}-{i}"}
        for kind, segment, i in few
    ]  # fmt: skip


def test_a_chunk_of_one_kind_is_no_change_and_no_share():
    # 195 of 235 are good news in truth; shown are only the 40 of the other kind
    monitor = Monitor(MonitorRules(hours=24), ISSUES)
    monitor.add(events(one_chunk_later()))
    assert row_of(monitor)["change"] is None
    since = monitor.now - 3
    monitor.alarms["bridge", BACKLASH] = Alarm(
        "bridge", BACKLASH, since, monitor.now, False, ("x",), monitor.now
    )
    (alarm,) = told(monitor)["alarms"]
    assert alarm["text"] == "Among x, bad news has risen."


def test_an_alarm_names_who_has_been_sent_the_message(backlash):
    sent = {"bridge": {"n": 60, "by_segment": {"young": 60}, "by_county": {}}}
    planned = {"bridge": {"n": 90, "by_segment": {"young": 90}, "by_county": {}}}
    (alarm,) = told(backlash[0], sent=sent, planned=planned)["alarms"]
    assert alarm["sent"] == sent["bridge"]
    assert alarm["planned"] == planned["bridge"]


def test_an_alarm_ends_when_its_hours_are_over():
    rows = in_order(stream(range(30), lambda h: 0.5 if 9 <= h < 11 else 0.1))
    monitor, alarms = monitored(rows)
    assert [a.kind for a in alarms] == [BACKLASH]
    assert monitor.alarms == {}


def test_a_backlash_in_one_segment_names_it():
    quiet = [
        stream(range(12), 0.1, 120, seed=i, segment=name)
        for i, name in enumerate(["young", "middle", "retired"])
    ]
    loud = stream(
        range(12), lambda h: 0.1 if h < 8 else 0.6, 120, seed=9, segment="parents"
    )
    _, alarms = monitored(in_order(*quiet, loud))
    assert {a.kind for a in alarms} == {BACKLASH}
    assert alarms[0].segments == ("parents",)


def test_a_person_who_is_angry_two_hundred_times_is_no_backlash():
    calm = stream(range(12), 0.1)
    loud = [
        {"message_id": "bridge", "kind": "angry", "hour": 10 + i / 200, "person": "one"}
        for i in range(200)
    ]
    assert monitored(in_order(calm, loud))[1] == []
    many = [{**row, "person": f"p{i}"} for i, row in enumerate(loud)]
    assert [a.kind for a in monitored(in_order(calm, many))[1]] == [BACKLASH]


def test_counts_that_come_kind_by_kind_are_judged_once_their_hour_is_over():
    """Each hour the angry ones come first; their share never changes."""
    rows = [
        {"message_id": "bridge", "kind": kind, "count": n, "hour": hour + at}
        for hour in range(14)
        for at, kind, n in ((0.1, "angry", 400), (0.6, "like", 3_600))
    ]
    assert monitored(rows, batch=1)[1] == []
    loud = [
        {**r, "count": 2_400} if r["kind"] == "angry" and r["hour"] > 10 else r
        for r in rows
    ]
    assert [a.kind for a in monitored(loud, batch=1)[1]] == [BACKLASH]


# --- brigades -------------------------------------------------------------------------


def test_a_crowd_of_new_accounts_alarms_and_counts_in_no_rate():
    calm = stream(range(14), 0.1)
    crowd = stream(range(10, 14), 1.0, 300, seed=7, account_age_days=2.0)
    monitor, alarms = monitored(in_order(calm, crowd))
    assert [a.kind for a in alarms] == [NEW_ACCOUNTS]
    row = row_of(monitor)
    assert row["bad"] / (row["good"] + row["bad"]) == pytest.approx(0.1, abs=0.04)
    assert row["new_accounts"] == pytest.approx(4 * 300, abs=200)
    # the same people with old accounts would be the backlash they look like
    grown = [{**r, "account_age_days": 900.0} for r in crowd]
    assert [a.kind for a in monitored(in_order(calm, grown))[1]] == [BACKLASH]


def test_a_steady_share_of_new_accounts_counts_like_any_other():
    old = stream(range(14), 0.1, 100)
    new = stream(range(14), 0.4, 100, seed=7, account_age_days=2.0)
    monitor, alarms = monitored(in_order(old, new))
    assert alarms == []
    row = row_of(monitor)
    assert row["new_accounts"] == 0
    assert row["bad"] / (row["good"] + row["bad"]) == pytest.approx(0.25, abs=0.04)


def test_reactions_from_outside_the_area_are_counted_and_in_no_rate():
    inside = stream(range(14), 0.1)
    outside = stream(range(14), 0.9, seed=7, in_area=False)
    monitor, alarms = monitored(in_order(inside, outside))
    assert alarms == []
    row = row_of(monitor)
    assert row["apart_share"] == pytest.approx(0.5, abs=0.03)
    assert row["bad"] / (row["good"] + row["bad"]) == pytest.approx(0.1, abs=0.04)


def test_a_sudden_rise_from_outside_alarms():
    inside = stream(range(14), 0.1)
    trickle = stream(range(10), 0.9, 15, seed=7, in_area=False)
    flood = stream(range(10, 14), 0.9, 400, seed=8, in_area=False)
    _, alarms = monitored(in_order(inside, trickle, flood))
    assert [a.kind for a in alarms] == [OUTSIDE_AREA]


def test_nobody_knows_where_or_how_old_counts_as_the_campaigns_own():
    rows = stream(range(3), 0.1, in_area=None, account_age_days=None)
    row = row_of(monitored(rows)[0])
    assert row["apart_share"] == 0
    assert row["good"] + row["bad"] > 340


# --- counting -------------------------------------------------------------------------


def test_late_and_disordered_events_land_in_their_own_hour():
    rows = in_order(stream(range(10), 0.2))
    late = [
        {**row, "received": 10.0} if i % 3 == 0 else row for i, row in enumerate(rows)
    ]
    order = sorted(
        range(len(late)), key=lambda i: late[i].get("received") or late[i]["hour"]
    )
    straight, mixed = monitored(rows)[0], monitored([late[i] for i in order])[0]
    assert mixed.messages["bridge"].hours == straight.messages["bridge"].hours


def test_what_comes_from_the_future_came_when_it_was_received():
    rows = [*stream(range(3)), {"message_id": "bridge", "hour": 900.0, "received": 3.0}]
    monitor, _ = monitored(rows)
    assert hour_start(monitor.now, RULES).hour == 3


def test_events_before_the_hours_kept_count_in_totals_only():
    old = [
        {"message_id": "bridge", "hour": 0.0, "received": 40.0, "person": f"old{i}"}
        for i in range(40)
    ]
    monitor, _ = monitored([*stream(range(38, 40)), *old])
    row = row_of(monitor)
    assert row["good"] + row["bad"] >= 40 + 200
    assert min(monitor.messages["bridge"].hours[WHOLE]) >= 38


def test_posts_without_a_message_and_counts_from_a_platform_are_followed():
    rows = [
        {"message_id": None, "post_id": "post-1", "kind": "angry", "count": 400},
        {"message_id": None, "post_id": "post-1", "kind": "poke", "count": 50},
    ]
    monitor, _ = monitored(rows)
    row = row_of(monitor, "post-1")
    assert (row["bad"], row["neutral"], row["issue"]) == (400, 50, UNKNOWN)
    assert row["kinds"] == {"angry": 400, OTHER: 50}
    assert not row["declared"]


def test_the_campaigns_own_table_of_kinds_holds():
    rules = MonitorRules(hours=6, valence={"like": "good", "haha": "bad"})
    rows = [{"message_id": "bridge", "kind": "haha", "count": 50}]
    assert row_of(monitored(rows, rules)[0])["bad"] == 50


def test_a_restart_counts_the_same_and_knows_the_same_alarms(backlash):
    rows = in_order(
        stream(range(12), lambda h: 0.1 if h < 9 else 0.5),
        stream(range(12), 0.1, message="potholes"),
    )
    again = Monitor(RULES, ISSUES)
    again.add(events(rows))
    again.judge()
    live = backlash[0]
    assert told(again)["messages"] == told(live)["messages"]
    assert set(again.alarms) == set(live.alarms)


def test_memory_does_not_grow_with_reactions_hours_posts_or_segments():
    rules = MonitorRules(hours=4, max_messages=20, max_segments=5)
    monitor = Monitor(rules, ISSUES)
    rng = np.random.default_rng(1)

    def feed(first_hour: int) -> None:
        n = 1_000
        monitor.add(
            events(
                {"message_id": f"post-{first_hour}-{rng.integers(60)}",
                 "kind": "like", "hour": first_hour + 40 * i / n, "count": 6,
                 "segment": f"s{rng.integers(50)}"}
                for i in range(n)
            )
        )  # fmt: skip
        monitor.judge()

    feed(0)
    tracemalloc.start()
    feed(40)
    first = tracemalloc.get_traced_memory()[0]
    for round_ in range(2, 6):
        feed(40 * round_)
    grown = tracemalloc.get_traced_memory()[0] - first
    tracemalloc.stop()
    assert len(monitor.messages) <= 20 + len(ISSUES)
    assert max(len(m.lanes) for m in monitor.messages.values()) <= 6
    assert grown < 200_000
    # what was shown of closed posts stays with their issue
    issues = {row["issue"]: row["good"] for row in told(monitor)["issues"]}
    assert issues[UNKNOWN] > 0


def test_a_message_nothing_is_shown_of_is_not_listed():
    monitor, _ = monitored([{"message_id": "bridge"}, {"message_id": "x", "count": 19}])
    assert told(monitor)["messages"] == []
    assert told(monitor)["heard_until"] is None
