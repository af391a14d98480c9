"""Replay of real posts: their counts, as events in time order at a chosen speed.

A post's counts are totals. They are spread over the hours after the post by a declared
decay, as whole numbers drawn from a seed that sum to the totals exactly. The same seed
gives the same events, so that an interrupted replay continues without double counting.
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
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np

from hustings.features.arrays import Floats
from hustings.features.insights import BREAKDOWN, InsightRow, Insights

Payload = dict[str, Any]
Send = Callable[[list[Payload]], None]

HORIZON_H = 48
"""Hours after a post by which all its reactions have come."""
MAX_BATCH = 1_000
TICK_S = 0.25
"""Seconds between two batches."""
TRIES = 8


class Decay(NamedTuple):
    """Time profile of the reactions to a post.

    Attributes:
        half_life_h: Hours in which half of those still to come have come.
    """

    half_life_h: float = 3.0

    def shares(self) -> Floats:
        """Share of the total in every hour, shape (HORIZON_H,); sums to 1."""
        left = 0.5 ** (np.arange(HORIZON_H) / self.half_life_h)
        share_of_hour: Floats = left / left.sum()
        return share_of_hour


@dataclass(frozen=True)
class Post:
    """A post and the totals of its reactions.

    Attributes:
        at: When it was posted.
        event_fields: Fields that all its events share.
        text: Text of the post.
        totals: Number of people by kind of reaction.
    """

    at: datetime
    event_fields: Payload
    text: str | None
    totals: dict[str, int]

    @property
    def key(self) -> str:
        """The post's id and a digest of its values of the breakdown columns."""
        breakdown = [self.event_fields.get(name) for name in BREAKDOWN]
        digest = hashlib.sha256(repr(breakdown).encode()).hexdigest()[:8]
        return f"{self.event_fields['post_id']}-{digest}"


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
    readable = [_post(row) for row in insights.rows if row.fault is None]
    posts = [
        post
        for post in sorted(readable, key=lambda post: post.at)
        if (since is None or post.at >= since) and (until is None or post.at < until)
    ]
    post_of_key: dict[str, Post] = {}
    for post in posts:
        first = post_of_key.setdefault(post.key, post)
        if first is not post:
            # the export breaks the post down by a column that events do not carry
            for kind, count in post.totals.items():
                first.totals[kind] = first.totals.get(kind, 0) + count
    return list(post_of_key.values())


def n_unreadable(insights: Insights) -> int:
    """Number of rows without the id of a post or without a readable time."""
    return sum(row.fault is not None for row in insights.rows)


def _post(row: InsightRow) -> Post:
    event_fields = dict(row.fields)
    at = datetime.fromisoformat(event_fields.pop("occurred_at"))
    totals = Counter[str]()
    for _, kind, count in row.counts:
        totals[kind] += count if isinstance(count, int) else 0
    return Post(at, event_fields, event_fields.pop("post_text", None), dict(totals))


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
    # a platform reports the counts of all kinds at the same moment
    within = rng.uniform(0, 3600, len(shares)).round(3)
    for kind, total in post.totals.items():
        people = rng.multinomial(total, shares)
        for hour in np.flatnonzero(people):
            at = post.at + timedelta(hours=int(hour), seconds=float(within[hour]))
            event = {
                **post.event_fields,
                "event_id": f"{post.key}-{kind}-{hour}",
                "kind": kind,
                "count": int(people[hour]),
                "occurred_at": at.isoformat(),
            }
            events.append((at, event))
    events.sort(key=lambda pair: pair[0])
    if events and post.text:
        # the first event carries the text, from which the others get their issue
        events[0][1]["post_text"] = post.text[:10_000]
    return events


def in_order(
    posts: Iterable[Post], decay: Decay, seed: int
) -> Iterator[tuple[datetime, Payload]]:
    """Events of all posts in time order; only open posts are held in memory."""
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
    tell: Callable[[datetime, int], None] = lambda _at, _n: None,
) -> int:
    """Send events when they are due, and return their number.

    Args:
        events: In time order.
        send: Sends a batch, and returns once it is kept.
        speed: Seconds of event time in one second of real time; infinite to send
            without waiting.
        tell: Called with the event time reached and the number of events sent.
    """
    began = time.monotonic()
    n, batch, first = 0, list[Payload](), None
    from_s = to_s = 0.0

    def flush() -> int:
        time.sleep(max(0.0, began + to_s - time.monotonic()))
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


def to_endpoint(url: str, key: str) -> Callable[[list[Payload]], Payload]:
    """Build a function that sends batches to `POST /reactions`, with retries.

    The function returns the receipt. A batch whose receipt was lost is sent again; the
    service recognises the events that it has stored.

    Args:
        url: Address of the service.
        key: API key of the service.
    """

    def send(batch: list[Payload]) -> Payload:
        request = urllib.request.Request(
            f"{url.rstrip('/')}/reactions",
            data=json.dumps({"events": batch}).encode(),
            headers={"Content-Type": "application/json", "X-API-Key": key},
        )
        for attempt in range(TRIES):
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    receipt: Payload = json.load(answer)
                    return receipt
            except urllib.error.HTTPError as failure:
                text = failure.read().decode(errors="replace")
                if failure.code == 422 and '"quarantined"' in text:
                    # nothing of the batch was taken; the receipt says why
                    refused_receipt: Payload = json.loads(text)
                    return refused_receipt
                if failure.code != 503 or attempt == TRIES - 1:
                    reason = text[:200]
                    raise ConnectionError(
                        f"{url}: expected a receipt, got {failure.code}: {reason}"
                    ) from None
            except (OSError, http.client.HTTPException) as failure:
                if attempt == TRIES - 1:
                    reason = getattr(failure, "reason", type(failure).__name__)
                    raise ConnectionError(f"{url}: {reason}") from None
            time.sleep(0.2 * 2**attempt)
        raise AssertionError

    return send
