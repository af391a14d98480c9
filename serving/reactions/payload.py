"""Reads reaction events from JSON payloads, and sets aside those it cannot read.

An event that cannot be read is set aside with its reason and without anything that
could identify a person; the rest of its batch is stored. The platform's pseudonym of a
person leaves this module only as a keyed hash.
"""

import hashlib
import hmac
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from hustings.features.persons.secret import KEY_VARIABLE, known_link_key
from hustings.features.reaction import STOP, is_stop
from hustings.features.tables import CHANNELS

Row = dict[str, Any]

MASK = "***"
MAX_EVENTS = 10_000
"""In one request."""
MAX_TEXT = 10_000
MAX_COUNT = 2**31 - 1
MAX_SHOWN = 64
AHEAD = timedelta(days=1)
"""Clocks go wrong; a reaction of the day after tomorrow is an error."""
OLDEST = datetime(2000, 1, 1, tzinfo=UTC)
SHOWABLE = frozenset(
    {
        "event_id", "message_id", "post_id", "platform", "kind", "occurred_at",
        "count", "channel", "age_band", "sex", "in_area", "account_age_days", "issue",
        "issue_confidence",
    }
)  # fmt: skip
"""Fields whose values the quarantine may keep; a new field is masked until it is named
here. Even of these, what looks like an address or a number to call is masked."""
_CONTACT = re.compile(r"@|\+?\d[\d ()./-]{7,}\d")
_PLAIN_NAME = re.compile(r"^[a-z_]{1,32}$")
_DIGITS = frozenset({"occurred_at", "event_id", "message_id", "post_id"})
"""Fields that are long rows of digits by nature."""


class KeyMissing(ValueError):  # noqa: N818 - the field's word
    """Events name persons, and there is no key to hash them with."""


def _lowered(given: Any) -> Any:
    return given.strip().lower() if isinstance(given, str) else given


def _no_nul(given: str) -> str:
    # a byte that PostgreSQL keeps in no text
    if "\x00" in given:
        raise ValueError("a text without the character NUL")
    return given


def _as_text(given: Any) -> Any:
    # many number their voters; what is too long for an id stays what it is
    number = isinstance(given, int) and not isinstance(given, bool)
    return str(given) if number and abs(given) < _LONGEST_NUMBER else given


_MAX_ID = 200
_LONGEST_NUMBER = 10 ** (_MAX_ID - 1)
_Id = Annotated[
    StrictStr,
    BeforeValidator(_as_text),
    StringConstraints(min_length=1, max_length=_MAX_ID),
]
_Short = Annotated[StrictStr, StringConstraints(min_length=1, max_length=100)]
_Text = Annotated[StrictStr, StringConstraints(max_length=MAX_TEXT)]
_Word = Annotated[
    StrictStr,
    BeforeValidator(_lowered),
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,31}$"),
]
_Channel = Annotated[
    Literal["mail", "sms", "phone", "email", "door", "social", "web", "survey"],
    BeforeValidator(_lowered),
]


class Reaction(BaseModel):
    """One event as a sender sends it.

    Attributes:
        event_id: The sender's own id: what comes twice by it is kept once. This id, as
            every other, is a text or a whole number.
        message_id: Message of the campaign, where the sender knows it.
        post_id: Post on the platform; one of the two must be there.
        platform: Where, such as facebook or sms.
        kind: like, love, wow, haha, sad, angry, share, comment, click, unsubscribe,
            stop, opt-out, reply or the platform's own word; capitals do not matter. A
            reply whose text asks to stop is a stop.
        occurred_at: When, ISO 8601 (UTC where it names no zone) or seconds since 1970.
        count: 1 for a person; people for an aggregate.
        person: The platform's pseudonym; kept only as a keyed hash.
        voter_id: Of a STOP by a voter whom the channel knows; kept with the withdrawal
            alone.
        channel: Of a STOP: the channel that it ends; every channel without, unless the
            platform is one.
        place: State or county, as the platform gives it.
        age_band: As the platform gives it.
        sex: As the platform gives it.
        segment: Any other breakdown.
        in_area: Whether it came from the campaign's area; null where nobody knows.
        account_age_days: Of the account that reacted.
        text: Of a reply; kept only where the campaign declares it.
        post_text: What the post says, to find its issue by; never kept.
        issue: Of the post, where the sender knows it.
        issue_confidence: How sure that is.
    """

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    event_id: _Id
    message_id: _Id | None = None
    post_id: _Id | None = None
    platform: _Word
    kind: _Word
    occurred_at: datetime
    count: Annotated[StrictInt, Field(ge=1, le=MAX_COUNT)] = 1
    person: _Id | None = None
    voter_id: _Id | None = None
    channel: _Channel | None = None
    place: _Short | None = None
    age_band: _Short | None = None
    sex: _Short | None = None
    segment: _Short | None = None
    in_area: StrictBool | None = None
    account_age_days: Annotated[StrictInt, Field(ge=0, le=100_000)] | None = None
    text: _Text | None = None
    post_text: _Text | None = None
    issue: _Short | None = None
    issue_confidence: Annotated[StrictFloat, Field(ge=0, le=1)] | None = None

    @field_validator(
        "event_id", "message_id", "post_id", "person", "voter_id", "place", "age_band",
        "sex", "segment", "text", "post_text", "issue",
    )  # fmt: skip
    @classmethod
    def _storable(cls, given: str | None) -> str | None:
        return given if given is None else _no_nul(given)

    @field_validator("occurred_at")
    @classmethod
    def _in_utc(cls, given: datetime) -> datetime:
        try:
            at = given.replace(tzinfo=given.tzinfo or UTC).astimezone(UTC)
        except OverflowError:
            # the first or the last year there is, and none in UTC
            raise ValueError("a time of this century") from None
        if at < OLDEST:
            raise ValueError(f"a time after {OLDEST:%Y-%m-%d}")
        return at

    @model_validator(mode="after")
    def _of_something(self) -> Self:
        if self.message_id is None and self.post_id is None:
            raise ValueError("a message_id or a post_id")
        if self.person is not None and self.count != 1:
            raise ValueError("count 1 where there is a person")
        return self


@dataclass(frozen=True)
class EventFault:
    """Why an event was set aside.

    Attributes:
        path: The field, such as `events[3].count`.
        message: What was expected and what came, nothing that identifies.
    """

    path: str
    message: str


@dataclass
class EventBatch:
    """Events of a request or of a message of the broker, ready for the store.

    Attributes:
        events: Rows of `reaction_events`, not yet labelled with an issue.
        post_texts: By post_id, what a post says; never stored.
        withdrawals: Rows of `withdrawals`.
        quarantine: Rows of `reaction_quarantine`.
        faults: One for each of those rows.
    """

    events: list[Row] = field(default_factory=list)
    post_texts: dict[str, str] = field(default_factory=dict)
    withdrawals: list[Row] = field(default_factory=list)
    quarantine: list[Row] = field(default_factory=list)
    faults: list[EventFault] = field(default_factory=list)


def link_key() -> bytes | None:
    """The campaign's key for persons, None where the environment has none."""
    return known_link_key(os.environ)


def person_key(key: bytes, platform: str, person: str) -> str:
    """The keyed hash by which a person is known here.

    >>> person_key(b"k", "Facebook", " 12 ") == person_key(b"k", "facebook", "12")
    True
    """
    identity = f"{platform.strip().lower()}\x1f{person.strip()}".encode()
    return hmac.new(key, identity, hashlib.sha256).hexdigest()


def read_events(
    payloads: Sequence[Any],
    *,
    received_at: datetime,
    key: bytes | None,
    keep_text: bool = False,
) -> EventBatch:
    """Events of a batch, and those that cannot be read with their reasons.

    Args:
        payloads: As JSON gives them, one event each.
        received_at: When they came, UTC.
        key: Hashes persons.
        keep_text: Whether replies' texts are kept.

    Raises:
        KeyMissing: If an event names a person and there is no key: nothing is taken,
            so that the sender tries again once there is one.
    """
    batch = EventBatch()
    for i, payload in enumerate(payloads):
        try:
            event = Reaction.model_validate(payload)
            if event.occurred_at > received_at + AHEAD:
                raise _ahead(event.occurred_at)
        except ValidationError as failure:
            _set_aside(batch, payload, _faults(failure), i, received_at)
            _withdraw_anyway(batch, payload, received_at, key)
        else:
            _take(batch, event, received_at, key, keep_text=keep_text)
    return batch


def set_aside_whole(reason: str, n_bytes: int, *, received_at: datetime) -> EventBatch:
    """A batch that holds one quarantined payload, which is no event at all."""
    row = {
        "event_id": None,
        "reason": reason,
        "payload": json.dumps({MASK: f"{n_bytes} bytes"}),
        "received_at": microseconds(received_at),
    }
    return EventBatch(quarantine=[row], faults=[EventFault("", reason)])


def set_aside_recounted(
    payloads: Sequence[Row], before: Mapping[str, int], *, received_at: datetime
) -> EventBatch:
    """A batch of events to quarantine: they are stored with another count.

    Args:
        payloads: Events whose ids are kept already.
        before: Count by event_id, as it is kept.
        received_at: When they came, UTC.
    """
    batch = EventBatch()
    for i, payload in enumerate(payloads):
        name, now = payload["event_id"], payload["count"]
        reason = f"counted otherwise before: expected {before[name]:,}, got {now:,}"
        # every other count is quarantined once
        recounted = {**payload, "event_id": f"{name}-{now}"}
        _set_aside(batch, recounted, [EventFault("count", reason)], i, received_at)
    return batch


def microseconds(at: datetime) -> int:
    """A time as the store keeps it: microseconds since 1970, UTC."""
    return (at - _EPOCH) // timedelta(microseconds=1)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


# --- what can be read -----------------------------------------------------------------


def _take(
    batch: EventBatch,
    event: Reaction,
    received_at: datetime,
    key: bytes | None,
    *,
    keep_text: bool,
) -> None:
    person = _hashed(event.platform, event.person, key)
    row = {name: getattr(event, name) for name in _STORED}
    row["occurred_at"] = microseconds(event.occurred_at)
    row["received_at"] = microseconds(received_at)
    row["person"] = person
    row["text"] = event.text if keep_text else None
    stops = is_stop(event.kind, event.text)
    if stops and event.kind == "reply":
        row["kind"] = STOP
    if event.issue is not None and event.issue_confidence is None:
        row["issue_confidence"] = 1.0
    batch.events.append(row)
    if event.post_id is not None and event.post_text:
        batch.post_texts[event.post_id] = event.post_text
    if stops and (event.voter_id or person):
        at = microseconds(event.occurred_at)
        channels = _ended(event.platform, event.channel)
        batch.withdrawals += _rows(event.voter_id, person, channels, at, event.event_id)


_STORED = (
    "event_id", "message_id", "post_id", "platform", "kind", "count", "place",
    "age_band", "sex", "segment", "in_area", "account_age_days", "issue",
    "issue_confidence",
)  # fmt: skip


def _hashed(platform: str, person: str | None, key: bytes | None) -> str | None:
    if person is None:
        return None
    if key is None:
        raise KeyMissing(
            f"an event names a person: expected a key in the environment's "
            f"{KEY_VARIABLE} to hash it with, got none"
        )
    return person_key(key, platform, person)


def _ended(platform: str, channel: str | None) -> tuple[str, ...]:
    """Channels that a STOP ends: all of them where the channel is unknown."""
    channel_or_platform = channel or platform
    return (channel_or_platform,) if channel_or_platform in CHANNELS else CHANNELS


def _rows(
    voter_id: str | None,
    person: str | None,
    channels: Sequence[str],
    at: int,
    event_id: str | None,
) -> list[Row]:
    # '' for nobody: a database takes no two NULLs for the same
    withdrawal = {
        "voter_id": voter_id or "",
        "person": person or "",
        "at": at,
        "event_id": event_id,
    }
    return [{**withdrawal, "channel": channel} for channel in channels]


# --- what cannot ----------------------------------------------------------------------


def _ahead(occurred_at: datetime) -> ValidationError:
    return ValidationError.from_exception_data(
        "Reaction",
        [
            {
                "type": "value_error",
                "loc": ("occurred_at",),
                "input": occurred_at.isoformat(),
                "ctx": {"error": ValueError("a time that is not in the future")},
            }
        ],
    )


def _set_aside(
    batch: EventBatch,
    payload: Any,
    faults: list[EventFault],
    i: int,
    received_at: datetime,
) -> None:
    reason = "; ".join(
        f"{f.path}: {f.message}" if f.path else f.message for f in faults
    )
    event_id = _id(payload, "event_id") if isinstance(payload, dict) else None
    masked_id = _masked_value("event_id", event_id)
    batch.quarantine.append(
        {
            # a copy that comes again is quarantined once; masks all look the same
            "event_id": None if masked_id == MASK else masked_id,
            "reason": reason,
            "payload": json.dumps(masked(payload)),
            "received_at": microseconds(received_at),
        }
    )
    dotted = [f".{fault.path}" if fault.path else "" for fault in faults]
    batch.faults.append(EventFault(f"events[{i}]{dotted[0]}", reason))


def _faults(failure: ValidationError) -> list[EventFault]:
    faults = []
    for fault in failure.errors(include_url=False):
        name = str(fault["loc"][0]) if fault["loc"] else ""
        expected = fault["msg"].removeprefix("Value error, ")
        expected = expected.removeprefix("Input should be ").removeprefix(
            "String should "
        )
        if fault["type"] == "extra_forbidden":
            expected = "no such field"
        elif fault["type"] == "missing":
            expected = "a value"
        elif fault["type"] == "string_pattern_mismatch":
            expected = "at most 32 letters, digits, '.', '_' and '-'"
        faults.append(
            EventFault(_masked_name(name), f"expected {expected}{_got(name, fault)}")
        )
    return faults


def _got(name: str, fault: Any) -> str:
    if fault["type"] == "missing":
        return ", got none"
    # where a whole event is at fault, its value is the event
    is_compound = isinstance(fault["input"], dict | list | BaseModel)
    return "" if is_compound else f", got {_masked_value(name, fault['input'])!r}"


def _masked_name(name: str) -> str:
    """A field's name, masked where it does not look like one."""
    return name if not name or _PLAIN_NAME.match(name) else MASK


def masked(payload: Any) -> Any:
    """An event without what could name a person.

    >>> masked({"kind": "like", "person": "joe", "name": "Joe", "count": -3})
    {'kind': 'like', 'person': '***', 'name': '***', 'count': -3}
    """
    if not isinstance(payload, Mapping):
        return MASK
    return {
        _masked_name(str(name)): _masked_value(str(name), v)
        for name, v in payload.items()
    }


def _masked_value(name: str, value: Any) -> Any:
    if name not in SHOWABLE or isinstance(value, Mapping | list):
        return MASK
    if not isinstance(value, str):
        return value if _short_number(value) else MASK
    if name not in _DIGITS and _CONTACT.search(value):
        return MASK
    if "@" in value or len(value) > MAX_SHOWN:
        return MASK
    return value.replace("\x00", "")


def _short_number(value: Any) -> bool:
    return value is None or isinstance(value, bool) or len(str(value)) <= 20


def _withdraw_anyway(
    batch: EventBatch, payload: Any, received_at: datetime, key: bytes | None
) -> None:
    """A STOP that is wrong in some other field still is a STOP."""
    if not isinstance(payload, Mapping):
        return
    kind, text = payload.get("kind"), payload.get("text")
    said = text if isinstance(text, str) else None
    if not isinstance(kind, str) or not is_stop(kind, said):
        return
    voter_id, person = _id(payload, "voter_id"), _id(payload, "person")
    if voter_id is None and person is None:
        return
    platform, channel = _lowered(payload.get("platform")), payload.get("channel")
    platform = platform if isinstance(platform, str) and _keepable(platform) else ""
    channel = channel if isinstance(channel, str) else None
    batch.withdrawals += _rows(
        voter_id,
        _hashed(platform, person, key),
        _ended(platform, _lowered(channel)),
        microseconds(received_at),
        _id(payload, "event_id"),
    )


def _id(payload: Mapping[Any, Any], name: str) -> str | None:
    """An id as `Reaction` reads it, None where it is none."""
    given = _as_text(payload.get(name))
    bare = given.strip() if isinstance(given, str) else ""
    return bare if 0 < len(bare) <= _MAX_ID and _keepable(bare) else None


def _keepable(text: str) -> bool:
    # half a character of UTF-16 is no text to any database
    return "\x00" not in text and text == text.encode(errors="ignore").decode()
