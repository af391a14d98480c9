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
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import compress
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AliasChoices,
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

from hustings.features.arrays import Bools
from hustings.features.ingest.mapping import as_it_looks
from hustings.features.persons.secret import KEY_VARIABLE, known_link_key
from hustings.features.reaction import STOP, VALENCE
from hustings.features.tables import BALLOT_STATUSES, CHANNELS
from hustings.features.wish import MAYBE, TEXT_KINDS, Wish, plainest, squeezed, wish_of

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
        "issue_confidence", "status", "dated",
    }
)  # fmt: skip
"""Fields whose values the quarantine may keep; a new field is masked until it is named
here. Even of these, what looks like an address or a number to call is masked, and of
what is no code of one word the look alone is kept."""
_CONTACT = re.compile(r"@|\+?\d[\d ()./-]{7,}\d")
_PLAIN_NAME = re.compile(r"^[a-z_]{1,32}$")
_CODE = re.compile(r"[\w.:+-]+", re.ASCII)
"""What an event that holds would keep as it is: an id, a moment, a word of a list."""
_IDS = frozenset({"event_id", "message_id", "post_id"})
_DIGITS = frozenset({"occurred_at", "dated", "event_id", "message_id", "post_id"})
"""Fields that are long rows of digits by nature."""
_PERSONAL_CHANNELS = frozenset({"mail", "sms", "phone", "email", "door", "survey"})
"""Channels by which somebody answers what was sent to them."""
_YES = frozenset({"true", "t", "yes", "y", "1"})
_FIELDS_WITHOUT_WORDS = frozenset(
    {
        "event_id", "message_id", "post_id", "platform", "kind", "occurred_at",
        "person", "voter_id", "channel", "place", "age_band", "sex", "segment",
        "post_text", "issue",
    }
)  # fmt: skip
"""Fields in which nobody asks to be left alone; the kind is read as a kind."""


class KeyMissing(ValueError):  # noqa: N818 - the field's word
    """Events name persons, and there is no key to hash them with."""


def _lowered(given: Any) -> Any:
    return given.strip().lower() if isinstance(given, str) else given


def _one_word(given: Any) -> Any:
    # "Opt Out" is a kind as "opt_out" is
    return "_".join(given.lower().split()) if isinstance(given, str) else given


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
    BeforeValidator(_one_word),
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
            stop, opt-out, reply or the platform's own word; capitals do not matter. One
            whose text asks to stop is a stop; one that may ask for it is put before a
            person.
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
        text: Of a reply; kept only where the campaign declares it, or for the person
            who has to read it.
        opt_out_type: As a carrier reports it beside the text (Twilio's OptOutType).
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
    opt_out_type: Annotated[
        _Word | None,
        Field(validation_alias=AliasChoices("opt_out_type", "OptOutType")),
    ] = None
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


BALLOT = "ballot"
"""Kind of an event that says where a voter's ballot stands."""


class BallotEvent(BaseModel):
    """Where a voter's ballot stands, as a sender sends it.

    Attributes:
        event_id: The sender's own id: what comes twice by it is kept once.
        kind: `ballot`.
        voter_id: The campaign's own id of the voter.
        status: requested, sent, cancelled, challenged, cured, rejected, returned,
            voted (early, in person) or accepted.
        dated: Day since when it stands there, YYYY-MM-DD, where the voter votes.
        method: How it is cast.
    """

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    event_id: _Id
    kind: Annotated[Literal["ballot"], BeforeValidator(_lowered)]
    voter_id: _Id
    status: Annotated[
        Literal[
            "requested", "sent", "cancelled", "challenged", "cured", "rejected",
            "returned", "voted", "accepted",
        ],
        BeforeValidator(_lowered),
    ]  # fmt: skip
    dated: date
    method: _Short | None = None

    @field_validator("event_id", "voter_id", "method")
    @classmethod
    def _storable(cls, given: str | None) -> str | None:
        return given if given is None else _no_nul(given)


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
        wishes: Rows of `wishes`, for a person to read.
        ballots: Rows of `ballots`.
        unknown_kinds: Events by kind, of kinds that no table names.
        quarantine: Rows of `reaction_quarantine`.
        faults: One for each of those rows.
    """

    events: list[Row] = field(default_factory=list)
    post_texts: dict[str, str] = field(default_factory=dict)
    withdrawals: list[Row] = field(default_factory=list)
    wishes: list[Row] = field(default_factory=list)
    ballots: list[Row] = field(default_factory=list)
    unknown_kinds: Counter[str] = field(default_factory=Counter)
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
    kinds: Collection[str] = (),
    ballots_from: date | None = None,
) -> EventBatch:
    """Events of a batch, and those that cannot be read with their reasons.

    Args:
        payloads: As JSON gives them, one event each.
        received_at: When they came, UTC.
        key: Hashes persons.
        keep_text: Whether replies' texts are kept.
        kinds: Kinds that the campaign declares, beside those of `VALENCE`.
        ballots_from: First day of ballots of the campaign's election; None where it
            takes none.

    Raises:
        KeyMissing: If an event names a person and there is no key: nothing is taken,
            so that the sender tries again once there is one.
    """
    batch = EventBatch()
    for i, payload in enumerate(payloads):
        try:
            if _is_ballot(payload):
                batch.ballots.append(_ballot_row(payload, received_at, ballots_from))
                continue
            event = Reaction.model_validate(payload)
            if event.occurred_at > received_at + AHEAD:
                raise _ahead(event.occurred_at)
        except ValidationError as failure:
            _set_aside(batch, payload, _faults(failure), i, received_at)
            # what a county says of a ballot asks nothing
            if not _is_ballot(payload):
                _take_wish_anyway(batch, payload, received_at, key, kinds)
        else:
            _take(batch, event, received_at, key, kinds, keep_text=keep_text)
    return batch


def _is_ballot(payload: Any) -> bool:
    return isinstance(payload, Mapping) and _lowered(payload.get("kind")) == BALLOT


def _ballot_row(payload: Any, received_at: datetime, first_day: date | None) -> Row:
    """A row of `ballots`.

    Raises:
        ValidationError: If the event cannot be read, or is of no day that can be.
    """
    event = BallotEvent.model_validate(payload)
    fault = ballot_day_fault(event.status, event.dated, received_at, first_day)
    if fault:
        raise _wrong("dated", fault, event.dated.isoformat())
    row = {name: getattr(event, name) for name in _BALLOT_STORED}
    return row | {
        "dated": event.dated.isoformat(), "received_at": microseconds(received_at),
    }  # fmt: skip


_BALLOT_STORED = ("event_id", "voter_id", "status", "method")
REQUESTED = BALLOT_STATUSES[0]
FARTHEST_EAST = timedelta(hours=14)
"""Where a day begins first, it begins so long before it does in UTC."""


def ballot_day_fault(
    status: str, dated: date, received_at: datetime, first_day: date | None
) -> str:
    """What is wrong with the day of a ballot; empty where nothing is.

    Args:
        status: Of the ballot.
        dated: Its day.
        received_at: When it came, UTC: nothing can have happened later.
        first_day: First day of ballots of the campaign's election; None where it
            takes none. They may be requested before.
    """
    if first_day is None:
        return "a section [ballots] of campaign.toml, which takes ballots in"
    if dated > (received_at + FARTHEST_EAST).date():
        return "a day that has begun"
    if dated < first_day and status != REQUESTED:
        return f"a ballot of this election, none before [ballots].first_day {first_day}"
    return ""


def set_aside_whole(reason: str, n_bytes: int, *, received_at: datetime) -> EventBatch:
    """A batch that holds one quarantined payload, which is no event at all."""
    row = {
        "event_id": None,
        "reason": reason,
        "payload": json.dumps({MASK: f"{n_bytes} bytes"}),
        "received_at": microseconds(received_at),
    }
    return EventBatch(quarantine=[row], faults=[EventFault("", reason)])


def set_aside_counts(
    payloads: Sequence[tuple[Row, str]], *, received_at: datetime
) -> EventBatch:
    """A batch of counts of an export to quarantine.

    Args:
        payloads: Events, and what was expected and came.
        received_at: When they came, UTC.
    """
    batch = EventBatch()
    for i, (payload, reason) in enumerate(payloads):
        # another count, or the same under another reason, is quarantined once
        identity = f"{payload['event_id']}-{payload['count']}-{reason}"
        digest = hashlib.sha256(identity.encode()).hexdigest()[:32]
        aside = {**payload, "event_id": digest}
        _set_aside(batch, aside, [EventFault("", reason)], i, received_at)
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
    kinds: Collection[str],
    *,
    keep_text: bool,
) -> None:
    person = _hashed(event.platform, event.person, key)
    row = {name: getattr(event, name) for name in _STORED}
    row["occurred_at"] = microseconds(event.occurred_at)
    row["received_at"] = microseconds(received_at)
    row["person"] = person
    row["text"] = event.text if keep_text else None
    if event.issue is not None and event.issue_confidence is None:
        row["issue_confidence"] = 1.0
    batch.events.append(row)
    if event.post_id is not None and event.post_text:
        batch.post_texts[event.post_id] = event.post_text
    is_known = _is_known(event.kind, kinds)
    wish = plainest(
        [
            wish_of(event.kind, event.text, is_known=is_known),
            wish_of(event.opt_out_type, None, is_known=True)
            if event.opt_out_type
            else None,
        ]
    )
    if wish is None:
        batch.unknown_kinds.update({event.kind: 1} if not is_known else {})
        return
    if wish.certain and event.kind not in VALENCE.keys() - TEXT_KINDS:
        row["kind"] = STOP
    if event.count == 1:
        _take_wish(
            batch, wish, event.voter_id, person, event.channel or event.platform,
            {
                "event_id": event.event_id, "platform": event.platform,
                "kind": event.kind, "at": microseconds(event.occurred_at),
                "text": event.text, "received_at": row["received_at"],
            },
        )  # fmt: skip


def _is_known(kind: str, declared: Collection[str]) -> bool:
    return kind in VALENCE or kind in declared or squeezed(kind) in TEXT_KINDS


def _take_wish(
    batch: EventBatch,
    wish: Wish,
    voter_id: str | None,
    person: str | None,
    channel_or_platform: str,
    said: Row,
) -> None:
    """A certain wish ends permissions; another one, or nobody's, is put to a person."""
    names_somebody = bool(voter_id or person)
    is_answer = channel_or_platform in _PERSONAL_CHANNELS and said["text"]
    if not names_somebody and not is_answer:
        return  # a comment of the public: there is nobody to leave alone
    # '' for nobody: a database takes no two NULLs for the same
    of_whom = {"voter_id": voter_id or "", "person": person or ""}
    channels = _ended(channel_or_platform, wish.channels)
    if wish.certain and names_somebody:
        end = {"at": said["at"], "event_id": said["event_id"], **of_whom}
        batch.withdrawals += [{**end, "channel": channel} for channel in channels]
        return
    event_id = said["event_id"] or _digest(*said.values(), *of_whom.values())
    batch.wishes += [
        {**said, **of_whom, "event_id": event_id, "channel": channel, "answer": ""}
        for channel in channels
    ]


def _digest(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


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


def _ended(channel_or_platform: str, also: Sequence[str]) -> tuple[str, ...]:
    """Channels that a wish ends: all of them where the channel is unknown."""
    if channel_or_platform not in CHANNELS:
        return CHANNELS
    return tuple(dict.fromkeys([channel_or_platform, *also]))


# --- what cannot ----------------------------------------------------------------------


def _ahead(occurred_at: datetime) -> ValidationError:
    return _wrong(
        "occurred_at", "a time that is not in the future", occurred_at.isoformat()
    )


def _wrong(field_name: str, expected: str, got: str) -> ValidationError:
    return ValidationError.from_exception_data(
        "Reaction",
        [
            {
                "type": "value_error",
                "loc": (field_name,),
                "input": got,
                "ctx": {"error": ValueError(expected)},
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


def set_aside_forgotten(batch: EventBatch, gone: Bools) -> None:
    """Set aside the ballots of voters who are forgotten; nothing says whose.

    Args:
        batch: Its ballots and quarantine change.
        gone: Whether each ballot is of one, shape (n,).
    """
    reason = "voter_id: expected a voter of the campaign, who is not forgotten"
    for row in compress(batch.ballots, gone):
        batch.quarantine.append(
            {
                "event_id": None, "reason": reason,
                "payload": json.dumps({"kind": BALLOT, "voter_id": MASK}),
                "received_at": row["received_at"],
            }
        )  # fmt: skip
        batch.faults.append(EventFault("", reason))
    batch.ballots = list(compress(batch.ballots, ~gone))


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
    if _CODE.fullmatch(value):
        return value
    # two masked ids are not the same one: they say so
    return MASK if name in _IDS else as_it_looks(value.replace("\x00", ""))


def _short_number(value: Any) -> bool:
    return value is None or isinstance(value, bool) or len(str(value)) <= 20


def _take_wish_anyway(
    batch: EventBatch,
    payload: Any,
    received_at: datetime,
    key: bytes | None,
    kinds: Collection[str],
) -> None:
    """A wish in an event that is wrong in some field still is a wish."""
    if not isinstance(payload, Mapping):
        return
    wish, words = _wish_anywhere(payload, kinds)
    if wish is None:
        return
    voter_id, person = _id(payload, "voter_id"), _id(payload, "person")
    platform, channel = (
        given if isinstance(given, str) and _keepable(given) else ""
        for given in (
            _lowered(payload.get("platform")),
            _lowered(payload.get("channel")),
        )
    )
    at = microseconds(received_at)
    _take_wish(
        batch, wish, voter_id, _hashed(platform, person, key), channel or platform,
        {
            "event_id": _id(payload, "event_id"), "platform": platform,
            "kind": str(_masked_value("kind", payload.get("kind")) or ""), "at": at,
            "text": words, "received_at": at,
        },
    )  # fmt: skip


def _wish_anywhere(
    payload: Mapping[Any, Any], kinds: Collection[str]
) -> tuple[Wish | None, str]:
    """The plainest wish in any field of a malformed event, and the words read."""
    kind = payload.get("kind")
    kind = _one_word(kind) if isinstance(kind, str) else ""
    words = [
        value[:MAX_TEXT]
        for name, value in payload.items()
        if isinstance(value, str) and name not in _FIELDS_WITHOUT_WORDS
    ]
    # {"is_opted_out": true} is a wish by the name of its field
    flags = [
        squeezed(str(name)).removeprefix("is").removeprefix("has")
        for name, value in payload.items()
        if value is True or str(value).strip().lower() in _YES
    ]
    wishes = [
        *(wish_of("reply", text, is_known=True) for text in words),
        *(wish_of(flag, None, is_known=True) for flag in flags),
        wish_of(kind, None, is_known=True) if kind else None,
    ]
    if words and kind and not _is_known(kind, kinds):
        wishes.append(MAYBE)
    said = " / ".join(words).encode(errors="ignore").decode().replace("\x00", "")
    return plainest(wishes), said


def _id(payload: Mapping[Any, Any], name: str) -> str | None:
    """An id as `Reaction` reads it, None where it is none."""
    given = _as_text(payload.get(name))
    bare = given.strip() if isinstance(given, str) else ""
    return bare if 0 < len(bare) <= _MAX_ID and _keepable(bare) else None


def _keepable(text: str) -> bool:
    # half a character of UTF-16 is no text to any database
    return "\x00" not in text and text == text.encode(errors="ignore").decode()
