"""A replay plays every reaction of a post, once, when it is due."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from http.client import RemoteDisconnected
from io import BytesIO
from urllib.error import URLError

import numpy as np
import pytest

from hustings.experiments import replay
from hustings.experiments.declaration import data_dir
from hustings.experiments.replay import (
    MAX_BATCH,
    Decay,
    Post,
    in_order,
    moment,
    n_unreadable,
    play,
    posts_of,
    speed_of,
    spread,
    to_endpoint,
)
from hustings.features.insights import ExportFormat, read_insights
from hustings.serving.reactions.http import Intake
from hustings.serving.reactions.store import Events

AT = datetime(2016, 6, 1, 10, tzinfo=UTC)
REAL = data_dir() / "facebook_reactions2016" / "facebook_reactions_2016.parquet"


def post(post_id: str, hours: float = 0, **totals: int) -> Post:
    told = {"post_id": post_id, "platform": "facebook"}
    return Post(AT + timedelta(hours=hours), told, "what it says", totals)


def test_hourly_counts_are_whole_and_sum_to_the_totals():
    events = spread(post("p", like=12_345, angry=3), Decay(), seed=1)
    totals = Counter()
    for at, event in events:
        totals[event["kind"]] += event["count"]
        assert AT <= at < AT + timedelta(hours=48)
        assert event["count"] >= 1
    assert totals == {"like": 12_345, "angry": 3}
    assert [at for at, _ in events] == sorted(at for at, _ in events)
    assert sum("post_text" in event for _, event in events) == 1


def test_half_of_the_reactions_come_in_the_declared_half_life():
    events = spread(post("p", like=200_000), Decay(half_life_h=4), seed=1)
    early = sum(e["count"] for at, e in events if at < AT + timedelta(hours=4))
    # binomial: three standard errors are .0034
    assert early / 200_000 == pytest.approx(0.5, abs=0.004)


def test_the_seed_and_the_post_alone_fix_the_draw():
    alone = spread(post("p", like=500), Decay(), seed=1)
    assert alone == spread(post("p", like=500), Decay(), seed=1)
    assert alone != spread(post("p", like=500), Decay(), seed=2)
    assert [e["count"] for _, e in alone] != [
        e["count"] for _, e in spread(post("q", like=500), Decay(), seed=1)
    ]


def test_events_of_all_posts_come_in_time_order():
    posts = [post(f"p{i}", hours=i / 3, like=50, sad=9) for i in range(30)]
    played = list(in_order(posts, Decay(), seed=1))
    times = [at for at, _ in played]
    assert times == sorted(times)
    assert sum(e["count"] for _, e in played) == 30 * 59
    assert len({e["event_id"] for _, e in played}) == len(played)


def test_nothing_is_sent_before_it_is_due_and_all_of_it_is_sent(monkeypatch):
    posts = [post(f"p{i}", hours=i, like=400) for i in range(20)]
    events = list(in_order(posts, Decay(), seed=1))
    now, sent = [100.0], []

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def send(batch: list[dict]) -> None:
        assert len(batch) <= MAX_BATCH
        sent.extend((now[0], event) for event in batch)

    monkeypatch.setattr(replay.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(replay.time, "sleep", sleep)
    n = play(events, send, speed=3600)
    assert n == len(events)
    assert [e for _, e in sent] == [e for _, e in events]
    first = events[0][0]
    for (when, _), (at, _) in zip(sent, events, strict=True):
        late_s = (when - 100.0) - (at - first).total_seconds() / 3600
        assert -1e-6 <= late_s <= 0.5


def test_speeds_and_times_are_read_or_refused():
    assert speed_of("2.5x") == 2.5
    assert moment("2016-06-01") == datetime(2016, 6, 1, tzinfo=UTC)
    assert moment("") is None
    for wrong in ("fast", "0x", "-3x"):
        with pytest.raises(ValueError, match="3600x"):
            speed_of(wrong)
    with pytest.raises(ValueError, match="2016-06-01"):
        moment("June")


MESSY = """post_id,publish_time,num_likes,age,their_split
p1,2016-06-01,100,18-29,a
p1,2016-06-01,100,30-44,a
p1,2016-06-01,100,30-44,a
p1,2016-06-01,50,30-44,b
p2,soon,9,18-29,a
,2016-06-01,9,18-29,a
"""


def test_rows_of_a_breakdown_are_events_of_their_own_and_what_is_no_post_is_counted(
    tmp_path,
):
    path = tmp_path / "export.csv"
    path.write_text(MESSY)
    insights = read_insights(path, ExportFormat())
    posts = posts_of(insights, since=None, until=None)
    assert [(p.event_fields["age_band"], p.totals) for p in posts] == [
        ("18-29", {"like": 100}),
        ("30-44", {"like": 150}),
    ]
    assert n_unreadable(insights) == 2
    played = [event for _, event in in_order(posts, Decay(), seed=1)]
    assert len({e["event_id"] for e in played}) == len(played)
    assert sum(e["count"] for e in played) == 250
    same = [
        spread(Post(AT, p.event_fields, None, {"like": 500}), Decay(), 1) for p in posts
    ]
    counts = [[event["count"] for _, event in events] for events in same]
    assert counts[0] != counts[1]


@pytest.mark.parametrize(
    "failure",
    [RemoteDisconnected("gone"), TimeoutError("slow"), URLError("refused")],
)
def test_a_batch_whose_receipt_was_lost_is_sent_again(monkeypatch, failure):
    receipt = b'{"accepted": 0, "duplicate": 1, "quarantined": 0}'
    answers = iter([failure, failure, BytesIO(receipt)])

    def answer(*_args: object, **_fields: object) -> BytesIO:
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr("urllib.request.urlopen", answer)
    monkeypatch.setattr("time.sleep", lambda _s: None)
    send = to_endpoint("http://127.0.0.1:1", "key")
    assert send([{"event_id": "a"}])["duplicate"] == 1
    answers = iter([failure] * replay.TRIES)
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:1: "):
        send([{"event_id": "a"}])


def test_two_days_of_real_posts_arrive_to_the_last_reaction(tmp_path):
    if not REAL.exists():
        pytest.skip(f"the public data are not there: {REAL.name}")
    insights = read_insights(REAL, ExportFormat())
    assert (insights.n_rows, len(insights.frame)) == (52_643, 52_631)  # 12 repeats
    since, until = (datetime(2016, 6, d, tzinfo=UTC) for d in (1, 2))
    posts = posts_of(insights, since=since, until=until)[::12]
    intake = Intake(Events.open(tmp_path / "events.db"))

    def send(batch: list[dict]) -> None:
        receipt = intake.receive(batch, received_at=AT + timedelta(days=9))
        assert receipt.quarantined == receipt.duplicate == 0

    events = ((at, e) for at, e in in_order(posts, Decay(), 1))
    play(events, send, speed=np.inf)
    kept = intake.events.counts().groupby(["post_id", "kind"])["count"].sum()
    truth = {
        (str(p.event_fields["post_id"]), k): n
        for p in posts
        for k, n in p.totals.items()
        if n
    }
    assert kept.to_dict() == truth
    assert len(posts) > 20
    intake.events.close()
