"""Messages that a person or a rule has paused, in the database of their reactions.

Rows are only added: a pause is one row, its end another. The last row of a message
holds at once for the plan, `/recommend` and the export.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.schema import CreateTable

from hustings.serving.bodies import MAX_WORDS
from hustings.serving.reactions.prepared import PreparedStatement
from hustings.serving.reactions.store import Events, insert_new

RULE = "rule"
"""Name that stands for a rule as the one who paused."""

_META = sa.MetaData()
_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

PAUSES = sa.Table(
    "pauses",
    _META,
    sa.Column("seq", _BIG, primary_key=True, autoincrement=True),
    sa.Column("message_id", sa.Text, nullable=False, index=True),
    sa.Column("paused_at", sa.BigInteger, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("lifted_at", sa.BigInteger),
    sqlite_autoincrement=True,
)
MONITOR_ALARMS = sa.Table(
    "monitor_alarms",
    _META,
    sa.Column("seq", _BIG, primary_key=True, autoincrement=True),
    sa.Column("message_id", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("raised", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("message_id", "kind", "raised"),
    sqlite_autoincrement=True,
)
"""Alarms that were sent or acted on, so that a restart does neither again."""

_LAST = sa.select(sa.func.max(PAUSES.c.seq)).group_by(PAUSES.c.message_id)
_PAUSED = PreparedStatement(
    sa.select(PAUSES.c.message_id, PAUSES.c.paused_at, PAUSES.c.by, PAUSES.c.reason)
    .where(PAUSES.c.seq.in_(_LAST), PAUSES.c.lifted_at.is_(None))
    .order_by(PAUSES.c.seq)
)


class Pause(NamedTuple):
    """Why a message is not sent.

    Attributes:
        message_id: The message.
        paused_at: Since when, UTC.
        by: Who paused it.
        reason: Why.
    """

    message_id: str
    paused_at: pd.Timestamp
    by: str
    reason: str

    @property
    def refusal(self) -> str:
        """Why nobody gets the message, as `serving.eligible` words it."""
        at = f"{self.paused_at:%Y-%m-%d %H:%M} UTC"
        return f"is paused since {at} by {self.by}: {self.reason}"


@dataclass(frozen=True)
class Pauses:
    """Paused messages, in the database of the reactions.

    Attributes:
        engine: The database.
    """

    engine: sa.Engine

    @classmethod
    def open(cls, store: str | Path) -> Self:
        """Pauses in the store of reactions at an address; see `Events.open`."""
        return cls.in_store_of(Events.open(store))

    @classmethod
    def in_store_of(cls, events: Events) -> Self:
        """The pauses in the database of a store that is open."""
        with events.engine.begin() as connection:
            for table in _META.sorted_tables:
                connection.execute(CreateTable(table, if_not_exists=True))
        return cls(events.engine)

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()

    def paused(self) -> dict[str, Pause]:
        """Messages that are paused now."""
        with self.engine.connect() as connection:
            rows = _PAUSED.rows(connection, {})
        return {
            message: Pause(message, _time(at), by, why) for message, at, by, why in rows
        }

    def refusals(self) -> dict[str, str]:
        """Message → why nobody gets it."""
        return {name: pause.refusal for name, pause in self.paused().items()}

    def pause(self, message_id: str, *, by: str, reason: str, at: pd.Timestamp) -> bool:
        """Pause a message; False where it was paused already.

        Raises:
            ValueError: If nobody, or no reason, is named.
        """
        by, reason = _said("who pauses it", by), _said("why", reason)
        if message_id in self.paused():
            return False
        self._add(message_id, at, by, reason, None)
        return True

    def resume(
        self, message_id: str, *, by: str, reason: str, at: pd.Timestamp
    ) -> bool:
        """End a pause; False where there was none.

        Raises:
            ValueError: If nobody, or no reason, is named.
        """
        by, reason = _said("who resumes it", by), _said("why", reason)
        present_pause = self.paused().get(message_id)
        if present_pause is None:
            return False
        self._add(message_id, present_pause.paused_at, by, reason, at)
        return True

    def _add(
        self,
        message_id: str,
        paused_at: pd.Timestamp,
        by: str,
        reason: str,
        lifted_at: pd.Timestamp | None,
    ) -> None:
        row = {
            "message_id": message_id,
            "paused_at": _microseconds(paused_at),
            "by": by,
            "reason": reason,
            "lifted_at": None if lifted_at is None else _microseconds(lifted_at),
        }
        with self.engine.begin() as connection:
            connection.execute(sa.insert(PAUSES), row)

    def history(self) -> pd.DataFrame:
        """Every pause and every end of one, in their order."""
        with self.engine.connect() as connection:
            result = connection.execute(sa.select(PAUSES).order_by(PAUSES.c.seq))
            frame = pd.DataFrame(result.all(), columns=list(result.keys()))
        times = {
            name: pd.to_datetime(frame[name].astype("Int64"), unit="us", utc=True)
            for name in ("paused_at", "lifted_at")
        }
        return frame.assign(**times)

    # --- alarms ---

    def was_alerted(
        self, message_id: str, kind: str, raised: int, *, within: int
    ) -> bool:
        """Whether an alarm was sent, or acted on, before.

        Args:
            message_id: Of the alarm.
            kind: Of the alarm, or what was done about it.
            raised: The hour in which it was raised.
            within: An alarm of the same kind within so many hours is the same.
        """
        c = MONITOR_ALARMS.c
        query = sa.select(c.seq).where(
            c.message_id == message_id,
            c.kind == kind,
            c.raised.between(raised - within, raised + within),
        )
        with self.engine.connect() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def remember(self, message_id: str, kind: str, raised: int) -> None:
        """Record that an alarm was sent or acted on; a second one changes nothing."""
        row = {"message_id": message_id, "kind": kind, "raised": raised}
        with self.engine.begin() as connection:
            insert_new(connection, MONITOR_ALARMS, [row])


def _said(what: str, text: str) -> str:
    words = text.strip()
    if not words or len(words) > MAX_WORDS:
        raise ValueError(
            f"expected {what} in at most {MAX_WORDS} characters, got {len(words)}"
        )
    return words


def _microseconds(at: pd.Timestamp) -> int:
    utc = at.tz_localize("UTC") if at.tzinfo is None else at.tz_convert("UTC")
    return (utc - _time(0)) // pd.Timedelta(1, "us")


def _time(microseconds: int) -> pd.Timestamp:
    return pd.Timestamp(microseconds, unit="us", tz="UTC")
