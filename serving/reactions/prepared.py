"""Statements that are compiled once, and handed to the driver as they are.

SQLAlchemy writes a statement for the database at hand; writing it, and wrapping its
rows, takes ten times as long as SQLite takes to answer. What every recommendation asks
is written once for each number of values, and its errors are SQLAlchemy's own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import sqlalchemy as sa

MOST_VALUES = 64
"""A list of more values is left to SQLAlchemy: each length is a text of its own."""


class _Text(NamedTuple):
    """A statement as the driver takes it.

    Attributes:
        sql: Its text.
        order: Names of the values in their order; None where the driver goes by names.
        constants: Values that are the statement's own.
    """

    sql: str
    order: tuple[str, ...] | None
    constants: Mapping[str, Any]

    def arranged(self, values: Mapping[str, Any]) -> Any:
        of_name = {**self.constants, **values}
        return of_name if self.order is None else [of_name[n] for n in self.order]


@dataclass(frozen=True, eq=False)
class PreparedStatement:
    """A statement.

    Attributes:
        statement: As SQLAlchemy has it.
    """

    statement: sa.Select[Any] | sa.Update | sa.Insert
    _texts: dict[tuple[Any, ...], _Text] = field(default_factory=dict, repr=False)

    def rows(
        self, connection: sa.Connection, values: Mapping[str, Any]
    ) -> list[tuple[Any, ...]]:
        """The rows that a query finds.

        Args:
            connection: Of the database.
            values: By name; a list for an expanding parameter.

        Raises:
            sqlalchemy.exc.DBAPIError: If the database cannot answer.
        """
        lists = {n: v for n, v in values.items() if isinstance(v, list)}
        if any(len(v) > MOST_VALUES for v in lists.values()):
            return [tuple(row) for row in connection.execute(self.statement, values)]
        text = self._of(connection, values, lists)
        # SQLAlchemy names the values of a list so
        one_by_one = {
            f"{name}_{k}": value
            for name, of_list in lists.items()
            for k, value in enumerate(of_list, start=1)
        }
        given = text.arranged({**values, **one_by_one})
        return _on_driver(connection, text.sql, given, is_query=True)

    def run(self, connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Change the database, once for each row of values.

        Args:
            connection: Of the database, in a transaction.
            rows: Values by name, each with the same names.

        Raises:
            sqlalchemy.exc.DBAPIError: If the database cannot do it.
        """
        if rows:
            text = self._of(connection, rows[0], {})
            given = [text.arranged(row) for row in rows]
            _on_driver(connection, text.sql, given, is_query=False)

    def _of(
        self,
        connection: sa.Connection,
        values: Mapping[str, Any],
        lists: Mapping[str, Sequence[Any]],
    ) -> _Text:
        sizes = tuple((name, len(of_list)) for name, of_list in lists.items())
        key = (connection.dialect.name, sizes)
        text = self._texts.get(key)
        if text is None:
            text = self._texts[key] = self._written(connection.dialect, values)
        return text

    def _written(self, dialect: sa.Dialect, values: Mapping[str, Any]) -> _Text:
        is_insert = isinstance(self.statement, sa.Insert)
        names = list(values) if is_insert else None
        written = self.statement.compile(dialect=dialect, column_keys=names)
        assert isinstance(written, sa.sql.compiler.SQLCompiler)
        state = written.construct_expanded_state(dict(values))
        order = None if state.positiontup is None else tuple(state.positiontup)
        variable = {
            *values,
            *(n for v in state.parameter_expansion.values() for n in v),
        }
        constants = {n: v for n, v in state.parameters.items() if n not in variable}
        return _Text(state.statement, order, constants)


def _on_driver(
    connection: sa.Connection, sql: str, given: Any, *, is_query: bool
) -> list[tuple[Any, ...]]:
    cursor = connection.connection.cursor()
    try:
        if not is_query:
            cursor.executemany(sql, given)
            return []
        cursor.execute(sql, given)
        return list(cursor.fetchall())
    except connection.dialect.loaded_dbapi.Error as failure:
        # values are nobody's business
        raise sa.exc.DBAPIError.instance(
            sql, None, failure, connection.dialect.loaded_dbapi.Error,
            hide_parameters=True, dialect=connection.dialect,
        ) from failure  # fmt: skip
    finally:
        cursor.close()
