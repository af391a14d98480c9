"""Real posts and their counts, played in time order at a chosen speed.

A post's counts are totals. They are spread over the hours after it by a declared decay:
whole people, drawn from a seed, that sum to the totals exactly. The same seed gives the
same events, so that a replay that was cut off goes on without counting anything twice.
"""

import hashlib
import heapq
import http.client
import json
import re
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hustings.features.arrays import Floats
from hustings.features.insights import BREAKDOWN, Insights, whole

Payload = dict[str, Any]
Send = Callable[[list[Payload]], None]

HORIZON_H = 48
"""So many hours after a post its reactions have all come."""
MAX_BATCH = 1_000
TICK_S = 0.25
"""What is due is sent so often."""
TRIES = 8


class Decay(NamedTuple):
    """How reactions come after a post.

    Attributes:
        half_life_h: Hours in which half of those still to come have come.
        horizon_h: Hours after which none comes.
    """

    half_life_h: float = 3.0
    horizon_h: int = HORIZON_H

    def shares(self) -> Floats:
        """Share of the total in every hour, shape (horizon_h,); sums to 1."""
        left = 0.5 ** (np.arange(self.horizon_h) / self.half_life_h)
        share_of_hour: Floats = left / left.sum()
        return share_of_hour


@dataclass(frozen=True)
class Post:
    """A post and the totals of its reactions.

    Attributes:
        at: When it was posted.
        told: What every event of it tells.
        text: What it says.
        totals: People by kind.
    """

    at: datetime
    told: Payload
    text: str | None
    totals: dict[str, int]

    @property
    def key(self) -> str:
        """The post's id and a digest of what it is broken down by."""
        breakdown = [self.told.get(name) for name in BREAKDOWN]
        digest = hashlib.sha256(repr(breakdown).encode()).hexdigest()[:8]
        return f"{self.told['post_id']}-{digest}"


def posts_of(
    insights: Insights, *, since: datetime | None, until: datetime | None
) -> list[Post]:
    """Posts of a wide export in the order in which they were posted.

    Args:
        insights: The export; a row is a post.
        since: The first time, None for all.
        until: The time after the last.

    Raises:
        ValueError: If the export has no column of counts for each kind.
    """
    if not insights.counts:
        raise ValueError(
            "expected an export with a column of totals for each kind, got one of "
            "counts by time: `hustings reactions import` takes it as it is"
        )
    frame = insights.distinct()
    at = _times(insights, frame)
    wanted = at.notna() & _has_post_id(insights, frame)
    if since is not None:
        wanted &= at >= since
    if until is not None:
        wanted &= at < until
    rows = frame.assign(at=at)[wanted].sort_values("at", kind="stable")
    post_of_key: dict[str, Post] = {}
    for row in rows.to_dict("records"):
        post = _post(insights, {str(k): v for k, v in row.items()})
        first = post_of_key.setdefault(post.key, post)
        if first is not post:
            # told apart by a breakdown that is none of ours
            for kind, count in post.totals.items():
                first.totals[kind] = first.totals.get(kind, 0) + count
    return list(post_of_key.values())


def n_unreadable(insights: Insights) -> int:
    """Rows that are no post: without its id, or without a time that can be read."""
    frame = insights.distinct()
    readable = _times(insights, frame).notna() & _has_post_id(insights, frame)
    return int((~readable).sum())


def _times(insights: Insights, frame: pd.DataFrame) -> pd.Series:
    given = frame[insights.columns["occurred_at"]]
    return pd.to_datetime(given, utc=True, errors="coerce")


def _has_post_id(insights: Insights, frame: pd.DataFrame) -> pd.Series:
    given = frame[insights.columns["post_id"]]
    return given.notna() & (given.astype("str").str.strip() != "")


def _post(insights: Insights, row: Payload) -> Post:
    event_fields = insights.told(row)
    event_fields.pop("occurred_at", None)
    totals: dict[str, int] = {}
    for column, kind in insights.counts.items():
        count = whole(row[column])
        totals[kind] = totals.get(kind, 0) + (count if isinstance(count, int) else 0)
    return Post(
        row["at"].to_pydatetime(),
        event_fields,
        event_fields.pop("post_text", None),
        totals,
    )


def spread(post: Post, decay: Decay, seed: int) -> list[tuple[datetime, Payload]]:
    """A post's events in time order; counts of a kind sum to its total.

    Args:
        post: The post.
        decay: How its reactions come.
        seed: With the post's id and breakdown it fixes the draw, whatever else is
            played.
    """
    rng = np.random.default_rng([seed, zlib.crc32(post.key.encode())])
    shares, events = decay.shares(), []
    # whoever asks a platform for its counts gets those of all kinds at once
    within = rng.uniform(0, 3600, len(shares)).round(3)
    for kind, total in post.totals.items():
        people = rng.multinomial(total, shares)
        for hour in np.flatnonzero(people):
            at = post.at + timedelta(hours=int(hour), seconds=float(within[hour]))
            event = {
                **post.told,
                "event_id": f"{post.key}-{kind}-{hour}",
                "kind": kind,
                "count": int(people[hour]),
                "occurred_at": at.isoformat(),
            }
            events.append((at, event))
    events.sort(key=lambda pair: pair[0])
    if events and post.text:
        # the first of them brings the text, by which the others get their issue
        events[0][1]["post_text"] = post.text[:10_000]
    return events


def in_order(
    posts: Iterable[Post], decay: Decay, seed: int
) -> Iterator[tuple[datetime, Payload]]:
    """The events of all posts in time order, of which only the open ones are kept."""
    open_events: list[tuple[datetime, int, Payload]] = []
    n = 0
    for post in posts:
        while open_events and open_events[0][0] <= post.at:
            at, _, event = heapq.heappop(open_events)
            yield at, event
        for at, event in spread(post, decay, seed):
            n += 1
            heapq.heappush(open_events, (at, n, event))
    while open_events:
        at, _, event = heapq.heappop(open_events)
        yield at, event


def play(
    events: Iterable[tuple[datetime, Payload]],
    send: Send,
    *,
    speed: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    tell: Callable[[datetime, int], None] = lambda _at, _n: None,
) -> int:
    """Send events when they are due; how many there were.

    Args:
        events: In time order.
        send: Sends a batch, and returns once it is kept.
        speed: Seconds of the events in one second; infinite for as fast as they go.
        clock: Seconds that pass.
        sleep: Waits.
        tell: Told of the time that is played and of the events sent.
    """
    began = clock()
    n, batch, first = 0, list[Payload](), None
    from_s = to_s = 0.0

    def flush() -> int:
        sleep(max(0.0, began + to_s - clock()))
        send(batch)
        return len(batch)

    for at, event in events:
        first = first or at
        at_s = (at - first).total_seconds() / speed
        if batch and (len(batch) == MAX_BATCH or at_s >= from_s + TICK_S):
            n += flush()
            tell(at, n)
            batch = []
        if not batch:
            from_s = at_s
        to_s = at_s
        batch.append(event)
    return n + (flush() if batch else 0)


def speed_of(text: str) -> float:
    """A speed as `3600x`, or `max`.

    Raises:
        ValueError: If it is neither.

    >>> speed_of("3600x"), speed_of("max")
    (3600.0, inf)
    """
    if text == "max":
        return float("inf")
    match = re.fullmatch(r"(\d+(?:\.\d+)?)x?", text)
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"expected a speed such as 3600x, or max, got {text!r}")
    return float(match[1])


def moment(text: str) -> datetime | None:
    """A time of the command line, None for none; UTC where it names no zone."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"expected a time such as 2016-06-01, got {text!r}") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def to_endpoint(
    url: str, key: str, *, tries: int = TRIES
) -> Callable[[list[Payload]], Payload]:
    """What sends batches to `POST /reactions`, again where they were not kept.

    It gives the receipt. A batch whose receipt was lost on the way is sent again, and
    what was kept of it is known by then.

    Args:
        url: Of the service.
        key: Its API key.
        tries: So often.
    """

    def send(batch: list[Payload]) -> Payload:
        request = urllib.request.Request(
            f"{url.rstrip('/')}/reactions",
            data=json.dumps({"events": batch}).encode(),
            headers={"Content-Type": "application/json", "X-API-Key": key},
        )
        for attempt in range(tries):
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    receipt: Payload = json.load(answer)
                    return receipt
            except urllib.error.HTTPError as failure:
                if failure.code != 503 or attempt == tries - 1:
                    reason = failure.read().decode(errors="replace")[:200]
                    raise ConnectionError(
                        f"{url}: expected a receipt, got {failure.code}: {reason}"
                    ) from None
            except (OSError, http.client.HTTPException) as failure:
                if attempt == tries - 1:
                    reason = getattr(failure, "reason", type(failure).__name__)
                    raise ConnectionError(f"{url}: {reason}") from None
            time.sleep(0.2 * 2**attempt)
        raise ValueError(f"expected at least one try, got {tries}")

    return send
