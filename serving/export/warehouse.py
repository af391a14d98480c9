"""Contacts of a plan → a table of PostgreSQL or of a warehouse.

The table holds ids alone, no address, and of a plan those contacts that may go now:
what an export wrote before of the plan is replaced.
"""

from typing import Any

import pandas as pd

from hustings.features.ingest.databases import (
    WAREHOUSES,
    DataMissing,
    postgresql_session,
    warehouse_of,
)
from hustings.features.ingest.source import refuse_password
from hustings.serving.export.settings import ExportError
from hustings.serving.export.sorting import KEY

COLUMNS = ("plan_id", *KEY)


def contact_rows(plan_id: str, status: pd.DataFrame) -> pd.DataFrame:
    """The rows of a plan: plan_id, voter_id, channel, message_id, send_on.

    Args:
        plan_id: The plan.
        status: STATUS of what has left: only contacts without a code may go.
    """
    going = status.loc[status["code"] == "", KEY].astype("str")
    day = pd.to_datetime(status.loc[going.index, "send_on"]).dt.strftime("%Y-%m-%d")
    rows = going.assign(send_on=day, plan_id=plan_id)
    return rows[list(COLUMNS)].reset_index(drop=True)


def write_contacts(rows: pd.DataFrame, plan_id: str, address: str, table: str) -> None:
    """Replace the rows of a plan in a table, which is made where there is none.

    Args:
        rows: From `contact_rows`.
        plan_id: The plan.
        address: Of the database, without a password.
        table: Its name, with that of its schema before a point where it has one.

    Raises:
        ExportError: If it is no address of a database that can be written to.
        DataMissing: If the database does not answer, or its driver is not installed.
    """
    kind = require_database(address)
    if kind == "postgresql":
        _to_postgresql(rows, plan_id, address, table)
    else:
        write_by_ibis(warehouse_of(address), rows, plan_id, table, WAREHOUSES[kind])


def require_database(address: str) -> str:
    """The kind of a database that contacts can be written to.

    Raises:
        ExportError: If it is none.
    """
    refuse_password(address)
    kind = address.partition(":")[0]
    if kind not in ("postgresql", *WAREHOUSES):
        raise ExportError(
            "--to: expected an address that begins with postgresql:// (or "
            f"{', '.join(f'{name}://' for name in WAREHOUSES)}), got {address!r}"
        )
    return kind


def _to_postgresql(rows: pd.DataFrame, plan_id: str, address: str, table: str) -> None:
    session, psycopg = postgresql_session(address)
    sql = psycopg.sql.SQL
    name = psycopg.sql.Identifier(*table.split("."))
    columns = sql(", ").join(map(psycopg.sql.Identifier, COLUMNS))
    types = ", ".join(f"{c} {'date' if c == 'send_on' else 'text'}" for c in COLUMNS)
    table_with = f"CREATE TABLE IF NOT EXISTS {{}} ({types})"
    from_here = "COPY {} ({}) FROM STDIN"
    try:
        # one transaction: nobody sees a plan half replaced
        with session, session.cursor() as cursor:
            cursor.execute(sql(table_with).format(name))
            of_plan = sql("DELETE FROM {} WHERE plan_id = %s").format(name)
            cursor.execute(of_plan, [plan_id])
            with cursor.copy(sql(from_here).format(name, columns)) as copy:
                for row in rows.itertuples(index=False):
                    copy.write_row(row)
    except psycopg.Error as failure:
        first_line = str(failure).strip().splitlines()[0]
        raise DataMissing(f"table {table} at {address}: {first_line}") from None


def write_by_ibis(
    backend: Any, rows: pd.DataFrame, plan_id: str, table: str, dialect: str
) -> None:
    """Replace the rows of a plan through an engine of ibis.

    Args:
        backend: The engine, connected.
        rows: As of `write_contacts`.
        plan_id: As of `write_contacts`.
        table: As of `write_contacts`.
        dialect: Of its SQL, as sqlglot names it.
    """
    import ibis

    schema, _, name = table.rpartition(".")
    there = {"database": schema or None}
    if name not in backend.list_tables(**there):
        types = {c: "date" if c == "send_on" else "string" for c in COLUMNS}
        backend.create_table(name, schema=ibis.schema(types), **there)
    backend.raw_sql(removing(table, plan_id, dialect))
    if len(rows):
        dated = rows.assign(send_on=pd.to_datetime(rows["send_on"]).dt.date)
        backend.insert(name, dated, **there)


def removing(table: str, plan_id: str, dialect: str) -> str:
    """The statement that takes the rows of a plan out of a table."""
    import sqlglot.expressions as sql

    name = sql.to_table(table, dialect=dialect)
    of_plan = sql.column("plan_id").eq(sql.Literal.string(plan_id))
    return sql.delete(name, where=of_plan).sql(dialect=dialect)
