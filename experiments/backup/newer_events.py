"""The store of events of a folder that a backup replaces: it protects people.

Whoever asked for silence, voted or was sent something since the backup was made stands
there and nowhere else.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy.exc import DatabaseError

from hustings.serving.decisions import ONLINE_DECISIONS, ONLINE_TAKEN
from hustings.serving.monitor.pauses import PAUSES
from hustings.serving.reactions.ballots import BALLOT_EVENTS
from hustings.serving.reactions.store import (
    PERSON_LINKS,
    WISHES,
    WITHDRAWALS,
    Events,
)

_NOBODYS = f"""NOT EXISTS (
    SELECT 1 FROM main.{ONLINE_DECISIONS.name} AS gone
    WHERE gone.voter_id = '' AND gone.plan_id = earlier.plan_id
        AND gone.message_id = earlier.message_id AND gone.channel = earlier.channel
        AND gone.sent_at / 86400000000 = earlier.sent_at / 86400000000
)"""
"""What was sent to somebody who was forgotten since counts once, as that of nobody."""
_STILL = f"earlier.message_id NOT IN (SELECT message_id FROM main.{PAUSES.name})"
_CARRIED = {
    WITHDRAWALS: "TRUE", WISHES: "TRUE", BALLOT_EVENTS: "TRUE", PERSON_LINKS: "TRUE",
    PAUSES: _STILL, ONLINE_DECISIONS: _NOBODYS,
}  # fmt: skip
"""Tables whose rows of the backup are added where the later store lacks them, and which
of these rows."""


def keep_newer(store: Path, restored: Path) -> bool:
    """Keep a store of events in the place of a backup's, with what it lacks of that.

    Args:
        store: The store of the folder that is replaced; nobody has it open.
        restored: The backup's, which need not exist; replaced.

    Returns:
        Whether the store holds; where it does not, the backup's stays.

    Raises:
        LaterStoreError: If a later version of Hustings wrote the store.
    """
    copy = restored.with_name(f"newer-{restored.name}")
    try:
        _copied(store, copy)
        Events.open(copy).close()
    except (sqlite3.DatabaseError, DatabaseError):
        for path in copy.parent.glob(f"{copy.name}*"):
            path.unlink()
        return False
    if restored.is_file():
        Events.open(restored).close()
        _add_earlier(copy, restored)
    copy.replace(restored)
    return True


def _copied(store: Path, copy: Path) -> None:
    """Copy a database that is whole.

    Raises:
        sqlite3.DatabaseError: If it is not.
    """
    with (
        closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as live,
        closing(sqlite3.connect(copy)) as written,
    ):
        live.backup(written)
        (fault,) = written.execute("PRAGMA integrity_check(1)").fetchone()
        if fault != "ok":
            raise sqlite3.DatabaseError(fault)


def _add_earlier(store: Path, earlier: Path) -> None:
    with closing(sqlite3.connect(store)) as connection:
        connection.execute("ATTACH ? AS backup", (str(earlier),))
        there = {
            name
            for (name,) in connection.execute(
                "SELECT name FROM main.sqlite_master WHERE type = 'table' "
                "INTERSECT SELECT name FROM backup.sqlite_master"
            )
        }
        with connection:
            for table, condition in _CARRIED.items():
                if table.name not in there:
                    continue
                columns = ", ".join(f'"{c.name}"' for c in table.c if c.name != "seq")
                n_added = connection.execute(
                    f"INSERT OR IGNORE INTO main.{table.name} ({columns}) "
                    f"SELECT {columns} FROM backup.{table.name} AS earlier "
                    f"WHERE {condition}"
                ).rowcount
                if n_added and table is ONLINE_DECISIONS:
                    # the endpoint adds them up anew where there are none
                    connection.execute(f"DROP TABLE IF EXISTS main.{ONLINE_TAKEN.name}")
        # it takes the backup's place alone: no journal beside it
        connection.execute("DETACH backup")
        connection.execute("PRAGMA journal_mode = DELETE")
    for path in earlier.parent.glob(f"{earlier.name}-*"):
        path.unlink()
