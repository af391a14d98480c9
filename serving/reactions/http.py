"""Intake of reactions over HTTP: read, labelled with an issue, stored, acknowledged.

`POST /reactions` and the consumer of a broker share `Intake`. `GET /reactions/review`
lists replies that may ask to be left alone, for a person who answers by `POST`. The
serving bundle holds what a campaign declares of its reactions, the store's address
included.
"""

import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from pydantic_core import from_json
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hustings.features.arrays import Bools
from hustings.features.post import FLOOR, Topics, issue_of
from hustings.serving.bodies import WishAnswer, parsed, refuse
from hustings.serving.keys import acting
from hustings.serving.reactions.payload import (
    MAX_EVENTS,
    EventBatch,
    KeyMissing,
    Row,
    link_key,
    read_events,
    set_aside_forgotten,
    set_aside_whole,
)
from hustings.serving.reactions.store import (
    FILE,
    STORE_WITHIN_S,
    Events,
    Receipt,
)
from hustings.serving.responses import MAX_FAULTS_LISTED, answered, not_now

STORE_VARIABLE = "HUSTINGS_EVENTS"
_PLAN = "plan.json"
MAX_POSTS_KNOWN = 100_000
NOT_KEPT = "the store did not keep them: send them again"
NOT_READ = "the store could not be read: ask again"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReactionSettings:
    """Settings of a campaign's reactions.

    Attributes:
        store: Address of PostgreSQL; None for a file next to the campaign's runs.
        keep_text: Whether the texts of replies are kept.
        kinds: Kind → good, bad or neutral, as the campaign declares it.
        area: Places of the campaign: a state or county begins with one of them.
        posts: Post → the message of the campaign that it is.
        issue_floor: Confidence below which a post has no issue.
        messages: message_id, issue, stance and text of the campaign's messages.
        ballots_from: First day of ballots of the campaign's election, YYYY-MM-DD; None
            where it takes none.
    """

    store: str | None = None
    keep_text: bool = False
    kinds: Mapping[str, str] = field(default_factory=dict)
    area: tuple[str, ...] = ()
    posts: Mapping[str, str] = field(default_factory=dict)
    issue_floor: float = FLOOR
    messages: tuple[Mapping[str, Any], ...] = ()
    ballots_from: str | None = None

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """Read `reactions` of plan.json, without the keys of other readers."""
        settings = {
            name: stored[name] for name in cls.__dataclass_fields__ if name in stored
        }
        for name in ("area", "messages"):
            settings[name] = tuple(settings.get(name, ()))
        return cls(**settings)


def store_of_bundle(bundle: Path) -> str | Path:
    """Where the reactions of a bundle's campaign are kept.

    The store is the one in the environment's HUSTINGS_EVENTS, else the one that the
    bundle declares, else a file in the folder that holds the bundle.
    """
    declared = _declared_in(bundle).store if (bundle / _PLAN).exists() else None
    store = os.environ.get(STORE_VARIABLE) or declared
    return store or bundle.resolve().parent / FILE


def _declared_in(bundle: Path) -> ReactionSettings:
    section = json.loads((bundle / _PLAN).read_text()).get("reactions", {})
    return ReactionSettings.of(section)


def _nobody(voter_ids: Sequence[str]) -> Bools:
    return np.zeros(len(voter_ids), dtype=np.bool_)


@dataclass
class Intake:
    """Intake of events into the store.

    Attributes:
        events: The store.
        declared: What the campaign declares.
        key: Hashes persons; None refuses events that name one.
        forgotten: Who of some voters is forgotten: nothing is kept of them.
    """

    events: Events
    declared: ReactionSettings = field(default_factory=ReactionSettings)
    key: bytes | None = None
    forgotten: Callable[[Sequence[str]], Bools] = _nobody
    _issues: dict[str, str] = field(default_factory=dict)
    _posts: dict[str, Row] = field(default_factory=dict)
    _topics: Topics | None = None
    _labels: bool = True

    def __post_init__(self) -> None:
        messages = self.declared.messages
        self._issues = {m["message_id"]: m["issue"] for m in messages}
        self._labels = bool(messages)

    @classmethod
    def of_bundle(
        cls, bundle: Path, forgotten: Callable[[Sequence[str]], Bools]
    ) -> Self:
        """Build as a serving bundle declares it.

        Args:
            bundle: Its folder.
            forgotten: As the bundle's own list says it.

        Raises:
            ValueError: If the store's address is of no known kind.
        """
        events = Events.open(store_of_bundle(bundle), within_s=STORE_WITHIN_S)
        return cls(events, _declared_in(bundle), link_key(), forgotten)

    def receive(self, payloads: Sequence[Any], *, received_at: datetime) -> Receipt:
        """Keep a batch: it is on disk when this returns.

        Args:
            payloads: Events as JSON gives them.
            received_at: UTC.

        Raises:
            KeyMissing: If an event names a person and there is no key.
            sqlalchemy.exc.SQLAlchemyError: If the store could not keep it.
        """
        return self.keep(self.read(payloads, received_at=received_at))

    def read(self, payloads: Sequence[Any], *, received_at: datetime) -> EventBatch:
        """Read a batch without keeping anything of it.

        Args:
            payloads: Events as JSON gives them.
            received_at: UTC.

        Raises:
            KeyMissing: If an event names a person and there is no key.
        """
        first_day = self.declared.ballots_from
        return read_events(
            payloads,
            received_at=received_at,
            key=self.key,
            keep_text=self.declared.keep_text,
            kinds={kind.lower() for kind in self.declared.kinds},
            ballots_from=date.fromisoformat(first_day) if first_day else None,
        )

    def keep(self, batch: EventBatch) -> Receipt:
        """Label and keep a batch that was read: it is on disk when this returns.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: If the store could not keep it.
        """
        self._place(batch.events)
        self._label(batch)
        if batch.ballots:
            gone = self.forgotten([row["voter_id"] for row in batch.ballots])
            set_aside_forgotten(batch, gone)
        return self.events.append(batch)

    def set_aside(self, reason: str, n_bytes: int, *, received_at: datetime) -> Receipt:
        """Quarantine what is no event at all."""
        return self.events.append(
            set_aside_whole(reason, n_bytes, received_at=received_at)
        )

    def _place(self, rows: Sequence[Row]) -> None:
        """Whether reactions come from the campaign's area, where that is known."""
        area = self.declared.area
        if not area:
            return
        for row in rows:
            if row["in_area"] is None and row["place"] is not None:
                row["in_area"] = row["place"].startswith(area)

    # --- issues ---

    def _label(self, batch: EventBatch) -> None:
        """Label the events that come without an issue."""
        nameless: list[Row] = []
        for row in batch.events:
            if row["message_id"] is None:
                row["message_id"] = self.declared.posts.get(row["post_id"])
            if row["issue"] is not None:
                continue
            issue = self._issues.get(row["message_id"])
            if issue is not None:
                row.update(issue=issue, issue_confidence=1.0)
            elif row["post_id"] is not None:
                nameless.append(row)
        if nameless and self._labels:
            labels = self._post_labels(nameless, batch.post_texts)
            for row in nameless:
                row.update(labels.get(row["post_id"], {}))

    def _post_labels(
        self, rows: Sequence[Row], texts: Mapping[str, str]
    ) -> Mapping[str, Row]:
        """Issue and confidence of posts, those of new ones found by their texts."""
        unknown = {row["post_id"] for row in rows} - self._posts.keys()
        if unknown:
            if len(self._posts) > MAX_POSTS_KNOWN:
                self._posts.clear()
                unknown = {row["post_id"] for row in rows}
            for post, (issue, sure) in self.events.posts(unknown).items():
                self._posts[post] = {"issue": issue, "issue_confidence": sure}
            self._find(
                {p: texts[p] for p in unknown - self._posts.keys() & texts.keys()}
            )
        return self._posts

    def _find(self, texts: Mapping[str, str]) -> None:
        if not texts:
            return
        try:
            if self._topics is None:
                self._topics = Topics.of(pd.DataFrame(list(self.declared.messages)))
            issues = issue_of(
                list(texts.values()), self._topics, floor=self.declared.issue_floor
            )
        except ModuleNotFoundError as failure:
            # a reaction without an issue is worth more than none
            self._labels = False
            _log.warning("posts get no issue: %s", failure)
            return
        labels = [
            {"post_id": post, "issue": issue, "issue_confidence": float(sure)}
            for post, issue, sure in zip(texts, *issues, strict=True)
        ]
        self.events.remember_posts(labels)
        for label in labels:
            post = str(label["post_id"])
            self._posts[post] = {k: label[k] for k in ("issue", "issue_confidence")}


# --- HTTP -----------------------------------------------------------------------------


def batch_of(body: bytes | bytearray) -> list[Any]:
    """The events of a body: one object, or `{"events": [...]}`.

    Raises:
        RequestError: If it is neither.
    """
    try:
        given_json = from_json(bytes(body), allow_inf_nan=False)
    except ValueError as failure:
        refuse("", f"expected JSON: {failure}", status=400)
    if not isinstance(given_json, dict) or "events" not in given_json:
        return [given_json]
    given = given_json["events"]
    if len(given_json) > 1 or not isinstance(given, list):
        refuse("", 'expected one event or {"events": [...]} and nothing else')
    if len(given) > MAX_EVENTS:
        message = f"expected at most {MAX_EVENTS:,} events, got {len(given):,}"
        refuse("", message, status=413)
    return given


def receipt_json(receipt: Receipt) -> dict[str, Any]:
    """A receipt as JSON."""
    return {
        "accepted": receipt.accepted,
        "duplicate": receipt.duplicate,
        "quarantined": receipt.quarantined,
        "faults": [vars(fault) for fault in receipt.faults[:MAX_FAULTS_LISTED]],
        "n_faults": len(receipt.faults),
        "withdrawn": receipt.withdrawn,
        "to_review": receipt.to_review,
        "unknown_kinds": dict(receipt.unknown_kinds),
    }


def utc_now() -> datetime:
    """The time at the edge, where an event comes in."""
    return datetime.fromtimestamp(time.time(), tz=UTC)


async def _reactions(request: Request) -> Response:
    intake, body = request.app.state.intake, await request.body()

    def received() -> Response:
        try:
            receipt = intake.receive(batch_of(body), received_at=utc_now())
        except KeyMissing as failure:
            return not_now(str(failure))
        # a sender that looks at the status alone has to see that nothing was taken
        return JSONResponse(receipt_json(receipt), 200 if receipt.is_of_use else 422)

    # beside the event loop: health is answered while the disk is waited for
    return await run_in_threadpool(answered, received, without_store=NOT_KEPT)


async def _open_wishes(request: Request) -> Response:
    intake: Intake = request.app.state.intake

    def open_wishes() -> Response:
        frame = intake.events.open_wishes()
        times = {name: frame[name].dt.strftime("%Y-%m-%dT%H:%M:%SZ") for name in _TIMES}
        wishes = frame.assign(**times).to_dict("records")
        headers = {"Cache-Control": "no-store"}
        return JSONResponse({"wishes": wishes}, headers=headers)

    return await run_in_threadpool(answered, open_wishes, without_store=NOT_READ)


async def _answer_wish(request: Request) -> Response:
    intake: Intake = request.app.state.intake
    body = await request.body()

    def answered_wish() -> Response:
        given = parsed(WishAnswer, body)
        by = acting(request.scope, given.by)
        n = intake.events.answer_wish(given.event_id, given.answer, by=by, at=utc_now())
        if n == 0:
            refuse("event_id", f"expected an open wish, got {given.event_id!r}",
                   status=404)  # fmt: skip
        return JSONResponse({"event_id": given.event_id, "answer": given.answer})

    return await run_in_threadpool(answered, answered_wish, without_store=NOT_KEPT)


_TIMES = ("at", "received_at")

routes = [
    Route("/reactions", _reactions, methods=["POST"]),
    Route("/reactions/review", _open_wishes, methods=["GET"]),
    Route("/reactions/review", _answer_wish, methods=["POST"]),
]
"""To be mounted by an app whose `state.intake` is an `Intake`."""
