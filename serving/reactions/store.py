"""Store of reaction events: durable on disk before a write is acknowledged.

SQLite by default, PostgreSQL by its address; the same tables in both. An event is
stored once by its id, in any order of arrival. Times are microseconds since 1970, UTC.
"""

import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, Self

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from hustings.features.schema_versions import migrate
from hustings.serving.reactions.ballots import (
    BALLOT_EVENTS,
    ballots_by,
    ballots_frame,
    ballots_to_add,
    votes,
)
from hustings.serving.reactions.payload import (
    EventBatch,
    EventFault,
    Row,
    microseconds,
)
from hustings.serving.reactions.prepared import PreparedStatement

VERSIONS = Path(__file__).with_name("versions")
"""Of the tables below: who changes one adds a version."""
FILE = "events.db"
"""Of a campaign's folder, where it declares no store of its own."""
BUSY_S = 60.0
"""A command that writes to SQLite waits so long for another writer."""
STORE_WITHIN_S = 2.0
"""A request waits so long for whoever writes to the store, then it is refused."""
_SILENCE_S = 1.0
"""So much later a database that says nothing is given up, with its connection."""
MAX_READ = 100_000
_LOCK = 0x68757374
"""Of PostgreSQL: writers take turns, so that `seq` grows in the order of commits and a
reader that goes on from its last `seq` misses nothing."""

_META = sa.MetaData()
_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _seq() -> sa.Column[int]:
    return sa.Column("seq", _BIG, primary_key=True, autoincrement=True)


REACTION_EVENTS = sa.Table(
    "reaction_events",
    _META,
    _seq(),
    sa.Column("event_id", sa.Text, nullable=False, unique=True),
    sa.Column("message_id", sa.Text),
    sa.Column("post_id", sa.Text),
    sa.Column("platform", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("occurred_at", sa.BigInteger, nullable=False),
    sa.Column("received_at", sa.BigInteger, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("person", sa.Text),
    sa.Column("place", sa.Text),
    sa.Column("age_band", sa.Text),
    sa.Column("sex", sa.Text),
    sa.Column("segment", sa.Text),
    sa.Column("in_area", sa.Boolean),
    sa.Column("account_age_days", sa.Integer),
    sa.Column("text", sa.Text),
    sa.Column("issue", sa.Text),
    sa.Column("issue_confidence", sa.Double),
    sqlite_autoincrement=True,
)
REACTION_QUARANTINE = sa.Table(
    "reaction_quarantine",
    _META,
    _seq(),
    sa.Column("event_id", sa.Text, unique=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("received_at", sa.BigInteger, nullable=False),
    sqlite_autoincrement=True,
)
WITHDRAWALS = sa.Table(
    "withdrawals",
    _META,
    _seq(),
    sa.Column("voter_id", sa.Text, index=True, nullable=False, server_default=""),
    sa.Column("person", sa.Text, index=True, nullable=False, server_default=""),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("event_id", sa.Text),
    sa.UniqueConstraint("event_id", "channel", "voter_id", "person"),
    sqlite_autoincrement=True,
)
"""'' stands for nobody. Who stops is part of what is kept once: two senders may give
two people's STOPs the same id."""
WISHES = sa.Table(
    "wishes",
    _META,
    _seq(),
    sa.Column("event_id", sa.Text, nullable=False),
    sa.Column("voter_id", sa.Text, index=True, nullable=False, server_default=""),
    sa.Column("person", sa.Text, index=True, nullable=False, server_default=""),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("platform", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("text", sa.Text),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("received_at", sa.BigInteger, nullable=False),
    sa.Column("answer", sa.Text, nullable=False),
    sa.Column("answered_by", sa.Text),
    sa.Column("answered_at", sa.BigInteger),
    sa.UniqueConstraint("event_id", "channel", "voter_id", "person"),
    sqlite_autoincrement=True,
)
"""Wishes to be left alone that are not certain: each stops its channel until a person
answers that it is none. The text is kept for that person and erased by the answer."""
OPEN, WITHDRAWN, NO_WISH = "", "withdraw", "not"
"""Answers to a wish: none yet, it is one, it is none."""
PERSON_LINKS = sa.Table(
    "person_links",
    _META,
    sa.Column("person", sa.Text, primary_key=True),
    sa.Column("voter_id", sa.Text, primary_key=True, index=True),
)
"""Persons as `payload.person_key` names them, or former voter ids, and who of
the voter file they are: whoever stops there is stopped here."""
POSTS = sa.Table(
    "posts",
    _META,
    sa.Column("post_id", sa.Text, primary_key=True),
    sa.Column("issue", sa.Text),
    sa.Column("issue_confidence", sa.Double),
)
"""What a post without a label was found to speak of, for the reactions that follow."""


class Receipt(NamedTuple):
    """Receipt of a batch that is on disk.

    Attributes:
        accepted: Events kept, ballots among them.
        duplicate: Events that were there already.
        quarantined: Events set aside.
        faults: Why, one for each of those.
        withdrawn: Events that ended a permission.
        to_review: Events that a person has to read.
        unknown_kinds: Events by kind, of kinds that count as neutral because no table
            names them.
    """

    accepted: int
    duplicate: int
    quarantined: int
    faults: tuple[EventFault, ...]
    withdrawn: int
    to_review: int
    unknown_kinds: Mapping[str, int]

    @property
    def is_of_use(self) -> bool:
        """Whether anything came of the batch; not of one that was set aside whole."""
        taken = self.accepted + self.duplicate + self.withdrawn + self.to_review
        return taken > 0 or self.quarantined == 0


@dataclass
class _Waiting:
    """A batch on its way into a transaction."""

    batch: EventBatch
    receipt: Receipt | None = None
    failure: Exception | None = None


@dataclass(frozen=True)
class Events:
    """The store.

    Attributes:
        engine: Its database.
    """

    engine: sa.Engine
    _pending: list[_Waiting] = field(default_factory=list)
    _pending_lock: Lock = field(default_factory=Lock)
    _writing: Lock = field(default_factory=Lock)

    @classmethod
    def open(cls, store: str | Path, *, within_s: float | None = None) -> Self:
        """The store at an address, made where there is none.

        Args:
            store: A file of SQLite, `sqlite:///file` or `postgresql://host/name`.
            within_s: Whoever serves requests waits so long for the database; None for
                a command, which waits `BUSY_S` for another writer of SQLite.

        Raises:
            ValueError: If the address is of another kind.
            LaterStoreError: If a later version of Hustings wrote the store.
            ModuleNotFoundError: If PostgreSQL is asked for without its driver.
        """
        engine = _engine(store, within_s)
        try:
            with engine.begin() as connection:
                take_turn(connection)
                migrate(connection, VERSIONS, store="events")
        except BaseException:
            engine.dispose()
            raise
        return cls(engine)

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()

    # --- writing ---

    def append(self, batch: EventBatch) -> Receipt:
        """Keep a batch; it is on disk when this returns.

        Batches that come while another is being written share the next transaction,
        and so the wait for the disk.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: If the database could not keep it; then
                none of it is kept.
        """
        waiting = _Waiting(batch)
        with self._pending_lock:
            self._pending.append(waiting)
        with self._writing:
            # whoever had the lock before may have written this batch, too
            if waiting.receipt is None and waiting.failure is None:
                self._write(self._drained())
        if waiting.failure is not None:
            raise waiting.failure
        assert waiting.receipt is not None
        return waiting.receipt

    def _drained(self) -> list[_Waiting]:
        with self._pending_lock:
            group = self._pending[:]
            self._pending.clear()
        return group

    def _write(self, group: list[_Waiting]) -> None:
        try:
            with self.engine.begin() as connection:
                take_turn(connection)
                receipts = [_insert(connection, waiting.batch) for waiting in group]
        except Exception as failure:
            # of those who wait, nobody may think that it was kept
            for waiting in group:
                waiting.failure = failure
            raise
        for waiting, receipt in zip(group, receipts, strict=True):
            waiting.receipt = receipt

    def link(self, people: pd.DataFrame) -> None:
        """Persons who are known to be voters: a STOP of theirs is the voter's.

        Args:
            people: Columns `person` (as `person_key` hashes it, or a former voter id)
                and `voter_id`.
        """
        rows = [
            {"person": person, "voter_id": voter_id}
            for person, voter_id in zip(
                people["person"], people["voter_id"], strict=True
            )
        ]
        with self.engine.begin() as connection:
            take_turn(connection)
            insert_new(connection, PERSON_LINKS, rows)

    def remember_posts(self, post_rows: Sequence[Row]) -> None:
        """Keep what posts were found to speak of: rows of `posts`."""
        with self.engine.begin() as connection:
            take_turn(connection)
            insert_new(connection, POSTS, post_rows)

    # --- reading ---

    def since(self, cursor: int = 0, limit: int = MAX_READ) -> tuple[pd.DataFrame, int]:
        """Events that were kept after a cursor, and the cursor to go on from.

        Args:
            cursor: `seq` of the last event that was read, 0 for all.
            limit: At most so many.

        Returns:
            `reaction_events` in the order of their keeping, times without zone in UTC;
            the cursor stays where nothing came.
        """
        table = REACTION_EVENTS
        query = (
            sa.select(table)
            .where(table.c.seq > cursor)
            .order_by(table.c.seq)
            .limit(limit)
        )
        frame = _typed(self._read(query))
        return frame, int(frame["seq"].iloc[-1]) if len(frame) else cursor

    def counts(self) -> pd.DataFrame:
        """People by message, post, platform and kind."""
        c = REACTION_EVENTS.c
        by = (c.message_id, c.post_id, c.platform, c.kind)
        total = sa.cast(sa.func.sum(c["count"]), sa.BigInteger).label("count")
        return self._read(sa.select(*by, total).group_by(*by).order_by(*by))

    def quarantine(self) -> pd.DataFrame:
        """Quarantined payloads, with the reason."""
        rows = self._read(
            sa.select(REACTION_QUARANTINE).order_by(REACTION_QUARANTINE.c.seq)
        )
        return rows.assign(received_at=_times(rows["received_at"]))

    def totals(self, count_ids: Collection[str]) -> dict[str, int]:
        """Totals of an export's counts as they are kept, by the id of the count.

        Args:
            count_ids: Ids of one length; the events of a count have ids that begin
                with its own.

        Returns:
            Sums of the counts; what is not kept is absent.
        """
        c, ids, total_of = REACTION_EVENTS.c, list(count_ids), dict[str, int]()
        with self.engine.connect() as connection:
            # a statement takes only so many values
            for at in range(0, len(ids), 10_000):
                block = ids[at : at + 10_000]
                count_id = sa.func.substr(c.event_id, 1, len(block[0]))
                total = sa.cast(sa.func.sum(c["count"]), sa.BigInteger)
                rows = connection.execute(
                    sa.select(count_id, total)
                    .where(count_id.in_(block))
                    .group_by(count_id)
                )
                total_of.update((name, int(n)) for name, n in rows)
        return total_of

    def open_wishes(self) -> pd.DataFrame:
        """Wishes that a person has to read, the oldest first.

        Returns:
            event_id, platform, kind, text, at, voter_id and channels, one row for each
            event and voter; voter_id is '' where nobody is named but by a keyed hash.
        """
        table = WISHES
        rows = self._read(
            sa.select(table).where(table.c.answer == OPEN).order_by(table.c.seq)
        )
        by = ["event_id", "voter_id", "person"]
        first = rows.drop_duplicates(by)[
            [*by, "platform", "kind", "text", "at", "received_at"]
        ]
        channels = rows.groupby(by)["channel"].agg(tuple).rename("channels")
        joined = (
            first.merge(channels, on=by) if len(first) else first.assign(channels=[])
        )
        text = joined["text"].astype(object)
        return joined.drop(columns="person").assign(
            text=text.where(text.notna(), None),
            at=_times(joined["at"]),
            received_at=_times(joined["received_at"]),
        )

    def n_open_wishes(self) -> int:
        """Number of events that a person has to read."""
        events = sa.func.count(sa.distinct(WISHES.c.event_id))
        with self.engine.connect() as connection:
            query = sa.select(events).where(WISHES.c.answer == OPEN)
            return int(connection.execute(query).scalar_one())

    def answer_wish(self, event_id: str, answer: str, *, by: str, at: datetime) -> int:
        """Keep a person's answer to an open wish, and erase what it said.

        Args:
            event_id: Of the wish.
            answer: `WITHDRAWN` or `NO_WISH`.
            by: Who answers.
            at: When, UTC.

        Returns:
            Number of open wishes of this event, 0 for none.
        """
        table = WISHES
        is_open = sa.and_(table.c.event_id == event_id, table.c.answer == OPEN)
        answered = {
            "answer": answer, "answered_by": by, "answered_at": microseconds(at),
            "text": None,
        }  # fmt: skip
        with self.engine.begin() as connection:
            take_turn(connection)
            people = connection.execute(
                sa.select(table.c.voter_id, table.c.person).where(is_open).distinct()
            ).all()
            connection.execute(sa.update(table).where(is_open).values(**answered))
        return len(people)

    def posts(self, post_ids: Collection[str]) -> dict[str, tuple[str | None, float]]:
        """Issue and confidence of posts that were seen before."""
        query = sa.select(POSTS).where(POSTS.c.post_id.in_(list(post_ids)))
        with self.engine.connect() as connection:
            rows = connection.execute(query).all()
        return {r.post_id: (r.issue, r.issue_confidence) for r in rows}

    def refused(self, voter_ids: Collection[str]) -> dict[str, set[str]]:
        """Channels that each of some voters has refused; others are absent."""
        channels_of: dict[str, set[str]] = {}
        ids = list(voter_ids)
        with self.engine.connect() as connection:
            # a statement takes only so many values
            for at in range(0, len(ids), 10_000):
                stops = _STOPS_OF.rows(connection, {"ids": ids[at : at + 10_000]})
                for voter, channel, _ in stops:
                    channels_of.setdefault(voter, set()).add(channel)
        return channels_of

    def withdrawals(self) -> pd.DataFrame:
        """Permissions that a STOP has ended, as PERMISSIONS; the first one counts."""
        rows = self._read(_withdrawn(of_some=False))
        rows["withdrawn_at"] = _times(rows.pop("at"))
        empty = pd.Series(pd.NaT, index=rows.index).astype("datetime64[us]")
        return rows.assign(basis="reply", granted_at=empty)[
            ["voter_id", "channel", "basis", "granted_at", "withdrawn_at"]
        ].astype({"voter_id": "str", "channel": "str", "basis": "str"})

    def ballots(self) -> pd.DataFrame:
        """Every event of a ballot, as `ballots.ballots_frame` has them."""
        query = ballots_by(PERSON_LINKS, of_voters=False)
        with self.engine.connect() as connection:
            return ballots_frame(connection.execute(query).all())

    def voted(self, voter_ids: Collection[str]) -> set[str]:
        """Those of some voters who have voted, as far as is known now."""
        ids, rows = list(voter_ids), list[Any]()
        query = ballots_by(PERSON_LINKS, of_voters=True)
        with self.engine.connect() as connection:
            for at in range(0, len(ids), 10_000):
                block = {"ids": ids[at : at + 10_000]}
                rows += connection.execute(query, block).all()
        return set(votes(ballots_frame(rows))["voter_id"]) if rows else set()

    def _read(self, query: sa.Select[Any]) -> pd.DataFrame:
        with self.engine.connect() as connection:
            result = connection.execute(query)
            return pd.DataFrame(result.all(), columns=list(result.keys()))


@cache
def _withdrawn(*, of_some: bool) -> sa.Select[Any]:
    """Voter, channel and time of the first withdrawal, named or by a link.

    A wish that nobody has read yet stops as a withdrawal does.
    """
    links, parts = PERSON_LINKS.c, []
    for table, binds in (
        (WITHDRAWALS, sa.true()),
        (WISHES, WISHES.c.answer != NO_WISH),
    ):
        c = table.c
        same = sa.or_(c.person == links.person, c.voter_id == links.person)
        direct = sa.select(c.voter_id, c.channel, c.at).where(c.voter_id != "", binds)
        linked = sa.select(links.voter_id, c.channel, c.at).where(same, binds)
        if of_some:
            ids = sa.bindparam("ids", type_=sa.Text, expanding=True)
            direct = direct.where(c.voter_id.in_(ids))
            linked = linked.where(links.voter_id.in_(ids))
        parts += [direct, linked]
    withdrawn = sa.union_all(*parts).subquery()
    first = sa.func.min(withdrawn.c.at).label("at")
    by = (withdrawn.c.voter_id, withdrawn.c.channel)
    return sa.select(*by, first).group_by(*by).order_by(*by)


_STOPS_OF = PreparedStatement(_withdrawn(of_some=True))


# --- one batch in a transaction -------------------------------------------------------


def _insert(connection: sa.Connection, batch: EventBatch) -> Receipt:
    accepted = insert_new(connection, REACTION_EVENTS, batch.events)
    insert_new(connection, WITHDRAWALS, batch.withdrawals)
    insert_new(connection, WISHES, batch.wishes)
    insert_new(connection, REACTION_QUARANTINE, batch.quarantine)
    ballots = ballots_to_add(connection, batch.ballots)
    if ballots:
        connection.execute(sa.insert(BALLOT_EVENTS), ballots)
    accepted += len(ballots)
    return Receipt(
        accepted,
        len(batch.events) + len(batch.ballots) - accepted,
        len(batch.quarantine),
        tuple(batch.faults),
        withdrawn=_n_people(batch.withdrawals),
        to_review=_n_people(batch.wishes),
        unknown_kinds=dict(batch.unknown_kinds),
    )


def _n_people(rows: Sequence[Row]) -> int:
    return len({(row["event_id"], row["voter_id"], row["person"]) for row in rows})


def insert_new(connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> int:
    """Insert the rows that are not there yet; how many they were."""
    if not rows:
        return 0
    dialect = {"sqlite": sqlite, "postgresql": postgresql}[connection.dialect.name]
    statement = dialect.insert(table).on_conflict_do_nothing()
    counted = statement.execution_options(preserve_rowcount=True)
    return connection.execute(counted, list(rows)).rowcount


def take_turn(connection: sa.Connection) -> None:
    """Become the only writer until the end of the transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    else:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


# --- databases ------------------------------------------------------------------------


def file_of(store: str | Path) -> Path | None:
    """The file behind an address of a store; None for one on a server.

    >>> file_of("sqlite:///events.db"), file_of("postgresql://host/name")
    (PosixPath('events.db'), None)
    """
    kind, separator, rest = str(store).partition("://")
    if not separator:
        return Path(store)
    return _file(rest) if kind == "sqlite" else None


def _file(rest: str) -> Path:
    return Path(rest.removeprefix("/"))


def _engine(store: str | Path, within_s: float | None) -> sa.Engine:
    kind, separator, rest = str(store).partition("://")
    if not separator:
        return _sqlite(Path(store), within_s)
    if kind == "postgres":
        kind = "postgresql"
    if kind not in STORES:
        raise ValueError(
            "expected a store of reactions as a file, sqlite:///file or "
            f"postgresql://host/name, got {kind}://..."
        )
    return STORES[kind](rest, within_s)


def _sqlite(path: Path, within_s: float | None) -> sa.Engine:
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        # the driver begins no transaction of its own: `take_turn` does
        connect_args={
            "timeout": BUSY_S if within_s is None else within_s,
            "isolation_level": None,
        },
        hide_parameters=True,
    )
    sa.event.listen(engine, "connect", _durable)
    return engine


def _durable(connection: Any, _record: object) -> None:
    """What was committed outlives the process and the machine."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def _postgresql(rest: str, within_s: float | None) -> sa.Engine:
    try:
        import psycopg  # noqa: F401 - SQLAlchemy's own error names no mend
    except ImportError:
        raise ModuleNotFoundError(
            "a store in PostgreSQL needs psycopg: pip install 'hustings[postgres]'"
        ) from None
    options = "-c synchronous_commit=on"
    arguments: dict[str, Any] = {"client_encoding": "utf8"}
    if within_s is not None:
        limit = round(within_s * 1e3)
        options += f" -c lock_timeout={limit} -c statement_timeout={limit}"
        # the driver takes whole seconds, and at least two
        arguments["connect_timeout"] = max(2, round(within_s))
    engine = sa.create_engine(
        f"postgresql+psycopg://{rest}",
        connect_args={**arguments, "options": options},
        pool_pre_ping=True,
        hide_parameters=True,
    )
    if within_s is not None:
        connect = _answering(within_s + _SILENCE_S).connect
        sa.event.listen(engine, "do_connect", lambda *a: connect(*a[2], **a[3]))
    return engine


@cache
def _answering(within_s: float) -> type[Any]:
    """Connections of PostgreSQL that end where it says nothing for seconds.

    A server that is frozen breaks no limit of its own, and its host keeps its sockets.
    """
    import psycopg

    class Answering(psycopg.Connection[Any]):
        def wait(self, gen: Any, *args: Any, **named: Any) -> Any:
            try:
                return super().wait(_heard(gen, within_s), *args, **named)
            except TimeoutError:
                # what it would answer later is an answer to nobody
                self.pgconn.finish()
                raise psycopg.OperationalError(
                    f"expected a word of the database within {within_s:g} s"
                ) from None

    return Answering


def _heard(
    waits: Generator[Any, Any, Any], within_s: float
) -> Generator[Any, Any, Any]:
    """The driver's waits for a socket, as long as it becomes ready now and then.

    Raises:
        TimeoutError: If it does not for so many seconds.
    """
    until = time.monotonic() + within_s
    try:
        wanted = next(waits)
        while True:
            ready = yield wanted
            if ready:
                until = time.monotonic() + within_s
            elif time.monotonic() > until:
                raise TimeoutError
            wanted = waits.send(ready)
    except StopIteration as end:
        return end.value


STORES: Mapping[str, Callable[[str, float | None], sa.Engine]] = {
    "sqlite": lambda rest, within_s: _sqlite(_file(rest), within_s),
    "postgresql": _postgresql,
}
"""Kinds of stores by how their address begins."""


# --- rows → frames --------------------------------------------------------------------

_TEXTS = (
    "event_id", "message_id", "post_id", "platform", "kind", "person", "place",
    "age_band", "sex", "segment", "text", "issue",
)  # fmt: skip


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    times = {name: _times(frame[name]) for name in ("occurred_at", "received_at")}
    types = {
        **dict.fromkeys(_TEXTS, "str"),
        "seq": "int64",
        "count": "int64",
        "in_area": "boolean",
        "account_age_days": "float64",
        "issue_confidence": "float64",
    }
    return frame.assign(**times).astype(types)


def _times(microseconds: pd.Series) -> pd.Series:
    times: pd.Series = microseconds.astype("int64").astype("datetime64[us]")
    return times
