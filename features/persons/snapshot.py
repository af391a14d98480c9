"""Snapshots of the voter file: what each delivery held, and what changed between two.

A snapshot is the checked voter table in one Parquet file named by its number, the day
it was observed and a digest of its content. A file equal to the latest
snapshot makes no new one. Two snapshots are compared on disk, by hashes of their rows.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import duckdb
import pandas as pd
import pyarrow.parquet as pq

from hustings.features.atomic import write_same
from hustings.features.persons.on_disk import (
    ROW_GROUP,
    columns_of,
    connected,
    enter_pairs,
    literal,
    quoted,
    view,
)
from hustings.features.tables import HISTORY_PREFIX, SMALLEST_CELL

PLACE = ("household_id", "state", "county_fips", "precinct", "postcode")
"""Who differs in one of these has moved."""
KINDS = ("new", "gone", "moved", "merged", "changed")
EXACT = ("registered_on", "birth_year", "sex")
"""Without all of these no id is taken for another."""
_N_DIGITS = 16


class Snapshot(NamedTuple):
    """One delivery of the voter file.

    Attributes:
        number: From 1, in the order of their coming.
        observed_on: When its columns were observed.
        sha256: First digits of the digest of its content.
        path: Its file.
    """

    number: int
    observed_on: str
    sha256: str
    path: Path

    @property
    def name(self) -> str:
        """Name for staff: number and day, which never change."""
        return f"{self.number:04d}-{self.observed_on}"

    def equals(self, voters: Path) -> bool:
        """Whether a voter table, Parquet, holds the same."""
        return content_hash(voters)[:_N_DIGITS] == self.sha256


def content_hash(voters: Path) -> str:
    """SHA-256 of a voter table, the same in any order of its rows and columns.

    Of its columns' names, its number of rows, and two sums of hashes of its rows: two
    tables that differ meet with a chance of 2⁻⁶⁴ or less, and no row is kept in memory.

    Args:
        voters: VOTERS, Parquet.
    """
    file = voters.stat()
    return _content_hash(voters, file.st_ino, file.st_mtime_ns, file.st_size)


@lru_cache(maxsize=8)
def _content_hash(voters: Path, _inode: int, _written_ns: int, _size: int) -> str:
    with connected(voters.parent) as connection:
        view(connection, "voters", voters)
        types = columns_of(connection, "voters")
        columns = sorted(types)
        row = _hash_of([_comparable(c, types[c]) for c in columns])
        (sums,) = connection.execute(
            f"SELECT count(*), sum(h), sum(hash(h, 1)::HUGEINT) "
            f"FROM (SELECT {row}::HUGEINT AS h FROM voters)"
        ).fetchall()
    return hashlib.sha256("\x1f".join([*columns, *map(str, sums)]).encode()).hexdigest()


def _comparable(column: str, kind: str, of: str = "") -> str:
    """A column as SQL that gives equal values for equal cells, however stored."""
    return f"{of}{quoted(column)}::{_family(kind)}"


def _family(kind: str) -> str:
    """DuckDB's type as which all types of one family can be compared."""
    if _NUMBERS.match(kind):
        return "DOUBLE"
    return "TIMESTAMP" if kind.startswith(("TIMESTAMP", "DATE")) else "VARCHAR"


_NUMBERS = re.compile("BOOL|U?(TINY|SMALL|BIG|HUGE)?INT|FLOAT|DOUBLE|DECIMAL")


def _hash_of(expressions: Sequence[str]) -> str:
    """SQL of one hash of several values; a constant of none."""
    return f"hash({', '.join(expressions)})" if expressions else "0::UBIGINT"


def listed(folder: Path) -> list[Snapshot]:
    """The snapshots of a campaign, the oldest first."""
    return sorted(_from_path(path) for path in folder.glob("*.parquet"))


def _from_path(path: Path) -> Snapshot:
    number, _, rest = path.stem.partition("-")
    observed_on, _, sha256 = rest.rpartition("-")
    return Snapshot(int(number), observed_on, sha256, path)


def take(folder: Path, voters: Path, *, observed_on: str) -> Snapshot:
    """Keep a voter table, unless the latest snapshot is equal to it.

    Args:
        folder: Of the campaign's snapshots.
        voters: VOTERS, a Parquet file that nobody writes into: it gets a second name.
        observed_on: Day, as 2026-03-15.

    Returns:
        The snapshot that holds this table.
    """
    snapshots, digest = listed(folder), content_hash(voters)[:_N_DIGITS]
    if snapshots:
        last = snapshots[-1]
        if (last.sha256, last.observed_on) == (digest, observed_on):
            return last
    number = snapshots[-1].number + 1 if snapshots else 1
    path = folder / f"{number:04d}-{observed_on}-{digest}.parquet"
    write_same(path, voters)
    return Snapshot(number, observed_on, digest, path)


def renamed(path: Path) -> Path:
    """A snapshot whose rows were taken out gets the name of what it holds now."""
    old = _from_path(path)
    digest = content_hash(path)[:_N_DIGITS]
    return path.replace(
        path.with_name(f"{old.number:04d}-{old.observed_on}-{digest}.parquet")
    )


def find(folder: Path, names: Sequence[str]) -> tuple[Snapshot, Snapshot]:
    """Two snapshots by number, name or day; the last two where none is asked for.

    Raises:
        FileNotFoundError: If there are not two, or none of that name.
    """
    snapshots = listed(folder)
    if not names:
        if len(snapshots) < 2:
            raise FileNotFoundError(
                f"{folder}: expected two snapshots of the voter file, found "
                f"{len(snapshots)}; every `hustings ingest` of another file keeps one"
            )
        return snapshots[-2], snapshots[-1]
    old, new = (_called(snapshots, snapshot_name, folder) for snapshot_name in names)
    return old, new


def _called(snapshots: Sequence[Snapshot], name: str, folder: Path) -> Snapshot:
    for snapshot in snapshots:
        if name in {snapshot.name, str(snapshot.number), snapshot.observed_on}:
            return snapshot
    there = ", ".join(snapshot.name for snapshot in snapshots) or "none"
    raise FileNotFoundError(f"{folder}: expected a snapshot {name!r}, found {there}")


# --- what changed ---------------------------------------------------------------------


@dataclass(frozen=True)
class SnapshotDiff:
    """Changes from one voter file to the next.

    Attributes:
        cells: Voters (n) by county_fips and kind of change.
        columns_new: Columns that only the new file has.
        columns_gone: Columns that only the old one has.
        n_old: Voters of the old file.
        n_new: Voters of the new one.
    """

    cells: pd.DataFrame
    columns_new: tuple[str, ...]
    columns_gone: tuple[str, ...]
    n_old: int
    n_new: int

    def counts(self) -> dict[str, int]:
        """Voters by kind of change."""
        n_by_kind = self.cells.groupby("kind")["n"].sum()
        return {kind: int(n_by_kind.get(kind, 0)) for kind in KINDS}

    def by_county(self) -> pd.DataFrame:
        """Voters by county (rows) and kind of change (columns)."""
        cells = self.cells.fillna({"county_fips": "unknown"})
        table = cells.pivot_table("n", "county_fips", "kind", "sum", fill_value=0)
        return table.reindex(columns=list(KINDS), fill_value=0)


def diff(
    old: Path,
    new: Path,
    former: Mapping[str, str],
    *,
    folder: Path,
    rows: Path | None = None,
) -> SnapshotDiff:
    """Changes from one voter table to the next.

    Args:
        old: VOTERS, Parquet.
        new: VOTERS, Parquet.
        former: Former id → present id, of those that were merged or renamed.
        folder: Gets what does not fit into memory, while the function runs.
        rows: Parquet file that gets one row a voter and kind of change, where it is
            asked for: voter_id, kind, was (the former id of one merged, else missing),
            columns (that differ), county_fips.
    """
    with connected(folder) as connection:
        tables = _Compared.of(connection, old, new)
        enter_pairs(connection, "former", former)
        tables.enter_changes()
        if rows is not None:
            tables.write_rows(rows)
        return SnapshotDiff(
            connection.execute(_CELLS).df(),
            tuple(c for c in tables.new if c not in tables.old),
            tuple(c for c in tables.old if c not in tables.new),
            pq.read_metadata(old).num_rows,
            pq.read_metadata(new).num_rows,
        )


class _Compared(NamedTuple):
    """Two voter files as views `old` and `new` of a connection.

    Attributes:
        connection: To both.
        old: Types of the columns of the old file.
        new: Types of those of the new one.
    """

    connection: duckdb.DuckDBPyConnection
    old: Mapping[str, str]
    new: Mapping[str, str]

    @classmethod
    def of(
        cls, connection: duckdb.DuckDBPyConnection, old: Path, new: Path
    ) -> "_Compared":
        """Open two files."""
        view(connection, "old", old)
        view(connection, "new", new)
        return cls(
            connection, columns_of(connection, "old"), columns_of(connection, "new")
        )

    def shared(self, *, place: bool) -> list[str]:
        """Columns of both files that say where somebody lives, or all others."""
        return [
            c for c in self.new
            if c in self.old and c != "voter_id" and (c in PLACE) == place
        ]  # fmt: skip

    def comparable(self, columns: Sequence[str], of: str) -> list[str]:
        """Columns as SQL whose values can be compared between the two files."""
        alike = [c for c in columns if _family(self.old[c]) == _family(self.new[c])]
        return [
            _comparable(c, self.old[c] if c in alike else "VARCHAR", f"{of}.")
            for c in columns
        ]

    def _hashed(self, name: str, only: str) -> str:
        """SQL of a file's rows: voter_id, county_fips, hashes of place and the rest."""
        types = self.old if name == "old" else self.new
        county = "county_fips" if "county_fips" in types else "NULL::VARCHAR"
        place, rest = (
            _hash_of(self.comparable(self.shared(place=p), name)) for p in (True, False)
        )
        return (
            f"(SELECT voter_id, {county} AS county_fips, {place} AS place, "
            f"{rest} AS rest FROM {name} {only})"
        )

    def enter_changes(self) -> None:
        """Table `changes`: voter_id, kind, was, county_fips, before (id in `old`)."""
        run = self.connection.execute
        run(_DIFFERING.format(self._hashed("old", ""), self._hashed("new", "")))
        run(_MERGED)
        was = self._hashed("old", "SEMI JOIN merged ON old.voter_id = merged.old")
        now = self._hashed("new", "SEMI JOIN merged ON new.voter_id = merged.now")
        run(_MERGED_ROWS.format(was, now))
        run(_CHANGES)

    def write_rows(self, path: Path) -> None:
        """The changes with the columns that differ, in the order of kind and id."""
        listed_columns = {}
        for kind, place in (("moved", True), ("changed", False)):
            columns = self.shared(place=place)
            pairs = zip(
                columns, self.comparable(columns, "old"),
                self.comparable(columns, "new"), strict=True,
            )  # fmt: skip
            differing = [
                f"CASE WHEN {a} IS DISTINCT FROM {b} THEN {literal(c)} END"
                for c, a, b in pairs
            ]
            listed_columns[kind] = f"concat_ws(', ', {', '.join(differing) or 'NULL'})"
        self.connection.execute(_ROWS.format(literal(path), **listed_columns))


_DIFFERING = """
CREATE TEMP TABLE differing AS
SELECT coalesce(new.voter_id, old.voter_id) AS voter_id,
    old.voter_id IS NULL AS is_new, new.voter_id IS NULL AS is_gone,
    coalesce(old.place <> new.place, false) AS has_moved,
    coalesce(old.rest <> new.rest, false) AS has_changed,
    CASE WHEN is_gone THEN old.county_fips ELSE new.county_fips END AS county_fips
FROM {} old FULL JOIN {} new USING (voter_id)
WHERE is_new OR is_gone OR has_moved OR has_changed
"""
_MERGED = """
CREATE TEMP TABLE merged AS
FROM (SELECT former.* FROM former SEMI JOIN differing
    ON former.old = voter_id AND is_gone) gone
SEMI JOIN new ON gone.now = new.voter_id
"""
_MERGED_ROWS = """
CREATE TEMP TABLE merged_rows AS
SELECT merged.*, new.county_fips, old.place <> new.place AS has_moved,
    old.rest <> new.rest AS has_changed
FROM merged JOIN {} old ON old.voter_id = merged.old
JOIN {} new ON new.voter_id = merged.now
"""
_CHANGES = """
CREATE TEMP TABLE changes AS
WITH compared AS (
    SELECT voter_id, voter_id AS before, county_fips, has_moved, has_changed
    FROM differing WHERE NOT is_new AND NOT is_gone
    UNION ALL SELECT now, old, county_fips, has_moved, has_changed FROM merged_rows
)
SELECT voter_id, 'gone' AS kind, NULL::VARCHAR AS was, county_fips, NULL AS before
FROM differing ANTI JOIN merged ON voter_id = merged.old WHERE is_gone
UNION ALL SELECT voter_id, 'new', NULL, county_fips, NULL
FROM differing ANTI JOIN merged ON voter_id = merged.now WHERE is_new
UNION ALL SELECT now, 'merged', old, county_fips, NULL FROM merged_rows
UNION ALL SELECT voter_id, 'moved', NULL, county_fips, before FROM compared
WHERE has_moved
UNION ALL SELECT voter_id, 'changed', NULL, county_fips, before FROM compared
WHERE has_changed
"""
_CELLS = "SELECT county_fips, kind, count(*) AS n FROM changes GROUP BY ALL"
_ROWS = f"""
COPY (
    SELECT changes.voter_id, kind, was, CASE kind WHEN 'moved' THEN {{moved}}
        WHEN 'changed' THEN {{changed}} ELSE '' END AS columns, changes.county_fips
    FROM changes LEFT JOIN old ON old.voter_id = changes.before
    LEFT JOIN new ON new.voter_id = changes.voter_id
    ORDER BY list_position({list(KINDS)}, kind), changes.voter_id
) TO {{}} (FORMAT parquet)
"""


def renamed_ids(old: Path, new: Path) -> dict[str, str]:
    """Ids of the old file that the new one has given another id, by exact keys.

    Cautious: day of registration, year of birth, sex and county must be there and
    equal, so must the votes in every election that both files know, and no other voter
    of either file may be like them.

    Args:
        old: VOTERS, Parquet.
        new: VOTERS, Parquet.

    Returns:
        Former id → present id; empty where a file lacks one of these columns.
    """
    with connected(new.parent) as connection:
        tables = _Compared.of(connection, old, new)
        shared = [c for c in tables.old if c in tables.new]
        if not set(EXACT) <= set(shared):
            return {}
        votes = [c for c in shared if c.startswith(HISTORY_PREFIX)]
        columns = [*EXACT, *(c for c in ("county_fips",) if c in shared), *votes]
        names = [f"k{i}" for i in range(len(columns))]
        for name in ("old", "new"):
            values = tables.comparable(columns, name)
            keys = [f"{v} AS {k}" for v, k in zip(values, names, strict=True)]
            complete = " AND ".join(f"{c} IS NOT NULL" for c in EXACT)
            key = f"CASE WHEN {complete} THEN {_hash_of(values)} END AS key"
            connection.execute(
                f"CREATE VIEW {name}_keys AS "
                f"SELECT voter_id, {key}, {', '.join(keys)} FROM {name}"
            )
        connection.execute(_APART)
        connection.execute(_SHARED_KEYS)
        # a vote unknown to both counts as equal
        alike = " AND ".join(f"a.{k} IS NOT DISTINCT FROM b.{k}" for k in names)
        query = _RENAMED.format(values=", ".join(names), alike=alike)
        return dict(connection.execute(query).fetchall())


_APART = """
CREATE TEMP TABLE apart AS
SELECT coalesce(a.voter_id, b.voter_id) AS voter_id, a.voter_id IS NULL AS is_new,
    coalesce(a.key, b.key) AS key
FROM old_keys a FULL JOIN new_keys b USING (voter_id)
WHERE a.voter_id IS NULL OR b.voter_id IS NULL
"""
_SHARED_KEYS = """
CREATE TEMP TABLE shared_keys AS SELECT key FROM apart WHERE key IS NOT NULL
GROUP BY key HAVING bool_or(is_new) AND NOT bool_and(is_new)
"""
_RENAMED = """
WITH old_alone AS (
    FROM old_keys SEMI JOIN shared_keys USING (key)
    QUALIFY count(*) OVER (PARTITION BY {values}) = 1
), new_alone AS (
    FROM new_keys SEMI JOIN shared_keys USING (key)
    QUALIFY count(*) OVER (PARTITION BY {values}) = 1
)
SELECT a.voter_id, b.voter_id FROM old_alone a JOIN new_alone b
ON a.key = b.key AND {alike}
WHERE a.voter_id IN (SELECT voter_id FROM apart WHERE NOT is_new)
AND b.voter_id IN (SELECT voter_id FROM apart WHERE is_new)
"""


# --- for a person ---------------------------------------------------------------------


def diff_text(changes: SnapshotDiff, old: str, new: str) -> str:
    """A diff as text for a person.

    Args:
        changes: The diff.
        old: Name of the older snapshot.
        new: Name of the newer one.
    """
    lines = [
        f"{old} → {new}: {changes.n_old:,} → {changes.n_new:,} voters",
        *(f"  {kind:<8} {n:>9,}" for kind, n in changes.counts().items()),
    ]
    column_changes = (("new", changes.columns_new), ("gone", changes.columns_gone))
    lines += [f"  columns {k}: {', '.join(c)}" for k, c in column_changes if c]
    lines += ["", *_county_lines(changes.by_county())]
    return "\n".join(lines)


def _county_lines(table: pd.DataFrame) -> list[str]:
    """Counts by county; those below `SMALLEST_CELL` people are masked."""
    head = "  county   " + "".join(f"{kind:>10}" for kind in table.columns)
    rows = [
        f"  {county!s:<9}" + "".join(f"{_count_text(int(n)):>10}" for n in row)
        for county, row in zip(table.index, table.to_numpy(), strict=True)
    ]
    return [head, *rows] if rows else []


def _count_text(n: int) -> str:
    return f"<{SMALLEST_CELL}" if 0 < n < SMALLEST_CELL else f"{n:,}"


def rows_text(rows: Path) -> Iterator[str]:
    """Every change of a voter as a line, from the rows that `diff` wrote."""
    with pq.ParquetFile(rows) as file:
        for batch in file.iter_batches(ROW_GROUP):
            for row in batch.to_pylist():
                was = f" (was {row['was']})" if row["was"] else ""
                columns = f": {row['columns']}" if row["columns"] else ""
                yield f"{row['kind']:<8} {row['voter_id']}{was}{columns}"
