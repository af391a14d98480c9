"""What is in each column of the voters: means, frequent values, what looks wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet

from hustings.features.persons.on_disk import literal, quoted
from hustings.features.tables import HISTORY_PREFIX, SMALLEST_CELL

NEARLY_ALL = 0.95
"""From this share of the voters on, a value or a gap is worth a look."""
N_FREQUENT = 4
N_LOOKED_AT = 20_000
"""Voters among whom frequent values are looked for; all are counted."""
_NUMBERS = ("DOUBLE", "FLOAT", "INT", "DECIMAL", "BOOLEAN")


@dataclass(frozen=True)
class ColumnProfile:
    """One column of the voters; nothing of fewer people than the privacy floor.

    Attributes:
        name: Of the column.
        n_voters: Voters.
        n_values: Voters with a value.
        n_levels: About so many different values.
        mean: Of numbers; None of texts, and of too few people.
        frequent: The most frequent values with their number of voters.
    """

    name: str
    n_voters: int
    n_values: int
    n_levels: int
    mean: float | None
    frequent: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        """The column in words."""
        return f"{self.name}: {self._content()}{_percent(self._missing)} missing"

    @property
    def _missing(self) -> float:
        return 1.0 - self.n_values / max(self.n_voters, 1)

    def _content(self) -> str:
        if self.n_values < SMALLEST_CELL:
            return f"fewer than {SMALLEST_CELL} values, "
        if self.mean is None:
            values = [f"{v} {_percent(n / self.n_values)}" for v, n in self.frequent]
            return f"{', '.join(values) or 'many different texts'}; "
        if self.name.startswith(HISTORY_PREFIX):
            return f"{_percent(self.mean)} voted, "
        return f"mean {self.mean:.4g}, "

    @property
    def suspicion(self) -> str:
        """What looks wrong, in words; empty where nothing does."""
        if not self.n_values:
            return f"{self.name}: no value at all"
        if self.n_levels == 1:
            return f"{self.name}: 1 value"
        if self._missing >= NEARLY_ALL:
            return f"{self.name}: {_percent(self._missing)} missing"
        share = self.frequent[0][1] / self.n_values if self.frequent else 0.0
        if share < NEARLY_ALL:
            return ""
        if self.name.startswith(HISTORY_PREFIX) and self.mean is not None:
            verb = "voted" if self.mean > 1 / 2 else "did not vote"
            return f"{self.name}: {_percent(share)} {verb}"
        value, _ = self.frequent[0]
        return f"{self.name}: {_percent(share)} have one value, {value}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def column_profiles(path: Path, columns: Sequence[str]) -> list[ColumnProfile]:
    """Look at columns of the voters, which are never in memory.

    Args:
        path: VOTERS, as Parquet.
        columns: Those that are there are looked at.
    """
    there = set(pyarrow.parquet.read_schema(path).names)
    names = [name for name in columns if name in there]
    if not names:
        return []
    rows = f"read_parquet({literal(path)}, file_row_number = true)"
    with duckdb.connect() as connection:
        described = connection.execute(
            f"DESCRIBE SELECT {', '.join(map(quoted, names))} FROM {rows}"
        ).fetchall()
        counted = [
            part
            for name, kind, *_ in described
            for part in _counted(name, is_number=str(kind).endswith(_NUMBERS))
        ]
        n_voters, *counts = _row(connection, counted, rows)
        step = max(n_voters // N_LOOKED_AT, 1)
        looked_at = connection.execute(
            f"SELECT {', '.join(map(quoted, names))} FROM {rows} "
            f"WHERE file_row_number % {step} = 0"
        ).df()
        candidates = {
            name: looked_at[name].value_counts().index[:N_FREQUENT].tolist()
            for name in names
        }
        pairs = [(name, v) for name, values in candidates.items() for v in values]
        _, *numbers = _row(
            connection, [f"count_if({quoted(name)} = ?)" for name, _ in pairs], rows,
            [value for _, value in pairs],
        )  # fmt: skip
    frequent: dict[str, list[tuple[str, int]]] = {name: [] for name in names}
    for (name, value), n in zip(pairs, numbers, strict=True):
        if n >= SMALLEST_CELL:
            frequent[name].append((_text(value), n))
    return [
        ColumnProfile(
            name,
            n_voters,
            n_values=counts[3 * k],
            n_levels=counts[3 * k + 1],
            mean=counts[3 * k + 2],
            frequent=tuple(sorted(frequent[name], key=lambda pair: -pair[1])),
        )
        for k, name in enumerate(names)
    ]


def _counted(name: str, *, is_number: bool) -> list[str]:
    """Values, about so many different ones, and the mean of enough numbers."""
    column = quoted(name)
    mean = (
        f"CASE WHEN count({column}) >= {SMALLEST_CELL} THEN avg({column}::DOUBLE) END"
    )
    return [
        f"count({column})",
        f"approx_count_distinct({column})",
        mean if is_number else "NULL",
    ]


def _row(
    connection: duckdb.DuckDBPyConnection,
    parts: Sequence[str],
    source: str,
    parameters: Sequence[Any] = (),
) -> list[Any]:
    """The number of rows, and aggregates of all of them."""
    row = connection.execute(
        f"SELECT {', '.join(['count(*)', *parts])} FROM {source}", list(parameters)
    ).fetchone()
    assert row is not None  # an aggregate has one row
    return list(row)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
