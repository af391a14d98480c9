"""Snapshots of the voter file: what each delivery held, and what changed between two.

A snapshot is the checked voter table in one Parquet file named by its number, the day
it was observed and a digest of its content. A file equal to the latest
snapshot makes no new one.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from hustings.features.arrays import Bools
from hustings.features.atomic import write_parquet
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


def content_hash(voters: pd.DataFrame) -> str:
    """SHA-256 of a voter table, the same in any order of its rows."""
    columns = sorted(map(str, voters.columns))
    rows = np.sort(pd.util.hash_pandas_object(voters[columns], index=False).to_numpy())
    digest = hashlib.sha256("\x1f".join(columns).encode())
    digest.update(rows.tobytes())
    return digest.hexdigest()


def listed(folder: Path) -> list[Snapshot]:
    """The snapshots of a campaign, the oldest first."""
    return sorted(_from_path(path) for path in folder.glob("*.parquet"))


def _from_path(path: Path) -> Snapshot:
    number, _, rest = path.stem.partition("-")
    observed_on, _, sha256 = rest.rpartition("-")
    return Snapshot(int(number), observed_on, sha256, path)


def take(folder: Path, voters: pd.DataFrame, *, observed_on: str) -> Snapshot:
    """Keep a voter table, unless the latest snapshot is equal to it.

    Args:
        folder: Of the campaign's snapshots.
        voters: VOTERS.
        observed_on: Day, as 2026-03-15.

    Returns:
        The snapshot that holds this table.
    """
    snapshots, digest = listed(folder), content_hash(voters)[:_N_DIGITS]
    if snapshots and (snapshots[-1].sha256, snapshots[-1].observed_on) == (
        digest,
        observed_on,
    ):
        return snapshots[-1]
    number = snapshots[-1].number + 1 if snapshots else 1
    path = folder / f"{number:04d}-{observed_on}-{digest}.parquet"
    write_parquet(path, voters)
    return Snapshot(number, observed_on, digest, path)


def renamed(path: Path) -> Path:
    """A snapshot whose rows were taken out gets the name of what it holds now."""
    old = _from_path(path)
    digest = content_hash(pd.read_parquet(path))[:_N_DIGITS]
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
        rows: One row a voter and kind of change: voter_id, kind, was (the former id
            of one merged, else missing), columns (that differ), county_fips.
        columns_new: Columns that only the new file has.
        columns_gone: Columns that only the old one has.
        n_old: Voters of the old file.
        n_new: Voters of the new one.
    """

    rows: pd.DataFrame
    columns_new: tuple[str, ...]
    columns_gone: tuple[str, ...]
    n_old: int
    n_new: int

    def counts(self) -> dict[str, int]:
        """Voters by kind of change."""
        n_by_kind = self.rows["kind"].value_counts()
        return {kind: int(n_by_kind.get(kind, 0)) for kind in KINDS}

    def by_county(self) -> pd.DataFrame:
        """Voters by county (rows) and kind of change (columns)."""
        county = self.rows["county_fips"].fillna("unknown")
        return pd.crosstab(county, self.rows["kind"]).reindex(
            columns=list(KINDS), fill_value=0
        )

    def ids(self, kind: str) -> list[str]:
        """Voter ids with a kind of change, in alphabetical order."""
        return sorted(self.rows.loc[self.rows["kind"] == kind, "voter_id"])


def diff(
    old: pd.DataFrame, new: pd.DataFrame, former: Mapping[str, str] | None = None
) -> SnapshotDiff:
    """Changes from one voter table to the next.

    Args:
        old: VOTERS.
        new: VOTERS.
        former: Former id → present id, of those that were merged or renamed.
    """
    was, now = old.set_index("voter_id"), new.set_index("voter_id")
    merged = {
        a: b for a, b in (former or {}).items()
        if a in was.index and a not in now.index and b in now.index
    }  # fmt: skip
    gone = was.index.difference(now.index).difference(pd.Index(list(merged)))
    fresh = now.index.difference(was.index).difference(pd.Index(list(merged.values())))
    parts = [
        _rows(gone, "gone", was),
        _rows(fresh, "new", now),
        _rows(pd.Index(list(merged.values())), "merged", now, was=list(merged)),
        *_changes(was, now, merged),
    ]
    rows = pd.concat(parts, ignore_index=True)
    order = rows["kind"].map({kind: i for i, kind in enumerate(KINDS)})
    rows = rows.assign(order=order).sort_values(["order", "voter_id"])
    shared_columns = set(was.columns) & set(now.columns)
    return SnapshotDiff(
        rows.drop(columns="order").reset_index(drop=True),
        tuple(c for c in now.columns if c not in shared_columns),
        tuple(c for c in was.columns if c not in shared_columns),
        len(was),
        len(now),
    )


def _rows(
    ids: pd.Index,
    kind: str,
    of: pd.DataFrame,
    *,
    was: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:
    county = of["county_fips"].reindex(ids) if "county_fips" in of else None
    return pd.DataFrame(
        {
            "voter_id": pd.Series(ids, dtype="str"),
            "kind": pd.Series(kind, index=range(len(ids)), dtype="str"),
            "was": pd.Series(
                was if was is not None else [None] * len(ids), dtype="str"
            ),
            "columns": pd.Series(columns or [""] * len(ids), dtype="str"),
            "county_fips": pd.Series(
                [None] * len(ids) if county is None else county.to_numpy(), dtype="str"
            ),
        }
    )


def _changes(
    was: pd.DataFrame, now: pd.DataFrame, merged: Mapping[str, str]
) -> Iterator[pd.DataFrame]:
    """Voters of both files who moved or changed otherwise."""
    stayed = was.index.intersection(now.index)
    before = pd.Index([*stayed, *merged])
    after = pd.Index([*stayed, *merged.values()])
    shared = [c for c in now.columns if c in was.columns]
    differs = pd.DataFrame(
        {c: _differs(was[c].reindex(before), now[c].reindex(after)) for c in shared},
        index=after,
    )
    for kind, columns in (
        ("moved", [c for c in shared if c in PLACE]),
        ("changed", [c for c in shared if c not in PLACE]),
    ):
        changed_rows = differs[columns]
        changed_rows = changed_rows[changed_rows.any(axis=1)]
        changed_columns = [", ".join(c for c, d in zip(columns, row, strict=True) if d)
                for row in changed_rows.to_numpy(dtype=bool)]  # fmt: skip
        yield _rows(changed_rows.index, kind, now, columns=changed_columns)


def _differs(old: pd.Series, new: pd.Series) -> Bools:
    a, b = old.reset_index(drop=True), new.reset_index(drop=True)
    if pd.api.types.is_numeric_dtype(a) != pd.api.types.is_numeric_dtype(b):
        a, b = a.astype("str"), b.astype("str")
    differs = (a != b) & ~(a.isna() & b.isna())
    return differs.to_numpy(dtype=bool)


def renamed_ids(old: pd.DataFrame, new: pd.DataFrame) -> dict[str, str]:
    """Ids of the old file that the new one has given another id, by exact keys.

    Cautious: day of registration, year of birth, sex and county must be there and
    equal, so must the votes in every election that both files know, and no other voter
    of either file may be like them.

    Args:
        old: VOTERS.
        new: VOTERS.

    Returns:
        Former id → present id; empty where a file lacks one of these columns.
    """
    if not all(c in old and c in new for c in EXACT):
        return {}
    votes = [str(c) for c in old if str(c).startswith(HISTORY_PREFIX) and c in new]
    place = [c for c in ("county_fips",) if c in old and c in new]
    columns = [*EXACT, *place, *votes]
    a, b = _alone(old, columns), _alone(new, columns)
    gone = a[~a["voter_id"].isin(new["voter_id"])]
    come = b[~b["voter_id"].isin(old["voter_id"])]
    # NaN never meets NaN in one file only: a vote unknown to both counts as equal
    pairs = gone.merge(come, on=columns, suffixes=("_old", "_new"))
    return dict(zip(pairs["voter_id_old"], pairs["voter_id_new"], strict=True))


def _alone(voters: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Voters whose values in these columns no other voter has."""
    complete = voters.dropna(subset=list(EXACT))[["voter_id", *columns]]
    return complete[~complete.duplicated(list(columns), keep=False)]


# --- for a person ---------------------------------------------------------------------


def diff_text(changes: SnapshotDiff, old: str, new: str, *, ids: bool = False) -> str:
    """A diff as text for a person.

    Args:
        changes: The diff.
        old: Name of the older snapshot.
        new: Name of the newer one.
        ids: Whether to list every voter.
    """
    lines = [
        f"{old} → {new}: {changes.n_old:,} → {changes.n_new:,} voters",
        *(f"  {kind:<8} {n:>9,}" for kind, n in changes.counts().items()),
    ]
    column_changes = (("new", changes.columns_new), ("gone", changes.columns_gone))
    lines += [f"  columns {k}: {', '.join(c)}" for k, c in column_changes if c]
    lines += ["", *_county_lines(changes.by_county())]
    if ids:
        lines += ["", *(_row_text(row) for row in changes.rows.itertuples())]
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


def _row_text(row: object) -> str:
    kind, voter = getattr(row, "kind", ""), getattr(row, "voter_id", "")
    was, columns = getattr(row, "was", None), getattr(row, "columns", "")
    before = f" (was {was})" if isinstance(was, str) else ""
    return f"{kind:<8} {voter}{before}{f': {columns}' if columns else ''}"
