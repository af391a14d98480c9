"""Version of a database's tables, and its migration from an earlier one by Alembic.

A folder of scripts in the package holds a version each, `0001_<what>.py` the first. A
store without a version is one of before they were written down: the scripts take what
is there as it is.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

_log = logging.getLogger(__name__)
_DIGITS = 4
"""With which the name of a script begins: its version."""


class LaterStoreError(ValueError):
    """A store was written by a later version of Hustings."""


def migrate(connection: sa.Connection, scripts: Path, *, store: str) -> None:
    """Bring the tables of a database to the newest version; say so in one line.

    Args:
        connection: In a transaction in which nobody else writes: all of it counts or
            nothing.
        scripts: Folder of the versions.
        store: What the tables hold; `hustings_<store>_version` has their version, so
            that stores share a database.

    Raises:
        LaterStoreError: If a later version of Hustings wrote them.
    """
    table = f"hustings_{store}_version"
    versions = sorted(p.stem[:_DIGITS] for p in scripts.glob("[0-9]*.py"))
    inspector = sa.inspect(connection)
    present = None
    if inspector.has_table(table):
        query: sa.Select[Any] = sa.select(sa.column("version_num")).select_from(
            sa.table(table)
        )
        present = connection.execute(query).scalar()
    if present == versions[-1]:
        return
    if present is not None and present not in versions:
        raise LaterStoreError(
            f"expected a store of {store} of version {versions[-1]} or earlier, got "
            f"{present}: it was written by a later version of Hustings, which is to be "
            "installed; nothing was changed"
        )
    is_new = not inspector.get_table_names()
    _run(connection, scripts, table)
    if not is_new:
        before = "the time before versions" if present is None else f"version {present}"
        _log.warning("The store of %s is migrated: %s -> version %s.", store, before,
                     versions[-1])  # fmt: skip


def _run(connection: sa.Connection, scripts: Path, table: str) -> None:
    # Alembic takes a while to import, and is needed once in a store's life
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    directory = ScriptDirectory(str(scripts), version_locations=[str(scripts)])

    def steps(revision: Any, _context: Any) -> Any:
        return directory._upgrade_revs("head", revision)

    run: Callable[..., Any] = steps
    with EnvironmentContext(Config(), directory, fn=run) as environment:
        environment.configure(connection=connection, version_table=table)
        environment.run_migrations()
