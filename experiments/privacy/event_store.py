"""A person's rows in a store of events that is no file of the campaign's folder.

A store in PostgreSQL, or in a file elsewhere, is reached before anything is deleted.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd
import sqlalchemy as sa

from hustings.experiments.privacy import personal_data
from hustings.experiments.privacy.personal_data import CampaignStores
from hustings.experiments.stages.reactions import store_of
from hustings.features.ingest import DataMissing
from hustings.features.persons.keys import Forgotten
from hustings.serving.decisions import ONLINE, ONLINE_DECISIONS
from hustings.serving.monitor.pauses import PAUSES
from hustings.serving.reactions.ballots import BALLOT_EVENTS
from hustings.serving.reactions.http import STORE_VARIABLE
from hustings.serving.reactions.store import (
    REACTION_EVENTS,
    Events,
    file_of,
    take_turn,
)

_METADATA = tuple(
    table.metadata
    for table in (REACTION_EVENTS, BALLOT_EVENTS, ONLINE_DECISIONS, PAUSES)
)
_AT_ONCE = 50_000
_DAY = 86_400_000_000
"""Microseconds."""


@dataclass(frozen=True)
class EventStore:
    """A store of events outside the campaign's folder.

    Attributes:
        name: Its address without user and password.
        engine: Its database.
    """

    name: str
    engine: sa.Engine

    def key_rows(self) -> Iterator[pd.DataFrame]:
        """Columns that say whose a row is, of every table that has any."""
        for table in self._tables():
            keyed = personal_data.key_columns(table.columns.keys())
            if keyed:
                for part in self._parts(table):
                    yield part[keyed]

    def rows_of(
        self, who: Forgotten, words: frozenset[str]
    ) -> Iterator[tuple[str, pd.DataFrame]]:
        """A person's rows by table, all columns.

        Args:
            who: Recognises the person's rows.
            words: Ids and addresses that texts may hold.
        """
        for table in self._tables():
            parts = [
                part[personal_data.rows_about(part, who, words)]
                for part in self._parts(table)
            ]
            rows = pd.concat(parts) if parts else pd.DataFrame()
            if len(rows):
                yield table.name, rows

    def without(self, who: Forgotten, words: frozenset[str]) -> dict[str, int]:
        """Take a person out, all or nothing; table → rows.

        What was spent on the person stays spent, on nobody.
        """
        rows_of_table = dict(self.rows_of(who, words))
        with self.engine.begin() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA secure_delete = ON")
            take_turn(connection)
            for table in self._tables():
                rows = rows_of_table.get(table.name)
                if rows is not None:
                    _delete(connection, table, rows)
        if rows_of_table:
            self._vacuum(list(rows_of_table))
        return {table: len(rows) for table, rows in rows_of_table.items()}

    def _vacuum(self, names: list[str]) -> None:
        """Nothing of a deleted row stays in the pages of its table."""
        with self.engine.connect() as connection:
            connection = connection.execution_options(isolation_level="AUTOCOMMIT")
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("VACUUM")
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
                return
            for name in names:
                connection.exec_driver_sql(f'VACUUM "{name}"')

    def _tables(self) -> list[sa.Table]:
        names = set(sa.inspect(self.engine).get_table_names())
        return [
            table
            for metadata in _METADATA
            for table in metadata.sorted_tables
            if table.name in names
        ]

    def _parts(self, table: sa.Table) -> Iterator[pd.DataFrame]:
        """Rows of a table in parts."""
        with self.engine.connect() as connection:
            result = connection.execution_options(stream_results=True).execute(
                sa.select(table)
            )
            for part in result.partitions(_AT_ONCE):
                yield pd.DataFrame(part, columns=table.columns.keys(), dtype=object)


def _delete(connection: sa.Connection, table: sa.Table, rows: pd.DataFrame) -> None:
    if table is ONLINE_DECISIONS:
        of_nobody = _of_nobody(rows)
        if of_nobody:
            connection.execute(sa.insert(table), of_nobody)
    keys = [column.name for column in table.primary_key]
    is_row = sa.and_(*(table.c[key] == sa.bindparam(f"key_{key}") for key in keys))
    connection.execute(
        sa.delete(table).where(is_row),
        [
            {f"key_{key}": value for key, value in zip(keys, values, strict=True)}
            for values in rows[keys].itertuples(index=False, name=None)
        ],
    )


def _of_nobody(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Contacts of a person who was sent something online, as nobody's on their days."""
    sent = rows[rows["sent_at"].notna() & (rows["plan_id"] == ONLINE)]
    contacts: list[dict[str, Any]] = [
        dict(zip(sent.columns, values, strict=True))
        for values in sent.itertuples(index=False, name=None)
    ]
    return [
        {
            **contact,
            "decision_id": secrets.token_hex(16),
            "voter_id": "",
            "propensity": 1.0,
            "arm_propensity": 1.0,
            "predicted_lift": 0.0,
            **dict.fromkeys(
                ("decided_at", "expires_at", "sent_at"),
                int(contact["sent_at"]) // _DAY * _DAY,
            ),
        }
        for contact in contacts
    ]


@contextmanager
def event_stores_outside(where: CampaignStores) -> Iterator[list[EventStore]]:
    """The campaign's store of events, where it is no file of the campaign's folder.

    Args:
        where: The campaign.

    Yields:
        The store, which answers; none where files of the folder hold all events.

    Raises:
        DataMissing: If the store does not answer: nothing was deleted then.
    """
    address = store_of(where.campaign, where.home)
    file = file_of(address)
    if file is not None:
        inside = file.resolve().is_relative_to(where.home.resolve())
        if not (inside or file.parent.is_dir()):
            raise DataMissing(
                f"the campaign's store of events ([reactions] store, or "
                f"{STORE_VARIABLE}): expected the folder {file.parent}, which is not "
                "there; nothing was deleted, ask again once it is"
            )
        if inside or not file.exists():  # nothing was ever kept there
            yield []
            return
    try:
        events = Events.open(address)
    except (sa.exc.SQLAlchemyError, ModuleNotFoundError, OSError) as failure:
        raise DataMissing(
            f"the campaign's store of events ([reactions] store, or {STORE_VARIABLE}): "
            f"expected a database that answers, got {type(failure).__name__}; nothing "
            "was deleted, ask again once it is there"
        ) from failure
    try:
        yield [EventStore(_name(events.engine.url), events.engine)]
    finally:
        events.close()


def _name(url: sa.URL) -> str:
    host = url.host or url.query.get("host", "")
    return f"{url.get_backend_name()}://{host}/{url.database}"
