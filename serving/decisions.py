"""Decisions that `/recommend` hands out, with an expiry, kept with the reactions.

A recommendation reserves its money until it expires or is reported as sent. Reported as
sent it is a fact of the campaign, which `experiments.plans.online` reads. A request
that names itself is answered once: asked again, it gets the same answer.
"""

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, Self, TypeVar, cast

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from hustings.serving.reactions.prepared import PreparedStatement
from hustings.serving.reactions.store import STORE_WITHIN_S, Events, take_turn

Json = dict[str, Any]
_Decided = TypeVar("_Decided")

LASTS = pd.Timedelta(hours=1)
"""A recommendation holds, and reserves its money, for so long, to the full minute."""
ONLINE = ""
"""Plan of a decision that no plan has made."""
HELD_OUT = "holdout"
"""Role of a decision that is kept and never handed out: what a held-out voter would
have been offered. Whoever compares voters with those held out leaves both aside."""
_AT_ONCE = 10_000
_NUMBERS = ("propensity", "arm_propensity", "predicted_lift", "cost_usd")
_TIMES = ("decided_at", "expires_at", "sent_at")

_META = sa.MetaData()
ONLINE_REQUESTS = sa.Table(
    "online_requests",
    _META,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("body_sha256", sa.Text, nullable=False),
    sa.Column("answered_at", sa.BigInteger, nullable=False),
    sa.Column("head", sa.Text, nullable=False),
)
ONLINE_ANSWERS = sa.Table(
    "online_answers",
    _META,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("voter_id", sa.Text, nullable=False),
    sa.Column("answer", sa.Text, nullable=False),
)
"""A row a voter, so that a voter can be taken out of all answers."""
ONLINE_DECISIONS = sa.Table(
    "online_decisions",
    _META,
    sa.Column("decision_id", sa.Text, primary_key=True),
    sa.Column("voter_id", sa.Text, nullable=False, index=True),
    sa.Column("plan_id", sa.Text, nullable=False),
    sa.Column("experiment_id", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("message_id", sa.Text, nullable=False),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("propensity", sa.Double, nullable=False),
    sa.Column("arm_propensity", sa.Double, nullable=False),
    sa.Column("predicted_lift", sa.Double, nullable=False),
    sa.Column("model_version", sa.Text, nullable=False),
    sa.Column("cost_usd", sa.Double, nullable=False),
    sa.Column("decided_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("sent_at", sa.BigInteger, index=True),
)
"""`plan_id` is empty where no plan has decided; times are microseconds UTC."""
ONLINE_TAKEN = sa.Table(
    "online_taken",
    _META,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("until", sa.BigInteger, primary_key=True),
    sa.Column("channel", sa.Text, primary_key=True),
    sa.Column("usd", sa.Double, nullable=False),
    sa.Column("n", sa.BigInteger, nullable=False),
)
"""Sums of `online_decisions` that no plan has made, so that no request adds them up
anew: `reserved` until a moment, `sent` on the day that begins then."""
RESERVED, SENT = "reserved", "sent"
_DAY, _MINUTE_NS = 86_400_000_000, 60_000_000_000


class HandedOut(NamedTuple):
    """A decision as it was handed out.

    Attributes:
        decision_id: Its name.
        voter_id: The voter.
        plan_id: The plan that decided; empty for none.
        experiment_id: Whose outcome the lift is in.
        role: plan or explore; holdout of what a held-out voter would have been offered.
        message_id: What is sent, or would have been.
        channel: By which channel.
        propensity: Probability of that role and message.
        arm_propensity: Probability of that message, whatever the role.
        predicted_lift: Outcome units.
        model_version: As name/version.
        cost_usd: What it costs.
        decided_at: Microseconds since 1970, UTC.
        expires_at: From then on its money is free again.
        sent_at: When it was reported as sent; None where it was not.
    """

    decision_id: str
    voter_id: str
    plan_id: str
    experiment_id: str
    role: str
    message_id: str
    channel: str
    propensity: float
    arm_propensity: float
    predicted_lift: float
    model_version: str
    cost_usd: float
    decided_at: int
    expires_at: int
    sent_at: int | None = None

    @property
    def is_online(self) -> bool:
        """Whether no plan has decided it."""
        return self.plan_id == ONLINE

    @property
    def reserves(self) -> bool:
        """Whether its money is no plan's, and is kept until it expires."""
        return self.is_online and self.role != HELD_OUT


class Taken(NamedTuple):
    """Money and contacts of decisions that no plan has made.

    Attributes:
        usd: Of what was sent, and of what is reserved.
        contacts: Sent today or reserved, by channel.
    """

    usd: float
    contacts: dict[str, int]


class RequestChangedError(ValueError):
    """Another request was answered under this name."""


class UnknownDecisionsError(ValueError):
    """Decisions that were never handed out.

    Attributes:
        positions: Of the ids in the report.
    """

    def __init__(self, positions: Sequence[int]) -> None:
        super().__init__(f"{len(positions)} unknown decisions")
        self.positions = list(positions)


class Reported(NamedTuple):
    """Result of reporting decisions as sent.

    Attributes:
        recorded: Decisions that are recorded now.
        recorded_before: Decisions that were reported before.
        expired: Of the recorded, those whose reservation had ended: their money was
            free for others, and is spent now.
    """

    recorded: int
    recorded_before: int
    expired: int


@dataclass(frozen=True)
class OnlineDecisions:
    """Decisions of a campaign, in the database of its reactions.

    Attributes:
        engine: The database.
    """

    engine: sa.Engine
    _pending: "list[_Waiting]" = field(default_factory=list, repr=False)
    _pending_lock: Lock = field(default_factory=Lock, repr=False)
    _writing: Lock = field(default_factory=Lock, repr=False)

    @classmethod
    def in_store_of(cls, events: Events) -> Self:
        """The decisions in the database of a store that is open."""
        with events.engine.begin() as connection:
            take_turn(connection)
            has_sums = sa.inspect(connection).has_table(ONLINE_TAKEN.name)
            for table in _META.sorted_tables:
                connection.execute(CreateTable(table, if_not_exists=True))
                for index in table.indexes:
                    connection.execute(CreateIndex(index, if_not_exists=True))
            if not has_sums:
                _add_up(connection)
        return cls(events.engine)

    def is_there(self) -> bool:
        """Whether the store answers.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: If it does not.
        """
        with self.engine.connect() as connection:
            return _TAKEN.rows(connection, {"now": 0, "today": 0}) is not None

    def answer_to(self, request_id: str, body: str) -> Json | None:
        """The answer that a request got before, None for a new one.

        Raises:
            RequestChangedError: If another body was answered under this name.
        """
        with self.engine.connect() as connection:
            return _answer_to(connection, request_id, body)

    def turn(self, decide: "Callable[[Turn], _Decided]", at: pd.Timestamp) -> _Decided:
        """Decide in a transaction in which nobody else does, on disk on return.

        Those who come while others decide share the next transaction, one after the
        other, and so the wait for the disk. What one of them raises undoes what that
        one has done, and nothing of the others.

        Args:
            decide: What is done in the transaction; its answer is that of `turn`.
            at: Now.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: If the store cannot keep it, or others take
                longer than `STORE_WITHIN_S`; then nothing of it is kept.
        """
        waiting = _Waiting(decide, microseconds(at))
        with self._pending_lock:
            self._pending.append(waiting)
        if not self._writing.acquire(timeout=STORE_WITHIN_S):
            self._leave(waiting)
        try:
            # whoever had the lock before may have done this, too
            if not waiting.is_done:
                self._decide(self._drained())
        finally:
            self._writing.release()
        if waiting.failure is not None:
            raise waiting.failure
        return cast("_Decided", waiting.answer)

    def _leave(self, waiting: "_Waiting") -> None:
        """Give up the place in the queue, unless it is one's turn just now."""
        with self._pending_lock:
            if waiting in self._pending:
                self._pending.remove(waiting)
                text = f"others have been deciding for {STORE_WITHIN_S:g} s"
                raise sa.exc.TimeoutError(text)
        self._writing.acquire()

    def _drained(self) -> "list[_Waiting]":
        with self._pending_lock:
            group = self._pending[:]
            self._pending.clear()
        return group

    def _decide(self, group: "Sequence[_Waiting]") -> None:
        try:
            with self.engine.connect() as connection, connection.begin():
                take_turn(connection)
                for waiting in group:
                    waiting.decide_on(connection, is_alone=len(group) == 1)
        except BaseException as failure:
            # of those who wait, nobody may think that it was kept
            for waiting in group:
                waiting.failure = waiting.failure or failure
            if not isinstance(failure, Exception):
                raise
        finally:
            for waiting in group:
                waiting.is_done = True

    def report_sent(self, decision_ids: Sequence[str], at: pd.Timestamp) -> Reported:
        """Record that decisions were carried out: all of them, or none.

        Raises:
            UnknownDecisionsError: If one was never handed out.
        """
        now, c = microseconds(at), ONLINE_DECISIONS.c
        ids = list(dict.fromkeys(decision_ids))
        with self.engine.begin() as connection:
            take_turn(connection)
            rows = {
                row.decision_id: row
                for part in _parts(ids)
                for row in connection.execute(
                    sa.select(ONLINE_DECISIONS).where(c.decision_id.in_(part))
                )
            }
            unknown = [k for k, name in enumerate(decision_ids) if name not in rows]
            if unknown:
                raise UnknownDecisionsError(unknown)
            new = [name for name in ids if rows[name].sent_at is None]
            for part in _parts(new):
                connection.execute(
                    sa.update(ONLINE_DECISIONS)
                    .where(c.decision_id.in_(part))
                    .values(sent_at=now)
                )
            reported = [HandedOut(*rows[name]) for name in new]
            spent = [(SENT, now // _DAY * _DAY, d, 1) for d in reported if d.is_online]
            freed = [(RESERVED, d.expires_at, d, -1) for d in reported if d.reserves]
            _add(connection, [*spent, *freed])
        expired = sum(rows[name].expires_at <= now for name in new)
        return Reported(len(new), len(ids) - len(new), expired)

    @classmethod
    def read(cls, store: str | Path) -> pd.DataFrame:
        """Every decision that is kept in a store, in the order of handing out.

        Args:
            store: As `Events.open` takes it; it is not made where there is none.

        Returns:
            Columns of `HandedOut`, times in UTC without a zone.
        """
        if isinstance(store, Path) and not store.exists():
            return _frame([])
        c = ONLINE_DECISIONS.c
        wanted = sa.select(ONLINE_DECISIONS).order_by(c.decided_at, c.decision_id)
        events = Events.open(store)
        try:
            with events.engine.connect() as connection:
                if not sa.inspect(connection).has_table(ONLINE_DECISIONS.name):
                    return _frame([])
                rows = connection.execute(wanted).all()
        finally:
            events.close()
        return _frame([HandedOut(*row) for row in rows])


@dataclass(frozen=True)
class Turn:
    """One transaction, in which nobody else decides.

    Attributes:
        connection: The transaction.
        now: Microseconds since 1970, UTC.
    """

    connection: sa.Connection
    now: int

    def answer_to(self, request_id: str, body: str) -> Json | None:
        """See `OnlineDecisions.answer_to`."""
        return _answer_to(self.connection, request_id, body)

    def of_voters(self, voter_ids: Sequence[str]) -> list[HandedOut]:
        """Decisions about some voters that were sent, or are open and not expired."""
        return [
            HandedOut(*row)
            for part in _parts(list(voter_ids))
            for row in _OF_VOTERS.rows(
                self.connection, {"voter_ids": part, "now": self.now}
            )
        ]

    def taken(self) -> Taken:
        """What no plan has decided and is sent or reserved."""
        rows = _TAKEN.rows(
            self.connection, {"now": self.now, "today": self.now // _DAY * _DAY}
        )
        contacts: dict[str, int] = {}
        for channel, _, n in rows:
            contacts[channel] = contacts.get(channel, 0) + int(n)
        return Taken(sum(float(usd) for _, usd, _ in rows), contacts)

    def hand_out(
        self, decisions: Sequence[HandedOut], before: Mapping[str, HandedOut]
    ) -> None:
        """Keep new decisions, and longer those that are handed out again.

        Args:
            decisions: What is handed out.
            before: Open decisions about the same voters, by their ids.
        """
        new = [d for d in decisions if d.decision_id not in before]
        again = [d for d in decisions if d.decision_id in before]
        _HAND_OUT.run(self.connection, [d._asdict() for d in new])
        longer = [{"name": d.decision_id, "until": d.expires_at} for d in again]
        _LONGER.run(self.connection, longer)
        added = [(RESERVED, d.expires_at, d, 1) for d in decisions if d.reserves]
        replaced = [before[d.decision_id] for d in again]
        ended = [(RESERVED, d.expires_at, d, -1) for d in replaced if d.reserves]
        _add(self.connection, [*added, *ended])

    def release(self, decisions: Sequence[HandedOut]) -> None:
        """End reservations that another answer replaces."""
        c = ONLINE_DECISIONS.c
        for part in _parts([d.decision_id for d in decisions]):
            self.connection.execute(
                sa.update(ONLINE_DECISIONS)
                .where(c.decision_id.in_(part))
                .values(expires_at=self.now)
            )
        ended = [(RESERVED, d.expires_at, d, -1) for d in decisions if d.reserves]
        _add(self.connection, ended)

    def keep_answer(self, request_id: str, body: str, answer: Json) -> None:
        """Keep the answer to a request that names itself."""
        head = {name: value for name, value in answer.items() if name != "voters"}
        self.connection.execute(
            sa.insert(ONLINE_REQUESTS),
            {
                "request_id": request_id, "body_sha256": _sha256(body),
                "answered_at": self.now, "head": json.dumps(head),
            },
        )  # fmt: skip
        self.connection.execute(
            sa.insert(ONLINE_ANSWERS),
            [
                {
                    "request_id": request_id, "position": k,
                    "voter_id": voter["voter_id"], "answer": json.dumps(voter),
                }
                for k, voter in enumerate(answer["voters"])
            ],
        )  # fmt: skip


@dataclass(eq=False)
class _Waiting:
    """One who waits for a transaction to decide in."""

    decide: Callable[[Turn], Any]
    now: int
    answer: Any = None
    failure: BaseException | None = None
    is_done: bool = False

    def decide_on(self, connection: sa.Connection, *, is_alone: bool) -> None:
        """Decide in a transaction; with others, a failure is this one's alone."""
        turn = Turn(connection, self.now)
        if is_alone:
            self.answer = self.decide(turn)
            return
        try:
            with connection.begin_nested():
                self.answer = self.decide(turn)
        except Exception as failure:  # noqa: BLE001 - `turn` raises it where it belongs
            self.failure = failure


_VOTERS = ONLINE_DECISIONS.c.voter_id.in_(sa.bindparam("voter_ids", expanding=True))
_OF_VOTERS = PreparedStatement(
    sa.select(ONLINE_DECISIONS)
    .where(
        _VOTERS,
        sa.or_(
            ONLINE_DECISIONS.c.sent_at.is_not(None),
            ONLINE_DECISIONS.c.expires_at > sa.bindparam("now"),
        ),
    )
    .order_by(ONLINE_DECISIONS.c.sent_at)
)
_HAND_OUT = PreparedStatement(sa.insert(ONLINE_DECISIONS))
_LONGER = PreparedStatement(
    sa.update(ONLINE_DECISIONS)
    .where(ONLINE_DECISIONS.c.decision_id == sa.bindparam("name"))
    .values(expires_at=sa.bindparam("until"))
)
_IS_RESERVED = sa.and_(
    ONLINE_TAKEN.c.kind == RESERVED, ONLINE_TAKEN.c.until > sa.bindparam("now")
)
_IS_SENT = ONLINE_TAKEN.c.kind == SENT
_COUNTS_TODAY = sa.or_(_IS_RESERVED, ONLINE_TAKEN.c.until == sa.bindparam("today"))
_TAKEN = PreparedStatement(
    sa.select(
        ONLINE_TAKEN.c.channel,
        sa.func.sum(ONLINE_TAKEN.c.usd),
        sa.func.sum(sa.case((_COUNTS_TODAY, ONLINE_TAKEN.c.n), else_=0)),
    )
    .where(sa.or_(_IS_RESERVED, _IS_SENT))
    .group_by(ONLINE_TAKEN.c.channel)
)


def _add(
    connection: sa.Connection, changes: Sequence[tuple[str, int, HandedOut, int]]
) -> None:
    """Add decisions to the sums, or take them off.

    Args:
        connection: The transaction.
        changes: Kind, until, the decision, and 1 or -1.
    """
    sums: dict[tuple[str, int, str], tuple[float, int]] = {}
    for kind, until, decision, sign in changes:
        key = kind, until, decision.channel
        usd, n = sums.get(key, (0.0, 0))
        sums[key] = usd + sign * decision.cost_usd, n + sign
    names = ("kind", "until", "channel", "usd", "n")
    rows = [
        dict(zip(names, (*key, *change), strict=True))
        for key, change in sums.items()
        if change != (0.0, 0)
    ]
    _adding(connection.dialect.name).run(connection, rows)


@cache
def _adding(dialect: str) -> PreparedStatement:
    is_sqlite = dialect == "sqlite"
    statement = (sqlite if is_sqlite else postgresql).insert(ONLINE_TAKEN)
    c, new = ONLINE_TAKEN.c, statement.excluded
    return PreparedStatement(
        statement.on_conflict_do_update(
            index_elements=[c.kind, c.until, c.channel],
            set_={"usd": c.usd + new.usd, "n": c.n + new.n},
        )
    )


def _add_up(connection: sa.Connection) -> None:
    """The sums of a store that was written before there were any."""
    c = ONLINE_DECISIONS.c
    online = sa.select(ONLINE_DECISIONS).where(c.plan_id == ONLINE)
    decisions = [HandedOut(*row) for row in connection.execute(online)]
    sent = [(SENT, d.sent_at // _DAY * _DAY, d, 1) for d in decisions if d.sent_at]
    reserved = [
        (RESERVED, d.expires_at, d, 1)
        for d in decisions
        if d.sent_at is None and d.reserves
    ]
    _add(connection, [*sent, *reserved])


def new_decision_id() -> str:
    """A random id, which says nothing of the voter."""
    return secrets.token_hex(16)


def microseconds(at: pd.Timestamp) -> int:
    """Microseconds since 1970 of a moment; without a zone it is UTC."""
    # nanoseconds of UTC, whatever the unit and the zone
    return at.value // 1_000


def expiry(at: pd.Timestamp) -> int:
    """When what is handed out at a moment expires, microseconds since 1970."""
    minutes = -(-(at.value + LASTS.value) // _MINUTE_NS)
    return minutes * (_MINUTE_NS // 1_000)


def moment(at: int) -> pd.Timestamp:
    """The moment of so many microseconds since 1970, UTC."""
    return pd.Timestamp(at, unit="us", tz="UTC")


def _frame(decisions: Sequence[HandedOut]) -> pd.DataFrame:
    frame = pd.DataFrame(decisions, columns=list(HandedOut._fields))
    texts = frame.columns.difference([*_NUMBERS, *_TIMES])
    types = dict.fromkeys(texts, "str") | dict.fromkeys(_NUMBERS, "float64")
    times = {
        name: pd.to_datetime(frame[name].astype("Int64"), unit="us").dt.as_unit("us")
        for name in _TIMES
    }
    return frame.astype(types).assign(**times)


def _answer_to(connection: sa.Connection, request_id: str, body: str) -> Json | None:
    c = ONLINE_REQUESTS.c
    row = connection.execute(
        sa.select(ONLINE_REQUESTS).where(c.request_id == request_id)
    ).first()
    if row is None:
        return None
    if row.body_sha256 != _sha256(body):
        raise RequestChangedError("another request was answered under this request_id")
    a = ONLINE_ANSWERS.c
    wanted = sa.select(a.answer).where(a.request_id == request_id).order_by(a.position)
    voters = [json.loads(text) for (text,) in connection.execute(wanted)]
    answer: Mapping[str, Any] = json.loads(row.head)
    return {**answer, "voters": voters}


def _sha256(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def _parts(names: list[str]) -> Iterator[list[str]]:
    """A statement takes only so many values."""
    for start in range(0, len(names), _AT_ONCE):
        yield names[start : start + _AT_ONCE]
